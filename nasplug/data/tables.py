"""The task `table`: a CSV or Parquet file, and which of its columns are what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nasplug.data.columns import AnyKind, from_frames
from nasplug.data.fitting import Gaps, Numeric
from nasplug.data.problems import Reading
from nasplug.data.transforms import TransformName
from nasplug.data.validation import ValidationOption, validation_of
from nasplug.errors import ConfigError, did_you_mean
from nasplug.rows import listed
from nasplug.tasks import Task, balanced

if TYPE_CHECKING:
    from nasplug.data.reading import Table

__all__ = ["READS", "file_of", "from_file", "known", "reading_of", "table"]

READS = ("missing_codes", "words", "separator", "decimal", "thousands", "units", "encoding")
"""Options that say how a file is read."""
PASSED = ("kind", "missing", "numeric", "bins", "transform", "validation", "test", "seed")
"""Options that `nasplug.data.columns.from_frames` has, too."""


def file_of(where: str, path: str, suffixes: Sequence[str]) -> Path:
    """The file that a user names.

    Raises:
        ConfigError: for one that is not there, or ends in something else.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() not in suffixes:
        raise ConfigError(
            f"{where}: {path!r} ends in {file.suffix or 'nothing'!r}; accepted: {', '.join(suffixes)}.{_beside(file, suffixes)}"
        )
    if not file.is_file():
        raise ConfigError(
            f"{where}: there is no file {path!r} (looked at {file.resolve()}); give a path from the working directory or an "
            f"absolute one.{_beside(file, suffixes)}"
        )
    return file


def _beside(file: Path, suffixes: Sequence[str]) -> str:
    if not file.parent.is_dir():
        return ""
    return did_you_mean(file.name, [f.name for f in file.parent.iterdir() if f.suffix.lower() in suffixes])


def table(
    *,
    path: str,
    target: str | list[str],
    kind: AnyKind = "auto",
    features: list[str] | None = None,
    exclude: list[str] | None = None,
    missing: Gaps = "refuse",
    numeric: Numeric = "linear",
    bins: int | None = None,
    transform: TransformName = "none",
    weights: str | None = None,
    balance: Literal["none", "classes"] = "none",
    validation: ValidationOption = "auto",
    test: float = 0.2,
    seed: int = 0,
    missing_codes: list[str | int | float] | dict[str, list[str | int | float]] | None = None,
    words: list[str] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    units: list[str] | None = None,
    encoding: str | None = None,
) -> Task:
    """A CSV or Parquet file: one column to predict from the others, or several.

    Several are quantities; with ``kind: classes`` they are probabilities of classes (soft targets), one column per class.

    How the file is read: `nasplug.data.reading.read`, with ``missing_codes`` (values that mean "missing", for all columns or
    ``{column: values}``), ``words`` (columns of words, whatever they look like), ``separator``, ``decimal``, ``thousands``,
    ``units`` (taken off numbers) and ``encoding``, each found where it can be told. ``kind`` auto:
    `nasplug.data.kinds.decide`. ``features``: the columns to learn from; ``exclude``: all but these. Text is a category, one
    0/1 feature per word (``colour=red``); rare words are one,
    ``colour=other``. Dates are seconds since 1970. ``numeric``: ``linear``, or ``piecewise``, with ramps between ``bins``
    quantiles (`nasplug.data.encoder.Encoder`). ``missing``, for all columns or by ``{column: how}``: refuse; drop the rows;
    ``mean`` or ``median`` of the training rows (the most frequent word); ``indicator``, which is the mean and a feature that
    says so; ``category``, a word of its own. Rows without a target go, unless ``missing`` is refuse. ``transform``: of a
    regression target: ``log`` or ``rank`` (`nasplug.data.transforms.Transform`), undone when a network is served; errors in
    tables and pictures are of the transformed target. ``weights``: a column of sample weights >= 0, which is no feature; all
    scores are weighted by them, those of the test split too. ``balance: classes`` weighs samples so that each label has the
    same share of training and of validation scores (`nasplug.tasks.balanced`); test scores stay as the data are.
    ``validation``: see `nasplug.data.validation.Validation`; the column that it goes by is no feature. Splits: shuffled by
    ``seed``; labels in the same proportions in each. Units: inputs and regression targets have mean 0 and standard deviation 1
    (ramps 1/2) on the training split (on all development samples, if these are resampled); features that are constant there
    are left out (see ``notes``).
    """
    return from_file(dict(locals()))


