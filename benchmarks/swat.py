"""`swat` measured: steps of K networks through the decoder, against one and against direct search; the autoencoder's error.

    python benchmarks/swat.py [--quick]

One thread, whole training steps (decoder, forward, loss, L1, backward, Adam), 2 hidden layers, 128 samples; medians of
interleaved rounds. The error is the functional error over the network's mean square, median over 1,000 fresh networks per
depth, through the decoder of their own depth. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from rounds import measure

from nasplug.optimizers import Adam
from nasplug.plugins import load_plugins
from nasplug.schedules import constant, track
from nasplug.train import Search, start, step
from nasplug_swat import load, scores

SAMPLES = 128
PACKS = (1, 16, 64, 256)


def pack(k: int, mode: str) -> Callable[[], None]:
    """A step of K networks."""
    plugins = load_plugins()
    task = plugins.build("task", "cornn", {"function": "Himmelblau", "train": SAMPLES * 5 // 4, "test": 10})
    method = plugins.build("method", "swat", {"mode": mode, "depth": 2})
    penalty = plugins.build("regularizer", "l1", {})
    one = track([constant()], [0] * k, [1.0] * k, 1).to("cpu", torch.float32)
    search = Search(task.to("cpu", torch.float32), method, (penalty,), Adam(), torch.arange(k), 1, one, one, (one,))
    state = start(search)
    batch, lr, tau, levels = search.task.train.pair, torch.full((k,), 0.01), torch.ones(k), (torch.full((k,), 1e-5),)

    def once() -> None:
        step(search, state.params, state.moments, batch, lr, tau, levels, None)

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and networks: to see that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    sides = {f"{mode} {k}": (pack(k, mode), k) for mode in ("latent", "direct") for k in PACKS}
    found = measure(sides, 5 if quick else 40)
    for mode in ("latent", "direct"):
        print(f"{mode}: " + ", ".join(f"K = {k}: {found[f'{mode} {k}']:.3f}" for k in PACKS) + " ms per network and step")
    errors = scores(load(None), 100 if quick else 1000, seed=1)
    depths = range(1, load(None).space.deepest + 1)
    medians = {str(depth): float(errors[depth, depth].median()) for depth in depths}
    for depth in depths:
        tail = float(errors[depth, depth].quantile(0.9))
        across = [f"{float(errors[depth, other].median()):.4f}" for other in depths if other != depth]
        print(f"depth {depth}: median {medians[str(depth)]:.5f}, 90th percentile {tail:.4f}; others {', '.join(across)}")
    figures = {
        "k64_vs_k1_per_network": round(found["latent 1"] / found["latent 64"], 2),
        "latent_vs_direct_k64": round(found["latent 64"] / found["direct 64"], 2),
        "median_functional_error_by_depth": {depth: round(value, 6) for depth, value in medians.items()},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
