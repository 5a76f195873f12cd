"""Which rows of a table train, validate and test: by a hold-out, or by resamples, which are weights on the development samples.

The development samples are all that are not in the test split. A resample ``r`` gives each of them a weight to train with
and one to be validated with; a network trains on one resample, so folds are rows of a pack, as seeds are. Everything is drawn
by ``seed`` with a generator of its own, and the test rows are the same for every kind that draws them.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nasplug.data.shuffled import (
    BOOTSTRAPS,
    FOLDS,
    REPEATS,
    SHARE,
    Array,
    Index,
    apart,
    bootstrapped,
    check_folds,
    folded,
    generator,
    split_rows,
)
from nasplug.data.validation import Validation
from nasplug.errors import ConfigError
from nasplug.tasks import Resamples, Task

__all__ = ["MOST_WEIGHTS", "Division", "divide", "half_samples"]

MOST_WEIGHTS = 2**27  # resamples times development samples
NUMBER = re.compile(r"[0-9]{1,9}")
"""The number of a fold: 01 is 1; other digits, such as ², are none."""
PART_WORDS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}


@dataclass(frozen=True, slots=True)
class Division:
    """Rows of a table by what they are for.

    Attributes:
        train, valid, test: rows, long, in the order they get; of resamples the last one's training and validation.
        resamples: weights on ``train`` and then ``valid``; None for a hold-out.
    """

    train: Index
    valid: Index
    test: Index
    resamples: Resamples | None = None

    @property
    def parts(self) -> list[Index]:
        """The three."""
        return [self.train, self.valid, self.test]

    @property
    def learned(self) -> Index:
        """Rows that means, scales, words and fills are learned from: training, or all development samples of resamples.

        Why not each fold's own: one network of a pack has the inputs of all others. So a fold's validation rows
        have a part in the means and scales of the features, and of the target of a regression.
        """
        return self.train if self.resamples is None else np.concatenate([self.train, self.valid])


def divide(
    where: str,
    validation: Validation,
    y: Array | Index,
    classes: Sequence[str],
    *,
    test: float,
    seed: int,
    by: npt.NDArray[Any] | None = None,
) -> Division:
    """Rows to train, to validate and to test.

    Args:
        where: what is divided, to be named.
        validation: how.
        y: targets ``(N,)`` or ``(N, O)``, or the class of each row ``(N,)``.
        classes: names of the classes; none for regression.
        test: share of the rows to test.
        seed: of all that is drawn.
        by: of kinds that have it, the column's value in each row, without gaps.

    Raises:
        ConfigError: where a part would have no row, or a training part no two different targets.
    """
    rows = len(y)
    validation = validation.of_rows(rows)
    if validation.use == "holdout":
        share = SHARE if validation.share is None else validation.share
        train, valid, tested = split_rows(where, y, classes, share, test, seed, named="share")
        return Division(train, valid, tested)
    if not 0.0 < test < 1.0:
        raise ConfigError(f"{where}: test={test}; needed: a share of the rows, above 0 and below 1")
    draw = generator(where, seed, STREAM)
    resamples = (validation.repeats or BOOTSTRAPS) if validation.use == "bootstrap" else _folds(validation)
    if resamples * rows > MOST_WEIGHTS:
        raise ConfigError(
            f"{where}: {resamples:,} resamples of {rows:,} rows are {resamples * rows:,} weights; needed: {MOST_WEIGHTS:,} at "
            "most. Take fewer, or a hold-out"
        )
    if validation.use == "column":
        return _by_column(where, validation, y, classes, _given(where, validation, by))
    if validation.use == "time":
        made = _by_time(where, validation, test, np.arange(rows) if validation.by is None else _given(where, validation, by))
    elif validation.use == "groups":
        made = _by_groups(where, validation, test, _given(where, validation, by), draw)
    else:
        development, tested = apart(where, y, classes, test, seed)
        codes = y[development].astype(np.int64) if classes else np.zeros(len(development), dtype=np.int64)
        if validation.use == "folds":
            check_folds(where, validation, codes, classes)
            made = development, tested, folded(codes, validation, draw)
        else:
            made = development, tested, bootstrapped(codes, validation, draw)
    return _division(where, y, classes, *made, _named(validation))


STREAM = 7  # of resamples: the test rows do not change with the number of folds
HALVES = 8  # of half samples


def _named(validation: Validation) -> str:
    """``5 folds x 2 repeats``."""
    if validation.use == "bootstrap":
        return f"{validation.repeats or BOOTSTRAPS} bootstraps"
    repeats = validation.repeats or REPEATS
    kind = {"folds": "folds", "groups": "folds of groups", "time": "folds in time"}[validation.use]
    return f"{validation.folds or FOLDS} {kind}" + (f" x {repeats} repeats" if repeats > 1 else "")


def _folds(validation: Validation) -> int:
    """How many resamples folds make."""
    return (validation.folds or FOLDS) * (validation.repeats or REPEATS)


def _given(where: str, validation: Validation, by: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if by is None:
        raise ConfigError(f"{where}: validation {validation.use!r} needs the values of {validation.by!r}, which did not come")
    return by


def _division(
    where: str,
    y: Array | Index,
    classes: Sequence[str],
    development: Index,
    test: Index,
    weights: tuple[Array, Array],
    name: str,
) -> Division:
    """Development rows in the order of the last resample's training and validation, with the weights in that order."""
    train, valid = weights
    for number, (mine, held) in enumerate(zip(train, valid, strict=True)):
        learned = y[development[mine > 0]]
        if not held.any() or len(learned) < 2 or bool((learned == learned[0]).all()):
            what = (
                "no sample to validate" if not held.any() else f"{len(learned)} training samples, with one and the same target"
            )
            raise ConfigError(
                f"{where}: resample {number} of {name} has {what}; take fewer folds, another kind of validation, or more rows"
                + (f" of each of {len(classes)} classes" if classes else "")
            )
    held = valid[-1] > 0
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
    made = Resamples(_weights(train[:, order]), _weights(valid[:, order]), name)
    return Division(development[~held], development[held], test, made)


