"""Loading plugins, and the names they offer: who owns each name, in which version, with which options."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any, get_type_hints

import pluggy
from pydantic import BaseModel, ConfigDict, create_model

from nasplug import hookspecs
from nasplug.checking import check
from nasplug.errors import ConfigError, NasplugError, PluginError, did_you_mean
from nasplug.networks import ACTIVATIONS

__all__ = ["KINDS", "Offer", "Plugins", "load_plugins", "options_model"]

KINDS: Mapping[str, str] = {
    "method": "register_search_methods",
    "regularizer": "register_regularizers",
    "discretizer": "register_discretizers",
    "schedule": "register_schedules",
    "task": "register_tasks",
    "activation": "register_activations",
    "command": "register_commands",
}
"""Plugin kind -> the hook that offers it."""

BUILT_IN = ("nasplug.networks", "nasplug.schedules", "nasplug.datasets", "nasplug.images")
GROUP = "nasplug"
ONLY = "NASPLUG_LOAD_PLUGINS"


@dataclass(frozen=True, slots=True)
class Offer:
    """One name in the registry."""

    kind: str
    name: str
    factory: Callable[..., Any]
    plugin: str
    owner: str  # distribution
    version: str

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n", 1)[0]


def options_model(name: str, factory: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of a factory's keyword-only parameters: the options a config may give it.

    Raises:
        PluginError: for a factory with positional or untyped parameters: its options could not be named or checked.
    """
    hints = get_type_hints(factory, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name not in hints:
            raise PluginError(
                f"the factory of {name!r} has the parameter {parameter.name!r}, which is not keyword-only and annotated; "
                f"write def {getattr(factory, '__name__', name)}(*, {parameter.name}: TYPE = DEFAULT)"
            )
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False)
    return create_model(f"{name}_options", __config__=config, **fields)


