"""The laws, and the two formulae."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.testing import TaskLaws
from nasplug_sparcs import sparcs_teacher, sparcs_transition


class TestTeacher(TaskLaws):
    name = "sparcs_teacher"
    options: ClassVar = {"samples": 200, "inputs": 5}


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


@pytest.mark.parametrize(("alpha", "power"), [(0.0, 1), (1.0, 2)])
def test_the_transition_has_two_ends(alpha: float, power: int) -> None:
    task = sparcs_transition(alpha=alpha, beta=1000.0, samples=50)
    torch.testing.assert_close(task.test.y, (task.test.x**power).mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("factory", "options", "told"),
    [
        (sparcs_teacher, {"samples": 9}, "samples=.*; needed: a whole number >= 10 and <= 1000000"),
        (sparcs_teacher, {"inputs": 1}, "inputs=.*; needed: a whole number >= 2 and <= 1000"),
        (sparcs_transition, {"samples": 0}, "samples=.*; needed: a whole number >= 10 and <= 1000000"),
        (sparcs_transition, {"alpha": float("nan")}, "finite"),
    ],
)
def test_bad_input_is_refused(factory: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        factory(**options)
