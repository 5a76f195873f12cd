"""GAEA against DARTS on the same budget, and packed bilevel search against a loop over single networks.

    python benchmarks/mixture.py [--quick]

1. First-order bilevel search for the activation of one layer of 8 (seven candidates) on data of a random teacher with noise,
   half of the training samples held for the choices; weights by Adam 0.01 in all. DARTS: softmax, Adam (betas .5, .999) at
   three rates, the paper's among them. GAEA: exponentiated gradient at three rates, the paper's among them. For each: the
   steps until the mixture's entropy stays below 0.1 nats, and the test loss of the mixture, of its argmax, of its closest
   candidate and of argmin L (the least training loss), without any training in between.
2. The same search, 256 networks as one pack, eager and compiled, against plain modules one at a time.

One thread; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

import torch
from rounds import measure
from torch import Tensor, nn
from torch.nn import functional as F

from nasplug.activations import function_of
from nasplug.config import parse
from nasplug.networks import Networks, forward, harden
from nasplug.plan import Components, Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.train import Search, ValidationLoss, alternate, compile_step, evaluate, halves, start, train
from nasplug_mixture import USUAL, closest, least

SEARCHES = {
    "DARTS": ("softmax", {"use": "adam", "beta1": 0.5}, (3e-4, 3e-3, 3e-2)),
    "GAEA": ("simplex", {"use": "exponentiated"}, (0.1, 1.0, 10.0)),
}
EVERY = 25
SURE = 0.1
PACKED = 256
HIDDEN = 8


def pack(name: str, seeds: int, steps: int) -> tuple[Components, Search, list[float]]:
    """A pack of networks at each rate of a search, the same seeds at each."""
    how, optimizer, rates = SEARCHES[name]
    config: Any = parse(
        {
            "study": "s",
            "task": {"use": "mixture_teacher", "activations": ["tanh"], "noise": 0.1, "samples": 640},
            "method": {"use": "mixture", "hidden": [HIDDEN], "per": "layer", "parametrisation": how},
            "train": {
                "steps": steps,
                "lr": 0.01,
                "architecture": {"optimizer": optimizer, "lr": {"choice": list(rates)}, "share": 0.5},
            },
            "seeds": seeds,
        }
    )
    plugins = load_plugins()
    lr = [rate for rate in rates for _ in range(seeds)]
    rows = list(range(seeds)) * len(rates)
    made = Pack("p", {}, {"train.architecture.lr": lr}, rows, [0] * len(rows))
    parts = components(config, made, plugins)
    return parts, assemble(parts, made, plugins), lr


def entropy(nets: Networks) -> Tensor:
    """``-sum a log a`` in nats, the mean over sites: ``(K,)``."""
    return torch.stack([-(c * c.clamp(min=1e-30).log()).sum(-1).mean(1) for c in nets.choices.values()]).mean(0)


def duel(name: str, seeds: int, steps: int) -> list[dict[str, float]]:
    """Medians over seeds at each rate."""
    parts, search, lr = pack(name, seeds, steps)
    reached = torch.full((len(lr),), math.inf)
    for report in train(search, every=EVERY):
        nets = parts.method.relax(report.state.params, torch.ones(len(lr)))
        below = entropy(nets) < SURE
        reached = torch.where(below, reached.clamp(max=float(report.step)), math.inf)  # above again: not there yet

    def tested(some: Networks) -> Tensor:
        return evaluate(parts.task, parts.task.test, some, forward)["loss"]

    losses = {
        "soft": tested(nets),
        "argmax": tested(harden(nets)),
        "closest": tested(closest()(nets, ValidationLoss(parts.task))),
        "argmin_l": tested(least()(nets, ValidationLoss(parts.task))),
    }
    found = []
    for rate in dict.fromkeys(lr):
        rows = torch.tensor([value == rate for value in lr])
        found.append(
            {
                "rate": rate,
                "sure": float((reached[rows] < math.inf).double().mean()),
                "steps": float(reached[rows].median()),
                "entropy": float(entropy(nets)[rows].median()),
                **{key: float(value[rows].median()) for key, value in losses.items()},
            }
        )
    return found


class Single(nn.Module):
    """One network of the same kind as a plain module; samples as rows."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, 1)
        self.logits = nn.Parameter(torch.zeros(len(USUAL)))
        self.functions = [function_of(name) for name in USUAL]

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        mixed = sum(p * f(z) for p, f in zip(torch.softmax(self.logits, 0), self.functions, strict=True))
        return self.last(mixed)  # type: ignore[no-any-return]


