"""One plugin read as a whole before any of it is registered: what is wrong with it is said here, and leaves nothing behind."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pluggy
from pydantic import BaseModel

from nasplug import hookspecs
from nasplug.errors import cause
from nasplug.plugins.defects import BrokenPluginError, DefectError, Owner
from nasplug.plugins.options import options_model

__all__ = ["COMMANDS", "KINDS", "OBSERVED", "OURS", "Offer", "manager", "read"]

KINDS: Mapping[str, str] = {
    "method": "register_search_methods",
    "regularizer": "register_regularizers",
    "discretizer": "register_discretizers",
    "schedule": "register_schedules",
    "task": "register_tasks",
    "activation": "register_activations",
    "loss": "register_losses",
    "metric": "register_metrics",
    "sampler": "register_samplers",
    "command": "register_commands",
}
"""Plugin kind -> the hook that offers it."""

OURS = "nasplug"
"""The distribution whose names no other may take."""

COMMANDS = frozenset(
    {
        "arrive",
        "compare",
        "config",
        "doctor",
        "enumerate",
        "explain",
        "export",
        "extend",
        "front",
        "history",
        "lineage",
        "look",
        "plan",
        "plugins",
        "predict",
        "promote",
        "register",
        "reproduce",
        "rollback",
        "run",
        "status",
        "stop",
        "sync",
        "ui",
    }
)
"""The commands that `nasplug` has itself: a plugin's of that name would never be called."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
TAKEN: Mapping[str, set[str]] = {
    "regularizer": {"use", "level", "ramp"},
    "sampler": {"use", "trials", "generation", "seed", "objectives", "constraints"},
}
"""Kind -> keys that mean something else beside a component's name; of the other kinds ``use`` alone."""

HOOKS = tuple(
    name
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction)
    if function.__module__ == hookspecs.__name__ and hasattr(function, "nasplug_spec")
)
OBSERVED = tuple(hook for hook in HOOKS if hook not in KINDS.values())
"""The hooks of observers."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One name in the registry."""

    kind: str
    name: str
    factory: Callable[..., Any]
    plugin: str
    owner: str  # distribution
    version: str
    options: type[BaseModel]

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n", 1)[0]

    @property
    def whose(self) -> Owner:
        """The plugin that offers it."""
        return Owner(self.plugin, self.owner, self.version)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.whose}"


def manager() -> pluggy.PluginManager:
    """A plugin manager with our hooks and no plugin."""
    made = pluggy.PluginManager("nasplug")
    made.add_hookspecs(hookspecs)
    return made


def read(plugin: object, owner: Owner) -> list[Offer]:
    """Everything that a plugin offers.

    Raises:
        BrokenPluginError: for a hook that is not one of ours, a name or factory that cannot be used, an exception of its own.
    """
    alone = manager()
    _hooks(alone, plugin, owner)
    found: dict[tuple[str, str], Offer] = {}
    for kind, hook in KINDS.items():

        def register(name: str, factory: Callable[..., Any], kind: str = kind) -> None:
            offer = _offer(kind, name, factory, owner)
            if (kind, name) in found:
                raise DefectError(f"registers the {kind} {name!r} twice", "rename one of the two")
            found[kind, name] = offer

        try:
            returned = getattr(alone.hook, hook)(register=register)
        except DefectError as defect:
            raise BrokenPluginError(owner, defect.error, defect.remedy) from defect
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # panics of Rust, skips of pytest and cancellations are no Exception
            raise BrokenPluginError(owner, f"broke in {hook} with {cause(error)}") from error
        if returned:
            kinds = ", ".join(type(value).__name__ for value in returned)
            raise BrokenPluginError(owner, f"returns something from {hook} ({kinds})", "hooks call register and return nothing")
    return list(found.values())


def _hooks(alone: pluggy.PluginManager, plugin: object, owner: Owner) -> None:
    """Refuse hooks that would never be called, or not as they are meant."""
    try:
        alone.register(plugin, name=owner.plugin)
        alone.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        told = " ".join(str(error).split())
        raise BrokenPluginError(
            owner,
            f"has a hook that nasplug does not know, or with other arguments: {told}",
            f"correct its name or its arguments; the hooks are {', '.join(HOOKS)}",
        ) from error
    callers = {caller.name: caller for caller in alone.get_hookcallers(plugin) or ()}
    for hook in HOOKS:
        if hook not in callers and callable(getattr(plugin, hook, None)):
            raise BrokenPluginError(
                owner, f"has {hook} without the mark of a hook: it would never be called", "write @nasplug.hookimpl above it"
            )
    waiting = sorted(n for n, c in callers.items() if any(inspect.iscoroutinefunction(i.function) for i in c.get_hookimpls()))
    if waiting:
        raise BrokenPluginError(owner, f"has async hooks ({', '.join(waiting)}), which nobody awaits", "write plain functions")
    patience = getattr(plugin, "patience_seconds", 0.0)
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not 0 <= patience < math.inf:
        raise BrokenPluginError(owner, f"has patience_seconds = {patience!r}", "write a number of seconds, 0 or more")
    wrappers = sorted(n for n, c in callers.items() if any(i.wrapper or i.hookwrapper for i in c.get_hookimpls()))
    if wrappers:
        raise BrokenPluginError(owner, f"wraps the hooks of others ({', '.join(wrappers)})", "write a plain @nasplug.hookimpl")
    if not callers:
        what = getattr(plugin, "__name__", None) or type(plugin).__name__
        raise BrokenPluginError(
            owner, f"has no hook of nasplug: its entry point leads to {what}", "let it lead to the module that has them"
        )


def _offer(kind: str, name: str, factory: Callable[..., Any], owner: Owner) -> Offer:
    """One name, if it can be used."""
    if not (isinstance(name, str) and callable(factory)):
        raise DefectError(f"registers {name!r} with {factory!r}", "write register(NAME, FACTORY), a text and a function")
    if not NAME.fullmatch(name):
        raise DefectError(
            f"registers the {kind} {name!r}, which is not a valid name",
            "take a letter, then letters, digits, '_', '-' and '.', 64 at most",
        )
    if kind == "command" and name in COMMANDS:
        raise DefectError(f"registers the command {name!r}, which nasplug has itself: it would never be called", "rename it")
    options = options_model(name, factory)
    if taken := sorted(TAKEN.get(kind, {"use"}) & set(options.model_fields)):
        raise DefectError(
            f"{kind} {name!r} has the option {taken[0]!r}, a key that means something else in a config", "rename the option"
        )
    if kind in ("activation", "command") and options.model_fields:
        raise DefectError(
            f"{kind} {name!r} has the parameters {', '.join(options.model_fields)}, which no config could give",
            "take a factory without any, and a name for each variant",
        )
    if kind == "activation" and not callable(made := factory()):
        raise DefectError(
            f"activation {name!r} is not a function: its factory returned {type(made).__name__}",
            "return a function Tensor -> Tensor",
        )
    return Offer(kind, name, factory, owner.plugin, owner.distribution, owner.version, options)
