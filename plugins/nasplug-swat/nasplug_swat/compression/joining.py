"""Pieces of networks joined again: what compression by splitting works on (SWAT-NN, F.5)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nasplug.networks import Edge, Networks

__all__ = ["Activations", "activations_at", "joined"]


Activations = tuple[tuple[str, ...], Tensor | None]
"""Of one layer: the candidates, and the choice among them, ``(K, H or 1, A)``, or None for the only one."""


def activations_at(nets: Networks, layer: int) -> Activations:
    """What a hidden layer applies to its sums."""
    return nets.candidates, nets.choices.get(layer)


def joined(pieces: Sequence[Networks], between: Sequence[Activations]) -> Networks:
    """Pieces one after the other, each one's outputs being the sums of a layer that stays: what `cut_out` took apart.

    Args:
        pieces: P networks, K rows each; the outputs of one are as many as the inputs of the next.
        between: of the P - 1 layers that stay, see `activations_at`.
    """
    offered = [*(candidates for candidates, _ in between), *(nets.candidates for nets in pieces)]
    names = tuple(dict.fromkeys(name for candidates in offered for name in candidates))
    like = next(iter(pieces[0].blocks.values()))

    def choice(activations: Activations, width: int) -> Tensor:
        candidates, chosen = activations
        whole = like.new_zeros(len(like), width, len(names))
        place = [names.index(name) for name in candidates]
        whole[..., place] = like.new_ones(1) if chosen is None else chosen.to(whole)
        return whole

    widths: list[int] = [pieces[0].widths[0]]
    blocks: dict[Edge, Tensor] = {}
    biases: dict[int, Tensor] = {}
    gates: dict[int, Tensor] = {}
    choices: dict[int, Tensor] = {}
    for number, nets in enumerate(pieces):
        at = len(widths) - 1  # the layer that this piece reads
        blocks |= {(to + at, source + at): nets.block((to, source)) for to, source in nets.blocks}
        biases |= {layer + at: b for layer, b in nets.biases.items()}
        gates |= {layer + at: g for layer, g in nets.gates.items()}
        choices |= {layer + at: choice(activations_at(nets, layer), nets.widths[layer]) for layer in range(1, nets.depth)}
        widths += nets.widths[1:]
        if number < len(between):
            choices[len(widths) - 1] = choice(between[number], widths[-1])
    functions = {name: function for nets in pieces for name, function in nets.functions.items()}
    return Networks(tuple(widths), blocks, biases, gates, choices=choices, candidates=names, functions=functions)
