"""The record and everything in it, against loops over rows, layers and neurons that know no tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.activations import FUNCTIONS, function_of
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import (
    PARTS,
    Networks,
    alive,
    forward,
    harden,
    join,
    mixed,
    product,
    sizes,
    sums,
    take,
    values,
    where,
)
from nasplug.replicas import normal, uniform
from nasplug.testing import example_networks

from .stand_ins import MIXTURES, inputs, records

few = settings(max_examples=25, deadline=None)
LEAST = 1e-12

FORMULAS: dict[str, Callable[[float], float]] = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "tanh": math.tanh,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "silu": lambda z: z / (1 + math.exp(-z)),
    "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    "softplus": lambda z: math.log1p(math.exp(z)),
    "sin": math.sin,
    "square": lambda z: z * z,
}


def activated(nets: Networks, k: int, layer: int, unit: int, z: float) -> float:
    """One neuron's mixture of activations."""
    if layer not in nets.choices:
        return FORMULAS[nets.candidates[0]](z)
    choice = nets.choices[layer][k]
    shares = choice[unit if choice.shape[0] > 1 else 0].tolist()
    return sum(share * FORMULAS[name](z) for share, name in zip(shares, nets.candidates, strict=True))


def weights_of(nets: Networks, k: int) -> dict[tuple[tuple[int, int], tuple[int, int]], float]:
    """Row k as a graph: (layer, unit) -> (layer, unit) and what is multiplied on the way, gates of the source included."""
    found = {}
    for (to, source), block in nets.blocks.items():
        for i in range(nets.widths[to]):
            for j in range(nets.widths[source]):
                w = float(block[k, i, j])
                if (to, source) in nets.edge_gates:
                    w *= float(nets.edge_gates[to, source][k, i, j])
                if source in nets.gates:
                    w *= float(nets.gates[source][k, j])
                found[(source, j), (to, i)] = w
    return found


def naive(nets: Networks, k: int, x: list[float]) -> list[float]:
    """One row, one sample, one neuron at a time. Gates are applied on the way out, so `activated` values are ungated."""
    weights = weights_of(nets, k)
    values = {(0, i): value for i, value in enumerate(x)}
    for layer in range(1, nets.depth + 1):
        for unit in range(nets.widths[layer]):
            z = float(nets.biases[layer][k, unit]) if layer in nets.biases else 0.0
            z += sum(w * values[a] for (a, b), w in weights.items() if b == (layer, unit))
            values[layer, unit] = z if layer == nets.depth else activated(nets, k, layer, unit, z)
    return [values[nets.depth, unit] for unit in range(nets.widths[-1])]


class Left(NamedTuple):
    """What a search through one row's graph finds: what is on a path from an input to an output."""

    edges: set[tuple[tuple[int, int], tuple[int, int]]]
    hidden: set[tuple[int, int]]
    inputs: set[tuple[int, int]]
    biases: dict[tuple[int, int], float]  # of what is kept and of outputs, constants folded in


def walk(start: set[tuple[int, int]], steps: set[tuple[tuple[int, int], tuple[int, int]]]) -> set[tuple[int, int]]:
    """Everything that can be reached from ``start``."""
    found, last = set(start), set(start)
    while last:
        last = {b for a, b in steps if a in last} - found
        found |= last
    return found


def on_paths(nets: Networks, k: int) -> Left:
    weights = weights_of(nets, k)
    steps = {edge for edge, w in weights.items() if w != 0}
    reached = walk({(0, i) for i in range(nets.widths[0])}, steps)
    useful = walk({(nets.depth, o) for o in range(nets.widths[-1])}, {(b, a) for a, b in steps})
    edges = {(a, b) for a, b in steps if a in reached and b in useful}
    values: dict[tuple[int, int], float] = {}
    biases: dict[tuple[int, int], float] = {}
    for layer in range(1, nets.depth + 1):
        for unit in range(nets.widths[layer]):
            b = float(nets.biases[layer][k, unit]) if layer in nets.biases else 0.0
            b += sum(w * values[a] for (a, to), w in weights.items() if to == (layer, unit) and a in values)
            if layer < nets.depth and (layer, unit) not in reached:
                values[layer, unit] = activated(nets, k, layer, unit, b)
            elif layer == nets.depth or (layer, unit) in useful:
                biases[layer, unit] = b
    return Left(
        edges=edges,
        hidden={n for n in reached & useful if 0 < n[0] < nets.depth},
        inputs={a for a, _ in edges if a[0] == 0},
        biases=biases,
    )


