"""Halving across the packs of a generation: what each brings to a rung is compared here, and each goes on with its own part.

What goes on after a rung stands in ``rung-GGG-R.json`` (generation, rung), written whole or not at all before any pack goes on.
From then on it is the truth: a resumed study takes it, and compares nothing again. It names the packs that it is of by their
identities: where the plan was lost and rows are packed otherwise, it says nothing of them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug import files
from nasplug.config import StudyConfig
from nasplug.packs import HISTORIES, TABLE, Scores, identity_of, load_scores, survivors
from nasplug.plan import Pack, across, replica_name
from nasplug.plugins import Plugins

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Halving", "as_at_rungs"]

_log = logging.getLogger(__name__)

NONE = Scores(np.empty(0, dtype=np.int64), {})

Rung = dict[str, list[int]]  # pack -> its rows that go on


def as_at_rungs(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A table in which stopped rows count as finished, with what they were compared by (``by``) at their last rung as scores.

    A sampler learns from it: of what it knows these rows are the worse, and a score that comes early is better than none.
    """
    there = frame["status"] == "stopped"
    early = {name: frame[f"relaxed_{name}" if name in HISTORIES else f"rung_{name}"] for name in by} if there.any() else {}
    found = frame.assign(**{name: frame[name].where(~there, column) for name, column in early.items()})
    return found.assign(status=frame["status"].where(~there, "finished"))


class Halving:
    """The rungs of a generation, as far as they are passed.

    Args:
        study: its config.
        number: of the generation.
        packs: of the generation; those whose rows are compared with other packs' are looked at.
        plugins: where names are looked up.
    """

    def __init__(self, study: StudyConfig, number: int | str, packs: Sequence[Pack], plugins: Plugins) -> None:
        self._study, self._number = study, number
        self._all = sorted(packs, key=lambda pack: not pack.linear)  # few and cheap, and what all others are held against
        self._packs = [] if study.stop is None else across(study, packs)
        self._identities = {pack.id: identity_of(study, pack, plugins) for pack in self._packs}
        self._rungs: list[Rung] = []
        while self._packs and (rung := self._read(len(self._rungs))) is not None:
            self._rungs.append(rung)

    def kept(self, pack: str) -> list[list[int]] | None:
        """See `nasplug.runner.Watch.kept`."""
        if pack not in self._identities:
            return None
        found: list[list[int]] = []
        for rung in self._rungs:
            if pack not in rung:
                break
            found.append(rung[pack])
        return found

    def stages(self, failed: Collection[str]) -> Iterator[list[Pack]]:
        """Packs that can train: all up to their first rung or their end; after each comparison those that go on, or conclude.

        ``failed``: the packs that have failed; it is looked at each time anew. It ends where a run brought nothing more.
        """
        before: list[tuple[str, int]] = []
        decided = True
        while True:
            left = [pack for pack in self._all if pack.id not in failed and not self._finished(pack)]
            ready = [pack for pack in left if not self._waits(pack)]
            now = [(pack.id, len(self.kept(pack.id) or ())) for pack in ready]
            if now == before and not decided:
                return
            yield ready
            decided, before = self.decide(failed), now

    def _waits(self, pack: Pack) -> bool:
        """Whether a pack has come to its next rung, and waits there for others."""
        kept = self.kept(pack.id)
        return kept is not None and not _ended(kept) and self._scores(pack, len(kept)) is not None

    def decide(self, failed: Collection[str]) -> bool:
        """Compare the rows at the next rung, if all packs are there that have not ``failed``; whether some now go on.

        A pack that had failed when others passed a rung, and comes there in a later run, is compared with what they had there:
        those that went on are not touched.
        """
        there = [(pack, kept) for pack in self._packs if pack.id not in failed and (kept := self.kept(pack.id)) is not None]
        going = [(pack, len(kept)) for pack, kept in there if not _ended(kept) and not self._finished(pack)]
        stop = self._study.stop
        number = min((passed for _, passed in going), default=-1)
        if stop is None or not 0 <= number < stop.rungs:
            return False
        packs = [pack for pack, _ in there]
        found = [self._scores(pack, number) for pack in packs]
        new = {pack.id for pack, passed in going if passed == number}
        if any(scores is None for pack, scores in zip(packs, found, strict=True) if pack.id in new):
            return False
        best = survivors(stop, packs, [scores or NONE for scores in found], number + 1)
        before = self._rungs[number] if number < len(self._rungs) else {}
        rung = {pack.id: rows.tolist() for pack, rows in zip(packs, best, strict=True)} | before
        self._write(number, rung)
        self._rungs[number : number + 1] = [rung]
        return True

    def _finished(self, pack: Pack) -> bool:
        return (self._study.folder / "packs" / pack.id / TABLE).exists()

    def _scores(self, pack: Pack, number: int) -> Scores | None:
        return load_scores(self._study.folder / "packs" / pack.id, self._identities[pack.id], number)

    def _path(self, number: int) -> Path:
        generation = f"{self._number:03d}" if isinstance(self._number, int) else self._number
        return self._study.folder / f"rung-{generation}-{number}.json"

    def _read(self, number: int) -> Rung | None:
        path = self._path(number)
        if not path.exists():
            return None
        try:
            return self._told(files.read_json(path), path)
        except files.DamageError as error:
            _log.warning("%s; set aside as %s, and its rows are compared again", error, files.set_aside(path).name)
            return None

    def _told(self, told: Mapping[str, Any], path: Path) -> Rung:
        packs, names = told.get("packs"), told.get("go on")
        if not (isinstance(packs, dict) and isinstance(names, list)):
            raise files.DamageError(path, "it does not say which rows of which packs go on")
        known = {pack.id: pack.rows for pack in self._packs if packs.get(pack.id) == self._identities[pack.id]}
        there = {replica_name(pack, row): (pack, row) for pack, rows in known.items() for row in range(rows)}
        if len(known) < len(packs) or not all(isinstance(name, str) and name in there for name in names):
            raise files.DamageError(path, "it is of other packs than those that are planned")
        rung: Rung = {pack: [] for pack in packs}
        for pack, row in sorted(there[name] for name in set(names)):
            rung[pack].append(row)
        if self._rungs and any(set(rows) - set(self._rungs[-1].get(pack, ())) for pack, rows in rung.items()):
            raise files.DamageError(path, "a network goes on that did not at the rung before")
        return rung

    def _write(self, number: int, rung: Mapping[str, Sequence[int]]) -> None:
        names = [replica_name(pack, row) for pack, rows in rung.items() for row in rows]
        identities = {pack: self._identities[pack] for pack in rung}
        files.write_json(self._path(number), {"packs": identities, "go on": names}, indent=None)


def _ended(kept: Sequence[Sequence[int]]) -> bool:
    """Whether none of a pack's rows goes on."""
    return bool(kept) and not kept[-1]
