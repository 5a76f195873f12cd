"""Pictures of a training and of a latent space; matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import forward
from nasplug.replicas import normal, uniform
from nasplug_swat.autoencoder.model import Autoencoder, decode, encode, networks_of
from nasplug_swat.autoencoder.sampling import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curve", "plane"]

GRID, REACH, PROBES = 41, 3.0, 256


def curve(rows: Sequence[dict[str, float]]) -> Figure:
    """Median functional errors of a training against its steps, one line per depth; the 90th percentile dotted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = [row["step"] for row in rows]
    depths = [int(name.removeprefix("median_")) for name in rows[0] if name.startswith("median_")]
    for depth in depths:
        (line,) = axes.semilogy(steps, [row[f"median_{depth}"] for row in rows], label=f"depth {depth}")
        axes.semilogy(steps, [row[f"q90_{depth}"] for row in rows], ":", color=line.get_color())
    axes.semilogy(steps, [row["deeper"] for row in rows], "--", color="0.4", label="worst shallow in deep")
    axes.set_xlabel("step")
    axes.set_ylabel("functional error / mean square")
    axes.legend(fontsize=8)
    return figure


@torch.no_grad()
def _outputs(autoencoder: Autoencoder, z: Tensor, depth: int, x: Tensor) -> Tensor:
    """``(K, O, B)``, a few rows at a time."""
    return torch.cat([forward(networks_of(decode(autoencoder, part, depth)), x) for part in torch.split(z, 256)])


def plane(autoencoder: Autoencoder, depth: int, neighbours: int, seed: int) -> tuple[Figure, dict[str, float]]:
    """How the function changes around the encoding of a random network: a map of the plane, and the change by distance.

    The plane is spanned by the two main directions (PCA) of ``neighbours`` points ``z + N(0, 1)``, 41 x 41 points of
    [-3, 3]^2; its colour is the mean squared change of outputs on [-1, 1]^I over the network's mean square. Beside it the same
    for the neighbours, at distances up to 3 in units of a latent number. Also told: the median change at distances 0.1, 0.5,
    1 and 3.

    Raises:
        ConfigError: for a depth that the autoencoder does not have, or fewer than 3 neighbours.

    Source: SWAT-NN, section F.1. We differ: change of the function instead of the loss on one task, and distances are told.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    space = autoencoder.space
    space.check_depth(depth)
    if neighbours < 3:
        raise ConfigError(f"neighbours={neighbours}; needed: 3 or more, for a plane")
    one = torch.tensor([seed])
    x = uniform(one, "swat/plane probes", (space.inputs, PROBES), -1.0, 1.0)[0].float()
    z = encode(autoencoder, draw(space, depth, one, autoencoder.sampling))  # (1, T, d)
    steps = normal(torch.arange(neighbours) + 2**20 * seed, "swat/neighbours", tuple(z.shape[1:])).float()
    flat = steps.flatten(1)
    main = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2].view(2, *z.shape[1:])
    main = main * flat.shape[1] ** 0.5  # a distance of 1 changes each number by about 1
    base = _outputs(autoencoder, z, depth, x)
    scale = base.square().mean() + 1e-4

    def change(points: Tensor) -> Tensor:
        return (_outputs(autoencoder, points, depth, x) - base).square().mean((1, 2)) / scale

    ticks = torch.linspace(-REACH, REACH, GRID)
    grid = ticks.view(-1, 1, 1, 1, 1) * main[1] + ticks.view(1, -1, 1, 1, 1) * main[0]
    colours = change(z + grid.view(-1, *z.shape[1:])).view(GRID, GRID)
    distances = torch.linspace(0.0, REACH, 31)[1:]
    curves = torch.stack([change(z + distance * steps) for distance in distances])  # (distances, neighbours)
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = left.imshow(
        colours.clamp(min=1e-4).numpy(),
        origin="lower",
        extent=(-REACH, REACH, -REACH, REACH),
        norm=LogNorm(1e-4, 10.0),
        cmap="viridis",
    )
    figure.colorbar(shown, ax=left, label="change / mean square")
    left.set_xlabel("first direction")
    left.set_ylabel("second direction")
    for share, style in ((0.1, ":"), (0.5, "-"), (0.9, ":")):
        right.semilogy(distances.tolist(), curves.quantile(share, dim=1).clamp(min=1e-8).tolist(), style, color="#4c72b0")
    right.set_xlabel("distance")
    right.set_ylabel("change / mean square")
    right.set_title("median, 10 % and 90 % of the neighbours", fontsize=9)
    told = {}
    for distance in (0.1, 0.5, 1.0, 3.0):
        told[f"change_at_{distance:g}"] = float(change(z + distance * steps).median())
    return figure, told
