"""The laws of `nasplug.testing`, and each formula against numbers worked out by hand."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from nasplug import networks
from nasplug.contracts import Params, Proximal, Regularizer, SearchMethod
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Edge, Networks
from nasplug.optimizers import Adam
from nasplug.replicas import uniform
from nasplug.schedules import constant, track
from nasplug.tasks import Split, Task, unscaled
from nasplug.testing import RegularizerLaws, example_networks
from nasplug.train import Search, compile_step, start, step
from nasplug_regularizers import compactness, eigenvalue, inputs, l1, neurons, soft_count

GROUPS = (inputs(adaptive=0.03), neurons(of="both"))
ALL = (l1(), soft_count(), soft_count(of="weights"), compactness(), eigenvalue(), eigenvalue(norm="l1"), *GROUPS)


class TestL1(RegularizerLaws):
    name = "l1"


class TestSoftCountOfGates(RegularizerLaws):
    name = "soft_count"


class TestSoftCountOfWeights(RegularizerLaws):
    name = "soft_count"
    options: ClassVar = {"of": "weights", "threshold": 0.02, "sharpness": 30.0}


class TestCompactness(RegularizerLaws):
    name = "compactness"


class TestCompactnessOfSpreadAlone(RegularizerLaws):
    name = "compactness"
    options: ClassVar = {"share": 1.0}


class TestEigenvalueL2(RegularizerLaws):
    name = "eigenvalue"


class TestEigenvalueL1(RegularizerLaws):
    name = "eigenvalue"
    options: ClassVar = {"norm": "l1"}


class TestEigenvalueWeighted(RegularizerLaws):
    name = "eigenvalue"
    options: ClassVar = {"weights": [3.0, 0.8]}
    widths = ((2, 3, 4, 2),)


def one(**parts: object) -> Networks:
    """One network ``2 -> 2 -> 1`` with a skip and easy numbers."""
    blocks = {
        (1, 0): torch.tensor([[[1.0, -2.0], [0.0, 0.5]]]),
        (2, 1): torch.tensor([[[3.0, -1.0]]]),
        (2, 0): torch.tensor([[[0.0, 0.25]]]),
    }
    return Networks(widths=(2, 2, 1), blocks=blocks, biases={1: torch.full((1, 2), 100.0)}, **parts)  # type: ignore[arg-type]


def test_l1_sums_weights_and_skips_and_no_biases() -> None:
    assert l1()(one()).tolist() == [7.75]


def test_l1_counts_a_half_open_edge_half() -> None:
    halves = {edge: torch.full_like(w, 0.5) for edge, w in one().blocks.items()}
    assert l1()(one(edge_gates=halves)).tolist() == [3.875]


def test_l1_has_the_sign_as_gradient_and_zero_at_zero() -> None:
    weight = torch.tensor([[[1.0, -2.0], [0.0, 0.5]]], requires_grad=True)
    (gradient,) = torch.autograd.grad(l1()(Networks(widths=(2, 2), blocks={(1, 0): weight})).sum(), weight)
    assert gradient.tolist() == [[[1.0, -1.0], [0.0, 1.0]]]


def test_soft_count_of_hard_gates_is_the_count() -> None:
    gates = {edge: (w != 0).float() for edge, w in one().blocks.items()}
    assert soft_count()(one(edge_gates=gates)).tolist() == [6.0]


def test_soft_count_of_weights_follows_the_formula() -> None:
    value = soft_count(of="weights", threshold=0.5, sharpness=20.0)(one())
    wanted = sum(1 / (1 + math.exp(-20 * (abs(w) - 0.5))) for w in (1.0, -2.0, 0.0, 0.5, 3.0, -1.0, 0.0, 0.25))
    assert value.item() == pytest.approx(wanted, rel=1e-6)


def test_a_sharp_soft_count_is_the_count() -> None:
    assert soft_count(of="weights", threshold=0.1, sharpness=1e4)(one()).item() == pytest.approx(6.0)


def test_compactness_is_swat_nns_penalty_up_to_a_constant() -> None:
    alpha, beta = 0.4, 0.1
    nets = example_networks(3, 4, parts=["gates"])
    spread = torch.stack([g.std(1, correction=0) for g in nets.gates.values()]).mean(0)
    mean = torch.stack([g.mean(1) for g in nets.gates.values()]).mean(0)
    paper = -alpha * spread + beta * mean
    torch.testing.assert_close((alpha + beta) * compactness(share=alpha / (alpha + beta))(nets), paper + alpha / 2)


def test_compactness_is_least_for_half_open_half_shut() -> None:
    share = compactness(share=1.0)

    def at(*gates: float) -> float:
        return float(share(one(gates={1: torch.tensor([gates])})))

    assert at(0.0, 1.0) == 0.0
    assert at(0.5, 0.5) == at(1.0, 1.0) == 0.5
    assert at(0.1, 0.9) < at(0.3, 0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compactness_is_never_negative_by_rounding(dtype: torch.dtype) -> None:
    for width in range(1, 40):
        gates = (torch.arange(width) % 2).to(dtype).repeat(1, 1)
        blocks = {(1, 0): torch.ones(1, width, 1, dtype=dtype), (2, 1): torch.ones(1, 1, width, dtype=dtype)}
        nets = Networks(widths=(1, width, 1), blocks=blocks, gates={1: gates})
        assert compactness(share=1.0)(nets).item() >= 0.0


def test_eigenvalue_reads_hidden_layers_only() -> None:
    values = {0: torch.tensor([[9.0, 9.0]]), 1: torch.tensor([[3.0, -4.0]]), 2: torch.tensor([[9.0]])}
    assert eigenvalue(norm="l2")(one(eigenvalues=values)).tolist() == [5.0]
    assert eigenvalue(norm="l1")(one(eigenvalues=values)).tolist() == [7.0]
    assert eigenvalue(norm="l1", weights=[2.0])(one(eigenvalues=values)).tolist() == [14.0]


def test_eigenvalue_weights_go_first_to_last() -> None:
    nets = example_networks(0, 3, parts=["eigenvalues"])
    first, second = (nets.eigenvalues[layer].norm(dim=1) for layer in (1, 2))
    torch.testing.assert_close(eigenvalue(weights=[3.0, 0.5])(nets), 3.0 * first + 0.5 * second)


def test_eigenvalue_has_gradient_zero_where_a_layer_is_off() -> None:
    off = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(eigenvalue()(one(eigenvalues={1: off})).sum(), off)
    assert gradient.tolist() == [[0.0, 0.0]]


def test_eigenvalue_refuses_another_number_of_layers() -> None:
    with pytest.raises(ConfigError, match="2 weights for 1 hidden layers"):
        eigenvalue(weights=[1.0, 2.0]).accept(one(eigenvalues={1: torch.ones(1, 2)}))


@pytest.mark.parametrize("penalty", [soft_count(), compactness(), eigenvalue()])
def test_a_missing_part_is_named(penalty: Regularizer) -> None:
    with pytest.raises(ContractError, match="got networks without"):
        penalty(one())


def test_needs_follow_the_option() -> None:
    assert soft_count().needs == {"edge_gates"}
    assert soft_count(of="weights").needs == {"blocks"}


def test_wrong_numbers_are_refused() -> None:
    for threshold in (-0.1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="threshold"):
            soft_count(of="weights", threshold=threshold)
    for sharpness in (0.0, -1.0, math.inf):
        with pytest.raises(ConfigError, match="sharpness"):
            soft_count(of="weights", sharpness=sharpness)
    with pytest.raises(ConfigError, match="reads neither"):
        soft_count(threshold=0.1)
    for share in (-0.1, 1.1, math.nan):
        with pytest.raises(ConfigError, match="share"):
            compactness(share=share)
    for weights in ([], [-1.0], [math.nan], [0.0, 0.0]):
        with pytest.raises(ConfigError, match="weights"):
            eigenvalue(weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", ALL)
def test_compiles_in_one_graph_forwards_and_backwards(penalty: Regularizer) -> None:
    nets = example_networks(1, 3, dtype=torch.float32)

    def value(w: torch.Tensor, g: torch.Tensor, e: torch.Tensor, eigen: torch.Tensor) -> torch.Tensor:
        some = replace(
            nets, blocks={**nets.blocks, (1, 0): w}, gates={**nets.gates, 1: g}, edge_gates={**nets.edge_gates, (1, 0): e}
        )
        return penalty(replace(some, eigenvalues={**nets.eigenvalues, 1: eigen}))

    leaves = (nets.blocks[1, 0], nets.gates[1], nets.edge_gates[1, 0], nets.eigenvalues[1])
    compiled = torch.compile(value, fullgraph=True, backend="aot_eager")
    for fill in (None, 0.0):
        found = []
        for function in (value, compiled):
            own = [(t if fill is None else torch.full_like(t, fill)).clone().requires_grad_() for t in leaves]
            result = function(*own)
            gradients = torch.autograd.grad(result.sum(), own, allow_unused=True)
            found.append([result, *[torch.zeros(()) if g is None else g for g in gradients]])
        for eager, fused in zip(*found, strict=True):
            torch.testing.assert_close(fused, eager)


class Plain(SearchMethod):
    """Networks whose parts are the parameters themselves."""

    def init(self, task: Task, seeds: torch.Tensor) -> Params:
        weights = {name: uniform(seeds, name, (3, 3), -1.0, 1.0) for name in ("weight 1", "weight 2")}
        gates = {name: uniform(seeds, name, (3, 3), 0.1, 0.9) for name in ("edge gate 1", "edge gate 2")}
        neurons = {name: uniform(seeds, name, (3,), 0.1, 0.9) for name in ("gate", "eigenvalue")}
        return weights | gates | neurons

    def relax(self, params: Params, tau: torch.Tensor, noise: torch.Tensor | None = None) -> Networks:
        def both(name: str) -> dict[Edge, torch.Tensor]:
            return {(layer, layer - 1): params[f"{name} {layer}"] for layer in (1, 2)}

        neurons = {"gates": {1: params["gate"]}, "eigenvalues": {1: params["eigenvalue"]}}
        return Networks((3, 3, 3), both("weight"), edge_gates=both("edge gate"), **neurons)


@pytest.mark.slow
@pytest.mark.parametrize("penalties", [ALL[:1], ALL], ids=["l1", "all"])
def test_a_whole_step_is_compiled_for_the_cpu(penalties: tuple[Regularizer, ...]) -> None:
    """With the optimizer, which moves what the penalties read."""
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    split = Split(x, x.flip(0))
    one = track([constant()], [0] * 4, [0.01] * 4, 1).to("cpu", torch.float32)
    levels = (one,) * len(penalties)
    search = Search(unscaled("t", (split,) * 3), Plain(), penalties, Adam(), torch.arange(4), 1, one, one, levels)
    wanted, found = start(search), start(search)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="torch cannot compile")
        for state, move in ((wanted, step), (found, compile_step())):
            for _ in range(2):
                at = one.at(0)
                move(search, state.params, state.moments, split.pair, at, at, (at,) * len(penalties), None)
    for name, leaf in wanted.params.items():
        torch.testing.assert_close(found.params[name], leaf, rtol=1e-4, atol=1e-5)


def test_a_pack_of_one_row_is_a_pack() -> None:
    nets = networks.take(example_networks(0, 3), torch.tensor([2]))
    assert all(tuple(p(nets).shape) == (1,) for p in (l1(), soft_count(), compactness(), eigenvalue()))


class TestEigenvalueProximalL1(RegularizerLaws):
    name = "eigenvalue"
    options: ClassVar = {"norm": "l1", "proximal": True}


class TestEigenvalueProximalL2(RegularizerLaws):
    name = "eigenvalue"
    options: ClassVar = {"norm": "l2", "proximal": True}


def test_proximal_eigenvalues_become_exactly_zero() -> None:
    values = {1: torch.tensor([[0.3, -0.1, 1.0]], dtype=torch.float64), 2: torch.tensor([[0.05]], dtype=torch.float64)}
    nets = one(eigenvalues=values)
    penalty = eigenvalue(norm="l1", weights=[2.0], proximal=True)
    assert isinstance(penalty, Proximal)
    moved = penalty.shrink(nets, torch.tensor([0.1], dtype=torch.float64))
    torch.testing.assert_close(moved.eigenvalues[1], torch.tensor([[0.1, 0.0, 0.8]], dtype=torch.float64))
    assert bool((moved.eigenvalues[1] == 0).sum() == 1)
    assert moved.eigenvalues[2] is values[2]  # the output's are never read


# inputs of one column of a table


def test_a_column_counts_once() -> None:
    """Columns a (inputs 0, 1) and b (2), into one output: gates and weights of a are one edge."""
    gates = torch.tensor([[[0.5, 0.5, 0.25]]], dtype=torch.float64, requires_grad=True)
    nets = Networks(
        widths=(3, 1),
        blocks={(1, 0): torch.tensor([[[3.0, 4.0, 0.0]]], dtype=torch.float64)},
        edge_gates={(1, 0): gates},
        groups=(0, 0, 1),
    )
    count = soft_count()(nets)
    assert count.item() == pytest.approx(0.75 + 0.25)  # 1 - (1 - 1/2)^2, and the other gate
    (slopes,) = torch.autograd.grad(count, gates)
    assert slopes.tolist() == [[pytest.approx([0.5, 0.5, 1.0])]]
    weights = replace(nets, edge_gates={})
    wanted = torch.sigmoid(torch.tensor([2.0 * (5.0 - 1.0), 2.0 * (0.0 - 1.0)])).sum()
    assert soft_count(of="weights", threshold=1.0, sharpness=2.0)(weights).item() == pytest.approx(wanted.item())
    assert l1()(weights).item() == 7.0  # each number


def test_alone_in_its_column_an_input_counts_as_ever() -> None:
    nets = example_networks(0, 4, (3, 4, 1), {"blocks", "edge_gates"})
    for count in (soft_count(), soft_count(of="weights")):
        torch.testing.assert_close(count(replace(nets, groups=(2, 0, 1))), count(nets))
    hard = replace(nets, edge_gates={edge: torch.ones_like(g) for edge, g in nets.edge_gates.items()}, groups=(0, 0, 0))
    assert soft_count()(hard).tolist() == [4.0 + 4.0 + 1.0] * 4  # a block of 4 x 1 columns, one of 1 x 4, a skip
