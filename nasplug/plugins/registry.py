"""The names that plugins offer: who owns each, in which version, with which options; and the plugins that are broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nasplug.config.checking import check
from nasplug.errors import ConfigError, NasplugError, PluginError, cause, did_you_mean
from nasplug.plugins.defects import Broken, BrokenPluginError, Clash, Owner
from nasplug.plugins.registration import KINDS, OBSERVED, OURS, Offer, manager, read

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Plugins"]

NONE: Mapping[str, str] = MappingProxyType({})


class Plugins:
    """The loaded plugins: registries with owners, and the observers' hooks.

    A plugin that is broken has nothing in it; it is remembered with its error, and stops only what needs it.
    """

    def __init__(self) -> None:
        self.manager = manager()
        self.broken: list[Broken] = []
        self.left_out: list[Owner] = []
        """Plugins that are installed and not loaded, as the environment asks."""
        self._owners: dict[str, Owner] = {}  # name in the manager -> whose
        self._offers: dict[str, dict[str, Offer]] = {kind: {} for kind in KINDS}
        self._clashes: dict[tuple[str, str], Clash] = {}
        self._functions: dict[str, Callable[[Tensor], Tensor]] = {}  # activations of plugins that have been asked for

    def add(self, plugin: object, name: str, distribution: str, version: str) -> None:
        """Register one plugin object with the names it offers; a name that another plugin offers too becomes nobody's.

        Raises:
            PluginError: when it has a hook we do not know, takes a name of ours, offers what cannot be used, or breaks. Nothing
                of it is registered then.
        """
        owner = Owner(name, distribution, version)
        offers = read(plugin, owner)
        for offer in offers:
            first = self._offers[offer.kind].get(offer.name)
            if first is not None and first.owner == OURS:
                raise BrokenPluginError(
                    owner,
                    f"offers the {offer.kind} {offer.name!r}, which is nasplug's own",
                    f"rename it; the other one is of {first.whose.package}",
                )
        if self.manager.get_name(plugin) is not None or self.manager.has_plugin(_label(owner)):
            raise BrokenPluginError(owner, "is there twice", "two entry points lead to it: remove one")
        self.manager.register(plugin, name=_label(owner))
        self._owners[_label(owner)] = owner
        for offer in offers:
            self._take(offer)

    def _take(self, offer: Offer) -> None:
        key = offer.kind, offer.name
        clash = self._clashes.get(key)
        first = self._offers[offer.kind].pop(offer.name, None)
        if clash is not None:
            self._clashes[key] = Clash(*key, (*clash.owners, offer.whose))
        elif first is not None:
            self._clashes[key] = Clash(*key, (first.whose, offer.whose))
        else:
            self._offers[offer.kind][offer.name] = offer

    @property
    def functions(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """What activations' names mean here: ours, and those of the plugins. To be passed on: the process keeps none."""
        from nasplug.activations import FUNCTIONS  # with torch, which a listing does without

        for name in self._offers["activation"]:
            if name not in FUNCTIONS and name not in self._functions:
                self._functions[name] = self.build("activation", name, {})  # once: a compiled step knows it by identity
        named = {name: f for name, f in self._functions.items() if name in self._offers["activation"]}
        return MappingProxyType({**FUNCTIONS, **named}) if named else FUNCTIONS

    @property
    def clashes(self) -> list[Clash]:
        """Names that several plugins offer."""
        return list(self._clashes.values())

    @property
    def members(self) -> Mapping[Owner, object]:
        """The plugins themselves."""
        ordered = sorted(self._owners.items(), key=lambda item: item[1])
        return {owner: self.manager.get_plugin(label) for label, owner in ordered}

    @property
    def observers(self) -> Mapping[Owner, list[str]]:
        """Plugin -> the hooks of observers that it implements."""
        found: dict[Owner, list[str]] = {}
        for owner, plugin in self.members.items():
            hooks = [caller.name for caller in self.manager.get_hookcallers(plugin) or () if caller.name in OBSERVED]
            found |= {owner: hooks} if hooks else {}
        return found

    def offers(self, kind: str) -> Mapping[str, Offer]:
        """Every name of a kind, sorted."""
        return dict(sorted(self._offers[kind].items()))

    @property
    def models(self) -> Mapping[str, Mapping[str, tuple[type[BaseModel], str]]]:
        """Kind -> name -> the model of its options and its summary: what `nasplug.config.json_schema` is made of."""
        return {kind: {name: (offer.options, offer.summary) for name, offer in self.offers(kind).items()} for kind in KINDS}

    def offer(self, kind: str, name: str, where: str = "") -> Offer:
        """The owner of a name.

        Raises:
            ConfigError: when it is not installed: with what is, what may have been meant, and the plugins whose it may be.
            PluginError: when several plugins offer it.
        """
        known = self.offers(kind)
        if name in known:
            return known[name]
        at = f"{where}: " if where else ""
        if (kind, name) in self._clashes:
            raise PluginError(f"{at}{self._clashes[kind, name]}")
        told = f"{at}{kind} {name!r} is not installed; installed: {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
        raise ConfigError(told + self.perhaps)

    @property
    def perhaps(self) -> str:
        """Where a name that nobody offers may be: a sentence for each plugin that is broken or left out; empty without any."""
        left_out = ", ".join(sorted({owner.package for owner in self.left_out}))
        told = [f" The {broken.owner} may offer it, but {broken.error}. {broken.remedy}." for broken in self.broken]
        return "".join(told) + (f" Left out by the environment: {left_out}." if left_out else "")

    def options(self, kind: str, name: str, given: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """``given`` checked against the factory's own signature, with types converted and defaults left out.

        Raises:
            ConfigError: for unknown keys, wrong types or missing values.
        """
        offer = self.offer(kind, name, where)
        checked = check(offer.options, given, where or f"{kind} {name!r}", swept=True)
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
                f"{', '.join(f'{k}={v!r}' for k, v in options.items()) or '(none)'} with {cause(error)}. "
                "Change them, or tell the plugin's author"
            ) from error

    @property
    def manifest(self) -> list[dict[str, Any]]:
        """Every plugin with its distribution, version and names: what a worker must have too, and part of the lineage."""
        found = []
        for owner in sorted(self._owners.values()):
            names = {kind: sorted(o.name for o in offers.values() if o.whose == owner) for kind, offers in self._offers.items()}
            found.append(
                {
                    "plugin": owner.plugin,
                    "distribution": owner.distribution,
                    "version": owner.version,
                    "names": {kind: n for kind, n in names.items() if n},
                }
            )
        return found

    def require(
        self,
        manifest: list[dict[str, Any]],
        there: Mapping[str, str] = NONE,
        here: Mapping[str, str] = NONE,
        sides: tuple[str, str] = ("driver", "this worker"),
    ) -> None:
        """Refuse to work with other plugins than the driver planned with, or with other versions of what is below them.

        Args:
            manifest: the driver's.
            there, here: versions of other things, the driver's and ours (`nasplug.identity.versions`).
            sides: what the driver and we are called.

        Raises:
            PluginError: with every difference, in one line: a worker's error is told by its last line.
        """
        ours, theirs = ({(p["distribution"], p["plugin"]): p for p in found} for found in (self.manifest, manifest))
        broken = {(b.owner.distribution, b.owner.plugin): b for b in self.broken}
        told: dict[str, list[str]] = {}
        for key in sorted(ours.keys() | theirs.keys()):
            mine, other = ours.get(key), theirs.get(key)
            if mine == other:
                continue
            only = [_names(a) - _names(b) if a and b else set() for a, b in ((other, mine), (mine, other))]
            brief = f"{sides[0]} has {_brief(other, only[0])}, {sides[1]} has {_brief(mine, only[1])}"
            told.setdefault(key[0], []).append(brief + (f" (it {broken[key].error})" if key in broken else ""))
        for name in [name for name in (*there, *(n for n in here if n not in there)) if there.get(name) != here.get(name)]:
            brief = f"{sides[0]} has {there.get(name, 'none')}, {sides[1]} has {here.get(name, 'none')}"
            told.setdefault(name, [brief])
        if told:
            each = "; ".join(f"{name}: {brief}" for name, briefs in told.items() for brief in briefs)
            raise PluginError(f"the {sides[0]} and {sides[1]} differ; {each}; install the same on every node")


def _label(owner: Owner) -> str:
    """Two distributions may call their plugins alike."""
    return f"{owner.distribution}: {owner.plugin}"


def _names(plugin: Mapping[str, Any]) -> set[str]:
    return {f"{kind} {name}" for kind, names in plugin["names"].items() for name in names}


def _brief(plugin: Mapping[str, Any] | None, only: set[str]) -> str:
    if plugin is None:
        return "none"
    return str(plugin["version"]) + (f" (alone with {', '.join(sorted(only))})" if only else "")
