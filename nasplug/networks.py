"""`Networks`: the record of K feed-forward networks, and what can be done with it without knowing where it came from.

Searching, discretizing, scoring and exporting all use this one record. A hard network is a soft one whose gates are
0 or 1 and whose choices are one-hot.

Layout: ``K`` replicas lead every tensor, samples are columns: activations are ``(K, H, B)``, weights ``(K, H_to, H_from)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError, ContractError, did_you_mean
from nasplug.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from nasplug.stems import Stem

__all__ = [
    "ACTIVATIONS",
    "PARTS",
    "Edge",
    "Networks",
    "activation",
    "alive",
    "features",
    "forward",
    "harden",
    "mixed",
    "product",
    "sizes",
    "take",
    "where",
]

Key = TypeVar("Key")
Edge = tuple[int, int]  # (to, from) with to > from: layer 0 is the input, layer D the output

PARTS = ("blocks", "biases", "gates", "edge_gates", "choices", "eigenvalues", "kernels", "kernel_biases")


def _identity(z: Tensor) -> Tensor:
    return z


def _leaky_relu(z: Tensor) -> Tensor:
    return F.leaky_relu(z, 0.01)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
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
}
"""By name; loading plugins adds theirs (`nasplug.hookspecs.register_activations`)."""

OURS = tuple(ACTIVATIONS)


@hookimpl
def register_activations(register: Register) -> None:
    """Our own, registered like a stranger's."""
    for name in OURS:
        register(name, _made(name, ACTIVATIONS[name]))


