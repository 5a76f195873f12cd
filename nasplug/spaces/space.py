"""The space of a search: every architecture that its study may choose, and the ordinary studies that train all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasplug.byrow import ByRow
from nasplug.config import StudyConfig, parse
from nasplug.errors import ConfigError
from nasplug.networks import Networks, inside
from nasplug.plan import (
    FIXED,
    Axis,
    Components,
    Edges,
    Pack,
    UntemperedError,
    assemble,
    axes,
    combinations,
    components,
    edges_of,
    grid,
    kernels_of,
    layer_text,
    only_operations,
    searched,
    settle,
    try_out,
)
from nasplug.plugins import Plugins
from nasplug.spaces.edges import MOST as LOOKED_AT
from nasplug.spaces.edges import combinations_of, constant, wirings
from nasplug.train import Search, start

__all__ = ["MOST", "Part", "Skeletons", "Space", "space_of", "widths_of"]

MOST = 20_000
"""Networks that are trained unless more are asked for."""


@dataclass(frozen=True, slots=True)
class Part:
    """Architectures whose networks differ in numbers alone, or in widths too: one study trains them.

    Attributes:
        config: the study.
        architectures: at each of its shapes.
        shapes: how many shapes it has: widths, and what else varies of the method.
    """

    config: StudyConfig
    architectures: int
    shapes: int

    @property
    def networks(self) -> int:
        """Of all seeds."""
        return self.architectures * self.shapes * len(self.config.seed_list)


@dataclass(frozen=True, slots=True)
class Space:
    """Every architecture of a study's space.

    Attributes:
        study: the search.
        parts: the studies that train it, in ``<store>/<study>-all``.
        different: what is not as in the search, in words.
    """

    study: StudyConfig
    parts: tuple[Part, ...]
    different: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """``<store>/<study>-all``: the parts' studies, the table, the scores."""
        return self.study.folder.with_name(f"{self.study.study}-all")

    @property
    def architectures(self) -> int:
        """How many."""
        return sum(part.architectures * part.shapes for part in self.parts)

    @property
    def networks(self) -> int:
        """How many are trained."""
        return sum(part.networks for part in self.parts)


@dataclass(frozen=True, slots=True)
class Kind:
    """What networks choose: sizes of ``kernels`` in each layer of a stem that has some, and behind it, or without one,
    activations at so many ``sites`` of each hidden layer, among ``candidates``, or operations.
    """

    sites: tuple[int, ...]
    candidates: tuple[str, ...]
    edges: Edges
    kernels: tuple[tuple[str, ...], ...] = ()

    @property
    def count(self) -> int:
        """How many architectures there are."""
        sizes = math.prod(map(len, self.kernels))
        if self.edges:
            found = wirings(self.edges).texts
            blind = sum(map(constant, found))
            return sizes * (len(found) - blind) + blind
        return sizes * math.prod(_count(sites, len(self.candidates)) for sites in self.sites)

    def texts(self) -> Iterator[str]:
        """Every architecture; nothing where nothing is chosen. What reads no stem is there once, with its smallest sizes."""
        if not self.kernels:
            yield from self._behind()
            return
        fronts = ["/".join(sizes) for sizes in itertools.product(*self.kernels)]
        behind = self._behind() if self.edges or self.sites else [""]
        for rest in behind:  # too many to be held: nobody has counted them yet
            yield from (f"{front}:{rest}" if rest else front for front in (fronts[:1] if constant(rest) else fronts))

    def _behind(self) -> Iterator[str]:
        return iter(wirings(self.edges).texts) if self.edges else _texts(self.sites, self.candidates)


Signature = tuple[tuple[int, ...], Kind]  # widths of hidden layers, and what they choose


