"""Networks cut, in other units, and joined again: the same functions; a piece as data."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug.compact import CompactNetwork, compact
from nasplug.compact import save as save_network
from nasplug.errors import ConfigError
from nasplug.networks import Networks, alive, forward, sums, values
from nasplug.plugins import load_plugins
from nasplug.replicas import uniform
from nasplug.tasks import Task
from nasplug_swat.autoencoder import Sampling, Space, draw
from nasplug_swat.compression import activations_at, joined, swat_piece
from nasplug_swat.search import cut_out, in_raw_units, networks_in, rescaled

torch.set_num_threads(1)
DENSE = Sampling(weights=1.5, biases=0.5, sparsity=(0.0,), keep=1.0)


def deep(depth: int = 5, inputs: int = 2, outputs: int = 1, seeds: int = 3) -> Networks:
    space = Space(width=4, deepest=depth, inputs=inputs, outputs=outputs)
    return draw(space, depth, torch.arange(seeds), DENSE).map(torch.Tensor.double)


def points(inputs: int, count: int = 40) -> torch.Tensor:
    return uniform(torch.tensor([3]), "points", (inputs, count), -1.0, 1.0)[0]


@given(st.integers(2, 6), st.integers(1, 3), st.integers(1, 3), st.data())
@settings(max_examples=30, deadline=None)
def test_what_was_cut_and_joined_is_the_same_function(depth: int, inputs: int, outputs: int, data: st.DataObject) -> None:
    nets = deep(depth, inputs, outputs)
    cuts = sorted(data.draw(st.sets(st.integers(1, depth), min_size=1, max_size=3)))
    ends = [0, *cuts, depth + 1]
    pieces = [cut_out(nets, a, b) for a, b in itertools.pairwise(ends)]
    again = joined(pieces, [activations_at(nets, cut) for cut in cuts])
    again = replace(again, gates=again.gates | {cut: nets.gates[cut] for cut in cuts})
    again.check()
    x = points(inputs)
    torch.testing.assert_close(forward(again, x), forward(nets, x))


def test_a_piece_reads_the_values_of_its_first_layer() -> None:
    nets, x = deep(3), points(2)
    for layer in range(1, 4):
        torch.testing.assert_close(forward(cut_out(nets, layer, 4), values(nets, x)[layer]), forward(nets, x))
        assert torch.equal(forward(cut_out(nets, 0, layer), x), sums(nets, x, layer))


def test_other_units_are_the_same_function() -> None:
    nets, x = deep(2, 3, 2), points(3)
    s, c = torch.tensor([0.3, -1.0, 2.0]).double(), torch.tensor([2.0, 0.5, -1.0]).double()
    up, by = torch.tensor([1.0, -3.0]).double(), torch.tensor([4.0, 0.1]).double()
    made = rescaled(nets, (s, c), (up, by))
    wanted = (forward(nets, x * c.unsqueeze(-1) + s.unsqueeze(-1)) - up.unsqueeze(-1)) / by.unsqueeze(-1)
    torch.testing.assert_close(forward(made, x), wanted)
    bare = rescaled(replace(nets, biases={}), (s, c), (up, by))
    assert set(bare.biases) == {1, 3}


def saved(folder: Path, task: Task | None = None, **shape: int) -> CompactNetwork:
    module = compact(deep(**shape), 0, task)
    save_network(module, folder)
    return module


def booth() -> Any:
    return load_plugins().build("task", "cornn", {"function": "Booth", "train": 60, "test": 20})


def test_a_module_in_raw_units_is_what_it_computes() -> None:
    module = compact(deep(), 0, booth())
    raw = 7.0 * points(2)
    made = in_raw_units(module)
    torch.testing.assert_close(forward(made, raw)[0].T, module.double()(raw.T).detach())
    assert made.widths[0] == 2


def test_a_constant_is_a_network_too() -> None:
    nets = deep(2)
    module = compact(replace(nets, gates={layer: torch.zeros_like(g) for layer, g in nets.gates.items()}), 0)
    made = in_raw_units(module)
    made.check()
    torch.testing.assert_close(forward(made, points(2))[0].T, module(points(2).T.float()).detach(), rtol=1e-5, atol=1e-6)


def test_a_piece_as_data(tmp_path: Path) -> None:
    module = saved(tmp_path, booth())
    nets = in_raw_units(module)
    last = nets.depth
    first = swat_piece(network=str(tmp_path), last=3, train=100, test=50)
    then = swat_piece(network=str(tmp_path), first=3, train=100, test=50)
    whole = swat_piece(network=str(tmp_path), train=100, test=50)
    assert (first.inputs, first.outputs, then.inputs, then.outputs) == (2, nets.widths[3], nets.widths[3], 1)
    assert [split.samples for split in first.splits] == [80, 20, 50]
    assert first.features == ("x", "y")
    assert float(then.train.x.abs().max()) <= 1.0 + 1e-6
    for task, a, b in ((first, 0, 3), (then, 3, last), (whole, 0, last)):
        raw = task.test.x.double() * task.input_scale.unsqueeze(-1) + task.input_shift.unsqueeze(-1)
        wanted = forward(cut_out(nets, a, b), raw)[0]
        torch.testing.assert_close(
            task.test.y.double() * task.output_scale.unsqueeze(-1) + task.output_shift.unsqueeze(-1),
            wanted,
            rtol=1e-4,
            atol=1e-4,
        )
    # the same points: what the one puts out is what the other reads
    kept = values(nets, first.test.x.double() * first.input_scale.unsqueeze(-1) + first.input_shift.unsqueeze(-1))[3][0]
    read = then.test.x.double() * then.input_scale.unsqueeze(-1) + then.input_shift.unsqueeze(-1)
    torch.testing.assert_close(read, kept, rtol=1e-4, atol=1e-4)


def test_a_neuron_that_does_not_vary_keeps_its_unit(tmp_path: Path) -> None:
    nets = deep(2)
    nets.blocks[1, 0][:, 1] = 0.0  # a constant neuron
    module = compact(replace(nets, gates={}), 0)
    save_network(module, tmp_path)
    task = swat_piece(network=str(tmp_path), first=1, train=50, test=10)
    assert bool(torch.isfinite(task.train.x).all())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"first": 3, "last": 3}, "layers 3 to 3 of a network whose layers are 0"),
        ({"first": 2, "last": 9}, "layers 2 to 9"),
        ({"train": 2}, "samples in each of the three splits"),
        ({"test": 10**12}, "test=1000000000000"),
        ({"test": 0}, "test=0; needed: a whole number >= 1"),
        ({"reach": 0.0}, "a finite number > 0"),
    ],
)
def test_pieces_that_cannot_be_are_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    saved(tmp_path)
    with pytest.raises(ConfigError, match=told):
        swat_piece(network=str(tmp_path), **options)


def test_skip_blocks_that_pass_a_cut_are_told() -> None:
    nets = deep(3)
    skipping = replace(nets, blocks=nets.blocks | {(3, 1): torch.ones(3, 4, 4).double()})
    with pytest.raises(ConfigError, match=r"skip blocks \[\(3, 1\)\]"):
        cut_out(skipping, 0, 2)
    assert cut_out(skipping, 1, 4).blocks.keys() == {(1, 0), (2, 1), (3, 2), (2, 0)}


def test_pieces_of_a_small_module_are_pieces_of_its_function(tmp_path: Path) -> None:
    nets = alive(deep(4))
    module = compact(nets, 1)
    x = points(2)
    torch.testing.assert_close(
        forward(networks_in(module).map(torch.Tensor.double), x)[0], forward(nets, x)[1], rtol=1e-4, atol=1e-4
    )


def test_a_network_that_passes_values_on_is_read_as_one_with_weights_of_1() -> None:
    """A residual has no weights in a saved network."""
    one = deep(3, seeds=1)
    eye = torch.eye(4, dtype=torch.float64).unsqueeze(0)
    nets = replace(
        one,
        widths=(2, 4, 4, 4, 1),
        blocks={(1, 0): one.blocks[1, 0], (2, 1): eye, (3, 2): eye, (4, 3): one.blocks[one.depth, one.depth - 1]},
        biases={1: one.biases[1], 3: one.biases[2], 4: one.biases[one.depth]},
        gates={},
        edge_gates={},
        choices={n: torch.eye(2, dtype=torch.float64)[[at]].unsqueeze(0) for n, at in ((1, 0), (2, 1), (3, 0))},
        candidates=("tanh", "identity"),
        passes=(2,),
    )
    nets.check()
    module = compact(nets, 0)
    assert module.record["passes"] == [[2, 1, [0, 1, 2, 3]]]
    made = networks_in(module).map(torch.Tensor.double)
    torch.testing.assert_close(forward(made, points(2)), forward(nets, points(2)), rtol=1e-5, atol=1e-5)
