"""A network and the shallower one made from it, side by side; matplotlib is imported when it is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nasplug.networks import Networks, forward, values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compared"]


def compared(x: Tensor, stay: Mapping[int, int], nets: Networks, made: Networks, record: Mapping[str, Any]) -> Figure:
    """Both networks' outputs against each other, and the values of each layer that stays; maps, where there are two inputs."""
    from matplotlib.figure import Figure

    maps = nets.widths[0] == 2
    count = (3 if maps else 1) + len(stay)
    figure = Figure(figsize=(3.1 * count, 3.2), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for panel in panels:
        panel.tick_params(labelsize=7)
    names = [f"{record[key]['hidden_layers']} hidden layers" for key in ("before", "after")]
    if maps:
        low, high = x.min(1).values, x.max(1).values
        axes = [torch.linspace(float(a), float(b), 61, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="xy")).flatten(1)
        surfaces = [forward(each, grid)[0, 0].view(61, 61).numpy() for each in (nets, made)]
        extent = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
        least, most = float(surfaces[0].min()), float(surfaces[0].max())
        for name, surface in zip(names, surfaces, strict=True):
            panel = panels.pop(0)
            shown = panel.imshow(surface, origin="lower", extent=extent, aspect="auto", cmap="viridis", vmin=least, vmax=most)
            panel.set_title(name, fontsize=9)
        figure.colorbar(shown, ax=panel).ax.tick_params(labelsize=7)

    def scatter(found: Tensor, wanted: Tensor, title: str) -> None:
        panel = panels.pop(0)
        for one, other in zip(wanted[0], found[0], strict=True):
            panel.plot(one.numpy(), other.numpy(), ".", markersize=1.5, alpha=0.5)
        ends = (float(wanted.min()), float(wanted.max()))
        panel.plot(ends, ends, color="0.3", linewidth=0.8)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(names[0], fontsize=8)
        panel.set_ylabel(names[1], fontsize=8)

    found, wanted = values(made, x), values(nets, x)
    scatter(found[-1], wanted[-1], f"outputs, R2 {record['polished']['r2']:.4f}")
    for cut, place in stay.items():
        r2 = record["polished"]["r2_between"][str(cut)]
        scatter(found[place], wanted[cut], f"neurons of layer {cut}, R2 {r2:.4f}")
    return figure
