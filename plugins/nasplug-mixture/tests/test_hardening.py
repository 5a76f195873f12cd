"""The laws, and what each discretizer is for, on networks whose answer is known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug import networks
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.study import Study
from nasplug.tasks import Kind, SquaredError, stack
from nasplug.testing import DiscretizerLaws, example_networks, example_score, example_task
from nasplug.train import ValidationLoss
from nasplug_mixture import certify, closest, least, ranked
from nasplug_mixture.latency import latencies

KINDS: list[Kind] = ["regression", "binary", "classes"]
COSTS = {"tanh": 5.0, "relu": 1.0, "identity": 0.5}


class TestClosest(DiscretizerLaws):
    name = "closest"


class TestLeast(DiscretizerLaws):
    name = "least"


class TestRankedInFull(DiscretizerLaws):
    name = "ranked"
    options: ClassVar = {"most": 81}


class TestRankedWithinALimit(DiscretizerLaws):
    name = "ranked"
    options: ClassVar = {"most": 1, "costs": COSTS, "limit": 6.0}


def soft(k: int = 12, widths: tuple[int, ...] = (2, 3, 4, 2)) -> Networks:
    return example_networks(0, k, widths, ["choices", "biases"], skips=False)


def every(nets: Networks) -> list[tuple[Networks, Tensor]]:
    """All hard networks and their costs."""
    shares = torch.cat([nets.choices[layer] for layer in sorted(nets.choices)], 1)
    sizes = [nets.choices[layer].shape[1] for layer in sorted(nets.choices)]
    price = torch.tensor(list(COSTS.values())).double()
    found = []
    for combination in itertools.product(range(3), repeat=shares.shape[1]):
        hot = torch.eye(3).double()[list(combination)].expand(len(shares), -1, -1)
        parts = hot.split_with_sizes(sizes, 1)
        choices = dict(zip(sorted(nets.choices), parts, strict=True))
        neurons = [1 if c.shape[1] > 1 else nets.widths[layer] for layer, c in choices.items() for _ in range(c.shape[1])]
        cost = sum(n * price[c] for n, c in zip(neurons, combination, strict=True))
        found.append((replace(nets, choices=choices), torch.as_tensor(cost)))
    return found


def cost_of(nets: Networks) -> Tensor:
    price = torch.tensor(list(COSTS.values())).double()
    parts = []
    for layer, choice in nets.choices.items():
        each = (choice * price).sum(-1)
        parts.append(each.sum(1) * (nets.widths[layer] if choice.shape[1] == 1 else 1))
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("limit", [None, 9.0, 4.0])
def test_in_full_it_is_the_best_there_is(limit: float | None) -> None:
    nets = soft()
    score = example_score(nets.widths)
    hard = ranked(most=81, **({} if limit is None else {"costs": COSTS, "limit": limit}))(nets, score)
    losses = torch.stack([torch.where(c <= (limit or math.inf), score(n), torch.inf) for n, c in every(nets)])
    torch.testing.assert_close(score(hard), losses.amin(0))


def test_site_by_site_it_is_nearly_as_good() -> None:
    nets = soft(64)
    score = example_score(nets.widths)
    full, quick = (score(ranked(most=most)(nets, score)) for most in (81, 1))
    assert bool((quick >= full - 1e-12).all())
    assert int((quick <= full + 1e-12).sum()) >= 40
    assert bool((quick <= score(closest()(nets, score)) + 1e-12).float().mean() > 0.9)


@pytest.mark.parametrize("limit", [3.6, 6.0, 12.0])
def test_a_limit_is_met(limit: float) -> None:
    nets = soft(64)
    score = example_score(nets.widths)
    quick = ranked(most=1, costs=COSTS, limit=limit)(nets, score)
    assert bool((cost_of(quick) <= limit).all())
    best = torch.stack([torch.where(c <= limit, score(n), torch.inf) for n, c in every(nets)]).amin(0)
    assert float((score(quick) / best).median()) < 1.05


def test_a_limit_that_cannot_be_met_takes_the_cheapest() -> None:
    nets = soft(4)
    for most in (1, 81):
        hard = ranked(most=most, costs=COSTS, limit=1.0)(nets, example_score(nets.widths))
        assert all(bool((c[..., 2] == 1).all()) for c in hard.choices.values())


@pytest.mark.parametrize("most", [1, 27])
def test_a_limit_in_decimals_is_met_exactly(most: int) -> None:
    """Three times 0.1 is 0.3, though not in binary."""
    nets = soft(8, (2, 3, 1))
    score = example_score(nets.widths)
    costs = {"tanh": 0.1, "relu": 0.1, "identity": 0.1}
    free, limited = ranked(most=most)(nets, score), ranked(most=most, costs=costs, limit=0.3)(nets, score)
    assert torch.equal(free.choices[1], limited.choices[1])


def test_neurons_that_are_off_cost_nothing() -> None:
    nets = soft(4, (2, 3, 1))
    off = replace(nets, gates={1: torch.tensor([1.0, 0.0, 0.0]).double().expand(4, 3)})
    hard = ranked(most=27, costs=COSTS, limit=5.0)(off, example_score(nets.widths))
    score = example_score(nets.widths)
    free = ranked(most=27)(off, score)
    torch.testing.assert_close(score(hard), score(free))  # the one that is on may cost 5


@pytest.mark.parametrize("discretizer", [closest(), least(), ranked(most=1), ranked(most=81)])
def test_what_is_hard_stays(discretizer: Any) -> None:
    nets = soft(6)
    some = replace(nets, choices={1: networks.harden(nets).choices[1], 2: nets.choices[2]})
    hard = discretizer(some, example_score(nets.widths))
    assert torch.equal(hard.choices[1], some.choices[1])
    assert not torch.equal(hard.choices[2], some.choices[2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [False, True])
def test_argmin_l_is_the_least_training_loss_at_each_site(kind: Kind, own: bool) -> None:
    """By hand: every candidate at every site, the others as they are, by the task's own loss."""
    tasks = [example_task(kind, seed=seed) for seed in range(5)]
    task = stack(tasks, list(range(5))) if own else tasks[0]
    nets = soft(5, (task.inputs, 3, 4, task.outputs))
    hard = least()(nets, ValidationLoss(task))
    for layer, choice in nets.choices.items():
        for site in range(choice.shape[1]):
            tried = []
            for c in range(3):
                one = choice.clone()
                one[:, site] = torch.eye(3).double()[c]
                outputs = networks.forward(replace(nets, choices={**nets.choices, layer: one}), task.train.x)
                tried.append(task.losses(outputs, task.train.y))
            assert torch.equal(hard.choices[layer][:, site].argmax(-1), torch.stack(tried).argmin(0))
    if task.loss == SquaredError():
        found = least().certified(nets, ValidationLoss(task))[1]  # type: ignore[attr-defined]
        assert found == certify(nets, ValidationLoss(task))
        named = [[nets.candidates.index(site["least_loss"]) for site in one["sites"]] for one in found]
        assert named == torch.cat([hard.choices[layer].argmax(-1) for layer in sorted(hard.choices)], 1).tolist()


