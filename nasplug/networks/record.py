"""The record of K networks, and taking, joining and choosing its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.activations import FUNCTIONS, Function, function_of
from nasplug.errors import ConfigError, ContractError
from nasplug.replicas import column
from nasplug.signs import held
from nasplug.stems import NORMS, Stem

__all__ = ["MOST_WIDTH", "PARTS", "Edge", "Networks", "Way", "check_hidden", "join", "take", "where"]

Edge = tuple[int, int]  # (to, from) with to > from: layer 0 is the input, layer D the output
Way = Edge | int | None  # a block, a layer in between, or nothing

PARTS = (
    *("blocks", "biases", "gates", "edge_gates", "choices", "eigenvalues", "concentrations", "kept"),
    *("kernels", "kernel_biases", "kernel_shares", "kernel_parts", *NORMS),
)


MOST_WIDTH = 2**22
MOST_LAYERS = 64  # hidden ones; with skips a network has a block for each pair of layers


def check_hidden(where: str, hidden: Sequence[int]) -> None:
    """Refuse more than `MOST_LAYERS` hidden layers, or more than `MOST_WIDTH` neurons in one; for factories of methods.

    Raises:
        ConfigError: naming the number.
    """
    if max(hidden, default=0) > MOST_WIDTH:
        raise ConfigError(f"{where}: hidden has a layer of {max(hidden)} neurons; needed: {MOST_WIDTH:,} at most")
    if len(hidden) > MOST_LAYERS:
        raise ConfigError(
            f"{where}: hidden has {len(hidden)} layers; needed: {MOST_LAYERS} at most. Take wider ones, but fewer"
        )


@dataclass(frozen=True, slots=True)
class Networks:
    """K feed-forward networks with one skeleton (widths, blocks and parts).

    ``a_l = g_l * sum_c choice_lc f_c( sum_{m<l} (blocks * edge_gates)_{l,m} a_m + biases_l )``; the output layer has
    neither activation nor gate. Layer 0 is the input, or what a stem makes of it.

    Attributes:
        widths: neurons of each layer, layer 0 first, output last.
        blocks: weights of dense blocks and skip blocks, ``(K, H_to, H_from)``.
        biases: ``(K, H)``, layers 1..D.
        gates: ``(K, H)`` in [0, 1], hidden neurons; 1 = kept.
        edge_gates: ``(K, H_to, H_from)`` in [0, 1]; 1 = kept.
        choices: ``(K, H or 1, A)`` on the simplex over ``candidates``.
        eigenvalues: ``(K, H)``, spectral methods only; the canonical forward does not read them.
        concentrations: ``(K, ..., A)``, > 0, of the Dirichlet distributions that shares are drawn from, by the number of the
            site; of methods that draw so only. The forward reads the shares, not them. A candidate that was dropped has 0.
        kept: of searches that drop candidates for good, by layer of ``choices`` or by group of ``alternatives``: as large as
            the shares there, 1 where a candidate may still be chosen, 0 where it was dropped. Its share is 0 then.
        candidates: activation names; with one name no choices are needed.
        functions: name -> function, for the candidates and the stem.
        stem: convolutions between the input and layer 0 (`nasplug.stems.Stem`), or None.
        kernels: of the stem, one tensor per layer, ``(K, C_out, C_in, h, w)``.
        kernel_biases: ``(K, C_out)``.
        kernel_shares, kernel_parts: of layers of the stem that choose a size: ``(K, S)`` on the simplex, and the kernel of each
            size in the middle of zeros, ``(K, S, C_out, C_in, h, w)``; ``kernels`` is their mixture.
        kernel_scales, kernel_means, kernel_variances: ``(K, C_out)``, of the layers with a norm (`nasplug.batchnorm`).
        monotone: direction of each neuron of layer 0, in {-1, 0, +1}: weights whose sign it forbids count as 0
            (`nasplug.signs`). Empty: all weights are free.
        groups: of each input the place of the user's column that it was made of; the inputs of a column count as one in `sizes`
            and in penalties that count. Empty: each input is a column. None with a stem.
        terms: of each small network that this one is the sum of, how many columns it may read, 1 or 2: each hidden layer is
            divided into as many blocks of equal width, one after the other (`nasplug.additive`). Empty: any neuron may read
            any column. None with a stem.
        alternatives: groups of ways of which one is to stay (`nasplug.networks.decided`): a block, by its edge gates, all that
            goes through a hidden layer, by its gates, or None, nothing. The gates of a way are its share; a group's sum to 1.
        passes: hidden layers that pass values on, neuron by neuron: the blocks into and out of them are the identity, their
            activation is, and they have no biases. Nothing of it is learned, so nothing of it is trained or counted.
        constants: blocks whose numbers are no weights: they stay as they are in fine-tuning and retraining. A layer with a
            constant block into a way of ``alternatives`` belongs to that operation, too.
    """

    widths: tuple[int, ...]
    blocks: Mapping[Edge, Tensor]
    biases: Mapping[int, Tensor] = field(default_factory=dict)
    gates: Mapping[int, Tensor] = field(default_factory=dict)
    edge_gates: Mapping[Edge, Tensor] = field(default_factory=dict)
    choices: Mapping[int, Tensor] = field(default_factory=dict)
    eigenvalues: Mapping[int, Tensor] = field(default_factory=dict)
    concentrations: Mapping[int, Tensor] = field(default_factory=dict)
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    candidates: tuple[str, ...] = ("relu",)
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS, repr=False)
    stem: Stem | None = None
    kernels: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_biases: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_shares: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_parts: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_scales: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_means: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_variances: Mapping[int, Tensor] = field(default_factory=dict)
    monotone: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    terms: tuple[int, ...] = ()
    alternatives: tuple[tuple[Way, ...], ...] = ()
    passes: tuple[int, ...] = ()
    constants: tuple[Edge, ...] = ()

    @property
    def inputs(self) -> int:
        """I: numbers per sample of ``x``."""
        return self.widths[0] if self.stem is None else self.stem.inputs

    @property
    def activations(self) -> int:
        """Intermediate numbers per sample and network; memory and time are planned by them."""
        return sum(self.widths[1:]) + (0 if self.stem is None else self.stem.activations)

    @property
    def depth(self) -> int:
        """Number of layers after the input: the index of the output layer."""
        return len(self.widths) - 1

    @property
    def replicas(self) -> int:
        """K."""
        return next(iter(self.blocks.values())).shape[0]

    @property
    def parts(self) -> frozenset[str]:
        """Names of the parts that are present (see `PARTS`)."""
        return frozenset(name for name in PARTS if getattr(self, name))

    @property
    def names(self) -> list[str]:
        """All activations: the candidates, and those of the stem."""
        return list(dict.fromkeys((*self.candidates, *(layer.activation for layer in (self.stem.layers if self.stem else ())))))

    def function(self, name: str) -> Function:
        """The function of an activation's name.

        Raises:
            ConfigError: for an unknown name.
        """
        return function_of(name, self.functions)

    def block(self, edge: Edge) -> Tensor:
        """Effective weights of one block, ``(K, H_to, H_from)``: weights times edge gates, 0 where ``monotone`` forbids one."""
        gate, w = self.edge_gates.get(edge), self.blocks[edge]
        if self.monotone:
            w = held(w, edge, self.widths, self.monotone)
        return w if gate is None else w * gate

    def map(self, function: Callable[[Tensor], Tensor]) -> Networks:
        """The same record with ``function`` applied to every tensor."""
        return _made(self, lambda part, key: function(getattr(self, part)[key]))

    def check(self) -> None:
        """Refuse a record whose tensors do not fit together. Used by kits, loader and planner, not in the training loop.

        Raises:
            ContractError: naming the tensor, its shape and the one it must have.
        """
        if not self.blocks:
            raise ContractError("no blocks: a network needs one at least")
        k, d = self.replicas, self.depth
        if d < 1 or any(w < 1 for w in self.widths):
            raise ContractError(f"widths {self.widths}: at least two layers of at least one neuron are needed")
        wanted: dict[tuple[str, object], tuple[tuple[int, ...], Tensor]] = {}
        for name in ("blocks", "edge_gates"):
            for edge, tensor in getattr(self, name).items():
                to, source = edge
                if not 0 <= source < to <= d:
                    raise ContractError(f"{name}[{edge}]: an edge goes (to, from) with {d} >= to > from >= 0")
                if edge not in self.blocks:
                    raise ContractError(f"{name}[{edge}]: there is no such block; blocks: {sorted(self.blocks)}")
                wanted[name, edge] = ((k, self.widths[to], self.widths[source]), tensor)
        ranges = {
            "biases": (1, d, ""),
            "gates": (1, d - 1, "hidden "),
            "choices": (1, d - 1, "hidden "),
            "eigenvalues": (0, d, ""),
        }
        for name, (first, last, which) in ranges.items():
            for layer, tensor in getattr(self, name).items():
                if not first <= layer <= last:
                    raise ContractError(f"layer {layer} has {name}; only {which}layers {first}..{last} may")
                shape: tuple[int, ...] = (k, self.widths[layer])
                if name == "choices":
                    rows = 1 if tensor.dim() == 3 and tensor.shape[1] == 1 else self.widths[layer]
                    shape = (k, rows, len(self.candidates))
                wanted[name, layer] = (shape, tensor)
        for name in ("concentrations", "kept"):
            for site, tensor in getattr(self, name).items():
                if tensor.dim() < 2 or len(tensor) != k:
                    raise ContractError(f"{name}[{site}] has shape {tuple(tensor.shape)}; needed: ({k}, ..., candidates)")
        for (name, key), (shape, tensor) in wanted.items():
            if tuple(tensor.shape) != shape:
                raise ContractError(f"{name}[{key}] has shape {tuple(tensor.shape)}; the skeleton asks for {shape}")
        if not self.candidates:
            raise ContractError("no candidate activation; name one at least")
        if len(self.candidates) > 1 and set(self.choices) != set(range(1, d)):
            raise ContractError(f"{len(self.candidates)} candidate activations need choices for every hidden layer")
        for name in self.names:
            self.function(name)
        if self.monotone and (self.stem is not None or len(self.monotone) != self.widths[0]):
            raise ContractError(
                f"monotone has {len(self.monotone)} directions for {self.widths[0]} neurons of layer 0"
                + (", which a stem makes: its inputs have none" if self.stem is not None else "")
            )
        if self.groups and (self.stem is not None or len(self.groups) != self.widths[0] or min(self.groups) < 0):
            raise ContractError(
                f"groups of {len(self.groups)} inputs for {self.widths[0]} neurons of layer 0; needed: the place of its column "
                "for each of them, and none with a stem"
            )
        if self.terms and (
            self.stem is not None
            or d < 2
            or not set(self.terms) <= {1, 2}
            or any(w % len(self.terms) for w in self.widths[1:-1])
        ):
            raise ContractError(
                f"terms {self.terms[:8]} in widths {self.widths}; needed: of each term 1 or 2 columns, hidden layers that are "
                f"multiples of their number ({len(self.terms)}), and no stem"
            )
        for ways in self.alternatives:
            known = [way is None or (way in self.gates if isinstance(way, int) else way in self.edge_gates) for way in ways]
            if not any(way is not None for way in ways) or len(set(ways)) < len(ways) or not all(known):
                raise ContractError(f"alternatives {ways}; needed: a way at least, each once, with gates for each but None")
        for layer in self.passes:
            ends = [edge for edge in self.blocks if layer in edge]
            if [to == layer for to, _ in sorted(ends)] != [True, False] or len({self.widths[n] for e in ends for n in e}) != 1:
                raise ContractError(f"passes: layer {layer} has blocks {ends}; needed: one in and one out, of layers as wide")
        if odd := [edge for edge in self.constants if edge not in self.blocks]:
            raise ContractError(f"constants: there is no block {odd[0]}; blocks: {sorted(self.blocks)}")
        if self.stem is not None:
            self.stem.check(self.kernels, self.kernel_biases, {part: getattr(self, part) for part in NORMS}, k)
            if self.stem.features != self.widths[0]:
                raise ContractError(f"layer 0 has {self.widths[0]} neurons for a stem of {self.stem.features} features")
        elif self.kernels or self.kernel_biases or any(getattr(self, part) for part in NORMS):
            raise ContractError("kernels without a stem that says where they go")


def take(nets: Networks, index: Tensor) -> Networks:
    """The replicas at ``index`` (long, ``(k,)``), in that order."""
    return nets.map(lambda tensor: tensor.index_select(0, index))


def where(rows: Tensor, new: Networks, old: Networks) -> Networks:
    """Row by row: ``new`` where ``rows`` (bool, ``(K,)``) is true, else ``old``.

    Raises:
        ContractError: for records that do not have the same skeleton and parts.
    """
    _agree("where", new, old)

    def either(part: str, key: Any) -> Tensor:
        other: Tensor = getattr(old, part)[key]
        return torch.where(column(rows, other), getattr(new, part)[key], other)

    return _made(old, either)


def join(records: Sequence[Networks]) -> Networks:
    """The rows of all records, one record after the other; `take` gives them back.

    Raises:
        ContractError: for no record, or records that do not have the same skeleton and parts.
    """
    if not records:
        raise ContractError("join got no record; needed: one at least")
    _agree("join", *records)
    return _made(records[0], lambda part, key: torch.cat([getattr(nets, part)[key] for nets in records]))


def _made(nets: Networks, make: Callable[[str, Any], Tensor]) -> Networks:
    """The same record with other tensors: ``make`` gets a part's name and a key of it."""
    parts: dict[str, Any] = {part: {key: make(part, key) for key in getattr(nets, part)} for part in PARTS}
    return replace(nets, **parts)


def _agree(use: str, *records: Networks) -> None:
    """Refuse records that differ in more than numbers."""
    for name in (
        "widths",
        "candidates",
        "stem",
        "monotone",
        "groups",
        "terms",
        "alternatives",
        "passes",
        "constants",
        "functions",
        *PARTS,
    ):
        found = [getattr(nets, name) for nets in records]
        if name == "functions":
            found = [{one: nets.function(one) for one in nets.names} for nets in records]
        if name in PARTS:
            found = [sorted(part) for part in found]
        if odd := [one for one in found if one != found[0]]:
            raise ContractError(f"{use} got networks with {name} {found[0]} and {odd[0]}; needed: the same in all")
