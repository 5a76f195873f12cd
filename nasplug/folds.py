"""Networks validated on resamples: the scores of a configuration over its folds, which are refitted, which seed is served.

The table has one row per network. A row with a ``fold`` >= 0 was trained and validated on that resample; one with the fold -1
was trained on all development samples afterwards, and carries the scores of its configuration over the folds. Where nothing
was resampled, there is no such column, and every row stands for itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from nasplug import files
from nasplug.plan import REFIT
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FITTED",
    "FOLD",
    "LEAST",
    "PICKED",
    "RECORD",
    "SE",
    "STABLE",
    "OverFolds",
    "Steady",
    "candidates",
    "configurations",
    "independent",
    "means",
    "on_folds",
    "outcomes",
    "paired",
    "picked",
    "spread",
]

FOLD = "fold"
PICKED = "picked"  # whether a row stands for its configuration: of its refitted seeds the one with the smallest loss
FITTED = "fitted_loss"  # of a refitted network on the development samples, which it was trained on
RECORD = "stability.json"  # a file: what was counted on half samples of networks (`nasplug.stability`)
LEAST = "least_frequency"  # the smallest frequency, over half samples, of an input that the network reads
STABLE = "stable_inputs"  # how many inputs it reads that are kept as often as stability.threshold says
SE = "_se"  # ends the name of a standard error

SCORE = re.compile(r"([a-z_]+_)?valid_(?!.*_se$)\w+")
OWN = re.compile(r"valid_(?!.*_se$)\w+")


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand on fronts, in pictures and to be chosen: of resampled networks the picked ones, else all."""
    if PICKED not in frame:
        return frame
    return frame[frame[PICKED].astype("boolean").fillna(value=True).to_numpy(dtype=bool)]


def on_folds(frame: pd.DataFrame) -> pd.DataFrame:
    """The finished rows that were validated on a resample."""
    if FOLD not in frame:
        return frame.iloc[:0]
    return frame[(frame["status"] == "finished") & (frame[FOLD] > REFIT)]


