"""`SmallNetworkClassifier` and `SmallNetworkRegressor`: a study behind `fit` and `predict`."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
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

from nasplug import results
from nasplug.compact import CompactNetwork
from nasplug.config import parse
from nasplug.data.encoder import listed
from nasplug.data.recipe import TableFacts, recipe
from nasplug.errors import ConfigError
from nasplug.explain import Background, contributions
from nasplug.folds import candidates
from nasplug.plan import UntemperedError
from nasplug.plugins import load_plugins
from nasplug.sklearn.budget import InTime, affordable
from nasplug.sklearn.inputs import Fitted, advice, frame_of, refuse_gaps, task_of, words_for
from nasplug.sklearn.memory import beside, held
from nasplug.sklearn.options import SECTIONS, check_options
from nasplug.study import Study
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InputError", "SmallNetworkClassifier", "SmallNetworkRegressor"]

FEW = 2_000  # rows: below, ``folds="auto"`` is five folds
LEVELS = (1e-4, 1e-1)
PACK = 512  # networks: here packs run one after another, and few large ones take less time than many small ones


class InputError(ConfigError, ValueError):
    """Data or options that nothing can be learned with; a ValueError, as scikit-learn has it."""


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
        began = time.perf_counter()
        check_options(self)
        self.__dict__.pop("network_", None)  # if this fit fails, the network of an earlier one must not answer with new classes
        try:
            given = self._given(X, y, sample_weight)
            self._search(given, began)
        except InputError:
            raise
        except ConfigError as error:
            raise InputError(advice(str(error))) from None
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

    def _search(self, given: Fitted, began: float) -> None:
        """A study of it, and what is kept of that."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        made = self._study(given)
        folds = int(self.folds) if self.folds != "auto" else 5 if len(given.x) < FEW else 1
        task = task_of(given, name=type(self).__name__, numeric=made["task"]["numeric"], folds=folds, seed=seed)
        if idle := [name for name in self._names() if name not in task.columns]:
            self._warn(
                f"column(s) {listed(idle)} have no value, or one alone, in the rows to train on: nothing can be learned from "
                "them, and they are left out"
            )
        self._settle(made, task, seed)
        place: AbstractContextManager[str]
        place = (
            nullcontext(os.path.abspath(self.folder))
            if self.folder is not None
            else tempfile.TemporaryDirectory(prefix="nasplug-")
        )
        with held(task) as named, place as folder:
            made |= {"task": named, "store": os.path.dirname(folder), "study": os.path.basename(folder)}
            plugins = beside()
            if isinstance(self.method, Mapping) and ("use" in self.method or "temperature" not in self.method):
                try:
                    Study(parse(made), plugins, fast=True).plan()
                except UntemperedError:  # it is the recipe's own, and this method is another one
                    made["temperature"] = None
            runner = InTime()
            if self.time_limit is not None:
                study = Study(parse(made), plugins, fast=True)
                left = self.time_limit - (time.perf_counter() - began)
                most, tuned = (made["train"][key] for key in ("steps", "finetune"))
                most = most if isinstance(most, int) else int(self.steps)
                steps, runner.lines = affordable(study.config, study.plan(), plugins, left, most)
                tuned = min(tuned, steps // 5) if isinstance(tuned, int) else steps // 5
                made["train"] |= {"steps": steps, "finetune": tuned}
                runner.until = began + self.time_limit
            study = Study(parse(made), plugins, fast=isinstance(self.method, str))
            study.run(runner, progress=bool(self.verbose), report=False)
            if told := self._keep(study, made["train"]["steps"]):
                self._warn(told)
        self._background = Background.of_task(task)

    def _study(self, given: Fitted) -> dict[str, Any]:
        """The study that `nasplug look` proposes for a table of this size, with this estimator's options."""
        numbers = sum(dtype.kind in "iufM" for dtype in given.x.dtypes)
        categories = given.x.shape[1] - numbers
        made = recipe(TableFacts("fit.csv", "y", given.kind, len(given.x), numbers, categories, gaps=True))
        task = made["task"]
        task.setdefault("numeric", "linear")
        if self.numeric != "auto":
            task["numeric"] = self.numeric
        penalty = made["penalties"][0]
        low, high = LEVELS
        penalty["level"] = {"log": [low, high], "points": int(self.levels)} if self.levels > 1 else (low * high) ** 0.5
        made["train"] |= {"steps": int(self.steps), "finetune": int(self.steps) // 5}
        if isinstance(self.method, Mapping):
            own = {"method": dict(self.method)} if "use" in self.method else dict(self.method)
            train = made["train"] | dict(own.pop("train", {}))
            made |= {key: deepcopy(own[key]) for key in SECTIONS if key in own} | {"train": train}
        return made

    def _settle(self, made: dict[str, Any], task: Task, seed: int) -> None:
        """What depends on the rows, and on chance."""
        batch, samples = made["train"].get("batch"), task.train.samples
        if isinstance(batch, int) and batch > samples:
            made["train"]["batch"] = "full"
        made["train"]["data_seed"] = seed
        made |= {"seeds": [seed + i for i in range(self.seeds)], "mlflow": None, "linear": bool(self.linear)}
        made["resources"] = {"pack": PACK}
        made["reach"] = None if self.levels == 1 else int(self.max_parameters or 10)
        if self.monotone is not None:
            names = set(self._names()) - set(task.columns)  # nothing is learned from these
            made["monotone"] = {name: way for name, way in self._directions().items() if name not in names}

    def _directions(self) -> dict[str, int]:
        """Column -> 1 or -1."""
        names = self._names()
        if isinstance(self.monotone, Mapping):
            return {str(name): int(way) for name, way in self.monotone.items() if way}
        ways = [] if self.monotone is None else list(self.monotone)
        if len(ways) != len(names):
            raise InputError(f"monotone: {len(ways)} directions for {len(names)} columns; needed: one per column, or a mapping")
        return {name: int(way) for name, way in zip(names, ways, strict=True) if way}

    def _keep(self, study: Study, steps: Any) -> str:
        """The chosen network; returns what there is to say of it."""
        frame, error = results.judged(study.frame, study.facts_of, study.config.choose)
        rows = every = candidates(frame)
        if self.max_parameters is not None:
            few = rows[rows["parameters"] <= self.max_parameters]
            if not (few["status"] == "finished").any():
                least = rows.loc[rows["status"] == "finished", "parameters"].min()
                raise InputError(
                    f"max_parameters: {self.max_parameters}; the smallest network that was found has {least:.0f}. Raise it, or "
                    "levels"
                )
            rows = few
        front = results.front(rows, error)
        best = front.iloc[int(front[error].argmin())]
        facts = study.facts_of(str(best["replica"]))
        kept = results.as_good(front, best, frame, error, facts, study.config.choose).iloc[0]
        chosen = str(kept["replica"])
        shown = study.narrow(front)
        shown = shown[[name for name in shown.columns if not name.startswith("test_")]]
        self.front_ = shown.assign(chosen=(shown["replica"] == chosen).to_numpy())
        self.network_: CompactNetwork = study.network(chosen)
        # A method's own sections may sweep them; linear networks have steps of their own.
        self.steps_ = int(steps if isinstance(steps, int) else frame["train.steps"].max())
        return self._too_few(every, kept, error)

    def _too_few(self, rows: pd.DataFrame, kept: pd.Series[Any], error: str) -> str:
        """What is said of a constant that is kept for want of parameters; empty where there is none."""
        better = rows[(rows["status"] == "finished") & (rows[error] < kept[error])]
        if self.max_parameters is None or self.network_.record["kept_inputs"] or better.empty:
            return ""
        return (
            f"max_parameters={self.max_parameters}: what is kept reads no column and says the same for each row; the smallest "
            f"better network that was found has {better['parameters'].min():.0f} parameters. Raise max_parameters or levels"
            + ("" if self.linear else ", or take linear=True: linear networks get by with few parameters")
        )

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
        names = [str(name) for name in getattr(y, "columns", ())]
        self._single = values.ndim == 1
        values = values.reshape(len(values), -1)
        targets = names if len(set(names)) == values.shape[1] else [f"y{i}" for i in range(values.shape[1])]
        return values, None, tuple(targets)

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Numbers in the units of y: ``(N,)``, or ``(N, O)`` as y was."""
        found = self._outputs(X)
        return found[:, 0] if self._single else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
