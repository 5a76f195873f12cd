"""Fonts that have the letters of names in any script, and what is written where none has."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FALLBACKS", "FONT", "fonts", "stand_in"]

_log = logging.getLogger(__name__)

FONT = "DejaVu Sans"  # comes with matplotlib
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimSun",
    "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji",
)  # fmt: skip
"""Fonts for letters that `FONT` lacks: those of them that this machine has are asked in turn."""


STAND_IN = "?"


@cache
def fonts() -> tuple[str, ...]:
    """The fonts that pictures are written in, the first that has a letter is taken."""
    from matplotlib.font_manager import fontManager

    there = set(fontManager.get_font_names())
    return (FONT, *(name for name in FALLBACKS if name in there))


@cache
def _letters(font: str) -> frozenset[int]:
    """The characters that a font has, as numbers."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    properties = FontProperties(family=[font])  # a bare name would be read as a pattern, in which "-" has a meaning
    return frozenset(get_font(findfont(properties, fallback_to_default=True)).get_charmap())


@cache
def _others() -> tuple[str, ...]:
    """All other fonts of this machine; not matplotlib's own "Last Resort", which has a box for every letter."""
    from matplotlib.font_manager import fontManager

    return tuple(sorted(name for name in set(fontManager.get_font_names()) - set(fonts()) if "Last Resort" not in name))


@cache
def _having(letter: str) -> str | None:
    """The first font that has a letter."""
    return next((font for font in (*fonts(), *_others()) if ord(letter) in _letters(font)), None)


def stand_in(figure: Figure) -> None:
    """Let each text of a figure be written in fonts that have its letters, with `STAND_IN` for those that none has."""
    from matplotlib.text import Text

    known, lost = _letters(FONT), set[str]()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        words = text.get_text()
        strange = {letter for letter in words if letter.isprintable() and ord(letter) not in known}
        if not strange:
            continue
        needed = {letter: _having(letter) for letter in strange}
        more = sorted({font for font in needed.values() if font} - set(fonts()))
        text.set_fontfamily([*fonts(), *more])
        none = {letter for letter, font in needed.items() if font is None}
        text.set_text("".join(STAND_IN if letter in none else letter for letter in words))
        lost |= none
    if lost:
        _say(len(lost), "".join(sorted(lost))[:8])


@cache
def _say(count: int, some: str) -> None:
    """Once per process for the same letters."""
    _log.warning(
        "no font of this machine has %d letters of names (%s): each is a %s in PNG files, and text on the page. Install a font "
        "(on Debian fonts-noto-cjk, say) and make the report again",
        count,
        some,
        STAND_IN,
    )
