"""The kernel: one program trains one network for many steps, its weights and moments on the chip.

It is what `nasplug.train.step` does to a canonical network of one to three layers, in float32. Weights, biases and both moments
are read once, moved ``steps`` times and written once. Layers are padded to powers of two; what is padded is 0 and stays 0.

Triton reads this module as source: `nasplug.engine.running` alone imports it, where Triton is installed. The interpreter
(``TRITON_INTERPRET=1``, before this module is imported) runs it on a CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nasplug.engine.tiles import back, layer_of, losses_of, outer, product, sign, through

__all__ = ["many_steps"]


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

            z1 = product(w1, xs)
            if BIASED:
                z1 += b1[:, None]
            if DEPTH == 1:
                o = z1
            if DEPTH >= 2:
                a1 = layer_of(z1, share, D1, KIND, SHARED)
                z2 = product(w2, a1)
                if BIASED:
                    z2 += b2[:, None]
                if DEPTH == 2:
                    o = z2
            if DEPTH >= 3:
                a2 = layer_of(z2, share, D2, KIND, SHARED)
                z3 = product(w3, a2)
                if BIASED:
                    z3 += b3[:, None]
                o = z3

            value, d = losses_of(o, ys, outputs < OUT, delta, smooth, OUT, LOSS)
            counts = weight > 0  # a sample without weight is not looked at, whatever its value
            loss += tl.sum(tl.where(counts, value * weight, 0.0))
            counted += tl.sum(weight)
            d = tl.where(counts[None, :], d * weight[None, :], 0.0)
            if DEPTH >= 3:
                g3 += outer(d, a2)
                if BIASED:
                    h3 += tl.sum(d, 1)
                d2 = through(back(w3, d), z2, share, KIND, SHARED)
            if DEPTH == 2:
                d2 = d
            if DEPTH >= 2:
                g2 += outer(d2, a1)
                if BIASED:
                    h2 += tl.sum(d2, 1)
                d1 = through(back(w2, d2), z1, share, KIND, SHARED)
            if DEPTH == 1:
                d1 = d
            g1 += outer(d1, xs)
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
            g1 += c1 * sign(w1)
            if DEPTH >= 2:
                penalty += c2 * tl.sum(tl.abs(w2))
                g2 += c2 * sign(w2)
            if DEPTH >= 3:
                penalty += c3 * tl.sum(tl.abs(w3))
                g3 += c3 * sign(w3)
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
