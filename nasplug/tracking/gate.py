"""The gate in front of the alias ``champion``: two networks on the same test rows, and whether one may take the other's place.

Rows are paired, so the tests are tests of differences. Of labels: McNemar's test in its exact form, over the rows on which one
is right and the other wrong (McNemar, Psychometrika 12, 1947; recommended for one split by Dietterich, Neural Computation 10,
1998). Of squared errors, and of rows with weights: a randomization test, which swaps the two errors of a row at random (Fisher,
The Design of Experiments, 1935). It tests the difference of the means, which is what is shown; Wilcoxon's judges ranks, and
squared errors are skewed. Both are one-sided: is the candidate better?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasplug.tracking.evidence import SQUARED, WRONG, Array, Evidence, Measured

__all__ = ["LEVEL", "Comparison", "Condition", "Decision", "compare", "decide", "fit", "judged"]

LEVEL = 0.05
DRAWS = 9999
MOST_DRAWN = 2000  # rows; beyond, the normal limit of the same distribution: drawing takes seconds there
MOST_NAMES = 6
MOST_TOLD = 2  # reasons in words, the gravest first: who has other data has other rows and columns too
PASSED, FAILED = "passed", "failed"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate against a champion on the same rows.

    Attributes:
        difference: mean error of the candidate less that of the champion, weighted as rows are; below 0 it is better.
        standard_error: of ``difference``, from the paired differences.
        p_value: the chance of a difference at least so far below 0 if both were equally good; smaller is more certain.
        test: what gave it, in words.
        better: whether ``p_value`` is below the level.
        as_good: whether ``difference <= standard_error``.
        smaller: whether the candidate has fewer parameters.
        dominated: whether the champion has no more parameters and no larger error, and less of one of them.
    """

    difference: float
    standard_error: float
    p_value: float
    test: str
    better: bool
    as_good: bool
    smaller: bool
    dominated: bool

    @property
    def passes(self) -> bool:
        """Better, or as good and smaller."""
        return self.better or (self.as_good and self.smaller)


