"""Random networks of a space, as the paper draws them; what an autoencoder learns from."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks
from nasplug.replicas import uniform
from nasplug_swat.autoencoder.space import Space

__all__ = ["Sampling", "draw", "draw_ends"]


class Sampling(BaseModel):
    """The distribution of weights and masks.

    ``weights`` and ``biases``: uniform on [-w, w] and [-b, b]. ``sparsity``: each network takes one of these shares, and
    each of its weights is 0 with that probability. ``keep``: the probability that a neuron is on; a layer with none
    gets one. Activations are uniform over the candidates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weights: float = Field(5.0, gt=0)
    biases: float = Field(1.0, gt=0)
    sparsity: tuple[float, ...] = Field((0.0, 0.2, 0.4), min_length=1)
    keep: float = Field(0.5, gt=0, le=1)

    @field_validator("sparsity")
    @classmethod
    def _shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.0 <= share < 1.0 for share in shares):
            raise ValueError(f"{list(shares)}; needed: shares of weights that are 0, each >= 0 and < 1")
        return shares


def draw(space: Space, depth: int, seeds: Tensor, sampling: Sampling = Sampling()) -> Networks:  # noqa: B008 - frozen
    """Random hard networks with ``depth`` hidden layers: ``seeds`` long ``(K,)``; row k depends on its seed alone, float32.

    Where the space's ends vary they have the most inputs and outputs; draw from ``space.at(inputs, outputs)`` for others.

    Source: SWAT-NN, section on the sampled networks. We differ: activations are pure (the reference code mixes them by a
    softmax of the one-hot code).
    """
    space.check_depth(depth)
    widths = (space.inputs, *[space.width] * depth, space.outputs)
    shares = torch.tensor(sampling.sparsity, dtype=torch.float64, device=seeds.device)
    share = shares[(uniform(seeds, "swat/sparsity", (1,)) * len(shares)).long()]  # (K, 1)
    blocks, biases, gates, choices = {}, {}, {}, {}
    for layer in range(1, depth + 2):
        shape = (widths[layer], widths[layer - 1])
        w = uniform(seeds, f"swat/weights {layer}", shape, -sampling.weights, sampling.weights)
        kept = uniform(seeds, f"swat/kept {layer}", shape) >= share.unsqueeze(-1)
        blocks[layer, layer - 1] = (w * kept).float()
        biases[layer] = uniform(seeds, f"swat/biases {layer}", (widths[layer],), -sampling.biases, sampling.biases).float()
        if layer <= depth:
            chance = uniform(seeds, f"swat/mask {layer}", (space.width,))  # (K, H)
            first = F.one_hot(chance.argmin(1), space.width).bool()  # the likeliest is on where no other is
            gates[layer] = ((chance < sampling.keep) | first).float()
            which = (uniform(seeds, f"swat/activation {layer}", (space.width,)) * len(space.candidates)).long()
            choices[layer] = F.one_hot(which, len(space.candidates)).float()
    return Networks(widths, blocks, biases, gates, choices=choices, candidates=space.candidates)


def draw_ends(space: Space, seed: Tensor, stream: str) -> tuple[int, int]:
    """Inputs and outputs for a batch of networks: the space's, or uniform from 1 on where they vary. ``seed`` long ``(1,)``."""
    if not space.vary:
        return space.ends
    shares = uniform(seed, f"{stream}/ends", (2,))[0].tolist()
    return 1 + int(shares[0] * space.inputs), 1 + int(shares[1] * space.outputs)
