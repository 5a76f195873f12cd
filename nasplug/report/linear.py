"""A linear baseline to hold a study's network against."""

from __future__ import annotations

import inspect
import json
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug import results
from nasplug.plan import task_places
from nasplug.report.finished import Finished
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Baseline", "Fit", "baseline", "compare", "shown_error", "write_baseline"]

Array = npt.NDArray[np.float64]

MOST_SAMPLES = 20_000  # training samples; above this the baseline would take longer than many a study
MOST_CELLS = 4_000_000  # training samples x inputs x outputs, likewise
GRID = 20


@dataclass(frozen=True, slots=True)
class Fit:
    """A linear model at one strength of its penalty.

    Attributes:
        strength: ``C`` of the logistic regression (larger: weaker penalty) or ``alpha`` of Lasso.
        edges: coefficients that are not zero.
        inputs: features with such a coefficient.
        parameters: edges plus the intercepts that are not zero.
        valid_error: share of wrong labels, or mean squared error of the standardised target.
        test_error: likewise; shown, never used to choose.
        converged: whether the solver met its tolerance.
    """

    strength: float
    edges: int
    inputs: int
    parameters: int
    valid_error: float
    test_error: float
    converged: bool


@dataclass(frozen=True, slots=True)
class Baseline:
    """scikit-learn's L1 logistic regression (labels) or Lasso (regression) on the study's own splits.

    Attributes:
        name: in words.
        best: the fit with the lowest validation error; of those that tie, the one with the fewest parameters.
        simplest: the smallest fit that is as good as the best within `nasplug.results.slack`: the rule that chooses a network.
        standard_error: of the test error of ``best``: ``sqrt(e (1 - e) / N)`` for labels, else the standard deviation of the
            squared errors over ``sqrt(N)``.
        test_samples: N.
        path: every fit, strongest penalty first.
    """

    name: str
    best: Fit
    simplest: Fit
    standard_error: float
    test_samples: int
    path: tuple[Fit, ...]


def _refusal(task: Task) -> str:
    """Why a task gets no baseline; empty where it gets one."""
    samples, cells = task.train.samples, task.train.samples * task.inputs * task.outputs
    if samples > MOST_SAMPLES:
        return f"the task has {samples:,} training samples; a baseline is fitted up to {MOST_SAMPLES:,}"
    if cells > MOST_CELLS:
        return f"training samples x inputs x outputs are {cells:,}; a baseline is fitted up to {MOST_CELLS:,}"
    if task.kind == "binary" and task.outputs != 1:
        return f"the task has {task.outputs} binary targets; the baseline predicts one"
    return ""


def _logistic(x: Array, y: Array) -> tuple[Any, str, list[float]]:
    from sklearn.linear_model import LogisticRegression

    named = inspect.signature(LogisticRegression).parameters
    old = "penalty" in named and named["penalty"].default == "l2"  # before scikit-learn 1.8 the norm went by name
    norm: dict[str, Any] = {"penalty": "l1"} if old else {"l1_ratio": 1.0}
    if len(np.unique(y)) == 2:
        # liblinear is exact and fast, but penalises the intercept; scaling makes that penalty weak
        model = LogisticRegression(**norm, solver="liblinear", intercept_scaling=10.0, max_iter=1000, random_state=0)
    else:
        model = LogisticRegression(**norm, solver="saga", max_iter=300, tol=1e-3, warm_start=True, random_state=0)
    shares = (y[:, None] == np.unique(y)).astype(np.float64)
    steepest = np.abs((x - x.mean(0)).T @ shares).max()  # of the loss, where every coefficient is zero
    least = 1.0 / max(float(steepest), 1e-12)  # below this they all stay zero
    return model, "C", [float(c) for c in least * np.logspace(0.05, 3.5, GRID)]


def _lasso(x: Array, y: Array) -> tuple[Any, str, list[float]]:
    from sklearn.linear_model import Lasso

    centred = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    most = max(float(np.abs(centred).max()), 1e-12)  # above this every coefficient is zero
    return Lasso(max_iter=10_000, warm_start=True), "alpha", [float(a) for a in most * np.logspace(-0.02, -4.0, GRID)]


