"""`Networks`: the record of K feed-forward networks, and the operations on it.

Searching, discretizing, scoring and exporting all use this one record. A hard network is a soft one whose gates are
0 or 1 and whose choices are one-hot.

Layout: ``K`` replicas lead every tensor, samples are columns: activations are ``(K, H, B)``, weights ``(K, H_to, H_from)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.activations import FUNCTIONS, Function, function_of
from nasplug.errors import ConfigError, ContractError
from nasplug.groups import gathered
from nasplug.replicas import column
from nasplug.signs import held
from nasplug.stems import Stem

__all__ = [
    "PARTS",
    "Edge",
    "Networks",
    "alive",
    "check_hidden",
    "features",
    "forward",
    "harden",
    "join",
    "mixed",
    "product",
    "sizes",
    "sums",
    "take",
    "values",
    "where",
]

Edge = tuple[int, int]  # (to, from) with to > from: layer 0 is the input, layer D the output

PARTS = ("blocks", "biases", "gates", "edge_gates", "choices", "eigenvalues", "kernels", "kernel_biases")


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
        candidates: activation names; with one name no choices are needed.
        functions: name -> function, for the candidates and the stem.
        stem: convolutions between the input and layer 0 (`nasplug.stems.Stem`), or None.
        kernels: of the stem, one tensor per layer, ``(K, C_out, C_in, h, w)``.
        kernel_biases: ``(K, C_out)``.
        monotone: direction of each neuron of layer 0, in {-1, 0, +1}: weights whose sign it forbids count as 0
            (`nasplug.signs`). Empty: all weights are free.
        groups: of each input the place of the user's column that it was made of; the inputs of a column count as one in `sizes`
            and in penalties that count. Empty: each input is a column. None with a stem.
    """

    widths: tuple[int, ...]
    blocks: Mapping[Edge, Tensor]
    biases: Mapping[int, Tensor] = field(default_factory=dict)
    gates: Mapping[int, Tensor] = field(default_factory=dict)
    edge_gates: Mapping[Edge, Tensor] = field(default_factory=dict)
    choices: Mapping[int, Tensor] = field(default_factory=dict)
    eigenvalues: Mapping[int, Tensor] = field(default_factory=dict)
    candidates: tuple[str, ...] = ("relu",)
    functions: Mapping[str, Function] = field(default_factory=lambda: FUNCTIONS, repr=False)
    stem: Stem | None = None
    kernels: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_biases: Mapping[int, Tensor] = field(default_factory=dict)
    monotone: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()

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
        if self.stem is not None:
            self.stem.check(self.kernels, self.kernel_biases, k)
            if self.stem.features != self.widths[0]:
                raise ContractError(f"layer 0 has {self.widths[0]} neurons for a stem of {self.stem.features} features")
        elif self.kernels or self.kernel_biases:
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
    for name in ("widths", "candidates", "stem", "monotone", "groups", "functions", *PARTS):
        found = [getattr(nets, name) for nets in records]
        if name == "functions":
            found = [{one: nets.function(one) for one in nets.names} for nets in records]
        if name in PARTS:
            found = [sorted(part) for part in found]
        if odd := [one for one in found if one != found[0]]:
            raise ContractError(f"{use} got networks with {name} {found[0]} and {odd[0]}; needed: the same in all")


def product(weights: Tensor, a: Tensor) -> Tensor:
    """``weights (K, H_to, H_from) @ a``, with ``a`` shared ``(H_from, B)`` or a replica's own ``(K, H_from, B)``.

    A shared batch is ONE matrix product for all K networks; a single output is a multiply-and-sum, which is
    cheaper than K products of one row.
    """
    k, to, source = weights.shape
    if a.dim() == 2:
        return (weights.reshape(k * to, source) @ a).view(k, to, a.shape[-1])
    if to == 1:
        return (weights.transpose(1, 2) * a).sum(1, keepdim=True)
    return torch.bmm(weights, a)


def mixed(nets: Networks, layer: int, z: Tensor) -> Tensor:
    """``sum_c choice_c f_c(z)``: the values of a hidden layer for its sums ``z (K, H, B)``, before gates."""
    candidates, choice = nets.candidates, nets.choices.get(layer)  # (K, H or 1, A), or None for the only candidate
    if choice is None:
        return nets.function(candidates[0])(z)
    if candidates == ("relu", "identity"):
        # A leaky slope s in [0, 1]. Eager torch compares slowly: lerp is 14 times faster here than max(z, s z) or prelu.
        return torch.lerp(torch.relu(z), z, choice[..., 1:])
    total = choice[..., 0:1] * nets.function(candidates[0])(z)
    for c, name in enumerate(candidates[1:], start=1):
        total = total + choice[..., c : c + 1] * nets.function(name)(z)
    return total