def from_file(options: Mapping[str, Any], found: Table | None = None) -> Task:
    """The task that `table` makes with these options. ``found``: what was read of the file already, of other columns too.

    Raises:
        ConfigError: as `table`.
    """
    from nasplug.data.reading import SUFFIXES, read

    asked = {name: given.default for name, given in signature(table).parameters.items()} | dict(options)
    where = f"task 'table', {asked['path']}"
    file = file_of(where, asked["path"], SUFFIXES)
    targets = [asked["target"]] if isinstance(asked["target"], str) else asked["target"]
    exclude, weights = asked["exclude"], asked["weights"]
    by = validation_of(asked["validation"], where).by
    inputs: list[str] = []

    def used(columns: Sequence[str]) -> list[str]:
        aside = {"validation: by": by, "weights": weights}
        inputs[:] = _inputs(where, columns, targets, asked["features"], exclude, aside)
        return list(dict.fromkeys([*inputs, *targets, *(name for name in (by, weights) if name is not None)]))

    reading = reading_of(asked)
    if found is None:
        found = read(where, file, used, reading)
    else:
        used(found.names)
    frame, notes = found.frame, dict(found.notes)
    if exclude:
        notes["excluded"] = f"left out, by 'exclude': {listed(exclude)}"
    task = from_frames(
        frame[inputs],
        frame[targets],
        name=file.stem,
        where=where,
        source=f"{file.name}: {len(frame)} rows, target {listed(targets)}",
        by=None if by is None else frame[by],
        weights=None if weights is None else frame[weights],
        notes=notes,
        raw=(str(asked["path"]), found.digest),
        codes={name: codes for name in inputs if (codes := [*reading.codes(name), *found.marks.get(name, ())])},
        **{key: asked[key] for key in PASSED},
    )
    return balanced(task) if asked["balance"] == "classes" else task


def reading_of(options: Mapping[str, Any]) -> Reading:
    """What options of `table` say about how the file is read. A column of parts or folds holds words: 0, 1 and test say all."""
    given: dict[str, Any] = {key: options[key] for key in READS if options.get(key) is not None}
    for key in ("words", "units"):
        given[key] = tuple(given.get(key, ()))
    validation = validation_of(options.get("validation") or "auto")
    if validation.use == "column" and validation.by not in given["words"]:
        given["words"] += (validation.by,)
    return Reading(**given)


def _inputs(
    where: str,
    columns: Sequence[str],
    targets: Sequence[str],
    features: Sequence[str] | None,
    exclude: Sequence[str] | None,
    aside: Mapping[str, str | None],
) -> list[str]:
    """The columns to learn from. ``aside``: columns that something else goes by, or None."""
    known(where, "target", targets, columns)
    for what, name in aside.items():
        if name is not None:
            known(where, what, [name], columns)
    if features is not None and exclude is not None:
        raise ConfigError(f"{where}: both 'features' and 'exclude'; write one of them, as each says which columns are used")
    if exclude is not None:
        known(where, "exclude", exclude, columns)
        if needed := [name for name in exclude if name in targets]:
            raise ConfigError(f"{where}: {listed(needed)} is both the target and in 'exclude'; take it out of one of the two")
    if features is None:
        features = [c for c in columns if c not in {*targets, *(exclude or []), *aside.values()}]
    else:
        known(where, "features", features, columns)
    for what, name in aside.items():
        if name in (*targets, *features):
            role = "target" if name in targets else "feature"
            raise ConfigError(f"{where}: {what} {name!r} is also a {role}; take it out of one of the two")
    both = [f for f in features if f in targets]
    if both:
        raise ConfigError(f"{where}: {listed(both)} is both a feature and a target; take it out of one of the two")
    return list(features)


def known(where: str, what: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse names that are no column, come twice, or are none at all."""
    if not names:
        raise ConfigError(f"{where}: {what} is empty; name at least one of {listed(columns, 20)}")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"{where}: {what} names {listed(twice)} more than once")
    for name in names:
        if name not in columns:
            raise ConfigError(
                f"{where}: {what} {name!r} is not a column; columns: {listed(columns, 20)}.{did_you_mean(name, columns)}"
            )
