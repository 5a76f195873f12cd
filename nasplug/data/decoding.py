"""The bytes of a text file to UTF-8; what was assumed is said, and what is damaged is not repaired."""

from __future__ import annotations

import codecs
from typing import NamedTuple

import numpy as np

from nasplug.errors import ConfigError

__all__ = ["CHUNK", "Decoded", "decode", "line_of"]

CHUNK = 2**24  # bytes that are looked at together
MARKS = (  # the longer ones first: that of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Decoded(NamedTuple):
    """A text.

    Attributes:
        text: in UTF-8, without a byte order mark; empty where something is wrong.
        assumed: what was assumed of its encoding; empty for UTF-8, or where the user said.
        wrong: what it is, and the remedy; empty where it can be read.
        line: the first that is wrong.
    """

    text: bytes
    assumed: str = ""
    wrong: tuple[str, str] | tuple[()] = ()
    line: int = 0


def decode(data: bytes, encoding: str | None) -> Decoded:
    """Bytes as they lie in a file -> text; ``encoding`` None: found.

    Raises:
        ConfigError: for an encoding that Python does not have.
    """
    if encoding is not None:
        found = _said(data, encoding)
    else:
        name = next((name for mark, name in MARKS if data.startswith(mark)), None) or _sixteen(data) or "utf-8"
        found = _found(data, name)
    at = found.text.find(b"\0")
    if at >= 0:
        what = "a NUL byte, which no text has: the file is damaged, or not text"
        return Decoded(b"", wrong=(what, "Write it again as CSV"), line=line_of(found.text, at))
    return found


def line_of(data: bytes, at: int) -> int:
    """The line that a byte is in, counted from 1."""
    return data.count(b"\n", 0, at) + 1


def _said(data: bytes, encoding: str) -> Decoded:
    try:
        "".encode(encoding)
    except (LookupError, ValueError, TypeError):
        raise ConfigError(
            f"encoding {encoding!r} is not known; accepted: utf-8, cp1252, latin-1, utf-16 and the like"
        ) from None
    try:
        return Decoded(data.decode(encoding).removeprefix("\ufeff").encode())
    except UnicodeDecodeError as error:
        return Decoded(
            b"", wrong=(f"is not text in {encoding}", "Correct 'encoding', or leave it out"), line=line_of(data, error.start)
        )
    except (UnicodeError, LookupError) as error:
        return Decoded(b"", wrong=(f"is not text in {encoding}: {error}", "Correct 'encoding', or leave it out"))


def _found(data: bytes, name: str) -> Decoded:
    """As the encoding that its first bytes tell."""
    if name not in ("utf-8", "utf-8-sig"):
        return _said(data, name)._replace(assumed=f"read as {name.upper()}")
    data = data.removeprefix(codecs.BOM_UTF8)
    wrong = _invalid(data)
    return Decoded(data) if wrong is None else _western(data, wrong)


def _sixteen(data: bytes) -> str | None:
    """UTF-16 without a mark: in most texts every other byte of it is 0."""
    head = np.frombuffer(data[:4096], dtype=np.uint8)
    even, odd = head[::2], head[1::2]
    if len(odd) < 4:
        return None
    zeros = float((even == 0).mean()), float((odd == 0).mean())
    if max(zeros) < 0.4 or min(zeros) > 0.05:
        return None
    return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"


def _invalid(data: bytes) -> int | None:
    """Where a text stops being UTF-8."""
    if data.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data) + 1, CHUNK):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(data[start : start + CHUNK], final=start + CHUNK >= len(data))
        except UnicodeDecodeError as error:
            return start - pending + error.start
    return None


def _western(data: bytes, wrong: int) -> Decoded:
    """A text without a mark that is not UTF-8: a Western European one, unless most of it is UTF-8."""
    line = line_of(data, wrong)
    piece = data[max(0, wrong - CHUNK // 2) : wrong + CHUNK // 2].decode("utf-8", errors="replace")
    bad = piece.count("\ufffd")
    if sum(1 for c in piece if c > "\x7f") - bad > 2 * bad:
        what = "has bytes that are not UTF-8, though the rest of the file is"
        return Decoded(b"", wrong=(what, "Repair that line, or say what the file is: encoding: cp1252, for example"), line=line)
    try:
        name, text = "cp1252", data.decode("cp1252")
    except UnicodeDecodeError:
        name, text = "latin-1", data.decode("latin-1")
    byte = f"line {line}: byte 0x{data[wrong]:02X}"
    return Decoded(text.encode(), f"not UTF-8 ({byte}), so taken for {name} (Western Europe); 'encoding' says otherwise")