def test_dead_neurons_take_their_largest_share() -> None:
    nets = soft(4, (2, 3, 1))
    dead = replace(nets, blocks={**nets.blocks, (2, 1): torch.zeros_like(nets.blocks[2, 1])})
    hard = closest()(dead, example_score(nets.widths))
    assert torch.equal(hard.choices[1].argmax(-1), nets.choices[1].argmax(-1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most": 0}, ">= 1"),
        ({"costs": COSTS}, "costs without limit"),
        ({"limit": 3.0}, "limit without costs"),
        ({"costs": COSTS, "limit": 0.0}, "finite number > 0"),
        ({"costs": {"relu": -1.0}, "limit": 1.0}, "costs.relu"),
    ],
)
def test_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ranked(**options)


def test_a_candidate_without_a_cost_is_named() -> None:
    nets = soft(2)
    with pytest.raises(ConfigError, match="no cost for tanh, identity"):
        ranked(costs={"relu": 1.0}, limit=3.0)(nets, example_score(nets.widths))


def test_latencies_are_measured() -> None:
    found = latencies(["relu", "gelu"], rounds=20)
    assert set(found) == {"relu", "gelu"}
    assert all(0.0 < value < 1e4 for value in found.values())


def test_costs_that_are_not_the_candidates_are_refused_when_a_study_is_planned() -> None:
    def planned(costs: dict[str, float]) -> None:
        plain = {
            "study": "s",
            "task": {"use": "xor", "samples": 8},
            "method": {"use": "mixture", "hidden": [2], "candidates": ["relu", "tanh"]},
            "discretizers": [{"use": "ranked", "costs": costs, "limit": 5}],
            "mlflow": None,
        }
        Study.from_dict(plain).plan()

    planned({"relu": 1.0, "tanh": 2.0})
    with pytest.raises(ConfigError, match="no cost for tanh; costs has relu"):
        planned({"relu": 1.0})
    with pytest.raises(ConfigError, match="costs has rellu, which is no candidate; candidates: relu, tanh"):
        planned({"relu": 1.0, "tanh": 2.0, "rellu": 3.0})
