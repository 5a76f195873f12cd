"""The tasks that come with nasplug: a table or arrays from a file, scikit-learn's bundled sets, and made data."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nasplug.columns import AnyKind, Missing, Part, Scale, Text, assemble, from_frames, generator, listed
from nasplug.cornn import find
from nasplug.errors import ConfigError, did_you_mean
from nasplug.hookspecs import Register, hookimpl
from nasplug.tasks import Task

__all__ = [
    "addition",
    "arrays",
    "breast_cancer",
    "cornn",
    "diabetes",
    "digits",
    "from_arrays",
    "iris",
    "table",
    "wine",
    "xor",
]


def _file(where: str, path: str, suffixes: Sequence[str]) -> Path:
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
    missing: Missing = "refuse",
    text: Text = "refuse",
    valid: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Task:
    """A CSV or Parquet file: one column (or several, for regression) to predict from the others.

    ``kind`` auto: a text, true/false or categorical target, or one of whole numbers with at most 20 distinct values, is
    labels (``binary`` for two, else ``classes``); anything else is ``regression``. ``missing``: refuse, drop the rows, or
    fill features with the mean of the training split. ``text``: refuse, or a 0/1 column a word (``colour=red``).
    Splits: shuffled by ``seed``; labels in the same proportions in each. Units: inputs and regression targets have mean 0
    and standard deviation 1 on the training split; features that are constant there are left out (see ``notes``).
    """
    import pandas as pd

    where = f"task 'table', {path}"
    file = _file(where, path, (".csv", ".parquet"))
    try:
        frame = pd.read_csv(file) if file.suffix.lower() == ".csv" else pd.read_parquet(file)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{where}: cannot be read as {file.suffix.lower()[1:]}: {str(error).strip()}") from error
    frame.columns = frame.columns.map(str)
    columns = list(frame.columns)
    targets = [target] if isinstance(target, str) else target
    _known(where, "target", targets, columns)
    if features is None:
        features = [c for c in columns if c not in targets]
    else:
        _known(where, "features", features, columns)
    both = [f for f in features if f in targets]
    if both:
        raise ConfigError(f"{where}: {listed(both)} is both a feature and a target; take it out of one of the two")
    unnamed = [f for f in features if file.suffix.lower() == ".csv" and f.startswith("Unnamed: ")]
    if unnamed:
        raise ConfigError(
            f"{where}: {len(unnamed)} column(s) without a name ({listed(unnamed)}), often the row numbers that a program "
            "wrote; list the features to use, or write the file without them"
        )
    return from_frames(
        frame[features],
        frame[targets],
        name=file.stem,
        where=where,
        source=f"{file.name}: {len(frame)} rows, target {listed(targets)}",
        kind=kind,
        missing=missing,
        text=text,
        valid=valid,
        test=test,
        seed=seed,
    )


def _known(where: str, what: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse names that are no column, come twice, or are none at all."""
    if not names:
        raise ConfigError(f"{where}: {what} is empty; name at least one of {listed(columns, 20)}")
    if len(set(columns)) < len(columns):
        twice = sorted({c for c in columns if columns.count(c) > 1})
        raise ConfigError(f"{where}: column name(s) {listed(twice)} come more than once; rename them")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(f"{where}: {what} names {listed(twice)} more than once")
    for name in names:
        if name not in columns:
            other = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), None)
            hint = f" The file seems to be separated by {other!r}; commas are needed." if other else did_you_mean(name, columns)
            raise ConfigError(f"{where}: {what} {name!r} is not a column; columns: {listed(columns, 20)}.{hint}")


def from_arrays(
    x: npt.NDArray[Any] | Tensor,
    y: npt.NDArray[Any] | Tensor,
    *,
    kind: AnyKind,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    name: str = "tensors",
    missing: Missing = "refuse",
    valid: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    standardise: bool = True,
    source: str = "",
) -> Task:
    """A task from arrays or tensors: ``x (N, I)``; ``y (N,)`` or ``(N, O)``, numbers or labels.

    ``features``: a name an input (default x0, x1, ...). ``targets``: a name an output for regression (default y0, ...), a
    name a class, in sorted order, for labels. Splits and units as in `table`; ``standardise=False`` keeps x and y as they
    are, constant columns too.

    Raises:
        ConfigError: for shapes, types and values that cannot be learned from.
    """
    import pandas as pd

    where = f"task {name!r}"
    inputs, outputs = _array(x), _array(y)
    if inputs.ndim != 2 or outputs.ndim not in (1, 2) or len(inputs) != len(outputs) or 0 in outputs.shape[1:]:
        raise ConfigError(
            f"{where}: x {inputs.shape}, y {outputs.shape}; needed: x (rows, features), y (rows,) or (rows, outputs), "
            "with as many rows. Flatten images to rows first"
        )
    if inputs.dtype.kind not in "buif":
        raise ConfigError(f"{where}: x holds {inputs.dtype}; needed: numbers. For text, write a file and use task 'table'")
    outputs = outputs.reshape(len(outputs), math.prod(outputs.shape[1:]))
    if outputs.shape[1] > 1 and kind in ("binary", "classes"):
        raise ConfigError(
            f"{where}: y {outputs.shape} has {outputs.shape[1]} columns; kind {kind!r} takes one column of labels "
            "(for one-hot rows: y.argmax(1))"
        )
    names = list(features) if features is not None else [f"x{i}" for i in range(inputs.shape[1])]
    if len(names) != inputs.shape[1] or len(set(names)) < len(names):
        raise ConfigError(
            f"{where}: features names {listed(names)}; needed: {inputs.shape[1]} distinct names, one a column of x"
        )
    return from_frames(
        pd.DataFrame(inputs, columns=pd.Index(names)),
        pd.DataFrame({f"y{i}": outputs[:, i] for i in range(outputs.shape[1])}),
        name=name,
        where=where,
        source=f"{source or 'arrays'}: {len(inputs)} rows",
        kind=kind,
        missing=missing,
        named=targets,
        valid=valid,
        test=test,
        seed=seed,
        standardise=standardise,
    )


