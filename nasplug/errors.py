"""Errors: each says what came, what is accepted and what to do, and shows no secret."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["ConfigError", "ContractError", "NasplugError", "PluginError", "cause", "did_you_mean", "scrub"]


class NasplugError(Exception):
    """Any error that nasplug raises on purpose. A notebook shows it as one line, without the way it took."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {scrub(str(self))}"]


class ConfigError(NasplugError):
    """The user wrote something that cannot be run: found when a study is planned, before any work starts."""


class ContractError(NasplugError):
    """A plugin broke a contract: wrong shape, a part that was not declared, a value out of range."""


class PluginError(NasplugError):
    """A plugin could not be loaded, clashes with another, or differs between the driver and a worker."""


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when one of ``accepted`` is close to ``name``, or differs in capitals alone; else nothing."""
    known = list(accepted)
    same = [one for one in known if str(one).casefold() == str(name).casefold()]
    near = same or difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


LONGEST = 2000  # characters of a stranger's message


def cause(error: BaseException) -> str:
    """An exception in one line without secrets, with the place that raised it: its author has no traceback to read."""
    lines = "".join(traceback.format_exception_only(error)[-1:])
    told = " ".join("".join(c if c.isprintable() else " " for c in lines).split())  # a terminal obeys what is not printable
    told = told if len(told) <= LONGEST else f"{told[:LONGEST]}..."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames and not isinstance(error, SyntaxError) else ""
    return f"{scrub(told)}{place}"


_USERINFO = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*:(?://|/(?=[^/?#\s'\"@]*:)))[^/?#\s'\"]*@")  # as a path a URI loses a slash
_SECRET = re.compile(r"([?&](?:[^=&\s]*(?:password|passwd|token|secret|key|sig|signature))=)[^&\s'\"]+", re.IGNORECASE)


_NAMED = re.compile(r"(?:^|_)(?:password|passwd|passphrase|token|secret|credentials?|api_?key|access_?key)$", re.IGNORECASE)


def scrub(value: Any) -> Any:
    """Plain data or text without user names, passwords and keys in its URIs, or text under a key like ``password``."""
    if value is None or isinstance(value, int | float):  # most of a plan, and asked first: it is the fastest question
        return value
    if isinstance(value, str):
        return _SECRET.sub(r"\1***", _USERINFO.sub(r"\1", value))
    if isinstance(value, Mapping):
        return {
            key: "***" if isinstance(inner, str) and _NAMED.search(str(key).rpartition(".")[2]) else scrub(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [scrub(inner) for inner in value]
    return value
