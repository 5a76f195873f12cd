"""The laws of `nasplug.testing`, what the choices are in each mode, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.testing import SearchMethodLaws, example_task
from nasplug_mixture import USUAL, mixture

SEEDS = torch.arange(3)
ONE = torch.ones(3, dtype=torch.float64)


class TestNeurons(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [5]}


class TestGumbel(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [4], "sampling": "gumbel", "candidates": ["relu", "tanh", "sigmoid"]}


class TestLayersOnTheSimplexStraightThrough(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {
        "hidden": [4, 3],
        "per": "layer",
        "candidates": ["relu", "tanh", "sin"],
        "sampling": "straight_through",
        "parametrisation": "simplex",
        "bias": False,
    }


class TestBehindAStem(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {
        "hidden": [3],
        "candidates": ["relu", "tanh"],
        "sampling": "gumbel",
        "stem": {"image": [1, 1, 3], "layers": [{"channels": 2, "sizes": [[1, 1], [1, 3]]}]},
    }


def soft(tau: float, noise: Tensor | None = None, logits: Tensor | None = None, **options: Any) -> Networks:
    method = mixture(hidden=[4], **options)
    params = method.init(example_task(), SEEDS)
    if logits is not None:
        params["choice 1"] = logits.expand_as(params["choice 1"])
    return method.relax(params, ONE * tau, noise)


def test_it_starts_with_all_candidates_alike() -> None:
    for how in ("softmax", "simplex"):
        choice = soft(0.3, parametrisation=how).choices[1]
        torch.testing.assert_close(choice, torch.full((3, 4, 7), 1 / 7).double())
    assert soft(1.0, per="layer").choices[1].shape == (3, 1, 7)
    assert mixture().candidates == USUAL  # type: ignore[attr-defined]


def test_softmax_hardens_with_tau_and_the_simplex_does_not() -> None:
    logits = torch.tensor([0.1, 0.3, 0.2]).double()
    three = ["relu", "tanh", "sin"]
    torch.testing.assert_close(soft(0.5, logits=logits, candidates=three).choices[1][0, 0], torch.softmax(logits / 0.5, 0))
    assert soft(0.0, logits=logits, candidates=three).choices[1][0, 0].tolist() == [0.0, 1.0, 0.0]
    point = torch.tensor([0.2, 0.5, 0.3]).double()
    same = soft(0.01, logits=point, candidates=three, parametrisation="simplex").choices[1][0, 0]
    torch.testing.assert_close(same, point)


def test_what_is_architecture_and_what_is_on_the_simplex() -> None:
    both = {"choice 1", "choice 2"}
    softmax, simplex = (mixture(hidden=[3, 4], parametrisation=how) for how in ("softmax", "simplex"))
    assert softmax.traits.architecture == simplex.traits.architecture == both
    assert softmax.traits.simplex == frozenset()
    assert simplex.traits.simplex == both


@pytest.mark.parametrize("how", ["softmax", "simplex"])
def test_draws_follow_the_shares(how: str) -> None:
    """Gumbel's draws are hard near tau 0, each candidate as often as its share; every row and neuron draws for itself."""
    share = torch.tensor([0.1, 0.6, 0.3]).double()
    leaf = share.log() if how == "softmax" else share
    method = mixture(hidden=[400], candidates=["relu", "tanh", "sin"], parametrisation=how, sampling="gumbel")
    params = method.init(example_task(), SEEDS)
    params["choice 1"] = leaf.expand_as(params["choice 1"])
    drawn = method.relax(params, ONE, SEEDS + 5).choices[1]
    hard = torch.nn.functional.one_hot(drawn.argmax(-1), 3).double()  # (K, H, A)
    torch.testing.assert_close(hard.mean((0, 1)), share, atol=0.05, rtol=0)
    assert not torch.equal(hard[0], hard[1])
    near = method.relax(params, ONE * 0.01, SEEDS + 5).choices[1]
    torch.testing.assert_close(near.argmax(-1), drawn.argmax(-1))
    torch.testing.assert_close(method.relax(params, ONE).choices[1], share.expand(3, 400, 3))


def test_straight_through_is_hard_forwards_and_soft_backwards() -> None:
    options = {"hidden": [6], "candidates": ["relu", "tanh", "sin"]}
    hard, gumbel = (mixture(**options, sampling=how) for how in ("straight_through", "gumbel"))  # type: ignore[arg-type]
    found = []
    for method in (hard, gumbel):
        params = {n: p.requires_grad_() for n, p in method.init(example_task(), SEEDS).items()}
        choice = method.relax(params, ONE * 0.7, SEEDS + 5).choices[1]
        weights = torch.arange(18, dtype=torch.float64).view(6, 3).sin()
        (gradient,) = torch.autograd.grad((choice * weights).sum(), params["choice 1"])
        found.append((choice.detach(), gradient))
    assert bool(((found[0][0] == 0) | (found[0][0] == 1)).all())
    assert torch.equal(found[0][0].argmax(-1), found[1][0].argmax(-1))
    torch.testing.assert_close(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": []}, "at least one hidden layer"),
        ({"hidden": [4, 0]}, "at least one neuron"),
        ({"candidates": ["relu"]}, "at least 2 activations"),
        ({"candidates": ["relu", "tanh", "relu"]}, "relu more than once"),
    ],
)
def test_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mixture(**options)
