"""What a search sees: the loss around its path, and on straight lines between networks found from different seeds.

    python benchmarks/swat_landscape.py [--picture FILE] [--quick]

Functions of CORNN, 2 hidden layers of 7, 300 steps on all samples, rate 0.03, level medium; `latent`, `untrained` and `direct`
begin with the same networks. Told per mode, over functions with 90 % bounds: the loss of what was found (median over seeds);
the *barrier* between networks found from different seeds, which is the largest loss on the straight line between them less the
larger of its ends' (median over pairs); the same from the start of a search to its end. Losses are test MSE / variance with the
gates of the last step; a barrier is 0 where no point of the line is worse than both ends. `--picture` draws, for the first
function and seed, the plane of the path's two main directions (PCA) with the path in it, and below the lines between pairs. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nasplug.config import parse
from nasplug.contracts import Params
from nasplug.networks import forward
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.train import Search, start, train

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FUNCTIONS = (
    "Himmelblau",
    "Ackley",
    "Beale",
    "Bird",
    "Cross-In-Tray",
    "Drop-Wave",
    "Egg Crate",
    "Leon",
    "McCormick",
    "Rosenbrock",
)
MODES = ("latent", "untrained", "direct")
LINE, GRID, ROOM = 21, 41, 0.35  # points on a line and a side of the plane; how far the plane goes beyond the path
DRAWS = 2000


@dataclass(frozen=True)
class Paths:
    """Searches of one function from several seeds: all rows' parameters at points of the path, the first before any step."""

    search: Search
    points: list[Params]

    def loss(self, params: Params) -> Tensor:
        """Test MSE over the variance of the targets, ``(K,)``, with the gates of the last step."""
        task = self.search.task
        k = len(params["threshold"])
        tau = self.search.tau.at(self.search.steps - 1)[:1].expand(k)
        with torch.no_grad():
            nets = self.search.direct(self.search.method.relax(params, tau))
            return (forward(nets, task.test.x) - task.test.y).square().mean((1, 2)) / task.test.y.var(correction=0)

    def between(self, one: Params, other: Params) -> Tensor:
        """Losses on the straight line, ``(LINE, K)``."""
        shares = torch.linspace(0.0, 1.0, LINE)
        return torch.stack([self.loss({name: p + (other[name] - p) * share for name, p in one.items()}) for share in shares])


