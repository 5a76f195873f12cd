"""A config as one line of text for each place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nasplug.config.checking import SWEEPS

__all__ = ["flatten"]


def flatten(value: Any, path: str = "") -> dict[str, str]:
    """Nested plain data as ``a.b.0.c -> text``; sweeps and lists of plain values stay in one piece, as JSON."""
    found: dict[str, str] = {}
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping) and value and not set(value) <= {*SWEEPS, "points"}:
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        items = [(str(position), inner) for position, inner in enumerate(value)]
    elif value is not None and path:
        found[path] = value if isinstance(value, str) else json.dumps(value)
    for key, inner in items:
        found |= flatten(inner, f"{path}.{key}" if path else key)
    return found
