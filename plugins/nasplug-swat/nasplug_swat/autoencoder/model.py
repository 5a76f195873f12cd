"""The multi-scale autoencoder: one encoder, one decoder per depth, transformers over neurons.

Weights are a dict of tensors and everything else is a function of it, so that a search decodes K latents as one program, on
any device and in any type, and moves nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor
from torch.nn import functional as F

from nasplug.networks import Networks
from nasplug.replicas import normal, orthogonal
from nasplug_swat.autoencoder.matrices import Matrices, pack, unpack, used
from nasplug_swat.autoencoder.sampling import Sampling
from nasplug_swat.autoencoder.space import Space, kinds

__all__ = [
    "GAIN",
    "SIZES",
    "Autoencoder",
    "Decoded",
    "Size",
    "decode",
    "encode",
    "fresh",
    "latents",
    "made",
    "networks_of",
    "normalised",
]

GAIN = 4.0
"""Masks and activations come out of a decoder as numbers near -1 and 1; their logits are this many times that."""

Weights = Mapping[str, Tensor]


class Size(BaseModel):
    """How large the transformers are, and what the latent is made of.

    ``latent`` is d, ``width`` where it is not given. ``tokens: neurons`` makes d numbers per neuron, ``network`` d numbers in
    all: what the encoder puts out for all neurons is one vector then, and two linear maps lead to the latent and back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(64, ge=1, le=4096)
    layers: int = Field(2, ge=1, le=64)
    heads: int = Field(4, ge=1)
    mlp: int = Field(4, ge=1, le=64, description="hidden neurons of a block's two-layer network, as a multiple of the width")
    latent: int | None = Field(None, ge=1, le=4096)
    tokens: Literal["neurons", "network"] = "neurons"

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        if self.tokens == "neurons":  # files and digests of these are what they were before there was a choice
            plain.pop("tokens")
        return plain

    @model_validator(mode="after")
    def _divides(self) -> Size:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} in {self.heads} heads; needed: a width that the heads divide")
        if self.numbers < 3:  # of mean 0 and variance 1: one number is always 0, and two are one of two points
            raise ValueError(f"a latent of {self.numbers} numbers, which tells no networks apart; needed: 3 at least")
        return self

    @property
    def numbers(self) -> int:
        """d: numbers in the latent, per neuron or in all."""
        return self.width if self.latent is None else self.latent


SIZES: Mapping[str, Size] = {
    "tiny": Size(width=32, layers=1, heads=2),
    "small": Size(),
    "medium": Size(width=256, layers=4, heads=8),
    "gpt2": Size(width=768, layers=12, heads=12),
}
"""``small`` is what comes with the package, ``gpt2`` the paper's: five transformers of GPT-2's dimensions."""


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """Trained (or fresh) weights, and what they are for.

    Attributes:
        weights: tensors by name.
        space: which networks it reads and makes.
        size: of its transformers.
        sampling: the networks it learned from; its weights and biases are scaled by that.
        digest: SHA-256 of weights, space, size and sampling: the version that lineage names.
        about: what else its file says: training config, steps, scores.
    """

    weights: Weights
    space: Space
    size: Size
    sampling: Sampling
    digest: str
    about: Mapping[str, Any]
    _elsewhere: dict[str, Weights] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Of one network's latent: ``(T, d)``, or ``(1, d)`` for the whole network."""
        return (self.space.rows if self.size.tokens == "neurons" else 1), self.size.numbers

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Autoencoder:
        """The same on a device, in a floating-point type. Copies are kept: a step that asks again moves nothing."""
        first = next(iter(self.weights.values()))
        if first.device == torch.device(device) and first.dtype == dtype:
            return self
        key = f"{device} {dtype}"
        if key not in self._elsewhere:
            self._elsewhere[key] = {name: w.detach().to(device, dtype) for name, w in self.weights.items()}
        return replace(self, weights=self._elsewhere[key])


@lru_cache(maxsize=256)
def units(space: Space, depth: int, sampling: Sampling) -> Tensor:
    """Standard deviations of sampled entries, ``(T, C)``: ``w / sqrt(3)`` for weights, ``b / sqrt(3)`` for biases, else 1."""
    each = torch.tensor([1.0, sampling.weights / math.sqrt(3.0), sampling.biases / math.sqrt(3.0), 1.0, 1.0])
    return each[kinds(space, depth)]


def normalised(matrices: Matrices, sampling: Sampling) -> Tensor:
    """What the encoder reads and a decoder's numbers aim at, ``(K, T, C)``: unit variance; masks and activations -1 or 1.

    0 wherever an entry means nothing (padding, masked neurons): what stands there cannot reach the latent.
    """
    kind = kinds(matrices.space, matrices.depth).to(matrices.values.device)
    values = matrices.values / units(matrices.space, matrices.depth, sampling).to(matrices.values)
    values = torch.where(kind >= 3, 2.0 * values - 1.0, values)
    return torch.where(used(matrices), values, torch.zeros_like(values))