def features(nets: Networks, x: Tensor) -> Tensor:
    """Layer 0: ``x`` itself, shared ``(I, B)`` or ``(K, I, B)``; with a stem its features, ``(K, F, B)``."""
    return x if nets.stem is None else nets.stem(nets.kernels, nets.kernel_biases, x, nets.functions)


def values(nets: Networks, x: Tensor, last: int | None = None) -> list[Tensor]:
    """The values of layers 0 to ``last`` (None: the output), each ``(K, H, B)``; layer 0 is `features`.

    ``x (I, B)`` shared or ``(K, I, B)``. Dense and skip blocks are summed.
    """
    incoming: list[list[int]] = [[] for _ in nets.widths]
    for to, source in nets.blocks:
        incoming[to].append(source)
    found: list[Tensor] = [features(nets, x)]
    for layer in range(1, (nets.depth if last is None else last) + 1):
        z = _sum(nets, layer, incoming[layer], found)
        if layer < nets.depth:
            z = mixed(nets, layer, z)
            if layer in nets.gates:
                z = z * nets.gates[layer].unsqueeze(-1)
        found.append(z)
    return found


def sums(nets: Networks, x: Tensor, layer: int) -> Tensor:
    """The sums of a layer, before its activation: ``(K, H, B)``; for the last layer the outputs."""
    sources = [source for to, source in nets.blocks if to == layer]
    return _sum(nets, layer, sources, values(nets, x, layer - 1))


def _sum(nets: Networks, layer: int, sources: Sequence[int], found: Sequence[Tensor]) -> Tensor:
    """The bias and what comes from ``sources``, of which ``found`` has the values."""
    z: Tensor | None = None
    for source in sources:
        term = product(nets.block((layer, source)), found[source])
        z = term if z is None else z + term
    if z is None:
        z = found[0].new_zeros(nets.replicas, nets.widths[layer], found[0].shape[-1])
    return z + nets.biases[layer].unsqueeze(-1) if layer in nets.biases else z


def forward(nets: Networks, x: Tensor) -> Tensor:
    """The canonical forward: ``x (I, B)`` shared or ``(K, I, B)`` -> ``(K, O, B)``."""
    return values(nets, x)[-1]


def alive(nets: Networks) -> Networks:
    """The same functions without what is on no path from input to output; gates and edge gates become 0 or 1.

    Soft edge gates are folded into the weights, soft neuron gates into the outgoing weights (exact). A neuron that no input
    reaches is a constant: its value is folded into the biases downstream (exact, also where ``f(0) != 0``). A neuron
    that reaches no output is dropped, and so is a channel of the stem. Idempotent, row by row.
    """
    d = nets.depth
    weights: dict[Edge, Tensor] = {}
    for to, source in nets.blocks:
        w = nets.block((to, source))  # (K, H_to, H_from)
        if source in nets.gates:
            w = w * nets.gates[source].unsqueeze(1)
        weights[to, source] = w
    first = next(iter(weights.values()))
    biases = {
        layer: nets.biases[layer].clone() if layer in nets.biases else first.new_zeros(nets.replicas, nets.widths[layer])
        for layer in range(1, d + 1)
    }
    reached = {0: torch.ones(nets.replicas, nets.widths[0], dtype=torch.bool, device=first.device)}  # (K, H)
    for layer in range(1, d):
        hit = torch.zeros_like(biases[layer], dtype=torch.bool)
        for (to, source), w in weights.items():
            if to == layer:
                hit |= ((w != 0) & reached[source].unsqueeze(1)).any(-1)
        reached[layer] = hit
        constant = mixed(nets, layer, biases[layer].unsqueeze(-1)).squeeze(-1)
        constant = torch.where(hit, torch.zeros_like(constant), constant)  # (K, H)
        for (to, source), w in weights.items():
            if source == layer:
                share = torch.where(hit.unsqueeze(1), torch.zeros_like(w), w)
                biases[to] = biases[to] + (share @ constant.unsqueeze(-1)).squeeze(-1)
    useful = {d: torch.ones_like(biases[d], dtype=torch.bool)}
    for layer in range(d - 1, -1, -1):
        hit = torch.zeros_like(reached[layer])
        for (to, source), w in weights.items():
            if source == layer:
                hit |= ((w != 0) & useful[to].unsqueeze(-1)).any(1)
        useful[layer] = hit & reached[layer]
    edge_gates = {
        (to, source): ((w != 0) & useful[to].unsqueeze(-1) & useful[source].unsqueeze(1)).to(w.dtype)
        for (to, source), w in weights.items()
    }
    gates = {layer: useful[layer].to(first.dtype) for layer in range(1, d)}
    # Which layers have biases is read from the skeleton and not from the numbers: a row must not get one from its pack.
    offset = any(bool(nets.function(name)(first.new_zeros(())) != 0) for name in nets.candidates)  # f(0) != 0
    biased = set(nets.biases)
    for to, source in sorted(weights):
        if source > 0 and (offset or source in biased):
            biased.add(to)
    kept_biases = {layer: biases[layer] * gates[layer] if layer < d else biases[layer] for layer in sorted(biased)}
    found = replace(
        nets,
        blocks={edge: torch.where(edge_gates[edge] > 0, w, torch.zeros_like(w)) for edge, w in weights.items()},
        biases=kept_biases,
        gates=gates,
        edge_gates=edge_gates,
    )
    return _with_used_channels(found, useful[0])


