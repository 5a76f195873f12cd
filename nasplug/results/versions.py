"""The versions of a study's config: an extended study's folder keeps each of them, and which packs it planned.

``versions.json`` lists the earlier ones, the first one first; ``study.yaml`` is the present one. A network is trained, named
and traced by the version that planned its pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.config import StudyConfig, parse
from nasplug.errors import scrub
from nasplug.identity import UNDECIDING
from nasplug.plan import axes, cells, value_at

__all__ = ["VERSIONS", "Version", "ended", "number_of", "planner_of", "versions"]

VERSIONS = "versions.json"


@dataclass(frozen=True, slots=True)
class Version:
    """A config that a study had before it was extended.

    Attributes:
        config: plain data, without secrets.
        packs: the names of those that it planned.
        fixed: what its networks have in places that vary now and did not then: path -> value, as a table's column holds it.
        added: what the next version added, in words.
        until: when that was.
    """

    config: Mapping[str, Any]
    packs: Sequence[str]
    fixed: Mapping[str, Any]
    added: Sequence[str]
    until: str

    def study(self, now: StudyConfig) -> StudyConfig:
        """Its config; secrets, and what may change between two runs, are those of the present one."""
        plain = now.plain()
        return parse({key: plain[key] if key in UNDECIDING else _known(self.config.get(key), plain[key]) for key in plain})


def versions(folder: Path) -> list[Version]:
    """The versions before the present one, the first one first; none where the study was never extended.

    Raises:
        DamageError: for a damaged record.
    """
    path = folder / VERSIONS
    if not path.exists():
        return []
    try:
        return [Version(**one) for one in files.read_json(path)["versions"]]
    except files.DamageError as error:
        remedy = "put it back from a copy, or start all packs anew (--accept-changes)"
        raise files.DamageError(path, error.reason, remedy) from None


def number_of(folder: Path, pack: str) -> int:
    """Which version planned a pack, from 1 on."""
    found = versions(folder)
    return next((number for number, one in enumerate(found, start=1) if pack in one.packs), len(found) + 1)


def planner_of(folder: Path, pack: str, now: StudyConfig) -> StudyConfig:
    """The config that planned a pack; ``now`` is the present one."""
    found, number = versions(folder), number_of(folder, pack)
    return now if number > len(found) else found[number - 1].study(now)


def ended(folder: Path, old: StudyConfig, new: StudyConfig, packs: Sequence[str], added: Sequence[str]) -> None:
    """Write down that the version ``old``, which planned ``packs``, is followed by ``new``, which adds something to it."""
    before = versions(folder)
    known = {name for one in before for name in one.packs}
    plain: Mapping[str, Any] = scrub(old.plain())
    mine = [name for name in packs if name not in known]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = [*before, Version(plain, mine, {}, list(added), now)]
    told = [asdict(replace(one, fixed=_fixed(one.study(old), new))) for one in found]
    files.write_json(folder / VERSIONS, {"versions": told})


def _fixed(old: StudyConfig, new: StudyConfig) -> dict[str, Any]:
    there, plain = {axis.path for axis in axes(old)}, old.plain()
    found = {}
    for axis in axes(new):
        if axis.path not in there:
            value = value_at(plain, axis.path)
            found[axis.path] = float(value) if axis.row else cells(axis.sweep, [value])[0]
    return found


def _known(old: Any, now: Any) -> Any:
    """``old`` with the secrets that ``now`` has in the same places."""
    if scrub(now) == old:
        return now
    if isinstance(old, Mapping) and isinstance(now, Mapping):
        return {key: _known(value, now[key]) if key in now else value for key, value in old.items()}
    if isinstance(old, list) and isinstance(now, list) and len(old) == len(now):
        return [_known(one, other) for one, other in zip(old, now, strict=True)]
    return old