def _array(values: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    # numpy has no bfloat16
    return (values.double() if values.is_floating_point() else values).numpy()


def arrays(
    *,
    path: str,
    kind: AnyKind = "auto",
    missing: Missing = "refuse",
    standardise: bool = True,
    valid: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
) -> Task:
    """An .npz or .safetensors file that holds ``x`` (rows, features) and ``y`` (rows,) or (rows, outputs).

    ``kind``, ``missing``, splits and units as in `table`; ``standardise: false`` keeps the values as they are.
    """
    where = f"task 'arrays', {path}"
    file = _file(where, path, (".npz", ".safetensors"))
    found = _npz(where, file) if file.suffix.lower() == ".npz" else _safetensors(where, file)
    for key in ("x", "y"):
        if key not in found:
            raise ConfigError(
                f"{where}: holds no array {key!r}; needed: x and y. It holds {listed(sorted(found)) or 'nothing'}"
            )
    return from_arrays(
        found["x"],
        found["y"],
        kind=kind,
        name=file.stem,
        missing=missing,
        valid=valid,
        test=test,
        seed=seed,
        standardise=standardise,
        source=file.name,
    )


def _npz(where: str, file: Path) -> Mapping[str, npt.NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{where}: cannot be read as npz: {error}") from error


def _safetensors(where: str, file: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{where}: cannot be read as safetensors: {error}") from error


def _bundled(name: str, load: Callable[[], Any], words: str, valid: float, test: float, seed: int) -> Task:
    """A set that comes with scikit-learn, through the same path as a table."""
    import pandas as pd
    import sklearn

    data = load()
    if hasattr(data, "target_names"):
        labels = pd.Categorical.from_codes(data.target, pd.Index([str(n) for n in data.target_names]))
        target = pd.DataFrame({"class": labels})
    else:
        target = data.target.to_frame()
    return from_frames(
        data.data,
        target,
        name=name,
        where=f"task {name!r}",
        source=f"{words}; bundled with scikit-learn {sklearn.__version__}, {len(target)} rows",
        valid=valid,
        test=test,
        seed=seed,
    )


def breast_cancer(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Breast Cancer Wisconsin (diagnostic): 569 rows, 30 features of cell nuclei, malignant or benign.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: UCI, by scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    words = "Breast Cancer Wisconsin (diagnostic), UCI"
    return _bundled("breast_cancer", lambda: load_breast_cancer(as_frame=True), words, valid, test, seed)


def iris(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Iris: 150 flowers, 4 lengths in cm, 3 species.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: Fisher 1936, by scikit-learn.
    """
    from sklearn.datasets import load_iris

    return _bundled("iris", lambda: load_iris(as_frame=True), "Iris, Fisher 1936", valid, test, seed)


def wine(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Wine: 178 wines, 13 chemical measurements, 3 growers.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: UCI, by scikit-learn.
    """
    from sklearn.datasets import load_wine

    return _bundled("wine", lambda: load_wine(as_frame=True), "Wine recognition, UCI", valid, test, seed)


def digits(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Digits: 1,797 images of 8 x 8 pixels, 10 classes.

    Stratified splits; pixels with mean 0 and standard deviation 1 on the training split, without those that are constant there
    (about 3 of 64, which ones depends on ``seed``; for whole images use `from_arrays` with ``standardise=False``).
    Source: UCI optical recognition of handwritten digits, test part, by scikit-learn.
    """
    from sklearn.datasets import load_digits

    words = "Optical recognition of handwritten digits, UCI"
    return _bundled("digits", lambda: load_digits(as_frame=True), words, valid, test, seed)


def diabetes(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Diabetes: 442 patients, 10 measurements, disease progression after a year (regression).

    Random splits; inputs and target with mean 0 and standard deviation 1 on the training split, from the raw measurements
    (scikit-learn's own scaling uses all rows). Source: Efron et al. 2004, by scikit-learn.
    """
    from sklearn.datasets import load_diabetes

    words = "Diabetes, Efron et al. 2004"

    def load() -> Any:
        data = load_diabetes(as_frame=True, scaled=False)
        data.target = data.target.rename("progression")
        return data

    return _bundled("diabetes", load, words, valid, test, seed)


def _counts(where: str, least: int = 1, **counts: int) -> None:
    for name, value in counts.items():
        if value < least:
            raise ConfigError(f"{where}: {name}={value}; needed: a whole number >= {least}")


def xor(
    *,
    samples: int = 200,
    noise: float = 0.1,
    balanced: bool = True,
    loss: Literal["mse", "logistic"] = "mse",
    samples_valid: int = 200,
    samples_test: int = 1000,
    seed: int = 0,
) -> Task:
    """XOR: the corners of the unit square plus N(0, noise) on both inputs; the target is the xor of the clean corner, 0 or 1.

    ``balanced``: the four corners in turn; otherwise drawn at random. Train, valid and test are independent draws. Not
    scaled. ``loss``: mean squared error on 0/1, cut at 1/2, or logistic. 6 edges without bias are exact at noise 0:
    ``relu(a - b) + relu(b - a)``.
    """
    where = "task 'xor'"
    _counts(where, least=2, samples=samples)
    _counts(where, samples_valid=samples_valid, samples_test=samples_test)
    if noise < 0.0:
        raise ConfigError(f"{where}: noise={noise}; needed: a standard deviation >= 0")

    def draw(stream: int, n: int) -> Part:
        random = generator(where, seed, stream)
        corner = np.arange(n) % 4 if balanced else random.integers(0, 4, n)
        clean = np.stack([corner // 2, corner % 2], axis=1)  # (N, 2)
        y = (clean[:, :1] != clean[:, 1:]).astype(np.float64)
        return Part(clean + noise * random.standard_normal((n, 2)), y)

    parts = [draw(stream, n) for stream, n in enumerate((samples, samples_valid, samples_test))]
    source = f"made: xor, noise {noise}, seed {seed}"
    return assemble("xor", "binary", loss, parts, ("a", "b"), ("0", "1"), Scale.none(2), Scale.none(1), source, {})


def addition(*, samples: int = 200, samples_valid: int = 200, samples_test: int = 1000, seed: int = 0) -> Task:
    """Addition: a and b from N(0, 1), the target is a + b, exact.

    Train, valid and test are independent draws. Not scaled. Two skip edges, or 3 edges through one linear unit, are exact.
    """
    where = "task 'addition'"
    _counts(where, least=2, samples=samples)
    _counts(where, samples_valid=samples_valid, samples_test=samples_test)

    def draw(stream: int, n: int) -> Part:
        x = generator(where, seed, stream).standard_normal((n, 2))
        return Part(x, x.sum(1, keepdims=True))

    parts = [draw(stream, n) for stream, n in enumerate((samples, samples_valid, samples_test))]
    source = f"made: a + b, seed {seed}"
    return assemble("addition", "regression", "mse", parts, ("a", "b"), ("a + b",), Scale.none(2), Scale.none(1), source, {})


def cornn(*, function: str, train: int = 3750, test: int = 1250, valid: float = 0.2, seed: int = 0) -> Task:
    """CORNN: one of 54 functions of two variables by name (regression), e.g. Ackley, Booth, Egg Holder, Zakharov.

    ``train`` + ``test`` points uniform on the function's domain; ``valid`` is the share of the training points that is held
    back for validation (750 of 3,750; the benchmark has none). Inputs are scaled to [-1, 1] by the domain, the target by its
    smallest and largest value over all ``train`` points, so that test targets may lie a little outside. Our own draws: the
    benchmark's distribution, not its files. Source: Malan & Cleghorn 2022, arXiv:2109.05606, with its formulae, six of
    which are not the textbook's (see `nasplug.cornn`).
    """
    where = "task 'cornn'"
    f = find(function)
    _counts(where, least=4, train=train)
    _counts(where, test=test)
    held = round(valid * train)
    if not (0.0 < valid < 1.0 and 1 <= held <= train - 2):
        raise ConfigError(
            f"{where}: valid={valid} of train={train} gives {held} samples for validation; needed: a share above 0 and below 1 "
            "that leaves one there and two for training"
        )
    low, high = np.array([f.x[0], f.y[0]], dtype=np.float64), np.array([f.x[1], f.y[1]], dtype=np.float64)

    def draw(stream: int, n: int) -> Part:
        x = low + (high - low) * generator(where, seed, stream).random((n, 2))
        return Part(x, f.value(x[:, 0], x[:, 1])[:, None])

    given = draw(0, train)
    parts = [Part(given.x[held:], given.y[held:]), Part(given.x[:held], given.y[:held]), draw(1, test)]
    outputs = Scale.box(given.y.min(0), given.y.max(0))
    source = f"CORNN {f.name}, Malan & Cleghorn 2022, arXiv:2109.05606; our own draw, seed {seed}"
    return assemble(f.name, "regression", "mse", parts, ("x", "y"), ("f",), Scale.box(low, high), outputs, source, {})


@hookimpl
def register_tasks(register: Register) -> None:
    """Our own tasks, registered like a stranger's."""
    for factory in (table, arrays, breast_cancer, iris, wine, digits, diabetes, xor, addition, cornn):
        register(factory.__name__, factory)