def _weights(values: Array | npt.NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


# -- half samples -------------------------------------------------------------------------------------------------------


def half_samples(task: Task, count: int, seed: int) -> Resamples:
    """Half samples of the development samples in complementary pairs: 0 and 1 share no sample, nor do 2 and 3, and so on.

    Each has ``floor(N / 2)`` samples, of labels ``floor(N_c / 2)`` of each class c; one that is left is in neither. What is
    learned from a half is judged by the same half, so nothing of the other comes in. A pair depends on its number and ``seed``
    alone: more half samples leave the first ones as they were.

    Args:
        task: labels are known from it; soft ones are not taken for classes.
        count: how many are made.
        seed: of all that is drawn.

    Raises:
        ConfigError: for a class, or a regression, of less than two development samples.
    """
    y = task.development.y
    labels = y if y.dtype == torch.long else y[0] if task.kind == "binary" else torch.zeros(y.shape[-1])
    codes = labels.cpu().numpy()
    train = np.zeros((count, len(codes)), dtype=np.float32)
    for pair in range(-(-count // 2)):
        draw = np.random.default_rng([seed, HALVES, pair])
        for code in np.unique(codes):
            members = draw.permutation(np.flatnonzero(codes == code))
            half = len(members) // 2
            if not half:
                raise ConfigError(
                    f"task {task.name!r}: a label with one development sample is in one of two half samples alone; add rows of "
                    "it, leave that label out, or write stability: false"
                )
            train[2 * pair, members[:half]] = 1.0
            if 2 * pair + 1 < count:
                train[2 * pair + 1, members[half : 2 * half]] = 1.0
    weights = _weights(train)
    return Resamples(weights, weights, f"{count} half samples")


# -- groups, time and columns ------------------------------------------------------------------------------------------


def _told_apart(by: npt.NDArray[Any]) -> tuple[list[Any], Index]:
    """The distinct values, sorted, and for each row the place of its value among them."""
    distinct = sorted(set(by.tolist()))
    places = {value: place for place, value in enumerate(distinct)}
    return distinct, np.fromiter((places[value] for value in by.tolist()), dtype=np.int64, count=len(by))


def _by_groups(
    where: str, validation: Validation, test: float, by: npt.NDArray[Any], draw: np.random.Generator
) -> tuple[Index, Index, tuple[Array, Array]]:
    """Whole groups to the test, and to folds: shuffled, the largest first, each to the fold that has the fewest rows."""
    folds, repeats = validation.folds or FOLDS, validation.repeats or REPEATS
    _, group = _told_apart(by)
    sizes = np.bincount(group)
    if len(sizes) < folds + 1:
        raise ConfigError(
            f"{where}: validation 'groups': {validation.by!r} has {len(sizes)} distinct values; needed: {folds + 1} at least, "
            f"for {folds} folds and a test split of whole groups. Take fewer folds, or another column"
        )
    shuffled = draw.permutation(len(sizes))
    ends = np.cumsum(sizes[shuffled])
    # as many groups as come nearest to the share, but one for each fold stays
    count = 1 + int(np.abs(ends[: len(sizes) - folds] - test * len(by)).argmin())
    tested = np.isin(group, shuffled[:count])
    development = np.flatnonzero(~tested)
    mine = group[development]
    held = np.zeros((repeats * folds, len(development)))
    for repeat in range(repeats):
        order = draw.permutation(shuffled[count:])
        fold_of = np.zeros(len(sizes), dtype=np.int64)
        fullest = [(0, fold) for fold in range(folds)]  # rows of each fold, the fewest first
        for one in order[np.argsort(-sizes[order], kind="stable")]:
            rows, fold_of[one] = fullest[0]
            heapq.heapreplace(fullest, (rows + int(sizes[one]), int(fold_of[one])))
        held[repeat * folds + fold_of[mine], np.arange(len(mine))] = 1.0
    return development, np.flatnonzero(tested), (1.0 - held, held)


def _by_time(where: str, validation: Validation, test: float, by: npt.NDArray[Any]) -> tuple[Index, Index, tuple[Array, Array]]:
    """The last share of the time to the test; before it ``folds + 1`` blocks: fold r trains on r + 1, and the next validates.

    Rows of one time are in one block.
    """
    folds = validation.folds or FOLDS
    order = np.argsort(by, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], by[order][1:] != by[order][:-1]]))  # of each time
    rows = len(by)

    def edges(last: int, blocks: int) -> Index:
        """Where blocks of about equal size end, at the change of a time."""
        wanted = np.arange(1, blocks) * last / blocks
        inner = starts[(starts > 0) & (starts < last)]
        if not len(inner):
            return np.zeros(0, dtype=np.int64)
        return np.unique(inner[np.abs(inner[None] - wanted[:, None]).argmin(1)])

    inner = starts[starts > 0]
    end = int(inner[np.abs(inner - (1.0 - test) * rows).argmin()]) if len(inner) else 0
    cuts = edges(end, folds + 1)
    if len(cuts) < folds:
        raise ConfigError(
            f"{where}: validation 'time': {validation.by or 'the order of rows'!r} has {len(starts)} distinct values in {rows} "
            f"rows, too few for {folds} folds one after another and a test split; take fewer folds"
        )
    block = np.searchsorted(cuts, np.arange(end), side="right")  # of the development rows in order
    number = np.arange(folds)[:, None]
    return order[:end], order[end:], ((block <= number).astype(np.float64), (block == number + 1).astype(np.float64))