def baseline(task: Task) -> Baseline | None:
    """A linear model with an L1 penalty: fitted on the training split at 20 strengths, chosen on the validation split.

    None where the task is too large for it (`MOST_SAMPLES`, `MOST_CELLS`).
    """
    from sklearn.exceptions import ConvergenceWarning

    if _refusal(task):
        return None
    labels = task.kind != "regression"
    splits: dict[str, tuple[Array, Array]] = {}
    for part in ("train", "valid", "test"):
        split = getattr(task, part)
        y = split.y.detach().cpu().double().numpy()
        splits[part] = split.x.detach().cpu().double().numpy().T, y.reshape(-1) if labels else y.T
    model, knob, grid = (_logistic if labels else _lasso)(*splits["train"])

    def wrong(part: str) -> Array:
        """A number a sample: 0 or 1 for labels, else the squared error, mean over targets."""
        x, y = splits[part]
        guess = model.predict(x)
        if labels:
            return np.asarray(guess != y, dtype=np.float64)
        square: Array = np.square(guess.reshape(y.shape) - y).mean(1)
        return square

    path, of_test = [], []
    for strength in grid:
        setattr(model, knob, strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged` instead
            model.fit(*splits["train"])
        weights = np.atleast_2d(model.coef_)
        edges = int((weights != 0).sum())
        of_test.append(wrong("test"))
        path.append(
            Fit(
                strength=strength,
                edges=edges,
                inputs=int((weights != 0).any(0).sum()),
                parameters=edges + int((np.atleast_1d(model.intercept_) != 0).sum()),
                valid_error=float(wrong("valid").mean()),
                test_error=float(of_test[-1].mean()),
                converged=bool(np.max(model.n_iter_) < model.max_iter),
            )
        )
    best = min(path, key=lambda fit: (fit.valid_error, fit.parameters))
    most = best.valid_error + results.slack(task, best.valid_error)
    simplest = min((fit for fit in path if fit.valid_error <= most), key=lambda fit: (fit.edges, fit.valid_error))
    n = task.test.samples
    spread = float(of_test[path.index(best)].std() / np.sqrt(n))
    error = task.standard_error(best.test_error, task.test) if labels else spread
    name = "L1 logistic regression" if labels else "Lasso"
    return Baseline(name, best, simplest, error, n, tuple(path))


def shown_error(task: Task, value: float) -> str:
    """In words: a share of wrong labels in percent, a mean squared error as it is."""
    return f"{value:.4g}" if task.kind == "regression" else f"{100 * value:.2f} %"


def compare(task: Task, chosen: pd.Series[Any], linear: Baseline) -> str:
    """The chosen network against the baseline, in one sentence."""
    mine, parameters, its = float(chosen["test_error"]), int(chosen["parameters"]), linear.best
    within = mine - its.test_error <= linear.standard_error
    what = "test error" if task.kind != "regression" else "test mean squared error"
    return (
        f"chosen network: {what} {shown_error(task, mine)} ({parameters} parameters); "
        f"{linear.name}: {shown_error(task, its.test_error)} ({its.parameters} parameters); "
        f"within one standard error of it ({shown_error(task, linear.standard_error)}, "
        f"N = {linear.test_samples}): {'yes' if within else 'no'}"
    )


def write_baseline(study: Finished, task: Task, chosen: pd.Series[Any]) -> tuple[Baseline | None, str]:
    """Fit it, write ``baseline.json``, and return it with its sentence (or why there is none)."""
    swept = task_places(study.axes)
    why = (
        f"the study varies its task ({', '.join(swept)}), and errors of different tasks do not compare"
        if swept
        else _refusal(task)
    )
    linear = None if why else baseline(task)
    sentence = f"No linear baseline: {why}." if linear is None else compare(task, chosen, linear)
    plain: dict[str, Any] = {"sentence": sentence, "task": task.name, "digest": task.digest}
    if linear is not None:
        plain |= {
            **asdict(linear),
            "chosen": {name: float(chosen[name]) for name in ("valid_error", "test_error")}
            | {name: int(chosen[name]) for name in ("edges", "parameters")},
            "within_one_standard_error": bool(float(chosen["test_error"]) - linear.best.test_error <= linear.standard_error),
            "versions": {"scikit-learn": version("scikit-learn")},
        }
    (study.folder / "baseline.json").write_text(json.dumps(plain, indent=1) + "\n")
    return linear, sentence
