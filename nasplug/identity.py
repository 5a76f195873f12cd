"""What a study was made of, known by its content: its config, its data, the plugins it uses and nasplug itself."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from nasplug.config import StudyConfig
from nasplug.errors import scrub
from nasplug.plugins import KINDS, Offer, Plugins

__all__ = ["UNDECIDING", "Identity", "decisive", "digest_of", "makers", "versions"]

UNDECIDING = frozenset({"study", "store", "budget", "plateau", "choose", "ensemble", "stability", "resources", "mlflow"})
"""Sections of a study that may change between two runs of it: what its networks are does not depend on them."""


def decisive(study: StudyConfig) -> dict[str, Any]:
    """The study as plain data, without secrets and without what does not decide its results."""
    plain: dict[str, Any] = scrub(study.plain())
    return {key: value for key, value in plain.items() if key not in UNDECIDING}


def digest_of(value: Any) -> str:
    """SHA-256 of plain data, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def makers(study: StudyConfig, plugins: Plugins) -> dict[str, str]:
    """nasplug, and each distribution of which the study uses a name -> its version and a digest of its source."""
    words = set(_words(decisive(study)))
    used = [offer for kind in KINDS if kind != "command" for name, offer in plugins.offers(kind).items() if name in words]
    found = {"nasplug": _version(metadata.version("nasplug"), "nasplug")}
    return found | {offer.owner: _version(offer.version, _module(offer)) for offer in used if offer.owner != "nasplug"}


def versions(study: StudyConfig, plugins: Plugins) -> dict[str, str]:
    """What must be the same on all machines that train packs of a study: Python, torch (for any device), numpy, `makers`."""
    found = {package: metadata.version(package).partition("+")[0] for package in ("torch", "numpy")}
    return {"python": platform.python_version(), **found, **makers(study, plugins)}


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)


def _module(offer: Offer) -> str:
    factory = offer.factory
    return str(getattr(factory, "__module__", None) or type(factory).__module__).partition(".")[0]


def _version(version: str, module: str) -> str:
    source = _source(module)
    return f"{version}, source {source[:12]}" if source else version


@lru_cache(maxsize=64)
def _source(module: str) -> str:
    """SHA-256 of a package's files, or of a module's one; empty where there is none (a notebook)."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    home = path.parent
    files = [path] if path.name != "__init__.py" else sorted(p for p in home.rglob("*") if _is_source(p))
    whole = hashlib.sha256()
    for each in files:
        whole.update(f"{each.relative_to(home).as_posix()}\0".encode())
        whole.update(hashlib.sha256(each.read_bytes()).digest())
    return whole.hexdigest()


def _is_source(path: Path) -> bool:
    return path.is_file() and path.parent.name != "__pycache__"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the results in a folder depend on.

    Attributes:
        config: digest of `decisive`.
        data: each task of the study -> digest (`nasplug.plan.data_key`, `nasplug.tasks.Task.digest`).
        makers: see `makers`.
    """

    config: str
    data: Mapping[str, str]
    makers: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def changes(self, now: Identity) -> list[str]:
        """What is different ``now``, in words; empty where nothing is."""
        told = []
        for key in sorted(self.data.keys() | now.data.keys()):
            before, after = self.data.get(key), now.data.get(key)
            if before != after:
                what = "the data" if key == "{}" else f"the data of {key}"
                told.append(f"{what} (digest {_short(before)}, now {_short(after)})")
        for name in sorted(self.makers.keys() | now.makers.keys()):
            before, after = self.makers.get(name, "not there"), now.makers.get(name, "not there")
            if before != after:
                told.append(f"{name} ({before}; now {after})")
        return told


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]
