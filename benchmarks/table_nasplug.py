"""nasplug's side of `tables.py`: a study of the development rows, through the public API, tested on rows that it never saw."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rivals import Array, Columns, Point
from table_scores import best_of_each_size, scores, timed
from table_sets import Table

import nasplug
from nasplug import Networks, Study
from nasplug.data.encoder import Encoder
from nasplug.folds import candidates as candidates_of
from nasplug.looking import look

__all__ = ["candidates", "code", "study"]


def study(path: Path, table: Table, least: int, quick: bool) -> dict[str, Any]:
    """What `nasplug look --write` proposes, with a test split as small as can be: ours is elsewhere.

    ``least``: rows of the smallest class.
    """
    made = dict(look(str(path), ["target"], {"kind": table.kind}).study)
    made |= {"study": "recipe", "store": str(path.parent / "runs"), "mlflow": None}
    made["task"] = made["task"] | {"test": min(0.3, max(0.02, 2 / least))}
    if quick:
        made["penalties"] = [made["penalties"][0] | {"level": {"log": [1e-3, 1e-1], "points": 5}}]
        made["train"] = made["train"] | {"steps": 400}
        made |= {"seeds": 1}
    return made


def code() -> str:
    """Twelve letters that change with nasplug's code, its plugins' and the recipe."""
    root = Path(nasplug.__file__).parents[1]
    files = sorted([*(root / "nasplug").rglob("*.py"), *(root / "plugins" / "nasplug-edges").glob("nasplug_edges/*.py")])
    h = hashlib.sha256(b"".join(file.read_bytes() for file in [*files, Path(__file__)]))
    return h.hexdigest()[:12]


def candidates(
    table: Table, inputs: pd.DataFrame, y: Array, test: pd.DataFrame, y_test: Array, classes: tuple[str, ...], quick: bool
) -> list[dict[str, Any]]:
    """The networks that some budget takes, with their validation errors from the study and their scores on the test rows."""
    labels = table.kind != "regression"
    frame = inputs.assign(target=np.asarray(classes)[y.astype(int)] if labels else y)
    least = int(np.bincount(y.astype(int)).min()) if labels else len(y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        frame.to_csv(path, index=False)
        test.to_csv(path.with_name("test.csv"), index=False)
        done = Study.from_dict(study(path, table, least, quick)).run("serial")
        rows = pd.read_csv(path.with_name("test.csv"))  # as the development rows were read
        return tested(done, table, rows, y_test)


def tested(done: Study, table: Table, test: pd.DataFrame, y_test: Array) -> list[dict[str, Any]]:
    """Candidates of a finished study."""
    frame = candidates_of(done.frame[done.frame["status"] == "finished"])  # of folds, what was trained on all of them
    facts = done.facts_of(str(frame["replica"].iloc[0]))
    assert facts.encoder is not None  # for the type checker
    encoder = Encoder.from_plain(facts.encoder)
    edges = {pack: knots(done.networks(pack), encoder) for pack in {str(name).split("/")[0] for name in frame["replica"]}}
    found = []
    for _, row in frame.iterrows():
        pack, place = str(row["replica"]).split("/")
        numbers = int(row["parameters"]) + edges[pack][int(place)]
        one = {"name": row["replica"], "valid_error": float(row["valid_error"]), "valid_loss": float(row["valid_loss"])}
        found.append(one | {"numbers": numbers, "edges": int(row["edges"])})
    x = encoder.features(test)
    chosen = str(done.best()["replica"])
    made = []
    for one in best_of_each_size(found):
        network = done.network(one["name"])
        read = {encoder.groups[i] for i in network.record["kept_inputs"]}

        def predict(rows: Columns, network: torch.nn.Module = network) -> Array:
            with torch.inference_mode():
                out = network(torch.tensor(rows.x, dtype=torch.float32)).double().numpy()
            if table.kind == "regression":
                return np.asarray(out[:, 0])
            return np.stack([1 - out[:, 0], out[:, 0]], 1) if table.kind == "binary" else np.asarray(out)

        point, rows = Point(predict, one["numbers"], len(read)), Columns(test, x)
        error, score, loss = scores(table.kind, predict(rows), y_test)
        more = {"inputs": len(read), "error": error, "score": score, "loss": loss, "us": timed(point, rows)}
        made.append(one | more | {"chosen": one["name"] == chosen})
    return made


def knots(nets: Networks, encoder: Encoder) -> list[int]:
    """How many bin edges each network stores: the ends of the ramps that it reads, each once."""
    ends: list[tuple[int, ...]] = []  # of each feature
    count = 0
    for column in encoder.columns:
        ramps = max(len(column.knots) - 1, 0)
        own = [() for _ in range(column.width)]
        own[1 : 1 + ramps] = [(count + b, count + b + 1) for b in range(ramps)]  # type: ignore[misc]
        ends += own
        count += len(column.knots)
    if not count:
        return [0] * nets.replicas
    table = torch.zeros(len(ends), count)
    for place, own_ends in enumerate(ends):
        table[place, list(own_ends)] = 1.0
    reads = sum((nets.block(edge) != 0).any(1) for edge in nets.blocks if edge[1] == 0)  # (K, F)
    assert isinstance(reads, torch.Tensor)  # for the type checker
    return [int(n) for n in (((reads > 0).float() @ table) > 0).sum(1)]