def _made(name: str, function: Callable[[Tensor], Tensor]) -> Callable[[], Callable[[Tensor], Tensor]]:
    def make() -> Callable[[Tensor], Tensor]:
        return function

    make.__doc__ = f"The elementwise function {name}."
    return make


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The elementwise function of that name.

    Raises:
        ConfigError: for a name that is not in `ACTIVATIONS`.
    """
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise ConfigError(
            f"activation {name!r} is not known; known: {', '.join(sorted(ACTIVATIONS))}.{did_you_mean(name, ACTIVATIONS)}"
        ) from None


@dataclass(frozen=True, slots=True)
class Networks:
    """K feed-forward networks with one skeleton, at one moment of the search.

    ``a_l = g_l * sum_c choice_lc f_c( sum_{m<l} (blocks * edge_gates)_{l,m} a_m + biases_l )``; the output layer has
    neither activation nor gate. Layer 0 is the input, or what a stem makes of it.

    Attributes:
        widths: neurons of each layer, layer 0 first, output last.
        blocks: dense blocks and skip blocks alike, ``(K, H_to, H_from)``.
        biases: ``(K, H)``, layers 1..D.
        gates: ``(K, H)`` in [0, 1], hidden neurons; 1 = kept.
        edge_gates: ``(K, H_to, H_from)`` in [0, 1]; 1 = kept.
        choices: ``(K, H or 1, A)`` on the simplex over ``candidates``.
        eigenvalues: ``(K, H)``, spectral methods only; they inform, the canonical forward does not read them.
        candidates: activation names; with one name no choices are needed.
        stem: convolutions between the input and layer 0 (`nasplug.stems.Stem`), or None.
        kernels: of each layer of the stem, ``(K, C_out, C_in, h, w)``.
        kernel_biases: ``(K, C_out)``.
    """

    widths: tuple[int, ...]
    blocks: Mapping[Edge, Tensor]
    biases: Mapping[int, Tensor] = field(default_factory=dict)
    gates: Mapping[int, Tensor] = field(default_factory=dict)
    edge_gates: Mapping[Edge, Tensor] = field(default_factory=dict)
    choices: Mapping[int, Tensor] = field(default_factory=dict)
    eigenvalues: Mapping[int, Tensor] = field(default_factory=dict)
    candidates: tuple[str, ...] = ("relu",)
    stem: Stem | None = None
    kernels: Mapping[int, Tensor] = field(default_factory=dict)
    kernel_biases: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """I: what a sample of ``x`` has."""
        return self.widths[0] if self.stem is None else self.stem.inputs

    @property
    def activations(self) -> int:
        """Numbers that a sample's way through one network takes: to plan memory and time by."""
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
        """Every activation there is: the candidates, and those of the stem."""
        return list(dict.fromkeys((*self.candidates, *(layer.activation for layer in (self.stem.layers if self.stem else ())))))

    def block(self, edge: Edge) -> Tensor:
        """Effective weights of one block: weights times edge gates, ``(K, H_to, H_from)``."""
        gate = self.edge_gates.get(edge)
        return self.blocks[edge] if gate is None else self.blocks[edge] * gate

    def map(self, function: Callable[[Tensor], Tensor]) -> Networks:
        """The same record with ``function`` applied to every tensor."""

        def each(tensors: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
            return {key: function(value) for key, value in tensors.items()}

        return replace(
            self,
            blocks=each(self.blocks),
            biases=each(self.biases),
            gates=each(self.gates),
            edge_gates=each(self.edge_gates),
            choices=each(self.choices),
            eigenvalues=each(self.eigenvalues),
            kernels=each(self.kernels),
            kernel_biases=each(self.kernel_biases),
        )

    def check(self) -> None:
        """Refuse a record that does not fit itself: for the kits, the loader and the planner, not for the hot loop.

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
        for name in self.candidates:
            activation(name)
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
    """Row by row: ``new`` where ``rows`` (bool, ``(K,)``) is true, else ``old``; what ``new`` does not have is ``old``'s."""

    def each(mine: Mapping[Key, Tensor], others: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        return {
            key: torch.where(rows.view(-1, *[1] * (t.dim() - 1)), mine[key], t) if key in mine else t
            for key, t in others.items()
        }

    return replace(
        old,
        blocks=each(new.blocks, old.blocks),
        biases=each(new.biases, old.biases),
        gates=each(new.gates, old.gates),
        edge_gates=each(new.edge_gates, old.edge_gates),
        choices=each(new.choices, old.choices),
        eigenvalues=each(new.eigenvalues, old.eigenvalues),
        kernels=each(new.kernels, old.kernels),
        kernel_biases=each(new.kernel_biases, old.kernel_biases),
    )


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


def mixed(z: Tensor, candidates: tuple[str, ...], choice: Tensor | None) -> Tensor:
    """``sum_c choice_c f_c(z)``: ``z (K, H, B)``, ``choice (K, H or 1, A)`` or None for the only candidate."""
    if choice is None:
        return activation(candidates[0])(z)
    if candidates == ("relu", "identity"):
        # A leaky slope s in [0, 1]. Eager torch compares slowly: lerp is 14 times faster here than max(z, s z) or prelu.
        return torch.lerp(torch.relu(z), z, choice[..., 1:])
    total = choice[..., 0:1] * activation(candidates[0])(z)
    for c, name in enumerate(candidates[1:], start=1):
        total = total + choice[..., c : c + 1] * activation(name)(z)
    return total


def features(nets: Networks, x: Tensor) -> Tensor:
    """Layer 0: ``x (I, B)`` shared or ``(K, I, B)`` as it is, or ``(K, F, B)``, what the stem makes of it."""
    return x if nets.stem is None else nets.stem(nets.kernels, nets.kernel_biases, x)


def forward(nets: Networks, x: Tensor) -> Tensor:
    """The canonical forward: ``x (I, B)`` shared or ``(K, I, B)`` -> ``(K, O, B)``. Dense and skip blocks are summed."""
    incoming: list[list[int]] = [[] for _ in nets.widths]
    for to, source in nets.blocks:
        incoming[to].append(source)
    values: list[Tensor] = [features(nets, x)]  # (I, B) or (K, H_0, B), then (K, H, B)
    for layer in range(1, nets.depth + 1):
        z: Tensor | None = None
        for source in incoming[layer]:
            term = product(nets.block((layer, source)), values[source])
            z = term if z is None else z + term
        if z is None:
            z = x.new_zeros(nets.replicas, nets.widths[layer], x.shape[-1])
        if layer in nets.biases:
            z = z + nets.biases[layer].unsqueeze(-1)
        if layer < nets.depth:
            z = mixed(z, nets.candidates, nets.choices.get(layer))
            if layer in nets.gates:
                z = z * nets.gates[layer].unsqueeze(-1)
        values.append(z)
    return values[-1]


def alive(nets: Networks) -> Networks:
    """The same functions with everything off the input-output paths removed: gates and edge gates become 0 or 1.

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
        constant = mixed(biases[layer].unsqueeze(-1), nets.candidates, nets.choices.get(layer)).squeeze(-1)
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
    offset = any(bool(activation(name)(first.new_zeros(())) != 0) for name in nets.candidates)  # f(0) != 0
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
    """Round what discretizers left soft: gates at 1/2, choices to their largest entry (the first one on a tie)."""
    return replace(
        nets,
        gates={layer: (g >= 0.5).to(g.dtype) for layer, g in nets.gates.items()},
        edge_gates={edge: (g >= 0.5).to(g.dtype) for edge, g in nets.edge_gates.items()},
        choices={layer: F.one_hot(c.argmax(-1), c.shape[-1]).to(c.dtype) for layer, c in nets.choices.items()},
    )


def sizes(nets: Networks) -> dict[str, Tensor]:
    """What is left on input-output paths, each long ``(K,)``: ``edges``, ``neurons``, ``layers``, ``inputs``, ``parameters``.

    ``neurons`` are hidden ones, ``layers`` hidden layers with a neuron. ``parameters`` counts edges plus the non-zero biases
    of kept neurons and of outputs, plus the non-zero kernels and biases of a stem's used channels. With a stem ``inputs`` is
    the whole image, unless no feature is used.
    """
    hard = alive(nets)
    none = torch.zeros(nets.replicas, dtype=torch.long, device=next(iter(nets.blocks.values())).device)
    edges, neurons, layers, biases = none.clone(), none.clone(), none.clone(), none.clone()
    inputs = torch.zeros(nets.replicas, nets.widths[0], dtype=torch.bool, device=none.device)
    for (_, source), gate in hard.edge_gates.items():
        edges += gate.sum((1, 2)).long()
        if source == 0:
            inputs |= (gate > 0).any(1)
    for gate in hard.gates.values():
        neurons += gate.sum(1).long()
        layers += (gate > 0).any(1)
    for bias in hard.biases.values():
        biases += (bias != 0).sum(1)
    reads = inputs.sum(1) if nets.stem is None else nets.inputs * inputs.any(1).long()
    parameters = edges + biases
    for tensor in (*hard.kernels.values(), *hard.kernel_biases.values()):
        parameters = parameters + (tensor != 0).flatten(1).sum(1)
    return {"edges": edges, "neurons": neurons, "layers": layers, "inputs": reads, "parameters": parameters}
