"""A compact network as a few float64 matrices, and its expectations when some columns are one row's and the others are others'.

A neuron without nonlinear activation is a sum, so it is taken apart into what it sums. What is left are the nonlinear neurons,
and outputs that are sums: of inputs, and of these neurons. Every explanation begins here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasplug.activations import FUNCTIONS, Function
from nasplug.compact import CompactNetwork
from nasplug.errors import ConfigError
from nasplug.records import output_names

__all__ = ["MOST_NUMBERS", "Unfolded", "columns_of", "explainable", "layer_0", "scale_words", "unfold"]

ACTIVATION = 32  # products of a matrix take as long: measured, one thread
MOST_NUMBERS = 2**18  # that a step of an expectation holds at once: 2 MB stay in a cache


@dataclass(frozen=True, slots=True)
class Unfolded:
    """A network of M nonlinear neurons, in an order in which each reads only earlier ones.

    ``a_m = f_m(bias_m + sum_i first_mi h_i + sum_(m' < m) later_mm' a_m')`` and
    ``z_o = shift_o + sum_i straight_oi h_i + sum_m out_om a_m``, where ``h (I')`` is layer 0: what the network reads, scaled.

    Attributes:
        columns: names of the user's columns that are read, C of them.
        places: of each column its places in layer 0.
        first, later, bias: ``(M, I')``, ``(M, M)`` lower triangular, ``(M,)``.
        straight, out, shift: ``(O, I')``, ``(O, M)``, ``(O,)``; of a regression in units of the target, of rates the logarithm
            of what is served.
        stages: neurons that read none of each other, as (first, end, activation, its name), in order.
    """

    columns: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    first: Tensor
    later: Tensor
    bias: Tensor
    straight: Tensor
    out: Tensor
    shift: Tensor
    stages: tuple[tuple[int, int, Function, str], ...]

    @property
    def supports(self) -> list[frozenset[int]]:
        """Of each neuron the columns that reach it: only these can change it."""
        reach = torch.zeros(len(self.bias), len(self.places), dtype=torch.bool)  # (M, C)
        for c, at in enumerate(self.places):
            reach[:, c] = (self.first[:, list(at)] != 0).any(1)
        for m in range(1, len(self.bias)):
            reach[m] |= reach[:m][self.later[m, :m] != 0].any(0)
        return [frozenset(torch.nonzero(row).flatten().tolist()) for row in reach]

    def needed(self, neurons: Sequence[int]) -> list[int]:
        """These neurons and all that they read, in order."""
        found = set(neurons)
        for m in sorted(range(len(self.bias)), reverse=True):
            if m in found:
                found |= set(torch.nonzero(self.later[m]).flatten().tolist())
        return sorted(found)

    def work(self, neurons: Sequence[int]) -> int:
        """Products that one value of each of these neurons takes, an activation counted as `ACTIVATION` of them."""
        every, done, found = self.needed(neurons), 0, 0
        for begin, end, _, _ in self.stages:
            mine = sum(begin <= m < end for m in every)
            found += mine * (done + ACTIVATION)
            done += mine
        return found

    def reads(self, h: Tensor, columns: Sequence[int], neurons: Sequence[int]) -> Tensor:
        """What each column adds to what each neuron reads: ``h (N, I')`` -> ``(N, columns, neurons)``."""
        at = [place for c in columns for place in self.places[c]]
        column = torch.tensor([i for i, c in enumerate(columns) for _ in self.places[c]], dtype=torch.long)
        weights = self.first[list(neurons)][:, at].T  # (P, m)
        found = h.new_zeros(len(h), len(columns), len(neurons))
        step = max(1, MOST_NUMBERS // max(1, weights.numel()))
        for start in range(0, len(h), step):
            rows = slice(start, start + step)
            found[rows].index_add_(1, column, h[rows, at].unsqueeze(2) * weights)
        return found

    def fire(self, read: Tensor, neurons: Sequence[int]) -> Tensor:
        """Values of neurons from what they read of layer 0, with bias: ``(..., m)`` of ``neurons`` as `needed` gives them."""
        place = {m: at for at, m in enumerate(neurons)}
        values: list[Tensor] = []
        done: list[int] = []
        for begin, end, function, _ in self.stages:
            mine = [m for m in neurons if begin <= m < end]
            if not mine:
                continue
            z = read if len(mine) == len(neurons) else read[..., [place[m] for m in mine]]
            weights = self.later[mine][:, done] if done else None
            if weights is not None and bool(weights.any()):
                z = z + torch.cat(values, -1) @ weights.T
            values.append(function(z))
            done += mine
        if len(values) == 1:
            return values[0]
        return torch.cat(values, -1) if values else read

    def moved(self, rows: Tensor, others: Tensor, weights: Tensor, columns: Sequence[int], neurons: Sequence[int]) -> Tensor:
        """Mean values of neurons when these columns are the row's and all others come from other rows: ``(R, neurons)``.

        As `means` with one mask, for any neurons, and at the cost of these columns alone.
        """
        every = self.needed(neurons)
        picked = [every.index(m) for m in neurons]
        at = [place for c in columns for place in self.places[c]]
        first = self.first[every]
        rest = others @ first.T + self.bias[every] - others[:, at] @ first[:, at].T  # (B, m)
        mine = rows[:, at] @ first[:, at].T  # (R, m)
        found = rows.new_zeros(len(rows), len(neurons))
        step = max(1, MOST_NUMBERS // max(1, rest.numel()))
        for start in range(0, len(rows), step):
            values = self.fire(mine[start : start + step].unsqueeze(1) + rest, every)[..., picked]
            found[start : start + step] = torch.einsum("b,rbm->rm", weights, values)
        return found

    def means(
        self, rows: Tensor, others: Tensor, weights: Tensor, masks: Tensor, columns: Sequence[int], neurons: Sequence[int]
    ) -> Tensor:
        """Mean values of neurons when the columns of a mask are the row's and the others come from other rows.

        ``v_rsm = sum_b w_b a_m(row r in the columns of mask s, other b in the rest)``.

        Args:
            rows: layer 0 of the rows, ``(R, I')``.
            others: layer 0 of the rows that the rest comes from, ``(B, I')``.
            weights: of these, ``(B,)``, summing to 1.
            masks: bool ``(S, columns)``.
            columns: which columns; the neurons must depend on no other ones.
            neurons: which neurons.

        Returns:
            ``(R, S, neurons)``.
        """
        found = rows.new_zeros(len(rows), len(masks), len(neurons))
        for mine, some, values in self.pieces(rows, others, weights, masks, columns, neurons):
            found[mine, some] = values
        return found

    def pieces(
        self, rows: Tensor, others: Tensor, weights: Tensor, masks: Tensor, columns: Sequence[int], neurons: Sequence[int]
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """The same piece by piece, in bounded memory: which rows, which masks, and their ``(R', S', neurons)``."""
        every = self.needed(neurons)
        picked = [every.index(m) for m in neurons]
        taken = masks.to(rows.dtype)
        theirs = self.reads(others, columns, every)
        size = max(1, len(every))
        step = max(1, MOST_NUMBERS // (size * len(others)))
        for start in range(0, len(masks), step):
            part = taken[start : start + step]
            rest = torch.einsum("sc,bcm->bsm", 1.0 - part, theirs) + self.bias[every]  # (B, S', m)
            some = max(1, MOST_NUMBERS // (size * len(others) * len(part)))
            for at in range(0, len(rows), some):
                mine = torch.einsum("sc,rcm->rsm", part, self.reads(rows[at : at + some], columns, every))
                values = self.fire(mine.unsqueeze(1) + rest, every)
                values = values if picked == list(range(size)) else values[..., picked]  # (R', B, S', picked)
                where = slice(at, at + some), slice(start, start + step)
                yield *where, torch.einsum("b,rbsm->rsm", weights, values)

    def outputs(self, h: Tensor) -> Tensor:
        """``z (N, O)`` of layer 0 ``(N, I')``."""
        every = list(range(len(self.bias)))
        values = self.fire(h @ self.first.T + self.bias, every) if every else h.new_zeros(len(h), 0)
        return h @ self.straight.T + values @ self.out.T + self.shift


def explainable(network: nn.Module) -> CompactNetwork:
    """The network, where it can be explained by columns.

    Raises:
        ConfigError: for the mean of several networks, or one that reads images through a stem.
    """
    if not isinstance(network, CompactNetwork):
        raise ConfigError(
            f"explanations are of one network, and this is {type(network).__name__}; take study.network(), or explain its "
            "members one by one"
        )
    if network.stem is not None:
        raise ConfigError(
            "explanations are by columns of a table, and this network reads the pixels of images through a stem; "
            "explain one without a stem"
        )
    return network


def columns_of(network: CompactNetwork) -> list[tuple[str, list[int]]]:
    """The user's columns that the network reads, by their own names, and their places in layer 0."""
    record = network.record
    if "groups" not in record:
        return [(name, [place]) for place, name in enumerate(network.first_names)]
    found: dict[int, list[int]] = {}
    for place, feature in enumerate(record["kept_inputs"]):
        found.setdefault(record["groups"][feature], []).append(place)
    return [(str(record["columns"][column]), at) for column, at in sorted(found.items())]


def scale_words(network: CompactNetwork) -> str:
    """On which scale explanations are: that on which the network's last layer sums."""
    record = network.record
    link = record["link"]
    if link == "sigmoid":
        return f"log-odds of {record['targets'][1]}"
    if link == "softmax":
        return "logits (their differences are log-odds)"
    if link == "exp":
        return "logarithm of the prediction"
    if network.transform is not None:
        return "logarithm of the target" if network.transform.use == "log" else "normal score of the target"
    return "the target's units" if output_names(record) == [str(t) for t in record["targets"]] else "score"


@torch.no_grad()
def unfold(network: CompactNetwork) -> Unfolded:
    """Take a network apart.

    Raises:
        ConfigError: as `explainable`.
    """
    network = explainable(network)
    record, widths = network.record, network.widths
    layers = [[name for name, count in layer for _ in range(count)] for layer in network.activations]
    identity = {n for n, f in network.functions.items() if n in FUNCTIONS and f is FUNCTIONS[n] and n == "identity"}
    total = sum(name not in identity for layer in layers for name in layer)
    reads = widths[0]
    # Of each layer: its values as sums of layer 0, of nonlinear neurons, and a constant.
    zeros = torch.zeros(reads, total, dtype=torch.float64)
    known = [(torch.eye(reads, dtype=torch.float64), zeros, torch.zeros(reads, dtype=torch.float64))]
    first, later, bias = torch.zeros(total, reads).double(), torch.zeros(total, total).double(), torch.zeros(total).double()
    stages: list[tuple[int, int, Function, str]] = []
    at = 0
    for layer in range(1, len(widths)):
        z0 = torch.zeros(widths[layer], reads, dtype=torch.float64)
        za = torch.zeros(widths[layer], total, dtype=torch.float64)
        zb = network.get_parameter(f"bias_{layer}").double().clone()
        for to, source in network.edges:
            if to == layer:
                w = network.weight(to, source).double()
                z0, za, zb = z0 + w @ known[source][0], za + w @ known[source][1], zb + w @ known[source][2]
        if layer < len(widths) - 1:
            for name in dict.fromkeys(layers[layer - 1]):
                mine = [n for n, other in enumerate(layers[layer - 1]) if other == name]
                if name in identity:
                    continue
                end = at + len(mine)
                first[at:end], later[at:end], bias[at:end] = z0[mine], za[mine], zb[mine]
                z0[mine], za[mine], zb[mine] = 0.0, 0.0, 0.0
                za[mine, torch.arange(at, end)] = 1.0
                stages.append((at, end, network.functions[name], name))
                at = end
        known.append((z0, za, zb))
    straight, out, shift = known[-1]
    if record["link"] == "identity":
        scale = network.get_buffer("output_scale").double()
        straight, out = straight * scale.unsqueeze(1), out * scale.unsqueeze(1)
        shift = shift * scale + network.get_buffer("output_shift").double()
    elif record["link"] == "exp":  # what is served is scale e^z: its logarithm is z + log(scale)
        shift = shift + network.get_buffer("output_scale").double().log()
    columns = columns_of(network)
    return Unfolded(
        tuple(name for name, _ in columns),
        tuple(tuple(places) for _, places in columns),
        first,
        later,
        bias,
        straight,
        out,
        shift,
        tuple(stages),
    )


@torch.no_grad()
def layer_0(network: CompactNetwork, features: Tensor) -> Tensor:
    """``x (N, I)``, raw features -> layer 0 ``(N, I')``: scaled, with the digits that the network's own weights see."""
    kept, shift, scale = (network.get_buffer(name) for name in ("kept", "input_shift", "input_scale"))
    scaled = (features.double().index_select(1, kept) - shift) / scale
    return scaled.to(network.get_parameter("bias_1").dtype).double()
