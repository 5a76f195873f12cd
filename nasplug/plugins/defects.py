"""Whose a plugin is, and what can be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

from nasplug.errors import PluginError

__all__ = ["ONLY", "SKIP", "Broken", "BrokenPluginError", "Clash", "DefectError", "Owner"]

ONLY = "NASPLUG_LOAD_PLUGINS"
SKIP = "NASPLUG_SKIP_PLUGINS"


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """A plugin, and the distribution that it came with."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.distribution} {self.version})"

    @property
    def package(self) -> str:
        """``nasplug-edges 0.1.0``."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that cannot be used: what is wrong, and what to do. None of its names and hooks is there."""

    owner: Owner
    error: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.owner} {self.error}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Clash:
    """A name that several plugins offer: it is nobody's, as no order among plugins is a reason to take one of them."""

    kind: str
    name: str
    owners: tuple[Owner, ...]

    @property
    def error(self) -> str:
        """In one line."""
        return f"{self.kind} {self.name!r} is offered by {' and '.join(owner.package for owner in self.owners)}"

    @property
    def remedy(self) -> str:
        """How it becomes somebody's again."""
        return f"Uninstall all but one of them, or leave them out: {SKIP}={self.owners[-1].distribution}"

    def __str__(self) -> str:
        return f"{self.error}, so that it is nobody's. {self.remedy}"


class DefectError(PluginError):
    """Something that a plugin gets wrong, and how it is put right; whose plugin it is comes later."""

    def __init__(self, error: str, remedy: str) -> None:
        self.error, self.remedy = error, remedy
        super().__init__(f"{error}; {remedy}")


class BrokenPluginError(PluginError):
    """A plugin that cannot be registered. ``remedy``: what its author can do, if more than to repair it."""

    def __init__(self, owner: Owner, error: str, remedy: str = "") -> None:
        first = f"{remedy[:1].upper()}{remedy[1:]}. " if remedy else ""
        everybody = f"Repair, update or uninstall it, or leave it out: {SKIP}={owner.distribution}"
        self.broken = Broken(owner, error, first + everybody)
        super().__init__(str(self.broken))
