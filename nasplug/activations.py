"""Activations: elementwise functions ``Tensor -> Tensor`` by name. Ours are here; a run has those of its plugins beside them.

What a name means is passed on, in `nasplug.networks.Networks.functions`: nothing of the process decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError, did_you_mean
from nasplug.hookspecs import Register, hookimpl

__all__ = ["FUNCTIONS", "Function", "function_of", "non_decreasing"]

Function = Callable[[Tensor], Tensor]
"""Elementwise: of any shape, to the same shape."""


def _identity(z: Tensor) -> Tensor:
    return z


def _leaky_relu(z: Tensor) -> Tensor:
    return F.leaky_relu(z, 0.01)


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "identity": _identity,
        "relu": torch.relu,
        "leaky_relu": _leaky_relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "elu": F.elu,
        "silu": F.silu,
        "gelu": F.gelu,
        "softplus": F.softplus,
        "sin": torch.sin,
        "square": torch.square,
    }
)
"""Ours by name; no plugin may take these names. `nasplug.plugins.Plugins.functions` has a run's own too."""


NON_DECREASING = frozenset({"identity", "relu", "leaky_relu", "tanh", "sigmoid", "elu", "softplus"})
"""Of ours, those that never decrease. A plugin's function says so by an attribute: ``function.non_decreasing = True``."""


def non_decreasing(name: str, functions: Mapping[str, Function] = FUNCTIONS) -> bool:
    """Whether the activation of a name never decreases, as it says itself; monotone networks take no other.

    What a plugin says of its function is tried when a study is planned.
    """
    function = functions.get(name)
    if name in FUNCTIONS and function is FUNCTIONS[name]:
        return name in NON_DECREASING
    return getattr(function, "non_decreasing", False) is True


@hookimpl
def register_activations(register: Register) -> None:
    """The activations of nasplug, registered like a plugin's."""
    for name, function in FUNCTIONS.items():
        register(name, _made(name, function))


def _made(name: str, function: Function) -> Callable[[], Function]:
    def make() -> Function:
        return function

    make.__doc__ = f"The elementwise function {name}."
    return make


def function_of(name: str, functions: Mapping[str, Function] = FUNCTIONS) -> Function:
    """The function of a name among ``functions``.

    Raises:
        ConfigError: for a name that is not one of them.
    """
    try:
        return functions[name]
    except KeyError:
        raise ConfigError(
            f"activation {name!r} is not known; known: {', '.join(sorted(functions))}.{did_you_mean(name, functions)} What a "
            "plugin offers is in load_plugins().functions of nasplug.plugins"
        ) from None