def _by_column(where: str, validation: Validation, y: Array | Index, classes: Sequence[str], by: npt.NDArray[Any]) -> Division:
    """The parts that a column names, or folds by their numbers and those to test."""
    asked = f"{where}: validation 'column': {validation.by!r}"
    values, code = _told_apart(by)
    distinct = [str(value).strip().lower().removesuffix(".0") for value in values]
    parts = np.array([PART_WORDS.get(word, -1) for word in distinct])[code]
    folds = np.array([int(word) if NUMBER.fullmatch(word) else -1 for word in distinct])[code]
    numbers = sorted(set(folds.tolist()) - {-1})
    others = [word for word in distinct if word not in PART_WORDS and not NUMBER.fullmatch(word)]
    if others or (numbers and (parts < 2)[parts >= 0].any()):
        came = ", ".join(repr(word) for word in (others or distinct)[:5])
        raise ConfigError(f"{asked} holds {came}; needed: train, valid and test, or numbers of folds (and test) in every row")
    if not numbers:
        empty = [name for code, name in enumerate(("train", "valid", "test")) if not (parts == code).any()]
        if empty:
            raise ConfigError(f"{asked} has no row that says {' or '.join(empty)}; needed: train, valid and test")
        train, valid, tested = (np.flatnonzero(parts == code) for code in range(3))
        return Division(train, valid, tested)
    test = parts == 2
    if not test.any():  # a whole fold, as its rows may belong together
        test = folds == numbers.pop()
    if len(numbers) < 2:
        raise ConfigError(
            f"{asked} has {len(numbers)} fold(s) beside the test split; needed: two at least. Without rows that say test, "
            "those of the largest number are the test split"
        )
    development = np.flatnonzero(~test)
    held = np.stack([folds[development] == number for number in numbers]).astype(np.float64)
    name = f"{len(numbers)} folds of {validation.by!r}"
    return _division(where, y, classes, development, np.flatnonzero(test), (1.0 - held, held), name)
