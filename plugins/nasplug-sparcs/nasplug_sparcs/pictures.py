"""Pictures of what a spectral search found; matplotlib is imported when one is drawn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks, take
from nasplug_sparcs.obs import left
from nasplug_sparcs.paths import gamma_by_neuron

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["curve", "fits", "heads", "orders", "paths", "spectrum", "transition"]

BINS = 40
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3")


def spectrum(nets: Networks) -> Figure:
    """Histograms of ``|eigenvalue|``, one panel per hidden layer, all networks together; exact zeros are counted in the title.

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
        if bool((values > 0).any()):
            panel.hist(values[values > 0].tolist(), bins=BINS, color="#4c72b0")
        else:
            panel.set_xticks([])  # a bar would stand for a neuron that is not there
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


def transition(alphas: Sequence[float], betas: Sequence[float], values: Sequence[float], label: str = "|Gamma|") -> Figure:
    """A value against alpha, one line per beta: mean over the networks of a pair, and their standard deviation as a band.

    Three columns of equal length, one value per network. Source: Spectral Architecture Search, Fig. 13, of ``|Gamma|``.

    Raises:
        ConfigError: for columns of different lengths, or none.
    """
    from matplotlib.figure import Figure

    if not len(alphas) == len(betas) == len(values) > 0:
        raise ConfigError(
            f"transition: {len(alphas)} alphas, {len(betas)} betas and {len(values)} values; needed: as many of each, one per "
            "network"
        )
    found: dict[float, dict[float, list[float]]] = {}
    for alpha, beta, value in zip(alphas, betas, values, strict=True):
        found.setdefault(float(beta), {}).setdefault(float(alpha), []).append(float(value))
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    for (beta, groups), colour in zip(sorted(found.items()), itertools.cycle(COLOURS), strict=False):
        x = sorted(groups)
        rows = [torch.tensor(groups[alpha]) for alpha in x]
        mean = torch.tensor([row.mean() for row in rows])
        band = torch.tensor([row.std(correction=0) for row in rows])
        axes.plot(x, mean.tolist(), marker=".", color=colour, label=f"beta {beta:g}")
        axes.fill_between(x, (mean - band).tolist(), (mean + band).tolist(), color=colour, alpha=0.25, lw=0)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("alpha: from a linear target to a quadratic one")
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    return figure


def fits(rows: Mapping[str, Mapping[str, tuple[Tensor, Tensor]]]) -> Figure:
    """Targets of two inputs, and below each how far a network is from it, as maps: two rows per name, one column per title.

    ``rows``: name -> title -> target and output, each ``(n, n)`` over a square; the first index is the second input. All
    targets share one scale, and all errors another one.

    Raises:
        ConfigError: for no map, or names with different titles.
    """
    from matplotlib.figure import Figure

    titles = [list(row) for row in rows.values()]
    if not titles or not titles[0] or any(one != titles[0] for one in titles):
        raise ConfigError(
            f"fits: {dict(zip(rows, titles, strict=True))}; needed: one map at least, the same titles of each name"
        )
    every = [pair for row in rows.values() for pair in row.values()]
    low = min(float(target.min()) for target, _ in every)
    high = max(float(target.max()) for target, _ in every)
    worst = max(float((output - target).abs().max()) for target, output in every)
    figure = Figure(figsize=(1.25 * len(titles[0]) + 1.0, 2.6 * len(rows)), layout="constrained")
    panels = figure.subplots(2 * len(rows), len(titles[0]), squeeze=False)
    for at, (name, row) in enumerate(rows.items()):
        for column, (title, (target, output)) in enumerate(row.items()):
            above, below = panels[2 * at, column], panels[2 * at + 1, column]
            first = above.imshow(target.tolist(), origin="lower", cmap="viridis", vmin=low, vmax=high)
            second = below.imshow((output - target).abs().tolist(), origin="lower", cmap="magma", vmin=0.0, vmax=worst)
            above.set_title(title, fontsize=8)
            for axes in (above, below):
                axes.set_xticks([])
                axes.set_yticks([])
        panels[2 * at, 0].set_ylabel(f"{name}: target", fontsize=8)
        panels[2 * at + 1, 0].set_ylabel("|error|", fontsize=8)
        figure.colorbar(first, ax=panels[2 * at].tolist(), aspect=10)
        figure.colorbar(second, ax=panels[2 * at + 1].tolist(), aspect=10)
    return figure


