"""How fast is spectral search? Packed and recursive, against one network at a time, built from the paper's equations.

    python benchmarks/sparcs.py [--quick]

Whole steps (forward, loss, backward, Adam) on one thread, rounds of both sides interleaved, medians; the last line is one
JSON object. The peer makes every skip block by (4.3), with eigenvalues as vectors and not as diagonal matrices, sums
over all earlier layers (4.5), and takes `torch.optim.Adam`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable

import torch
from rounds import measure
from torch import Tensor, nn

from nasplug.machine import arithmetic
from nasplug.optimizers import Adam
from nasplug.plugins import load_plugins
from nasplug.replicas import uniform
from nasplug.schedules import constant, track
from nasplug.tasks import Split, Task, unscaled
from nasplug.train import Search, compile_step, start, step

MANY = 64
CACHED = 16
"""64 wide networks are trained in packs of about this size, one after the other: what the planner takes, as the activations of
more fall out of the caches. Such packs are compiled (`compile: auto`) in any study of some minutes; the peer is not."""


def task(widths: tuple[int, ...], samples: int) -> Task:
    """Noise of that shape: only its size matters here."""

    def noise(name: str, size: int) -> Tensor:
        return uniform(torch.tensor([0]), name, (size, samples), -1.0, 1.0)[0].float()

    split = Split(noise("x", widths[0]), noise("y", widths[-1]))
    return unscaled("noise", (split, split, split))


class Materialised(nn.Module):
    """One network by the paper's equations; samples as rows."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths
        pairs = itertools.pairwise(widths)
        self.phi = nn.ParameterList([nn.init.xavier_uniform_(torch.empty(to, source)) for source, to in pairs])
        values = [torch.full((w,), 0.1) for w in widths[1:-1]] + [torch.ones(widths[-1])]
        self.eigenvalues = nn.ParameterList([torch.zeros(widths[0]), *values])
        self.eigenvalues[0].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        values, last = [x], len(self.widths) - 1
        for layer in range(1, last + 1):
            phi = self.phi[layer - 1]
            w = phi * self.eigenvalues[layer - 1] - self.eigenvalues[layer].unsqueeze(1) * phi
            z = values[layer - 1] @ w.T
            for source in range(layer - 2, -1, -1):
                w = -w @ self.phi[source]
                z = z + values[source] @ w.T
            values.append(torch.relu(z) if layer < last else z)
        return values[-1]


def peer(widths: tuple[int, ...], samples: int) -> Callable[[], None]:
    """A step of one network."""
    data, net = task(widths, samples), Materialised(widths)
    x, y = data.train.x.T.contiguous(), data.train.y.T.contiguous()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3)

    def once() -> None:
        optimizer.zero_grad()
        (net(x) - y).square().mean().backward()
        optimizer.step()

    return once


def pack(widths: tuple[int, ...], samples: int, k: int, form: str = "auto", compiled: bool = False) -> Callable[[], None]:
    """A step of K networks."""
    advance = compile_step() if compiled else step
    plugins = load_plugins()
    method = plugins.build("method", "sparcs", {"hidden": list(widths[1:-1]), "form": form})
    one = track([constant()], [0] * k, [1.0] * k, 1).to("cpu", torch.float32)
    search = Search(task(widths, samples), method, (), Adam(), torch.arange(k), 1, one, one, ())
    state = start(search)
    state.params["eigenvalues"] += 0.1  # awake, as the peer
    batch, lr, tau = (search.task.train.x, search.task.train.y), torch.full((k,), 1e-3), torch.ones(k)

    def once() -> None:
        advance(search, state.params, state.moments, batch, lr, tau, (), None)

    return once


def fit(x: list[int], y: list[float]) -> tuple[float, float]:
    """Slope and R2 of a straight line."""
    mx, my = statistics.mean(x), statistics.mean(y)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    rest = sum((b - my - slope * (a - mx)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, 1.0 - rest / sum((b - my) ** 2 for b in y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rounds: to see that it runs")
    with arithmetic(1):  # as packs compute, and the peer beside them
        report(3 if parser.parse_args().quick else 15)


def report(rounds: int) -> None:
    """Measure and print."""
    figures: dict[str, float] = {}
    wide, deep = (3, 300, 1), (100,) * 12
    for key, widths, samples, k, compiled in (
        ("hidden300_vs_materialised", wide, 100, MANY, False),
        ("hidden300_compiled_pack_of_16", wide, 100, CACHED, True),
        ("depth12_vs_materialised", deep, 1024, 1, False),
    ):
        ours = pack(widths, samples, k, compiled=compiled)
        found = measure({"peer": (peer(widths, samples), 1), "nasplug": (ours, k)}, rounds)
        figures[key] = found["peer"] / found["nasplug"]
        words = f"{len(widths)} layers, widest {max(widths)}, batch {samples}, pack of {k}{', compiled' if compiled else ''}"
        print(f"{words}: peer {found['peer']:.3f} ms, nasplug {found['nasplug']:.3f} ms per network-step, {figures[key]:.1f}x")
    depths = [2, 4, 8, 16, 32]
    sides = {str(d): (pack((50,) * (d + 1), 256, 1, "recursive"), 1) for d in depths}
    times = list(measure(sides, rounds).values())
    figures["depth_slope_ms"], figures["depth_r2"] = fit(depths, times)
    shown = ", ".join(f"{d}: {t:.2f}" for d, t in zip(depths, times, strict=True))
    print(f"recursive, width 50, batch 256, ms per step by blocks: {shown}")
    print(f"a straight line: {figures['depth_slope_ms']:.3f} ms per block, R2 {figures['depth_r2']:.4f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
