"""Noise against the same arithmetic in Python's whole numbers, its statistics, and what is done row by row."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.replicas import clip, column, finite, normal, orthogonal, seeds_of, take, uniform

few = settings(max_examples=25, deadline=None)
whole = st.integers(-(2**63), 2**63 - 1)
EXTREMES = [0, 1, -1, 2**63 - 1, -(2**63), 2**31, -(2**31) - 1, 0x9E3779B97F4A7C15 - 2**64]


def splitmix(value: int) -> int:
    """The finaliser of splitmix64, on whole numbers modulo 2^64."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)


def reference(seed: int, stream: str, count: int) -> list[int]:
    golden = 0x9E3779B97F4A7C15
    key = splitmix((splitmix(seed % 2**64) + golden * (zlib.crc32(stream.encode()) + 1)) % 2**64)
    return [splitmix((key + golden * index) % 2**64) for index in range(1, count + 1)]


# Noise.


@few
@given(seeds=st.lists(whole, min_size=1, max_size=4), stream=st.text(max_size=8))
def test_uniform_is_splitmix(seeds: list[int], stream: str) -> None:
    wanted = [[(bits >> 11) * 2.0**-53 for bits in reference(seed, stream, 6)] for seed in seeds]
    assert uniform(torch.tensor(seeds), stream, (2, 3)).flatten(1).tolist() == wanted
    assert seeds_of(torch.tensor(seeds), stream).tolist() == [reference(seed, stream, 1)[0] >> 1 for seed in seeds]


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 3), (0,), (0, 2)])
def test_shapes(shape: tuple[int, ...]) -> None:
    seeds = torch.tensor(EXTREMES)
    for found in (uniform(seeds, "a", shape), normal(seeds, "a", shape)):
        assert found.shape == (len(EXTREMES), *shape)
        assert found.dtype == torch.float64
        assert found.isfinite().all()


@few
@given(seeds=st.lists(whole, min_size=1, max_size=6), data=st.data())
def test_a_row_is_the_same_in_any_pack(seeds: list[int], data: st.DataObject) -> None:
    order = torch.tensor(data.draw(st.lists(st.integers(0, len(seeds) - 1), min_size=1, max_size=6)))
    all_seeds = torch.tensor(seeds)
    for make in (uniform, normal):
        assert torch.equal(make(all_seeds, "w", (3, 2))[order], make(all_seeds[order], "w", (3, 2)))
    assert torch.equal(orthogonal(all_seeds, "w", 3, 2)[order], orthogonal(all_seeds[order], "w", 3, 2))
    assert torch.equal(seeds_of(all_seeds, "w")[order], seeds_of(all_seeds[order], "w"))


def test_noise_has_no_memory_and_no_global_seed() -> None:
    seeds = torch.tensor(EXTREMES)
    torch.manual_seed(1)
    first = normal(seeds, "a", (4,))
    state = torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(3)
    assert torch.equal(normal(seeds, "a", (4,)), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_whole_numbers_of_any_kind_are_seeds() -> None:
    for kind in (torch.int8, torch.int32, torch.int64):
        assert torch.equal(uniform(torch.tensor([3, -7], dtype=kind), "a", (4,)), uniform(torch.tensor([3, -7]), "a", (4,)))


def test_seeds_and_streams_all_differ() -> None:
    seeds = torch.tensor(EXTREMES)
    rows = torch.cat([uniform(seeds, stream, (4,)) for stream in ("a", "b", "", "step 1", "step 11")])
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)


@pytest.mark.slow
def test_noise_is_the_same_in_another_process() -> None:
    code = "import torch; from nasplug.replicas import normal; print(normal(torch.tensor([5, -5]), 'x', (3,)).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(normal(torch.tensor([5, -5]), "x", (3,)).tolist())


def spread(values: Tensor) -> float:
    return 5.0 / math.sqrt(values.numel())  # five standard errors of a mean of unit-variance numbers


def test_moments() -> None:
    seeds = torch.arange(-500, 500)
    u = (uniform(seeds, "u", (1000,)) - 0.5) * math.sqrt(12)
    n = normal(seeds, "n", (1000,))
    for values in (u, n):
        assert abs(float(values.mean())) < spread(values)
        assert abs(float(values.square().mean()) - 1.0) < 1.5 * spread(values)
        assert abs(float((values**3).mean())) < 4 * spread(values)
    assert abs(float((n**4).mean()) - 3.0) < 10 * spread(n)
    assert abs(float((u**4).mean()) - 1.8) < 2 * spread(u)


