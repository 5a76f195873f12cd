"""`SmallNetworkClassifier` and `SmallNetworkRegressor`: a study behind `fit` and `predict`."""

from __future__ import annotations

import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from nasplug.errors import ConfigError
from nasplug.sklearn.inputs import Fitted, advice, frame_of, refuse_gaps, words_for
from nasplug.sklearn.options import InputError, check_options

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InputError", "SmallNetworkClassifier", "SmallNetworkRegressor"]


class _SmallNetwork(BaseEstimator, ABC):  # type: ignore[misc]
    """What both have in common."""

    def __init__(
        self,
        *,
        max_parameters: int | None = None,
        method: str | Mapping[str, Any] = "edges",
        numeric: Literal["auto", "linear", "piecewise"] = "auto",
        monotone: Mapping[str, int] | Sequence[int] | None = None,
        levels: int = 12,
        steps: int = 500,
        seeds: int = 1,
        folds: int | Literal["auto"] = "auto",
        linear: bool = True,
        time_limit: float | None = None,
        random_state: Any = None,
        folder: str | os.PathLike[str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.max_parameters = max_parameters
        self.method = method
        self.numeric = numeric
        self.monotone = monotone
        self.levels = levels
        self.steps = steps
        self.seeds = seeds
        self.folds = folds
        self.linear = linear
        self.time_limit = time_limit
        self.random_state = random_state
        self.folder = folder
        self.verbose = verbose

    # -- fitting -------------------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Search small networks, and keep the chosen one.

        Args:
            X: a data frame (numbers, words, truth values, dates; gaps) or an array, ``(N, I)``.
            y: labels, or numbers ``(N,)`` or ``(N, O)``.
            sample_weight: how much each row counts, >= 0, ``(N,)``; a row of weight 0 is left out.

        Raises:
            ValueError: for options and data that nothing can be learned with.
        """
        from nasplug.sklearn.searching import search  # a study and all that it needs: who only reads options waits for less

        began = time.perf_counter()
        check_options(self)
        self.__dict__.pop("network_", None)  # if this fit fails, the network of an earlier one must not answer with new classes
        try:
            given = self._given(X, y, sample_weight)
            kept = search(self, given, self._names(), self._warn, began)
        except InputError:
            raise
        except ConfigError as error:
            raise InputError(advice(str(error))) from None
        self.front_, self.network_, self.steps_ = kept.front, kept.network, kept.steps
        self._background = kept.background
        return self

    def _given(self, X: Any, y: Any, sample_weight: Any) -> Fitted:
        """The arguments of `fit`, checked."""
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        frame = self._frame(X, reset=True)
        check_consistent_length(frame, y)
        values, classes, targets = self._target(y)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, frame, dtype=np.float64, ensure_non_negative=True)
            frame, values = frame[weights > 0], values[weights > 0]
            weights = weights[weights > 0]
            weights = None if (weights == weights[0]).all() else weights
        if len(frame) < 2:
            raise InputError(f"{type(self).__name__}: there is 1 sample; needed: two at least (n_samples = 1)")
        if classes is None and bool((values == values[:1]).all(0).any()):
            raise InputError(
                f"{type(self).__name__}: y does not vary in the rows that count; there is nothing to learn from it"
            )
        if classes is not None:
            present = np.unique(values)
            if len(present) < 2:
                raise InputError(
                    f"{type(self).__name__}: y has one class only, {classes[present].tolist()[0]!r}, in the rows that count; "
                    "needed: two classes at least"
                )
            classes, values = classes[present], np.searchsorted(present, values)
            self.classes_ = classes
        return Fitted(frame, values, () if classes is None else words_for(classes), targets, weights)

    @abstractmethod
    def _target(self, y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, tuple[str, ...]]:
        """Numbers ``(N, O)``, or places among classes, and the classes; names of the outputs."""

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X as a data frame with the names of its columns, refused where it has others than in `fit`."""
        import pandas as pd

        if isinstance(X, pd.DataFrame):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            frame = X
            if len(frame) < 1 or not frame.shape[1]:
                raise InputError(f"X has {len(frame)} sample(s) and {frame.shape[1]} feature(s); needed: 1 of each at least")
            names = self._names()
            if len(set(names)) < len(names):
                raise InputError(f"X has columns of the same name: {sorted({n for n in names if names.count(n) > 1})[:8]}")
            return frame.set_axis(pd.Index(names, dtype=object), axis=1)
        values = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        return frame_of(values, self._names())

    def _names(self) -> list[str]:
        """One name per column, as scikit-learn makes them where X has none."""
        if hasattr(self, "feature_names_in_"):
            return [str(name) for name in self.feature_names_in_]
        return [f"x{i}" for i in range(self.n_features_in_)]

    def _warn(self, text: str) -> None:
        warnings.warn(f"{type(self).__name__}: {text}", UserWarning, stacklevel=4)  # where `fit` was called

    # -- answering -----------------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> npt.NDArray[np.float64]:
        """What the network says, ``(N, O)``, computed in float64: each row's answer is its own, whatever rows are beside it."""
        check_is_fitted(self, "network_")
        frame = self._frame(X, reset=False)
        try:
            features = self.network_.features(frame)
        except ConfigError as error:
            raise InputError(str(error)) from None
        with torch.no_grad():
            found: npt.NDArray[np.float64] = deepcopy(self.network_).double()(torch.from_numpy(features)).numpy()
        return found

    def explain(self, X: Any) -> pd.DataFrame:
        """What each column adds to each prediction, in a table: `nasplug.explain.contributions`, compared with rows of `fit`.

        Raises:
            ValueError: for rows that cannot be predicted.
        """
        from nasplug.explain import contributions

        check_is_fitted(self, "network_")
        frame = self._frame(X, reset=False)
        try:
            return contributions(self.network_, frame, self._background)
        except ConfigError as error:
            raise InputError(str(error)) from None

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Names of the columns of X that the network reads.

        Args:
            input_features: names of the columns of X, as a pipeline passes them along; they must be those of `fit`, if that
                was given names.
        """
        check_is_fitted(self, "network_")
        names = self._names()
        shown = names if input_features is None else [str(name) for name in input_features]
        if len(shown) != len(names):
            raise ValueError(f"input_features should have length equal to number of features ({len(names)}), got {len(shown)}")
        if shown != names and hasattr(self, "feature_names_in_"):
            raise ValueError("input_features is not equal to feature_names_in_")
        record = self.network_.record
        groups, columns = record.get("groups"), record.get("columns", record["features"])
        read = {columns[groups[i] if groups else i] for i in record["kept_inputs"]}
        return np.asarray([told for told, name in zip(shown, names, strict=True) if name in read], dtype=object)

    # -- living in scikit-learn ----------------------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "network_" in state:
            network = state["network_"]
            state["network_"] = (network.record, {name: t.numpy() for name, t in network.state_dict().items()})
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        from nasplug.compact import CompactNetwork
        from nasplug.plugins import load_plugins

        state = dict(state)
        if isinstance(state.get("network_"), tuple):
            record, weights = state["network_"]
            network = CompactNetwork(record, load_plugins().functions)
            network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})
            state["network_"] = network.eval()
        super().__setstate__(state)

    def _html_repr(self) -> str:
        own = super()._html_repr()
        return f"{own}{self.network_._repr_html_()}" if hasattr(self, "network_") else str(own)


class SmallNetworkClassifier(ClassifierMixin, _SmallNetwork):  # type: ignore[misc]
    """The smallest network that is as good as the best, for labels.

    `fit` trains ``levels x seeds x folds`` networks in one process, one after another on one thread, discretizes them, trains
    what is on the Pareto front of mean error and size again on all rows, and keeps the smallest that is within one standard
    error of the best. It is the study that `nasplug look` proposes, without a file.

    Args:
        max_parameters: the most that the kept network may have (weights and biases that are not 0); None: any number.
        method: ``"edges"``, the section ``method:`` of a study, or several sections (`nasplug.sklearn.options.SECTIONS`).
        numeric: ``"linear"``: a number is one input; ``"piecewise"``: with ramps between its quantiles, still one column
            everywhere; ``"auto"``: ramps from 300 rows on.
        monotone: ``{column: 1}`` (what is predicted, of two classes the probability of the second, never falls with it) or -1;
            or one of 1, 0, -1 per column. Held exactly, for all values.
        levels: of the penalty, from networks that are dense to such that are almost empty.
        steps: of training; a fifth of it is fine-tuning on top.
        seeds: of each level.
        folds: that validate: ``"auto"`` is 5 below 2,000 rows, else 1, which is a hold-out of a fifth.
        linear: whether an L1 path of linear networks is searched beside.
        time_limit: in seconds; None: none. Steps are shortened before training, by the measured speed of the first, and packs
            that begin late are left out (`nasplug.sklearn.budget`). The result then depends on the machine.
        random_state: as everywhere in scikit-learn: an int makes `fit` repeatable.
        folder: to keep the study's files in (`nasplug.Study.open` reads them); None: a temporary one, which is removed.
        verbose: whether to show progress.

    Attributes:
        network_: the kept `nasplug.CompactNetwork`, on raw columns by name.
        front_: a data frame of the Pareto front: sizes, validation scores, level, and which is ``chosen``.
        steps_: that were trained; the most, where the sections of ``method`` sweep them.
        classes_: labels, in the order of `predict_proba`.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    >>> SmallNetworkClassifier(max_parameters=30, random_state=0).fit(X, y).score(X, y)  # doctest: +SKIP
    """

    def _target(self, y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, tuple[str, ...]]:
        refuse_gaps(y)
        y = column_or_1d(check_array(y, ensure_2d=False, dtype=None, input_name="y"), warn=True)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        return codes, classes, ("y",)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities of the classes, ``(N, C)``, in the order of ``classes_``."""
        found = self._outputs(X)
        return np.hstack([1.0 - found, found]) if found.shape[1] == 1 else found

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The likeliest class of each row, ``(N,)``."""
        codes = self.predict_proba(X).argmax(1)
        found: npt.NDArray[Any] = self.classes_[codes]
        return found


class SmallNetworkRegressor(RegressorMixin, _SmallNetwork):  # type: ignore[misc]
    """The smallest network that is as good as the best, for numbers: one target, or several.

    Options and attributes are those of `SmallNetworkClassifier`, without ``classes_``. Errors in ``front_`` are squared, in
    units of the target's variance (the mean over several targets).
    """

    def _target(self, y: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, tuple[str, ...]]:
        values = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        named = getattr(y, "columns", [getattr(y, "name", None)])
        taken = set(self._names())  # a column of X by the same name keeps it
        names = [name for name in named if isinstance(name, str) and name.strip() and name not in taken]
        self._single = values.ndim == 1
        values = values.reshape(len(values), -1)
        targets = names if len(set(names)) == len(names) == values.shape[1] else [f"y{i}" for i in range(values.shape[1])]
        return values, None, tuple(targets)

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Numbers in the units of y: ``(N,)``, or ``(N, O)`` as y was."""
        found = self._outputs(X)
        return found[:, 0] if self._single else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