def searched(function: str, mode: str, seeds: int, steps: int) -> Paths:
    config: Any = parse(
        {
            "study": "s",
            "task": {"use": "cornn", "function": function, "train": 320, "test": 256},
            "method": {"use": "swat", "mode": mode, "depth": 2, "sharpness": None},
            "penalties": [{"use": "swat_levels", "size": "medium", "level": 1.0}],
            "temperature": {"use": "linear", "start": 1.0, "end": 0.01, "until": 0.37125},
            "train": {"steps": steps, "lr": 0.03},
            "seeds": seeds,
        }
    )
    plugins = load_plugins()
    pack = Pack("p", {}, {}, list(range(seeds)), [0] * seeds)
    search = assemble(components(config, pack, plugins), pack, plugins)
    first = start(search).params
    points = [{name: p.detach().clone() for name, p in first.items()}]
    for report in train(search, every=max(1, steps // 30)):
        points.append({name: p.detach().clone() for name, p in report.state.params.items()})
    return Paths(search, points)


def rolled(params: Params) -> Params:
    """The next seed's parameters in each row's place: the other ends of as many lines."""
    return {name: p.roll(-1, 0) for name, p in params.items()}


def barrier(line: Tensor) -> float:
    """The median over rows."""
    return float((line.max(0).values - torch.maximum(line[0], line[-1])).median())


def bounded(values: list[float]) -> list[float]:
    """Mean over functions with 90 % bounds (bootstrap)."""
    each = np.asarray(values)
    drawn = each[np.random.default_rng(0).integers(0, len(each), (DRAWS, len(each)))].mean(1)
    return [float(each.mean()), *map(float, np.quantile(drawn, [0.05, 0.95]))]


def plane(path: Paths) -> tuple[Tensor, Tensor, tuple[float, float, float, float], float]:
    """Of the first row: losses on the plane of the path's main directions, the path in it, its ends, and the plane's share."""
    name = "latent" if "latent" in path.points[0] else "matrix"
    flat = torch.stack([params[name][0].flatten() for params in path.points])  # (points, numbers)
    last = path.points[-1]
    u, sizes, main = torch.linalg.svd(flat - flat[-1], full_matrices=False)
    there = (u * sizes)[:, :2]
    low, high = there.min(0).values, there.max(0).values
    low, high = low - ROOM * (high - low), high + ROOM * (high - low)
    x, y = (torch.linspace(float(low[i]), float(high[i]), GRID) for i in (0, 1))
    grid = flat[-1] + y.view(-1, 1, 1) * main[1] + x.view(1, -1, 1) * main[0]
    params = {key: p[:1].expand(GRID * GRID, *p.shape[1:]) for key, p in last.items()}
    losses = path.loss(params | {name: grid.reshape(-1, *last[name].shape[1:])}).view(GRID, GRID)
    extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    return losses, there, extent, float(sizes[:2].square().sum() / sizes.square().sum())


def drawn(function: str, paths: dict[str, Paths]) -> Figure:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(paths), 6.0), layout="constrained")
    above, below = figure.subplots(2, len(paths), height_ratios=[3, 2])
    for top, under, (mode, path) in zip(above, below, paths.items(), strict=True):
        losses, there, extent, share = plane(path)
        norm = LogNorm(1e-3, 10.0)
        shown = top.imshow(losses.clamp(1e-3, 10.0), origin="lower", extent=extent, aspect="auto", norm=norm, cmap="viridis")
        top.plot(there[:, 0], there[:, 1], ".-", color="white", linewidth=1.0, markersize=3)
        top.plot(*there[-1], "*", color="#d55e00", markersize=10)
        top.set_title(f"{mode}: {100.0 * share:.0f} % of the path", fontsize=9)
        under.semilogy(torch.linspace(0.0, 1.0, LINE), path.between(path.points[-1], rolled(path.points[-1])), linewidth=1.0)
        under.set_ylim(1e-3, 30.0)
        under.set_xlabel("share of the way from one seed's network to another's", fontsize=8)
    figure.colorbar(shown, ax=list(above), label="test MSE / variance")
    below[0].set_ylabel("test MSE / variance", fontsize=8)
    figure.suptitle(f"{function}: the plane of a search's path, and lines between networks of different seeds", fontsize=10)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="two functions, few seeds and steps: to see that it runs")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    seeds, steps = (3, 20) if given.quick else (8, 300)
    told: dict[str, dict[str, list[float]]] = {mode: {"loss": [], "seeds": [], "start": []} for mode in MODES}
    for function in FUNCTIONS[:2] if given.quick else FUNCTIONS:
        paths = {mode: searched(function, mode, seeds, steps) for mode in MODES}
        for mode, path in paths.items():
            first, last = path.points[0], path.points[-1]
            told[mode]["loss"].append(float(path.loss(last).median()))
            told[mode]["seeds"].append(barrier(path.between(last, rolled(last))))
            told[mode]["start"].append(barrier(path.between(first, last)))
        if given.picture is not None and function == FUNCTIONS[0]:
            given.picture.parent.mkdir(parents=True, exist_ok=True)
            drawn(function, paths).savefig(given.picture, dpi=120, facecolor="white")
            print(given.picture)
    found = {mode: {name: bounded(values) for name, values in each.items()} for mode, each in told.items()}
    for mode, each in found.items():
        words = ", ".join(f"{name} {mean:.3f} [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in each.items())
        print(f"{mode:10} {words}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