# Activations and mixtures.


def test_every_activation_has_a_formula() -> None:
    assert set(FORMULAS) == set(FUNCTIONS)
    z = torch.linspace(-4, 4, 33, dtype=torch.float64)
    for name, formula in FORMULAS.items():
        wanted = torch.tensor([formula(v) for v in z.tolist()], dtype=torch.float64)
        assert torch.allclose(function_of(name)(z), wanted, rtol=0, atol=1e-14), name


def test_unknown_activation_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"activation 'rleu' is not known; known: .*relu.*Did you mean 'relu'\?"):
        function_of("rleu")


def mixing(candidates: tuple[str, ...], choice: Tensor | None) -> Networks:
    """Networks of which only the hidden layer's activation counts."""
    return Networks((1, 1, 1), {}, choices={} if choice is None else {1: choice}, candidates=candidates)


@pytest.mark.parametrize("per_neuron", [True, False])
def test_the_fast_mixture_is_the_general_one(per_neuron: bool) -> None:
    """Also its gradients: with respect to z, and to the logits behind the choice (its derivative along the simplex)."""
    seeds = torch.arange(5)
    logits = normal(seeds, "logits", (6 if per_neuron else 1, 2))
    z = normal(seeds, "z", (6, 7))
    probe = normal(seeds, "probe", (6, 7))
    found = []
    for order in ((0, 1), (1, 0)):  # only the first order has the fast form
        leaves = [z.clone().requires_grad_(), logits.clone().requires_grad_()]
        choice = leaves[1].softmax(-1)[..., list(order)]
        value = mixed(mixing(tuple(("relu", "identity")[i] for i in order), choice), 1, leaves[0])
        found.append([value, *torch.autograd.grad((value * probe).sum(), leaves)])
    for fast, general in zip(*found, strict=True):
        assert torch.allclose(fast, general, rtol=0, atol=LEAST)


@pytest.mark.parametrize(("share", "name"), [(0.0, "relu"), (1.0, "identity")])
def test_a_one_hot_choice_is_that_function(share: float, name: str) -> None:
    z = normal(torch.arange(3), "z", (4, 5))
    choice = torch.tensor([1.0 - share, share], dtype=torch.float64).expand(3, 1, 2)
    nets = mixing(("relu", "identity"), choice)
    assert torch.equal(mixed(nets, 1, z), function_of(name)(z))
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mixed(nets, 1, leaf).sum(), leaf)
    assert torch.equal(slope, torch.ones_like(z) if share else (z > 0).double())


def test_mixed_without_a_choice_is_the_first_candidate() -> None:
    z = normal(torch.arange(2), "z", (3, 4))
    assert torch.equal(mixed(mixing(("tanh", "relu"), None), 1, z), z.tanh())


@pytest.mark.parametrize("to", [1, 3])
@pytest.mark.parametrize("own", [True, False])
def test_product(to: int, own: bool) -> None:
    w = normal(torch.arange(4), "w", (to, 2))
    a = normal(torch.arange(4 if own else 1), "a", (2, 5))
    a = a if own else a[0]
    wanted = torch.stack([w[k] @ (a[k] if own else a) for k in range(4)])
    assert torch.allclose(product(w, a), wanted, rtol=0, atol=LEAST)


# The forward.


@few
@given(nets=records(), own=st.booleans())
def test_forward_is_the_formula(nets: Networks, own: bool) -> None:
    nets.check()
    x = inputs(nets, own=own)
    out = forward(nets, x)
    assert out.shape == (nets.replicas, nets.widths[-1], x.shape[-1])
    for k in range(nets.replicas):
        columns = (x[k] if own else x).T.tolist()
        wanted = torch.tensor([naive(nets, k, column) for column in columns], dtype=torch.float64).T
        assert torch.allclose(out[k], wanted, rtol=1e-10, atol=1e-10)


