"""Scores, budgets and ranks of `tables.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rivals import Array, Columns, Point
from table_sets import CHOOSING, JUDGING, Kind

__all__ = ["BUDGETS", "best_of_each_size", "constant", "line", "pick", "scores", "summary", "timed"]

BUDGETS = (10, 30, 100, 300, None)  # None: any size
TIE = 0.05
OURS = "nasplug"
QUICK = ("breast_cancer", "diabetes")
QUICK_MODELS = ("nasplug", "linear", "boosting")
Record = dict[str, Any]


def scores(kind: Kind, made: Array, y: Array) -> tuple[float, float, float]:
    """Error, AUC or R2, log-loss or mean squared error."""
    if kind == "regression":
        square = float(np.mean((made - y) ** 2))
        return square, 1 - square / max(float(np.var(y)), 1e-12), square
    from sklearn.metrics import roc_auc_score

    codes = y.astype(int)
    made = np.clip(made, 1e-7, 1)
    made = made / made.sum(1, keepdims=True)
    loss = float(-np.log(made[np.arange(len(y)), codes]).mean())
    try:
        auc = float(roc_auc_score(codes, made[:, 1] if kind == "binary" else made, multi_class="ovr"))
    except ValueError:  # a class without a row
        auc = float("nan")
    return float((made.argmax(1) != codes).mean()), auc, loss


def constant(kind: Kind, y: Array, y_test: Array) -> Record:
    """Who predicts the mean, or the shares of the classes: the least that everyone can store."""
    if kind == "regression":
        error, score, loss = scores(kind, np.full(len(y_test), y.mean()), y_test)
        return {"numbers": 1, "inputs": 0, "error": error, "score": score, "loss": loss}
    shares = np.bincount(y.astype(int)) / len(y)
    error, score, loss = scores(kind, np.tile(shares, (len(y_test), 1)), y_test)
    return {"numbers": len(shares) - (kind == "binary"), "inputs": 0, "error": error, "score": score, "loss": loss}


def timed(point: Point, rows: Columns) -> float:
    """Microseconds per prediction on prepared columns, a thousand rows per call: the fastest of three."""
    index = np.resize(np.arange(len(rows.x)), 1000)
    many = Columns(rows.frame.iloc[index], rows.x[index])
    times = []
    for _ in range(3):
        began = time.perf_counter()
        point.predict(many)
        times.append(time.perf_counter() - began)
    return 1e3 * min(times)


def best_of_each_size(found: Sequence[Record]) -> list[Record]:
    """Those that some budget takes: no smaller one is as good on the validation rows."""
    kept: list[Record] = []
    for one in sorted(found, key=lambda c: (c["numbers"], c["valid_error"], c["valid_loss"])):
        key = (one["valid_error"], one["valid_loss"])
        if not kept or key < (kept[-1]["valid_error"], kept[-1]["valid_loss"]):
            kept.append(one)
    return kept


def pick(record: Record, budget: int | None) -> Record:
    """The candidate with the smallest validation error within a budget."""
    fit = [one for one in record["candidates"] if budget is None or one["numbers"] <= budget]
    best: Record = min(fit, key=lambda c: (c["valid_error"], c["valid_loss"])) if fit else record["constant"]
    return best


def line(record: Record) -> str:
    """Errors at each budget."""
    return "  ".join(f"{budget or 'any'}: {pick(record, budget)['error']:.4f}" for budget in BUDGETS)


def _means(records: Sequence[Record], budget: int | None) -> dict[str, dict[str, Array]]:
    """Table -> model -> errors of the splits that every model of the table has; without tables that only rivals have run on.

    Where nasplug was not asked for at all, rivals stand by themselves.
    """
    ours = any(one["model"] == OURS for one in records)
    found: dict[str, dict[str, dict[int, float]]] = {}
    for one in records:
        found.setdefault(one["table"], {}).setdefault(one["model"], {})[one["split"]] = pick(one, budget)["error"]
    made = {}
    for table, models in found.items():
        shared = sorted(set.intersection(*(set(splits) for splits in models.values())))
        if shared and (OURS in models or not ours):
            made[table] = {model: np.asarray([splits[s] for s in shared]) for model, splits in models.items()}
    return made


def ranks(errors: Mapping[str, Mapping[str, Array]], tables: Sequence[str]) -> dict[str, float]:
    """Each model's mean rank over some tables, by its mean error over the splits; 1 is best, equals share their ranks."""
    from scipy.stats import rankdata

    found: dict[str, list[float]] = {}
    for table in tables:
        if table in errors:
            names = list(errors[table])
            each = rankdata([round(float(errors[table][name].mean()), 9) for name in names])
            for name, rank in zip(names, each, strict=True):
                found.setdefault(name, []).append(float(rank))
    return {name: float(np.mean(values)) for name, values in found.items()}


