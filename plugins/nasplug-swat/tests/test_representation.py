"""Networks to matrices and back, without loss; what an arrangement does not see; what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.errors import ConfigError
from nasplug.networks import Networks, forward, sizes, take
from nasplug.replicas import uniform
from nasplug.stems import Convolution, Stem
from nasplug_swat.autoencoder import PAPER, Sampling, Space, arrange, deepen, draw, draw_ends, kinds, pack, pad, unpack, used

torch.set_num_threads(1)
SEEDS = torch.arange(6)


def probes(space: Space, count: int = 32) -> Tensor:
    return uniform(torch.tensor([1]), "probes", (space.inputs, count), -1.0, 1.0)[0].float()


def tensors(nets: Networks) -> dict[str, Tensor]:
    parts = ("blocks", "biases", "gates", "choices")
    return {f"{part} {key}": t for part in parts for key, t in getattr(nets, part).items()}


spaces = st.builds(
    Space,
    width=st.integers(1, 9),
    deepest=st.integers(1, 5),
    inputs=st.integers(1, 11),
    outputs=st.integers(1, 10),
    candidates=st.lists(st.sampled_from(sorted(FUNCTIONS)), min_size=1, max_size=4, unique=True).map(tuple),
)


@given(spaces, st.data())
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_the_same_bit_by_bit(space: Space, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, space.deepest))
    nets = draw(space, depth, SEEDS + data.draw(st.integers(0, 1000)))
    nets.check()
    matrices = pack(nets, space)
    assert matrices.values.shape == (6, space.rows, space.columns)
    again = unpack(matrices)
    again.check()
    wanted = tensors(nets)
    assert {name: t.shape for name, t in tensors(again).items()} == {name: t.shape for name, t in wanted.items()}
    assert all(torch.equal(t, wanted[name]) for name, t in tensors(again).items())
    assert torch.equal(pack(again, space).values, matrices.values)


@given(spaces.filter(lambda space: space.width > 1), st.data())
@settings(max_examples=30, deadline=None)
def test_where_ends_vary_all_matrices_are_of_one_size_and_lossless(space: Space, data: st.DataObject) -> None:
    vary = space.model_copy(update={"vary": True})
    here = vary.at(data.draw(st.integers(1, space.inputs)), data.draw(st.integers(1, space.outputs)))
    depth = data.draw(st.integers(1, space.deepest))
    nets = draw(here, depth, SEEDS)
    assert (nets.widths[0], nets.widths[-1]) == here.ends
    matrices = pack(nets, vary)
    assert matrices.values.shape == (6, space.rows, space.columns)
    assert matrices.space == here
    again = unpack(matrices)
    again.check()
    assert all(torch.equal(t, tensors(nets)[name]) for name, t in tensors(again).items())
    beyond = kinds(here, depth) == 0
    assert not bool(matrices.values[:, beyond].any())
    assert bool((kinds(here, depth)[kinds(space, depth) == 0] == 0).all())


def test_where_ends_vary_each_batch_has_its_own() -> None:
    space = Space(inputs=3, outputs=2, vary=True)
    drawn = {draw_ends(space, torch.tensor([seed]), "batch") for seed in range(100)}
    assert drawn == {(i, o) for i in (1, 2, 3) for o in (1, 2)}
    assert draw_ends(PAPER, torch.tensor([0]), "batch") == (2, 1)
    assert space.words.startswith("1 to 3 inputs,")
    assert space.at(3, 1).words.startswith("3 inputs,")
    with pytest.raises(ConfigError, match="4 inputs and 1 outputs; needed: 1 to 3 inputs"):
        space.at(4, 1)
    with pytest.raises(ConfigError, match="needed: 1 to 3 inputs"):
        pack(draw(PAPER.model_copy(update={"inputs": 4}), 1, SEEDS), space)


def test_the_papers_space() -> None:
    assert (PAPER.rows, PAPER.columns) == (7, 56)  # 12 L + 8 columns at L = 4
    assert [int((kinds(PAPER, depth) > 0).sum()) for depth in (1, 4)] == [
        14 + 7 + 21 + 7 + 8,
        14 + 3 * 49 + 4 * (7 + 21 + 7) + 8,
    ]
    # what stands next to the output shares its columns across depths
    shared = (kinds(PAPER, 2) > 0) & (kinds(PAPER, 3) > 0)
    assert int(shared.sum()) == int((kinds(PAPER, 2) > 0).sum())


@given(st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_narrow_networks_are_padded_without_changing_their_function(depth: int, seed: int) -> None:
    small = Space(width=3, deepest=4, candidates=("tanh", "leaky_relu"))
    nets = draw(small, depth, SEEDS + seed)
    padded = pad(nets, PAPER)
    padded.check()
    assert padded.widths == (2, *[7] * depth, 1)
    assert torch.equal(forward(padded, probes(PAPER)), forward(unpack(pack(nets, PAPER)), probes(PAPER)))
    torch.testing.assert_close(forward(padded, probes(PAPER)), forward(nets, probes(PAPER)), rtol=1e-5, atol=1e-5)


def test_rows_do_not_meet() -> None:
    nets = draw(PAPER, 3, SEEDS)
    whole = pack(nets, PAPER).values
    for k in range(6):
        one = draw(PAPER, 3, SEEDS[k : k + 1])
        assert torch.equal(pack(one, PAPER).values, whole[k : k + 1])
        arranged = take(arrange(nets, PAPER), torch.tensor([k]))
        for name, t in tensors(arrange(one, PAPER)).items():
            assert torch.equal(t, tensors(arranged)[name]), name


def test_edge_gates_are_folded_and_missing_parts_have_their_neutral_value() -> None:
    block = torch.ones(1, 3, 2)
    nets = Networks(
        (2, 3, 1), {(1, 0): block, (2, 1): torch.ones(1, 1, 3)}, edge_gates={(1, 0): 0.5 * block}, candidates=("tanh",)
    )
    made = unpack(pack(nets, PAPER))
    assert torch.equal(made.blocks[1, 0][:, :3], 0.5 * block)
    assert made.gates[1].tolist() == [[1.0] * 3 + [0.0] * 4]
    assert made.choices[1][0, :3].tolist() == [[0.0, 1.0, 0.0]] * 3
    torch.testing.assert_close(forward(made, probes(PAPER)), forward(nets, probes(PAPER)))


def shuffled(nets: Networks, seed: int) -> Networks:
    """The same functions with the neurons of each hidden layer in another order."""
    generator = torch.Generator().manual_seed(seed)
    blocks, biases, gates, choices = dict(nets.blocks), dict(nets.biases), dict(nets.gates), dict(nets.choices)
    for layer in range(1, nets.depth):
        order = torch.randperm(nets.widths[layer], generator=generator)
        blocks[layer, layer - 1] = blocks[layer, layer - 1][:, order]
        blocks[layer + 1, layer] = blocks[layer + 1, layer][:, :, order]
        biases[layer], gates[layer], choices[layer] = biases[layer][:, order], gates[layer][:, order], choices[layer][:, order]
    return replace(nets, blocks=blocks, biases=biases, gates=gates, choices=choices)


@given(st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_an_arrangement_does_not_see_the_order_of_neurons(depth: int, seed: int) -> None:
    nets = draw(PAPER, depth, SEEDS + seed)
    one, other = arrange(nets, PAPER), arrange(shuffled(nets, seed), PAPER)
    for name, t in tensors(one).items():
        torch.testing.assert_close(tensors(other)[name], t, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(forward(one, probes(PAPER)), forward(nets, probes(PAPER)), rtol=1e-4, atol=1e-3)


def test_an_arrangement_does_not_see_dead_neurons() -> None:
    nets = draw(PAPER, 2, SEEDS)
    gates = {layer: torch.ones_like(g) for layer, g in nets.gates.items()}
    blocks = {edge: w.clone() for edge, w in nets.blocks.items()}
    blocks[3, 2][:, :, 5] = 0.0  # reaches no output
    lively = arrange(replace(nets, gates=gates, blocks=blocks), PAPER)
    gates[2] = gates[2].clone()
    gates[2][:, 5] = 0.0
    other = {edge: w.clone() for edge, w in blocks.items()}
    other[2, 1][:, 5] = 3.0
    masked = arrange(replace(nets, gates=gates, blocks=other), PAPER)
    for name, t in tensors(lively).items():
        assert torch.equal(tensors(masked)[name], t), name


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deeper_networks_are_the_same_functions(depth: int) -> None:
    nets = draw(PAPER, depth, SEEDS).map(torch.Tensor.double)
    for deep in range(depth, 5):
        made = deepen(nets, deep, PAPER)
        made.check()
        assert made.depth - 1 == deep
        torch.testing.assert_close(
            forward(made, probes(PAPER).double()), forward(nets, probes(PAPER).double()), rtol=1e-9, atol=1e-9
        )
    assert sizes(deepen(nets, 4, PAPER))["layers"].max() == 4


def test_what_means_nothing_is_padding_or_masked() -> None:
    matrices = pack(draw(PAPER, 2, SEEDS), PAPER)
    meant = used(matrices)
    masks = kinds(PAPER, 2) == 4
    assert bool(meant[:, masks].all())
    assert not bool(meant[:, kinds(PAPER, 2) == 0].any())
    changed = matrices.values.clone()
    changed[~meant] = 99.0
    made = unpack(replace(matrices, values=torch.where(meant | masks, changed, matrices.values)))
    assert torch.equal(forward(made, probes(PAPER)), forward(unpack(matrices), probes(PAPER)))


def test_sampling_is_as_told() -> None:
    sampling = Sampling(weights=2.0, biases=0.5, sparsity=(0.4,), keep=0.3)
    nets = draw(PAPER, 4, torch.arange(2000), sampling)
    w = nets.blocks[3, 2]
    assert w.abs().max() <= 2.0
    assert abs(float((w == 0).double().mean()) - 0.4) < 0.01
    assert nets.biases[2].abs().max() <= 0.5
    on = nets.gates[2].sum(1)
    assert on.min() == 1
    assert abs(float(on.mean()) - (0.3 * 7 + 0.7**7)) < 0.1
    assert torch.allclose(nets.choices[1].mean((0, 1)), torch.full((3,), 1 / 3), atol=0.02)
    assert torch.equal(draw(PAPER, 4, torch.tensor([7]), sampling).blocks[3, 2], w[7:8])


def network(widths: tuple[int, ...] = (2, 3, 1), candidates: tuple[str, ...] = ("tanh",), skip: bool = False) -> Networks:
    blocks = {(i, i - 1): torch.ones(1, widths[i], widths[i - 1]) for i in range(1, len(widths))}
    if skip:
        blocks[2, 0] = torch.ones(1, widths[2], widths[0])
    return Networks(widths, blocks, candidates=candidates)


@pytest.mark.parametrize(
    ("nets", "told"),
    [
        (network((3, 3, 1)), "3 inputs and 1 outputs"),
        (network((2, 8, 1)), r"hidden layers have \[8\] neurons"),
        (network((2, 3, 3, 3, 3, 3, 1)), "5 hidden layers"),
        (network((2, 1)), "0 hidden layers"),
        (network(candidates=("sin",)), "activations sin"),
        (network(skip=True), "skip blocks"),
        (replace(network(), stem=Stem(image=(1, 1, 2), layers=(Convolution(channels=2, kernel=1),))), "a stem of convolutions"),
    ],
)
def test_what_does_not_fit_is_told(nets: Networks, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        pack(nets, PAPER)
    assert "needed: 2 inputs, 1 to 4 hidden layers of 7 neurons of sigmoid, tanh, leaky_relu, 1 outputs" in str(error.value)


def test_values_that_are_not_finite_are_told() -> None:
    nets = draw(PAPER, 2, SEEDS)
    nets.blocks[2, 1][3, 0, 0] = torch.nan
    with pytest.raises(ConfigError, match=r"networks \[3\] have values that are not finite"):
        pack(nets, PAPER)


@pytest.mark.parametrize(
    ("space", "nets", "depth", "told"),
    [
        (PAPER, network((2, 3, 3, 1)), 1, "cannot be made shallower"),
        (PAPER, network(), 5, "1 to 4 hidden layers"),
        (Space(candidates=("tanh",)), network(), 2, "none passes its input on exactly"),
        (Space(width=3), network(), 2, "4 neurons, two per input"),
    ],
)
def test_depths_that_cannot_be_are_told(space: Space, nets: Networks, depth: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        deepen(nets, depth, space)


def test_spaces_that_cannot_be_are_told() -> None:
    with pytest.raises(ValueError, match="is not known"):
        Space(candidates=("tank",))
    with pytest.raises(ValueError, match="twice"):
        Space(candidates=("tanh", "tanh"))
    with pytest.raises(ValueError, match="shares of weights"):
        Sampling(sparsity=(1.0,))
