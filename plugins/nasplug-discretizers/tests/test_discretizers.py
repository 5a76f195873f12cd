"""The laws of `nasplug.testing`, and what each discretizer is for, on networks whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from nasplug import networks
from nasplug.contracts import Discretizer, Score
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks
from nasplug.testing import DiscretizerLaws, example_networks, example_score
from nasplug_discretizers import argmax, neuron_mask, spectral, threshold


class TestThresholdByEps(DiscretizerLaws):
    name = "threshold"
    options: ClassVar = {"eps": 0.3}


class TestThresholdByTolerance(DiscretizerLaws):
    name = "threshold"
    options: ClassVar = {"tolerance": 0.1}


class TestArgmax(DiscretizerLaws):
    name = "argmax"


class TestNeuronMask(DiscretizerLaws):
    name = "neuron_mask"


class TestSpectral(DiscretizerLaws):
    name = "spectral"
    options: ClassVar = {"tolerance": 0.1}


X = torch.linspace(-1.0, 1.0, 64, dtype=torch.float64).repeat(2, 1) * torch.tensor([[1.0], [-0.5]], dtype=torch.float64) + 0.1


def never(nets: Networks) -> Tensor:
    raise AssertionError("this one decides without the loss")


def teacher(k: int = 4, hidden: int = 6) -> Networks:
    """Networks ``2 -> hidden -> 1`` whose first two neurons do all the work; the others carry weights of 1e-3."""
    nets = example_networks(2, k, (2, hidden, 1), ["biases", "eigenvalues"], skips=False)
    important = torch.arange(hidden) < 2
    size = torch.where(important, 1.0, 1e-3).double()
    first = nets.blocks[1, 0].sign() * (0.5 + nets.blocks[1, 0].abs()) * size.unsqueeze(-1)
    last = nets.blocks[2, 1].sign() * (0.5 + nets.blocks[2, 1].abs()) * size
    zero = {layer: torch.zeros_like(b) for layer, b in nets.biases.items()}
    return replace(nets, blocks={(1, 0): first, (2, 1): last}, biases=zero, eigenvalues={1: size.expand(k, hidden).clone()})


def to_itself(nets: Networks, noise: float = 0.0) -> Score:
    """Distance to what these networks put out now, plus a floor that no cut removes."""
    target = networks.forward(nets, X)

    def score(candidate: Networks) -> Tensor:
        return (networks.forward(candidate, X) - target).square().mean((1, 2)) + noise

    return score


def kept(nets: Networks) -> list[int]:
    return sum(gate.sum((1, 2)) for gate in nets.edge_gates.values()).long().tolist()  # type: ignore[union-attr]


def test_eps_cuts_below_and_keeps_at() -> None:
    block = torch.tensor([[[0.0, 0.29, -0.29], [0.3, -0.3, 5.0]]])
    hard = threshold(eps=0.3)(Networks(widths=(3, 2), blocks={(1, 0): block}), never)
    assert hard.edge_gates[1, 0].tolist() == [[[0, 0, 0], [1, 1, 1]]]
    torch.testing.assert_close(hard.blocks[1, 0], torch.tensor([[[0.0, 0.0, 0.0], [0.3, -0.3, 5.0]]]))


def test_the_default_is_a_hundredth() -> None:
    block = torch.tensor([[[0.009, 0.011]]])
    assert threshold()(Networks(widths=(2, 1), blocks={(1, 0): block}), never).edge_gates[1, 0].tolist() == [[[0, 1]]]


def test_eps_zero_drops_exact_zeros_only() -> None:
    block = torch.tensor([[[0.0, 1e-30]]])
    assert threshold(eps=0.0)(Networks(widths=(2, 1), blocks={(1, 0): block}), never).edge_gates[1, 0].tolist() == [[[0, 1]]]


@pytest.mark.parametrize("options", [{"eps": 0.2}, {"tolerance": 0.05}])
def test_soft_edge_gates_are_folded_into_what_stays(options: dict[str, float]) -> None:
    nets = example_networks(4, 5)
    hard = threshold(**options)(nets, example_score(nets.widths))
    for edge in nets.blocks:
        gate = hard.edge_gates[edge]
        torch.testing.assert_close(hard.blocks[edge], nets.block(edge) * gate, rtol=0, atol=0)
        assert torch.equal(hard.blocks[edge] != 0, gate == 1)


def test_tolerance_drops_what_does_no_work_and_keeps_what_does() -> None:
    nets = teacher()
    hard = threshold(tolerance=0.02)(nets, to_itself(nets, noise=1e-3))
    assert kept(hard) == [6] * 4  # two neurons, two inputs and one output each


def test_tolerance_is_kept_and_is_used_up() -> None:
    nets = example_networks(8, 32)
    score = example_score(nets.widths)
    before, edges = score(nets), sum(w[0].numel() for w in nets.blocks.values())
    few, many = (threshold(tolerance=t)(nets, score) for t in (0.01, 0.5))
    assert bool((score(few) <= before * 1.01 + 1e-4).all())
    assert bool((score(many) <= before * 1.5 + 1e-4).all())
    assert sum(kept(many)) < sum(kept(few)) < 32 * edges


def test_one_more_cut_would_break_the_limit() -> None:
    nets = example_networks(8, 32)
    score, tolerance = example_score(nets.widths), 0.1
    hard = threshold(tolerance=tolerance)(nets, score)
    flat = torch.cat([w.flatten(1) for w in hard.blocks.values()], 1).abs()
    smallest = flat.masked_fill(flat == 0, math.inf).amin(1)  # (K,)
    further = {edge: torch.where(w.abs() <= smallest.view(-1, 1, 1), 0.0, w) for edge, w in hard.blocks.items()}
    broken = score(replace(hard, blocks=further)) > score(nets) * (1.0 + tolerance)
    assert bool((broken | smallest.isinf()).all())  # infinite: nothing is left to cut
    assert int(broken.sum()) > 12


def test_an_exact_network_can_be_cut() -> None:
    nets = teacher()
    score = to_itself(nets)  # its own loss is exactly 0: no relative rise would do
    hard = threshold(tolerance=0.02)(nets, score)
    assert kept(hard) == [6] * 4
    assert bool((score(hard) < 1e-4).all())


def test_a_large_bias_does_not_loosen_the_limit() -> None:
    nets = teacher()
    # Hidden neuron 0 is shifted by 50 and the output shifted back: without edges this network is off by 50 |w|.
    with_bias = replace(nets, biases={1: nets.biases[1].clone(), 2: nets.biases[2].clone()}, candidates=("identity",))
    with_bias.biases[1][:, 0] += 50.0
    with_bias.biases[2][:, 0] -= 50.0 * nets.blocks[2, 1][:, 0, 0]
    score = to_itself(with_bias)
    hard = threshold(tolerance=0.02)(with_bias, score)
    variance = networks.forward(with_bias, X).square().mean((1, 2))
    assert bool((score(hard) <= 2.1e-5 * variance).all())


def test_a_row_that_was_cut_is_left_alone_and_can_be_cut_again_without_gates() -> None:
    nets = example_networks(8, 6)
    score = example_score(nets.widths)
    generous = threshold(tolerance=0.5)
    once = threshold(tolerance=0.01)(nets, score)
    assert kept(generous(once, score)) == kept(once)
    assert sum(kept(generous(replace(once, edge_gates={}), score))) < sum(kept(once))


def test_gates_that_are_open_everywhere_are_no_cut() -> None:
    nets = replace(teacher(), edge_gates={edge: torch.ones_like(w) for edge, w in teacher().blocks.items()})
    assert kept(threshold(tolerance=0.02)(nets, to_itself(nets, noise=1e-3))) == [6] * 4


def test_hard_gates_over_weights_that_are_not_zero_are_no_cut() -> None:
    nets = teacher()
    gates = {edge: torch.ones_like(w) for edge, w in nets.blocks.items()}
    gates[1, 0][:, 5, 0] = 0.0  # as a hard-concrete gate would: shut, its weight still there
    nets = replace(nets, edge_gates=gates)
    assert kept(threshold(tolerance=0.02)(nets, to_itself(nets, noise=1e-3))) == [6] * 4


def test_argmax_takes_the_first_on_a_tie() -> None:
    nets = example_networks(0, 1, (2, 3, 1), ["choices"], skips=False)
    tie = torch.tensor([[[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1 / 3, 1 / 3, 1 / 3]]], dtype=torch.float64)
    assert argmax()(replace(nets, choices={1: tie}), never).choices[1].tolist() == [[[1, 0, 0], [0, 1, 0], [1, 0, 0]]]


def test_neuron_mask_keeps_what_is_open_enough() -> None:
    nets = example_networks(0, 1, (2, 4, 1), ["gates"], skips=False)
    gates = torch.tensor([[0.0, 0.69, 0.7, math.nan]], dtype=torch.float64)
    assert neuron_mask(cut=0.7)(replace(nets, gates={1: gates}), never).gates[1].tolist() == [[0, 0, 1, 0]]


def test_spectral_finds_the_two_neurons() -> None:
    nets = teacher()
    hard = spectral(tolerance=0.02)(nets, to_itself(nets, noise=1e-3))
    assert hard.gates[1].tolist() == [[1, 1, 0, 0, 0, 0]] * 4


def test_spectral_ranks_over_layers_and_never_touches_the_ends() -> None:
    nets = example_networks(1, 3)
    hard = spectral(tolerance=1e9)(nets, example_score(nets.widths))
    assert set(hard.gates) == {1, 2}
    assert all(not gate.any() for gate in hard.gates.values())  # everything may go, so everything goes


def test_spectral_leaves_what_is_off_off() -> None:
    nets = teacher()
    off = torch.full((4, 6), 0.9, dtype=torch.float64)
    off[:, 0] = 0.1
    nets = replace(nets, gates={1: off})
    hard = spectral(tolerance=0.02)(nets, to_itself(networks.harden(nets), noise=1e-3))
    assert hard.gates[1].tolist() == [[0, 1, 0, 0, 0, 0]] * 4


def test_spectral_without_eigenvalues_is_refused() -> None:
    with pytest.raises(ContractError, match="without eigenvalues"):
        spectral()(example_networks(0, 2, parts=["biases"]), never)


@pytest.mark.parametrize("discretizer", [threshold(tolerance=0.1), spectral(tolerance=0.1)])
def test_scorings_grow_with_the_logarithm(discretizer: Discretizer) -> None:
    nets = example_networks(0, 3, (4, 40, 4), ["biases", "eigenvalues"], skips=False)
    calls = 0

    def score(candidate: Networks) -> Tensor:
        nonlocal calls
        calls += 1
        return example_score(nets.widths)(candidate)

    discretizer(nets, score)
    things = 40 if isinstance(discretizer, type(spectral())) else 320
    assert calls == 3 + math.ceil(math.log2(things + 1))


@pytest.mark.parametrize("discretizer", [threshold(tolerance=0.05), spectral(tolerance=0.05)])
@pytest.mark.parametrize("parts", [["biases", "eigenvalues"], list(networks.PARTS)])
def test_a_second_run_changes_none_of_many_rows(discretizer: Discretizer, parts: list[str]) -> None:
    nets = example_networks(0, 500, (2, 3, 4, 2), parts, dtype=torch.float32)
    score = example_score(nets.widths)
    once = discretizer(nets, score)
    twice = discretizer(once, score)
    for part in ("blocks", "gates", "edge_gates"):
        for key, tensor in getattr(once, part).items():
            assert torch.equal(tensor, getattr(twice, part)[key])


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        threshold(eps=0.1, tolerance=0.1)
    for number in (-0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="eps"):
            threshold(eps=number)
        with pytest.raises(ConfigError, match="threshold: tolerance"):
            threshold(tolerance=number)
        with pytest.raises(ConfigError, match="spectral: tolerance"):
            spectral(tolerance=number)
    for cut in (0.0, -0.5, 1.5, math.nan):
        with pytest.raises(ConfigError, match="cut"):
            neuron_mask(cut=cut)
