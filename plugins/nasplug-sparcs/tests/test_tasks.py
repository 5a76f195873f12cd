"""The laws, and the two formulae."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.replicas import orthogonal
from nasplug.testing import TaskLaws
from nasplug_sparcs import sparcs_teacher, sparcs_transition


class TestTeacher(TaskLaws):
    name = "sparcs_teacher"
    options: ClassVar = {"samples": 200, "inputs": 5}


class TestDeepNoisyTeacher(TaskLaws):
    name = "sparcs_teacher"
    options: ClassVar = {"samples": 200, "inputs": 5, "hidden": [8, 3], "noise": 0.1}


class TestTransition(TaskLaws):
    name = "sparcs_transition"
    options: ClassVar = {"alpha": 0.4, "samples": 200}


def test_the_teacher_rotates() -> None:
    task = sparcs_teacher(samples=4000)
    y = task.train.y
    x = torch.cat((task.train.x, torch.ones_like(y[:1])))
    linear = torch.linalg.lstsq(x.T, y.T).solution
    rest = (y - linear.T @ x).square().mean() / (y - y.mean(1, keepdim=True)).square().mean()
    assert float(1 - rest) == pytest.approx(0.74, abs=0.02)  # as the paper's data: a linear fit explains this much


def test_the_teacher_is_one_layer_of_the_inputs_unless_told_otherwise() -> None:
    one, told = sparcs_teacher(samples=50), sparcs_teacher(samples=50, hidden=[20])
    assert torch.equal(one.train.y, told.train.y)
    deep = sparcs_teacher(samples=50, inputs=5, hidden=[8, 3], seed=2)
    seed, y = torch.tensor([2]), deep.train.x.double()
    for i, shape in enumerate(((8, 5), (3, 8), (5, 3)), start=1):
        y = orthogonal(seed, f"sparcs/teacher R{i}", *shape)[0] @ (y if i == 1 else torch.relu(y))
    torch.testing.assert_close(deep.train.y.double(), y)


def test_noise_is_a_share_of_the_clean_targets_spread() -> None:
    clean, noisy = sparcs_teacher(samples=4000), sparcs_teacher(samples=4000, noise=0.1)
    for one, other in zip(clean.splits, noisy.splits, strict=True):
        assert torch.equal(one.x, other.x)
        spread = (one.y - one.y.mean(1, keepdim=True)).square().mean().sqrt()
        assert float((other.y - one.y).std() / spread) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 1), (1.0, 2)])
def test_the_transition_has_two_ends(alpha: float, power: int) -> None:
    task = sparcs_transition(alpha=alpha, beta=1000.0, samples=50)
    torch.testing.assert_close(task.test.y, (task.test.x**power).mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("factory", "options", "told"),
    [
        (sparcs_teacher, {"samples": 9}, "samples=.*; needed: a whole number >= 10 and <= 1000000"),
        (sparcs_teacher, {"inputs": 1}, "inputs=.*; needed: a whole number >= 2 and <= 1000"),
        (sparcs_teacher, {"hidden": []}, "needed: at least one hidden layer"),
        (sparcs_teacher, {"hidden": [4, 0]}, "hidden=0; needed: a whole number >= 1 and <= 1000"),
        (sparcs_teacher, {"noise": -0.1}, "needed: a finite number >= 0"),
        (sparcs_teacher, {"noise": float("inf")}, "needed: a finite number >= 0"),
        (sparcs_transition, {"samples": 0}, "samples=.*; needed: a whole number >= 10 and <= 1000000"),
        (sparcs_transition, {"alpha": float("nan")}, "finite"),
    ],
)
def test_bad_input_is_refused(factory: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        factory(**options)