def fresh(space: Space, size: Size, sampling: Sampling, seed: int = 0) -> Autoencoder:
    """Untrained weights that pass a matrix through.

    The encoder's map of values is orthonormal (as far as the width goes) and each head is its transpose; the outputs of blocks
    start at a tenth of their usual size, positions and validity outside of what the heads read. Training then starts near the
    identity instead of near the mean. All directions are orthogonal to the constant one, which the last normalisation
    takes away.
    """
    d, n, c, t = size.width, size.numbers, space.columns + 1, space.rows
    seeds = torch.tensor([seed])

    def gaussian(name: str, *shape: int, scale: float) -> Tensor:
        return (scale * normal(seeds, f"swat/{name}", shape)[0]).float()

    def across(name: str, to: int, source: int) -> Tensor:
        """``(to, source)``: orthonormal columns orthogonal to ones where there is room, else orthonormal rows."""
        if to <= source:
            return orthogonal(seeds, f"swat/{name}", to, source)[0].float()
        start = normal(seeds, f"swat/{name}", (to, source))[0]
        q, r = torch.linalg.qr(start - start.mean(0))
        unique: Tensor = q * torch.diagonal(r).sign()
        return unique.float()

    through = across("values", d, c)
    unread = torch.eye(d) - through @ through.T if d > c else torch.eye(d)  # what the heads do not look at
    weights: dict[str, Tensor] = {}

    def transformer(name: str) -> None:
        weights[f"{name}/position"] = gaussian(f"{name}/position", t, d, scale=0.1) @ unread
        for i in range(size.layers):
            at = f"{name}/{i}"
            for part, to, source, scale in (
                ("qkv", 3 * d, d, 1.0),
                ("attend", d, d, 0.1),
                ("widen", size.mlp * d, d, 1.0),
                ("narrow", d, size.mlp * d, 0.1),
            ):
                weights[f"{at}/{part}"] = gaussian(f"{at}/{part}", to, source, scale=scale / math.sqrt(source))
                weights[f"{at}/{part}/bias"] = torch.zeros(to)
            for part in ("norm 1", "norm 2"):
                weights[f"{at}/{part}"], weights[f"{at}/{part}/bias"] = torch.ones(d), torch.zeros(d)

    transformer("encoder")
    weights["encoder/values"] = through.clone()
    weights["encoder/valid"] = unread @ gaussian("encoder/valid", d, space.columns, scale=1.0 / math.sqrt(c))
    whole = d if size.tokens == "neurons" else t * d  # of what a latent is made from
    if n != whole:
        weights["encoder/latent"] = across("latent", n, whole)
    for depth in range(1, space.deepest + 1):
        name = f"decoder {depth}"
        transformer(name)
        if n != whole:
            weights[f"{name}/latent"] = weights["encoder/latent"].T.clone()
        weights[f"{name}/head"] = through[:, : space.columns].T.clone()
        weights[f"{name}/head/bias"] = torch.zeros(space.columns)
    return made(weights, space, size, sampling, {})


def made(weights: Weights, space: Space, size: Size, sampling: Sampling, about: Mapping[str, Any]) -> Autoencoder:
    """An autoencoder of these parts, with its digest."""
    h = hashlib.sha256("\n".join(model.model_dump_json() for model in (space, size, sampling)).encode())
    for name in sorted(weights):
        h.update(f"{name} {tuple(weights[name].shape)}".encode())
        h.update(weights[name].detach().cpu().float().contiguous().numpy().tobytes())
    return Autoencoder(weights, space, size, sampling, h.hexdigest(), about)


