"""Stand-ins for packages of which a training step needs no more than the names, where they are not installed."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

__all__ = ["stand_in", "stand_ins"]

_made: list[str] = []


class _Model:
    """A model without checks: nothing of it is used by a step."""


def _nothing(*given: Any, **options: Any) -> Any:
    return None


def stand_in(name: str) -> None:
    """Where it is missing, a module of that name with `BaseModel`, `ConfigDict` and `Field`, which check nothing."""
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    module = ModuleType(name)
    module.BaseModel, module.ConfigDict, module.Field = _Model, dict, _nothing  # type: ignore[attr-defined]
    sys.modules[name] = module
    _made.append(name)


def stand_ins() -> list[str]:
    """What stands for another here."""
    return _made
