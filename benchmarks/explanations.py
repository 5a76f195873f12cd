"""Do explanations sum to the output, on every network of the front of every study that comes along?

    python benchmarks/explanations.py [--quick] [--steps 200]

Each config is trained with one seed and few steps (what is checked holds for any network), and each network of its front is
explained on 8 rows of its background: base and contributions are summed, and compared with what the network itself computes in
float32, on the scale on which its last layer sums. A difference is in units of the output's scale: of 1, or of the largest
absolute output where that is larger. A network with a stem reads pixels and has no columns: it is counted, and not explained.

The last line is one JSON object: ``networks`` (explained), ``with_a_stem``, ``sampled`` (of the explained: not all exact, since
more than 12 columns meet in a neuron; the sum is exact all the same), ``max_difference``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from nasplug.compact import CompactNetwork
from nasplug.explain import Background
from nasplug.explain.shapley import shapley
from nasplug.explain.unfolded import layer_0, unfold
from nasplug.study import Study

CONFIGS = Path(__file__).parent.parent / "configs"
JOBS = ("swat_compress.yaml",)  # they are no studies
QUICK = ("quickstart.yaml", "edges_xor.yaml", "edges_addition.yaml")
ROWS, OTHERS = 8, 16


@torch.no_grad()
def difference(network: CompactNetwork, background: Background) -> tuple[float, bool]:
    """How far base + contributions are from the network's own last sums, and whether every contribution is exact."""
    features = torch.from_numpy(background.features)
    h = layer_0(network, features)
    index = torch.linspace(0, len(h) - 1, min(OTHERS, len(h))).round().long()
    weights = torch.full((len(index),), 1.0 / len(index), dtype=torch.float64)
    values, base, exact = shapley(unfold(network), h[:ROWS], h[index], weights)
    told = base + values.sum(1)
    bare = CompactNetwork(network.record | {"link": "identity"}, network.functions)
    state = dict(network.state_dict())
    if network.record["link"] == "exp":
        told = told - state["output_scale"].log()
        state |= {"output_scale": torch.ones_like(state["output_scale"])}
    bare.load_state_dict(state)
    own = bare(features[:ROWS]).double()
    return float((told - own).abs().max() / own.abs().max().clamp(min=1.0)), exact


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} alone, with 30 steps")
    parser.add_argument("--steps", type=int, default=200, help="of training")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = 30 if chosen.quick else chosen.steps
    total = {"networks": 0, "with_a_stem": 0, "sampled": 0, "max_difference": 0.0}
    print(f"{'config':32}{'front':>7}{'explained':>11}{'sampled':>9}{'difference':>12}{'s':>6}")
    for path in sorted(CONFIGS.rglob("*.yaml")):
        if path.name in JOBS or (chosen.quick and path.name not in QUICK):
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as store:
            given = [f"store={store}", "mlflow=null", "seeds=1", f"train.steps={steps}", "train.finetune=0"]
            study = Study.from_yaml(path, given).run("serial", report=False)
            front = list(study.front()["replica"])
            networks = [(study.network(str(name)), study.task_of(str(name))) for name in front]
            found = [difference(net, Background.of_task(task)) for net, task in networks if net.stem is None]
        worst = max((gap for gap, _ in found), default=0.0)
        sampled = sum(not exact for _, exact in found)
        seconds = time.perf_counter() - began
        print(f"{path.name:32}{len(front):7}{len(found):11}{sampled:9}{worst:12.1e}{seconds:6.0f}", flush=True)
        total["networks"] += len(found)
        total["with_a_stem"] += len(front) - len(found)
        total["sampled"] += sampled
        total["max_difference"] = max(total["max_difference"], worst)
    print(json.dumps(total))


if __name__ == "__main__":
    main()
