"""Dirichlet sampling: its laws in both methods, the distribution, and the gradient of a draw."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.testing import SearchMethodLaws
from nasplug_mixture import mixture, operations
from nasplug_mixture.dirichlet import concentrations, drawn

torch.set_num_threads(1)
SHAPES = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)


class TestOperationsDrawn(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {"hidden": [4, 4], "sampling": "dirichlet"}


def test_draws_have_the_moments_of_the_distribution() -> None:
    shape = SHAPES.expand(2, 20_000, 3)
    p = drawn(shape, torch.tensor([3, 4]), "test")
    torch.testing.assert_close(p.sum(-1), torch.ones(2, 20_000).double())
    total = SHAPES.sum()
    mean = SHAPES / total
    torch.testing.assert_close(p.mean((0, 1)), mean, atol=0.005, rtol=0)
    torch.testing.assert_close(p.var((0, 1)), mean * (1 - mean) / (total + 1), atol=0.004, rtol=0)
    assert not torch.equal(p[0], p[1])
    torch.testing.assert_close(drawn(shape[:1], torch.tensor([4]), "test"), p[1:])


def test_the_gradient_of_draws_is_that_of_their_mean() -> None:
    """``d E p_0 / d a_j = (1[j = 0] - mean_0) / sum a``."""
    leaf = SHAPES.clone().requires_grad_()
    p = drawn(leaf.expand(1, 40_000, 3), torch.tensor([5]), "test")
    (found,) = torch.autograd.grad(p[..., 0].mean(), leaf)
    total = SHAPES.sum()
    wanted = (torch.tensor([1.0, 0.0, 0.0]).double() - SHAPES[0] / total) / total
    torch.testing.assert_close(found, wanted, atol=0.005, rtol=0)


def test_concentrations_are_positive_and_start_flat() -> None:
    found = concentrations(torch.tensor([-1e3, 0.0, 2.0]).double())
    assert found.tolist()[1:] == [1.0, 3.0]
    assert float(found[0]) > 0
    nothing = drawn(torch.full((2, 5, 4), 1e-3).double(), torch.tensor([0, 1]), "corners")
    assert bool(torch.isfinite(nothing).all())


@pytest.mark.parametrize("method", [mixture, operations])
def test_points_are_not_concentrations(method: Any) -> None:
    with pytest.raises(ConfigError, match="no points of the simplex"):
        method(parametrisation="simplex", sampling="dirichlet")
