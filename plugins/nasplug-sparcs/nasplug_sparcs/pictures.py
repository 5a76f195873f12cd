"""Pictures of what a spectral search found; matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks, take
from nasplug_sparcs.obs import left

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curve", "spectrum"]

BINS = 40


def spectrum(nets: Networks) -> Figure:
    """Histograms of ``|eigenvalue|``, a panel a hidden layer, all networks together; exact zeros are counted in the title.

    Raises:
        ConfigError: for networks without eigenvalues of a hidden layer.
    """
    from matplotlib.figure import Figure

    layers = [layer for layer in range(1, nets.depth) if layer in nets.eigenvalues]
    if not layers:
        raise ConfigError("spectrum: these networks have no eigenvalues of a hidden layer; needed: networks of method sparcs")
    figure = Figure(figsize=(3.2 * len(layers), 2.6), layout="constrained")
    panels = figure.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    for panel, layer in zip(panels, layers, strict=True):
        values = nets.eigenvalues[layer].abs().flatten()
        values = values[torch.isfinite(values)]
        panel.hist(values[values > 0].tolist() or [0.0], bins=BINS, color="#4c72b0")
        panel.set_title(f"layer {layer}: {int((values == 0).sum())} of {len(values)} are 0", fontsize=9)
        panel.set_xlabel("|eigenvalue|")
    panels[0].set_ylabel("neurons")
    return figure


def curve(nets: Networks, layer: int, score: Score, row: int = 0) -> tuple[Figure, list[int], list[float]]:
    """Validation loss against the neurons kept in a layer of one network, without refit: figure, counts and losses.

    Source: Spectral Architecture Search, Fig. 10. We differ: the order is that of `obs`, by function.
    """
    from matplotlib.figure import Figure

    one = take(nets, torch.tensor([row]))
    counts, losses = left(one, layer, score)
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(counts, losses, marker=".", color="#4c72b0")
    axes.set_xlabel(f"neurons kept in layer {layer}")
    axes.set_ylabel("validation loss")
    return figure, counts, losses