def duel(mine: Array, its: Array) -> str:
    """Win, tie (means within 5 %) or loss."""
    ours, theirs = float(mine.mean()), float(its.mean())
    if abs(ours - theirs) <= TIE * max(min(ours, theirs), 1e-9):
        return "ties"
    return "wins" if ours < theirs else "losses"


def worse(mine: Array, its: Array) -> bool:
    """By more than one standard error of the mean difference over the splits."""
    difference = mine - its
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
    return float(difference.mean()) > error and duel(mine, its) != "wins" and float(difference.mean()) > 1e-9


def summary(records: Sequence[Record], say: Callable[[str], None]) -> dict[str, Any]:
    """Show tables and ranks; what the last line holds."""
    by_budget = {budget: _means(records, budget) for budget in BUDGETS}
    any_size = by_budget[None]
    judged = [table for table in JUDGING if table in any_size]
    chose = [table for table in CHOOSING if table in any_size]
    tables = judged or chose
    for budget in BUDGETS:
        _show(by_budget[budget], budget, say)
    _columns(records, any_size, say)
    mean_rank, first = {}, []
    for budget in BUDGETS:
        found = ranks(by_budget[budget], tables)
        name = "any" if budget is None else str(budget)
        mean_rank[name] = found.get(OURS)
        if OURS in found and found[OURS] <= min(found.values()):
            first.append(name)
        if len(found) > 1:
            told = ", ".join(f"{model} {rank:.2f}" for model, rank in sorted(found.items(), key=lambda item: item[1]))
            say(f"mean ranks on the judging tables, at most {budget or 'any number of'} numbers: {told}")
    near = [
        duel(by_budget[300][t][OURS], any_size[t]["boosting"]) != "losses"
        for t in tables
        if {OURS, "boosting"} <= set(any_size[t])
    ]
    behind = {
        "any" if budget is None else str(budget): [
            t
            for t in any_size
            if {OURS, "linear"} <= set(any_size[t]) and worse(by_budget[budget][t][OURS], by_budget[budget][t]["linear"])
        ]
        for budget in BUDGETS
    }
    splits = sorted({len(errors) for models in any_size.values() for errors in models.values()})
    return {
        "mean_rank": mean_rank,
        "first_at": first,
        "hgb_within_5pct_at_300": float(np.mean(near)) if near else None,
        "worse_than_linear": behind["any"],
        "worse_than_linear_at": behind,
        "sets": len(any_size),
        "chose": chose,
        "judged": judged,
        "splits": splits,
    }


def _show(errors: Mapping[str, Mapping[str, Array]], budget: int | None, say: Callable[[str], None]) -> None:
    """One row per table, one column per model; then wins, ties and losses with each."""
    models = list(dict.fromkeys(model for one in errors.values() for model in one))
    if not models:
        return
    say(f"\nerror at {'any size' if budget is None else f'at most {budget} numbers'} (j: a judging table)")
    say("".join(f"{name:>14}" for name in ("", *models)))
    for table, found in sorted(errors.items()):
        mark = f"{table}{' j' if table in JUDGING else ''}"
        say(f"{mark:>14}" + "".join(f"{found[m].mean():14.4f}" if m in found else f"{'':14}" for m in models))
    for model in [name for name in models if name != OURS and OURS in models]:
        told = [duel(found[OURS], found[model]) for found in errors.values() if model in found]
        say(f"nasplug with {model}: " + ", ".join(f"{told.count(what)} {what}" for what in ("wins", "ties", "losses")))


def _columns(records: Sequence[Record], tables: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Medians over tables and splits, at any size."""
    say("\nat any size, medians over tables and splits")
    say("".join(f"{name:>14}" for name in ("", "AUC or R2", "numbers", "inputs", "CPU s", "us/prediction")))
    for model in dict.fromkeys(one["model"] for one in records):
        mine = [(one, pick(one, None)) for one in records if one["model"] == model and one["table"] in tables]
        if mine:
            found = [[p[k] for _, p in mine if k in p] or [0.0] for k in ("score", "numbers", "inputs", "us")]
            cells = [float(np.nanmedian(values)) for values in found]
            more = [float(np.median([one["seconds"] for one, _ in mine])), cells[3]]
            say(f"{model:>14}{cells[0]:14.3f}{cells[1]:14.0f}{cells[2]:14.1f}{more[0]:14.1f}{more[1]:14.2f}")
