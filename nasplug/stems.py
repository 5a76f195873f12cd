"""`Stem`: small convolutional networks in front of K heads, trained with them.

A stem turns an image into the features that are layer 0 of `nasplug.networks.Networks`. Its kernels belong to the record like
any other weights. No penalty reads it, and no discretizer cuts it; all that may be searched in it is the size of a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from nasplug.activations import FUNCTIONS, Function, function_of
from nasplug.errors import ConfigError, ContractError
from nasplug.replicas import uniform
from nasplug.tasks import Task

__all__ = ["NORMS", "Convolution", "Stem", "drawn", "entrance", "leaves", "mixed", "observed", "parts", "shared"]

Size = Annotated[int, Field(ge=1, le=4096)]
Zeros = Annotated[int, Field(ge=0, le=4096)]
Pair = tuple[int, int]
Between = Callable[[int, Tensor], Tensor]
"""Number of a layer and its kernels' sums ``(B, groups C_out, H', W')`` -> the same, normalised and shifted."""

NORMS = {"kernel_scales": "kernel scale", "kernel_means": "kernel mean", "kernel_variances": "kernel variance"}
"""Parts of normalised layers, each ``(K, C_out)``, and how the leaves of each begin."""

OBSERVED = tuple(f"{NORMS[part]} " for part in ("kernel_means", "kernel_variances"))

MOST_PIXELS = 2**22  # numbers of one image in a layer, before its pool


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