@few
@given(nets=records(), own=st.booleans())
def test_values_and_sums_of_a_layer_are_those_of_the_network_cut_off_there(nets: Networks, own: bool) -> None:
    x = inputs(nets, own=own)
    found = values(nets, x)
    assert [v.shape[-2] for v in found] == list(nets.widths)
    assert torch.equal(found[-1], forward(nets, x))
    assert found[0] is x
    for layer in range(1, nets.depth + 1):
        some = values(nets, x, layer)
        assert all(torch.equal(one, other) for one, other in zip(some, found[: layer + 1], strict=True))
        z = sums(nets, x, layer)
        for k in range(nets.replicas):
            for column in range(x.shape[-1]):
                wanted = [
                    value if layer == nets.depth else activated(nets, k, layer, unit, value) * gate
                    for unit, (value, gate) in enumerate(zip(z[k, :, column].tolist(), gates_of(nets, k, layer), strict=True))
                ]
                assert found[layer][k, :, column].tolist() == pytest.approx(wanted, rel=1e-10, abs=1e-10)


def gates_of(nets: Networks, k: int, layer: int) -> list[float]:
    gates: list[float] = nets.gates[layer][k].tolist() if layer in nets.gates else [1.0] * nets.widths[layer]
    return gates


@few
@given(nets=records())
def test_forward_of_a_row_alone(nets: Networks) -> None:
    x = inputs(nets)
    out = forward(nets, x)
    for k in range(nets.replicas):
        assert torch.allclose(forward(take(nets, torch.tensor([k])), x)[0], out[k], rtol=0, atol=LEAST)


def test_forward_keeps_nan_rows_apart() -> None:
    nets = example_networks(k=3, parts=PARTS)
    x = inputs(nets)
    spoiled = nets.map(lambda t: torch.cat([t[:1], torch.full_like(t[1:2], torch.nan), t[2:]]))
    before, after = forward(nets, x), forward(spoiled, x)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert after[1].isnan().all()


# What is alive.


@few
@given(nets=records())
def test_alive_changes_no_function(nets: Networks) -> None:
    x = inputs(nets)
    cleared = alive(nets)
    cleared.check()
    assert torch.allclose(forward(cleared, x), forward(nets, x), rtol=1e-10, atol=1e-10)


@few
@given(nets=records())
def test_alive_keeps_what_is_on_a_path_and_nothing_else(nets: Networks) -> None:
    cleared = alive(nets)
    assert set(cleared.edge_gates) == set(cleared.blocks) == set(nets.blocks)
    for k in range(nets.replicas):
        left = on_paths(nets, k)
        for (to, source), gate in cleared.edge_gates.items():
            wanted = [
                [float(((source, j), (to, i)) in left.edges) for j in range(nets.widths[source])]
                for i in range(nets.widths[to])
            ]
            assert gate[k].tolist() == wanted
            assert torch.equal(cleared.blocks[to, source][k] != 0, gate[k] != 0)
        for layer in range(1, nets.depth):
            assert cleared.gates[layer][k].tolist() == [float((layer, i) in left.hidden) for i in range(nets.widths[layer])]
        for layer, bias in cleared.biases.items():
            wanted_bias = [left.biases.get((layer, i), 0.0) for i in range(nets.widths[layer])]
            assert torch.allclose(bias[k], torch.tensor(wanted_bias, dtype=torch.float64), rtol=0, atol=LEAST)


@few
@given(nets=records())
def test_sizes_count_what_is_on_a_path(nets: Networks) -> None:
    found = sizes(nets)
    for name, counts in found.items():
        assert counts.dtype == torch.long, name
        assert counts.shape == (nets.replicas,), name
    for k in range(nets.replicas):
        left = on_paths(nets, k)
        assert {name: int(counts[k]) for name, counts in found.items()} == {
            "edges": len(left.edges),
            "neurons": len(left.hidden),
            "layers": len({layer for layer, _ in left.hidden}),
            "inputs": len(left.inputs),
            "parameters": len(left.edges) + sum(b != 0 for b in left.biases.values()),
            "macs": len(left.edges),
        }