@dataclass(frozen=True, slots=True)
class Condition:
    """One line of what was judged.

    Attributes:
        name: of the condition.
        figure: what was found, in words.
        limit: what is needed, in words.
        passed: whether it holds.
    """

    name: str
    figure: str
    limit: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says of a candidate.

    Attributes:
        passes: whether it may become champion.
        why: in words, with figures.
        figures: the numbers, for records.
        dominated: see `Comparison`.
        conditions: all that was judged.
    """

    passes: bool
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    dominated: bool = False
    conditions: Sequence[Condition] = ()


def compare(candidate: Evidence, champion: Evidence, level: float = LEVEL) -> Comparison:
    """Two networks whose test rows are the same (`fit` sees to that).

    With errors ``a_i`` and ``b_i`` of candidate and champion and ``d_i = a_i - b_i``, the difference is
    ``sum w_i d_i / sum w_i`` and its standard error ``sqrt(sum w_i^2 (d_i - d)^2) / sum w_i``, times ``sqrt(n / (n - 1))`` with
    ``n = (sum w_i)^2 / sum w_i^2``; rows without weights have ``w_i = 1``.
    """
    weights = np.ones_like(champion.errors) if champion.weights is None else champion.weights
    gap = candidate.errors - champion.errors
    total = weights.sum()
    difference = float((weights * gap).sum() / total)
    count = float(total**2 / np.square(weights).sum())
    spread = float(np.sqrt(np.square(weights * (gap - difference)).sum()) / total)
    error = spread * float(np.sqrt(count / (count - 1.0))) if count > 1.0 else float("inf")
    p, test = _paired(gap, None if champion.weights is None else weights, candidate.of.metric)
    a, b = candidate.of, champion.of
    less = (a.parameters < b.parameters, difference < 0)
    more = (a.parameters > b.parameters, difference > 0)
    return Comparison(
        difference=difference,
        standard_error=error,
        p_value=p,
        test=test,
        better=p < level,
        as_good=difference <= error,
        smaller=less[0],
        dominated=any(more) and not any(less),
    )


def _paired(gap: Array, weights: Array | None, metric: str) -> tuple[float, str]:
    """The p-value of "the candidate's errors are smaller", and the test that gave it."""
    from scipy import stats  # takes as long as half of torch: not for those who compare nothing

    if weights is None and metric == WRONG:
        won, lost = int((gap < 0).sum()), int((gap > 0).sum())
        p = float(stats.binomtest(won, won + lost, 0.5, alternative="greater").pvalue) if won + lost else 1.0
        return p, f"McNemar's exact test, it alone is right on {won} rows, the champion alone on {lost}"
    moved = gap if weights is None else gap * weights
    moved = moved[moved != 0]
    if not len(moved):
        return 1.0, "no row differs"
    if len(moved) > MOST_DRAWN:
        return float(stats.norm.cdf(moved.sum() / np.sqrt(np.square(moved).sum()))), "randomization test of paired errors"
    found = stats.permutation_test(
        (moved, np.zeros_like(moved)),
        lambda a, b, axis: (a - b).sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=DRAWS,
        batch=max(1, 4_000_000 // len(moved)),
        alternative="less",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue), "randomization test of paired errors"


def fit(candidate: Measured, champion: Measured) -> list[Condition]:
    """Whether a candidate can stand where the champion stands, and whether both were tested on the same rows."""
    missing = [name for name in candidate.reads if name not in set(champion.columns)]
    same = candidate.rows == champion.rows and candidate.samples == champion.samples
    return [
        Condition(
            "task",
            _task(candidate),
            _task(champion),
            (candidate.kind, candidate.targets) == (champion.kind, champion.targets),
        ),
        Condition(
            "data",
            f"data {candidate.data[:12]}",
            f"the champion's data {champion.data[:12]}",
            candidate.data == champion.data,
        ),
        Condition(
            "columns",
            f"needs {_names(missing)}" if missing else f"reads {_names(candidate.reads)}",
            "columns of the champion's data",
            not missing,
        ),
        Condition(
            "outputs",
            f"answers {_names(candidate.outputs)}",
            f"answers {_names(champion.outputs)}",
            candidate.outputs == champion.outputs,
        ),
        Condition(
            "test rows",
            f"{candidate.samples} rows {candidate.rows[:12]}",
            f"the champion's {champion.samples} rows {champion.rows[:12]}",
            same,
        ),
        Condition("measure", candidate.metric, champion.metric, candidate.metric == champion.metric),
    ]


def judged(compared: Comparison, candidate: Measured, champion: Measured, name: str, level: float = LEVEL) -> Condition:
    """Whether a comparison is passed: better, or as good and smaller."""
    size = f"{candidate.parameters} parameters against {champion.parameters}"
    figure = (
        f"test {told_error(candidate)} against {told_error(champion)} of {name} "
        f"({told_gap(compared.difference, candidate.metric)}, p = {compared.p_value:.3g}), {size}"
    )
    margin = told_gap(compared.standard_error, candidate.metric).removeprefix("+")
    limit = f"better (p < {level:g}), or fewer parameters and at most one standard error ({margin}) worse"
    return Condition("comparison", figure, limit, compared.passes)


def decide(candidate: Evidence | str, champion: Evidence | str | None, name: str, level: float = LEVEL) -> Decision:
    """Whether a candidate may become champion.

    Args:
        candidate: its evidence, or in words why there is none.
        champion: likewise; None: there is no champion.
        name: of the champion, ``version 3``.
        level: of the test.
    """
    if champion is None:
        return Decision(True, "there was no champion", _figures(candidate))
    missing = [words for words in (candidate, champion) if isinstance(words, str)]
    if isinstance(candidate, str) or isinstance(champion, str):
        failed = [Condition("evidence", words, "errors on test rows", False) for words in missing]
        return Decision(False, f"cannot be compared with {name}: {'; '.join(missing)}", _figures(candidate), False, failed)
    fits = fit(candidate.of, champion.of)
    if wrong := [one for one in fits if not one.passed]:
        words = "; ".join(f"{one.name}: {one.figure}, needed: {one.limit}" for one in wrong[:MOST_TOLD])
        return Decision(False, f"cannot be compared with {name}: {words}", _figures(candidate), False, fits)
    compared = compare(candidate, champion, level)
    last = judged(compared, candidate.of, champion.of, name, level)
    if compared.better:
        verdict = "better than the champion"
    elif compared.passes:
        verdict = "as good as the champion, and smaller"
    elif compared.dominated:
        verdict = "not as good: the champion has " + _ahead(candidate.of, champion.of, compared)
    elif compared.as_good:
        verdict = "as good as the champion, and not smaller"
    else:
        verdict = "not better than the champion"
    figures = {
        **_figures(candidate),
        "champion_error": champion.of.error,
        "champion_parameters": champion.of.parameters,
        "difference": compared.difference,
        "standard_error": compared.standard_error,
        "p_value": compared.p_value,
        "test": compared.test,
        "level": level,
    }
    why = f"{verdict}: {last.figure}; {compared.test}, {candidate.of.samples} test rows"
    return Decision(compared.passes, why, figures, compared.dominated, (*fits, last))


def _ahead(candidate: Measured, champion: Measured, compared: Comparison) -> str:
    """What a champion that dominates has less of."""
    less = ["less error"] if compared.difference > 0 else ["no more error"]
    less += ["fewer parameters"] if champion.parameters < candidate.parameters else ["no more parameters"]
    return " and ".join(less)


def _figures(found: Evidence | str | None) -> dict[str, Any]:
    if not isinstance(found, Evidence):
        return {}
    return {"error": found.of.error, "parameters": found.of.parameters, "edges": found.of.edges, "rows": found.of.samples}


def told_error(of: Measured) -> str:
    """In words: a share of wrong labels in percent, an error of a regression as it is."""
    if of.metric == WRONG:
        return f"error {100 * of.error:.2f} %"
    return f"{'mean squared error' if of.metric.startswith(SQUARED) else 'error'} {of.error:.4g}"


def told_gap(difference: float, metric: str) -> str:
    """In words: percentage points between shares."""
    return f"{100 * difference:+.2f} percentage points" if metric == WRONG else f"{difference:+.4g}"


def _task(of: Measured) -> str:
    return f"{of.kind} of {_names(of.targets)}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return (f"{shown}, ... ({len(names)})" if len(names) > MOST_NAMES else shown) or "nothing"
