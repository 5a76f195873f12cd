"""Architectures as text, and as the choices of networks that are trained with them and do not search.

``tanh/2*relu+elu``: the first hidden layer is tanh; of the three neurons of the second two are relu and one is elu.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError, did_you_mean
from nasplug.networks import Networks
from nasplug.plan.varying import FIXED
from nasplug.train import Search, start

__all__ = ["fixed", "layer_text", "named", "one_hot_choices"]

PART = re.compile(r"\s*(?:(\d{1,9})\s*\*)?\s*([A-Za-z][A-Za-z0-9_.-]*)\s*")
EXAMPLE = "one activation per hidden layer (tanh/relu), or those of its neurons (2*relu+tanh)"


def layer_text(names: Sequence[str], candidates: Sequence[str]) -> str:
    """The neurons of one layer, in the order of the candidates: which neuron has which does not matter; one name if alike."""
    times = Counter(names)
    if len(times) == 1:
        return names[0]
    return "+".join(f"{times[name]}*{name}" if times[name] > 1 else name for name in candidates if times[name])


def named(nets: Networks) -> list[str]:
    """The architecture of each hard network as text; where a layer has no choices it is the only candidate."""
    texts: list[list[str]] = [[] for _ in range(nets.replicas)]
    for layer in range(1, nets.depth):
        choice = nets.choices.get(layer)
        chosen = [[0]] * nets.replicas if choice is None else choice.argmax(-1).tolist()  # (K, H or 1)
        for text, sites in zip(texts, chosen, strict=True):
            text.append(layer_text([nets.candidates[c] for c in sites], nets.candidates))
    return ["/".join(text) for text in texts]


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


def one_hot_choices(texts: Sequence[str], nets: Networks) -> tuple[tuple[int, Tensor], ...]:
    """Layer and choices ``(K, H or 1, A)``, one architecture per row, for networks of the skeleton of ``nets``.

    Raises:
        ConfigError: for text that is no architecture of these networks.
    """
    layers = sorted(nets.choices)
    widths = [nets.choices[layer].shape[1] for layer in layers]
    distinct = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    sites = [_sites(text, layers, widths, nets.candidates) for text in distinct]
    rows = torch.tensor([distinct[text] for text in texts])
    like, found = next(iter(nets.blocks.values())), []
    for at, layer in enumerate(layers):
        each = F.one_hot(torch.tensor([one[at] for one in sites]), len(nets.candidates)).to(like)
        found.append((layer, each[rows.to(like.device)]))
    return tuple(found)


def fixed(search: Search, texts: Sequence[str], use: str) -> tuple[tuple[int, Tensor], ...]:
    """What a search gets instead of searching (`nasplug.train.Search.fixed`), one architecture per row; ``use``: its method.

    Raises:
        ConfigError: where the method searches for no choices, something else would move them, or a text does not fit.
    """
    if search.architect is not None:
        raise ConfigError(f"{FIXED}: beside train.architecture, which would have nothing to move; remove one of the two")
    first = search.take(torch.tensor([0], device=search.seeds.device))
    nets = first.relax(start(first).params, first.tau.at(0))
    if not nets.choices or nets.alternatives or not search.traits.architecture:
        raise ConfigError(
            f"{FIXED}: {texts[0]!r}, and method {use!r} as configured searches for no activations; remove it, or take a method "
            "that does (mixture)"
        )
    return one_hot_choices(texts, nets)
