"""A study's folder: who may write to it, what it was made of and which packs were planned, all before anything runs.

Three records stand for one another: ``study.yaml`` (the config, in words), ``identity.json`` (config, data and code, by
content) and the packs' own records (each says what it was made for). One that was damaged is set aside and written anew,
where the others say that nothing changed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.config import StudyConfig, from_yaml, parse, to_yaml
from nasplug.errors import ConfigError, scrub
from nasplug.identity import UNDECIDING, Identity, decisive, digest_of, makers
from nasplug.packs import PACK, identity_of
from nasplug.plan import Axis, Pack, axes, with_secrets
from nasplug.plugins import Plugins

__all__ = ["STUDY_FILE", "changes", "check", "claim", "config_of", "held", "identity", "planned", "remembered"]

STUDY_FILE = "study.yaml"
IDENTITY = "identity.json"
EARLIER = "earlier-"
ANEW = "start its packs anew (--accept-changes, in Python run(accept_changes=True)); what is there is kept beside them"

_log = logging.getLogger(__name__)


def identity(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> Identity:
    """What results of the study would depend on, as things are now."""
    data: dict[str, str] = {}
    for pack in packs:
        data |= pack.data
    return Identity(digest_of(decisive(study)), data, makers(study, plugins))


def config_of(folder: Path) -> StudyConfig:
    """The config of the study that is in a folder.

    Raises:
        ConfigError: when the folder is not a study's, or its file is damaged.
    """
    file = folder / STUDY_FILE
    if not file.is_file():
        inside = [str(found.parent) for found in sorted(folder.glob(f"*/{STUDY_FILE}"))]
        there = f"one of {', '.join(inside)}" if inside else "<store>/<study>"
        raise ConfigError(f"{folder} is not a study's folder (it has no {STUDY_FILE}); give {there}")
    try:
        return parse(from_yaml(files.read_text(file), str(file), own=True))
    except files.DamageError as error:
        remedy = "run the study again (nasplug run with its own YAML file), which writes it anew"
        raise files.DamageError(file, error.reason, remedy) from None


# -- checking ----------------------------------------------------------------------------------------------------------


def check(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, *, accept_changes: bool = False) -> None:
    """Refuse a folder that cannot be written, is somebody else's, or was made of something else. Writes nothing.

    Raises:
        ConfigError: with what changed and what to do.
    """
    folder = study.folder
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        what = "is read-only" if there.is_dir() else "is a file"
        raise ConfigError(f"store: {folder} cannot be written ({there} {what}); choose a folder you may write to (store: ...)")
    if not (folder / STUDY_FILE).exists():
        if folder.exists() and (others := sorted(_others(folder))):
            raise ConfigError(
                f"{folder} exists and is not a study's folder (it holds {', '.join(others[:3])}, no {STUDY_FILE}); "
                "give the study another name (study: ...) or another store"
            )
        return
    now = identity(study, packs, plugins)
    _check_config(study, now)
    if not accept_changes and (changed := changes(study, packs, plugins)):
        raise ConfigError(
            f"{folder} was made of something else; changed: {'; '.join(changed)}. Results of both must not be mixed: undo "
            f"that, give the study another name (study: ...), or {ANEW}"
        )


def _others(folder: Path) -> set[str]:
    """What is in a folder beside what a run that was stopped while it claimed it may leave."""
    names = {path.name for path in folder.iterdir()} - {"packs", files.LOCK}
    return {name for name in names if not (name.startswith(".") and name.endswith(".tmp"))}


def _check_config(study: StudyConfig, now: Identity) -> None:
    path = study.folder / STUDY_FILE
    try:
        old = from_yaml(files.read_text(path), str(path), own=True)
    except files.DamageError as error:
        before = _recorded(study.folder)
        if before is not None and before.config == now.config:
            return  # the same study: `claim` writes it anew
        remedy = "give this study another name (study: ...), or remove that folder"
        raise files.DamageError(path, error.reason, remedy) from None
    plain: Mapping[str, Any] = scrub(study.plain())
    changed = [key for key in plain if key not in UNDECIDING and old.get(key) != plain[key]]
    if changed:
        raise ConfigError(
            f"{study.folder} already holds another study of that name (different: {', '.join(changed)}); "
            "give this one another name (study: ...), or remove that folder"
        )


def _recorded(folder: Path) -> Identity | None:
    """What the folder says it was made of; None where it cannot say so any more."""
    with suppress(files.DamageError):
        return Identity(**files.read_json(folder / IDENTITY))
    return None


def changes(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> list[str]:
    """What changed since the folder's packs were made, as text; ``packs`` are as they would be planned now."""
    folder, now = study.folder, identity(study, packs, plugins)
    before, first = _recorded(folder), _plan(folder, 0, axes(study))
    if before is not None and first is not None:
        return before.changes(now)
    if before is not None and (found := before.changes(now)):
        return found
    # A record is lost: the packs that are there must be those that would be made now.
    there = {path.parent.name for path in (folder / "packs").glob(f"*/{PACK}")}
    same = {pack.id for pack in first or packs if _made(study, replace(pack, data=_now(pack, now)), plugins)}
    if first is None:  # without its plan, a pack that would not be made now would stay among the others
        same |= {pack.id for name in _later_plans(folder) for pack in _plan(folder, name, axes(study)) or ()}
    else:
        there &= {pack.id for pack in first}
    strangers = sorted(there - same)
    lost = IDENTITY if before is None else _plan_name(0)
    return [f"{lost} was lost, and {', '.join(strangers[:3])} would not be made in the same way now"] if strangers else []