class Convolution(BaseModel):
    """``max_pool(f(kernel * a + bias))``, as `torch.nn.Conv2d` and `torch.nn.MaxPool2d` compute them.

    With ``norm`` the sums of each channel are normalised before the bias is added: see `nasplug.batchnorm`.

    Attributes:
        channels: C_out.
        kernel, stride, padding, pool: of rows and columns alike, or ``[rows, columns]``. Padding is with zeros; without one it
            is half the kernel, so that an odd kernel keeps the size. ``pool`` is window and stride of the maximum, 1 is none;
            what does not fill a window is left out.
        activation: f, the name of an activation.
        norm: ``batch``, or None.
        sizes: of kernels to choose from, ascending, each with weights of its own, or None. A mixture of them is one kernel, as
            large as the last: the sum of all, each in the middle of zeros and times its share. ``kernel`` is the last then. Not
            beside or before a ``norm``, whose statistics would be the mixture's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Size
    kernel: Size | tuple[Size, Size] = 3
    stride: Size | tuple[Size, Size] = 1
    padding: Zeros | tuple[Zeros, Zeros] | None = None
    pool: Size | tuple[Size, Size] = 1
    activation: str = "relu"
    norm: Literal["batch"] | None = None
    sizes: Annotated[tuple[Size | tuple[Size, Size], ...], Field(min_length=2, max_length=8)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_kernel(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("sizes"), list | tuple) and given["sizes"]:
            return {"kernel": given["sizes"][-1], **given}
        return given

    @model_validator(mode="after")
    def _fits(self) -> Convolution:
        if self.sizes is None:
            return self
        found = self.windows
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(found)]
        if any(min(step) < 0 or step == (0, 0) or step[0] % 2 or step[1] % 2 for step in steps):
            raise ValueError(f"sizes {list(self.sizes)}: needed: ascending, all odd or all even, such as [1, 3, 5]")
        if found[-1] != self.window:
            raise ValueError(f"sizes {list(self.sizes)} with kernel {self.kernel}; leave kernel out: it is the last size")
        if min(p - (large - small) // 2 for p, large, small in zip(self.pad, found[-1], found[0], strict=True)) < 0:
            raise ValueError(f"sizes {list(self.sizes)} with padding {self.padding}, which is too little; leave padding out")
        if self.norm is not None:
            raise ValueError("sizes beside norm, whose statistics would be those of the mixture; remove one of the two")
        return self

    @property
    def windows(self) -> list[Pair]:
        """Rows and columns of each of ``sizes``."""
        return [_pair(size) for size in self.sizes or ()]

    @property
    def masks(self) -> Tensor:
        """1 where each of ``sizes`` has numbers, ``(S, h, w)``."""
        found = torch.zeros(len(self.windows), *self.window)
        for mask, size in zip(found, self.windows, strict=True):
            top, left = ((large - small) // 2 for large, small in zip(self.window, size, strict=True))
            mask[top : self.window[0] - top, left : self.window[1] - left] = 1.0
        return found

    def cut(self, kernel: Tensor) -> tuple[Convolution, Tensor]:
        """The layer and kernel ``(..., h, w)`` of the smallest of ``sizes`` that holds all that is not 0."""
        if self.sizes is None:
            return self, kernel
        holds = [not bool((kernel[..., mask == 0] != 0).any()) for mask in self.masks]
        size = self.sizes[holds.index(True)]
        small = _pair(size)
        top, left = ((a - b) // 2 for a, b in zip(self.window, small, strict=True))
        pad = (self.pad[0] - top, self.pad[1] - left)
        layer = self.model_copy(update={"kernel": size, "padding": pad, "sizes": None})
        return layer, kernel[..., top : top + small[0], left : left + small[1]]

    @property
    def window(self) -> Pair:
        """Rows and columns of the kernel."""
        return _pair(self.kernel)

    @property
    def pad(self) -> Pair:
        """Zeros on each side."""
        height, width = self.window
        return (height // 2, width // 2) if self.padding is None else _pair(self.padding)

    def before_pool(self, size: Pair) -> Pair:
        """Rows and columns of the convolution's output."""
        sides = zip(size, self.pad, self.window, _pair(self.stride), strict=True)
        height, width = ((n + 2 * p - k) // s + 1 for n, p, k, s in sides)
        return height, width

    def __call__(
        self,
        a: Tensor,
        kernels: Tensor,
        biases: Tensor | None,
        groups: int,
        functions: Mapping[str, Function],
        between: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """``a (B, groups C_in, H, W)``, ``kernels (groups C_out, C_in, h, w)`` -> ``(B, groups C_out, H', W')``."""
        a = F.conv2d(a, kernels, biases, _pair(self.stride), self.pad, groups=groups)
        a = a if between is None else between(a)
        a = function_of(self.activation, functions)(a)
        pool = _pair(self.pool)
        return a if pool == (1, 1) else F.max_pool2d(a, pool)


class Stem(BaseModel):
    """Convolutions one after another: an image ``(C, H, W)`` to features.

    Kernels ``(K, C_out, C_in, h, w)`` and biases ``(K, C_out)`` are keyed by layer, 1 to ``len(layers)``. The first layer of a
    shared batch is one convolution with K C_out channels, the others are one with K groups.

    Attributes:
        image: channels, rows and columns of what comes in; the task's inputs are read in this order.
        layers: at least one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    words: ClassVar[str] = "a mapping of image ([channels, rows, columns]) and layers (a list of convolutions)"

    image: tuple[Size, Size, Size]
    layers: Annotated[tuple[Convolution, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _observes_what_stays(self) -> Stem:
        chosen = [number for number, layer in enumerate(self.layers) if layer.sizes is not None]
        behind = [number for number in self.normalised if chosen and number - 1 > chosen[0]]
        if behind:
            raise ValueError(
                f"layers.{behind[0] - 1}.norm behind layers.{chosen[0]}.sizes, of whose mixture its statistics would be; "
                "needed: norms in earlier layers than sizes. Remove one of the two"
            )
        return self

    @property
    def inputs(self) -> int:
        """I: numbers of an image."""
        return math.prod(self.image)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, rows and columns of the image and of what each layer puts out.

        Raises:
            ConfigError: for a layer whose kernel or pool is larger than what comes in.
        """
        found = [self.image]
        for number, layer in enumerate(self.layers, start=1):
            size = layer.before_pool(found[-1][1:])
            pooled = tuple(n // p for n, p in zip(size, _pair(layer.pool), strict=True))
            if min(*size, *pooled) < 1:
                raise ConfigError(
                    f"stem: layer {number} with kernel {layer.kernel}, padding {list(layer.pad)} and pool {layer.pool} does "
                    f"not fit on {found[-1][1]} x {found[-1][2]} pixels; take smaller ones, fewer layers, or [rows, columns]"
                )
            if layer.channels * math.prod(size) > MOST_PIXELS:
                raise ConfigError(
                    f"stem: layer {number} makes {layer.channels} x {size[0]} x {size[1]} numbers of an image; needed: "
                    f"{MOST_PIXELS:,} at most. Take fewer channels, or less padding"
                )
            found.append((layer.channels, pooled[0], pooled[1]))
        return found

    def check_shapes(self) -> None:
        """Refuse a layer that does not fit, as `shapes` does: for a method's factory, before there is a task."""
        _ = self.shapes

    @property
    def places(self) -> list[int]:
        """At how many places of what comes in each layer puts its kernels."""
        return [math.prod(layer.before_pool(size[1:])) for layer, size in zip(self.layers, self.shapes, strict=False)]

    @property
    def features(self) -> int:
        """F: width of layer 0 of the head."""
        return math.prod(self.shapes[-1])

    @property
    def names(self) -> list[str]:
        """One name per feature: ``channel 2 (0, 5)``, with its row and column."""
        channels, height, width = self.shapes[-1]
        return [f"channel {c} ({y}, {x})" for c in range(channels) for y in range(height) for x in range(width)]

    @property
    def activations(self) -> int:
        """Numbers that a sample's way through the stem takes; normalised ones count again."""
        ways = zip(self.places, self.layers, strict=True)
        return sum((1 if layer.norm is None else 2) * layer.channels * places for places, layer in ways)

    @property
    def choosing(self) -> dict[str, int]:
        """The leaf of each layer that chooses the size of its kernels, and among how many."""
        return {f"kernel shares {n}": len(layer.sizes) for n, layer in enumerate(self.layers, start=1) if layer.sizes}

    @property
    def normalised(self) -> list[int]:
        """The layers with a norm, from 1."""
        return [number for number, layer in enumerate(self.layers, start=1) if layer.norm is not None]

    def check(
        self,
        kernels: Mapping[int, Tensor],
        biases: Mapping[int, Tensor],
        norms: Mapping[str, Mapping[int, Tensor]],
        replicas: int,
    ) -> None:
        """Refuse tensors that do not fit; ``norms`` by the names in `NORMS`.

        Raises:
            ContractError: naming the tensor, its shape and the one it must have.
        """
        for name, tensors in norms.items():
            if sorted(tensors) != self.normalised:
                raise ContractError(f"{name} of layers {sorted(tensors)} for a stem with norms in layers {self.normalised}")
            for number, tensor in tensors.items():
                if tensor.shape != (asked := (replicas, self.layers[number - 1].channels)):
                    raise ContractError(f"{name}[{number}] has shape {tuple(tensor.shape)}; the stem asks for {asked}")
        for name, tensors in (("kernels", kernels), ("kernel_biases", biases)):
            if list(tensors) != list(range(1, len(self.layers) + 1)):
                raise ContractError(f"{name} of layers {list(tensors)} for a stem of {len(self.layers)}")
        for number, (shape, layer) in enumerate(zip(self.shapes, self.layers, strict=False), start=1):
            wanted = (replicas, layer.channels, shape[0], *layer.window)
            for name, tensor, size in (("kernels", kernels[number], wanted), ("kernel_biases", biases[number], wanted[:2])):
                if tuple(tensor.shape) != size:
                    raise ContractError(f"{name}[{number}] has shape {tuple(tensor.shape)}; the stem asks for {size}")

    def __call__(
        self,
        kernels: Mapping[int, Tensor],
        biases: Mapping[int, Tensor],
        x: Tensor,
        functions: Mapping[str, Function] = FUNCTIONS,
        between: Between | None = None,
    ) -> Tensor:
        """Layer 0: ``x (I, B)`` shared or ``(K, I, B)`` -> ``(K, F, B)``.

        Norms are folded into the kernels (`nasplug.batchnorm.folded`), or ``between`` normalises and adds the biases.
        """
        k, b = kernels[1].shape[0], x.shape[-1]
        shared = x.dim() == 2
        a = (x.T if shared else x.permute(2, 0, 1)).reshape(b, -1, *self.image[1:])  # (B, C or K C, H, W)
        for number, layer in enumerate(self.layers, start=1):
            groups = 1 if shared and number == 1 else k
            inner = None if between is None or layer.norm is None else partial(between, number)
            bias = biases[number].flatten() if inner is None else None
            a = layer(a, kernels[number].flatten(0, 1), bias, groups, functions, inner)
        return a.reshape(b, k, -1).permute(1, 2, 0)

    def used(self, kernels: Mapping[int, Tensor], features: Tensor) -> dict[int, Tensor]:
        """Which channels reach a feature that is used: ``features`` bool ``(K, F)`` -> layer -> bool ``(K, C_out)``."""
        last = len(self.layers)
        found = {last: features.reshape(-1, *self.shapes[-1]).flatten(2).any(2)}
        for number in range(last - 1, 0, -1):
            reaches = (kernels[number + 1] != 0).flatten(3).any(3) & found[number + 1].unsqueeze(2)  # (K, C_out, C_in)
            found[number] = reaches.any(1)
        return found

    def thinned(self, channels: Sequence[int]) -> Stem:
        """The same stem with as many channels per layer."""
        layers = tuple(layer.model_copy(update={"channels": n}) for layer, n in zip(self.layers, channels, strict=True))
        return self.model_copy(update={"layers": layers})

    def settled(self) -> Stem:
        """The same stem with nothing to choose: kernels as large as the largest."""
        return self.model_copy(update={"layers": tuple(layer.model_copy(update={"sizes": None}) for layer in self.layers)})

    def plain(self) -> Stem:
        """The same stem without norms."""
        return self.model_copy(update={"layers": tuple(layer.model_copy(update={"norm": None}) for layer in self.layers)})


# What a method with a stem says in three places; `stem` is None for a method without.


def entrance(stem: Stem | None, task: Task) -> int:
    """The width of layer 0: the stem's features, or the task's inputs.

    Raises:
        ConfigError: when the stem's image is not the task's.
    """
    if stem is None:
        return task.inputs
    if task.image not in (None, stem.image) or stem.inputs != task.inputs:
        has = f"images of {list(task.image)}" if task.image else f"{task.inputs} inputs"
        raise ConfigError(
            f"stem: image {list(stem.image)} (channels, rows, columns), {stem.inputs} numbers; task {task.name!r} has {has}. "
            "Write the task's own shape, or leave the stem out"
        )
    return stem.features


Point = Callable[[str, Tensor], Tensor]
"""Name of a leaf of shares, and the leaf ``(K, S)`` -> points of the simplex ``(K, S)``."""


def drawn(stem: Stem | None, seeds: Tensor) -> dict[str, Tensor]:
    """Fresh leaves, float64: ``kernel <n> (K, C_out, C_in, h, w)`` and ``kernel bias <n> (K, C_out)``; none without a stem.

    Both ``U[-1, 1] / sqrt(C_in h w)``, as `torch.nn.Conv2d` draws. A normalised layer has no bias but a shift, 0, and
    ``kernel scale <n>``, 1, ``kernel mean <n>``, 0, and ``kernel variance <n>``, 1, each ``(K, C_out)``. A layer with sizes has
    ``kernel <n> (K, S, C_out, C_in, h, w)``, each drawn for its own size, and ``kernel shares <n> (K, S)``, logits, 0.
    """
    leaves: dict[str, Tensor] = {}
    for number, (shape, layer) in enumerate(zip(stem.shapes, stem.layers, strict=False) if stem else (), start=1):
        size = (layer.channels, shape[0], *layer.window)
        bound = 1.0 / math.sqrt(math.prod(size[1:]))
        for name, wanted in ((f"kernel {number}", size), (f"kernel bias {number}", size[:1])):
            leaves[name] = uniform(seeds, f"stem/{name}", wanted, -bound, bound)
        if layer.sizes is not None:
            masks, name = layer.masks.to(leaves[f"kernel {number}"]), f"kernel {number}"
            each = uniform(seeds, f"stem/{name}", (len(layer.sizes), *size), -1.0, 1.0)
            bounds = (shape[0] * masks.sum((1, 2))).rsqrt()[:, None, None, None, None]
            leaves[name] = each * bounds * masks[:, None, None]
            leaves[f"kernel shares {number}"] = each.new_zeros(len(seeds), len(layer.sizes))
        if layer.norm is not None:
            leaves[f"kernel bias {number}"] = torch.zeros_like(leaves[f"kernel bias {number}"])
            for part, name in NORMS.items():
                value = 0.0 if part == "kernel_means" else 1.0
                leaves[f"{name} {number}"] = torch.full_like(leaves[f"kernel bias {number}"], value)
    return leaves


def observed(name: str) -> bool:
    """Whether a leaf is observed and not trained: a channel's running mean or variance."""
    return name.startswith(OBSERVED)


def shared(name: str) -> bool:
    """Whether a leaf says which size of kernels a layer chooses."""
    return name.startswith("kernel shares ")


def mixed(shares: Tensor, kernels: Tensor) -> Tensor:
    """Kernels of several sizes as one: shares ``(K, S)`` and ``(K, S, C_out, C_in, h, w)`` -> ``(K, C_out, C_in, h, w)``."""
    return torch.einsum("ks,kscihw->kcihw", shares, kernels)


def leaves(nets: Any) -> dict[str, Tensor]:
    """The leaves of which `parts` makes the stem's part of `nasplug.networks.Networks`."""
    names = {"kernels": "kernel", "kernel_biases": "kernel bias", **NORMS}
    return {f"{name} {number}": t for part, name in names.items() for number, t in getattr(nets, part).items()}


def _softmax(_: str, leaf: Tensor) -> Tensor:
    return torch.softmax(leaf, -1)


def parts(stem: Stem | None, params: Mapping[str, Tensor], point: Point = _softmax) -> dict[str, Any]:
    """The leaves of `drawn` as arguments of `nasplug.networks.Networks`; ``point``: what makes shares of a leaf."""
    if stem is None:
        return {}
    layers = range(1, len(stem.layers) + 1)
    kernels = {n: params[f"kernel {n}"] for n in layers}
    names = {n: f"kernel shares {n}" for n in layers}  # no walrus below: Dynamo does not compile one in a comprehension
    shares = {n: point(name, params[name]) for n, name in names.items() if name in params}
    each = {n: kernels[n] * stem.layers[n - 1].masks.to(kernels[n])[:, None, None] for n in shares}
    return {
        "stem": stem,
        "kernels": kernels | {n: mixed(share, each[n]) for n, share in shares.items()},
        "kernel_shares": shares,
        "kernel_parts": each,
        "kernel_biases": {n: params[f"kernel bias {n}"] for n in layers},
        **{part: {n: params[f"{name} {n}"] for n in stem.normalised} for part, name in NORMS.items()},
    }
