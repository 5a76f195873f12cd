"""Certificates never lie, however far the candidates' scales are apart: on drawn outputs, on networks, and through a study."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from nasplug import networks, results
from nasplug.networks import Networks
from nasplug.replicas import normal, uniform
from nasplug.study import Study
from nasplug.tasks import CrossEntropy, Split
from nasplug.testing import example_networks, example_score
from nasplug_mixture import certificate, certificates, certify

torch.set_num_threads(1)
DRAWS, SAMPLES = 64, 16
SLACK = 1e-9
"""Of the pair that is compared: far above what float64 loses, far below what a user would see."""


def drawn(seed: int, h: int, ratio: float, sharp: float, small: bool) -> tuple[Tensor, Tensor]:
    """Outputs ``(K, A, 1, N)`` whose scales spread up to the ratio, and shares ``(K, A)``; small: for what is large."""
    seeds = torch.arange(seed, seed + DRAWS)
    scale = ratio ** uniform(seeds, "scale", (h,), 0.0, 1.0)
    scale[:, 0] = ratio  # both ends are there
    scale[:, 1] = 1.0
    common = normal(seeds, "common", (1, 1, SAMPLES))
    f = (common + normal(seeds, "own", (h, 1, SAMPLES))) * scale[..., None, None]
    logits = sharp * normal(seeds, "logits", (h,)) - (scale.log() if small else 0.0)
    return f, torch.softmax(logits, -1)


def stationary(f: Tensor, a: Tensor, seed: int, size: float) -> Tensor:
    """Targets with a residual that is orthogonal to every ``f_i - f_a``, as far as float64 gets: ``(K, 1, N)``."""
    f_a = (a[..., None, None] * f).sum(1)
    span = (f - f_a.unsqueeze(1)).flatten(2)
    span = span / span.square().sum(-1, keepdim=True).sqrt()  # directions count, not lengths
    r = size * normal(torch.arange(seed, seed + len(f)), "residual", (1, SAMPLES))
    q = torch.linalg.svd(span, full_matrices=False)[2][:, :-1]
    return f_a + r - (r @ q.mT) @ q


def losses(f: Tensor, y: Tensor) -> Tensor:
    """The candidates' losses of these very numbers, summed exactly: float64 ``(K, A)``."""
    away = (y.double().unsqueeze(1) - f.double()).flatten(2)  # (K, A, N)
    return torch.tensor([[math.fsum(v * v for v in row) / (2 * len(row)) for row in rows] for rows in away.tolist()]).double()


def right(loss: Tensor, chosen: Tensor) -> Tensor:
    """Whether no candidate has less loss than the chosen one, beyond rounding of the two."""
    return loss.gather(1, chosen.unsqueeze(1)).squeeze(1) <= loss.amin(1) * (1.0 + SLACK)


ANY = {
    "seed": st.integers(0, 10**6),
    "h": st.integers(2, 6),
    "power": st.floats(0.0, 8.0),
    "sharp": st.floats(0.0, 3.0),
    "small": st.booleans(),
    "size": st.sampled_from([0.0, 0.1, 1.0]),
    "dtype": st.sampled_from([torch.float32, torch.float64]),
}


@settings(max_examples=80, deadline=None)
@given(**ANY, noise=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]))
@example(seed=0, h=3, power=4.0, sharp=1.0, small=True, size=1.0, dtype=torch.float64, noise=1.0)
@example(seed=0, h=3, power=6.0, sharp=1.0, small=True, size=1.0, dtype=torch.float32, noise=1.0)
@example(seed=0, h=4, power=8.0, sharp=1.0, small=False, size=0.1, dtype=torch.float64, noise=0.0)
def test_nothing_proven_is_false(
    seed: int, h: int, power: float, sharp: float, small: bool, size: float, dtype: torch.dtype, noise: float
) -> None:
    """Ratios 1 to 1e8, with and without residual, stationary or not, in float32 and float64."""
    f, a = drawn(seed, h, 10.0**power, sharp, small)
    y = stationary(f, a, seed, size) + noise * normal(torch.arange(seed, seed + DRAWS), "noise", (1, SAMPLES))
    f, a, y = f.to(dtype), a.to(dtype), y.to(dtype)
    some = certificate(f, a, y)
    assert some.sure is not None
    assert some.best is not None
    loss = losses(f, y)
    assert bool(right(loss, some.closest)[some.sure].all())
    assert bool(right(loss, some.best).all())


@settings(max_examples=40, deadline=None)
@given(seed=ANY["seed"], h=ANY["h"], power=ANY["power"], sharp=ANY["sharp"], small=ANY["small"])
@example(seed=0, h=3, power=5.0, sharp=1.0, small=True)
@example(seed=0, h=6, power=8.0, sharp=0.0, small=False)
def test_where_the_mixture_is_the_target_everything_is_right(
    seed: int, h: int, power: float, sharp: float, small: bool
) -> None:
    """Realisable: the closest candidate has the least loss, and all is proven; label-free and Condition 6 name no other."""
    f, a = drawn(seed, h, 10.0**power, sharp, small)
    y = (a[..., None, None] * f).sum(1)
    some = certificate(f, a, y)
    assert some.sure is not None
    assert some.condition6 is not None
    loss = losses(f, y)
    assert bool(right(loss, some.closest).all())
    assert bool(some.sure.all())
    assert bool(right(loss, some.largest)[some.label_free | some.condition6].all())


