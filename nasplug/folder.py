"""A study's folder: who may write to it, what it was made of and which packs were planned, all before anything runs.

Three records stand for one another: ``study.yaml`` (the config, in words), ``identity.json`` (config, data and code, by
content) and the packs' own records (each says what it was made for). One that was damaged is set aside and written anew,
where the others say that nothing changed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.buckets import opened
from nasplug.config import StudyConfig, from_yaml, parse, to_yaml
from nasplug.errors import ConfigError, did_you_mean, scrub
from nasplug.identity import UNDECIDING, Identity, decisive, digest_of, makers
from nasplug.packs import PACK, identity_of
from nasplug.places import in_bucket
from nasplug.plan import Axis, Pack, added, axes, value_at, with_secrets
from nasplug.plugins import Plugins
from nasplug.results import ended, versions
from nasplug.sampling import drawing_of

__all__ = [
    "STUDY_FILE",
    "Kept",
    "additions",
    "changes",
    "check",
    "claim",
    "config_of",
    "held",
    "identity",
    "kept",
    "planned",
    "remembered",
]

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
        beside = [] if folder.exists() else [str(found.parent) for found in folder.parent.glob(f"*/{STUDY_FILE}")]
        raise ConfigError(
            f"{folder} is not a study's folder (it has no {STUDY_FILE}); give {there}.{did_you_mean(str(folder), beside)}"
        )
    try:
        return parse(from_yaml(files.read_text(file), str(file), own=True))
    except files.DamageError as error:
        remedy = "run the study again (nasplug run with its own YAML file), which writes it anew"
        raise files.DamageError(file, error.reason, remedy) from None


# -- checking ----------------------------------------------------------------------------------------------------------


def check(
    study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, *, accept_changes: bool = False, extend: bool = False
) -> None:
    """Refuse a folder that cannot be written, is somebody else's, or was made of something else. Writes nothing.

    Args:
        study: as it is now.
        packs: as they would be planned now.
        plugins: where names are looked up.
        accept_changes: do not refuse what was made of other data, or by other code.
        extend: whether the folder may hold a study that this one adds to; then it must hold one.

    Raises:
        ConfigError: with what changed and what to do.
    """
    folder = study.folder
    if in_bucket(study.store):
        opened(study.store)
    if extend and accept_changes:
        raise ConfigError("extend and accept_changes: what is kept cannot also be made anew; take one of them")
    if extend and additions(study, plugins):
        _check_extension(study, packs, plugins)
        return
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
            "give this one another name (study: ...), or remove that folder; if it has more seeds, values or trials alone, "
            "nasplug extend adds them"
        )


def additions(study: StudyConfig, plugins: Plugins) -> list[str]:
    """What a study adds to the one in its folder, in words; none where it is the same.

    Raises:
        ConfigError: where the folder holds none, or one to which this cannot be added.
    """
    drawing = drawing_of(study.sampler, plugins)
    return added(config_of(study.folder), study, guided=drawing is not None and drawing.guided)


def _check_extension(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> None:
    """Refuse to extend a study by networks of other data or other code than those that it has.

    Raises:
        ConfigError: with what changed and what to do.
    """
    before, now = _recorded(study.folder), identity(study, packs, plugins)
    if before is None:
        raise ConfigError(f"{study.folder} has no readable {IDENTITY}; run the study as it was once more, which writes it anew")
    if '"***"' in json.dumps([study.plain()["task"], study.plain()["method"]]):
        raise ConfigError("the study's config held a secret, which no file keeps; extend it with its own YAML file (--config)")
    own = replace(now, data={key: now.data[key] for key in now.data if key in before.data})
    if changed := before.changes(own):
        raise ConfigError(
            f"{study.folder} was made of something else; changed: {'; '.join(changed)}. Results of both must not be mixed: "
            "undo that, or make a new study: give it another name (study: ...) and run it"
        )


def _recorded(folder: Path) -> Identity | None:
    """What the folder says it was made of; None where it cannot say so any more."""
    with suppress(files.DamageError):
        return Identity(**files.read_json(folder / IDENTITY))
    return None


def changes(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> list[str]:
    """What changed since the folder's packs were made, as text; ``packs`` are as they would be planned now."""
    folder, now = study.folder, identity(study, packs, plugins)
    try:
        version = _version(folder)
    except files.DamageError as error:
        return [str(error)]
    before, first = _recorded(folder), _plan(folder, _plan_name(0, version), axes(study))
    if before is not None and first is not None:
        return before.changes(now)
    if before is not None and (found := before.changes(now)):
        return found
    # A record is lost: the packs that are there must be those that would be made now.
    there = {path.parent.name for path in (folder / "packs").glob(f"*/{PACK}")}
    same = {pack.id for pack in first or packs if _made(study, replace(pack, data=_now(pack, now)), plugins)}
    if first is None:  # without its plan, a pack that would not be made now would stay among the others
        later = [name for number in range(1, version + 1) for name in _plans(folder, number) if name != _plan_name(0, version)]
        same |= {pack.id for name in later for pack in _plan(folder, name, axes(study)) or ()}
    else:
        there &= {pack.id for pack in first}
    strangers = sorted(there - same)
    lost = IDENTITY if before is None else _plan_name(0, version)
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


