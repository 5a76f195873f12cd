"""The tasks that come with nasplug: a table or arrays from a file, scikit-learn's bundled sets, and made data (`made`)."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nasplug.data.columns import AnyKind, from_frames
from nasplug.data.fitting import Gaps, Numeric, few
from nasplug.data.made import addition, cornn, xor
from nasplug.data.origins import digest_of_frames
from nasplug.data.tables import file_of, known, table
from nasplug.data.transforms import TransformName
from nasplug.data.validation import ValidationOption, validation_of
from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl
from nasplug.rows import listed
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "arrays",
    "breast_cancer",
    "diabetes",
    "digits",
    "from_arrays",
    "iris",
    "table",
    "wine",
]


def from_arrays(
    x: npt.NDArray[Any] | Tensor | pd.DataFrame,
    y: npt.NDArray[Any] | Tensor | pd.Series[Any] | pd.DataFrame,
    *,
    kind: AnyKind,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    name: str = "tensors",
    exclude: Sequence[str] | None = None,
    missing: Gaps = "refuse",
    numeric: Numeric = "linear",
    bins: int | None = None,
    transform: TransformName = "none",
    validation: ValidationOption | Mapping[str, Any] = "auto",
    by: npt.NDArray[Any] | Tensor | pd.Series[Any] | Sequence[Any] | None = None,
    test: float = 0.2,
    seed: int = 0,
    standardise: bool = True,
    source: str = "",
) -> Task:
    """A task from arrays, tensors or data frames: ``x (N, I)``; ``y (N,)`` or ``(N, O)``, numbers or labels.

    The columns of a data frame may hold anything that a file may, and keep their names. ``features``: one name per input
    (default: the frame's, else x0, x1, ...). ``targets``: one name per output for regression (default: the frame's, else y0,
    ...), one name per class, in sorted order, for labels. ``by``: the values that ``validation`` goes by, where it names some,
    ``(N,)``. ``exclude``: names of inputs that are left out. ``missing``, ``numeric``, ``bins``, ``transform``, splits and
    units as in `table`; ``standardise=False`` keeps x and y as they are, constant columns too.

    Raises:
        ConfigError: for shapes, types and values that cannot be learned from.
    """
    import pandas as pd

    where = f"task {name!r}"
    inputs = x if isinstance(x, pd.DataFrame) else _array(x)
    outputs = y if isinstance(y, pd.DataFrame | pd.Series) else _array(y)
    if inputs.ndim != 2 or outputs.ndim not in (1, 2) or len(inputs) != len(outputs) or 0 in outputs.shape[1:]:
        raise ConfigError(
            f"{where}: x {inputs.shape}, y {outputs.shape}; needed: x (rows, features), y (rows,) or (rows, outputs), "
            "with as many rows. Flatten images to rows first"
        )
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind not in "buif":
        raise ConfigError(f"{where}: x holds {inputs.dtype}; needed: numbers. For text, give a data frame, or use task 'table'")
    few(where, inputs.shape[1] - len(exclude or ()), len(inputs))
    columns = 1 if outputs.ndim == 1 else outputs.shape[1]
    if columns > 1 and kind in ("binary", "classes") and isinstance(outputs, np.ndarray):
        raise ConfigError(
            f"{where}: y {outputs.shape} has {columns} columns; kind {kind!r} takes one column of labels "
            "(for one-hot rows: y.argmax(1))"
        )
    own = list(map(str, inputs.columns)) if isinstance(inputs, pd.DataFrame) else [f"x{i}" for i in range(inputs.shape[1])]
    names = list(features) if features is not None else own
    if len(names) != inputs.shape[1] or len(set(names)) < len(names):
        raise ConfigError(
            f"{where}: features names {listed(names)}; needed: {inputs.shape[1]} distinct names, one per column of x"
        )
    going = None if by is None else pd.Series(by if isinstance(by, pd.Series | Sequence) else _array(by))
    if going is not None and len(going) != len(inputs):
        raise ConfigError(f"{where}: by has {len(going)} values for {len(inputs)} rows; needed: one per row")
    frame, answers = pd.DataFrame(inputs).set_axis(names, axis=1), _frame_of(outputs)
    raw = source or name, digest_of_frames((frame, answers, going))
    notes: dict[str, str] = {}
    if exclude is not None:
        known(where, "exclude", exclude, names)
        frame, notes["excluded"] = frame.drop(columns=list(exclude)), f"left out, by 'exclude': {listed(exclude)}"
    return from_frames(
        frame,
        answers,
        name=name,
        where=where,
        source=f"{source or 'arrays'}: {len(inputs)} rows",
        kind=kind,
        missing=missing,
        numeric=numeric,
        bins=bins,
        transform=transform,
        named=targets,
        validation=validation,
        by=going,
        test=test,
        seed=seed,
        standardise=standardise,
        notes=notes,
        raw=raw,
    )


def _frame_of(y: npt.NDArray[Any] | pd.Series[Any] | pd.DataFrame) -> pd.DataFrame:
    """Targets as columns."""
    import pandas as pd

    if isinstance(y, pd.DataFrame):
        return y
    if isinstance(y, pd.Series):
        return y.to_frame("y0" if y.name is None else str(y.name))
    y = y.reshape(len(y), math.prod(y.shape[1:]))
    return pd.DataFrame({f"y{i}": y[:, i] for i in range(y.shape[1])})


def _array(values: npt.NDArray[Any] | Tensor) -> npt.NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):  # what is masked is missing
        return np.asarray(np.ma.filled(values.astype(np.float64 if values.dtype.kind in "buif" else object), np.nan))
    if not isinstance(values, Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    # numpy has no bfloat16
    return (values.double() if values.is_floating_point() else values).numpy()


def arrays(
    *,
    path: str,
    kind: AnyKind = "auto",
    exclude: list[str] | None = None,
    missing: Gaps = "refuse",
    numeric: Numeric = "linear",
    bins: int | None = None,
    transform: TransformName = "none",
    standardise: bool = True,
    validation: ValidationOption = "auto",
    test: float = 0.2,
    seed: int = 0,
) -> Task:
    """An .npz or .safetensors file that holds ``x`` (rows, features) and ``y`` (rows,) or (rows, outputs).

    Inputs are called x0, x1, ... ``kind``, ``exclude`` (``[x3]``), ``missing``, ``numeric``, ``bins``, ``transform``, splits
    and units as in `table`; ``standardise: false`` keeps the values as they are. What ``validation`` goes by is a further array
    of the file, ``(rows,)``.
    """
    where = f"task 'arrays', {path}"
    file = file_of(where, path, (".npz", ".safetensors"))
    found = _npz(where, file) if file.suffix.lower() == ".npz" else _safetensors(where, file)
    by = validation_of(validation, where).by
    for key in ("x", "y") if by is None else ("x", "y", by):
        if key not in found:
            raise ConfigError(
                f"{where}: holds no array {key!r}; needed: x and y{'' if by is None else f', and {by} to validate by'}. "
                f"It holds {listed(sorted(found)) or 'nothing'}"
            )
    return from_arrays(
        found["x"],
        found["y"],
        kind=kind,
        name=file.stem,
        exclude=exclude,
        missing=missing,
        numeric=numeric,
        bins=bins,
        transform=transform,
        validation=validation,
        by=None if by is None else found[by],
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


def _bundled(name: str, load: Callable[[], Any], words: str, validation: ValidationOption, test: float, seed: int) -> Task:
    """A set that comes with scikit-learn, through the same path as a table."""
    import pandas as pd
    import sklearn

    data = load()
    if hasattr(data, "target_names"):
        labels = pd.Categorical.from_codes(data.target, pd.Index([str(n) for n in data.target_names]))
        target = pd.DataFrame({"class": labels})
    else:
        target = data.target.to_frame()
    where, by = f"task {name!r}", validation_of(validation).by
    if by is not None:
        known(where, "validation: by", [by], list(data.data.columns))
    return from_frames(
        data.data if by is None else data.data.drop(columns=by),
        target,
        name=name,
        where=where,
        source=f"{words}; bundled with scikit-learn {sklearn.__version__}, {len(target)} rows",
        validation=validation,
        by=None if by is None else data.data[by],
        test=test,
        seed=seed,
        raw=(name, digest_of_frames((data.data, target))),
    )


def breast_cancer(*, validation: ValidationOption = "auto", test: float = 0.2, seed: int = 0) -> Task:
    """Breast Cancer Wisconsin (diagnostic): 569 rows, 30 features of cell nuclei, malignant or benign.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: UCI, by scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer

    words = "Breast Cancer Wisconsin (diagnostic), UCI"
    return _bundled("breast_cancer", lambda: load_breast_cancer(as_frame=True), words, validation, test, seed)


