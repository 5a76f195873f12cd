"""What can go wrong, in four words: each error says what came, what is accepted and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["ConfigError", "ContractError", "NasplugError", "PluginError", "did_you_mean"]


class NasplugError(Exception):
    """Any error that nasplug raises on purpose."""


class ConfigError(NasplugError):
    """The user wrote something that cannot be run: found when a study is planned, before any work starts."""


class ContractError(NasplugError):
    """A plugin broke a contract: wrong shape, a part that was not declared, a value out of range."""


class PluginError(NasplugError):
    """A plugin could not be loaded, clashes with another, or differs between the driver and a worker."""


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when one of ``accepted`` is close to ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), list(accepted), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