class Plugins:
    """The loaded plugins: registries with owners, and the observers' hooks."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager("nasplug")
        self.manager.add_hookspecs(hookspecs)
        self._owners: dict[str, tuple[str, str]] = {}  # plugin name -> (distribution, version)
        self._offers: dict[str, dict[str, Offer]] = {kind: {} for kind in KINDS}

    def add(self, plugin: object, name: str, distribution: str, version: str) -> None:
        """Register one plugin object and collect the names it offers.

        Raises:
            PluginError: when it clashes with a name that another plugin owns, has a hook we do not know, or breaks.
        """
        whom = f"plugin {name!r} ({distribution} {version})"
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(
                f"{whom} has a hook that nasplug does not know, or with other arguments: {error}. The hooks are in "
                "nasplug/hookspecs.py; correct its name, or the arguments"
            ) from error
        except ValueError as error:
            told = str(error).split("\n", 1)[0]
            raise PluginError(f"{whom} is there twice: {told}. Uninstall one of the two") from error
        self._owners[name] = (distribution, version)
        others = [p for p in self.manager.get_plugins() if p is not plugin]
        for kind, hook in KINDS.items():
            caller = self.manager.subset_hook_caller(hook, remove_plugins=others)
            try:
                caller(register=self._register(kind, name, distribution, version))
            except NasplugError:
                raise
            except Exception as error:
                raise PluginError(
                    f"{whom} broke in {hook} with {type(error).__name__}: {error}. Repair or uninstall it"
                ) from error

    def _register(self, kind: str, plugin: str, owner: str, version: str) -> Callable[[str, Callable[..., Any]], None]:
        offers = self._offers[kind]

        def register(name: str, factory: Callable[..., Any]) -> None:
            if not (isinstance(name, str) and name and callable(factory)):
                raise PluginError(
                    f"plugin {plugin!r} ({owner} {version}) registers {name!r} with {factory!r}; needed: "
                    "register(NAME, FACTORY), a text and a function"
                )
            if name in offers:
                first = offers[name]
                raise PluginError(
                    f"{kind} {name!r} is offered by both {first.owner} {first.version} and {owner} {version}; "
                    f"uninstall one, or leave it out with {ONLY}"
                )
            options = options_model(name, factory)
            if kind == "activation":
                if options.model_fields:
                    raise PluginError(
                        f"activation {name!r} of plugin {plugin!r} ({owner} {version}) has the parameters "
                        f"{', '.join(options.model_fields)}; needed: a factory without any, and a name for each variant"
                    )
                ACTIVATIONS[name] = factory()  # of the whole process: networks look their activations up by name
            offers[name] = Offer(kind, name, factory, plugin, owner, version)

        return register

    def offers(self, kind: str) -> Mapping[str, Offer]:
        """Every name of a kind, sorted."""
        return dict(sorted(self._offers[kind].items()))

    def offer(self, kind: str, name: str, where: str = "") -> Offer:
        """The owner of a name.

        Raises:
            ConfigError: when it is not installed: with what is, and what may have been meant.
        """
        known = self.offers(kind)
        if name not in known:
            at = f"{where}: " if where else ""
            raise ConfigError(
                f"{at}{kind} {name!r} is not installed; installed: {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
            )
        return known[name]

    def options(self, kind: str, name: str, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """``given`` checked against the factory's own signature, with types converted and defaults left out.

        Raises:
            ConfigError: for unknown keys, wrong types or missing values.
        """
        offer = self.offer(kind, name, where)
        checked = check(options_model(name, offer.factory), given, where or f"{kind} {name!r}", swept=True)
        return {key: getattr(checked, key) for key in checked.model_fields_set}

    def build(self, kind: str, name: str, given: Mapping[str, Any], where: str = "") -> Any:
        """Make a component from its name and options.

        Raises:
            ConfigError: as `offer` and `options`, and whatever the factory itself refuses.
            PluginError: when the factory raises something else.
        """
        options = self.options(kind, name, given, where)
        offer = self.offer(kind, name, where)
        try:
            return offer.factory(**options)
        except ConfigError as error:
            told = str(error)
            raise ConfigError(told if told.startswith(where) else f"{where}: {told}") from error
        except NasplugError:
            raise
        except Exception as error:
            raise PluginError(
                f"{where or kind}: {name!r} of {offer.owner} {offer.version} broke on the options "
                f"{', '.join(f'{k}={v!r}' for k, v in options.items()) or '(none)'} with {type(error).__name__}: {error}. "
                "Change them, or tell the plugin's author"
            ) from error

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """Every plugin with its distribution, version and names: what a worker must have too, and part of the lineage."""
        found = []
        for plugin, (distribution, version) in sorted(self._owners.items()):
            names = {
                kind: sorted(o.name for o in offers.values() if o.plugin == plugin) for kind, offers in self._offers.items()
            }
            found.append(
                {
                    "plugin": plugin,
                    "distribution": distribution,
                    "version": version,
                    "names": {kind: n for kind, n in names.items() if n},
                }
            )
        return found

    def require(self, manifest: list[dict[str, Any]]) -> None:
        """Refuse to work with other plugins than the driver planned with.

        Raises:
            PluginError: with the difference, plugin by plugin.
        """
        ours = {p["plugin"]: p for p in self.manifest}
        theirs = {p["plugin"]: p for p in manifest}
        lines = []
        for name in sorted(ours.keys() | theirs.keys()):
            here, there = ours.get(name), theirs.get(name)
            if here != there:
                lines.append(f"  {name}: driver has {_brief(there)}, this worker has {_brief(here)}")
        if lines:
            raise PluginError(
                "the driver and this worker have different plugins; install the same set on every node:\n" + "\n".join(lines)
            )


def _brief(plugin: Mapping[str, Any] | None) -> str:
    if plugin is None:
        return "none"
    names = ", ".join(n for group in plugin["names"].values() for n in group)
    return f"{plugin['distribution']} {plugin['version']} ({names})"


def _canonical(distribution: str) -> str:
    """Names of distributions are equal up to case and ``-_.``."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _only() -> list[str] | None:
    """The distributions to load, None for all."""
    only = os.environ.get(ONLY)
    return None if only is None else [_canonical(part) for part in only.split(",") if part.strip()]


@lru_cache(maxsize=1)
def load_plugins() -> Plugins:
    """Our own names, then every installed plugin of the entry-point group ``nasplug``.

    The environment variable ``NASPLUG_LOAD_PLUGINS`` names the distributions to load, by comma (empty: none).

    Raises:
        PluginError: a broken, misspelt or clashing plugin is named, never skipped.
    """
    plugins = Plugins()
    own = metadata.version("nasplug")
    only = _only()
    for module in BUILT_IN:
        plugins.add(importlib.import_module(module), module, "nasplug", own)
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        distribution = entry.dist.name if entry.dist else entry.name
        version = entry.dist.version if entry.dist else "?"
        if only is not None and _canonical(distribution) not in only:
            continue
        try:
            plugin = entry.load()
        except Exception as error:
            raise PluginError(
                f"plugin {entry.name!r} ({distribution} {version}, {entry.value}) failed to import: "
                f"{type(error).__name__}: {error}. Repair or uninstall it, or list the others in {ONLY}"
            ) from error
        plugins.add(plugin, entry.name, distribution, version)
    installed = {_canonical(e.dist.name) for e in metadata.entry_points(group=GROUP) if e.dist} | {"nasplug"}
    for name in only or ():
        if name not in installed:
            raise PluginError(
                f"{ONLY} names {name!r}, which is not installed; installed: {', '.join(sorted(installed))}."
                + did_you_mean(name, installed)
            )
    return plugins
