"""When do edges go? Edges and validation loss over the steps of training, beside the three phases that the paper tells of.

    python benchmarks/edges_dynamics.py [--seeds 100] [--points 10] [--quick]

Trains `configs/papers/edges_xor_l1.yaml`, `edges_addition_l1.yaml` (the paper's text) and our recipes, `edges_xor.yaml` with 4
hidden units and `edges_addition.yaml`. An edge is a weight of at least 0.01. Medians over seeds at equal distances, the last
one before networks are cut. At step 0 every edge is there. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasplug import results
from nasplug.machine import arithmetic
from nasplug.study import Study

PAPERS = Path(__file__).parents[1] / "configs" / "papers"
STUDIES: dict[str, tuple[str, list[str]]] = {
    "XOR 2-4-1, l1, the paper's text": ("edges_xor_l1", []),
    "addition 2-8-1, l1, the paper's text": ("edges_addition_l1", []),
    "XOR 2-4-1, annealed, our recipe": ("edges_xor", ["method.hidden=[4]"]),
    "addition 2-8-1, annealed, our recipe": ("edges_addition", []),
}


def curves(config: str, overrides: Sequence[str], points: int) -> dict[str, list[float]]:
    """``step``, ``edges`` and ``loss`` (validation): medians over a study's networks."""
    with tempfile.TemporaryDirectory() as store:
        given = [f"store={store}", "mlflow=null", f"train.reports={points}", *overrides]
        study = Study.from_yaml(PAPERS / f"{config}.yaml", given).run("serial")
        frame = results.read(study.folder, histories=True)

    def median(column: str) -> list[float]:
        found: list[float] = np.median(np.stack([np.asarray(one) for one in frame[column]]), 0).tolist()
        return found

    return {"step": median("history_step"), "edges": median("history_edges"), "loss": median("history_valid_loss")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="4 seeds, 100 steps: to see that it runs")
    given = parser.parse_args(arguments)
    seeds, more = (4, ["train.steps=100"]) if given.quick else (given.seeds, [])
    found: dict[str, Any] = {}
    with arithmetic(1):
        for words, (config, overrides) in STUDIES.items():
            found[words] = curve = curves(config, [f"seeds={seeds}", *overrides, *more], given.points)
            for name, form in (("step", "{:,.0f}"), ("edges", "{:g}"), ("loss", "{:.3g}")):
                print(f"{words if name == 'step' else '':38} {name:6}", *(f"{form.format(v):>8}" for v in curve[name]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
