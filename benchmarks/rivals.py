"""What nasplug is compared with on tables: each model with its usual tuning, as points of error and size.

A model is a function that fits on some rows and yields *points*: a name that is the same on other rows of the table, a
function from rows to predictions, the numbers that it stores and the columns that it reads. Points are scored on inner
validation rows and fitted again on all development rows, whoever they belong to.

**Numbers stored** are learned real numbers: weights and biases that are not 0, thresholds, values of leaves and bins. Where
they belong (which column a split reads, which neurons a weight joins) is counted for nobody. Centres and scales are counted
for nobody: they can be multiplied into the weights next to them. Bin edges cannot, and are counted.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from table_sets import Kind

__all__ = ["Array", "Columns", "Encoder", "Fit", "Point", "Rival", "boosting", "ebm", "linear", "probabilities", "tree"]

Array = npt.NDArray[np.float64]
LEVELS = 14
LEAVES = (2, 3, 4, 5, 7, 10, 15, 25, 40, 70, 130)
STAGES = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)


class Columns(NamedTuple):
    """Rows as models read them: a frame (words as categories, gaps as gaps), and numbers with mean 0 and deviation 1."""

    frame: pd.DataFrame
    x: Array


class Encoder:
    """Words to one column per word, gaps to the mean and a column that says so; learned from the rows given."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.words = {c: sorted(frame[c].dropna().astype(str).unique()) for c in frame if not _numeric(frame[c])}
        self.means = {c: float(frame[c].mean()) for c in frame if c not in self.words}
        self.gaps = [c for c in frame if frame[c].isna().any()]
        raw, self.owners = self._raw(frame)
        self.keep = raw.std(0) > 1e-12
        self.owners = self.owners[self.keep]
        self.shift, self.scale = raw[:, self.keep].mean(0), raw[:, self.keep].std(0)

    def __call__(self, frame: pd.DataFrame) -> Columns:
        """Other rows of the same table."""
        typed = frame.copy()
        for column, words in self.words.items():
            known = frame[column].astype(str).where(frame[column].notna() & frame[column].astype(str).isin(words))
            typed[column] = pd.Categorical(known, categories=words)
        for column in self.means:
            typed[column] = typed[column].astype(float)
        return Columns(typed, (self._raw(frame)[0][:, self.keep] - self.shift) / self.scale)

    def _raw(self, frame: pd.DataFrame) -> tuple[Array, npt.NDArray[np.int64]]:
        made, owners = [], []
        for number, column in enumerate(frame):
            if column in self.means:
                made.append(frame[column].astype(float).fillna(self.means[column]).to_numpy())
            else:
                made += [(frame[column].astype(str) == word).to_numpy(float) for word in self.words[column]]
            if column in self.gaps:
                made.append(frame[column].isna().to_numpy(float))
            owners += [number] * (len(made) - len(owners))
        return np.stack(made, 1), np.asarray(owners)