@pytest.mark.parametrize("over", ["elements", "seeds", "streams", "derived"])
def test_the_whole_distribution_is_normal(over: str) -> None:
    """Kolmogorov and Smirnov's distance, along each way in which numbers are made."""
    count = 20_000
    if over == "elements":
        values = normal(torch.tensor([0]), "n", (count,))[0]
    elif over == "seeds":
        values = normal(torch.arange(count), "n", ())
    elif over == "streams":
        values = torch.cat([normal(torch.arange(10), f"step {t}", ()) for t in range(count // 10)])
    else:
        seeds = torch.arange(10)
        values = torch.cat([normal(seeds_of(seeds, f"step {t}"), "n", ()) for t in range(count // 10)])
    ordered = values.sort().values
    cumulative = (1.0 + torch.erf(ordered / math.sqrt(2))) / 2
    step = torch.arange(1, count + 1) / count
    assert float((cumulative - step).abs().max()) < 1.95 / math.sqrt(count)  # 0.1 % of good generators fail


def correlation(one: Tensor, other: Tensor) -> float:
    a, b = one.flatten() - one.mean(), other.flatten() - other.mean()
    return float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())


@pytest.mark.parametrize("make", [uniform, normal])
def test_neighbours_do_not_know_each_other(make: type) -> None:
    noise = make(torch.arange(400), "step 1", (400,))  # type: ignore[call-arg]
    other = make(torch.arange(400), "step 2", (400,))  # type: ignore[call-arg]
    bound = spread(noise)
    for lag in (1, 2, 64, 256):
        assert abs(correlation(noise[lag:], noise[:-lag])) < bound * 2  # seeds
        assert abs(correlation(noise[:, lag:], noise[:, :-lag])) < bound * 2  # elements
    assert abs(correlation(noise[1:, :-1], noise[:-1, 1:])) < bound  # a seed's stream is not its neighbour's, shifted
    assert abs(correlation(noise, other)) < bound  # streams
    assert abs(correlation(noise[1:], other[:-1])) < bound
    rows = noise - noise.mean(1, keepdim=True)
    single = (rows[1:] * rows[:-1]).mean(1) / (rows[1:].square().mean(1) * rows[:-1].square().mean(1)).sqrt()
    assert float(single.abs().max()) < 5.0 / math.sqrt(400)  # no single pair of neighbours either


def test_every_bit_of_a_uniform_number_is_fair() -> None:
    whole_numbers = (uniform(torch.arange(300), "bits", (300,)) * 2.0**53).long()
    for bit in range(53):
        share = float(((whole_numbers >> bit) & 1).double().mean())
        assert abs(share - 0.5) < 0.5 * spread(whole_numbers), bit
    assert whole_numbers.unique().numel() == whole_numbers.numel()


def test_uniform_bounds() -> None:
    values = uniform(torch.arange(100), "u", (1000,), -3.0, 5.0)
    assert -3.0 <= float(values.min()) < -2.99
    assert 4.99 < float(values.max()) < 5.0
    assert torch.allclose(values, -3.0 + 8.0 * uniform(torch.arange(100), "u", (1000,)))


def test_derived_seeds() -> None:
    seeds = torch.arange(-5000, 5000)
    derived = torch.cat([seeds_of(seeds, stream) for stream in ("step 1", "step 2")])
    assert derived.dtype == torch.long
    assert (derived >= 0).all()
    assert derived.unique().numel() == derived.numel()
    assert abs(correlation(normal(seeds, "n", ()), normal(seeds_of(seeds, "step 1"), "n", ()))) < 5.0 / 100


# Orthogonal matrices.


@few
@given(rows=st.integers(1, 7), columns=st.integers(1, 5), seed=whole)
def test_orthogonal_rows(rows: int, columns: int, seed: int) -> None:
    found = orthogonal(torch.tensor([seed, 3]), "w", rows, columns)
    assert found.shape == (2, rows, columns)
    for first in range(0, rows, columns):
        group = found[:, first : first + columns]
        eye = torch.eye(group.shape[1], dtype=torch.float64).expand(2, -1, -1)
        assert torch.allclose(group @ group.transpose(1, 2), eye, rtol=0, atol=1e-12)
    if rows > columns:
        assert not torch.allclose(found[:, 0], found[:, columns].abs())


def test_a_few_wide_orthogonal_rows_cost_no_square() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seeds = torch.tensor([3, 5])
    found = orthogonal(seeds, "w", 4, 20_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; a square one has 3.2 million
    assert torch.allclose(found @ found.transpose(1, 2), torch.eye(4, dtype=torch.float64).expand(2, -1, -1), atol=1e-12)
    assert torch.equal(orthogonal(seeds[1:], "w", 4, 20_000)[0], found[1])


def test_no_seeds_have_shapes() -> None:
    none = torch.zeros(0, dtype=torch.long)
    assert uniform(none, "w", (10**9, 10**9)).shape == (0, 10**9, 10**9)
    assert normal(none, "w", (3,)).shape == (0, 3)
    assert orthogonal(none, "w", 6, 4).shape == (0, 6, 4)
    assert orthogonal(none, "w", 3, 10**6).shape == (0, 3, 10**6)


def test_orthogonal_matrices_have_no_favourite_direction() -> None:
    """Haar: each entry has mean 0 and variance 1 / n (without the sign of R the diagonal has not), and both determinants."""
    found = orthogonal(torch.arange(4000), "w", 3, 3)
    assert float(found.mean(0).abs().max()) < 5 * math.sqrt(1 / 3) / math.sqrt(4000)
    assert float((found.square().mean(0) - 1 / 3).abs().max()) < 5 * 0.3 / math.sqrt(4000)
    assert abs(float((torch.linalg.det(found) > 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(4000)


# Row by row.


def gradients(rows: int, seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    seeds = torch.arange(seed, seed + rows)
    sizes = (10.0 ** uniform(seeds, "size", (), -3, 3)) * scale
    shapes: dict[str, tuple[int, ...]] = {"w": (3, 2), "b": (4,), "alone": ()}
    return {name: normal(seeds, name, shape) * column(sizes, torch.empty(rows, *shape)) for name, shape in shapes.items()}


@few
@given(rows=st.integers(1, 5), seed=st.integers(0, 1000), limit=st.floats(1e-2, 1e2))
def test_clip_is_torchs_row_by_row(rows: int, seed: int, limit: float) -> None:
    found = gradients(rows, seed)
    clipped = clip(found, limit)
    for k in range(rows):
        leaves = {name: torch.zeros_like(g[k]).requires_grad_() for name, g in found.items()}
        for name, leaf in leaves.items():
            leaf.grad = found[name][k].clone()
        norm = float(torch.nn.utils.clip_grad_norm_(leaves.values(), limit))
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            slack = 1e-6 / max(norm, 1e-6)  # torch divides by norm + 1e-6
            assert torch.allclose(clipped[name][k], leaf.grad, rtol=2 * slack + 1e-12, atol=0), (k, name)
        after = math.sqrt(sum(float(g[k].square().sum()) for g in clipped.values()))
        assert after == pytest.approx(min(norm, limit), rel=1e-12)


def test_clip_of_broken_rows() -> None:
    found = gradients(4, 0, 100.0)
    wanted = clip(found, 1.0)
    found["w"][1, 0, 0] = torch.nan
    found["b"][2] = torch.inf
    for g in found.values():
        g[3] = 0.0
    clipped = clip(found, 1.0)
    for name, g in clipped.items():
        assert torch.equal(g[0], wanted[name][0])
        assert (g[3] == 0).all()
    assert clipped["w"][1].isnan().all()
    assert not clipped["b"][2].isfinite().any()


def test_finite_says_which_rows_are() -> None:
    tensors = {"w": torch.ones(4, 2, 2), "b": torch.ones(4, 3), "alone": torch.ones(4), "count": torch.tensor(torch.nan)}
    assert finite(tensors).tolist() == [True] * 4
    tensors["w"][0, 1, 1] = torch.nan
    tensors["b"][2, 0] = -torch.inf
    assert finite(tensors).tolist() == [False, True, False, True]
    tensors["alone"][3] = torch.inf
    assert finite(tensors).tolist() == [False, True, False, False]


def test_take_leaves_what_all_rows_share() -> None:
    tensors = {"w": torch.arange(6.0).view(3, 2), "count": torch.tensor(7.0)}
    some = take(tensors, torch.tensor([2, 0]))
    assert some["w"].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert some["count"].item() == 7.0


def test_column_broadcasts() -> None:
    values = torch.arange(3.0)
    assert column(values, torch.empty(3, 4, 5)).shape == (3, 1, 1)
    assert column(values, torch.empty(3)).shape == (3,)