@settings(max_examples=30, deadline=None)
@given(seed=ANY["seed"], sharp=ANY["sharp"], power=ANY["power"], small=ANY["small"], dtype=ANY["dtype"])
def test_two_candidates_have_one_distance_at_any_ratio(
    seed: int, sharp: float, power: float, small: bool, dtype: torch.dtype
) -> None:
    """D_1 = D_2 on paper, whatever the scales are and the shares were rounded to."""
    f, a = drawn(seed, 2, 10.0**power, sharp, small)
    some = certificate(f.to(dtype), a.to(dtype))
    assert bool((some.lead == 0).all())
    assert bool(some.label_free.all())


@settings(max_examples=30, deadline=None)
@given(seed=ANY["seed"], h=ANY["h"], sharp=st.floats(0.3, 3.0), size=ANY["size"], dtype=ANY["dtype"])
def test_on_ordinary_scales_everything_stationary_is_proven(
    seed: int, h: int, sharp: float, size: float, dtype: torch.dtype
) -> None:
    """With shares that differ; of equal ones, float32 targets make one candidate better by a hundred-millionth, truly."""
    f, a = drawn(seed, h, 1.0, sharp, False)
    some = certificate(f.to(dtype), a.to(dtype), stationary(f, a, seed, size).to(dtype))
    assert some.sure is not None
    assert float(some.sure.double().mean()) >= (1.0 if dtype == torch.float64 else 0.95)


@settings(max_examples=30, deadline=None)
@given(seed=ANY["seed"], h=st.integers(3, 6), power=ANY["power"])
def test_a_large_candidate_that_was_dropped_changes_nothing_for_the_others(seed: int, h: int, power: float) -> None:
    """Its share is 0: with it or without it the same candidate is the closest, and the same pairs have a lead."""
    f, a = drawn(seed, h, 1.0, 1.0, False)
    large = torch.cat([f, 10.0**power * (3.0 + f[:, :1].abs())], 1)
    alone, beside = certificate(f, a), certificate(large, F.pad(a, (0, 1)))
    assert torch.equal(alone.closest, beside.closest)
    assert torch.equal(alone.lead.sign(), beside.lead[:, :h, :h].sign())


def test_differences_below_a_billionth_of_a_third_candidate_are_seen() -> None:
    """Two candidates of size 1 beside one of 1e6: a billionth of its Q is 500, and once hid which of the two is closer."""
    f = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[1e6, 1e6]]]]).double()
    a = torch.tensor([[0.3, 0.7, 0.0]]).double()
    y = torch.tensor([[[0.9, 0.1]]]).double()
    some = certificate(f, a, y)
    assert (some.closest.tolist(), some.largest.tolist()) == ([1], [1])
    assert some.best is not None
    assert some.sure is not None
    assert (some.best.tolist(), some.sure.tolist()) == ([0], [False])
    assert some.asked is not None
    assert some.asked[0, 0].tolist() == [False, True, True]


def test_equal_candidates_are_proven_and_argmax_is_not_blamed() -> None:
    """Two names for one function: whichever is taken has the least loss."""
    nets = example_networks(1, 8, (2, 4, 1), ["biases"], skips=False)
    share = torch.tensor([0.2, 0.3, 0.5]).double().expand(8, 1, 3)
    alike = replace(nets, candidates=("relu", "relu", "relu"), choices={1: share})
    found = certify(alike, example_score(alike.widths))
    assert all(one["sites_proven"] == one["closest_least"] == one["argmax_least"] == 1 for one in found)
    assert all(one["argmax_wrong"] == 0 for one in found)


def test_argmin_l_stands_beside_the_closest_in_data_and_words() -> None:
    nets = example_networks(0, 6, (2, 3, 4, 2), ["choices", "biases"], skips=False)
    score = example_score(nets.widths)
    found = certify(nets, score)
    for one in found:
        for site in one["sites"]:
            least = min(range(3), key=lambda c, site=site: site["L"][c])  # type: ignore[misc]
            assert site["least_loss"] == one["candidates"][least]
            assert site["closest_least"] == (site["closest"] == site["least_loss"])
            assert site["argmax_least"] == (site["largest"] == site["least_loss"])
            assert f"{site['least_loss']} has the least loss" in site["verdict"]
        assert one["closest_least"] == sum(site["closest_least"] for site in one["sites"])
        assert f"the largest share at {one['argmax_least']}" in one["verdict"]
    unlabelled = certify(nets, type(score)(replace(score.task, loss=CrossEntropy())))  # type: ignore[call-arg]
    assert all("argmin L" not in site["verdict"] and "least_loss" not in site for one in unlabelled for site in one["sites"])
    assert not any({"closest_least", "argmax_least"} & set(one) for one in unlabelled)