def same(one: Networks, other: Networks) -> None:
    assert one.parts == other.parts
    assert (one.widths, one.candidates) == (other.widths, other.candidates)
    for part in PARTS:
        mine, theirs = getattr(one, part), getattr(other, part)
        assert set(mine) == set(theirs), part
        for key, tensor in mine.items():
            assert torch.equal(tensor, theirs[key]), (part, key)


@few
@given(nets=records())
def test_alive_twice_is_alive_once(nets: Networks) -> None:
    once = alive(nets)
    same(alive(once), once)
    assert {n: c.tolist() for n, c in sizes(once).items()} == {n: c.tolist() for n, c in sizes(nets).items()}


@few
@given(nets=records())
def test_alive_row_by_row(nets: Networks) -> None:
    """A row comes out the same whoever shares its pack: also which biases there are, since fine-tuning trains those."""
    together = alive(nets)
    for k in range(nets.replicas):
        row = torch.tensor([k])
        alone = alive(take(nets, row))
        assert set(alone.biases) == set(together.biases)
        for part in PARTS:
            for key, tensor in getattr(alone, part).items():
                assert torch.allclose(tensor, getattr(together, part)[key][row], rtol=0, atol=LEAST), (part, key)


def test_a_row_gets_no_bias_from_its_pack() -> None:
    """Row 0 is whole, row 1 has a neuron that nothing reaches, whose sigmoid(0) becomes an output bias."""
    w = torch.ones(2, 1, 1)
    w[1] = 0.0
    nets = Networks(widths=(1, 1, 1), blocks={(1, 0): w, (2, 1): torch.ones(2, 1, 1)}, candidates=("sigmoid",))
    together = alive(nets)
    for k, bias in enumerate((0.0, 0.5)):
        alone = alive(take(nets, torch.tensor([k])))
        assert set(alone.biases) == set(together.biases) == {2}
        assert together.biases[2][k].tolist() == alone.biases[2][0].tolist() == [bias]


def test_alive_keeps_bias_free_networks_bias_free() -> None:
    """Where no constant can arise, no bias appears."""
    nets = example_networks(parts=("gates",))
    assert nets.candidates == ("tanh",)
    assert not alive(nets).biases


