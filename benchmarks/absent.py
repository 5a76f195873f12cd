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


def _as_it_is(**options: Any) -> Any:
    """A decorator that leaves a check out."""
    return lambda check: check


def stand_in(name: str) -> None:
    """Where it is missing, a module of that name with what models are written with, which checks nothing."""
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return
    module = ModuleType(name)
    module.BaseModel, module.ConfigDict, module.Field = _Model, dict, _nothing  # type: ignore[attr-defined]
    module.model_validator = module.field_validator = _as_it_is  # type: ignore[attr-defined]
    sys.modules[name] = module
    _made.append(name)


def stand_ins() -> list[str]:
    """What stands for another here."""
    return _made
