"""How good predictions on the test split are: confusion, ROC and calibration of labels, parity and residuals of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nasplug.drawing.reading import ends_of, short
from nasplug.drawing.style import CHOSEN, DASHES, INK, MUTED, PAPER, POSITIVE, RULE, Array, new_figure, shades, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration", "confusion", "draw_labels", "draw_numbers", "roc"]

Codes = npt.NDArray[np.int64]
MOST_LABELS = 12  # of a confusion matrix that is drawn
MOST_CURVES = 6
BINS = 10
MOST_DOTS = 2000
MOST_TARGETS = 3


def confusion(true: Codes, said: Codes, labels: int) -> npt.NDArray[np.int64]:
    """How many samples of each true label (row) were called what (column), ``(C, C)``."""
    found = np.zeros((labels, labels), dtype=np.int64)
    np.add.at(found, (true, said), 1)
    return found


def roc(positive: npt.NDArray[np.bool_], score: Array) -> tuple[Array, Array, float]:
    """False and true positive rates over falling thresholds, and the area; ties move together. NaN without both kinds."""
    order = np.argsort(-score, kind="stable")
    hit, score = positive[order], score[order]
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    hits, misses = np.cumsum(hit)[ends], np.cumsum(~hit)[ends]
    if hits[-1] == 0 or misses[-1] == 0:
        return np.empty(0), np.empty(0), float("nan")
    right, wrong = np.append(0.0, hits / hits[-1]), np.append(0.0, misses / misses[-1])
    return wrong, right, float(np.trapezoid(right, wrong))


def calibration(probability: Array, happened: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Mean probability, share that happened, and its standard error, in up to 10 bins of as many samples each.

    ``se = sqrt(p (1 - p) / n)`` with one of each kind added to p, so that a share of 0 does not pretend to be certain.
    """
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, max(1, len(order) // 5))) if len(part)]
    means, shares, errors = [], [], []
    for part in parts:
        n, k = len(part), float(happened[part].sum())
        p = (k + 1.0) / (n + 2.0)
        means.append(float(probability[part].mean()))
        shares.append(k / n)
        errors.append((p * (1.0 - p) / n) ** 0.5)
    return np.array(means), np.array(shares), np.array(errors)


def draw_labels(true: Codes, outputs: Array, labels: Sequence[str], link: str) -> Figure:
    """Confusion matrix, ROC curves and calibration of a network's outputs ``(N, O)`` on samples with labels ``true (N,)``.

    Two labels with one output have one curve, that of the second; several have one for each against the rest (the 6 most
    frequent). Calibration is of the probability of the second label, or of the label that is said. Outputs that are no
    probabilities have none.
    """
    single = outputs.shape[1] == 1
    said = (outputs[:, 0] > 0.5).astype(np.int64) if single else outputs.argmax(1)
    probable = link in ("sigmoid", "softmax")
    with styled():
        figure = new_figure(9.6, 3.3)
        panels = figure.subplots(1, 3 if probable else 2)
        _matrix(panels[0], confusion(true, said, len(labels)), labels)
        _roc(panels[1], true, outputs, labels)
        if probable:
            score, happened = (outputs[:, 0], true == 1) if single else (outputs.max(1), said == true)
            what = f"P({short(labels[1], 14)})" if single else "probability of the label that is said"
            _calibration(panels[2], score, happened, what)
    return figure


def _matrix(axes: Axes, counts: npt.NDArray[np.int64], labels: Sequence[str]) -> None:
    axes.grid(visible=False)
    axes.set_title("true label (row), predicted (column)")
    if len(labels) > MOST_LABELS:
        worst = counts - np.diag(np.diag(counts))
        pairs = sorted(((int(worst[a, b]), a, b) for a, b in zip(*np.nonzero(worst), strict=True)), reverse=True)[:8]
        lines = [f"{n:,} of {short(labels[a], 14)} called {short(labels[b], 14)}" for n, a, b in pairs]
        axes.set_axis_off()
        axes.text(0.0, 0.95, "\n".join(["most frequent mistakes:", *lines]), va="top", fontsize=8)
        return
    from matplotlib.colors import LinearSegmentedColormap

    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shade = LinearSegmentedColormap.from_list("shade", [(0.0, 0.45, 0.7, 0.0), (0.0, 0.45, 0.7, 0.55)])
    axes.imshow(shares, cmap=shade, vmin=0.0, vmax=1.0, aspect="auto")
    size = 9 if len(labels) <= 6 else 7
    for (a, b), count in np.ndenumerate(counts):
        axes.text(b, a, f"{count:,}", ha="center", va="center", fontsize=size, color=INK if count else MUTED)
    names = [ends_of(label, 10 if len(labels) <= 4 else 7) for label in labels]
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if len(labels) > 3 else {}
    axes.set_xticks(range(len(labels)), names, **turned)
    axes.set_yticks(range(len(labels)), names)
    axes.tick_params(length=0)


def _square(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.plot([0, 1], [0, 1], color=RULE, lw=1.0, zorder=1)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)


def _roc(axes: Axes, true: Codes, outputs: Array, labels: Sequence[str]) -> None:
    axes.set_title("ROC" if outputs.shape[1] == 1 else "ROC, each label against the rest")
    _square(axes, "false positive rate", "true positive rate")
    frequent = np.sort(np.argsort(-np.bincount(true, minlength=len(labels)), kind="stable")[:MOST_CURVES])
    which = [1] if outputs.shape[1] == 1 else frequent.tolist()
    for place, (label, shade) in enumerate(zip(which, shades(len(which)), strict=True)):
        wrong, right, area = roc(true == label, outputs[:, 0 if outputs.shape[1] == 1 else label])
        if len(wrong):
            dashes = DASHES[place % len(DASHES)]
            axes.plot(wrong, right, color=shade, ls=dashes, lw=1.6, label=f"{short(labels[label], 14)}: area {area:.3f}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")


def _calibration(axes: Axes, score: Array, happened: npt.NDArray[np.bool_], what: str) -> None:
    means, shares, errors = calibration(score, happened)
    axes.set_title("calibration")
    _square(axes, what, "share that it was so")
    low, high = np.minimum(errors, shares), np.minimum(errors, 1.0 - shares)
    style: dict[str, Any] = {"ms": 5, "mec": PAPER, "mew": 0.6, "color": CHOSEN, "ecolor": MUTED, "elinewidth": 1.0}
    axes.errorbar(means, shares, yerr=np.stack([low, high]), fmt="o", zorder=4, **style)


def draw_numbers(true: Array, predicted: Array, targets: Sequence[str]) -> Figure:
    """Predicted against true values, and residuals against predicted ones, in the targets' units, ``(N, T)`` both.

    The first 3 targets, and of more than 2,000 samples as many, evenly over their order.
    """
    shown = min(len(targets), MOST_TARGETS)
    index = np.unique(np.linspace(0, len(true) - 1, min(MOST_DOTS, len(true))).round().astype(np.int64))
    dots: dict[str, Any] = {"s": 10, "color": POSITIVE, "alpha": 0.5, "lw": 0, "zorder": 3, "rasterized": len(index) > 400}
    with styled():
        figure = new_figure(9.6, 0.3 + 3.0 * shown)
        for place, (left, right) in enumerate(figure.subplots(shown, 2, squeeze=False)):
            y, said, name = true[index, place], predicted[index, place], short(targets[place], 24)
            both = np.concatenate([y, said])
            ends = [float(both.min()), float(both.max())]
            left.plot(ends, ends, color=CHOSEN, lw=1.1, zorder=2)
            left.scatter(y, said, **dots)
            left.set_xlabel(f"true {name}")
            left.set_ylabel(f"predicted {name}")
            right.axhline(0.0, color=CHOSEN, lw=1.1, zorder=2)
            right.scatter(said, y - said, **dots)
            right.set_xlabel(f"predicted {name}")
            right.set_ylabel("true - predicted")
            if place == 0:
                left.set_title("predicted against true")
                right.set_title("residuals")
    return figure
