"""What of a machine keeps studies from running, or makes them slow: one finding per part, with its remedy.

Nothing is started, made, migrated or sent: each part is only looked at.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from nasplug.errors import ConfigError, NasplugError, cause, scrub

__all__ = ["Finding", "examine"]

Verdict = Literal["good", "note", "bad"]

ROOM = 2 * 2**30  # bytes on a disk, below which a study of many networks may not fit
SHARED = 512 * 2**20  # bytes of /dev/shm, below which Ray keeps its objects on the disk
MEMORY = 2 * 2**30
KINDS = ("method", "regularizer", "discretizer")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part.

    Attributes:
        part: python, packages, plugins, cpu, gpu, compilers, ray, store, mlflow or studies.
        verdict: ``good``; ``note``: something is slower or missing that not everybody needs; ``bad``: studies do not run.
        what: was found.
        remedy: what to do; empty where nothing is to be done.
    """

    part: str
    verdict: Verdict
    what: str
    remedy: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def examine(store: Path) -> list[Finding]:
    """Look at the environment, and at a store: the folder in which studies are."""
    parts: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "packages": _packages,
        "plugins": _plugins,
        "cpu": _cpu,
        "gpu": _gpu,
        "compilers": _compilers,
        "ray": _ray,
        "store": lambda: _store(store),
        "mlflow": lambda: _mlflow(store),
        "studies": lambda: _studies(store),
    }
    found: list[Finding] = []
    for part, look in parts.items():
        try:
            found += look()
        except Exception as error:  # noqa: BLE001 - what is broken here may break anything that looks at it
            found.append(
                Finding(part, "bad", f"the check failed: {scrub(cause(error))}", "Fix that, then run nasplug doctor again")
            )
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "good", f"Python {version}, {sys.executable}")


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong, right = [], []
    for text in metadata.requires("nasplug") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{needed.name} is not installed (needed: {needed.specifier})")
            continue
        if needed.specifier.contains(version, prereleases=True):
            right.append(f"{needed.name} {version}")
        else:
            wrong.append(f"{needed.name} {version} (needed: {needed.specifier})")
    if wrong:
        yield Finding("packages", "bad", "; ".join(wrong), "Install nasplug again: make .venv/.installed, or pip install -e .")
    else:
        yield Finding("packages", "good", ", ".join(right))


def _plugins() -> Iterator[Finding]:
    from nasplug.plugins import load_plugins

    plugins = load_plugins()
    for broken in plugins.broken:
        yield Finding("plugins", "bad", f"{broken.owner} {broken.error}", broken.remedy)
    for clash in plugins.clashes:
        yield Finding("plugins", "bad", clash.error, clash.remedy)
    offers = sorted(
        {offer.owner for kind in ("method", "regularizer", "discretizer") for offer in plugins.offers(kind).values()}
    )
    yield Finding("plugins", "good", ", ".join(offers))


def _cpu() -> Iterator[Finding]:
    import torch

    from nasplug.machine import cpus_here

    build = "" if torch.version.cuda is None else f", built for CUDA {torch.version.cuda}"
    yield Finding("cpu", "good", f"{cpus_here()} CPUs for this process; torch {torch.__version__}{build}")
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if free < MEMORY:
            yield Finding(
                "cpu", "note", f"only {_size(free)} of memory are free", "Use smaller packs, for example resources: {pack: 256}"
            )


def _gpu() -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count()
    if count:
        names = ", ".join(torch.cuda.get_device_name(at) for at in range(count))
        yield Finding("gpu", "good", f"{names}; resources: {{gpus: 0.5}} puts two packs on one")
    elif Path("/proc/driver/nvidia").exists():
        remedy = "Install a torch that is built for CUDA, and a driver that is new enough for it"
        yield Finding("gpu", "note", "there is an NVIDIA driver, but torch cannot use it", remedy)
    else:
        yield Finding("gpu", "good", "none; packs train on the CPU")


def _compilers() -> Iterator[Finding]:
    plus = next((name for name in (os.environ.get("CXX", "c++"), "g++", "clang++") if shutil.which(name)), None)
    plain = next((name for name in ("gcc", "cc", "clang") if shutil.which(name)), None)
    if plus is not None and plain is not None:
        yield Finding("compilers", "good", f"{plus} compiles steps, {plain} exported C")
        return
    lost = [*(["steps are not compiled (train.compile)"] if plus is None else [])]
    lost += ["C is not exported (nasplug export --to c,fixed)"] if plain is None else []
    yield Finding(
        "compilers", "note", f"there is no {'C++' if plus is None else 'C'} compiler: {'; '.join(lost)}", "Install g++"
    )


def _ray() -> Iterator[Finding]:
    yield Finding("ray", "good", f"Ray {metadata.version('ray')}")
    shared = Path("/dev/shm")
    if shared.is_dir() and (free := shutil.disk_usage(shared).free) < SHARED:
        remedy = "Give it more (docker run --shm-size=2g), or use --runner serial"
        yield Finding("ray", "note", f"only {_size(free)} are free in {shared}; that makes Ray slow", remedy)


def _store(store: Path) -> Iterator[Finding]:
    there = next(parent for parent in (store, *store.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "store", "bad", f"{store} cannot be written", "Name another folder (store: ...), or change its permissions"
        )
        return
    free = shutil.disk_usage(there).free
    what = f"{store}{'' if store.exists() else ', which does not exist yet,'} can be written; {_size(free)} are free"
    yield Finding("store", "good", what) if free >= ROOM else Finding("store", "note", what, "Free some disk space")


def _mlflow(store: Path) -> Iterator[Finding]:
    from nasplug.tracking import database_of, default_uri, state_of

    database = database_of(default_uri(store))
    assert database is not None  # the default is a file
    version = metadata.version("mlflow")
    try:
        state = state_of(database)
    except sqlite3.Error as error:
        yield Finding(
            "mlflow", "bad", f"{database} is not a database: {error}", "Move it elsewhere; the next run creates a new one"
        )
        return
    what = {
        "none": f"MLflow {version}; {database} does not exist yet; the first run creates it",
        "current": f"MLflow {version}; {database} has its tables",
        "older": f"{database} has the tables of another MLflow version than {version}",
    }
    remedy = "The next run migrates a copy, and keeps the old file beside it" if state == "older" else ""
    yield Finding("mlflow", "note" if remedy else "good", what[state], remedy)


def _studies(store: Path) -> Iterator[Finding]:
    from nasplug.life.standing import standings

    try:
        found = standings(store)
    except ConfigError:
        yield Finding("studies", "good", f"none in {store}")
        return
    except NasplugError as error:
        yield Finding("studies", "bad", str(error), "Fix that, then run nasplug doctor again")
        return
    states = [each.state for each in found]
    yield Finding("studies", "good", ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)))
    for each in found:
        if each.state == "killed":
            yield Finding(
                "studies",
                "note",
                f"{each.folder}: its last run was killed",
                "Give the same nasplug run command again: it resumes",
            )
        if each.untold:
            yield Finding("studies", "note", f"{each.folder}: {each.untold}", "")


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