def space_of(study: StudyConfig, plugins: Plugins, most: int = MOST) -> Space:
    """The space of a study whose method searches for activations or operations, whose stem for sizes, or whose widths vary.

    A layer of H neurons that choose for themselves has an architecture for each multiset of H candidates: which neuron has
    which does not matter. Operations on no path from the input to the output do not, either (`nasplug.spaces.edges.wirings`).

    Raises:
        ConfigError: for what varies and is no architecture, a task that is validated on resamples, a space of one architecture,
            or of more networks than ``most``, with their number.
    """
    if study.fixed is not None:
        raise ConfigError(f"{FIXED}: is given, so that this study searches for nothing; remove it")
    base, different = _trained(study, plugins)
    found = axes(base)
    if other := [axis.path for axis in found if not axis.path.startswith("method.")]:
        raise ConfigError(
            f"{', '.join(other)}: varies, and every architecture of a space is trained in one way; give one value "
            f"({other[0]}=...), and make a space for each of the others"
        )
    combinations(found)
    known: dict[Signature, Mapping[str, Any]] = {}
    by_kind: dict[Kind, list[tuple[Mapping[str, Any], Signature]]] = {}
    for values in grid(found):
        signature = _signature(settle(base, values), plugins)
        if (alike := known.setdefault(signature, values)) is not values:
            path = next(path for path, value in values.items() if value != alike[path])
            raise ConfigError(
                f"{path}: {alike[path]} and {values[path]} make networks of the same widths and choices, which is what an "
                "architecture is here; give one value"
            )
        by_kind.setdefault(signature[1], []).append((values, signature))
    if odd := [number for kind in by_kind if (number := combinations_of(kind.edges)) > LOOKED_AT]:
        raise ConfigError(
            f"the space has {odd[0]:,} combinations of operations; needed: {LOOKED_AT:,} at most. Take fewer operations or "
            "hidden layers, or between: next"
        )
    counts = [(kind.count, len(some)) for kind, some in by_kind.items()]
    seeds = len(study.seed_list)
    total = sum(each * shapes for each, shapes in counts)
    if total * seeds > most:
        shown = " + ".join(f"{each:,} x {shapes:,} shapes" if shapes > 1 else f"{each:,}" for each, shapes in counts[:6])
        raise ConfigError(
            f"the space has {total:,} architectures ({shown}{' + ...' if len(counts) > 6 else ''}), {total * seeds:,} networks "
            f"with {seeds} seeds; needed: {most:,} at most. Take fewer candidates, layers or seeds, per: layer, or --most"
        )
    if total < 2:
        raise ConfigError(
            "the space has one architecture; needed: a method that searches for activations (mixture) or operations, sizes of "
            "kernels in a stem, or widths that vary (method.hidden={choice: [[8], [16]]})"
        )
    parts = []
    names: set[str] = set()
    for kind, some in by_kind.items():
        texts = list(kind.texts())
        for values in _boxes(found, [one for one, _ in some]):
            shapes = math.prod(len(v) for v in values.values())
            widths = {"x".join(map(str, signature[0])) for one, signature in some if _inside(one, values)}
            name = _free(f"widths-{widths.pop()}" if len(widths) == 1 else f"depth-{len(some[0][1][0])}", names)
            raw: dict[str, Any] = settle(base, {p: _sweep(v) for p, v in values.items()}).plain()
            raw |= {"study": name, "store": str(study.folder.with_name(f"{study.study}-all"))}
            raw["fixed"] = _sweep(texts) if texts else None
            parts.append(Part(parse(raw), max(1, len(texts)), shapes))
    return Space(study, tuple(parts), different)


def _first(study: StudyConfig, plugins: Plugins) -> tuple[Components, Search, Networks]:
    """Components, search and one soft network of a study in which nothing varies, whatever is fixed in it."""
    pack = Pack("p0000", {}, {}, study.seed_list[:1], [0])
    parts = components(study, pack, plugins)
    search = assemble(parts, pack, plugins)
    return parts, search, searched(search, search.method.relax(start(search).params, search.tau.at(0)))


class Skeletons:
    """One soft network of each shape that a study's packs have."""

    def __init__(self, study: StudyConfig, plugins: Plugins) -> None:
        self._study, self._plugins = study, plugins
        self._first = {axis.path: axis.sweep.first for axis in axes(study)}
        self._known: dict[str, Networks] = {}

    def of(self, values: Mapping[str, Any]) -> Networks:
        """That of a pack, for ``values`` of what varies between packs."""
        key = repr({path: value for path, value in values.items() if path.startswith(("method.", "task."))})
        if key not in self._known:
            self._known[key] = _first(settle(self._study, self._first | dict(values)), self._plugins)[2]
        return self._known[key]


def widths_of(nets: Networks) -> tuple[int, ...]:
    """Of the hidden layers of soft networks, without those that belong to operations."""
    skipped = inside(nets)
    return tuple(width for layer, width in enumerate(nets.widths[:-1]) if layer > 0 and layer not in skipped)


