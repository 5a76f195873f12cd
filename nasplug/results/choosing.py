"""The Pareto front of the table of replicas, and which of its networks is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nasplug.config import Choose
from nasplug.errors import ConfigError
from nasplug.folds import FITTED, FOLD, candidates, independent, means, on_folds, paired, spread
from nasplug.plan import MOST_REFITTED, REFIT
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "METHOD",
    "allowed",
    "as_good",
    "choices",
    "choose",
    "front",
    "judged",
    "members",
    "slack",
    "standing",
    "to_refit",
]

METHOD = "method.use"  # a column: the method of a row
RANK = "rank"  # a column that is made where more of a metric is better
R2_SLACK = 0.01  # a regression network may lose this share of the target's variance to be called as good as the best


def front(frame: pd.DataFrame, error: str = "valid_error", size: str = "edges") -> pd.DataFrame:
    """The Pareto front: finished networks for which no other is both smaller and better; smallest first.

    Ties in error and size are settled by the smaller validation loss. Only validation scores are read. Of resampled networks
    those that were refitted and picked stand there, with the scores of their configurations (`nasplug.folds`).
    """
    frame = candidates(frame)
    finished = frame[(frame["status"] == "finished") & frame[error].notna()]
    ordered = finished.sort_values([size, error, "valid_loss"], kind="stable")
    best = ordered[error].cummin().shift(fill_value=float("inf"))
    return ordered[ordered[error] < best].reset_index(drop=True)


def judged(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose) -> tuple[pd.DataFrame, str]:
    """The table, and its column to rank networks by (less is better): that of ``choose.by`` on the validation samples.

    Of a metric of which more is better it is a new column, ``rank = 1 - metric``.
    """
    column = f"valid_{rule.by}"
    if rule.by in ("error", "loss"):
        return frame, column
    finished = frame[frame["status"] == "finished"]
    if finished.empty or column not in frame or rule.by not in facts_of(str(finished.iloc[0]["replica"])).higher:
        return frame, column
    return frame.assign(**{RANK: 1.0 - frame[column]}), RANK


def standing(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose) -> pd.DataFrame:
    """The front by the score that chooses, without the column that `judged` may make."""
    return front(*judged(frame, facts_of, rule)).drop(columns=RANK, errors="ignore")


def slack(facts: Facts, best_error: float) -> float:
    """How much larger than the best the validation error of a chosen network may be.

    Labels: one standard error (Breiman's rule) of the best share of wrong labels, with one wrong and one right label added
    so that a best of 0 does not pretend to be certain. Regression: 1 % of the target's variance (R2 loses .01).
    """
    if facts.kind == "regression":
        return R2_SLACK * facts.variance
    n = facts.counting("valid")
    return facts.standard_error((best_error * n + 1.0) / (n + 2.0), "valid")


def allowed(best: pd.Series[Any], facts: Facts, rule: Choose) -> float:
    """How much larger than the best the validation error of a chosen network may be, ``best`` being the best one's row.

    ``one_standard_error``: that of the best over its folds; of a hold-out `slack`. ``within``: what was asked for, of a
    regression's error as a share of the target's variance. ``best``: nothing. Where another score than the error ranks, of a
    hold-out a hundredth of the way from the trivial network's score to the best.
    """
    column = f"valid_{rule.by}"
    if rule.rule == "one_standard_error":
        if best.get(FOLD) == REFIT:
            error = float(best[f"{column}_se"])
            return 0.0 if math.isnan(error) else error  # of a score that one fold has
        if rule.by == "error":
            return slack(facts, float(best[column]))
        return R2_SLACK * abs(facts.trivial.get(column, 0.0) - float(best[column]))
    return (rule.within or 0.0) * (facts.variance if facts.kind == "regression" and rule.by == "error" else 1.0)


def choose(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose = Choose()) -> pd.Series[Any]:  # noqa: B008
    """The network to serve: the smallest on the front whose validation error is within what is `allowed` above the best.

    On resamples one standard error is also that of the difference to the best, fold by fold (`nasplug.folds.paired`): what is
    worse in each fold is worse, however much folds differ.

    Args:
        frame: one row per replica.
        facts_of: what a replica was trained on; that of the best one sets what is allowed.
        rule: which is chosen.

    Raises:
        ConfigError: when no network finished, or those that did were not refitted yet.
    """
    frame, error = judged(frame, facts_of, rule)
    on_front = front(frame, error)
    if on_front.empty and not on_folds(frame).empty:
        raise ConfigError(
            "the networks of this study are validated on folds, not yet refitted: none was trained on all development samples, "
            "to be chosen. Run the study again, which goes on there"
        )
    if on_front.empty:
        raise ConfigError(
            "no network of this study finished with finite scores; see the column 'status' of its table, "
            "and try a smaller learning rate"
        )
    best = on_front.iloc[int(on_front[error].argmin())]
    return as_good(on_front, best, frame, error, facts_of(str(best["replica"])), rule).iloc[0].drop(RANK, errors="ignore")


def as_good(
    rows: pd.DataFrame, best: pd.Series[Any], frame: pd.DataFrame, error: str, facts: Facts, rule: Choose
) -> pd.DataFrame:
    """Those of ``rows`` that `choose` takes for as good as the ``best`` of ``frame``, ranked by the column ``error``."""
    good = rows[rows[error] <= float(best[error]) + allowed(best, facts, rule)]
    if rule.rule == "one_standard_error" and best.get(FOLD) == REFIT:
        worse = paired(frame, error, int(best["configuration"]), independent(facts))
        near = worse.index[worse["mean"] <= worse["se"]]
        good = good[good["configuration"].isin(near)]
    return good


def members(frame: pd.DataFrame, most: int) -> list[str]:
    """The networks whose mean is served as one: the ``most`` with the smallest validation loss, best first.

    Where networks are resampled, those that were refitted are taken, by the loss of their configuration over its folds. Members
    of the front alone would be worse: its small networks are there for their size. Choosing members one by one for the loss of
    the mean (Caruana et al. 2004) was no better on three small tables, four splits each: test error .0055 of 0.5393 better,
    and .0066 worse, .0070 better.
    """
    rows = frame[(frame["status"] == "finished") & frame["valid_loss"].notna()]
    if FOLD in rows:
        rows = rows[rows[FOLD].isna() | (rows[FOLD] == REFIT)]
    order = ["valid_loss", *([FITTED] if FITTED in rows else []), "parameters"]
    return [str(name) for name in rows.sort_values(order, kind="stable")["replica"].head(most)]


def choices(
    frame: pd.DataFrame,
    places: Sequence[str],
    facts_of: Callable[[str], Facts],
    rule: Choose = Choose(),  # noqa: B008
) -> pd.DataFrame:
    """The network to serve for each data set and loss, one row for each; ``places`` of the study tell them apart.

    Errors of different data sets, or losses, cannot be compared, so each has its own front. One without a finished network has
    no row.
    """
    import pandas as pd

    groups = [part for _, part in frame.groupby(list(places), sort=False, dropna=False)] if places else [frame]
    chosen = [choose(part, facts_of, rule) for part in groups if not front(*judged(part, facts_of, rule)).empty]
    return pd.DataFrame(chosen).reset_index(drop=True)


def to_refit(frame: pd.DataFrame, places: Sequence[str], error: str = "valid_error", size: str = "edges") -> list[int]:
    """The configurations to train on all development samples: those on the front of mean error and mean size over folds.

    Whatever the rule, the chosen one is on that front. The linear networks' own front is refitted too, to be held against it.
    Each data set has a front of its own, as in `choices`; of a long one
    `MOST_REFITTED` configurations are taken, evenly over it.
    """
    rows = on_folds(frame)
    if rows.empty:
        return []
    scores = means(frame, list({error, "valid_loss", size})).groupby("configuration").mean()
    names = [*places, *([METHOD] if METHOD in rows else [])]
    scores = scores.join(rows.groupby("configuration")[names].first()).assign(status="finished").reset_index()
    groups = [part for _, part in scores.groupby(list(places), sort=False, dropna=False)] if places else [scores]
    groups += [part[part[METHOD] == "linear"] for part in groups if METHOD in part]
    fronts = [[int(c) for c in front(part, error, size)["configuration"]] for part in groups]
    return sorted({c for one in fronts for c in spread(one, MOST_REFITTED)})
