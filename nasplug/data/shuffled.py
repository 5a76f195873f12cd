"""Rows that are drawn: a hold-out, folds and bootstraps, each class by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nasplug.data.validation import Validation
from nasplug.errors import ConfigError

__all__ = [
    "BOOTSTRAPS",
    "FOLDS",
    "REPEATS",
    "SHARE",
    "Array",
    "Index",
    "apart",
    "bootstrapped",
    "check_folds",
    "folded",
    "generator",
    "split_rows",
]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

SHARE, FOLDS, REPEATS, BOOTSTRAPS = 0.2, 5, 1, 10


def generator(where: str, seed: int, stream: int = 0) -> np.random.Generator:
    """One generator per (seed, stream): the training data do not change when only the size of the test split does."""
    if seed < 0:
        raise ConfigError(f"{where}: seed={seed}; needed: a whole number >= 0")
    return np.random.default_rng([seed, stream])


def split_rows(
    where: str, y: Array | Index, classes: Sequence[str], valid: float, test: float | None, seed: int, *, named: str = "valid"
) -> list[Index]:
    """Rows of train, valid and test, shuffled; each class is shared out by itself. Regression: no classes.

    ``test`` None: there is a test split already, and the rows are train and valid. ``named``: the option that ``valid`` is.

    Ours rather than scikit-learn's because that one, called twice for three splits, may leave a split without a class.
    """
    asked = f"{named}={valid}" + (f", test={test}" if test is not None else "")
    if not (valid > 0.0 and valid + (test or 0.0) < 1.0 and (test is None or test > 0.0)):
        shares = "a share of the rows, above 0 and below 1" if test is None else "shares of the rows, each above 0 and below 1"
        together = "" if test is None else " together"
        raise ConfigError(f"{where}: {asked}; needed: {shares}{together} (the rest is for training)")
    n = len(y)
    order = generator(where, seed).permutation(n)
    part = np.zeros(n, dtype=np.int64)  # 0 train, 1 valid, 2 test
    for code in range(max(1, len(classes))):
        members = order[y[order] == code] if classes else order
        to_test = round((test or 0.0) * len(members))
        to_valid = round(((test or 0.0) + valid) * len(members))
        sizes = (len(members) - to_valid, to_valid - to_test, to_test)
        if min(sizes if test is not None else sizes[:2]) < 1 or (not classes and sizes[0] < 2):
            held = f"{sizes[1]} for validation" + (f" and {sizes[2]} for the test" if test is not None else "")
            what = f"class {classes[code]!r} has {len(members)} rows" if classes else f"there are {n} rows"
            raise ConfigError(
                f"{where}: {what}, too few: {asked.replace(', ', ' and ')} would give {sizes[0]} for training, {held}; each "
                f"split needs {'a row of each class' if classes else 'a row, training two'}. "
                f"Add rows, {'leave the class out, ' if classes else ''}or change {asked.replace(', ', ' and ')}"
            )
        part[members[:to_test]] = 2
        part[members[to_test:to_valid]] = 1
    return [order[part[order] == p] for p in range(3 if test is not None else 2)]


def apart(where: str, y: Array | Index, classes: Sequence[str], test: float, seed: int) -> tuple[Index, Index]:
    """Development and test rows, shuffled; each class by itself. The test rows are those of a hold-out."""
    order = generator(where, seed).permutation(len(y))
    tested = np.zeros(len(y), dtype=np.bool_)
    for code in range(max(1, len(classes))):
        members = order[y[order] == code] if classes else order
        count = round(test * len(members))
        if not 1 <= count <= len(members) - 2:
            what = f"class {classes[code]!r} has {len(members)} rows" if classes else f"there are {len(members)} rows"
            raise ConfigError(
                f"{where}: {what}, too few: test={test} would give {count} for the test and {len(members) - count} for "
                "training and validation; needed: one and two. "
                f"Add rows, {'leave the class out, ' if classes else ''}or change test={test}"
            )
        tested[members[:count]] = True
    return order[~tested[order]], order[tested[order]]


def check_folds(where: str, validation: Validation, codes: Index, classes: Sequence[str]) -> None:
    """Refuse folds of which one would be empty, or leave a regression less than two samples to train."""
    folds = validation.folds or FOLDS
    if len(codes) < folds:
        raise ConfigError(f"{where}: {folds} folds of {len(codes)} development samples; take fewer folds, or add rows")
    if not classes and len(codes) - -(-len(codes) // folds) < 2:
        raise ConfigError(f"{where}: {folds} folds of {len(codes)} development samples leave one to train; add rows")


def folded(codes: Index, validation: Validation, draw: np.random.Generator) -> tuple[Array, Array]:
    """Weights of folds: the samples of each class are shuffled, and dealt out one after another.

    So sizes of folds, and of each class in them, differ by one at most.
    """
    folds = validation.folds or FOLDS
    held = np.zeros(((validation.repeats or REPEATS) * folds, len(codes)))
    for repeat in range(validation.repeats or REPEATS):
        shuffled = draw.permutation(len(codes))
        dealt = shuffled[np.argsort(codes[shuffled], kind="stable")]
        held[repeat * folds + np.arange(len(codes)) % folds, dealt] = 1.0
    return 1.0 - held, held


def bootstrapped(codes: Index, validation: Validation, draw: np.random.Generator) -> tuple[Array, Array]:
    """Weights of bootstraps: how often each sample was drawn, and 1 where it was not."""
    counts = np.zeros((validation.repeats or BOOTSTRAPS, len(codes)))
    for row in counts:
        for code in np.unique(codes):
            members = np.flatnonzero(codes == code)
            row += np.bincount(draw.choice(members, len(members)), minlength=len(codes))
    return counts, (counts == 0).astype(np.float64)