def single(search: Search) -> Callable[[], None]:
    """A bilevel step of one plain module: `torch.optim.Adam` for weights and for logits."""
    inner, held = halves(search.task.train, 0.5, 0)
    data = [t.T.contiguous() for t in (*inner.pair, *held.pair)]
    net = Single(search.task.inputs)
    weights = torch.optim.Adam([*net.first.parameters(), *net.last.parameters()], 0.01, fused=True)
    choices = torch.optim.Adam([net.logits], 3e-3, betas=(0.5, 0.999), fused=True)

    def once() -> None:
        for optimizer, x, y in ((choices, data[2], data[3]), (weights, data[0], data[1])):
            leaves = [p for group in optimizer.param_groups for p in group["params"]]
            loss = F.mse_loss(net(x), y)
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                leaf.grad = gradient
            optimizer.step()

    return once


def packed(search: Search, compiled: bool) -> Callable[[], None]:
    """A bilevel step of the pack, compiled as in any study of some minutes (`compile: auto`), or as it is."""
    advance = compile_step(alternate) if compiled else alternate
    inner, held = halves(search.task.train, 0.5, 0)
    state = start(search)
    lr, tau = search.lr.at(0), search.tau.at(0)

    def once() -> None:
        advance(search, state.params, state.moments, (inner.pair, held.pair), lr, tau, (), None)

    return once


def race(rounds: int) -> dict[str, float]:
    """Milliseconds per network and step, sides in turn, medians."""
    search = pack("DARTS", -(-PACKED // 3), 1)[1].take(torch.arange(PACKED))
    sides = {
        "single": (single(search), 1),
        "eager": (packed(search, False), PACKED),
        "compiled": (packed(search, True), PACKED),
    }
    return measure(sides, rounds, warm=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few networks and steps: to see that it runs")
    parser.add_argument("--race", action="store_true", help="the second part alone")
    given = parser.parse_args()
    quick = given.quick
    torch.set_num_threads(1)
    seeds, steps, rounds = (4, 100, 3) if quick else (32, 4000, 30)
    figures: dict[str, Any] = {}
    for name in () if given.race else SEARCHES:
        for found in duel(name, seeds, steps):
            print(
                f"{name} at {found['rate']:<6g}: entropy < {SURE} for good after {found['steps']:>5g} steps (median; "
                f"{100 * found['sure']:3.0f} % of {seeds} within {steps}), at the end {found['entropy']:.3f}; test loss soft "
                f"{found['soft']:.4f}, argmax {found['argmax']:.4f}, closest {found['closest']:.4f}, "
                f"argmin L {found['argmin_l']:.4f}",
                flush=True,
            )
            figures |= {f"{name.lower()}_{found['rate']:g}_{key}": value for key, value in found.items() if key != "rate"}
    times = race(rounds)
    for side in ("eager", "compiled"):
        figures[f"bilevel_{side}_vs_loop"] = times["single"] / times[side]
    print(
        f"bilevel step, {PACKED} networks: one at a time {times['single']:.3f} ms; packed {times['eager']:.4f} ms per network: "
        f"{figures['bilevel_eager_vs_loop']:.1f}x; compiled {times['compiled']:.4f} ms: "
        f"{figures['bilevel_compiled_vs_loop']:.1f}x"
    )
    finite = {key: float(f"{value:.4g}") for key, value in figures.items() if math.isfinite(value)}
    print(json.dumps(finite))


if __name__ == "__main__":
    main()
