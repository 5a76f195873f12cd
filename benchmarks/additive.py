"""Networks that are a sum of one small network per column (and per pair), against EBM, which is a sum of curves too.

    python benchmarks/additive.py                   # the judging tables of tables.py, first split; kept in runs/additive
    python benchmarks/additive.py --quick           # two small tables, small studies, no search for sizes: about a minute
    python benchmarks/additive.py --tables concrete houses --splits 2 --models additive ebm
    python benchmarks/additive.py --only-show       # trains nothing: tables and picture of what is kept

- ``additive``: the recipe of ``nasplug look``, with ``structure: additive`` and 8 neurons per column.
- ``pairs``: the same with ``structure: pairs``, and the penalty ``terms`` on pairs alone.
- ``free``: the recipe without a structure (only if asked for: ``--models additive pairs free ebm``).
- ``ebm``: explainable boosting as in ``tables.py``, without pairs; ``ebm+``: also with 10 pairs (not for three labels).

All three studies have 8 levels and one seed, a quarter of the recipe's networks, and no linear networks beside
them. Rows, tuning, budgets and what a number is are those of ``tables.py``; figures are of one outer split unless ``--splits``
says more. Nothing was chosen on these tables.

The picture, ``additive.png`` in the folder of what is kept, has curves of both on one table (``--picture``): of the additive
network that the study chose, and of EBM with 64 bins, each less its mean over development rows, on the scale of the sum.
What is not installed is said, and left out. One thread; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import table_nasplug
import table_scores
import tables
import torch
from rivals import Array
from table_sets import JUDGING, TABLES, Table, digest, installed, outer
from tables import Data

from nasplug import Study
from nasplug.explain import effects
from nasplug.explain.background import Background

KEPT = Path("runs/additive")
MODELS = ("additive", "pairs", "free", "ebm")
NEURONS = 8
SHOWN = 6  # columns of the picture
OF_PAIRS = {"use": "terms", "columns": 0.0, "level": 0.001, "ramp": {"use": "linear", "until": 0.3}}


def study(path: Path, table: Table, least: int, quick: bool, structure: str) -> dict[str, Any]:
    """The recipe with a structure."""
    made = table_nasplug.study(path, table, least, quick)
    if not quick:
        made["penalties"][0] = made["penalties"][0] | {"level": {"log": [1e-4, 1e-1], "points": 8}}
        made["seeds"] = 1
    made |= {"linear": False, "reach": None}
    if structure != "free":
        made["method"] = made["method"] | {"structure": structure, "hidden": [NEURONS]}
    if structure == "pairs":
        made["penalties"] = [*made["penalties"], OF_PAIRS]
    return made


def trained(table: Table, data: Data, structure: str, quick: bool, folder: Path) -> tuple[Study, pd.DataFrame]:
    """A finished study of the development rows, and the test rows as it reads them."""
    labels = table.kind != "regression"
    frame = data.frame.assign(target=np.asarray(data.classes)[data.y.astype(int)] if labels else data.y)
    least = int(np.bincount(data.y.astype(int)).min()) if labels else len(data.y)
    frame.to_csv(folder / "rows.csv", index=False)
    data.test.to_csv(folder / "test.csv", index=False)
    done = Study.from_dict(study(folder / "rows.csv", table, least, quick, structure)).run("serial", report=False)
    return done, pd.read_csv(folder / "test.csv")


def candidates(table: Table, data: Data, model: str, quick: bool) -> list[dict[str, Any]]:
    """The sizes of a model, validated and tested."""
    if model == "ebm":
        return tables.rival("ebm", table, data, 0)
    with tempfile.TemporaryDirectory() as folder:
        done, rows = trained(table, data, model, quick, Path(folder))
        return table_nasplug.tested(done, table, rows, data.y_test)


def record(table: Table, frame: pd.DataFrame, split: int, model: str, given: argparse.Namespace) -> dict[str, Any] | None:
    """One model on one split: what is kept of it, else made and kept."""
    path = given.kept / f"{table.name}-{split}-{model}-{digest(frame)}{'-quick' if given.quick else ''}.json"
    if path.exists():
        made: dict[str, Any] = json.loads(path.read_text())
        return made
    if given.only_show:
        return None
    data = tables.cut(table, frame, outer(table, frame)[split])
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = candidates(table, data, model, given.quick)
    made = {"table": table.name, "split": split, "model": model, "seconds": time.process_time() - began, "candidates": found,
            "constant": table_scores.constant(table.kind, data.y, data.y_test)}  # fmt: skip
    given.kept.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made))
    return made


def curves_of_ebm(table: Table, data: Data, columns: Sequence[str], at: Sequence[Array]) -> list[Array]:
    """EBM's term of each column where its values are ``at``, less its mean over the development rows."""
    from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

    make = ExplainableBoostingRegressor if table.kind == "regression" else ExplainableBoostingClassifier
    model = make(max_bins=64, interactions=0, outer_bags=2, max_rounds=800, learning_rate=0.04, n_jobs=1)
    model.fit(data.frame, data.y)
    mean = model.eval_terms(data.frame).mean(axis=0)
    found = []
    for column, values in zip(columns, at, strict=True):
        rows = data.frame.iloc[[0] * len(values)].assign(**{column: values})
        term = list(model.term_names_).index(column)
        found.append(np.asarray(model.eval_terms(rows)[:, term] - mean[term]))
    return found


