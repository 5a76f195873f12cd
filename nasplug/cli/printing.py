"""Results as JSON: numbers with all their digits, null for what is not there."""

from __future__ import annotations

import json
import math
from typing import Any

from nasplug.console import say

__all__ = ["print_json", "rows_of"]


def print_json(value: Any) -> None:
    """A value on standard output; what JSON does not know as text."""
    say(json.dumps(value, indent=2, default=str))


def rows_of(frame: Any) -> list[dict[str, Any]]:
    """One mapping per network: numbers with all their digits, null for what is not there, owners as a mapping."""
    return [{name: _plain(name, value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(name: str, value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(value) if name == "owners" and isinstance(value, str) else value
