"""The kernel: one program trains one network for many steps, its weights and moments on the chip.

It is what `nasplug.train.step` does to a canonical network of one to three layers, in float32. Weights, biases and both moments
are read once, moved ``steps`` times and written once. Layers are padded to powers of two; what is padded is 0 and stays 0.

Triton reads this module as source: `nasplug.engine.running` alone imports it, where Triton is installed. The interpreter
(``TRITON_INTERPRET=1``, before this module is imported) runs it on a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["many_steps"]


@triton.jit
def _product(a, b):
    """``a (M, K) @ b (K, N)``: by the units for products where all sides are 16 or more, else multiplied and summed."""
    if a.shape[0] >= 16 and a.shape[1] >= 16 and b.shape[1] >= 16:
        return tl.dot(a, b, input_precision="ieee")
    else:
        return tl.sum(a[:, :, None] * b[None, :, :], 1)


@triton.jit
def _outer(d, a):
    """``d (M, B) @ a (N, B)^T``: what a batch adds to a block's gradient."""
    if d.shape[0] >= 16 and a.shape[0] >= 16 and d.shape[1] >= 16:
        return tl.dot(d, tl.trans(a), input_precision="ieee")
    else:
        return tl.sum(d[:, None, :] * a[None, :, :], 2)


@triton.jit
def _back(w, d):
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
def _value(z, KIND: tl.constexpr):
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
def _slope(z, KIND: tl.constexpr):
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
def _layer(z, share, WIDTH: tl.constexpr, KIND: tl.constexpr, SHARED: tl.constexpr):
    """``(1 - s) f(z) + s z`` with the ``share`` s; 0 in padded neurons, where f(0) may not be."""
    a = _value(z, KIND)
    if SHARED:
        a = (1.0 - share) * a + share * z
    if z.shape[0] > WIDTH:
        a = tl.where(tl.arange(0, z.shape[0])[:, None] < WIDTH, a, 0.0)
    return a


@triton.jit
def _through(d, z, share, KIND: tl.constexpr, SHARED: tl.constexpr):
    """The slope in sums from the slope ``d`` in values."""
    slope = _slope(z, KIND)
    if SHARED:
        slope = (1.0 - share) * slope + share
    return d * slope


@triton.jit
def _losses(o, y, here, delta, smooth, WIDTH: tl.constexpr, KIND: tl.constexpr):
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
            slope = _sign(o - y)
        elif KIND == "huber":
            away = tl.abs(o - y)
            near = tl.where(away > delta, delta, away)
            each = near * (away - near * 0.5)
            slope = near * _sign(o - y)
        else:
            each = (o - y) * (o - y)
            slope = 2.0 * (o - y)
        value = tl.sum(tl.where(here, each, 0.0), 0) / WIDTH
        slope = tl.where(here, slope / WIDTH, 0.0)
    return value, slope


@triton.jit
def _sign(w):
    return tl.where(w > 0, 1.0, tl.where(w < 0, -1.0, w))  # of 0 it is 0, of NaN it is NaN


@triton.jit
def _pulls(squares_in, squares_out, families, first, count, numbers, stride):
    """The groups of one layer's neurons: their penalty, and what weights that enter and leave are pulled by, per weight."""
    value = tl.sum(squares_in * 0.0)
    enter = squares_in * 0.0
    leave = squares_in * 0.0
    for f in range(first, first + count):
        at = families + f * 5
        level = tl.load(numbers + tl.load(at).to(tl.int32) * stride)
        entering, leaving = tl.load(at + 1), tl.load(at + 2)
        factor, unit = level * tl.load(at + 3), tl.load(at + 4)
        squares = entering * squares_in + leaving * squares_out
        some = squares > 0
        norm = tl.where(some, tl.sqrt_rn(tl.where(some, squares, 1.0)), squares)
        if unit > 0:
            ratio = norm / unit
            size = unit * tl.log(1.0 + ratio)
            pull = factor / (1.0 + ratio)
        else:
            size = norm
            pull = norm * 0.0 + factor
        value += factor * tl.sum(size)
        pull = tl.where(some, pull / tl.where(some, norm, 1.0), 0.0)
        enter += entering * pull
        leave += leaving * pull
    return value, enter, leave


@triton.jit
def _moved(
    w,
    g,
    m,
    v,
    lr,
    rate,
    correct,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    DECAY: tl.constexpr,
    DECOUPLED: tl.constexpr,
):
    """Adam, in the order of `nasplug.optimizers.Adam`."""
    if not DECOUPLED:
        g = g + DECAY * w
    m = m + (g - m) * (1.0 - BETA1)
    v = v * BETA2 + (1.0 - BETA2) * g * g
    step = m * rate / (tl.sqrt_rn(v * correct) + EPS)
    if DECOUPLED:
        w = w * (1.0 - lr * DECAY)
    return w - step, m, v


