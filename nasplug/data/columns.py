"""Columns of any type to a `Task`: labels, gaps, splits, scales. The one way there, for every data set.

Whatever is learned from data (means, scales, which columns vary) is learned from the training split alone, or, where there are
resamples, from all development samples (`nasplug.data.resampling.Division.learned` says why); whatever cannot be learned from
is refused by name, never repaired.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasplug.data.copies import copies_in
from nasplug.data.encoder import Encoder, kind_of, numbers_of
from nasplug.data.fitting import Gaps, Numeric, complete, fit, kinds_of
from nasplug.data.kinds import decide
from nasplug.data.numerals import blurred
from nasplug.data.origins import digest_of_frames
from nasplug.data.resampling import Division, divide
from nasplug.data.transforms import Transform, TransformName
from nasplug.data.validation import ValidationOption, by_values, validation_of
from nasplug.errors import ConfigError
from nasplug.rows import Array, listed, uncoded, words_of
from nasplug.tasks import LOSSES, READING, Kind, Loss, Origin, Resamples, Split, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AnyKind",
    "Array",
    "Part",
    "Scale",
    "assemble",
    "from_frames",
]

Index = npt.NDArray[np.int64]
AnyKind = Literal["auto", "regression", "binary", "classes"]
Holds = Literal["numbers", "bools", "text", "other"]

# Of a ramp on the training rows; of all other features it is 1. So a penalty on weights counts a ramp twice: it costs a weight
# and its ends, and a small network takes the value itself where that will do (measured: benchmarks/tables.md).
RAMP_DEVIATION = 0.5


SOFT_SLACK = 1e-3
"""By how much probabilities in a file may miss the sum 1."""


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
        """Mean 0 and standard deviation 1 (population's) over the rows given; what does not vary is only centred."""
        varies, spread = train.max(0) > train.min(0), train.std(0)
        spread = np.where(spread > 0.0, spread, np.ptp(train, 0))  # of numbers near 1e-200 the squares are 0
        return cls(train.mean(0), np.where(varies, spread, 1.0))

    @classmethod
    def box(cls, low: Array, high: Array) -> Scale:
        """[low, high] -> [-1, 1]."""
        return cls((high + low) / 2, (high - low) / 2)


class Part(NamedTuple):
    """One split in the units of its source.

    ``x (N, I)``; ``y (N, O)`` numbers, ``(N,)`` numbers of classes or ``(N, C)`` probabilities of classes; ``weights (N,)`` or
    None.
    """

    x: Array
    y: Array
    weights: Array | None = None


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
    resamples: Resamples | None = None,
    encoder: Encoder | None = None,
    transform: Transform | None = None,
    origin: Origin | None = None,
) -> Task:
    """Scale in float64, turn samples into columns, and check. ``origin`` None: that of the ``parts``."""

    def split(part: Part) -> Split:
        x = _float32(((part.x - inputs.shift) / inputs.scale).T)  # (I, N)
        weights = None if part.weights is None else _float32(part.weights)
        if kind == "classes" and part.y.ndim == 1:
            return Split(x, torch.from_numpy(np.ascontiguousarray(part.y, dtype=np.int64)), weights)
        y = part.y.reshape(len(part.y), -1)
        y = ((y - outputs.shift) / outputs.scale).T  # (O, N)
        return Split(x, _float32(y), weights)

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
        input_shift=torch.from_numpy(inputs.shift),
        input_scale=torch.from_numpy(inputs.scale),
        output_shift=torch.from_numpy(outputs.shift),
        output_scale=torch.from_numpy(outputs.scale),
        source=source,
        notes=dict(notes),
        resamples=resamples,
        columns=tuple(encoder.sources) if encoder else (),
        groups=encoder.groups if encoder else (),
        encoder=encoder.plain() if encoder else None,
        transform=transform.plain() if transform else None,
        origin=origin or Origin.of_samples(source, [[part.x, part.y] for part in parts]),
    )
    task.check()
    return task