def _signature(study: StudyConfig, plugins: Plugins) -> Signature:
    """The shape of a study's networks, and what they choose."""
    parts, search, nets = _first(study, plugins)
    if parts.task.resamples:
        raise ConfigError(
            f"task: {parts.task.name!r} is validated on {parts.task.resamples.words}, and every architecture of a space is "
            "trained on one split; write task.validation: holdout (for the search, too)"
        )
    return widths_of(nets), _kind(parts, search, nets)


def _kind(parts: Components, search: Search, nets: Networks) -> Kind:
    kernels = tuple(kernels_of(nets).values())
    if nets.alternatives:
        only_operations(search, start(search).params, nets, parts.study.method.use)
        return Kind((), nets.candidates, edges_of(nets), kernels)
    sites = tuple(nets.choices[layer].shape[1] for layer in sorted(nets.choices))
    return Kind(sites, nets.candidates if sites else nets.candidates[:1], (), kernels)


def _count(sites: int, candidates: int) -> int:
    """Multisets of ``sites`` candidates."""
    return math.comb(sites + candidates - 1, sites)


def _texts(layers: Sequence[int], candidates: Sequence[str]) -> Iterator[str]:
    """Every architecture, the last layer's fastest; nothing where no layer chooses."""
    if layers:
        each = [[layer_text(one, candidates) for one in itertools.combinations_with_replacement(candidates, n)] for n in layers]
        yield from ("/".join(one) for one in itertools.product(*each))


def _boxes(found: Sequence[Axis], some: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, list[Any]]]:
    """Combinations as crossed lists: one, where they are all of the combinations of their values, else one for each of them."""
    values: dict[str, list[Any]] = {axis.path: [] for axis in found}
    for one in some:
        for path, value in one.items():
            if value not in values[path]:
                values[path].append(value)
    if math.prod(len(v) for v in values.values()) == len(some):
        yield values
    else:
        yield from ({path: [value] for path, value in one.items()} for one in some)


def _inside(one: Mapping[str, Any], values: Mapping[str, Sequence[Any]]) -> bool:
    return all(value in values[path] for path, value in one.items())


def _sweep(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else {"grid": list(values)}


def _free(name: str, taken: set[str]) -> str:
    """A name that no part has yet."""
    one = next(n for n in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))) if n not in taken)
    taken.add(one)
    return one


def _trained(study: StudyConfig, plugins: Plugins) -> tuple[StudyConfig, tuple[str, ...]]:
    """The study with everything left out that is there to search; what is different, in words."""
    raw, told = study.plain(), []
    if (architecture := raw["train"].get("architecture")) is not None:
        if architecture["share"]:
            told.append(
                f"weights see all training samples; in the search {1.0 - architecture['share']:.0%} of them, and the "
                "architecture the others"
            )
        raw["train"] |= {"architecture": None}
    if raw["train"]["retrain"]:
        told.append("no retraining: every architecture starts from fresh weights as it is")
        raw["train"] |= {"retrain": 0}
    raw |= {"sampler": {"use": "grid"}, "stop": None, "linear": False, "reach": None, "ensemble": None, "stability": False}
    raw |= {"budget": None, "plateau": None}  # the table is of all of them
    if raw["mlflow"] is not None:
        raw["mlflow"] |= {"register": None, "children": 0}
    first = {axis.path: axis.sweep.first for axis in axes(study)}
    parts, search, nets = _first(settle(study, first), plugins)
    kind = _kind(parts, search, nets)
    text = next(kind.texts(), None) if combinations_of(kind.edges) <= LOOKED_AT else None
    if text is None:
        return parse(raw), tuple(told)
    chosen = "operations" if kind.edges else "activations" if kind.sites else "sizes of kernels"
    uses, made = raw["discretizers"], parts.discretizers
    raw["discretizers"] = [
        use for use, one in zip(uses, made, strict=True) if isinstance(one, ByRow) or one.needs != {"choices"}
    ]
    if len(raw["discretizers"]) < len(uses):
        told.append(f"no discretizers of {chosen}: they are fixed")
    if study.temperature is not None:
        one = {p: v for p, v in first.items() if not p.startswith(("train.architecture.", "discretizers.", "train.retrain"))}
        probe = parse(raw | {"discretizers": [], FIXED: text})
        parts, search, _ = _first(settle(probe, one), plugins)
        try:
            try_out(parts, search, plugins)
        except UntemperedError:
            raw["temperature"] = None
            told.append(f"no temperature: networks whose {chosen} are fixed do not read it")
    return parse(raw), tuple(told)
