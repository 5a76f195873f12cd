"""Certificates of any operations before a linear readout, and what is and is not proven of several sites."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.replicas import normal, uniform
from nasplug_mixture import Certificate, certificate, joint, read

torch.set_num_threads(1)
DRAWS, SAMPLES, FROM, TO, OUT = 32, 12, 4, 3, 2
KINDS = ("linear", "low_rank", "residual", "gated", "none", "copy", "nearly", "large", "noise")


def operations(seeds: Tensor, kinds: list[str]) -> Tensor:
    """What operations with weights of their own put out, ``(K, A, H, N)``, for one input ``(K, H, N)``."""
    h = normal(seeds, "h", (FROM, SAMPLES))
    found: list[Tensor] = []
    for place, kind in enumerate(kinds):

        def w(name: str, *shape: int, place: int = place) -> Tensor:
            return normal(seeds, f"{place} {name}", shape)

        if kind == "low_rank":
            one = w("u", TO, 1) @ (w("v", 1, FROM) @ h)
        elif kind == "residual":
            one = h[:, :TO]
        elif kind == "gated":
            one = (w("w", TO, FROM) @ h) * torch.sigmoid(w("g", TO, FROM) @ h)
        elif kind == "none":
            one = torch.zeros(len(seeds), TO, SAMPLES, dtype=torch.float64)
        elif kind == "noise":
            one = w("any", TO, SAMPLES)
        elif kind in ("copy", "nearly") and found:
            one = found[-1] + (1e-7 * w("apart", TO, SAMPLES) if kind == "nearly" else 0.0)
        else:
            one = (1e6 if kind == "large" else 1.0) * (w("w", TO, FROM) @ h)
        found.append(one)
    return torch.stack(found, 1)


def site(seed: int, kinds: list[str], sharp: float) -> tuple[Tensor, Tensor]:
    """Outputs with each operation alone ``(K, A, O, N)``, and shares."""
    seeds = torch.arange(seed, seed + DRAWS)
    readout, past = normal(seeds, "readout", (OUT, TO)), normal(seeds, "past", (OUT, SAMPLES))
    shares = torch.softmax(sharp * normal(seeds, "logits", (len(kinds),)), -1)
    return read(operations(seeds, kinds), readout, past), shares


def mixed(f: Tensor, a: Tensor) -> Tensor:
    return (a[..., None, None] * f).sum(-3)


def settled(f_a: Tensor, away: Tensor, seed: int, size: float) -> Tensor:
    """Targets with a residual that is orthogonal to every row of ``away (K, R, ON)``."""
    r = size * normal(torch.arange(seed, seed + len(f_a)), "residual", tuple(f_a.shape[1:])).flatten(1)
    _, s, q = torch.linalg.svd(away, full_matrices=False)
    q = q * (s > 1e-10 * s[:, :1]).unsqueeze(-1)
    for _ in range(2):
        r = r - (q.mT @ (q @ r.unsqueeze(-1))).squeeze(-1)
    return f_a + r.view_as(f_a)


def losses(f: Tensor, y: Tensor) -> Tensor:
    """Of each hard choice, ``(K, A)``: what exhaustive search sees."""
    return torch.stack([(y - one).square().mean((-1, -2)) / 2 for one in f.unbind(-3)], -1)


def right(found: Tensor, chosen: Tensor, f: Tensor) -> Tensor:
    """Whether no choice has less loss, beyond what rounding of these two can tell apart."""
    mine = found.gather(-1, chosen.unsqueeze(-1))
    return (mine - found <= 1e-12 * (mine + found) + 1e-30).all(-1)


kinds = st.lists(st.sampled_from(KINDS), min_size=2, max_size=6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), some=kinds, sharp=st.floats(0.0, 4.0), size=st.floats(0.0, 3.0))
def test_the_identity_asks_nothing_of_operations(seed: int, some: list[str], sharp: float, size: float) -> None:
    f, a = site(seed, some, sharp)
    y = size * normal(torch.arange(seed, seed + DRAWS), "y", (OUT, SAMPLES))
    found = certificate(f, a, y)
    assert found.c is not None
    assert found.residual is not None
    identity = found.q - (1.0 - a) * found.c + found.residual.unsqueeze(-1)
    scale = found.q.amax(-1, keepdim=True) + found.residual.unsqueeze(-1)  # of the three terms, which may cancel
    assert bool(((losses(f, y) - identity).abs() <= 1e-12 * scale).all())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    some=kinds,
    sharp=st.floats(0.0, 4.0),
    size=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    noise=st.sampled_from([0.0, 1e-6, 1e-2, 1.0]),
)
def test_what_is_sure_of_operations_is_never_wrong(seed: int, some: list[str], sharp: float, size: float, noise: float) -> None:
    """At stationary points and off them, against every hard choice."""
    f, a = site(seed, some, sharp)
    f_a = mixed(f, a)
    y = settled(f_a, (f - f_a.unsqueeze(1)).flatten(2), seed, size)
    y = y + noise * normal(torch.arange(seed, seed + DRAWS), "noise", (OUT, SAMPLES))
    found = certificate(f, a, y)
    assert found.sure is not None
    assert bool(right(losses(f, y), found.closest, f)[found.sure].all())
    if noise == 0.0 and "large" not in some and "nearly" not in some:
        assert bool(found.sure.all())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), some=kinds, sharp=st.floats(0.0, 3.0))
def test_c_is_the_slope_along_the_simplex(seed: int, some: list[str], sharp: float) -> None:
    """``(1 - a_i) C_i = -(g_i - sum_k a_k g_k)``, g the gradient of the loss in the shares."""
    some = [kind for kind in some if kind != "large"] + ["linear", "none"]
    f, a = site(seed, some, sharp)
    y = normal(torch.arange(seed, seed + DRAWS), "y", (OUT, SAMPLES))
    leaf = a.clone().requires_grad_()
    loss = (y - mixed(f, leaf)).square().mean((-1, -2)).sum() / 2
    (g,) = torch.autograd.grad(loss, leaf)
    found = certificate(f, a, y)
    assert found.c is not None
    torch.testing.assert_close((1.0 - a) * found.c, (a * g).sum(-1, keepdim=True) - g, atol=1e-9, rtol=1e-9)


def test_weights_inside_that_have_converged_make_linear_maps_stationary() -> None:
    """Where a linear map is among the operations and its weights have converged, C is 0 for every linear one: any shares."""
    seeds = torch.arange(DRAWS)
    h, y = normal(seeds, "h", (FROM, SAMPLES)), normal(seeds, "y", (OUT, SAMPLES))
    readout, rest = normal(seeds, "readout", (OUT, TO)), normal(seeds, "rest", (TO, 1)) @ normal(seeds, "low", (1, FROM))
    readout[:, :, OUT:] = 0.0
    a = torch.softmax(normal(seeds, "logits", (3,)), -1)
    best = torch.linalg.lstsq(h.mT, y.mT).solution.mT  # (K, O, H): V (a_1 W + a_2 rest) should be it
    wanted = torch.linalg.pinv(readout) @ best
    w = (wanted - a[:, 1, None, None] * rest) / a[:, 0, None, None]
    columns = torch.stack([w @ h, rest @ h, torch.zeros(DRAWS, TO, SAMPLES, dtype=torch.float64)], 1)
    found = certificate(read(columns, readout), a, y)
    assert found.gap is not None
    assert found.sure is not None
    assert float(found.gap.max()) < 1e-8
    assert bool(right(losses(read(columns, readout), y), found.closest, columns).all())


def two(seed: int, some: list[str], others: list[str], sharp: float) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Two sites that enter one readout: parts, shares and the past."""
    seeds = torch.arange(seed, seed + DRAWS)
    parts, shares = [], []
    for name, mine in (("one", some), ("two", others)):
        own = seeds + (10**7 if name == "two" else 0)
        parts.append(read(operations(own, mine), normal(own, "readout", (OUT, TO))))
        shares.append(torch.softmax(sharp * normal(own, "logits", (len(mine),)), -1))
    return parts, shares, normal(seeds, "past", (OUT, SAMPLES))


