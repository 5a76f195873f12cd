"""Colours, words and scales that all pictures share, and figures as SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from nasplug.console import visible
from nasplug.drawing.fonts import fonts, stand_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

__all__ = [
    "CHOSEN",
    "DASHES",
    "INK",
    "MUTED",
    "NEGATIVE",
    "PAPER",
    "POSITIVE",
    "WIDE",
    "Array",
    "error_words",
    "is_wide",
    "new_figure",
    "power_text",
    "save_png",
    "scale",
    "shades",
    "styled",
    "svg",
]

Array = npt.NDArray[np.float64]

INK, MUTED, RULE, PAPER = "#1b1f24", "#5c6570", "#c9ced6", "#fefefe"
POSITIVE, NEGATIVE, CHOSEN = "#0071b2", "#b24e00", "#cc3311"

THEME = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    POSITIVE: "--positive",
    NEGATIVE: "--negative",
    CHOSEN: "--chosen",
}
"""Each of these colours becomes a variable of the page's style sheet; a PNG has them as they are."""

SCALE = ("#4a5fd6", "#a35d9a", "#c77d12")
"""Ends and middle of what colours numbers: each is 3:1 at least to a white page and to a dark one, which it does not follow."""

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
"""Lines that are told apart without colours, too."""

WIDE = 20.0  # a range of sizes with this ratio gets a logarithmic axis

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a feature may be called "price ($)"
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "legend.fontsize": 8.0,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "svg.fonttype": "none",
    "svg.hashsalt": "nasplug",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn meanwhile has our style; matplotlib's own comes back afterwards."""
    import matplotlib as mpl

    with mpl.rc_context(cast(Any, STYLE | {"font.family": list(fonts())})), warnings.catch_warnings():
        # text is measured before it is written, with boxes for what no font here has: the page's reader may have one
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        yield


def svg(figure: Figure, name: str, seen: str = "") -> str:
    """The figure as an ``<svg>`` element to stand in a page: colours are the page's variables, ids begin with ``name``.

    ``seen`` says what it shows, to who cannot see it.
    """
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out: a second time would take as long as all the drawing
    text = visible(buffer.getvalue())  # names have what no XML may have
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<image\b[^>]*?)\sid="[^"]*"', r"\g<1>", text)  # of two that look the same it is one
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    said = escape(visible(" ".join(seen.split())), {'"': "&quot;"})
    head = re.match(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', text)
    assert head is not None
    room = f'<svg viewBox="{head[1]}" role="img" aria-label="{said}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    text = room + text[head.end() :]
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var({variable})")
    return text


def scale() -> LinearSegmentedColormap:
    """Numbers from blue to amber."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("nasplug", SCALE)


def shades(count: int) -> list[Any]:
    """That many colours for as many things, `CHOSEN` for one alone."""
    return [CHOSEN] if count == 1 else list(scale()(np.linspace(0.0, 1.0, count)))


def save_png(figure: Figure, path: Path) -> None:
    """The figure on white, 150 pixels per inch; the last that is done with it.

    A letter that no font of this machine has is a ``?``, which is said once.
    """
    with styled():
        stand_in(figure)
        figure.savefig(path, format="png", dpi=150, facecolor="white")
        figure.set_layout_engine("none")  # as in `svg`


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, made without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def power_text(value: float) -> str:
    """``1e-05`` as ``10⁻⁵``; other numbers in their shortest form."""
    if value > 0 and not 0.001 <= value < 10000:
        exponent = math.floor(math.log10(value) + 1e-9)
        lead = f"{value / 10**exponent:.3g}"
        digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{digits}" if lead == "1" else f"{lead}·10{digits}"
    return f"{value:.4g}"


def is_wide(values: Array) -> bool:
    """Whether the largest positive value is more than `WIDE` times the smallest."""
    positive = values[np.isfinite(values) & (values > 0)]
    return len(positive) > 0 and bool(positive.max() / positive.min() > WIDE)


def error_words(frame: pd.DataFrame) -> tuple[float, str]:
    """Factor and words of an error: labels have an accuracy beside it, regression has none."""
    if "valid_accuracy" in frame.columns:
        return 100.0, "wrong labels (%)"
    return 1.0, "mean squared error (of the scaled target)"