@triton.jit
def _read_block(at, TO: tl.constexpr, FROM: tl.constexpr, UP: tl.constexpr, WIDE: tl.constexpr):
    r, c = tl.arange(0, UP)[:, None], tl.arange(0, WIDE)[None, :]
    return tl.load(at + r * FROM + c, mask=(r < TO) & (c < FROM), other=0.0)


@triton.jit
def _write_block(at, w, TO: tl.constexpr, FROM: tl.constexpr):
    r, c = tl.arange(0, w.shape[0])[:, None], tl.arange(0, w.shape[1])[None, :]
    tl.store(at + r * FROM + c, w, mask=(r < TO) & (c < FROM))


@triton.jit
def _read_line(at, TO: tl.constexpr, UP: tl.constexpr):
    r = tl.arange(0, UP)
    return tl.load(at + r, mask=r < TO, other=0.0)


@triton.jit
def _write_line(at, b, TO: tl.constexpr):
    r = tl.arange(0, b.shape[0])
    tl.store(at + r, b, mask=r < TO)


@triton.jit(do_not_specialize=["steps", "rows", "batch", "x_row", "y_row", "weights_row"])
def many_steps(
    leaves,  # (3, K, P): parameters and both moments; of each row its blocks and biases, layer by layer
    x,  # (N, I), or (K, N, I)
    y,  # (N, O), or (K, N, O)
    weights,  # (N,), or (K, N); not read without WEIGHTED
    order,  # (steps, batch), int32; not read without ORDERED
    numbers,  # (steps, 2 + PENALTIES, K): learning rate, share of the identity, levels
    corrections,  # (steps, 2): Adam's
    absolute,  # (PENALTIES, DEPTH): what a penalty multiplies the absolute weights of a layer by
    families,  # (F, 5): number of the level, entering, leaving, factor, unit; by layer of neurons
    told,  # (2, K): loss and penalty before the last step
    steps,
    rows,
    batch,
    x_row,
    y_row,
    weights_row,
    delta,
    smooth,
    limit,
    BETA1: tl.constexpr,  # as they are: 1 - 0.999 in float32 is off by 4e-5 of it
    BETA2: tl.constexpr,
    EPS: tl.constexpr,
    DECAY: tl.constexpr,
    DEPTH: tl.constexpr,
    D0: tl.constexpr,  # widths
    D1: tl.constexpr,
    D2: tl.constexpr,
    D3: tl.constexpr,
    E0: tl.constexpr,  # padded
    E1: tl.constexpr,
    E2: tl.constexpr,
    E3: tl.constexpr,
    BIASED: tl.constexpr,
    CHUNK: tl.constexpr,
    KIND: tl.constexpr,
    SHARED: tl.constexpr,
    LOSS: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ORDERED: tl.constexpr,
    PENALTIES: tl.constexpr,
    ABSOLUTE: tl.constexpr,
    F0: tl.constexpr,  # how many families of each layer of neurons
    F1: tl.constexpr,
    F2: tl.constexpr,
    CLIPPED: tl.constexpr,
    DECOUPLED: tl.constexpr,
):
    """``steps`` steps of the row of this program."""
    row = tl.program_id(0)
    long = row.to(tl.int64)
    B: tl.constexpr = 1 if BIASED else 0
    P1: tl.constexpr = D1 * (D0 + B)
    P2: tl.constexpr = P1 + (D2 * (D1 + B) if DEPTH >= 2 else 0)
    P3: tl.constexpr = P2 + (D3 * (D2 + B) if DEPTH >= 3 else 0)
    OUT: tl.constexpr = D1 if DEPTH == 1 else (D2 if DEPTH == 2 else D3)
    EO: tl.constexpr = E1 if DEPTH == 1 else (E2 if DEPTH == 2 else E3)
    pw = leaves + long * P3
    pm = pw + rows.to(tl.int64) * P3
    pv = pm + rows.to(tl.int64) * P3
    x = x + long * x_row
    y = y + long * y_row
    weights = weights + long * weights_row

    w1, m1, v1 = _read_block(pw, D1, D0, E1, E0), _read_block(pm, D1, D0, E1, E0), _read_block(pv, D1, D0, E1, E0)
    if BIASED:
        b1, bm1, bv1 = _read_line(pw + D1 * D0, D1, E1), _read_line(pm + D1 * D0, D1, E1), _read_line(pv + D1 * D0, D1, E1)
    if DEPTH >= 2:
        w2 = _read_block(pw + P1, D2, D1, E2, E1)
        m2 = _read_block(pm + P1, D2, D1, E2, E1)
        v2 = _read_block(pv + P1, D2, D1, E2, E1)
        if BIASED:
            b2 = _read_line(pw + P1 + D2 * D1, D2, E2)
            bm2 = _read_line(pm + P1 + D2 * D1, D2, E2)
            bv2 = _read_line(pv + P1 + D2 * D1, D2, E2)
    if DEPTH >= 3:
        w3 = _read_block(pw + P2, D3, D2, E3, E2)
        m3 = _read_block(pm + P2, D3, D2, E3, E2)
        v3 = _read_block(pv + P2, D3, D2, E3, E2)
        if BIASED:
            b3 = _read_line(pw + P2 + D3 * D2, D3, E3)
            bm3 = _read_line(pm + P2 + D3 * D2, D3, E3)
            bv3 = _read_line(pv + P2 + D3 * D2, D3, E3)

    inputs = tl.arange(0, E0)[:, None]
    outputs = tl.arange(0, EO)[:, None]
    loss = 0.0
    penalty = 0.0
    for t in range(steps):
        now = numbers + t * (2 + PENALTIES) * rows + row
        lr = tl.load(now)
        share = tl.load(now + rows)
        levels = now + 2 * rows

        g1 = tl.zeros([E1, E0], tl.float32)
        if BIASED:
            h1 = tl.zeros([E1], tl.float32)
        if DEPTH >= 2:
            g2 = tl.zeros([E2, E1], tl.float32)
            if BIASED:
                h2 = tl.zeros([E2], tl.float32)
        if DEPTH >= 3:
            g3 = tl.zeros([E3, E2], tl.float32)
            if BIASED:
                h3 = tl.zeros([E3], tl.float32)
        loss = 0.0
        counted = 0.0
        for start in range(0, batch, CHUNK):
            at = start + tl.arange(0, CHUNK)
            there = at < batch
            if ORDERED:
                at = tl.load(order + t * batch + at, mask=there, other=0)
            if WEIGHTED:
                weight = tl.load(weights + at, mask=there, other=0.0)
            else:
                weight = tl.where(there, 1.0, 0.0)
            xs = tl.load(x + at[None, :] * D0 + inputs, mask=there[None, :] & (inputs < D0), other=0.0)
            here = there[None, :] & (outputs < OUT)
            ys = tl.load(y + at[None, :] * OUT + outputs, mask=here, other=0.0)

            z1 = _product(w1, xs)
            if BIASED:
                z1 += b1[:, None]
            if DEPTH == 1:
                o = z1
            if DEPTH >= 2:
                a1 = _layer(z1, share, D1, KIND, SHARED)
                z2 = _product(w2, a1)
                if BIASED:
                    z2 += b2[:, None]
                if DEPTH == 2:
                    o = z2
            if DEPTH >= 3:
                a2 = _layer(z2, share, D2, KIND, SHARED)
                z3 = _product(w3, a2)
                if BIASED:
                    z3 += b3[:, None]
                o = z3

            value, d = _losses(o, ys, outputs < OUT, delta, smooth, OUT, LOSS)
            counts = weight > 0  # a sample without weight is not looked at, whatever its value
            loss += tl.sum(tl.where(counts, value * weight, 0.0))
            counted += tl.sum(weight)
            d = tl.where(counts[None, :], d * weight[None, :], 0.0)
            if DEPTH >= 3:
                g3 += _outer(d, a2)
                if BIASED:
                    h3 += tl.sum(d, 1)
                d2 = _through(_back(w3, d), z2, share, KIND, SHARED)
            if DEPTH == 2:
                d2 = d
            if DEPTH >= 2:
                g2 += _outer(d2, a1)
                if BIASED:
                    h2 += tl.sum(d2, 1)
                d1 = _through(_back(w2, d2), z1, share, KIND, SHARED)
            if DEPTH == 1:
                d1 = d
            g1 += _outer(d1, xs)
            if BIASED:
                h1 += tl.sum(d1, 1)

        counted = tl.where(counted > 0, counted, 1.0)
        loss = loss / counted
        g1 = g1 / counted
        if BIASED:
            h1 = h1 / counted
        if DEPTH >= 2:
            g2 = g2 / counted
            if BIASED:
                h2 = h2 / counted
        if DEPTH >= 3:
            g3 = g3 / counted
            if BIASED:
                h3 = h3 / counted

        penalty = 0.0
        if ABSOLUTE:
            c1, c2, c3 = 0.0, 0.0, 0.0
            for p in range(PENALTIES):
                level = tl.load(levels + p * rows)
                c1 += level * tl.load(absolute + p * DEPTH)
                if DEPTH >= 2:
                    c2 += level * tl.load(absolute + p * DEPTH + 1)
                if DEPTH >= 3:
                    c3 += level * tl.load(absolute + p * DEPTH + 2)
            penalty += c1 * tl.sum(tl.abs(w1))
            g1 += c1 * _sign(w1)
            if DEPTH >= 2:
                penalty += c2 * tl.sum(tl.abs(w2))
                g2 += c2 * _sign(w2)
            if DEPTH >= 3:
                penalty += c3 * tl.sum(tl.abs(w3))
                g3 += c3 * _sign(w3)
        if F0 > 0:
            out = tl.sum(w1 * w1, 0)
            size, enter, leave = _pulls(out * 0.0, out, families, 0, F0, levels, rows)
            penalty += size
            g1 += leave[None, :] * w1
        if F1 > 0:
            size, enter, leave = _pulls(tl.sum(w1 * w1, 1), tl.sum(w2 * w2, 0), families, F0, F1, levels, rows)
            penalty += size
            g1 += enter[:, None] * w1
            g2 += leave[None, :] * w2
        if F2 > 0:
            size, enter, leave = _pulls(tl.sum(w2 * w2, 1), tl.sum(w3 * w3, 0), families, F0 + F1, F2, levels, rows)
            penalty += size
            g2 += enter[:, None] * w2
            g3 += leave[None, :] * w3

        if CLIPPED:
            norm = tl.sum(g1 * g1)
            if BIASED:
                norm += tl.sum(h1 * h1)
            if DEPTH >= 2:
                norm += tl.sum(g2 * g2)
                if BIASED:
                    norm += tl.sum(h2 * h2)
            if DEPTH >= 3:
                norm += tl.sum(g3 * g3)
                if BIASED:
                    norm += tl.sum(h3 * h3)
            norm = tl.sqrt_rn(norm)
            held = limit / tl.where(norm < 1e-12, 1e-12, norm)
            held = tl.where(held > 1.0, 1.0, held)
            g1 = g1 * held
            if BIASED:
                h1 = h1 * held
            if DEPTH >= 2:
                g2 = g2 * held
                if BIASED:
                    h2 = h2 * held
            if DEPTH >= 3:
                g3 = g3 * held
                if BIASED:
                    h3 = h3 * held

        rate = lr * tl.load(corrections + 2 * t)
        correct = tl.load(corrections + 2 * t + 1)
        w1, m1, v1 = _moved(w1, g1, m1, v1, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)
        if BIASED:
            b1, bm1, bv1 = _moved(b1, h1, bm1, bv1, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)
        if DEPTH >= 2:
            w2, m2, v2 = _moved(w2, g2, m2, v2, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)
            if BIASED:
                b2, bm2, bv2 = _moved(b2, h2, bm2, bv2, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)
        if DEPTH >= 3:
            w3, m3, v3 = _moved(w3, g3, m3, v3, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)
            if BIASED:
                b3, bm3, bv3 = _moved(b3, h3, bm3, bv3, lr, rate, correct, BETA1, BETA2, EPS, DECAY, DECOUPLED)

    _write_block(pw, w1, D1, D0)
    _write_block(pm, m1, D1, D0)
    _write_block(pv, v1, D1, D0)
    if BIASED:
        _write_line(pw + D1 * D0, b1, D1)
        _write_line(pm + D1 * D0, bm1, D1)
        _write_line(pv + D1 * D0, bv1, D1)
    if DEPTH >= 2:
        _write_block(pw + P1, w2, D2, D1)
        _write_block(pm + P1, m2, D2, D1)
        _write_block(pv + P1, v2, D2, D1)
        if BIASED:
            _write_line(pw + P1 + D2 * D1, b2, D2)
            _write_line(pm + P1 + D2 * D1, bm2, D2)
            _write_line(pv + P1 + D2 * D1, bv2, D2)
    if DEPTH >= 3:
        _write_block(pw + P2, w3, D3, D2)
        _write_block(pm + P2, m3, D3, D2)
        _write_block(pv + P2, v3, D3, D2)
        if BIASED:
            _write_line(pw + P2 + D3 * D2, b3, D3)
            _write_line(pm + P2 + D3 * D2, bm3, D3)
            _write_line(pv + P2 + D3 * D2, bv3, D3)
    tl.store(told + row, loss)
    tl.store(told + rows + row, penalty)