def claim(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, *, extend: bool = False) -> None:
    """Write into the folder what the study is and what it is made of; where that changed, what was there is set aside first.

    With ``extend`` what was there stays, as an earlier version.
    """
    folder, now = study.folder, identity(study, packs, plugins)
    if extend and (more := additions(study, plugins)):
        old, version = config_of(folder), _version(folder)
        names = [pack.id for name in _plans(folder, version) for pack in _plan(folder, name, axes(old)) or ()]
        ended(folder, old, study, names, more)
    elif (folder / STUDY_FILE).exists() and changes(study, packs, plugins):
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


def _version(folder: Path) -> int:
    """Which version of its config a study has: 1, and one more each time that it was extended."""
    return len(versions(folder)) + 1


def _plan_name(number: int | str, version: int) -> str:
    numbered = f"{number:03d}" if isinstance(number, int) else number
    return f"plan-v{version}-{numbered}.json" if version > 1 else f"plan-{numbered}.json"


def _plans(folder: Path, version: int) -> list[str]:
    """The plans of a version, in the order in which they were made: generations, refits, packs on half samples."""
    every = sorted(path.name for path in folder.glob("plan-*.json"))
    return [name for name in every if (name.startswith(f"plan-v{version}-") if version > 1 else not name.startswith("plan-v"))]


def _plan(folder: Path, name: str, found: Sequence[Axis]) -> list[Pack] | None:
    """A generation's packs as the folder remembers them; None where it does not."""
    with suppress(files.DamageError):
        return [with_secrets(Pack(**pack), found) for pack in files.read_json(folder / name)["packs"]]
    return None


def remembered(study: StudyConfig, number: int | str) -> bool:
    """Whether a generation was planned in an earlier run."""
    return (study.folder / _plan_name(number, _version(study.folder))).exists()


def planned(study: StudyConfig, number: int | str, make: Callable[[], list[Pack]]) -> list[Pack]:
    """A generation's packs: as the folder remembers them (a resumed study keeps its rows' places), else newly made."""
    name = _plan_name(number, _version(study.folder))
    found = _plan(study.folder, name, axes(study))
    if found is None:
        _mend(study.folder / name)
        found = make()
        files.write_json(study.folder / name, {"packs": [scrub(pack.plain()) for pack in found]}, indent=None)
    return found


@dataclass(frozen=True, slots=True)
class Kept:
    """What a version of the study's config planned.

    Attributes:
        config: of that version; the packs are trained by it.
        packs: as they were planned.
        values: what all its networks have in places that vary now, and did not then: path -> value.
    """

    config: StudyConfig
    packs: Sequence[Pack]
    values: Mapping[str, Any]

    @property
    def whole(self) -> list[Pack]:
        """The packs with a value for every place that varies now."""
        return [pack if pack.linear else replace(pack, values={**pack.values, **self.values}) for pack in self.packs]


def kept(study: StudyConfig) -> list[Kept]:
    """What the study has of its earlier versions, the first one first, and last what this one has planned so far."""
    folder, found = study.folder, []
    earlier = versions(folder)
    for number, config in enumerate([*(one.study(study) for one in earlier), study], start=1):
        there = {axis.path for axis in axes(config)}
        plain = config.plain()
        values = {axis.path: value_at(plain, axis.path) for axis in axes(study) if axis.path not in there}
        packs = [pack for name in _plans(folder, number) for pack in _plan(folder, name, axes(study)) or ()]
        names = {pack.id for pack in packs}
        lost = [name for name in earlier[number - 1].packs if name not in names] if number <= len(earlier) else []
        packs += [pack for name in lost if (pack := _finished(folder, name, axes(study))) is not None]
        found.append(Kept(config, packs, values))
    return found


def _finished(folder: Path, name: str, found: Sequence[Axis]) -> Pack | None:
    """A pack as its own record has it, whose plan is damaged; None where it has not finished: its rows are planned anew."""
    with suppress(files.DamageError):
        return with_secrets(Pack(**files.read_json(folder / "packs" / name / PACK)["pack"]), found)
    return None
