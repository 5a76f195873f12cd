"""`inputs` and `neurons`: the laws of `nasplug.testing`, numbers worked out by hand, and what a study makes of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from nasplug.config import parse
from nasplug.contracts import Proximal
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.plan import Pack, assemble, chunk, components
from nasplug.plugins import load_plugins
from nasplug.stems import Convolution, Stem
from nasplug.testing import RegularizerLaws, example_networks
from nasplug.train import train
from nasplug_regularizers import inputs, l1, neurons

DEEP = ((2, 3, 4, 2), (2, 1, 1, 1))


class TestInputs(RegularizerLaws):
    name = "inputs"


class TestInputsAdaptive(RegularizerLaws):
    name = "inputs"
    options: ClassVar = {"adaptive": 0.1, "scale": "none"}


class TestInputsProximal(RegularizerLaws):
    name = "inputs"
    options: ClassVar = {"proximal": True}


class TestInputsProximalAdaptive(RegularizerLaws):
    name = "inputs"
    options: ClassVar = {"proximal": True, "adaptive": 0.3}


class TestNeurons(RegularizerLaws):
    name = "neurons"


class TestNeuronsOfBoth(RegularizerLaws):
    name = "neurons"
    options: ClassVar = {"of": "both", "adaptive": 0.1}


class TestNeuronsByLayer(RegularizerLaws):
    name = "neurons"
    options: ClassVar = {"layers": [2.0, 0.5], "proximal": True}
    widths = DEEP


class TestNeuronsLeavingProximal(RegularizerLaws):
    name = "neurons"
    options: ClassVar = {"of": "leaving", "proximal": True, "adaptive": 0.3, "scale": "none"}


class TestNeuronsOfBothProximal(RegularizerLaws):
    name = "neurons"
    options: ClassVar = {"of": "both", "proximal": True}


class TestL1ByLayer(RegularizerLaws):
    name = "l1"
    options: ClassVar = {"layers": [1.0, 0.0, 2.0]}
    widths = DEEP


def one(**parts: Any) -> Networks:
    """One network ``2 -> 2 -> 1`` with a skip: what leaves input 0 is 3, 0, 4 and what leaves input 1 is 0, 0, 2."""
    blocks = {
        (1, 0): torch.tensor([[[3.0, 0.0], [0.0, 0.0]]], dtype=torch.float64),
        (2, 1): torch.tensor([[[1.0, -5.0]]], dtype=torch.float64),
        (2, 0): torch.tensor([[[4.0, 2.0]]], dtype=torch.float64),
    }
    return Networks(widths=(2, 2, 1), blocks=blocks, biases={1: torch.full((1, 2), 9.0, dtype=torch.float64)}, **parts)


def amount(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def shrunk(penalty: Any, nets: Networks, by: float) -> Networks:
    assert isinstance(penalty, Proximal)
    return penalty.shrink(nets, amount(by))


def test_inputs_are_norms_of_all_that_leaves_them() -> None:
    assert inputs(scale="none")(one()).item() == 5.0 + 2.0
    assert inputs()(one()).item() == pytest.approx(math.sqrt(3) * 7.0)  # three weights each
    gates = {(2, 0): torch.tensor([[[0.5, 0.0]]], dtype=torch.float64)}
    assert inputs(scale="none")(one(edge_gates=gates)).item() == pytest.approx(math.sqrt(9 + 4))


def test_ramps_of_a_column_are_one_group() -> None:
    nets = one(groups=(0, 0))
    assert inputs()(nets).item() == pytest.approx(math.sqrt(6) * math.sqrt(9 + 16 + 4))
    gone = shrunk(inputs(proximal=True, scale="none"), nets, 6.0)
    assert not bool(gone.blocks[1, 0].any() | gone.blocks[2, 0].any())
    assert gone.blocks[2, 1].tolist() == [[[1.0, -5.0]]]


def test_an_input_goes_as_a_whole_and_the_other_is_shortened() -> None:
    made = shrunk(inputs(proximal=True, scale="none"), one(), 2.5)
    assert made.blocks[1, 0].tolist() == [[[1.5, 0.0], [0.0, 0.0]]]
    assert made.blocks[2, 0].tolist() == [[[2.0, 0.0]]]
    assert made.biases[1].tolist() == [[9.0, 9.0]]


def test_adaptive_pulls_large_inputs_less() -> None:
    weight = torch.tensor([[[1.0, 0.1]]], dtype=torch.float64, requires_grad=True)
    nets = Networks(widths=(2, 1), blocks={(1, 0): weight})
    (slope,) = torch.autograd.grad(inputs(adaptive=0.1)(nets).sum(), weight)
    assert slope.flatten().tolist() == pytest.approx([1 / 11, 1 / 2])  # 1 / (1 + r / a)
    with torch.no_grad():
        made = shrunk(inputs(adaptive=0.1, proximal=True), nets, 0.2).blocks[1, 0].flatten()
    assert made[1] == 0.0
    assert made[0].item() == pytest.approx((0.9 + math.sqrt(1.1**2 - 4 * 0.2 * 0.1)) / 2)


def test_neurons_by_side() -> None:
    assert neurons(scale="none")(one()).item() == 3.0  # the second neuron: nothing enters
    assert neurons(scale="none", of="leaving")(one()).item() == 1.0 + 5.0
    assert neurons(scale="none", of="both")(one()).item() == pytest.approx(math.sqrt(10) + 5.0)
    assert neurons(layers=[2.0])(one()).item() == pytest.approx(2.0 * math.sqrt(2) * 3.0)
    made = shrunk(neurons(of="both", proximal=True, scale="none"), one(), 4.0)
    assert made.blocks[1, 0].tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    torch.testing.assert_close(made.blocks[2, 1], torch.tensor([[[0.0, -1.0]]], dtype=torch.float64))
    assert made.blocks[2, 0].tolist() == [[[4.0, 2.0]]]  # enters an output


@pytest.mark.parametrize("by", [0.05, 0.3, 1.0])
def test_overlapping_groups_come_near_the_map_of_their_sum(by: float) -> None:
    """Against the slope of its objective, which is 0 at the map, in all weights that are not 0."""
    nets = example_networks(3, 1, (3, 4, 4, 2), {"blocks"})
    penalty = neurons(of="both", proximal=True)
    made = shrunk(penalty, nets, by)
    leaves = {edge: w.clone().requires_grad_() for edge, w in made.blocks.items()}
    moved = sum((leaves[edge] - w).square().sum() / 2 for edge, w in nets.blocks.items())
    cost = moved + by * penalty(replace(made, blocks=leaves)).sum()
    for slope, w in zip(torch.autograd.grad(cost, list(leaves.values())), leaves.values(), strict=True):
        assert float(torch.where(w != 0, slope.abs(), torch.zeros_like(slope)).max()) < 1e-3
    if by == 1.0:
        assert bool((made.blocks[2, 1] == 0).all())  # exactly


def test_l1_by_layer() -> None:
    assert l1(layers=[1.0, 0.5])(one()).item() == 3.0 + 0.5 * (6.0 + 6.0)


def test_what_cannot_be_is_refused() -> None:
    for wrong in (0.0, -1.0, math.inf, math.nan):
        for make in (inputs, neurons):
            with pytest.raises(ConfigError, match="adaptive="):
                make(adaptive=wrong)
    for layers in ([], [0.0], [-1.0, 1.0], [math.nan]):
        with pytest.raises(ConfigError, match="layers="):
            neurons(layers=layers)
        with pytest.raises(ConfigError, match="layers="):
            l1(layers=layers)
    with pytest.raises(ConfigError, match="proximal map is not known"):
        neurons(of="both", proximal=True, adaptive=0.1)
    with pytest.raises(ConfigError, match="2 layers for 1 hidden layers"):
        neurons(layers=[1.0, 1.0]).accept(one())
    with pytest.raises(ConfigError, match="l1 has 3 layers for 2"):
        l1(layers=[1.0, 1.0, 1.0]).accept(one())
    with pytest.raises(ConfigError, match="no hidden neurons"):
        neurons().accept(Networks(widths=(2, 1), blocks={(1, 0): torch.ones(1, 1, 2)}))


def study(**changes: Any) -> Any:
    plain: dict[str, Any] = {
        "study": "s",
        "task": {"use": "addition", "samples": 60},
        "method": {"use": "edges", "hidden": [4]},
        "penalties": [{"use": "inputs", "proximal": True, "level": 0.5}],
        "train": {"steps": 40, "lr": 0.01, "dtype": "float64"},
        "seeds": 3,
        "linear": False,
    }
    return parse(plain | changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": {"use": "edges", "mode": "snap", "hidden": [4]}}, "proximal and moves blocks, which are not parameters"),
        (
            {"method": {"use": "sparcs", "hidden": [4]}},
            "proximal and moves blocks, which are not parameters of method 'sparcs'",
        ),
        (
            {"method": {"use": "linear"}, "penalties": [{"use": "neurons", "level": 0.1}]},
            "no hidden neurons; needed: one hidden layer at least",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_planning(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        chunk(study(**changes), [{}], load_plugins())


def test_inputs_behind_a_stem_are_refused() -> None:
    stem = Stem(image=(1, 1, 2), layers=(Convolution(channels=2, kernel=1),))
    nets = example_networks(0, 1, (4, 3, 1), {"blocks"})
    with pytest.raises(ConfigError, match="features, not inputs"):
        inputs().accept(replace(nets, stem=stem))


@pytest.mark.parametrize(
    "method",
    [
        {"use": "edges", "hidden": [4]},
        {"use": "edges", "mode": "gated", "hidden": [4]},
        {"use": "edges", "mode": "l1", "hidden": [4], "skips": True},
        {"use": "linear"},
    ],
    ids=["annealed", "gated", "l1", "linear"],
)
def test_inputs_that_went_stay_away_when_the_penalty_is_over(method: dict[str, Any]) -> None:
    """Of three rows two have a penalty, which ends halfway; what is left trains on."""
    ramp = {"use": "plateau", "rise": 0.1, "fall": 0.5}
    config = study(
        task={"use": "diabetes", "validation": "holdout"},
        method=method,
        penalties=[{"use": "inputs", "proximal": True, "level": 0.5, "ramp": ramp}],
        train={"steps": 60, "lr": 0.03, "dtype": "float64"},
    )
    plugins = load_plugins()
    pack = Pack("p", {}, {"penalties.0.level": [0.8, 0.0, 0.8]}, config.seed_list, [0, 1, 0])
    search = assemble(components(config, pack, plugins), pack, plugins)
    history = {report.step: report.state.params["block 1 0"].clone() for report in train(search, every=30)}
    gone, end = ((history[step] == 0).all(1) for step in (30, 60))  # (K, I)
    assert gone.any(1).tolist() == [True, False, True]
    assert torch.equal(gone, end)
    assert bool((history[30] != history[60]).flatten(1).any(1).all())


def test_monotone_networks_keep_to_their_directions_beside_a_proximal_penalty() -> None:
    """What `edges` holds is reflected, as without the penalty: a weight of the wrong sign is not lost."""
    config = study(monotone={"a": 1, "b": 1}, penalties=[{"use": "inputs", "proximal": True, "level": 0.01}])
    plugins = load_plugins()
    pack = Pack("p", {}, {}, config.seed_list, [0, 0, 0])
    search = assemble(components(config, pack, plugins), pack, plugins)
    assert not search.projected
    *_, last = train(search, every=40)
    first, second = last.state.params["block 1 0"], last.state.params["block 2 1"]
    signs = first.sign() * second.sign().mT
    assert bool((signs >= 0).all())
    assert bool((first != 0).all())