def test_a_neuron_with_only_a_bias_becomes_a_bias() -> None:
    """2 inputs, 1 hidden neuron that nothing reaches, 1 output: what is left is ``w_o x + v sigmoid(b)``."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    nets = Networks(
        widths=(1, 1, 1),
        blocks={(1, 0): 0.0 * one, (2, 1): 3.0 * one, (2, 0): 5.0 * one},
        biases={1: 2.0 * one[0]},
        gates={1: 0.25 * one[0]},
        candidates=("sigmoid",),
    )
    cleared = alive(nets)
    assert cleared.biases[2].item() == pytest.approx(3.0 * 0.25 / (1 + math.exp(-2.0)), abs=LEAST)
    assert cleared.biases[1].item() == 0.0
    assert cleared.gates[1].item() == 0.0
    assert {name: int(count) for name, count in sizes(nets).items()} == {
        "edges": 1,
        "neurons": 0,
        "layers": 0,
        "inputs": 1,
        "parameters": 2,
        "macs": 1,
    }


def test_constants_pass_through_layers_that_nothing_reaches() -> None:
    """softplus(0) -> softplus -> output, with no input block at all: the network is one number."""
    w = {(2, 1): torch.full((1, 1, 1), 2.0), (3, 2): torch.full((1, 1, 1), -3.0)}
    nets = Networks(widths=(2, 1, 1, 1), blocks=w, candidates=("softplus",))
    wanted = -3.0 * math.log1p(math.exp(2.0 * math.log(2.0)))
    assert forward(nets, torch.zeros(2, 4))[0, 0].tolist() == pytest.approx([wanted] * 4, rel=1e-6)
    cleared = alive(nets)
    assert cleared.biases[3].item() == pytest.approx(wanted, rel=1e-6)
    assert all(int(count) == 0 for name, count in sizes(nets).items() if name != "parameters")
    assert int(sizes(nets)["parameters"]) == 1


def test_a_path_of_skips_alone() -> None:
    block = torch.zeros(1, 2, 3)
    block[0, 1, 2] = 4.0
    nets = Networks(widths=(3, 2, 2), blocks={(2, 0): block, (1, 0): torch.ones(1, 2, 3)})
    assert {name: int(count) for name, count in sizes(nets).items()} == {
        "edges": 1,
        "neurons": 0,
        "layers": 0,
        "inputs": 1,
        "parameters": 1,
        "macs": 1,
    }


def test_alive_changes_nothing_it_is_given() -> None:
    nets = example_networks()
    before = nets.map(torch.clone)
    alive(nets)
    sizes(nets)
    same(nets, before)


# Rounding and taking.


@few
@given(nets=records())
def test_harden(nets: Networks) -> None:
    hard = harden(nets)
    hard.check()
    for layer, gate in nets.gates.items():
        assert hard.gates[layer].tolist() == [[float(g >= 0.5) for g in row] for row in gate.tolist()]
    for edge, gate in nets.edge_gates.items():
        assert hard.edge_gates[edge].tolist() == [[[float(g >= 0.5) for g in r] for r in row] for row in gate.tolist()]
    for layer, choice in nets.choices.items():
        for row, wanted in zip(hard.choices[layer].flatten(0, 1).tolist(), choice.flatten(0, 1).tolist(), strict=True):
            assert row == [float(c == wanted.index(max(wanted))) for c in range(len(wanted))]
    for part in ("blocks", "biases"):
        assert getattr(hard, part) == getattr(nets, part)
    same(harden(hard), hard)


def test_harden_takes_the_first_of_equals() -> None:
    nets = replace(
        example_networks(k=2, widths=(2, 3, 1), parts=("choices",)),
        choices={1: torch.full((2, 3, 3), 1 / 3, dtype=torch.float64)},
    )
    assert torch.equal(harden(nets).choices[1][..., 0], torch.ones(2, 3, dtype=torch.float64))


def test_take_is_rows_in_that_order() -> None:
    nets = example_networks(k=4)
    some = take(nets, torch.tensor([2, 0, 2]))
    assert some.replicas == 3
    for part in PARTS:
        for key, tensor in getattr(nets, part).items():
            assert torch.equal(getattr(some, part)[key], tensor[[2, 0, 2]])


@few
@given(nets=records(), data=st.data())
def test_join_gives_the_rows_that_take_took(nets: Networks, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, nets.replicas))
    parts = [take(nets, torch.arange(0, cut)), take(nets, torch.arange(cut, nets.replicas))]
    for joined in (join(parts), join([nets])):
        assert (joined.widths, joined.candidates, joined.parts) == (nets.widths, nets.candidates, nets.parts)
        for part in PARTS:
            for key, tensor in getattr(nets, part).items():
                assert torch.equal(getattr(joined, part)[key], tensor)


@few
@given(nets=records(), data=st.data())
def test_where_takes_each_row_whole(nets: Networks, data: st.DataObject) -> None:
    rows = torch.tensor(data.draw(st.lists(st.booleans(), min_size=nets.replicas, max_size=nets.replicas)))
    other = nets.map(lambda t: t + 1.0)
    found = where(rows, other, nets)
    for part in PARTS:
        for key, tensor in getattr(found, part).items():
            for k, new in enumerate(rows.tolist()):
                assert torch.equal(tensor[k], getattr(other if new else nets, part)[key][k])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gates": {}}, r"gates \[1\] and \[\]"),
        ({"candidates": ("sin", "gelu", "elu")}, "candidates"),
        ({"biases": {1: torch.zeros(2, 3)}}, r"biases \[1, 2\] and \[1\]"),
        ({"widths": (2, 3, 2)}, "widths"),
    ],
)
def test_rows_of_records_that_differ_do_not_mix(change: dict[str, Any], told: str) -> None:
    """A row with another record's gates, or without its own, would be another function."""
    nets = example_networks(k=2, widths=(2, 3, 1), parts=("biases", "gates", "choices"))
    other = replace(nets, **change)
    for mix in (lambda: where(torch.tensor([True, False]), nets, other), lambda: join([nets, other])):
        with pytest.raises(ContractError, match=told):
            mix()
    with pytest.raises(ContractError, match="no record"):
        join([])