def _float32(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _what(column: pd.Series[Any]) -> Holds:
    """What a target holds, missing values aside."""
    kind = kind_of(column)
    if kind in ("category", "boolean"):
        return "text" if kind == "category" else "bools"
    return "numbers" if kind == "number" else "other"


def _targets(
    where: str, y: pd.DataFrame, holds: Mapping[str, Holds], kind: AnyKind, notes: dict[str, str]
) -> tuple[Array, list[str], Kind]:
    """Numbers ``(N, O)`` with the outputs' names, or classes ``(N,)`` with theirs; and what kind of task that makes."""
    for name, what in holds.items():
        if what == "other":
            raise ConfigError(f"{where}: target {name!r} holds {y[name].dtype} values; accepted: numbers, true/false and text")
        distinct = len(words_of(y[name])[0]) if what == "text" else y[name].nunique()
        if distinct < 2:
            raise ConfigError(
                f"{where}: target {name!r} is constant ({y[name].iloc[0]!s} in each of {len(y)} rows); there is nothing to "
                "learn from it. Choose another target"
            )
    if len(holds) > 1 and kind == "binary":
        raise ConfigError(
            f"{where}: kind 'binary' takes one target; came: {listed(list(holds))}. Columns of probabilities are kind 'classes'"
        )
    first = next(iter(holds))
    if kind == "auto" and len(holds) > 1:
        kind, why = "regression", "several targets"
    elif kind == "auto":
        labels = holds[first] != "numbers"
        values = y[first].to_numpy(dtype=object) if labels else numbers_of(y[[first]], ["number"], where)[:, 0]
        kind, why = decide(values, labels=labels)
    else:
        why = "as the study says"
    notes[f"{READING}kind"] = f"{kind}: {why}"
    if kind != "regression" and len(holds) == 1:
        return (*_labels(where, y[first], kind), kind)
    words = [name for name, what in holds.items() if what == "text"]
    if words:
        raise ConfigError(
            f"{where}: target(s) {listed(words)} hold text, which cannot be regressed on; give one target, with kind "
            "'binary' or 'classes'"
        )
    for name in holds:
        if told := blurred(y[name]):
            raise ConfigError(f"{where}: target {name!r} holds {told}. Take off the digits that all have in common")
    values = numbers_of(y, ["number"] * len(holds), where)
    _finite(where, "target(s)", values, list(holds))
    return values if kind == "regression" else _probabilities(where, values, list(holds)), list(holds), kind


def _probabilities(where: str, values: Array, names: Sequence[str]) -> Array:
    """Soft targets ``(N, C)``: what a teacher gives each class; their sums, which rounding moved, are 1 again."""
    sums = values.sum(1)
    bad = (values < 0).any(1) | ~(np.abs(sums - 1.0) <= SOFT_SLACK)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"{where}: kind 'classes' with the targets {listed(names)}: {np.count_nonzero(bad)} rows are no probabilities, the "
            f"first is row {row + 1} with {', '.join(f'{v:g}' for v in values[row][:8])}; needed: numbers >= 0 whose sum is 1. "
            "Name one column of labels, or take kind 'regression'"
        )
    probabilities: Array = values / sums[:, None]
    return probabilities