def _numeric(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


class Point(NamedTuple):
    """One model of a family: what it predicts (values ``(N,)``, or probabilities ``(N, C)``), stores and reads."""

    predict: Callable[[Columns], Array]
    numbers: int
    inputs: int


class Fit(NamedTuple):
    """What a model is fitted on: rows, the target (standardised, or numbers of classes), and whose columns ``x`` are."""

    rows: Columns
    y: Array
    kind: Kind
    owners: npt.NDArray[np.int64]
    seed: int

    @property
    def outputs(self) -> int:
        """Scores that a network needs: one per class, one for two classes."""
        return int(self.y.max()) + 1 if self.kind == "classes" else 1


Rival = Callable[[Fit], Iterator[tuple[str, Point]]]


def _affine(weights: Array, bias: Array, kind: Kind) -> Callable[[Columns], Array]:
    def predict(rows: Columns) -> Array:
        return probabilities(rows.x @ weights.T + bias, kind)

    return predict


def probabilities(scores: Array, kind: Kind) -> Array:
    """Scores ``(N, O)`` to values ``(N,)`` or probabilities ``(N, C)``."""
    if kind == "regression":
        return scores[:, 0]
    if kind == "binary":
        p = 1 / (1 + np.exp(-np.clip(scores[:, 0], -50, 50)))
        return np.stack([1 - p, p], 1)
    e = np.exp(scores - scores.max(1, keepdims=True))
    made: Array = e / e.sum(1, keepdims=True)
    return made


def linear(fit: Fit) -> Iterator[tuple[str, Point]]:
    """L1 along its path, and each support fitted again without the penalty ("relaxed")."""
    from sklearn.linear_model import LogisticRegression, Ridge, lasso_path

    x, y = fit.rows.x, fit.y

    def point(weights: Array, bias: Array) -> Point:
        read = len(set(fit.owners[(weights != 0).any(0)]))
        return Point(_affine(weights, bias, fit.kind), int((weights != 0).sum()) + len(bias), read)

    if fit.kind == "regression":
        alphas = np.geomspace(1.0, 1e-3, 30) * np.abs(x.T @ y).max() / len(y)
        path = lasso_path(x, y, alphas=alphas, max_iter=3000)[1]
        found = [(f"{i}", path[:, i][None], np.zeros(1)) for i in range(len(alphas))]
    else:
        many = fit.kind == "classes"
        model = LogisticRegression(
            solver="saga" if many else "liblinear", l1_ratio=1.0, warm_start=many, intercept_scaling=10.0
        )
        model.set_params(max_iter=150 if many else 200, tol=2e-3 if many else 1e-3, random_state=0)
        found = []
        for c in np.geomspace(1e-3, 3, LEVELS):
            model.set_params(C=c)
            model.fit(x, y)
            found.append((f"{c:.4g}", model.coef_.copy(), model.intercept_.copy()))
    before = None
    for name, weights, bias in found:
        yield name, point(weights, bias)
        support = (weights != 0).any(0)
        if support.any():
            if before is None or (support != before).any():
                before, some = support, x[:, support]
                again = Ridge(1e-3) if fit.kind == "regression" else LogisticRegression(C=100.0, max_iter=300)
                again.fit(some, y)
                full = np.zeros((len(np.atleast_2d(again.coef_)), x.shape[1]))
                full[:, support] = again.coef_
                relaxed = point(full, np.atleast_1d(again.intercept_))
            yield f"{name} relaxed", relaxed


def tree(fit: Fit) -> Iterator[tuple[str, Point]]:
    """One tree, grown best first to so many leaves."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    for smallest in (1, 5, 15):
        for leaves in LEAVES:
            make = DecisionTreeRegressor if fit.kind == "regression" else DecisionTreeClassifier
            model = make(max_leaf_nodes=leaves, min_samples_leaf=smallest, random_state=fit.seed)
            model.fit(fit.rows.x, fit.y)
            splits = model.tree_.feature >= 0
            read = len(set(fit.owners[model.tree_.feature[splits]]))
            numbers = int(splits.sum()) + int((~splits).sum()) * fit.outputs
            yield f"{leaves} leaves of {smallest}", Point(_of(model, fit.kind), numbers, read)


def _of(model: Any, kind: Kind, *, frame: bool = False) -> Callable[[Columns], Array]:
    """Predictions of a model with scikit-learn's methods."""

    def predict(rows: Columns) -> Array:
        given = rows.frame if frame else rows.x
        made: Array = model.predict(given) if kind == "regression" else model.predict_proba(given)
        return made

    return predict


def boosting(fit: Fit) -> Iterator[tuple[str, Point]]:
    """HistGradientBoosting: from stumps to 31 leaves, stopped after so many rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    for leaves, rate in ((2, 0.3), (4, 0.3), (4, 0.1), (8, 0.1), (31, 0.1)):
        make = HistGradientBoostingRegressor if fit.kind == "regression" else HistGradientBoostingClassifier
        model = make(
            max_iter=STAGES[-1],
            max_leaf_nodes=leaves,
            learning_rate=rate,
            early_stopping=False,
            categorical_features="from_dtype",
        )
        model.fit(fit.rows.frame, fit.y)
        rounds = model._predictors
        for stage in STAGES:
            some = copy.copy(model)
            some._predictors = rounds[:stage]
            nodes = np.concatenate([one.nodes for trees in rounds[:stage] for one in trees])
            split = nodes["is_leaf"] == 0
            numbers = len(nodes) + fit.outputs  # a threshold per split, a value per leaf, where to start from
            yield (
                f"{leaves} leaves, rate {rate}, {stage} rounds",
                Point(_of(some, fit.kind, frame=True), numbers, len(set(nodes["feature_idx"][split]))),
            )


def ebm(fit: Fit) -> Iterator[tuple[str, Point]]:
    """Explainable boosting: coarse and fine bins, with and without pairs of columns."""
    from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

    make = ExplainableBoostingRegressor if fit.kind == "regression" else ExplainableBoostingClassifier
    pairs = 0 if fit.kind == "classes" else 10
    for bins, interactions in ((8, 0), (64, 0), (256, pairs)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make(max_bins=bins, interactions=interactions, outer_bags=2, max_rounds=800, learning_rate=0.04, n_jobs=1)
            model.fit(fit.rows.frame, fit.y)
        scores = sum(int((np.asarray(one) != 0).sum()) for one in model.term_scores_)
        edges = sum(len(level) for column in model.bins_ for level in column[:1] if not isinstance(level, dict))
        numbers = scores + edges + len(np.atleast_1d(model.intercept_))
        read = len({column for term in model.term_features_ for column in term})
        yield f"{bins} bins, {interactions} pairs", Point(_of(model, fit.kind, frame=True), numbers, read)