def test_a_record_knows_itself() -> None:
    nets = example_networks(k=2, widths=(2, 3, 4, 2), parts=("gates", "edge_gates"))
    assert nets.depth == 3
    assert nets.replicas == 2
    assert nets.parts == {"blocks", "gates", "edge_gates"}
    assert torch.equal(nets.block((2, 1)), nets.blocks[2, 1] * nets.edge_gates[2, 1])
    assert torch.equal(replace(nets, edge_gates={}).block((2, 1)), nets.blocks[2, 1])
    doubled = nets.map(lambda t: 2 * t)
    for part in nets.parts:
        for key, tensor in getattr(nets, part).items():
            assert torch.equal(getattr(doubled, part)[key], 2 * tensor)


# What is refused.


def z(*shape: int) -> Tensor:
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (2,)}, r"widths \(2,\): at least two layers"),
        ({"widths": (2, 0, 1)}, r"widths \(2, 0, 1\): at least two layers of at least one neuron"),
        ({"blocks": {}}, "no blocks"),
        ({"blocks": {(1, 1): z(2, 3, 3)}}, r"blocks\[\(1, 1\)\]: an edge goes \(to, from\) with 2 >= to > from >= 0"),
        ({"blocks": {(0, 1): z(2, 2, 3)}}, r"blocks\[\(0, 1\)\]: an edge goes"),
        ({"blocks": {(3, 0): z(2, 1, 2)}}, r"blocks\[\(3, 0\)\]: an edge goes"),
        ({"blocks": {(1, -1): z(2, 3, 1)}}, r"blocks\[\(1, -1\)\]: an edge goes"),
        ({"blocks": {(1, 0): z(2, 2, 3)}}, r"blocks\[\(1, 0\)\] has shape \(2, 2, 3\); the skeleton asks for \(2, 3, 2\)"),
        ({"edge_gates": {(1, 0): z(1, 3, 2)}}, r"edge_gates\[\(1, 0\)\] has shape \(1, 3, 2\)"),
        ({"edge_gates": {(2, 2): z(2, 1, 1)}}, r"edge_gates\[\(2, 2\)\]: an edge goes"),
        ({"edge_gates": {(2, 0): z(2, 1, 2)}}, r"edge_gates\[\(2, 0\)\]: there is no such block"),
        ({"biases": {1: z(2, 4)}}, r"biases\[1\] has shape \(2, 4\); the skeleton asks for \(2, 3\)"),
        ({"biases": {1: z(1, 3)}}, r"biases\[1\] has shape \(1, 3\)"),
        ({"biases": {0: z(2, 2)}}, r"layer 0 has biases; only layers 1\.\.2 may"),
        ({"biases": {3: z(2, 1)}}, r"layer 3 has biases; only layers 1\.\.2 may"),
        ({"biases": {-1: z(2, 1)}}, r"layer -1 has biases"),
        ({"gates": {1: z(3)}}, r"gates\[1\] has shape \(3,\)"),
        ({"gates": {0: z(2, 2)}}, r"layer 0 has gates; only hidden layers 1\.\.1 may"),
        ({"gates": {2: z(2, 1)}}, "layer 2 has gates; only hidden layers"),
        ({"gates": {5: z(2, 1)}}, "layer 5 has gates; only hidden layers"),
        ({"choices": {2: z(2, 1, 1)}}, "layer 2 has choices; only hidden layers"),
        ({"choices": {5: z(2, 3, 1)}}, "layer 5 has choices; only hidden layers"),
        ({"choices": {1: z(2, 3, 2)}}, r"choices\[1\] has shape \(2, 3, 2\); the skeleton asks for \(2, 3, 1\)"),
        ({"choices": {1: z(2, 2, 1)}}, r"choices\[1\] has shape \(2, 2, 1\)"),
        ({"choices": {1: z(2, 1)}}, r"choices\[1\] has shape \(2, 1\)"),
        ({"eigenvalues": {0: z(2, 3)}}, r"eigenvalues\[0\] has shape \(2, 3\); the skeleton asks for \(2, 2\)"),
        ({"eigenvalues": {3: z(2, 3)}}, "layer 3 has eigenvalues"),
        ({"candidates": ("relu", "tanh")}, "2 candidate activations need choices for every hidden layer"),
        ({"candidates": ()}, "no candidate activation"),
    ],
)
def test_a_record_that_does_not_fit_itself_is_refused(change: dict[str, Any], message: str) -> None:
    good = Networks(widths=(2, 3, 1), blocks={(1, 0): z(2, 3, 2), (2, 1): z(2, 1, 3)})
    good.check()
    with pytest.raises(ContractError, match=message):
        replace(good, **change).check()