def _labels(where: str, column: pd.Series[Any], kind: Kind) -> tuple[Array, list[str]]:
    """The class of each row, ``(N,)``, and the classes' names, in order."""
    words, codes = words_of(column)
    if kind == "binary" and len(words) != 2:
        raise ConfigError(
            f"{where}: kind 'binary' needs a target with two distinct values; {column.name!r} has {len(words)}: "
            f"{listed(words, 4)}. Use kind 'classes' or 'regression'"
        )
    return codes.astype(np.float64), words


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
    missing: Gaps = "refuse",
    numeric: Numeric = "linear",
    bins: int | None = None,
    transform: TransformName = "none",
    named: Sequence[str] | None = None,
    validation: ValidationOption | Mapping[str, Any] = "auto",
    by: pd.Series[Any] | None = None,
    weights: pd.Series[Any] | None = None,
    test: float = 0.2,
    seed: int = 0,
    standardise: bool = True,
    empty: Literal["refuse", "drop"] = "refuse",
    notes: Mapping[str, str] | None = None,
    codes: Mapping[str, Sequence[str | float]] | None = None,
    raw: tuple[str, str] | None = None,
) -> Task:
    """Columns of inputs and of targets, of any type, to a task. ``named``: other names of the outputs, or of the classes.

    Rows are told by their place, whatever the index; names of columns are taken as text. ``by``: the column that ``validation``
    names, where it names one. ``weights``: of the samples. ``empty``: what becomes of columns without a value to train on.
    ``notes``: on how the columns were read. ``codes``: values that mean "missing", by column. ``raw``: where the data came from
    and the digest of what was read there, of which these are all rows; None: ``source``, and the digest of these columns.

    Raises:
        ConfigError: for columns that nothing can be learned from, with all that is wrong with them.
    """
    inputs, targets = _named(where, "feature", inputs), _named(where, "target", targets)
    for what, other in (("targets", targets), ("by", by), ("weights", weights)):
        if other is not None and len(other) != len(inputs):
            raise ConfigError(f"{where}: {what} of {len(other)} rows for inputs of {len(inputs)}; needed: as many")
    if not len(inputs):
        raise ConfigError(f"{where}: there are no rows")
    place, digest = raw or (source, digest_of_frames((inputs, targets, by, weights)))
    count = len(inputs)
    for column, values in (codes or {}).items():
        inputs[column] = uncoded(inputs[column], values)
    told = dict(notes or {})
    kinds = kinds_of(where, inputs)
    for frame, names in ((inputs, [name for name, kind in kinds.items() if kind == "category"]), (targets, targets.columns)):
        for column in names:
            if kind_of(frame[column]) == "category":
                frame[column] = _without_blanks(frame[column])
    holds = {str(column): _what(values) for column, values in targets.items()}  # before rows go: see `_what`
    keep = complete(where, inputs, targets, missing, told)
    inputs, targets = inputs.loc[keep], targets.loc[keep]
    if validation_of(validation, where).use != "groups" and (copies := copies_in(inputs, targets, kinds)):
        told[f"{READING}copies"] = copies
    y, words, kind = _targets(where, targets, holds, kind, told)
    if named is not None:
        if len(named) != len(words) or len(set(named)) < len(words):
            raise ConfigError(
                f"{where}: targets names {listed(named)}; needed: {len(words)} distinct names, for {listed(words)}"
            )
        words = list(named)
    regression = kind == "regression"
    labels = y.argmax(1) if kind == "classes" and y.ndim == 2 else y  # of soft targets the likeliest
    rows = _divided(where, validation, labels, () if regression else words, test, seed, None if by is None else by[keep])
    train = rows.learned
    here = set(np.unique(y[train]).tolist()) if kind == "classes" and y.ndim == 1 else set(range(len(words)))
    if never := [word for code, word in enumerate(words) if code not in here]:
        told[f"{READING}classes"] = f"{listed(never)}: without training rows, so not learned"
    encoder = fit(
        where,
        inputs,
        train,
        kinds,
        missing=missing,
        numeric=numeric,
        bins=bins,
        constants=not standardise,
        empty=empty,
        notes=told,
    )
    encoder = encoder.coded(codes) if codes else encoder
    x = encoder.features(inputs, where)
    learned = None
    if transform != "none":
        if not regression:
            raise ConfigError(f"{where}: transform {transform!r} of a target of labels; it is for numbers. Leave it out")
        learned = Transform.fit(where, transform, y, y[train], words)
        y = learned.forward(y)
    outputs_scale = Scale.none(1 if kind == "binary" else len(words))
    if standardise and regression:
        flat = [word for word, values in zip(words, y[train].T, strict=True) if values.max() == values.min()]
        if flat:
            raise ConfigError(
                f"{where}: target {listed(flat)} is constant on the training split; use more rows, another seed or "
                "another target"
            )
        outputs_scale = Scale.standard(y[train])
    inputs_scale = Scale.none(x.shape[1])
    if standardise:
        shift, scale = Scale.standard(x[train])
        inputs_scale = Scale(shift, np.where(encoder.ramps, scale / RAMP_DEVIATION, scale))
    heavy = None if weights is None else _weights(where, weights[keep], np.concatenate(rows.parts[:2]))
    parts = [Part(x[index], y[index], None if heavy is None else heavy[index]) for index in rows.parts]
    units = encoder.names, words, inputs_scale, outputs_scale
    kept = np.arange(count)[np.asarray(keep)]
    origin = Origin.of_rows(place, digest, count, [kept[index] for index in rows.parts])
    return assemble(name, kind, LOSSES[kind], parts, *units, source, told, rows.resamples, encoder, learned, origin)


def _named(where: str, what: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The same with text for names and places for an index."""
    names = [str(name) for name in frame.columns]
    if twice := sorted(name for name, times in Counter(names).items() if times > 1):
        raise ConfigError(
            f"{where}: several {what} columns are called {listed(twice)}; give each its own name, or leave one out"
        )
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def _weights(where: str, column: pd.Series[Any], development: npt.NDArray[np.int64]) -> Array:
    """Sample weights ``(N,)`` with mean 1 over the development samples.

    Raises:
        ConfigError: for a weight that is missing, not finite or below 0, or weights that are all 0 there.
    """
    values = numbers_of(column.to_frame(), ["number"], f"{where}: weights")[:, 0]
    bad = ~(np.isfinite(values) & (values >= 0.0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ConfigError(
            f"{where}: weights {str(column.name)!r}: {np.count_nonzero(bad)} rows have none that can be used, the first is row "
            f"{row + 1} with {values[row]:g}; needed: finite numbers >= 0. Fill in 1, or leave those rows out"
        )
    mean = float(values[development].mean())
    if mean == 0.0:
        raise ConfigError(f"{where}: weights {str(column.name)!r} are 0 in all rows; needed: some above 0")
    return np.asarray(values / mean)


def _divided(
    where: str,
    validation: ValidationOption | Mapping[str, Any],
    y: Array,
    classes: Sequence[str],
    test: float,
    seed: int,
    by: pd.Series[Any] | None,
) -> Division:
    """Which rows are what."""
    asked = validation_of(validation, where)
    values = None if by is None or asked.by is None else by_values(where, asked, by)
    return divide(where, asked, y, classes, test=test, seed=seed, by=values)


def _without_blanks(values: pd.Series[Any]) -> pd.Series[Any]:
    """A column of words with gaps where nothing is written, as in a file."""
    import pandas as pd

    distinct = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values.dropna().unique()
    blank = [value for value in distinct if isinstance(value, str) and not value.strip()]
    return values.mask(values.isin(blank)) if blank else values
