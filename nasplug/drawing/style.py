"""Colours, words and scales that all pictures share, and figures as SVG and PNG."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from nasplug.console import visible

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "CHOSEN",
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
    "styled",
    "svg",
]

Array = npt.NDArray[np.float64]

INK, MUTED, RULE, PAPER = "#1b1f24", "#5c6570", "#c9ced6", "#fefefe"
POSITIVE, NEGATIVE, CHOSEN = "#0071b2", "#d45e00", "#cc3311"

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


FONT = "DejaVu Sans"  # comes with matplotlib
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimSun",
    "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji",
)  # fmt: skip
"""Fonts for letters that `FONT` lacks: those of them that this machine has are asked in turn."""


@cache
def fonts() -> tuple[str, ...]:
    """The fonts that pictures are written in, the first that has a letter is taken."""
    from matplotlib.font_manager import fontManager

    there = set(fontManager.get_font_names())
    return (FONT, *(name for name in FALLBACKS if name in there))


@contextmanager
def styled() -> Iterator[None]:
    """What is drawn meanwhile has our style; matplotlib's own comes back afterwards.

    A letter that no font of this machine has is a box in a PNG, in silence; the page's pictures keep it as text.
    """
    import matplotlib as mpl

    with mpl.rc_context(cast(Any, STYLE | {"font.family": list(fonts())})), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        yield


def svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element to stand in a page: colours are the page's variables, ids begin with ``name``."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out: a second time would take as long as all the drawing
    text = visible(buffer.getvalue())  # names have what no XML may have
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" role="img" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
    for colour, variable in THEME.items():
        text = text.replace(colour, f"var({variable})")
    return text


def save_png(figure: Figure, path: Path) -> None:
    """The figure on white, 150 pixels per inch."""
    with styled():
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
    return 1.0, "mean squared error (of the standardised target)"
