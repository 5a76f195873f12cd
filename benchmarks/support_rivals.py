"""Who else says which inputs matter: L1 (scikit-learn), LassoNet and EBM, on the samples that nasplug has. See `support.py`.

A rival yields candidates: the inputs it uses, the pairs it joins (None: it has none to say), and its scores. The same rule
chooses among them as among networks.
"""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nasplug.tasks import Split, Task

__all__ = ["RIVALS", "Candidate", "missing"]

Array = npt.NDArray[np.float64]


class Candidate(NamedTuple):
    """A fitted model: its inputs, its pairs, its error on validation and test samples (mean square, or share wrong)."""

    inputs: frozenset[int]
    pairs: frozenset[tuple[int, int]] | None
    valid: float
    test: float


class _Data(NamedTuple):
    """Rows ``(N, I)`` and targets ``(N,)`` of each split."""

    train: tuple[Array, Array]
    valid: tuple[Array, Array]
    test: tuple[Array, Array]
    labels: bool

    @classmethod
    def of(cls, task: Task) -> _Data:
        def arrays(split: Split) -> tuple[Array, Array]:
            return split.x.T.double().numpy(), split.y[0].double().numpy()

        return cls(arrays(task.train), arrays(task.valid), arrays(task.test), task.kind == "binary")

    def scores(self, predict: Callable[[Array], Array]) -> tuple[float, float]:
        """``predict`` gives values, or scores of label 1 above 0."""
        found = []
        for x, y in (self.valid, self.test):
            made = predict(x)
            found.append(float(((made > 0) != (y > 0.5)).mean() if self.labels else ((made - y) ** 2).mean()))
        return found[0], found[1]


def l1(task: Task) -> Iterator[Candidate]:
    """An L1 path of linear models, each support fitted again without the penalty."""
    from sklearn.linear_model import LinearRegression, LogisticRegression, lasso_path
    from sklearn.svm import l1_min_c

    data = _Data.of(task)
    x, y = data.train
    if data.labels:
        supports = []
        for c in l1_min_c(x, y, loss="log") * np.geomspace(1.0, 1e3, 20):
            model = LogisticRegression(C=c, l1_ratio=1.0, solver="liblinear", intercept_scaling=10.0, random_state=0).fit(x, y)
            supports.append(model.coef_[0] != 0)
    else:
        centred = y - y.mean()
        alphas = np.geomspace(1.0, 1e-3, 40) * np.abs(x.T @ centred).max() / len(y)
        supports = [weights != 0 for weights in lasso_path(x, centred, alphas=alphas)[1].T]
    for used in sorted({tuple(np.flatnonzero(one).tolist()) for one in supports}, key=len):
        at = list(used)
        if not at:
            mean = float(y.mean()) - (0.5 if data.labels else 0.0)
            yield Candidate(frozenset(), None, *data.scores(lambda rows, mean=mean: np.full(len(rows), mean)))  # type: ignore[misc]
            continue
        again = (LogisticRegression(C=1e4, max_iter=1000) if data.labels else LinearRegression()).fit(x[:, at], y)
        predict = again.decision_function if data.labels else again.predict
        yield Candidate(frozenset(at), None, *data.scores(lambda rows, at=at, predict=predict: predict(rows[:, at])))  # type: ignore[misc]


def lassonet(task: Task) -> Iterator[Candidate]:
    """LassoNet with 16 neurons along its path."""
    import torch
    from lassonet import LassoNetClassifier, LassoNetRegressor

    data = _Data.of(task)
    x, y = (one.astype(np.float32) for one in data.train)
    make = LassoNetClassifier if data.labels else LassoNetRegressor
    optimizers = (lambda p: torch.optim.Adam(p, lr=1e-2), lambda p: torch.optim.SGD(p, lr=3e-2, momentum=0.9))
    model = make(hidden_dims=(16,), M=10, lambda_seq=list(np.geomspace(0.03, 300, 32)), n_iters=(400, 30), patience=(40, 8),
                 optim=optimizers, verbose=0, random_state=0, torch_seed=0, device="cpu")  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = model.path(x, y.astype(np.int64) if data.labels else y, return_state_dicts=True)
    for item in path:
        model.model.load_state_dict(item.state_dict)
        reads = item.state_dict["layers.0.weight"].numpy() != 0  # (16, I)
        pairs = {pair for row in reads for pair in itertools.combinations(np.flatnonzero(row).tolist(), 2)}

        def predict(rows: Array) -> Array:
            with torch.inference_mode():
                made = model.model(torch.tensor(rows, dtype=torch.float32)).double().numpy()
            return made[:, 1] - made[:, 0] if data.labels else made[:, 0]

        yield Candidate(frozenset(np.flatnonzero(item.selected.numpy()).tolist()), frozenset(pairs), *data.scores(predict))


def ebm(task: Task) -> Iterator[Candidate]:
    """EBM on all inputs, and again on the k that matter most in it, k from 1 to 8. Its pairs are its terms of two inputs."""
    from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

    data = _Data.of(task)
    x, y = data.train
    make = ExplainableBoostingClassifier if data.labels else ExplainableBoostingRegressor

    def fitted(at: list[int]) -> tuple[Candidate, Array]:
        model = make(interactions=10, outer_bags=2, max_rounds=1000, random_state=0, n_jobs=1).fit(x[:, at], y)
        score = (
            (lambda rows: model.decision_function(rows[:, at])) if data.labels else (lambda rows: model.predict(rows[:, at]))
        )
        pairs = {tuple(sorted(at[i] for i in term)) for term in model.term_features_ if len(term) == 2}
        shares = np.zeros(len(at))
        for term, importance in zip(model.term_features_, model.term_importances(), strict=True):
            shares[list(term)] += importance
        return Candidate(frozenset(at), frozenset(pairs), *data.scores(score)), shares

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, shares = fitted(list(range(task.inputs)))
        yield whole
        for k in range(1, min(8, task.inputs - 1) + 1):
            yield fitted(sorted(np.argsort(-shares)[:k].tolist()))[0]


RIVALS: Mapping[str, tuple[Callable[[Task], Iterator[Candidate]], str]] = {
    "l1": (l1, "sklearn"),
    "lassonet": (lassonet, "lassonet"),
    "ebm": (ebm, "interpret"),
}
"""Name -> what fits it, and the module that it needs."""


def missing() -> list[str]:
    """Rivals whose module is not installed."""
    return [name for name, (_, module) in RIVALS.items() if importlib.util.find_spec(module) is None]
