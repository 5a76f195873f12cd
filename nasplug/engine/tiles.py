"""What the kernel does to a tile, samples as columns: products of layers, activations and losses with their slopes.

As `nasplug.engine.kernel`, it is read by Triton as source.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "activation",
    "activation_slope",
    "back",
    "layer_of",
    "losses_of",
    "outer",
    "product",
    "sign",
    "through",
]


@triton.jit
def product(a, b):
    """``a (M, K) @ b (K, N)``: by the units for products where all sides are 16 or more, else multiplied and summed."""
    if a.shape[0] >= 16 and a.shape[1] >= 16 and b.shape[1] >= 16:
        return tl.dot(a, b, input_precision="ieee")
    else:
        return tl.sum(a[:, :, None] * b[None, :, :], 1)


@triton.jit
def outer(d, a):
    """``d (M, B) @ a (N, B)^T``: what a batch adds to a block's gradient."""
    if d.shape[0] >= 16 and a.shape[0] >= 16 and d.shape[1] >= 16:
        return tl.dot(d, tl.trans(a), input_precision="ieee")
    else:
        return tl.sum(d[:, None, :] * a[None, :, :], 2)


@triton.jit
def back(w, d):
    """``w (M, N)^T @ d (M, B)``: the slope in a layer's values from that in the sums of the next."""
    if w.shape[0] >= 16 and w.shape[1] >= 16 and d.shape[1] >= 16:
        return tl.dot(tl.trans(w), d, input_precision="ieee")
    else:
        return tl.sum(w[:, :, None] * d[:, None, :], 0)


@triton.jit
def _sigmoid(z):
    e = tl.exp(-tl.abs(z))  # at most 1
    return tl.where(z < 0, e, 1.0) / (1.0 + e)


@triton.jit
def _tanh(z):
    """By the exponential; near 0, where that loses digits, by the series."""
    e = tl.exp(-2.0 * tl.abs(z))
    far = (1.0 - e) / (1.0 + e)
    s = z * z
    near = z * (1.0 - s * (0.33333333 - s * (0.13333333 - s * 0.05396825)))
    return tl.where(tl.abs(z) < 0.1, near, tl.where(z < 0, -far, far))


@triton.jit
def activation(z, KIND: tl.constexpr):
    """``f(z)``; NaN stays NaN, which `tl.maximum` would hide."""
    if KIND == "relu":
        return tl.where(z < 0, 0.0, z)
    elif KIND == "leaky_relu":
        return tl.where(z < 0, 0.01 * z, z)
    elif KIND == "tanh":
        return _tanh(z)
    elif KIND == "sigmoid":
        return _sigmoid(z)
    elif KIND == "silu":
        return z * _sigmoid(z)
    elif KIND == "elu":
        return tl.where(z > 0, z, tl.exp(tl.where(z > 0, 0.0, z)) - 1.0)
    elif KIND == "softplus":
        return tl.where(z < 0, 0.0, z) + tl.log(1.0 + tl.exp(-tl.abs(z)))
    elif KIND == "gelu":
        return 0.5 * z * (1.0 + tl.erf(z * 0.70710678))
    elif KIND == "sin":
        return tl.sin(z)
    else:
        return z


@triton.jit
def activation_slope(z, KIND: tl.constexpr):
    """``f'(z)``, at a kink as torch has it."""
    if KIND == "relu":
        return tl.where(z > 0, 1.0, 0.0)
    elif KIND == "leaky_relu":
        return tl.where(z > 0, 1.0, 0.01)
    elif KIND == "tanh":
        a = _tanh(z)
        return 1.0 - a * a
    elif KIND == "sigmoid":
        a = _sigmoid(z)
        return a * (1.0 - a)
    elif KIND == "silu":
        a = _sigmoid(z)
        return a * (1.0 + z * (1.0 - a))
    elif KIND == "elu":
        return tl.exp(tl.where(z > 0, 0.0, z))
    elif KIND == "softplus":
        return _sigmoid(z)
    elif KIND == "gelu":
        return 0.5 * (1.0 + tl.erf(z * 0.70710678)) + z * 0.39894228 * tl.exp(-0.5 * z * z)
    elif KIND == "sin":
        return tl.cos(z)
    else:
        return z * 0.0 + 1.0


@triton.jit
def layer_of(z, share, WIDTH: tl.constexpr, KIND: tl.constexpr, SHARED: tl.constexpr):
    """``(1 - s) f(z) + s z`` with the ``share`` s; 0 in padded neurons, where f(0) may not be."""
    a = activation(z, KIND)
    if SHARED:
        a = (1.0 - share) * a + share * z
    if z.shape[0] > WIDTH:
        a = tl.where(tl.arange(0, z.shape[0])[:, None] < WIDTH, a, 0.0)
    return a


@triton.jit
def through(d, z, share, KIND: tl.constexpr, SHARED: tl.constexpr):
    """The slope in sums from the slope ``d`` in values."""
    slope = activation_slope(z, KIND)
    if SHARED:
        slope = (1.0 - share) * slope + share
    return d * slope


@triton.jit
def losses_of(o, y, here, delta, smooth, WIDTH: tl.constexpr, KIND: tl.constexpr):
    """Of outputs ``o (O, B)``: the loss of each sample ``(B,)`` and its slope ``(O, B)``, 0 in padded outputs."""
    if KIND == "cross_entropy":
        seen = tl.where(here, o, float("-inf"))
        most = tl.max(seen, 0)
        e = tl.where(here, tl.exp(seen - most[None, :]), 0.0)
        total = tl.sum(e, 0)
        target = (1.0 - smooth) * y + tl.where(here, smooth / WIDTH, 0.0)
        value = tl.log(total) + most - tl.sum(target * o, 0)
        slope = e / total[None, :] - target
    else:
        if KIND == "logistic":
            each = tl.where(o < 0, 0.0, o) + tl.log(1.0 + tl.exp(-tl.abs(o))) - o * y
            slope = _sigmoid(o) - y
        elif KIND == "mae":
            each = tl.abs(o - y)
            slope = sign(o - y)
        elif KIND == "huber":
            away = tl.abs(o - y)
            near = tl.where(away > delta, delta, away)
            each = near * (away - near * 0.5)
            slope = near * sign(o - y)
        else:
            each = (o - y) * (o - y)
            slope = 2.0 * (o - y)
        value = tl.sum(tl.where(here, each, 0.0), 0) / WIDTH
        slope = tl.where(here, slope / WIDTH, 0.0)
    return value, slope


@triton.jit
def sign(w):
    """-1, 0 or 1; of NaN it is NaN."""
    return tl.where(w > 0, 1.0, tl.where(w < 0, -1.0, w))
