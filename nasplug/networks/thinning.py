"""What is left of one network: its neurons in a module's order, the small blocks between them, what is passed on, its stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nasplug.errors import ContractError
from nasplug.networks.record import Networks

__all__ = ["kept", "passed", "small", "thin_stem"]


def thin_stem(one: Networks, features: Tensor) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
    """The stem without its unused channels: its record, its weights, and where the used ``features (F,)`` are now."""
    assert one.stem is not None  # for the type checker
    used = one.stem.used(one.kernels, features.unsqueeze(0))
    keep = {0: torch.arange(one.stem.image[0])}
    for number, mask in used.items():
        mask = mask[0].clone()
        mask[0] |= not bool(mask.any())  # a layer of which the next reads nothing still has to be one
        keep[number] = mask.nonzero().squeeze(1)
    layers = range(1, len(used) + 1)
    thin = one.stem.thinned([len(keep[number]) for number in layers])
    state, small = {}, []
    for number in layers:
        layer, kernel = thin.layers[number - 1].cut(one.kernels[number])
        small.append(layer)
        bias = one.kernel_biases[number]
        state[f"kernel_{number}"] = kernel[:, keep[number]][:, :, keep[number - 1]].contiguous()
        state[f"kernel_bias_{number}"] = bias[:, keep[number]].contiguous()
    places = features.reshape(one.stem.shapes[-1])[keep[len(used)]].flatten().nonzero().squeeze(1)
    thin = thin.model_copy(update={"layers": tuple(small)})
    told = thin.model_dump(exclude={"layers": {"__all__": {"norm", "sizes"}}})  # settled; a network's digest never had them
    return told | {"names": thin.names}, state, places


def kept(one: Networks) -> tuple[dict[int, Tensor], dict[int, list[tuple[str, int]]]]:
    """Of each layer the neurons that are left, in the module's order, and of each hidden one their activations with counts."""
    reads = torch.zeros(one.widths[0], dtype=torch.bool)
    for (_, source), gate in one.edge_gates.items():
        if source == 0:
            reads |= (gate[0] > 0).any(0)
    keep = {0: reads.nonzero().squeeze(1), one.depth: torch.arange(one.widths[-1])}
    groups: dict[int, list[tuple[str, int]]] = {}
    for layer in range(1, one.depth):
        index = (one.gates[layer][0] > 0).nonzero().squeeze(1)
        if layer in one.choices:
            chosen = one.choices[layer][0].argmax(-1).expand(one.widths[layer])[index]
            order = torch.argsort(chosen, stable=True)
            index, chosen = index[order], chosen[order]
        else:
            chosen = torch.zeros(len(index), dtype=torch.long)
        keep[layer] = index
        groups[layer] = [(one.candidates[c], int((chosen == c).sum())) for c in sorted(set(chosen.tolist()))]
    return keep, groups


def small(one: Networks, keep: Mapping[int, Tensor], layers: Sequence[int]) -> tuple[list[tuple[int, int]], dict[str, Tensor]]:
    """The blocks between kept neurons that are not all 0, as edges of the module; their weights, and the biases."""
    place = {layer: position for position, layer in enumerate(layers)}
    blocks: list[tuple[int, int]] = []
    state: dict[str, Tensor] = {}
    for (to, source), w in one.blocks.items():
        if to in place and source in place and len(keep[source]):
            part = w[0][keep[to]][:, keep[source]]
            if bool((part != 0).any()):
                blocks.append((place[to], place[source]))
                state[f"weight_{place[to]}_{place[source]}"] = part.contiguous()
    for layer in layers[1:]:
        bias = one.biases[layer][0] if layer in one.biases else torch.zeros(one.widths[layer])
        state[f"bias_{place[layer]}"] = bias[keep[layer]].contiguous()
    return blocks, state


def passed(one: Networks, keep: Mapping[int, Tensor], layers: Sequence[int]) -> list[tuple[int, int, list[int]]]:
    """What is passed on from layer to layer: to, from, and of each neuron of the former the place of the one it gets, or -1."""
    place = {layer: position for position, layer in enumerate(layers)}
    found = []
    for layer in one.passes:
        source = next(source for to, source in one.blocks if to == layer)
        to = next(to for to, source in one.blocks if source == layer)
        if to not in place or source not in place:
            continue
        for block in (one.blocks[layer, source][0], one.blocks[to, layer][0]):
            if not bool(((block == 0) | (torch.eye(len(block)) == block)).all()):
                raise ContractError(f"passes: a block of layer {layer} is no identity any more, so it passes nothing on")
        on, where = one.gates[layer][0] > 0, {int(neuron): at for at, neuron in enumerate(keep[source])}
        places = [where[int(n)] if bool(on[n]) and int(n) in where else -1 for n in keep[to]]
        if max(places, default=-1) >= 0:
            found.append((place[to], place[source], places))
    return found