def _with_used_channels(nets: Networks, read: Tensor) -> Networks:
    """Zeros in the channels of the stem that reach no feature that is ``read``, bool ``(K, F)``."""
    if nets.stem is None:
        return nets
    used = nets.stem.used(nets.kernels, read)

    def cut(tensors: Mapping[int, Tensor]) -> dict[int, Tensor]:
        masks = {n: used[n].reshape(*used[n].shape, *[1] * (t.dim() - 2)) for n, t in tensors.items()}
        return {n: torch.where(masks[n], t, torch.zeros_like(t)) for n, t in tensors.items()}

    return replace(nets, kernels=cut(nets.kernels), kernel_biases=cut(nets.kernel_biases))


def harden(nets: Networks) -> Networks:
    """Round what is still soft: gates at 1/2, choices to their largest entry (on a tie the first)."""
    return replace(
        nets,
        gates={layer: (g >= 0.5).to(g.dtype) for layer, g in nets.gates.items()},
        edge_gates={edge: (g >= 0.5).to(g.dtype) for edge, g in nets.edge_gates.items()},
        choices={layer: F.one_hot(c.argmax(-1), c.shape[-1]).to(c.dtype) for layer, c in nets.choices.items()},
    )


def sizes(nets: Networks) -> dict[str, Tensor]:
    """What is on paths from input to output, long ``(K,)``: ``edges``, ``neurons``, ``layers``, ``inputs``, ``parameters``.

    ``inputs`` are columns of the user's table, and what goes from one of them to a neuron is one edge, also where the column
    became several numbers: words or ramps (`Networks.groups`). ``neurons`` and ``layers`` are hidden ones, with a neuron.
    ``parameters`` counts numbers: weights, the non-zero biases of kept neurons and of outputs, and the non-zero kernels and
    biases of a stem's used channels. With a stem ``inputs`` is the whole image, unless no feature is used.
    """
    hard = alive(nets)
    none = torch.zeros(nets.replicas, dtype=torch.long, device=next(iter(nets.blocks.values())).device)
    edges, neurons, layers, biases = none.clone(), none.clone(), none.clone(), none.clone()
    weights, columns = none.clone(), 1 + max(nets.groups) if nets.groups else nets.widths[0]
    inputs = torch.zeros(nets.replicas, columns, dtype=torch.bool, device=none.device)
    for (_, source), gate in hard.edge_gates.items():
        weights += gate.sum((1, 2)).long()
        if source == 0:
            gate = gathered(gate, nets.groups) if nets.groups else gate
            inputs |= (gate > 0).any(1)
        edges += (gate > 0).sum((1, 2))
    for gate in hard.gates.values():
        neurons += gate.sum(1).long()
        layers += (gate > 0).any(1)
    for bias in hard.biases.values():
        biases += (bias != 0).sum(1)
    reads = inputs.sum(1) if nets.stem is None else nets.inputs * inputs.any(1).long()
    parameters = weights + biases
    for tensor in (*hard.kernels.values(), *hard.kernel_biases.values()):
        parameters = parameters + (tensor != 0).flatten(1).sum(1)
    return {"edges": edges, "neurons": neurons, "layers": layers, "inputs": reads, "parameters": parameters}
