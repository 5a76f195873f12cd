"""The multi-scale autoencoder: one encoder, one decoder a depth, transformers over neurons.

Weights are a dict of tensors and everything else is a function of it, so that a search decodes K latents as one program, on
any device and in any type, and moves nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.replicas import normal, orthogonal
from nasplug_swat.representation import Matrices, Space, kinds, layout, pack, used
from nasplug_swat.sampling import Sampling

__all__ = [
    "SIZES",
    "Autoencoder",
    "Decoded",
    "Size",
    "decode",
    "encode",
    "fresh",
    "latents",
    "load",
    "made",
    "networks_of",
    "read",
    "save",
    "shipped",
]

FORMAT = "nasplug.swat/1"
USUAL = "paper-7x64"
GAIN = 4.0
"""Masks and activations come out of a decoder as numbers near -1 and 1; their logits are this many times that."""

Weights = Mapping[str, Tensor]


class Size(BaseModel):
    """How large the transformers are. ``latent`` (numbers a neuron) is ``width`` where it is not given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(64, ge=1)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    mlp: int = Field(4, ge=1, description="hidden neurons of a block's two-layer network, as a multiple of the width")
    latent: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _divides(self) -> Size:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} in {self.heads} heads; needed: a width that the heads divide")
        return self

    @property
    def numbers(self) -> int:
        """d: numbers a neuron in the latent."""
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

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Autoencoder:
        """The same on a device, in a floating-point type."""
        return replace(self, weights={name: w.to(device, dtype) for name, w in self.weights.items()})


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
    if n != d:
        weights["encoder/latent"] = across("latent", n, d)
    for depth in range(1, space.deepest + 1):
        name = f"decoder {depth}"
        transformer(name)
        if n != d:
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
    """Networks -> latents ``(K, T, d)``, each token on the sphere of mean 0 and variance 1.

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
    """Latents ``(K, T, d)`` -> networks with ``depth`` hidden layers, as numbers; ``z`` is put on the sphere first.

    ``space``: where ends vary, the autoencoder's space at those wanted; None means the most of them.
    """
    w, size = autoencoder.weights, autoencoder.size
    name = f"decoder {depth}"
    x = F.layer_norm(z, (size.numbers,))
    if f"{name}/latent" in w:
        x = F.linear(x, w[f"{name}/latent"])
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
    at = layout(decoded.space, decoded.depth)
    numbers, space = decoded.numbers, decoded.space
    w, b = decoded.sampling.weights / math.sqrt(3.0), decoded.sampling.biases / math.sqrt(3.0)
    masks = {layer: torch.sigmoid(GAIN * numbers[:, : space.width, column]) for layer, column in at.masks.items()}
    if sharpness is not None:
        steep = sharpness.unsqueeze(-1) if isinstance(sharpness, Tensor) else sharpness
        masks = {layer: torch.sigmoid(steep * (mask - 0.5)) for layer, mask in masks.items()}
    logits = {layer: GAIN * numbers[:, : space.width, columns] for layer, columns in at.choices.items()}
    if tau is not None:
        logits = {layer: logit / tau.view(-1, 1, 1) for layer, logit in logits.items()}
    return Networks(
        widths=(space.inputs, *[space.width] * decoded.depth, space.outputs),
        blocks={(layer, layer - 1): w * numbers[:, :height, at.weights[layer]] for layer, height in at.heights.items()},
        biases={layer: b * numbers[:, :height, at.biases[layer]] for layer, height in at.heights.items()},
        gates=masks,
        choices={layer: torch.softmax(logit, -1) for layer, logit in logits.items()},
        candidates=space.candidates,
    )


def save(autoencoder: Autoencoder, path: Path) -> None:
    """Write one safetensors file, whole or not at all: weights in float32, and as metadata all that is needed to use them."""
    told = {
        "format": FORMAT,
        "space": autoencoder.space.model_dump_json(),
        "size": autoencoder.size.model_dump_json(),
        "sampling": autoencoder.sampling.model_dump_json(),
        "digest": autoencoder.digest,
        "nasplug-swat": metadata.version("nasplug-swat"),
        "about": json.dumps(dict(autoencoder.about)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    weights = {name: w.detach().cpu().float().contiguous().clone() for name, w in autoencoder.weights.items()}
    save_file(weights, beside, metadata=told)
    beside.replace(path)


def read(path: Path) -> Autoencoder:
    """The autoencoder in a file that `save` wrote.

    Raises:
        ConfigError: for a file that is missing, broken, of another format, or whose weights are not the ones it was saved with.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read as an autoencoder ({error}); give a file that training wrote") from error
    if told.get("format") != FORMAT:
        raise ConfigError(f"{path}: format {told.get('format')!r}; needed: {FORMAT!r}. Give a file that training wrote")
    try:
        space, size = Space.model_validate_json(told["space"]), Size.model_validate_json(told["size"])
        sampling, about = Sampling.model_validate_json(told["sampling"]), json.loads(told["about"])
    except (LookupError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path}: its description is broken ({error}); give a file that training wrote") from error
    found = made(weights, space, size, sampling, about)
    if found.digest != told.get("digest"):
        raise ConfigError(f"{path}: its weights are not the ones it was saved with (digest {found.digest[:12]}); get it anew")
    return found


@lru_cache(maxsize=8)
def _cached(path: Path, changed: int) -> Autoencoder:
    return read(path)


def shipped() -> dict[str, Path]:
    """The files that come with the package, by name; `USUAL` is the paper's space with a latent as large as 7 x 64."""
    folder = Path(str(resources.files("nasplug_swat") / "trained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def load(name: str | None, where: str = "swat") -> Autoencoder:
    """The autoencoder of that name that comes along (None: `USUAL`), or at that path; read once while its file does not change.

    Raises:
        ConfigError: as `read`.
    """
    file = shipped().get(name or USUAL, Path(name or USUAL).expanduser())
    try:
        return _cached(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"{where}: autoencoder {file}: {error.strerror}; give the path of a file that training wrote, or the name of one "
            f"that comes along: {', '.join(shipped())}"
        ) from None
