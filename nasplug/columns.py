"""Columns of any type to a `Task`: labels, gaps, splits, scales. The one way there, for every data set.

Whatever is learned from data (means, scales, which columns vary) is learned from the training split alone; whatever cannot
be learned from is refused by name, never repaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.tasks import Kind, Loss, Split, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AnyKind",
    "Array",
    "Missing",
    "Part",
    "Scale",
    "Text",
    "assemble",
    "from_frames",
    "generator",
    "listed",
    "split_rows",
]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
AnyKind = Literal["auto", "regression", "binary", "classes"]
Missing = Literal["refuse", "drop", "mean"]
Text = Literal["refuse", "onehot"]
Holds = Literal["numbers", "integers", "bools", "text", "other"]

LOSSES: Mapping[Kind, Loss] = {"regression": "mse", "binary": "logistic", "classes": "cross_entropy"}
MOST_CLASSES = 20  # an integer target with more distinct values is a quantity, unless the user says otherwise
MOST_WORDS = 64  # a text column with more distinct values is an identifier or prose, not a category


class Scale(NamedTuple):
    """``x = (raw - shift) / scale``, column by column."""

    shift: Array
    scale: Array

    @classmethod
    def none(cls, columns: int) -> Scale:
        """As it came."""
        return cls(np.zeros(columns), np.ones(columns))

    @classmethod
    def standard(cls, train: Array) -> Scale:
        """Mean 0 and standard deviation 1 (population's) over the rows given."""
        return cls(train.mean(0), train.std(0))

    @classmethod
    def box(cls, low: Array, high: Array) -> Scale:
        """[low, high] -> [-1, 1]."""
        return cls((high + low) / 2, (high - low) / 2)


class Part(NamedTuple):
    """One split in the units of its source: ``x (N, I)``, ``y (N, O)`` numbers or ``(N,)`` numbers of classes."""

    x: Array
    y: Array


def assemble(
    name: str,
    kind: Kind,
    loss: Loss,
    parts: Sequence[Part],
    features: Sequence[str],
    targets: Sequence[str],
    inputs: Scale,
    outputs: Scale,
    source: str,
    notes: Mapping[str, str],
) -> Task:
    """Scale in float64, turn samples into columns, and check."""

    def split(part: Part) -> Split:
        x = ((part.x - inputs.shift) / inputs.scale).T  # (I, N)
        if kind == "classes":
            return Split(_float32(x), torch.from_numpy(np.ascontiguousarray(part.y, dtype=np.int64)))
        y = part.y.reshape(len(part.y), -1)
        y = ((y - outputs.shift) / outputs.scale).T  # (O, N)
        return Split(_float32(x), _float32(y))

    train, valid, test = (split(part) for part in parts)
    task = Task(
        name=name,
        kind=kind,
        loss=loss,
        train=train,
        valid=valid,
        test=test,
        features=tuple(features),
        targets=tuple(targets),
        input_shift=_float32(inputs.shift),
        input_scale=_float32(inputs.scale),
        output_shift=_float32(outputs.shift),
        output_scale=_float32(outputs.scale),
        source=source,
        notes=dict(notes),
    )
    task.check()
    return task


def _float32(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def generator(where: str, seed: int, stream: int = 0) -> np.random.Generator:
    """A generator a (seed, stream): the training data do not change when only the size of the test split does."""
    if seed < 0:
        raise ConfigError(f"{where}: seed={seed}; needed: a whole number >= 0")
    return np.random.default_rng([seed, stream])


def _shares(where: str, valid: float, test: float | None) -> None:
    if test is None and not 0.0 < valid < 1.0:
        raise ConfigError(
            f"{where}: valid={valid}; needed: a share of the rows, above 0 and below 1 (the rest is for training)"
        )
    if test is not None and not (valid > 0.0 and test > 0.0 and valid + test < 1.0):
        raise ConfigError(
            f"{where}: valid={valid}, test={test}; needed: shares of the rows, each above 0 and below 1 together "
            "(the rest is for training)"
        )


def split_rows(
    where: str, y: Array | Index, classes: Sequence[str], valid: float, test: float | None, seed: int
) -> list[Index]:
    """Rows of train, valid and test, shuffled; each class is shared out by itself. Regression: no classes.

    ``test`` None: there is a test split already, and the rows are train and valid.

    Ours rather than scikit-learn's because that one, called twice for three splits, may leave a split without a class.
    """
    _shares(where, valid, test)
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
            asked = f"valid={valid}" + (f" and test={test}" if test is not None else "")
            what = f"class {classes[code]!r} has {len(members)} rows" if classes else f"there are {n} rows"
            raise ConfigError(
                f"{where}: {what}, too few: {asked} would give {sizes[0]} for training, {held}; each split needs "
                f"{'a row of each class' if classes else 'a row, training two'}. "
                f"Add rows, {'leave the class out, ' if classes else ''}or change {asked}"
            )
        part[members[:to_test]] = 2
        part[members[to_test:to_valid]] = 1
    return [order[part[order] == p] for p in range(3 if test is not None else 2)]


def listed(names: Sequence[str], most: int = 8) -> str:
    """``'a', 'b' and 3 more``."""
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _what(column: pd.Series[Any]) -> Holds:
    """What a column holds, missing values aside."""
    import pandas as pd
    from pandas.api import types

    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return "text"
    if types.is_bool_dtype(kind):
        return "bools"
    if types.is_integer_dtype(kind):
        return "integers"
    if types.is_float_dtype(kind):
        # a gap turns a column of whole numbers into floats: it is still one of whole numbers
        present = column.dropna()
        return "integers" if len(present) < len(column) and bool((present % 1 == 0).all()) else "numbers"
    inside = types.infer_dtype(column, skipna=True)
    if inside == "string":
        return "text"
    if inside == "boolean":
        return "bools"
    if inside == "integer":
        return "integers"
    return "numbers" if inside in ("empty", "floating", "mixed-integer-float", "decimal") else "other"


def _numbers(column: pd.Series[Any]) -> Array:
    """Float64 with NaN where missing."""
    if column.dtype == object:
        column = column.map(float, na_action="ignore")
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _inputs(where: str, frame: pd.DataFrame, text: Text) -> tuple[Array, list[str]]:
    """``(N, I)`` with NaN where missing, and a name a column; text is refused or made one column a word."""
    columns: list[Array] = []
    names: list[str] = []
    refused: list[str] = []
    for name, column in frame.items():
        what = _what(column)
        if what == "other":
            raise ConfigError(
                f"{where}: feature {name!r} holds {column.dtype} values; accepted: numbers, true/false and text. "
                "Make numbers of it, or leave it out with 'features'"
            )
        if what != "text":
            columns.append(_numbers(column))
            names.append(str(name))
        elif text == "refuse":
            refused.append(str(name))
        else:
            gaps = column.isna().to_numpy()
            words = _words(column[~gaps])
            if len(words) > MOST_WORDS:
                raise ConfigError(
                    f"{where}: text feature {name!r} has {len(words)} distinct values, more than {MOST_WORDS}: more like "
                    "an identifier than a category; leave it out with 'features'"
                )
            for word in words:
                columns.append(np.where(gaps, np.nan, (column == word).fillna(False).to_numpy(dtype=np.float64)))
                names.append(f"{name}={word}")
    if refused:
        raise ConfigError(
            f"{where}: text or categories in feature(s) {listed(refused)}; set text to 'onehot' for a 0/1 column a word, or "
            "leave them out with 'features'"
        )
    if not columns:
        raise ConfigError(f"{where}: no feature is left; at least one column beside the target is needed")
    return np.stack(columns, axis=1), names


def _words(column: pd.Series[Any]) -> list[Any]:
    """Distinct values in order: a categorical's own order, else sorted."""
    import pandas as pd

    present = column.unique()
    if isinstance(column.dtype, pd.CategoricalDtype):
        known = set(present)
        return [word for word in column.cat.categories if word in known]
    return sorted(present)


def _complete(
    where: str, x: Array, names: Sequence[str], y: pd.DataFrame, missing: Missing, notes: dict[str, str]
) -> npt.NDArray[np.bool_]:
    """Which rows stay, ``(N,)`` bool."""
    in_x = np.isnan(x)
    in_y = y.isna().to_numpy()
    gone = np.asarray(in_x.any(1) | in_y.any(1))
    if not gone.any():
        return ~gone
    gaps = {name: int(n) for name, n in zip((*names, *map(str, y.columns)), (*in_x.sum(0), *in_y.sum(0)), strict=True) if n}
    told = ", ".join(f"{name!r} ({n} rows)" for name, n in list(gaps.items())[:8])
    told += f" and {len(gaps) - 8} more columns" if len(gaps) > 8 else ""
    if missing != "drop" and in_y.any():
        raise ConfigError(
            f"{where}: the target has missing values, in {np.count_nonzero(in_y.any(1))} of {len(y)} rows "
            f"({', '.join(str(c) for c in y.columns[np.asarray(in_y.any(0))])}). Set missing to 'drop' to leave those rows "
            "out, or fill them in first (in a CSV file, empty cells and words such as NA, None and null count as missing)"
        )
    if missing == "refuse":
        raise ConfigError(
            f"{where}: {np.count_nonzero(gone)} of {len(y)} rows have missing values, in {told}. Set missing to 'drop' to "
            "leave those rows out or to 'mean' to fill in the mean of the training split, or leave the columns out"
        )
    if missing == "mean":
        notes["missing"] = f"filled with the mean of the training split: {told}"
        return np.ones(len(y), dtype=np.bool_)
    notes["missing"] = f"{np.count_nonzero(gone)} of {len(y)} rows dropped, with gaps in {told}"
    return ~gone


def _targets(where: str, y: pd.DataFrame, holds: Mapping[str, Holds], kind: AnyKind) -> tuple[Array, list[str], Kind]:
    """Numbers ``(N, O)`` with the outputs' names, or classes ``(N,)`` with theirs; and what kind of task that makes."""
    for name, what in holds.items():
        if what == "other":
            raise ConfigError(f"{where}: target {name!r} holds {y[name].dtype} values; accepted: numbers, true/false and text")
        if y[name].nunique() < 2:
            raise ConfigError(
                f"{where}: target {name!r} is constant ({y[name].iloc[0]!s} in each of {len(y)} rows); there is nothing to "
                "learn from it. Choose another target"
            )
    if len(holds) > 1 and kind not in ("auto", "regression"):
        raise ConfigError(f"{where}: kind {kind!r} takes one target; came: {listed(list(holds))}")
    first = next(iter(holds))
    distinct = y[first].nunique()
    if kind == "auto":
        many = holds[first] == "numbers" or (holds[first] == "integers" and distinct > MOST_CLASSES)
        kind = "regression" if many or len(holds) > 1 else "binary" if distinct == 2 else "classes"
    if kind != "regression":
        return (*_labels(where, y[first], kind), kind)
    words = [name for name, what in holds.items() if what == "text"]
    if words:
        raise ConfigError(
            f"{where}: target(s) {listed(words)} hold text, which cannot be regressed on; give one target, with kind "
            "'binary' or 'classes'"
        )
    values = np.stack([_numbers(column) for _, column in y.items()], axis=1)
    _finite(where, "target(s)", values, list(holds))
    return values, list(holds), kind


def _labels(where: str, column: pd.Series[Any], kind: Kind) -> tuple[Array, list[str]]:
    """The class of each row, ``(N,)``, and the classes' names, in order."""
    words = _words(column)
    if kind == "binary" and len(words) != 2:
        few = listed([str(w) for w in words], 4)
        raise ConfigError(
            f"{where}: kind 'binary' needs a target with two distinct values; {column.name!r} has {len(words)}: {few}. "
            "Use kind 'classes' or 'regression'"
        )
    y = np.zeros(len(column))
    for i, word in enumerate(words):
        y[(column == word).to_numpy(dtype=bool)] = i
    # a gap elsewhere in the file makes 1.0 of a label 1
    return y, [str(int(w)) if isinstance(w, (float, np.floating)) and w.is_integer() else str(w) for w in words]


def _finite(where: str, what: str, values: Array, names: Sequence[str]) -> None:
    """Refuse values that float32 cannot hold; NaN is somebody else's matter."""
    bad = np.abs(values) > np.finfo(np.float32).max
    if bool(bad.any()):
        columns = listed([n for n, b in zip(names, np.asarray(bad.any(0)), strict=True) if b])
        raise ConfigError(
            f"{where}: {np.count_nonzero(bad.any(1))} rows have infinite values, or values too large for float32, in {what} "
            f"{columns}; correct or remove those rows"
        )


def from_frames(
    inputs: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    name: str,
    where: str,
    source: str,
    kind: AnyKind = "auto",
    missing: Missing = "refuse",
    text: Text = "refuse",
    named: Sequence[str] | None = None,
    valid: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    standardise: bool = True,
) -> Task:
    """Columns of inputs and of targets, of any type, to a task. ``named``: other names of the outputs, or of the classes."""
    if not len(inputs):
        raise ConfigError(f"{where}: there are no rows")
    notes: dict[str, str] = {}
    x, features = _inputs(where, inputs, text)
    holds = {str(column): _what(values) for column, values in targets.items()}  # before rows go: see `_what`
    keep = _complete(where, x, features, targets, missing, notes)
    x, targets = x[keep], targets.loc[keep]
    if not len(x):
        raise ConfigError(f"{where}: no row is left: {notes['missing']}. Leave those columns out, or set missing to 'mean'")
    _finite(where, "feature(s)", x, features)
    y, words, kind = _targets(where, targets, holds, kind)
    if named is not None:
        if len(named) != len(words) or len(set(named)) < len(words):
            raise ConfigError(
                f"{where}: targets names {listed(named)}; needed: {len(words)} distinct names, for {listed(words)}"
            )
        words = list(named)
    regression = kind == "regression"
    rows = split_rows(where, y, () if regression else words, valid, test, seed)
    train = rows[0]
    x = _filled(where, x, train, features)
    inputs_scale = Scale.none(len(features))
    outputs_scale = Scale.none(1 if kind == "binary" else len(words))
    if standardise:
        varies = _varies(x[train])
        if not varies.all():
            flat = [name for name, v in zip(features, varies, strict=True) if not v]
            notes["constant"] = f"left out, constant on the training split: {listed(flat, len(flat))}"
            if not varies.any():
                raise ConfigError(f"{where}: no feature is left: {listed(flat)} are constant on the training split")
            x, features = x[:, varies], [name for name, v in zip(features, varies, strict=True) if v]
        inputs_scale = Scale.standard(x[train])
    if standardise and regression:
        flat = [word for word, v in zip(words, _varies(y[train]), strict=True) if not v]
        if flat:
            raise ConfigError(
                f"{where}: target {listed(flat)} is constant on the training split; use more rows, another seed or "
                "another target"
            )
        outputs_scale = Scale.standard(y[train])
    parts = [Part(x[index], y[index]) for index in rows]
    return assemble(name, kind, LOSSES[kind], parts, features, words, inputs_scale, outputs_scale, source, notes)


def _filled(where: str, x: Array, train: Index, names: Sequence[str]) -> Array:
    """``x`` with its gaps filled by the mean of the training rows; gaps are left only where the user asked for it."""
    gaps = np.isnan(x)
    if not gaps.any():
        return x
    empty = [name for name, e in zip(names, np.asarray(gaps[train].all(0)), strict=True) if e]
    if empty:
        raise ConfigError(
            f"{where}: feature(s) {listed(empty)} have no value in the training split, so no mean to fill in; leave them out"
        )
    return np.where(gaps, np.nanmean(x[train], axis=0), x)


def _varies(train: Array) -> npt.NDArray[np.bool_]:
    """Which columns can be divided by their standard deviation, which of a constant column need not be exactly 0."""
    return np.asarray((train.max(0) > train.min(0)) & (train.std(0).astype(np.float32) > 0))
