"""The laws of `nasplug.testing`, and each move on a network where it is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from nasplug.contracts import Score
from nasplug.errors import ConfigError
from nasplug.networks import Networks, forward, sizes
from nasplug.testing import DiscretizerLaws, example_networks
from nasplug_edges import fold

X = torch.linspace(-1.0, 1.0, 65, dtype=torch.float64).repeat(2, 1) * torch.tensor([[1.0], [-0.4]], dtype=torch.float64) + 0.05


class TestFold(DiscretizerLaws):
    name = "fold"


class TestFoldGenerously(DiscretizerLaws):
    name = "fold"
    options: ClassVar = {"tolerance": 0.2}


def network(w: list[list[float]], b: list[float], v: list[float], straight: list[bool] | None = None) -> Networks:
    def row(values: object) -> Tensor:
        return torch.tensor([values], dtype=torch.float64)

    nets = Networks(
        widths=(2, len(b), 1),
        blocks={(1, 0): row(w), (2, 1): row([v])},
        biases={1: row(b), 2: row([0.3])},
        candidates=("relu",),
    )
    if straight is None:
        return nets
    bent = torch.tensor(straight)
    return replace(nets, candidates=("relu", "identity"), choices={1: torch.stack((~bent, bent), -1).double().unsqueeze(0)})


def to_itself(nets: Networks) -> Score:
    target = forward(nets, X)

    def score(candidate: Networks) -> Tensor:
        return (forward(candidate, X) - target).square().mean((1, 2)) + 1e-9

    return score


EXACT = {
    "merge": (network([[1.0, 0.5], [0.0, -2.0]], [0.1, 0.2], [1.0, 0.5], [True, True]), 1, 3),
    "twin": (network([[1.0, -0.5], [2.0, -1.0]], [0.2, 0.4], [1.0, -0.3]), 1, 3),
    "mirror": (network([[1.0, -0.5], [-2.0, 1.0]], [0.2, -0.4], [1.0, -0.5]), 1, 3),
    "straighten": (network([[1.0, 0.5]], [3.0], [0.7]), 1, 3),
    "straighten, then merge": (network([[1.0, 0.5], [0.4, 0.0]], [3.0, 3.0], [0.7, -0.2]), 1, 3),
    "nothing to do": (network([[1.0, 0.5], [-1.0, 0.7]], [0.0, 0.1], [1.0, 1.0]), 2, 6),
}


@pytest.mark.parametrize("case", EXACT)
def test_exact_moves_keep_the_function(case: str) -> None:
    nets, neurons, edges = EXACT[case]
    folded = fold(tolerance=0.0)(nets, to_itself(nets))
    found = sizes(folded)
    assert (int(found["neurons"]), int(found["edges"])) == (neurons, edges)
    torch.testing.assert_close(forward(folded, X), forward(nets, X))
    straight = folded.choices[1][0, :, folded.candidates.index("identity")] * folded.gates[1][0]
    assert int(straight.sum()) == (0 if case in ("twin", "nothing to do") else 1)


def test_a_line_goes_on_beyond_the_data() -> None:
    nets = network([[1.0, 1.0]], [1.0], [1.0])
    folded = fold()(nets, to_itself(nets))
    far = torch.full((2, 1), -50.0, dtype=torch.float64)
    assert float(forward(folded, far)) == pytest.approx(-100 + 1.0 + 0.3)


def test_a_merged_neuron_is_balanced() -> None:
    """A tiny outgoing weight before a large sum would be cut by the next threshold, and the function with it."""
    nets = network([[0.02, 0.0], [1.0, 1.0]], [0.0, 0.0], [0.01, 1.0], [True, True])
    folded = fold(tolerance=0.0)(nets, to_itself(nets))
    assert int(sizes(folded)["edges"]) == 3
    assert min(float(w[w != 0].abs().min()) for w in folded.blocks.values()) > 0.5


def test_kinks_that_matter_stay() -> None:
    nets = example_networks(3, 6, (2, 4, 1), ["biases"], skips=False)
    nets = replace(nets, candidates=("relu",))
    before = to_itself(nets)
    assert bool((before(fold(tolerance=0.001)(nets, before)) < 0.02).all())


def test_skip_blocks_fold_too() -> None:
    nets = network([[1.0, -0.5], [2.0, -1.0]], [0.2, 0.4], [1.0, -0.3])
    nets = replace(nets, blocks={**nets.blocks, (2, 0): torch.tensor([[[0.4, 0.0]]], dtype=torch.float64)})
    folded = fold(tolerance=0.0)(nets, to_itself(nets))
    assert int(sizes(folded)["edges"]) == 4
    torch.testing.assert_close(forward(folded, X), forward(nets, X))


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_refuses(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="finite number >= 0"):
        fold(tolerance=tolerance)


def test_refuses_residuals() -> None:
    """What they pass on has no weights, so that a merged neuron would be lost from the saved network."""
    fold().accept(example_networks())
    with pytest.raises(ConfigError, match=r"fold: .* residual"):
        fold().accept(replace(example_networks(), passes=(1,)))
