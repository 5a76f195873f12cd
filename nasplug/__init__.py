"""nasplug finds small neural networks by gradient descent, thousands of them as one tensor program.

Public names are imported when they are first used, so that ``nasplug --help`` need not import torch.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasplug.compact import CompactNetwork as CompactNetwork
    from nasplug.compact import load as load
    from nasplug.contracts import Certifying as Certifying
    from nasplug.contracts import Discretizer as Discretizer
    from nasplug.contracts import Norms as Norms
    from nasplug.contracts import Params as Params
    from nasplug.contracts import Proximal as Proximal
    from nasplug.contracts import Regularizer as Regularizer
    from nasplug.contracts import Schedule as Schedule
    from nasplug.contracts import Score as Score
    from nasplug.contracts import SearchMethod as SearchMethod
    from nasplug.contracts import Traits as Traits
    from nasplug.errors import ConfigError as ConfigError
    from nasplug.errors import ContractError as ContractError
    from nasplug.errors import NasplugError as NasplugError
    from nasplug.errors import PluginError as PluginError
    from nasplug.hookspecs import hookimpl as hookimpl
    from nasplug.networks import Edge as Edge
    from nasplug.networks import Networks as Networks
    from nasplug.study import Study as Study
    from nasplug.tasks import Loss as Loss
    from nasplug.tasks import Metric as Metric
    from nasplug.tasks import Split as Split
    from nasplug.tasks import Task as Task

_HOMES = {
    "compact": ("CompactNetwork", "load"),
    "contracts": (
        "Certifying",
        "Discretizer",
        "Norms",
        "Params",
        "Proximal",
        "Regularizer",
        "Schedule",
        "Score",
        "SearchMethod",
        "Traits",
    ),
    "errors": ("ConfigError", "ContractError", "NasplugError", "PluginError"),
    "hookspecs": ("hookimpl",),
    "networks": ("Edge", "Networks"),
    "study": ("Study",),
    "tasks": ("Loss", "Metric", "Split", "Task"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("nasplug")
    if name in _HOME:
        return getattr(import_module(f"nasplug.{_HOME[name]}"), name)
    raise AttributeError(f"module 'nasplug' has no attribute {name!r}")