def draw(table: Table, frame: pd.DataFrame, quick: bool, path: Path) -> dict[str, float]:
    """Curves of both side by side, into ``path``; column -> correlation of the two over the points of the curve."""
    from nasplug.drawing import save_png  # matplotlib is loaded here
    from nasplug.drawing.style import NEGATIVE, POSITIVE, new_figure, styled

    data = tables.cut(table, frame, outer(table, frame)[0])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done, _ = trained(table, data, "additive", quick, Path(folder))
        network = done.network()
        told = effects(network, Background.of_task(done.task))
        shown = [one for one in told if len(one.grid.numbers) > 2][:SHOWN]
        at = [one.grid.numbers for one in shown]
        theirs = curves_of_ebm(table, data, [one.grid.column for one in shown], at)
    alike: dict[str, float] = {}
    with styled():
        figure = new_figure(9.6, 0.6 + 2.2 * -(-len(shown) // 3))
        panels = figure.subplots(-(-len(shown) // 3), 3, squeeze=False, sharey=True).ravel()
        for axes, one, other in zip(panels, shown, theirs, strict=False):
            mine = one.curve.numbers[:, 0]
            axes.plot(one.grid.numbers, mine, color=POSITIVE, label=f"nasplug, additive ({network.parameter_count} numbers)")
            axes.plot(one.grid.numbers, other, color=NEGATIVE, linewidth=1.0, label="EBM, 64 bins")
            axes.set_title(one.grid.column)
            if mine.std() > 0 and other.std() > 0:
                alike[one.grid.column] = round(float(np.corrcoef(mine, other)[0, 1]), 3)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=2)
        figure.supylabel(f"what each column adds ({table.name})", fontsize=8.5)
    save_png(figure, path)
    return alike


def of_models(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records by the names that are shown: EBM with pairs, and its candidates without."""
    found = []
    for one in records:
        if one["model"] == "ebm":
            alone = [c for c in one["candidates"] if c["name"].endswith(" 0 pairs")]
            found += [one | {"candidates": alone}, one | {"model": "ebm+"}]
        else:
            found.append(one)
    return found


def show(records: Sequence[dict[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """Tables of errors and numbers at each budget; what the last line holds."""
    models = list(dict.fromkeys(one["model"] for one in records))
    result: dict[str, Any] = {}
    for budget in table_scores.BUDGETS:
        name = "any" if budget is None else str(budget)
        say(f"\nerror, and numbers stored, at {'any size' if budget is None else f'at most {budget} numbers'}")
        say(f"{'':14}" + "".join(f"{model:>18}" for model in models))
        errors: dict[str, dict[str, Array]] = {}
        for table in sorted({one["table"] for one in records}):
            cells = ""
            for model in models:
                mine = [table_scores.pick(r, budget) for r in records if (r["table"], r["model"]) == (table, model)]
                if mine:
                    errors.setdefault(table, {})[model] = np.asarray([one["error"] for one in mine])
                    cells += f"{np.mean([one['error'] for one in mine]):10.4f} {np.mean([one['numbers'] for one in mine]):7.0f}"
                else:
                    cells += f"{'':18}"
            say(f"{table:14}{cells}")
        whole = {table: of for table, of in errors.items() if len(of) == len(models)}
        rank = {model: round(value, 3) for model, value in table_scores.ranks(whole, list(whole)).items()}
        say(
            "mean rank: " + ", ".join(f"{model} {value:.2f}" for model, value in sorted(rank.items(), key=lambda item: item[1]))
        )
        pairs = [
            (model, other) for model in ("additive", "pairs") for other in ("ebm", "ebm+") if {model, other} <= set(models)
        ]
        duels = {
            f"{model}, {other}": [table_scores.duel(of[model], of[other]) for of in whole.values()] for model, other in pairs
        }
        counts = {key: {what: told.count(what) for what in ("wins", "ties", "losses")} for key, told in duels.items()}
        result[name] = {"mean_rank": rank, "duels": counts, "tables": len(whole)}
    return result


def main(arguments: Sequence[str] | None = None, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Run what is not done, show all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small tables, one split, small studies")
    parser.add_argument("--tables", nargs="+", choices=sorted(TABLES), default=None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["additive", "pairs", "ebm"])
    parser.add_argument("--splits", type=int, default=1, choices=range(1, 6))
    parser.add_argument("--picture", default=None, choices=sorted(TABLES), help="the table whose curves are drawn")
    parser.add_argument("--only-show", action="store_true", help="train nothing")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder of what is done")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing new after so long")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    names = tuple(given.tables or (table_scores.QUICK if given.quick else JUDGING))
    frames = {table.name: table.frame() for table in installed(names)}
    rival = find_spec("interpret") is not None
    models = [model for model in given.models if model != "ebm" or rival]
    away = [name for name in names if name not in frames] + ["EBM (interpret-core)"] * (not rival)
    if away:
        say(f"not installed, left out: {', '.join(away)} (see benchmarks/README.md)")
    began, records = time.monotonic(), []
    for split in range(1 if given.quick else given.splits):
        for name, frame in frames.items():
            for model in models:
                given.only_show = given.only_show or time.monotonic() - began > given.seconds
                done = record(TABLES[name], frame, split, model, given)
                if done is not None:
                    records.append(done)
                    say(f"{name:14} split {split} {model:9} {done['seconds']:6.1f} s   {table_scores.line(done)}")
    result: dict[str, Any] = {"budgets": show(of_models(records), say)}
    picture = given.picture or ("diabetes" if given.quick else "concrete")
    if rival and not given.only_show and picture in {table.name for table in installed((picture,))}:
        result["picture"] = str(given.kept / "additive.png")
        given.kept.mkdir(parents=True, exist_ok=True)
        result["curves_correlate"] = draw(TABLES[picture], TABLES[picture].frame(), given.quick, given.kept / "additive.png")
    say(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