def means(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Of each configuration and fold (the index) the mean over the seeds that finished, where each fold has one that did."""
    rows = on_folds(frame)
    inside = rows.groupby(["configuration", FOLD])[columns].mean()
    asked = frame[frame[FOLD] > REFIT].groupby("configuration")[FOLD].nunique()
    there = inside.index.to_frame(index=False).groupby("configuration")[FOLD].nunique()
    whole = there.index[there == asked.reindex(there.index)]
    return inside[inside.index.get_level_values("configuration").isin(whole)]


def outcomes(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Of each configuration (the index) the mean over the seeds that finished, on folds of `means`.

    Configurations of data sets that are resampled stand there once each fold has a network that finished.
    """
    import pandas as pd

    finished = frame[frame["status"] == "finished"]
    if FOLD not in frame:
        return finished.groupby("configuration")[columns].mean()
    alone = finished[finished[FOLD].isna()].groupby("configuration")[columns].mean()
    return pd.concat([alone, means(frame, columns).groupby("configuration").mean()])


def score_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that are scores on the validation samples, at any stage."""
    return [name for name in frame.columns if SCORE.fullmatch(name) and frame[name].dtype.kind in "fiu"]


def configurations(frame: pd.DataFrame, samples: Mapping[int, float]) -> pd.DataFrame:
    """Scores of configurations over their folds, one row for each (the index): means, and standard errors of ``valid_*``.

    The mean is over folds of the mean over seeds. ``se = sd / sqrt(n)`` with ``sd`` the standard deviation of the folds'
    means (``R - 1``) and ``n`` that of `independent`. A score that some folds do not have (AUC where a label never comes) is
    taken over the others, ``n`` of which there are at most so many; of one fold alone there is no standard error.

    Args:
        frame: rows on folds.
        samples: n of each configuration.
    """
    if on_folds(frame).empty:
        return frame.iloc[:0, :0]
    columns = score_columns(frame)
    inside = means(frame, columns)
    grouped = inside.groupby("configuration")
    found = grouped.mean()
    own = [name for name in columns if OWN.fullmatch(name)]
    told = found.index.map(lambda c: samples.get(int(c), math.nan)).to_numpy(dtype=float)
    root = grouped[own].count().clip(upper=told, axis=0).pow(0.5)
    return found.join(grouped[own].std().div(root).add_suffix(SE))


def independent(facts: Facts) -> float:
    """How many of a task's resamples say something new of the data: ``min(R, N / N_valid)``, N_valid the mean over resamples.

    Five folds are five. Their repeats hold out the same samples again, and two bootstraps overlap: they sharpen the mean, not
    what is known of other data. Nadeau and Bengio (2003) correct the variance by ``1/R + N_valid / N_train``; ours agrees with
    the usual error of one round of folds, and stays there, however many rounds are made.
    """
    whole = facts.samples["train"] + facts.samples["valid"]
    return min(float(facts.resamples), whole / (facts.held or facts.samples["valid"]))


def paired(frame: pd.DataFrame, column: str, best: int, samples: float) -> pd.DataFrame:
    """How much worse than the best configuration others are (the index), fold by fold: ``mean`` and standard error ``se``.

    What makes a fold hard is hard for both, so the error of the difference is smaller than that of either score. Folds in which
    one of both has no score are left out; where one is left, the standard error is 0: nothing is known to forgive by.
    """
    import pandas as pd

    inside = means(frame, [column])[column].unstack(FOLD)
    difference = inside - inside.loc[best]
    root = difference.count(axis=1).clip(1.0, max(samples, 1.0)).pow(0.5)
    return pd.DataFrame({"mean": difference.mean(axis=1), "se": difference.std(axis=1).fillna(0.0) / root})


def picked(frame: pd.DataFrame) -> dict[int, str]:
    """Of each configuration that was refitted: the replica that finished with the smallest loss on the development samples."""
    if FITTED not in frame:
        return {}
    rows = frame[(frame[FOLD] == REFIT) & (frame["status"] == "finished") & frame[FITTED].notna()]
    rows = rows.sort_values([FITTED, "replica"], kind="stable").drop_duplicates("configuration")
    return {int(c): str(r) for c, r in zip(rows["configuration"], rows["replica"], strict=True)}


def spread(things: list[Any], most: int) -> list[Any]:
    """At most ``most`` of ``things``, evenly over their order, both ends among them."""
    if len(things) <= most:
        return things
    return [things[round(i * (len(things) - 1) / (most - 1))] for i in range(most)]


@dataclass(frozen=True, slots=True)
class OverFolds:
    """What rows of resampled networks get from others: the scores of their configuration, and which row is picked.

    Attributes:
        scores: of each configuration (the index); without columns before anything was refitted.
        picked: names of replicas.
    """

    scores: pd.DataFrame
    picked: frozenset[str]

    @classmethod
    def of(cls, found: Sequence[Path], samples: Mapping[int, float]) -> OverFolds:
        """From the tables of all packs on resamples; ``samples``: n of each configuration (`independent`)."""
        import pandas as pd

        if not found:
            return cls(pd.DataFrame(), frozenset())
        needed = ("replica", "configuration", FOLD, "status", FITTED)

        def read(name: str) -> bool:
            return name in needed or ("valid_" in name and not name.startswith("history_"))

        frame = pd.concat([files.read_table(file, read).to_pandas() for file in found], ignore_index=True)
        scores = configurations(frame, samples)
        known = set(scores.index)  # what is on folds may have been set aside (`nasplug.study.plateau`)
        return cls(scores, frozenset(name for number, name in picked(frame).items() if number in known))

    @property
    def schema(self) -> pa.Schema:
        """Of the columns that rows get."""
        return pa.schema([pa.field(PICKED, pa.bool_()), *(pa.field(name, pa.float64()) for name in self.scores.columns)])

    def added(self, table: pa.Table) -> pa.Table:
        """A pack's rows with what they get; rows on a fold keep the scores of that fold."""
        names = table["replica"].to_pylist()
        table = table.append_column(PICKED, pa.array([name in self.picked for name in names], pa.bool_()))
        if FITTED in table.column_names:
            mine = self.scores.reindex(table["configuration"].to_pylist())
            for name in self.scores.columns:
                table = table.append_column(name, pa.array(mine[name].to_numpy(), pa.float64(), from_pandas=True))
        return table


@dataclass(frozen=True, slots=True)
class Steady:
    """What rows get of counts over half samples: `LEAST` and `STABLE`, where their configuration was counted.

    Attributes:
        networks: replica -> both.
    """

    networks: Mapping[str, tuple[float, int]]

    @classmethod
    def of(cls, folder: Path) -> Steady | None:
        """From a study's folder; None where nothing was counted, or the record is damaged: the next run writes it anew."""
        try:
            return cls(files.read_json(folder / RECORD)["networks"]) if (folder / RECORD).exists() else None
        except files.DamageError:
            return None

    @property
    def schema(self) -> pa.Schema:
        """Of the columns that rows get."""
        return pa.schema([pa.field(LEAST, pa.float64()), pa.field(STABLE, pa.int64())])

    def added(self, table: pa.Table) -> pa.Table:
        """A pack's rows with what they get."""
        mine = [self.networks.get(name, (None, None)) for name in table["replica"].to_pylist()]
        for at, field in enumerate(self.schema):
            table = table.append_column(field, pa.array([one[at] for one in mine], field.type))
        return table
