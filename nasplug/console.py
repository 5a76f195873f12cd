"""Text for any terminal, pipe and log: in its encoding, in its width, and without anything that moves the cursor."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["alone", "console", "data", "one_line", "padded", "say", "speak", "visible"]

WIDE, NARROWEST = 160, 40  # cells: of a file or pipe that does not say, and the least that anything is laid out for
ERRORS = "nasplug.stand_ins"
STAND_INS = dict(zip("▶◆○◇●▏▎▍▌▋▊▉█│└─┌┐┘…·±→←λτ²≤≥\u00d7\u2013\u2014\u2212", ">@oo@|||=####|+-+++.|~><lt2<>x---", strict=True))
"""What stands for a character that an encoding does not have: as wide as it, so that columns stay columns."""


def _stand_in(character: str) -> str:
    if character in STAND_INS:
        return STAND_INS[character]
    if 0x2800 <= ord(character) <= 0x28FF:  # braille: the more dots, the darker
        return " .:;+#"[(ord(character) - 0x2800).bit_count() * 5 // 8]
    from rich.cells import cell_len  # as below: a command that prints a line does not wait for it

    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain if len(plain) == 1 else "?" * max(1, cell_len(character))


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_stand_in, error.object[error.start : error.end])), error.end


def speak() -> None:
    """Let this process's output have a stand-in for what its encoding lacks: no work ends in a `UnicodeEncodeError`."""
    codecs.register_error(ERRORS, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


_OWN: ContextVar[TextIO | None] = ContextVar("own", default=None)
"""Standard output, while it belongs to a command alone."""


@contextmanager
def alone() -> Iterator[None]:
    """Standard output for `say` and `console` alone: what others print, and programs they start, goes to standard error."""
    ours = sys.stdout
    try:
        place, aside = ours.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # no files of this process: captured, or closed
        with redirect_stdout(sys.stderr), _bound(ours):
            yield
        return
    ours.flush()
    kept = os.dup(place)
    with open(kept, "w", encoding=ours.encoding, errors=ours.errors) as own, redirect_stdout(sys.stderr), _bound(own):
        os.dup2(aside, place)
        try:
            yield
        finally:
            os.dup2(kept, place)


@contextmanager
def _bound(stream: TextIO) -> Iterator[None]:
    token = _OWN.set(stream)
    try:
        yield
    finally:
        _OWN.reset(token)


def say(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print a line in the stream's own encoding (`click.echo` writes UTF-8 where that is ASCII)."""
    print(text, file=sys.stderr if error else _OWN.get() or sys.stdout, end=end, flush=True)


def data(text: str) -> None:
    """Print somebody's data as they are; on a terminal `visible`."""
    stream = _OWN.get() or sys.stdout
    say(visible(text) if stream is not None and stream.isatty() else text, end="")


def console(stream: TextIO | None = None) -> Console:
    """A terminal's own width, else COLUMNS, else room enough; text is printed as it is, brackets and colons too."""
    from rich.console import Console

    stream = stream or _OWN.get()
    found = Console(file=stream, markup=False, emoji=False, force_jupyter=False)
    silent = not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit()
    return Console(
        file=stream, markup=False, emoji=False, force_jupyter=False, width=max(WIDE if silent else found.width, NARROWEST)
    )


UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal or a page obeys: control characters but line breaks and tabs, and marks that turn the direction of text."""


def visible(text: str) -> str:
    """``text`` with control characters written out: ESC as ``\\x1b``. Lines stay lines."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """``text`` with line breaks, tabs and whatever else a terminal would act on written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def padded(text: str, cells: int, *, right: bool = False) -> str:
    """``text`` in exactly so many cells (some characters take two): cut with ``…`` where it is longer."""
    from rich.cells import cell_len

    text = one_line(text)
    if cell_len(text) > cells:
        while text and cell_len(text) > cells - 1:
            text = text[:-1]
        text += "…"
    space = " " * (cells - cell_len(text))
    return space + text if right else text + space
