"""What an estimator's options may be: looked at when it is fitted, as scikit-learn has it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, Protocol

from nasplug.errors import ConfigError

__all__ = ["SECTIONS", "InputError", "Options", "check_options"]

SECTIONS = ("method", "penalties", "temperature", "discretizers", "train")
"""Sections of a study that ``method`` may hold."""


class InputError(ConfigError, ValueError):
    """Data or options that nothing can be learned with; a ValueError, as scikit-learn has it."""


class Options(Protocol):
    """What a search reads of an estimator."""

    max_parameters: int | None
    method: str | Mapping[str, Any]
    numeric: Literal["auto", "linear", "piecewise"]
    monotone: Mapping[str, int] | Sequence[int] | None
    levels: int
    steps: int
    seeds: int
    folds: int | Literal["auto"]
    linear: bool
    time_limit: float | None
    random_state: Any
    folder: str | os.PathLike[str] | None
    verbose: bool


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def _method(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "use" in value or (bool(value) and set(value) <= set(SECTIONS))
    return bool(value == "edges")


def _monotone(value: Any) -> bool:
    ways = list(value.values()) if isinstance(value, Mapping) else value.tolist() if hasattr(value, "tolist") else value
    return isinstance(ways, Sequence) and not isinstance(ways, str) and all(way in (-1, 0, 1) for way in ways)


def _truth(value: Any) -> bool:
    return value in (True, False)


RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_parameters": (lambda value: value is None or _whole(1)(value), "a whole number >= 1, or None"),
    "method": (_method, f"'edges', a mapping with the key use, or one with some of the keys {', '.join(SECTIONS)}"),
    "numeric": (lambda value: value in ("auto", "linear", "piecewise"), "'auto', 'linear' or 'piecewise'"),
    "monotone": (lambda value: value is None or _monotone(value), "{column: 1 or -1}, one of 1, 0, -1 per column, or None"),
    "levels": (_whole(1), "a whole number >= 1"),
    "steps": (_whole(1), "a whole number >= 1"),
    "seeds": (_whole(1), "a whole number >= 1"),
    "folds": (lambda value: value == "auto" or _whole(1)(value), "'auto', 1 (a hold-out), or a whole number >= 2"),
    "linear": (_truth, "True or False"),
    "time_limit": (
        lambda value: value is None or (not isinstance(value, bool) and isinstance(value, Real) and float(value) > 0),
        "a number of seconds > 0, or None",
    ),
    "folder": (lambda value: value is None or isinstance(value, str | os.PathLike), "the path of a folder, or None"),
    "verbose": (_truth, "True or False"),
}


def check_options(estimator: Any) -> None:
    """Refuse an option that is none.

    Raises:
        ValueError: with the first that is wrong, and what it may be.
    """
    for name, (good, words) in RULES.items():
        value = getattr(estimator, name)
        if not good(value):
            raise ValueError(f"{type(estimator).__name__}: {name}={value!r}; needed: {words}")