def heads(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Tensor]]], pruned: Mapping[str, Tensor] | None = None
) -> Figure:
    """Accuracy over epochs, one panel per data set and one line per head: mean over networks, and their standard deviation.

    Source: Spectral Architecture Search, Fig. 16 and 17.

    Args:
        panels: name of a panel -> name of a head -> epochs and accuracies in per cent, ``(K, epochs)``.
        pruned: name of a panel -> accuracies of heads that were pruned afterwards, ``(K,)``: a dashed line.

    Raises:
        ConfigError: for no panel, or accuracies that do not fit their epochs.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ConfigError("heads: no panel; needed: one at least")
    figure = Figure(figsize=(4.6 * len(panels), 3.0), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for (name, (epochs, values)), colour in zip(lines.items(), itertools.cycle(COLOURS), strict=False):
            if values.dim() != 2 or values.shape[1] != len(epochs):
                raise ConfigError(
                    f"heads: {tuple(values.shape)} accuracies for {len(epochs)} epochs; needed: (K, {len(epochs)})"
                )
            middle, band = values.mean(0), values.std(0, correction=0)
            axes.plot(epochs, middle.tolist(), color=colour, lw=1.2, label=name)
            low, high = (middle - band).tolist(), (middle + band).clamp(max=100.0).tolist()
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, lw=0)
        if pruned is not None and title in pruned:
            axes.axhline(float(pruned[title].mean()), color="#1b1f24", lw=1.0, ls=(0, (4, 1.5)), label="spectral, pruned")
        ends = [float(values[:, -1].mean()) for _, values in lines.values()]
        axes.set_ylim(bottom=max(0.0, min(ends) - 3.0 * (100.0 - min(ends)) - 3.0))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epochs")
        axes.set_ylabel("validation accuracy, %")
        axes.legend(frameon=False, loc="lower right")
    return figure


def orders(named: Mapping[str, tuple[Sequence[int], Sequence[float]]], marks: Mapping[str, float]) -> Figure:
    """``1 - R2`` against the neurons kept, both logarithmic, one line per order in which neurons are removed.

    Args:
        named: name of an order -> counts and values, > 0; a count of 0 is left out.
        marks: words -> value that a horizontal line shows.

    Raises:
        ConfigError: for no order, or one with fewer values than counts.
    """
    from matplotlib.figure import Figure

    if not named or any(len(counts) != len(values) for counts, values in named.values()):
        sizes = {name: (len(counts), len(values)) for name, (counts, values) in named.items()}
        raise ConfigError(f"orders: counts and values {sizes}; needed: one order at least, as many of each")
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    for (name, (counts, values)), colour, dash in zip(
        named.items(), itertools.cycle(COLOURS), itertools.cycle(DASHES), strict=False
    ):
        shown = [(n, value) for n, value in zip(counts, values, strict=True) if n > 0]
        axes.loglog([n for n, _ in shown], [value for _, value in shown], color=colour, ls=dash, lw=1.3, label=name)
    for words, value in marks.items():
        axes.axhline(value, color="#5c6570", lw=0.7, ls=(0, (4, 1.5)))
        axes.text(1.0, value, words, color="#5c6570", fontsize=8, va="bottom", transform=axes.get_yaxis_transform(), ha="right")
    axes.set_xlabel("hidden neurons kept")
    axes.set_ylabel("1 - validation R2")
    axes.legend(frameon=False, loc="lower left")
    return figure


def paths(named: Mapping[str, Networks], layer: int) -> Figure:
    """``|Gamma|`` of each neuron of a hidden layer, largest first, on a logarithmic scale: one line per network of each name.

    Neurons without a path are left out. How many there are above any level is read from the abscissa.

    Raises:
        ConfigError: for a layer that is not hidden.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.subplots()
    for (name, nets), colour in zip(named.items(), itertools.cycle(COLOURS), strict=False):
        for k, values in enumerate(gamma_by_neuron(nets, layer)):
            ordered = values[values > 0].sort(descending=True).values
            axes.semilogy(range(1, len(ordered) + 1), ordered.tolist(), color=colour, lw=0.9, label=name if k == 0 else None)
    axes.set_xlabel(f"neurons of layer {layer}, strongest first")
    axes.set_ylabel("|Gamma| of its paths")
    axes.legend(frameon=False)
    return figure
