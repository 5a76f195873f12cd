"""The one door for a study's file: whatever it is, it becomes a study or a refusal in our words, and nothing waits for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasplug.config.checking import MOST_TEXT, shown
from nasplug.config.models import StudyConfig, parse
from nasplug.config.yamls import from_yaml, override
from nasplug.errors import ConfigError, NasplugError

__all__ = ["read_mapping", "read_text", "read_yaml", "refusing"]

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def refusing(what: str, done: str = "read") -> Iterator[None]:
    """Whatever is raised inside and is none of our errors, as a refusal: ``what`` cannot be ``done``.

    For reading and planning alone, where all that can go wrong comes of what was written; never around training.

    Raises:
        ConfigError: with the kind of the error, its words, and itself as the cause.
    """
    try:
        yield
    except NasplugError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:500]
        raise ConfigError(
            f"{what} cannot be {done} ({type(error).__name__}{f': {told}' if told else ''}). Simplify it step by step; if each "
            "part is as documented, tell nasplug's authors this line"
        ) from error


def read_text(path: Path, what: str) -> str:
    """The text of a regular file of at most `MOST_TEXT` characters; a pipe or device is refused, as it may never end.

    Args:
        path: of the file.
        what: it should be, in words.

    Raises:
        ConfigError: when it cannot be read, naming it.
    """
    name = shown(str(path)) if len(str(path)) > 80 or not str(path).isprintable() else str(path)
    advice = f"give the path of {what}"
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind != stat.S_IFREG:
            how = "Is a directory" if kind == stat.S_IFDIR else f"it is {KINDS.get(kind, 'no file')}, no file"
            raise ConfigError(f"{name}: cannot be read ({how}); {advice}")
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as file:
            raw = file.read(4 * MOST_TEXT + 1) or b""  # UTF-8 takes 4 bytes per character; None: it would have to be waited for
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror}); {advice}") from None
    except ValueError as error:  # a NUL character in it, or a half of a character pair
        raise ConfigError(f"{name}: cannot be a path ({error}); {advice}") from None
    if len(raw) > 4 * MOST_TEXT:
        raise ConfigError(f"{name}: is larger than {4 * MOST_TEXT:,} bytes; {advice}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: is not text in UTF-8; {advice}") from None


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from a file, apply ``a.b.0.c=value`` overrides, and check it.

    Raises:
        ConfigError: when the file cannot be read, is not YAML, or does not describe a study.
    """
    with refusing(f"the study in {shown(str(path))}"):
        return parse(read_mapping(path, overrides, "a study", StudyConfig.model_fields))


def read_mapping(path: Path, overrides: Sequence[str], what: str, keys: Iterable[str]) -> dict[str, Any]:
    """The mapping in a YAML file, with ``a.b.0.c=value`` overrides, as it is written.

    Args:
        path: of the file.
        overrides: applied in their order.
        what: the file should hold, in words.
        keys: that are accepted there, to be named where it holds something else.

    Raises:
        ConfigError: when the file cannot be read, is not YAML, or holds no mapping.
    """
    raw = from_yaml(read_text(path, f"{what}'s YAML file"), str(path))
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: holds {shown(raw)}; needed: {what}, a mapping of keys ({', '.join(keys)})")
    for text in overrides:
        override(raw, text)
    return raw