def iris(*, validation: ValidationOption = "auto", test: float = 0.2, seed: int = 0) -> Task:
    """Iris: 150 flowers, 4 lengths in cm, 3 species.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: Fisher 1936, by scikit-learn.
    """
    from sklearn.datasets import load_iris

    return _bundled("iris", lambda: load_iris(as_frame=True), "Iris, Fisher 1936", validation, test, seed)


def wine(*, validation: ValidationOption = "auto", test: float = 0.2, seed: int = 0) -> Task:
    """Wine: 178 wines, 13 chemical measurements, 3 growers.

    Stratified splits; inputs with mean 0 and standard deviation 1 on the training split. Source: UCI, by scikit-learn.
    """
    from sklearn.datasets import load_wine

    return _bundled("wine", lambda: load_wine(as_frame=True), "Wine recognition, UCI", validation, test, seed)


def digits(*, validation: ValidationOption = "auto", test: float = 0.2, seed: int = 0) -> Task:
    """Digits: 1,797 images of 8 x 8 pixels, 10 classes.

    Stratified splits; pixels with mean 0 and standard deviation 1 on the training split, without those that are constant there
    (about 3 of 64, which ones depends on ``seed``; for whole images use `from_arrays` with ``standardise=False``).
    Source: UCI optical recognition of handwritten digits, test part, by scikit-learn.
    """
    from sklearn.datasets import load_digits

    words = "Optical recognition of handwritten digits, UCI"
    return _bundled("digits", lambda: load_digits(as_frame=True), words, validation, test, seed)


def diabetes(*, validation: ValidationOption = "auto", test: float = 0.2, seed: int = 0) -> Task:
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

    return _bundled("diabetes", load, words, validation, test, seed)


@hookimpl
def register_tasks(register: Register) -> None:
    """The tasks of nasplug, registered like a plugin's."""
    for factory in (table, arrays, breast_cancer, iris, wine, digits, diabetes, xor, addition, cornn):
        register(factory.__name__, factory)
