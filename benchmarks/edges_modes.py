"""Modes of `edges` side by side: how often is a task solved, in how many edges, and how often in the fewest that can do it?

    python benchmarks/edges_modes.py [--data 0] [--seeds 100] [--rows WORDS ...] [--quick]

XOR and addition with the configs of `configs/papers`: our recipe beside the text and the code of the paper, and gates. Solved,
on held-out data: accuracy >= 0.95, R2 >= 0.999. Edges: of the median network. At the limit: solved with the fewest edges that
can be exact, 6 for XOR and 3 for addition. ``--data`` is the seed of the samples: the recipe's level was chosen on 0; no level
of `hard_concrete` was chosen, all that were tried are shown. ``--rows``: those alone whose words have all of these in them.
The last line is one JSON object: {row: {solved, edges, limit, seeds}}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nasplug.machine import arithmetic
from nasplug.study import Study

PAPERS = Path(__file__).parents[1] / "configs" / "papers"
TASKS = {"xor": ("test_accuracy", 0.95, 6), "addition": ("test_r2", 0.999, 3)}
RAMP = "ramp: {use: linear, since: 0.1, until: 0.7}"
STILL = "temperature={use: constant, value: 0.6667}"
LEVELS = (0.001, 0.004, 0.016)


def gates(level: float, l1: float = 0.016) -> str:
    """Penalties of weights and gates, with the recipe's ramp."""
    weights = f"{{use: l1, level: {l1}, {RAMP}}}, " if l1 else ""
    return f"penalties=[{weights}{{use: soft_count, level: {level}, {RAMP}}}]"


def rows() -> Iterator[tuple[str, str, str, list[str]]]:
    """Words, task, config, overrides."""
    for task in TASKS:
        eight = ["method.hidden=[8]"]
        yield f"{task} 2-8-1, annealed, recipe", task, f"edges_{task}", eight
        yield f"{task} 2-4-1, annealed, recipe", task, f"edges_{task}", ["method.hidden=[4]"]
        without = ["discretizers=[{use: threshold, eps: 0.01}]"]
        yield f"{task} 2-8-1, annealed, recipe without fold", task, f"edges_{task}", [*eight, *without]
        gated = [*eight, "method.mode=gated", gates(0.001)]
        yield (
            f"{task} 2-8-1, gated, temperature 1, l1 and soft_count 0.001",
            task,
            f"edges_{task}",
            [*gated, "temperature=null"],
        )
        yield f"{task} 2-8-1, gated, temperature to 0, l1 and soft_count 0.001", task, f"edges_{task}", gated
        for level in LEVELS:
            drawn = [*eight, "method.mode=hard_concrete", STILL]
            yield f"{task} 2-8-1, hard_concrete, l1 and soft_count {level}", task, f"edges_{task}", [*drawn, gates(level)]
            yield f"{task} 2-8-1, hard_concrete, soft_count {level}", task, f"edges_{task}", [*drawn, gates(level, l1=0)]
        plain = ["method.hidden=[4]", "method.mode=l1", "temperature=null"]
        yield f"{task} 2-4-1, the recipe from l1's start", task, f"edges_{task}", plain
        yield f"{task}, l1, the paper's text", task, f"edges_{task}_l1", []
        yield f"{task}, snap, the paper's code", task, f"edges_{task}_snap", []


def measure(task: str, config: str, overrides: Sequence[str]) -> dict[str, float]:
    """One study."""
    column, least, fewest = TASKS[task]
    with tempfile.TemporaryDirectory() as store:
        study = Study.from_yaml(PAPERS / f"{config}.yaml", [f"store={store}", "mlflow=null", *overrides])
        frame = study.run("serial", report=False).frame
    frame = frame[frame["fit"].isna()] if "fit" in frame else frame
    solved = frame[column] >= least
    return {
        "solved": int(solved.sum()),
        "edges": float(frame["edges"].median()),
        "limit": int((solved & (frame["edges"] <= fewest)).sum()),
        "seeds": len(frame),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--rows", nargs="+", default=[])
    parser.add_argument("--quick", action="store_true", help="4 seeds, 100 steps: to see that it runs")
    given = parser.parse_args(arguments)
    more = ["seeds=4", "train.steps=100", "train.finetune=20"] if given.quick else [f"seeds={given.seeds}"]
    found: dict[str, Any] = {}
    with arithmetic(1):
        for words, task, config, overrides in rows():
            if not all(word in words for word in given.rows):
                continue
            found[words] = one = measure(task, config, [f"task.seed={given.data}", *overrides, *more])
            print(
                f"{words:62} solved {one['solved']:3} of {one['seeds']}   edges {one['edges']:4g}   limit {one['limit']:3}",
                flush=True,
            )
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