def _now(pack: Pack, now: Identity) -> dict[str, str]:
    return {key: now.data.get(key, "") for key in pack.data}


def _made(study: StudyConfig, pack: Pack, plugins: Plugins) -> bool:
    """Whether the pack's record says that it was made for this plan; one that is damaged runs again, whatever it was."""
    try:
        return bool(files.read_json(study.folder / "packs" / pack.id / PACK)["identity"] == identity_of(study, pack, plugins))
    except files.DamageError:
        return True


# -- writing -----------------------------------------------------------------------------------------------------------


@contextmanager
def held(study: StudyConfig) -> Iterator[None]:
    """The folder for this process alone, without what a killed one left half-written.

    Raises:
        ConfigError: when the store cannot be written, or another process runs this study.
    """
    folder = study.folder
    try:
        (folder / "packs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"store: {folder} cannot be written ({error.strerror}); choose a folder you may write to (store: ...)"
        ) from None
    with files.locked(folder, f"study {study.study!r}"):
        files.sweep(folder)
        try:
            yield
        finally:
            if not (folder / STUDY_FILE).exists():  # the runner did not start: the name stays free
                (folder / files.LOCK).unlink(missing_ok=True)
                for empty in (folder / "packs", folder):
                    with suppress(OSError):
                        empty.rmdir()


def claim(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> None:
    """Write into the folder what the study is and what it is made of; where that changed, what was there is set aside first."""
    folder, now = study.folder, identity(study, packs, plugins)
    if (folder / STUDY_FILE).exists() and changes(study, packs, plugins):
        aside = _set_aside(folder)
        _log.warning("%s was made of something else; that is in %s now, and every pack runs anew", folder, aside)
    for path in (folder / STUDY_FILE, folder / IDENTITY):
        _mend(path)
    files.write_text(folder / STUDY_FILE, to_yaml(scrub(study.plain())), comment="# ")
    files.write_json(folder / IDENTITY, now.plain())


def _mend(path: Path) -> None:
    """Set a damaged file aside; it is written anew next."""
    try:
        if path.exists():
            files.verify(path)
    except files.DamageError as error:
        _log.warning("%s; set aside as %s, and written anew", error, files.set_aside(path).name)


def _set_aside(folder: Path) -> Path:
    """Move everything but the lock into ``earlier-1``, ``earlier-2``, ...: nothing of it is read again."""
    number = 1
    while (aside := folder / f"{EARLIER}{number}").exists():
        number += 1
    aside.mkdir()
    for path in list(folder.iterdir()):
        if path.name != files.LOCK and not path.name.startswith(EARLIER):
            path.replace(aside / path.name)
    (folder / "packs").mkdir()
    return aside


# -- plans -------------------------------------------------------------------------------------------------------------


def _plan_name(number: int | str) -> str:
    return f"plan-{number:03d}.json" if isinstance(number, int) else f"plan-{number}.json"


def _later_plans(folder: Path) -> list[str]:
    """The names of all plans but the first: what later generations have, refits and packs on half samples."""
    names = [path.stem.removeprefix("plan-") for path in sorted(folder.glob("plan-*.json"))]
    return [name for name in names if _plan_name(name) != _plan_name(0)]


def _plan(folder: Path, number: int | str, found: Sequence[Axis]) -> list[Pack] | None:
    """A generation's packs as the folder remembers them; None where it does not."""
    with suppress(files.DamageError):
        record = files.read_json(folder / _plan_name(number))
        return [with_secrets(Pack(**pack), found) for pack in record["packs"]]
    return None


def remembered(study: StudyConfig, number: int) -> bool:
    """Whether a generation was planned in an earlier run."""
    return (study.folder / _plan_name(number)).exists()


def planned(study: StudyConfig, number: int | str, make: Callable[[], list[Pack]]) -> list[Pack]:
    """A generation's packs: as the folder remembers them (a resumed study keeps its rows' places), else newly made."""
    path = study.folder / _plan_name(number)
    found = _plan(study.folder, number, axes(study))
    if found is None:
        _mend(path)
        found = make()
        files.write_json(path, {"packs": [scrub(pack.plain()) for pack in found]}, indent=None)
    return found