few = st.lists(st.sampled_from([kind for kind in KINDS if kind not in ("large", "nearly")]), min_size=2, max_size=4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), some=few, others=few, sharp=st.floats(0.0, 3.0), size=st.sampled_from([0.0, 1.0, 5.0]))
def test_the_closest_pair_is_the_best_pair(seed: int, some: list[str], others: list[str], sharp: float, size: float) -> None:
    """Where each of two sites before one readout is stationary, argmin Q over pairs is right: the product is one site."""
    parts, shares, past = two(seed, some, others, sharp)
    f, a = joint(parts, shares, past)
    f_a = past + sum(mixed(part, share) for part, share in zip(parts, shares, strict=True))
    torch.testing.assert_close(mixed(f, a), f_a)
    away = torch.cat([part - mixed(part, share).unsqueeze(1) for part, share in zip(parts, shares, strict=True)], 1)
    y = settled(f_a, away.flatten(2), seed, size)
    found = certificate(f, a, y)
    assert found.sure is not None
    assert bool(found.sure.all())
    assert bool(right(losses(f, y), found.closest, f).all())


def numbers(*values: float) -> Tensor:
    """One sample, one output: what operations put out, ``(A, 1, 1)``."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def proven(f: Tensor, a: Tensor, y: Tensor) -> Certificate:
    found = certificate(f, a, y)
    assert bool(found.sure)  # type: ignore[arg-type]
    return found


def test_two_proven_sites_need_not_be_the_best_pair() -> None:
    """The smallest case: two sites of two numbers, one sample, one output, realised exactly. Each site alone is proven."""
    ours, shares = numbers(0.4, -0.6), torch.tensor([0.6, 0.4], dtype=torch.float64)
    y = numbers(0.0)[0]
    for _ in ("first", "second"):  # with the other one mixed, which adds 0.4 * 0.6 - 0.6 * 0.4 = 0
        one = proven(ours, shares, y)
        assert int(one.largest) == int(one.closest) == int(one.best) == 0  # type: ignore[arg-type]
    f, a = joint([ours, ours], [shares, shares])
    pair = proven(f, a, y)
    torch.testing.assert_close(losses(f, y), torch.tensor([0.32, 0.02, 0.02, 0.72], dtype=torch.float64))
    assert int(a.argmax()) == 0  # the mode of the product: loss 0.32
    assert int(pair.closest) in (1, 2)  # the best pair: loss 0.02


def test_sites_in_series_are_not_one_site() -> None:
    """f = u v: stationary, and the closest pair is (2, 2), also the mode; the best one is (1, 1). One sample, one output."""
    u, share = torch.tensor([1.0, -0.5], dtype=torch.float64), torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    leaves = [share.clone().requires_grad_() for _ in range(2)]
    f_a = (leaves[0] * u).sum() * (leaves[1] * u).sum()
    loss = (1.0 - f_a).square() / 2
    for g in torch.autograd.grad(loss, leaves):
        torch.testing.assert_close(g, g.mean().expand(2))  # no slope along the simplex
    f = torch.outer(u, u).flatten().view(-1, 1, 1)
    found = certificate(f, torch.outer(share, share).flatten(), numbers(1.0)[0])
    assert int(found.closest) == int(found.largest) == 3
    assert int(found.best) == 0  # type: ignore[arg-type]
    assert not bool(found.sure)  # type: ignore[arg-type]


def test_a_sampling_search_can_settle_on_a_pair_that_is_not_the_best() -> None:
    """E L over products of shares, two sites of two: (2, 2) is a strict local minimum with loss 1, (1, 1) has loss 0."""
    table = torch.tensor([[0.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    for _ in range(2000):
        leaf = logits.clone().requires_grad_()
        a, b = torch.softmax(leaf, -1)
        (g,) = torch.autograd.grad(a @ table @ b, leaf)
        logits = logits - g
    assert torch.softmax(logits, -1)[:, 1].min() > 0.99
    assert table.argmin() == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(2, 4), min_size=1, max_size=3), sharp=st.floats(0.0, 3.0))
def test_what_is_proven_of_sampling(seed: int, sizes: list[int], sharp: float) -> None:
    """The mode's loss is at most E L / P(mode); fixing sites one by one by conditional expectation never exceeds E L."""
    table = uniform(torch.tensor([seed]), "table", tuple(sizes))[0]  # losses >= 0
    shares = [torch.softmax(sharp * normal(torch.tensor([seed]), f"{s}", (n,))[0], -1) for s, n in enumerate(sizes)]

    def expected(left: Tensor) -> Tensor:
        for share in reversed(shares[len(shares) - left.dim() :]):
            left = left @ share
        return left

    whole = float(expected(table))
    mode = tuple(int(share.argmax()) for share in shares)
    chance = float(torch.stack([share.max() for share in shares]).prod())
    assert float(table[mode]) <= whole / chance * (1 + 1e-12)
    left = table
    for _ in shares:
        left = left[int(torch.stack([expected(one) for one in left]).argmin())]
    assert float(left) <= whole * (1 + 1e-12)
    if len(sizes) == 1:  # E L is linear: its slope names the best candidate, and no other vertex is a local minimum
        assert int(left == table.min())


def test_the_order_of_tuples() -> None:
    parts = [numbers(1.0, 2.0), numbers(10.0, 20.0, 30.0)]
    f, a = joint(parts, [torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.3, 0.2])], numbers(100.0)[0])
    assert f.flatten().tolist() == [100 + x + y for x, y in itertools.product((1, 2), (10, 20, 30))]
    torch.testing.assert_close(a.sum(), torch.tensor(1.0))
    with pytest.raises(ConfigError, match="tuples at most"):
        joint([numbers(*range(70))] * 2, [torch.ones(70) / 70] * 2)