@pytest.mark.parametrize("own", [False, True])
def test_a_large_candidate_leaves_the_digits_of_a_small_one(own: bool) -> None:
    """L of each candidate is that of the network with it, to rounding of itself, with inputs of 1e8."""
    nets = example_networks(2, 5, (3, 6, 2), ["biases", "gates"], skips=True)
    share = torch.softmax(normal(torch.arange(5), "share", (6 if own else 1, 3)), -1)
    soft = replace(nets, candidates=("relu", "tanh", "sigmoid"), choices={1: share})
    soft = replace(soft, blocks={edge: w for edge, w in soft.blocks.items() if edge != (2, 0)})
    task = example_score(soft.widths).task
    task = replace(task, train=Split(1e8 * task.train.x, task.train.y))
    ((_, some),) = certificates(soft, task)
    assert some.loss is not None
    for c in range(3):
        if own:
            mixed = F.one_hot(torch.tensor(1), 3).double().expand(5, 6, 3).clone()
            mixed[:, 2] = F.one_hot(torch.tensor(c), 3).double()
            others = replace(soft, choices={1: torch.where(torch.arange(6).view(1, 6, 1) == 2, share, mixed)})
            ((_, found),) = certificates(others, task)
            assert found.loss is not None
            loss = found.loss[:, 2, c]
        else:
            mixed = F.one_hot(torch.tensor(c), 3).double().expand(5, 1, 3)
            loss = some.loss[:, 0, c]
        f = networks.forward(replace(soft, choices={1: mixed}), task.train.x)
        torch.testing.assert_close(loss, (f - task.train.y).square().mean((1, 2)) / 2, rtol=1e-12, atol=0.0)


# -- through a study ---------------------------------------------------------------------------------------------------


def raw_study(folder: Path, scale: float, per: str) -> Study:
    """Networks that search on inputs as they come; relu and elu put out ``scale`` times what tanh and sigmoid do."""
    random = np.random.default_rng(0)
    z = random.normal(size=(200, 2))
    y = np.tanh(z[:, 0]) + 0.5 * np.sin(z[:, 1]) + 0.1 * random.normal(size=200)
    np.savez(folder / "raw.npz", x=scale * z, y=y)
    return Study.from_dict(
        {
            "study": "raw",
            "store": str(folder / "runs"),
            "task": {
                "use": "arrays",
                "validation": "holdout",
                "path": str(folder / "raw.npz"),
                "standardise": False,
                "kind": "regression",
            },
            "method": {"use": "mixture", "hidden": [6], "per": per, "candidates": ["relu", "tanh", "sigmoid", "elu"]},
            "discretizers": [{"use": "closest"}],
            "train": {"steps": 300, "lr": 1.0, "batch": "full"},
            "seeds": 48 if per == "layer" else 8,
            "linear": False,
            "mlflow": None,
        }
    )


def by_hand(nets: Networks, x: Tensor, y: Tensor) -> Tensor:
    """Losses of hard networks of one layer with each candidate in the place of the one they have: ``(K, A)``."""
    found = []
    for c in range(len(nets.candidates)):
        hot = F.one_hot(torch.tensor(c), len(nets.candidates)).double().expand_as(nets.choices[1])
        found.append((networks.forward(replace(nets, choices={1: hot}), x) - y).square().mean((1, 2)) / 2)
    return torch.stack(found, 1)


@pytest.mark.parametrize(("per", "scale"), [("layer", 1.0), ("layer", 1e5), ("layer", 1e6), ("neuron", 1e6)])
def test_a_study_with_raw_inputs_proves_nothing_false(tmp_path: Path, per: str, scale: float) -> None:
    done = raw_study(tmp_path, scale, per)
    done.run(runner="serial")
    frame, task = done.frame, done.task
    proven = 0
    for pack, rows in frame.groupby(frame["replica"].str.partition("/")[0]):
        nets = done.networks(str(pack)).map(lambda t: t.double())
        loss = by_hand(nets, task.train.x.double(), task.train.y.double())
        for name in rows["replica"]:
            found: Any = results.certificate(done.folder, str(name))
            mine = int(str(name).partition("/")[2])
            assert json.loads(json.dumps(found, allow_nan=False)) == found
            for site in found["sites"]:
                if not site["proven"]:
                    continue
                proven += 1
                chosen = found["candidates"].index(site["closest"])
                assert site["L"][chosen] <= min(site["L"]) * (1.0 + 1e-5)  # six digits are written
                assert site["closest_least"]
                if per == "layer":
                    assert float(loss[mine, chosen]) <= float(loss[mine].min()) * (1.0 + SLACK)
    assert proven == frame["certificate_sites_proven"].sum()
    assert proven > 0