def test_a_record_with_an_unknown_activation_is_refused() -> None:
    nets = Networks(widths=(2, 1), blocks={(1, 0): z(1, 1, 2)}, candidates=("rleu",))
    with pytest.raises(ConfigError, match="'rleu' is not known"):
        nets.check()


def test_both_forms_of_a_choice_fit() -> None:
    for rows in (1, 3):
        choice = uniform(torch.arange(2), "choice", (rows, 2))
        nets = Networks(
            widths=(2, 3, 1),
            blocks={(1, 0): z(2, 3, 2), (2, 1): z(2, 1, 3)},
            choices={1: choice / choice.sum(-1, keepdim=True)},
            candidates=MIXTURES[2],
        )
        nets.check()


# inputs of one column


def test_what_was_made_of_one_column_counts_once() -> None:
    """Columns a (inputs 0, 1, 2) and b (3), two neurons, one output with a skip edge."""
    nets = Networks(
        widths=(4, 2, 1),
        blocks={
            (1, 0): torch.tensor([[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]]]),
            (2, 1): torch.tensor([[[1.0, 1.0]]]),
            (2, 0): torch.tensor([[[0.0, 5.0, 0.0, 0.0]]]),
        },
        biases={1: torch.tensor([[0.5, 0.0]])},
        groups=(0, 0, 0, 1),
    )
    nets.check()
    one_by_one = {name: int(value) for name, value in sizes(replace(nets, groups=())).items()}
    assert one_by_one == {"edges": 7, "neurons": 2, "layers": 1, "inputs": 4, "parameters": 8, "macs": 7}
    assert {name: int(value) for name, value in sizes(nets).items()} == one_by_one | {"edges": 6, "inputs": 2}
    assert alive(nets).groups == harden(take(nets, torch.tensor([0, 0]))).groups == nets.groups
    with pytest.raises(ContractError, match="with groups"):
        join([nets, replace(nets, groups=())])
    for groups in ((0, 0, 0), (0, -1, 0, 0)):
        with pytest.raises(ContractError, match="groups of"):
            replace(nets, groups=groups).check()


@given(st.integers(0, 1000), st.permutations([0, 0, 1, 2, 2, 2]))
@settings(max_examples=30, deadline=None)
def test_law_of_groups(seed: int, groups: list[int]) -> None:
    """Never more edges and inputs than one by one, as many parameters; a column of one number counts as without groups."""
    nets = example_networks(seed, 4, (6, 3, 2), {"blocks", "biases", "edge_gates"})
    nets = replace(nets, edge_gates={edge: (gate > 0.7).to(gate.dtype) for edge, gate in nets.edge_gates.items()})
    alone, together = sizes(nets), sizes(replace(nets, groups=tuple(groups)))
    for name in ("edges", "inputs"):
        assert bool((together[name] <= alone[name]).all())
    for name in ("neurons", "layers", "parameters"):
        assert torch.equal(together[name], alone[name])
    same = sizes(replace(nets, groups=(5, 4, 3, 2, 1, 0)))
    assert all(torch.equal(same[name], alone[name]) for name in alone)
