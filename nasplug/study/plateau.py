"""Whether the front of a study still moves, judged in the order of its plan, whichever pack finished first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nasplug import files, results
from nasplug.config import Plateau
from nasplug.packs import TABLE
from nasplug.plan import Pack
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SURPLUS", "Judge", "restored"]

SURPLUS = "surplus.parquet"  # the table of a pack that finished behind the one that ended the sweep
COLUMNS = frozenset({"replica", "configuration", "fold", "status", "valid_error", "edges"})


class Judge:
    """Follows the volume of the front, pack by pack or, of a guided sampler, generation by generation.

    Unit i ends the sweep if the volume after it is less than ``tolerance`` above that after unit ``i - patience``. Volumes
    are those of all units up to i and of all linear networks, which come first; a pack that failed has no networks. One all of
    whose networks were stopped at a rung is no unit: it says nothing of what would follow.

    Args:
        rule: tolerance and patience.
        folder: of the study.
        places: that tell data sets and losses apart.
        facts_of: what a replica was trained on.
    """

    def __init__(self, rule: Plateau, folder: Path, places: Sequence[str], facts_of: Callable[[str], Facts]) -> None:
        self.rule = rule
        self.volumes: list[float] = []
        self.units: list[list[Pack]] = []
        self.at: int | None = None  # the unit that ends the sweep
        self._folder, self._places, self._facts_of = folder, places, facts_of
        self._lines: list[Pack] = []
        self._frames: list[pd.DataFrame] = []
        self._read_so_far: list[Pack] = []
        self._coming: Counter[int] = Counter()  # configuration -> packs with rows of it in units that are not judged yet
        self._again = False  # whether rows come of a configuration of which none were to come any more

    def follow(self, packs: Sequence[Pack], *, together: bool) -> None:
        """Packs that come next in the plan: one unit ``together``, or each by itself.

        Refits and packs on half samples, which an extended study has of before, are no part of the sweep.
        """
        packs = [pack for pack in packs if not pack.fitted]
        own = [pack for pack in packs if not pack.linear]
        self._lines += [pack for pack in packs if pack.linear]
        came = Counter(number for pack in own for number in set(pack.configurations))
        self._again |= any(number in self._coming and not self._coming[number] for number in came)
        self._coming.update(came)
        self.units += [own] if together and own else [[pack] for pack in own]  # an extended study may have a generation whole

    def ended(self, failed: Collection[str]) -> bool:
        """Whether a unit ends the sweep, as far as packs are finished or have ``failed``."""
        while self.at is None and len(self.volumes) < len(self.units):
            unit = self.units[len(self.volumes)]
            if not all(pack.id in failed or self._table(pack).exists() for pack in (*self._lines, *unit)):
                return False
            self._coming.subtract(number for pack in unit for number in set(pack.configurations))
            frames = [self._read(pack) for pack in unit if pack.id not in failed]
            if frames and all((frame["status"] == "stopped").all() for frame in frames):
                del self.units[len(self.volumes)]
                continue
            if self._again:
                self._frames, self._again = [self._read(pack) for pack in self._read_so_far], False
            first = [pack for pack in self._lines if not self.volumes and pack.id not in failed]
            self._frames += [*(self._read(pack) for pack in first), *frames]
            self._read_so_far += [*first, *(pack for pack in unit if pack.id not in failed)]
            self.volumes.append(self._volume())
            before = len(self.volumes) - 1 - self.rule.patience
            if before >= 0 and self.volumes[-1] - self.volumes[before] < self.rule.tolerance:
                self.at = len(self.volumes) - 1
        return self.at is not None

    def _volume(self) -> float:
        import pandas as pd

        if not self._frames:
            return 0.0
        found = pd.concat(self._frames, ignore_index=True)
        # What is behind the front now stays behind it.
        self._frames = [results.leading(found, self._places, self._facts_of, lambda number: self._coming[number] > 0)]
        return results.volume(self._frames[0], self._places, self._facts_of)

    def _table(self, pack: Pack) -> Path:
        return self._folder / "packs" / pack.id / TABLE

    def _read(self, pack: Pack) -> pd.DataFrame:
        frame: pd.DataFrame = files.read_table(
            self._table(pack), lambda name: name in COLUMNS or name in self._places
        ).to_pandas()
        return frame

    @property
    def rose(self) -> float:
        """By how much the volume rose over the units that ended the sweep."""
        assert self.at is not None  # it was ended
        return self.volumes[self.at] - self.volumes[self.at - self.rule.patience]

    def trim(self) -> list[str]:
        """Take packs that finished behind the last unit out of the study; their names. They come back with `restored`."""
        assert self.at is not None  # it was ended
        late = [pack for unit in self.units[self.at + 1 :] for pack in unit if self._table(pack).exists()]
        for pack in late:
            self._table(pack).replace(self._table(pack).with_name(SURPLUS))
        return [pack.id for pack in late]


def restored(folder: Path) -> None:
    """Packs that an earlier run took out are of the study again, until it judges anew."""
    for path in (folder / "packs").glob(f"*/{SURPLUS}"):
        path.replace(path.with_name(TABLE))
