"""The laws, and what the surgeon does to networks whose spare neurons are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import Networks, forward, sizes
from nasplug.replicas import normal, uniform
from nasplug.tasks import Split, Task, unscaled
from nasplug.testing import DiscretizerLaws, example_networks, example_task
from nasplug.train import ValidationLoss
from nasplug_sparcs import obs

torch.set_num_threads(1)


class TestObsWithoutRefit(DiscretizerLaws):
    name = "obs"
    options: ClassVar = {"refit": 0, "tolerance": 0.2}


class TestObs(DiscretizerLaws):
    name = "obs"
    options: ClassVar = {"refit": 5, "tolerance": 0.5, "batch": 8}


class TestObsByR2(DiscretizerLaws):
    name = "obs"
    options: ClassVar = {"refit": 0, "r2": 0.2}


K, INPUTS, HIDDEN, OUTPUTS = 3, 4, 9, 2


def rows(name: str, *shape: int) -> Tensor:
    return normal(torch.arange(K), name, shape)


def redundant() -> Networks:
    """Nine neurons: 0..3 are different, 4 copies 0, 5 is twice 1, 6 never fires, 7 and 8 are always on."""
    w, b = rows("w", HIDDEN, INPUTS), 0.1 * rows("b", HIDDEN)
    w[:, 4], b[:, 4] = w[:, 0], b[:, 0]
    w[:, 5], b[:, 5] = 2.0 * w[:, 1], 2.0 * b[:, 1]
    b[:, 6] = -100.0
    b[:, 7:] = 100.0
    return Networks(
        widths=(INPUTS, HIDDEN, OUTPUTS),
        blocks={(1, 0): w, (2, 1): rows("v", OUTPUTS, HIDDEN)},
        biases={1: b, 2: rows("c", OUTPUTS)},
        candidates=("relu",),
    )


def task_of(nets: Networks, samples: int = 400) -> Task:
    """What the first network computes."""

    def split(seed: int) -> Split:
        x = uniform(torch.tensor([seed]), "x", (INPUTS, samples), -1.0, 1.0)[0]
        return Split(x, forward(nets, x)[0] if nets.replicas else x)

    return unscaled("first", (split(1), split(2), split(3)))


def test_spare_neurons_go_and_straight_ones_become_skips() -> None:
    nets = redundant()
    nets = nets.map(lambda t: t[:1])
    found = obs(tolerance=1e-6, refit=0)(nets, ValidationLoss(task_of(nets)))
    assert int(found.gates[1].sum()) == 4
    assert bool((found.blocks[2, 0] != 0).all())
    x = task_of(nets).test.x
    torch.testing.assert_close(forward(found, x), forward(nets, x), rtol=0, atol=1e-4)


def test_a_spare_layer_goes_as_a_whole() -> None:
    nets = redundant().map(lambda t: t[:1])
    deep = replace(
        nets,
        widths=(INPUTS, 5, HIDDEN, OUTPUTS),
        blocks={
            (1, 0): rows("u", 5, INPUTS)[:1],
            (2, 0): nets.blocks[1, 0],
            (3, 2): nets.blocks[2, 1],
            (3, 1): 1e-7 * rows("t", OUTPUTS, 5)[:1],
        },
        biases={1: rows("d", 5)[:1] - 0.2, 2: nets.biases[1], 3: nets.biases[2]},
    )
    found = obs(tolerance=1e-5, refit=0)(deep, ValidationLoss(task_of(deep)))
    assert [int(found.gates[layer].sum()) for layer in (1, 2)] == [0, 4]


def test_refitting_makes_do_with_fewer() -> None:
    nets = redundant().map(lambda t: t[:1])
    score = ValidationLoss(task_of(nets))
    count = {refit: int(sizes(obs(r2=0.98, refit=refit)(nets, score))["neurons"]) for refit in (0, 150)}
    assert count[150] <= count[0] <= 4


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_a_row_that_misses_the_criterion_stays_whole(kind: Any) -> None:
    task = example_task(kind)
    nets = Networks(
        widths=(3, 4, task.outputs),
        blocks={(1, 0): rows("w", 4, 3), (2, 1): 5 * rows("v", task.outputs, 4)},
        biases={},
        candidates=("tanh",),
    )
    found = obs(r2=0.99, refit=0)(nets, ValidationLoss(task))
    assert found.gates[1].sum(1).tolist() == [4.0] * K


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"r2": 0.9, "tolerance": 0.1}, "give one of them"),
        ({"r2": 1.0}, "between 0 and 1"),
        ({"tolerance": -0.1}, ">= 0"),
        ({"refit": -1}, "refit=-1"),
        ({"refit": 0, "lr": 0.1}, "trains nothing"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        obs(**options)


def test_an_input_that_is_hardly_ever_on_takes_over_nothing() -> None:
    """Least squares would give it any weight that helps the one sample it acts on; elsewhere that weight is a disaster."""
    nets = redundant()
    task = task_of(nets)
    silent = [split.x.clone() for split in (task.train, task.valid)]
    for x in silent:
        x[3] = 0.0
    silent[0][3, 17] = 1e-3
    task = replace(task, train=replace(task.train, x=silent[0]), valid=replace(task.valid, x=silent[1]))
    nets = replace(nets, blocks={**nets.blocks, (1, 0): nets.blocks[1, 0].index_fill(2, torch.tensor([3]), 0.0)})
    found = obs(tolerance=3.0, refit=0)(nets, ValidationLoss(task))
    assert bool((sizes(found)["neurons"] < sizes(nets)["neurons"]).all())
    assert float(found.blocks[2, 0][..., 3].abs().max()) == 0.0
    assert bool((found.blocks[2, 0][..., :3] != 0).any())  # the others do take over


def test_refuses_residuals() -> None:
    """What they pass on has no weights, so that no neuron's work can be handed over to them."""
    obs().accept(example_networks())
    with pytest.raises(ConfigError, match=r"obs: .* residual"):
        obs().accept(replace(example_networks(), passes=(1,)))
