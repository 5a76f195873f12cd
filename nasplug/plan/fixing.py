"""Architectures as text, and as what stands in networks that are trained with them and do not search.

``tanh/2*relu+elu``: the first hidden layer is tanh; of the three neurons of the second two are relu and one is elu.
``linear/none,rank_2``: the edge from the input to the first layer is linear; the second layer gets nothing from the input, and
a map of rank 2 of the first layer.
``1x3/1x5`` or ``1x3/1x5:tanh``: the layers of the stem that choose the size of their kernels, and what is chosen behind it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from nasplug.contracts import Params
from nasplug.errors import ConfigError, did_you_mean
from nasplug.networks import Edge, Networks, ends, operation
from nasplug.plan.varying import FIXED
from nasplug.stems import shared
from nasplug.train import Fixed, Search, start

__all__ = ["Edges", "edges_of", "fixed", "fixed_parts", "kernels_of", "layer_text", "named", "only_operations", "searched"]

Edges = tuple[tuple[Edge, tuple[str, ...]], ...]
"""(to, from), and the operations that an edge chooses from."""

PART = re.compile(r"\s*(?:(\d{1,9})\s*\*)?\s*([A-Za-z][A-Za-z0-9_.-]*)\s*")
EXAMPLE = "one activation per hidden layer (tanh/relu), or those of its neurons (2*relu+tanh)"


def layer_text(names: Sequence[str], candidates: Sequence[str]) -> str:
    """The neurons of one layer, in the order of the candidates: which neuron has which does not matter; one name if alike."""
    times = Counter(names)
    if len(times) == 1:
        return names[0]
    return "+".join(f"{times[name]}*{name}" if times[name] > 1 else name for name in candidates if times[name])


def edges_of(nets: Networks) -> Edges:
    """The edges of networks that choose operations, in their order: by the layer that they end at."""
    return tuple((ends(nets, ways), tuple(operation(nets, way) for way in ways)) for ways in nets.alternatives)


def kernels_of(nets: Networks) -> dict[int, tuple[str, ...]]:
    """Of each layer of the stem that chooses the size of its kernels those that it chooses from, ``rows x columns``."""
    if nets.stem is None or not nets.kernel_shares:
        return {}
    layers = {number: nets.stem.layers[number - 1] for number in sorted(nets.kernel_shares)}
    return {number: tuple(f"{rows}x{columns}" for rows, columns in layer.windows) for number, layer in layers.items()}


def named(nets: Networks, skeleton: Networks | None = None) -> list[str]:
    """The architecture of each hard network as text; where a layer has no choices it is the only candidate.

    ``skeleton``: soft networks of the same method; where these choose operations, so does the text, and where their stem
    chooses sizes, these come first, alone if nothing else is chosen. An operation of which no weight is left, as it is on no
    path, is ``none``.
    """
    behind = _behind(nets, skeleton)
    if skeleton is None or not (kernels := kernels_of(skeleton)):
        return behind
    sizes = [_named_kernels(nets, skeleton, row, kernels) for row in range(nets.replicas)]
    chosen = bool(skeleton.choices or skeleton.alternatives)
    return [f"{front}:{rest}" if chosen else front for front, rest in zip(sizes, behind, strict=True)]


def _named_kernels(nets: Networks, skeleton: Networks, row: int, kernels: Mapping[int, Sequence[str]]) -> str:
    """The smallest size of each layer that holds its kernels of this row."""
    assert skeleton.stem is not None
    layers = [skeleton.stem.layers[number - 1].cut(nets.kernels[number][row])[0] for number in kernels]
    return "/".join(f"{layer.window[0]}x{layer.window[1]}" for layer in layers)


def _behind(nets: Networks, skeleton: Networks | None) -> list[str]:
    """What is chosen behind the stem."""
    if skeleton is not None and skeleton.alternatives:
        return _named_operations(nets, skeleton)
    texts: list[list[str]] = [[] for _ in range(nets.replicas)]
    for layer in range(1, nets.depth):
        choice = nets.choices.get(layer)
        chosen = [[0]] * nets.replicas if choice is None else choice.argmax(-1).tolist()  # (K, H or 1)
        for text, sites in zip(texts, chosen, strict=True):
            text.append(layer_text([nets.candidates[c] for c in sites], nets.candidates))
    return ["/".join(text) for text in texts]


def _named_operations(nets: Networks, skeleton: Networks) -> list[str]:
    layers: dict[int, list[list[str]]] = {}
    for ways in skeleton.alternatives:
        found = ["none"] * nets.replicas
        for way in ways:
            if way is None:
                continue
            gates = nets.gates[way] if isinstance(way, int) else nets.edge_gates[way]
            on = (gates > 0).flatten(1).any(1).tolist()
            found = [operation(skeleton, way) if here else one for here, one in zip(on, found, strict=True)]
        layers.setdefault(ends(skeleton, ways)[0], []).append(found)
    return ["/".join(",".join(edge[k] for edge in layer) for layer in layers.values()) for k in range(nets.replicas)]


def _sites(text: str, layers: Sequence[int], widths: Sequence[int], candidates: Sequence[str]) -> list[list[int]]:
    """The candidate of each neuron (or of a layer as one) of each hidden layer.

    Raises:
        ConfigError: for text that is no architecture of these.
    """
    parts = text.split("/")
    if len(parts) != len(layers):
        raise ConfigError(
            f"{FIXED}: {text!r} has {len(parts)} layers, and the networks have {len(layers)} hidden ones; needed: {EXAMPLE}"
        )
    found = []
    for part, layer, width in zip(parts, layers, widths, strict=True):
        names: list[str] = []
        for piece in part.split("+"):
            read = PART.fullmatch(piece)
            if read is None:
                raise ConfigError(f"{FIXED}: {text!r}; needed: {EXAMPLE}, layers separated by /")
            if read[2] not in candidates:
                raise ConfigError(
                    f"{FIXED}: {text!r}: {read[2]!r} is no candidate of the method; candidates: {', '.join(candidates)}."
                    f"{did_you_mean(read[2], candidates)}"
                )
            names += [read[2]] * (int(read[1] or 1) if int(read[1] or 1) <= width else width + 1)
        names = names * width if len(names) == 1 else names
        if len(names) != width:
            what = f"{width} neurons" if width > 1 else "one activation for all its neurons (per: layer)"
            raise ConfigError(f"{FIXED}: {text!r} does not fit hidden layer {layer}, which has {what}; needed: {EXAMPLE}")
        found.append([candidates.index(name) for name in names])
    return found


def fixed_parts(texts: Sequence[str], nets: Networks) -> tuple[Fixed, ...]:
    """What makes of soft networks those of these architectures, one per row, for the skeleton of ``nets``.

    Raises:
        ConfigError: for text that is no architecture of these networks.
    """
    kernels = kernels_of(nets)
    if not kernels:
        return _operations(texts, nets) if nets.alternatives else _choices(texts, nets)
    parts = [text.partition(":") for text in texts]
    sizes = _sizes(texts, [front for front, _, _ in parts], kernels, nets)
    if not (nets.alternatives or nets.choices):
        if odd := [text for text, (_, colon, _) in zip(texts, parts, strict=True) if colon]:
            raise ConfigError(
                f"{FIXED}: {odd[0]!r}; needed: sizes of kernels alone, as nothing behind the stem is searched for"
            )
        return sizes
    if odd := [text for text, (_, colon, _) in zip(texts, parts, strict=True) if not colon]:
        raise ConfigError(
            f"{FIXED}: {odd[0]!r}; needed: sizes of kernels and what stands behind the stem, joined by a colon, such as "
            f"{_example(kernels)}:{'linear/none,rank_2' if nets.alternatives else 'tanh/relu'}"
        )
    behind = [rest.strip() for _, _, rest in parts]
    return sizes + (_operations(behind, nets) if nets.alternatives else _choices(behind, nets))


def _example(kernels: Mapping[int, Sequence[str]]) -> str:
    return "/".join(sizes[-1] for sizes in kernels.values())


def _sizes(
    texts: Sequence[str], fronts: Sequence[str], kernels: Mapping[int, Sequence[str]], nets: Networks
) -> tuple[Fixed, ...]:
    """One-hot shares of sizes ``(K, S)``; ``texts``: what was given, whose ``fronts`` these are.

    Raises:
        ConfigError: for text that is no choice of these sizes.
    """
    places: list[list[int]] = []
    for text, front in zip(texts, fronts, strict=True):
        given = [part.strip() for part in front.split("/")]
        if len(given) != len(kernels):
            raise ConfigError(
                f"{FIXED}: {text!r} begins with {len(given)} sizes of kernels, and {len(kernels)} layers of the stem choose "
                f"one; needed: rows x columns of each, separated by /, such as {_example(kernels)}"
            )
        for number, size in zip(kernels, given, strict=True):
            if size not in kernels[number]:
                raise ConfigError(
                    f"{FIXED}: {text!r}: {size!r} is no size of layer {number} of the stem; it has {', '.join(kernels[number])}"
                )
        places.append([sizes.index(size) for sizes, size in zip(kernels.values(), given, strict=True)])
    like = next(iter(nets.kernel_shares.values()))
    chosen = torch.tensor(places, device=like.device)  # (K, layers)
    return tuple(
        ("kernel_shares", number, F.one_hot(chosen[:, at], len(sizes)).to(like))
        for at, (number, sizes) in enumerate(kernels.items())
    )


def _choices(texts: Sequence[str], nets: Networks) -> tuple[Fixed, ...]:
    """One-hot choices ``(K, H or 1, A)``."""
    layers = sorted(nets.choices)
    widths = [nets.choices[layer].shape[1] for layer in layers]
    distinct = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    sites = [_sites(text, layers, widths, nets.candidates) for text in distinct]
    rows = torch.tensor([distinct[text] for text in texts])
    like, found = next(iter(nets.blocks.values())), list[Fixed]()
    for at, layer in enumerate(layers):
        each = F.one_hot(torch.tensor([one[at] for one in sites]), len(nets.candidates)).to(like)
        found.append(("choices", layer, each[rows.to(like.device)]))
    return tuple(found)


def _operations(texts: Sequence[str], nets: Networks) -> tuple[Fixed, ...]:
    """Gates of layers and blocks, 1 in what is chosen and 0 in all others."""
    edges = edges_of(nets)
    places = torch.tensor([_places(text, edges) for text in texts])  # (K, edges)
    like = next(iter(nets.blocks.values()))
    found: list[Fixed] = []
    for at, ways in enumerate(nets.alternatives):
        for place, way in enumerate(ways):
            on = (places[:, at] == place).to(like)
            if isinstance(way, int):
                found.append(("gates", way, on[:, None].repeat(1, nets.widths[way])))
            elif way is not None:
                found.append(("edge_gates", way, on[:, None, None].repeat(1, *nets.blocks[way].shape[1:])))
    return tuple(found)


def _places(text: str, edges: Edges) -> list[int]:
    """Which of its operations each edge has.

    Raises:
        ConfigError: for text that is no architecture of these edges.
    """
    layers: dict[int, list[tuple[int, tuple[str, ...]]]] = {}
    for (to, source), names in edges:
        layers.setdefault(to, []).append((source, names))
    example = "/".join(",".join(names[0] for _, names in layer) for layer in layers.values())
    parts = [part.split(",") for part in text.split("/")]
    if list(map(len, parts)) != list(map(len, layers.values())):
        raise ConfigError(
            f"{FIXED}: {text!r} does not fit the networks' edges; needed: one operation per edge, those into one layer "
            f"separated by commas, layers by /, such as {example}"
        )
    found = []
    for (to, layer), part in zip(layers.items(), parts, strict=True):
        for (source, names), given in zip(layer, part, strict=True):
            if (name := given.strip()) not in names:
                raise ConfigError(
                    f"{FIXED}: {text!r}: {name!r} is no operation of the edge from layer {source} to layer {to}; it has "
                    f"{', '.join(names)}.{did_you_mean(name, names)}"
                )
            found.append(names.index(name))
    return found


def searched(search: Search, nets: Networks) -> Networks:
    """The same without choices that the method does not search for: those of a schedule are no part of an architecture."""
    return nets if search.traits.architecture else replace(nets, choices={}, alternatives=())


def fixed(search: Search, texts: Sequence[str], use: str) -> tuple[Fixed, ...]:
    """What a search gets instead of searching (`nasplug.train.Search.fixed`), one architecture per row; ``use``: its method.

    Raises:
        ConfigError: where the method searches for nothing that can be fixed, something else would move it, or a text does not
            fit.
    """
    if search.architect is not None:
        raise ConfigError(f"{FIXED}: beside train.architecture, which would have nothing to move; remove one of the two")
    first = search.take(torch.tensor([0], device=search.seeds.device))
    params = start(first).params
    nets = searched(search, first.relax(params, first.tau.at(0)))
    if not (nets.choices or nets.alternatives or nets.kernel_shares):
        raise ConfigError(
            f"{FIXED}: {texts[0]!r}, and method {use!r} as configured searches for no activations, operations or sizes of "
            "kernels; remove it, or take a method that does (mixture, operations)"
        )
    only_operations(search, params, nets, use)
    return fixed_parts(texts, nets)


def only_operations(search: Search, params: Params, nets: Networks, use: str) -> None:
    """Refuse a method that searches for more beside operations.

    Raises:
        ConfigError: saying so.
    """
    edges = sum(len(ways) > 1 for ways in nets.alternatives)
    more = sum(p.shape[-1] > 1 for name, p in params.items() if name in search.traits.architecture and not shared(name)) - edges
    if nets.alternatives and more > 0:
        raise ConfigError(
            f"method: {use!r} as configured makes {more} more choices than the operations of its {edges} edges, and only these "
            "can be fixed; remove widths from method, and vary method.hidden instead"
        )
