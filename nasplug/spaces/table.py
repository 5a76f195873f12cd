"""The table of a space: what every architecture came to, one row for each, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug import files, results
from nasplug.errors import ConfigError
from nasplug.plan import FIXED, Cost, row_of
from nasplug.plugins import Plugins
from nasplug.spaces.space import Skeletons, Space, widths_of
from nasplug.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

__all__ = ["SCORES", "TABLE", "Key", "Table", "enumerated", "table_of"]

Array = npt.NDArray[np.float64]
Key = tuple[tuple[int, ...], str]
"""Widths of the hidden layers, and what was chosen as text (`nasplug.plan.named`)."""

TABLE = "architectures.csv"
SCORES = ("valid_error", "valid_loss", "test_error", "test_loss")
SIZES = ("parameters", "edges", "neurons")


@dataclass(frozen=True, slots=True)
class Table:
    """Every architecture of a space, in the order of the space.

    Attributes:
        space: whose.
        keys: the architectures, N of them.
        seeds: S of them.
        scores: `SCORES` -> ``(N, S)``; NaN where a network did not finish.
        sizes: parameters, edges and neurons -> ``(N,)``, means over seeds.
        data: digest of the data.
        steps: that each was trained for.
        trivial: the error on the test samples of the network that says the same for each.
        unit: what an error is, in words.
    """

    space: Space
    keys: tuple[Key, ...]
    seeds: tuple[int, ...]
    scores: Mapping[str, Array]
    sizes: Mapping[str, Array]
    data: str
    steps: int
    trivial: float
    unit: str

    @property
    def test(self) -> Array:
        """The mean test error over seeds, ``(N,)``; infinite where a seed did not finish."""
        mean = self.scores["test_error"].mean(1)
        return np.where(np.isfinite(mean), mean, np.inf)

    @property
    def rank(self) -> npt.NDArray[np.int64]:
        """1 + how many architectures have a smaller mean test error: ``(N,)``."""
        test = self.test
        return 1 + np.searchsorted(np.sort(test), test, side="left")

    def spread(self, name: str) -> Array:
        """The standard error of a score's mean over seeds, ``sd / sqrt(S)``: ``(N,)``, NaN for one seed."""
        values, seeds = self.scores[name], len(self.seeds)
        return values.std(1, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.full(len(values), np.nan)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per architecture, the best by mean test error first.

        Each of `SCORES` has its mean over seeds, its standard error (``_se``) and each seed's value (``_seed0``).
        """
        import pandas as pd

        rows: dict[str, Any] = {
            "rank": self.rank,
            "architecture": [text for _, text in self.keys],
            "hidden": ["x".join(map(str, widths)) for widths, _ in self.keys],
            "finished": np.isfinite(self.scores["test_error"]).sum(1),
        }
        for name in SCORES:
            rows[name] = self.scores[name].mean(1)
            rows[f"{name}_se"] = self.spread(name)
        rows |= self.sizes
        for name in SCORES:
            rows |= {f"{name}_seed{seed}": self.scores[name][:, at] for at, seed in enumerate(self.seeds)}
        return pd.DataFrame(rows).sort_values(["rank", "hidden", "architecture"], kind="stable", ignore_index=True)


def enumerated(
    space: Space,
    plugins: Plugins,
    *,
    before: Callable[[Cost], object] | None = None,
    fast: bool = False,
    **options: Any,
) -> Table:
    """Train what is not trained yet, write `TABLE`, and return it; interrupted, it goes on from there.

    Args:
        space: whose architectures.
        plugins: where names are looked up.
        before: is told what is left of each study to train, and what that costs here.
        fast: plan without trials of components.
        options: of `nasplug.study.Study.run`.
    """
    for part in space.parts:
        Study(part.config, plugins, fast=fast).run(before=before, **options)
    found = table_of(space, plugins)
    files.write_csv(space.folder / TABLE, found.frame)
    return found


def table_of(space: Space, plugins: Plugins) -> Table:
    """The table of a space whose studies have run.

    Raises:
        ConfigError: where one of them has not.
    """
    seeds = tuple(space.study.seed_list)
    keys: list[Key] = []
    rows: dict[Key, dict[str, Array]] = {}
    data, trivial, steps, unit = "", float("nan"), 0, ""
    for part in space.parts:
        study = Study(part.config, plugins)
        frame = study.frame
        finished = frame[frame["status"] == "finished"]
        if finished.empty:
            raise ConfigError(f"{study.folder}: none of its networks has finished; run nasplug enumerate again")
        facts = study.facts_of(str(finished.iloc[0]["replica"]))
        data, trivial = facts.digest, float(facts.trivial.get("test_error", float("nan")))
        unit = "mean squared error (of the target as it is scaled)" if facts.kind == "regression" else "share of wrong labels"
        steps = int(part.config.train.steps)  # type: ignore[arg-type]  # it does not vary
        for key, row in _rows(study, finished):
            if key not in rows:
                keys.append(key)
                rows[key] = {name: np.full(len(seeds), np.nan) for name in (*SCORES, *SIZES)}
            for name, values in rows[key].items():
                values[seeds.index(int(row["seed"]))] = row[name]
    scores = {name: np.stack([rows[key][name] for key in keys]) for name in SCORES}
    sizes = {name: np.array([np.nanmean(rows[key][name]) for key in keys]) for name in SIZES}
    return Table(space, tuple(keys), seeds, scores, sizes, data, steps, trivial, unit)


def _rows(study: Study, frame: pd.DataFrame) -> list[tuple[Key, Mapping[str, Any]]]:
    """Rows of the table of networks with their architectures."""
    found: list[tuple[Key, Mapping[str, Any]]] = []
    shapes = Skeletons(study.config, study.plugins)
    for pack, rows in frame.groupby(frame["replica"].map(lambda name: row_of(name)[0]), sort=False):
        soft = shapes.of(results.plan_of(study.folder, str(pack), study.axes).values)
        widths = widths_of(soft)
        for each in rows.to_dict("records"):
            row = {str(name): value for name, value in each.items()}
            text = row.get(FIXED, study.config.fixed)
            found.append(((widths, str(text) if text else "/".join([soft.candidates[0]] * len(widths))), row))
    return found