def _transform(weights: Weights, name: str, x: Tensor, size: Size) -> Tensor:
    """Blocks over neurons, ``(K, T, d)`` -> ``(K, T, d)``: attention to all of them (no causal mask), then a small network."""
    k, t, d = x.shape
    x = x + weights[f"{name}/position"]
    for i in range(size.layers):
        at = f"{name}/{i}"
        h = F.layer_norm(x, (d,), weights[f"{at}/norm 1"], weights[f"{at}/norm 1/bias"])
        qkv = F.linear(h, weights[f"{at}/qkv"], weights[f"{at}/qkv/bias"])
        q, key, v = qkv.view(k, t, 3, size.heads, d // size.heads).permute(2, 0, 3, 1, 4)  # each (K, heads, T, d / heads)
        share = torch.softmax(q @ key.transpose(-1, -2) / math.sqrt(d // size.heads), -1)
        h = (share @ v).transpose(1, 2).reshape(k, t, d)
        x = x + F.linear(h, weights[f"{at}/attend"], weights[f"{at}/attend/bias"])
        h = F.layer_norm(x, (d,), weights[f"{at}/norm 2"], weights[f"{at}/norm 2/bias"])
        h = F.gelu(F.linear(h, weights[f"{at}/widen"], weights[f"{at}/widen/bias"]))
        x = x + F.linear(h, weights[f"{at}/narrow"], weights[f"{at}/narrow/bias"])
    return x


def encode(autoencoder: Autoencoder, nets: Networks) -> Tensor:
    """Networks -> latents ``(K, T, d)`` or ``(K, 1, d)``, each token on the sphere of mean 0 and variance 1.

    What stands in masked neurons cannot change it. The order of neurons does: `nasplug_swat.representation.arrange` first,
    where that must not be.

    Raises:
        ConfigError: for networks that do not fit the space.
    """
    return latents(autoencoder, pack(nets, autoencoder.space))


def latents(autoencoder: Autoencoder, matrices: Matrices) -> Tensor:
    """`encode`, of matrices."""
    w, size = autoencoder.weights, autoencoder.size
    values = normalised(matrices, autoencoder.sampling)
    valid = (kinds(matrices.space, matrices.depth) > 0).to(values)
    # The last normalisation divides a token by its size; one more number completes all tokens to one size, so that
    # nothing is lost there.
    rest = (size.width - values.square().sum(-1, keepdim=True)).clamp(min=1.0).sqrt()  # (K, T, 1)
    x = F.linear(torch.cat((values, rest), -1), w["encoder/values"]) + F.linear(valid, w["encoder/valid"])
    x = _transform(w, "encoder", x, size)
    if size.tokens == "network":
        x = x.flatten(1).unsqueeze(1)
    if "encoder/latent" in w:
        x = F.linear(x, w["encoder/latent"])
    return F.layer_norm(x, (size.numbers,))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder puts out, before anything is hard.

    Attributes:
        numbers: ``(K, T, C)``, as `normalised`; anything in the padding.
        depth: hidden layers.
        space: which layout.
        sampling: whose units.
    """

    numbers: Tensor
    depth: int
    space: Space
    sampling: Sampling


def decode(autoencoder: Autoencoder, z: Tensor, depth: int, space: Space | None = None) -> Decoded:
    """Latents ``(K, T or 1, d)`` -> networks with ``depth`` hidden layers, as numbers; ``z`` is put on the sphere first.

    ``space``: where ends vary, the autoencoder's space at those wanted; None means the most of them.
    """
    w, size = autoencoder.weights, autoencoder.size
    name = f"decoder {depth}"
    x = F.layer_norm(z, (size.numbers,))
    if f"{name}/latent" in w:
        x = F.linear(x, w[f"{name}/latent"])
    if size.tokens == "network":
        x = x.reshape(len(x), -1, size.width)
    x = _transform(w, name, x, size)
    numbers = F.linear(x, w[f"{name}/head"], w[f"{name}/head/bias"])
    return Decoded(numbers, depth, space or autoencoder.space, autoencoder.sampling)


def networks_of(decoded: Decoded, tau: Tensor | None = None, sharpness: float | Tensor | None = None) -> Networks:
    """Soft networks: masks ``sigmoid(4 m)``, activations ``softmax(4 a / tau)``, weights and biases in their units.

    Args:
        decoded: see `decode`.
        tau: ``(K,)``; None means 1.
        sharpness: if given, a number or ``(K,)``: a neuron's gate is ``sigmoid(sharpness (mask - 1/2))`` (200 in SWAT-NN).
    """
    nets = unpack(Matrices(decoded.numbers, decoded.depth, decoded.space))
    w, b = decoded.sampling.weights / math.sqrt(3.0), decoded.sampling.biases / math.sqrt(3.0)
    masks = {layer: torch.sigmoid(GAIN * number) for layer, number in nets.gates.items()}
    if sharpness is not None:
        steep = sharpness.unsqueeze(-1) if isinstance(sharpness, Tensor) else sharpness
        masks = {layer: torch.sigmoid(steep * (mask - 0.5)) for layer, mask in masks.items()}
    logits = {layer: GAIN * number for layer, number in nets.choices.items()}
    if tau is not None:
        logits = {layer: logit / tau.view(-1, 1, 1) for layer, logit in logits.items()}
    return replace(
        nets,
        blocks={edge: w * number for edge, number in nets.blocks.items()},
        biases={layer: b * number for layer, number in nets.biases.items()},
        gates=masks,
        choices={layer: torch.softmax(logit, -1) for layer, logit in logits.items()},
    )
