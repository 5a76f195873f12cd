"""What discretizers share: the loss that is allowed, the most that can be lost, and who was cut before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.contracts import Score
from nasplug.cuts import FLOOR, check_tolerance, edges_cut, limits, most, neurons_cut, ranks, trivial_loss
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, forward, harden
from nasplug.testing import example_networks, example_score

from .stand_ins import records

few = settings(max_examples=25, deadline=None)


class Told:
    """A score that says what it was told, one answer per call."""

    def __init__(self, *answers: list[float]) -> None:
        self.answers = [torch.tensor(answer, dtype=torch.float64) for answer in answers]
        self.asked: list[Networks] = []

    @property
    def task(self) -> None:
        raise AssertionError("nobody asks for the data")

    def take(self, index: Tensor) -> Score:
        raise AssertionError("nobody takes rows")

    def __call__(self, nets: Networks) -> Tensor:
        self.asked.append(nets)
        return self.answers.pop(0)


def test_the_trivial_loss_is_the_smaller_of_two_constants() -> None:
    nets = example_networks(3, 4, (3, 5, 2), {"biases", "gates"})
    score = example_score(nets.widths)
    x = score.task.valid.x.to(nets.blocks[1, 0])
    bare = replace(nets, blocks={edge: torch.zeros_like(w) for edge, w in nets.blocks.items()})
    constant = forward(bare, x)
    assert bool((constant == constant[..., :1]).all())
    losses = [score.task.losses(y, score.task.valid.y) for y in (constant, torch.zeros_like(constant))]
    torch.testing.assert_close(trivial_loss(nets, score), torch.minimum(*losses).to(score(nets)))


@given(st.floats(1e-12, 1e3), st.floats(1e-12, 1e3), st.floats(1e-12, 1e3), st.floats(0.0, 2.0))
@few
def test_a_loss_may_rise_by_its_share_and_never_by_less_than_that_of_the_floor(
    loss: float, biases: float, zero: float, tolerance: float
) -> None:
    score = Told([loss, float("nan"), float("inf")], [biases] * 3, [zero] * 3)
    found = limits(example_networks(3), score, tolerance)  # type: ignore[arg-type]
    assert float(found[0]) == pytest.approx(loss + tolerance * max(loss, FLOOR * min(biases, zero)))
    assert bool(torch.isnan(found[1:]).all())


@given(st.data())
@few
def test_most_is_the_largest_count_within_the_limit(data: st.DataObject) -> None:
    """Where losses rise; with all rows at once, in as many scorings as a bisection takes."""
    count = data.draw(st.integers(0, 20))
    rows = [sorted(data.draw(st.lists(st.floats(0.0, 1.0), min_size=count + 1, max_size=count + 1))) for _ in range(3)]
    limit = [data.draw(st.floats(row[0], 1.1)) for row in rows]
    table = torch.tensor(rows, dtype=torch.float64)
    nets, calls = example_networks(3), []

    def cut(dropped: Tensor) -> Networks:
        calls.append(dropped)
        return nets

    class ByCount(Told):
        def __call__(self, nets: Networks) -> Tensor:
            return table.gather(1, calls[-1].unsqueeze(1)).squeeze(1)

    found = most(cut, count, ByCount(), torch.tensor(limit, dtype=torch.float64))  # type: ignore[arg-type]
    assert found.tolist() == [
        max(n for n in range(count + 1) if row[n] <= most_) for row, most_ in zip(rows, limit, strict=True)
    ]
    assert len(calls) == count.bit_length()


def test_a_row_whose_limit_is_no_number_loses_nothing() -> None:
    nets = example_networks(2)
    score = Told(*[[0.0, 0.0]] * 3)
    limit = torch.tensor([torch.nan, 1.0])
    assert most(lambda dropped: nets, 4, score, limit).tolist() == [0, 4]  # type: ignore[arg-type]


def test_ranks_go_from_small_to_large_and_end_with_nan() -> None:
    assert ranks(torch.tensor([[3.0, torch.nan, 1.0, 1.0]])).tolist() == [[2, 3, 0, 1]]


def gates_of(nets: Networks, edge: Edge, k: int) -> list[float | None]:
    if edge in nets.edge_gates:
        return [*nets.edge_gates[edge][k].flatten().tolist()]
    return [None] * nets.blocks[edge][k].numel()


@given(records())
@few
def test_a_row_was_cut_where_its_gates_say_so(nets: Networks) -> None:
    """Against loops over the numbers of each row."""
    gated = replace(nets, edge_gates={edge: (w != 0).to(w.dtype) for edge, w in nets.blocks.items()})
    for some in (nets, gated, harden(nets)):
        edges, neurons = edges_cut(some), neurons_cut(some)
        for k in range(some.replicas):
            pairs = [
                (weight, gate)
                for edge, w in some.blocks.items()
                for weight, gate in zip(w[k].flatten().tolist(), gates_of(some, edge, k), strict=True)
            ]
            assert bool(edges[k]) == (all(g == float(w != 0) for w, g in pairs) and any(g == 0 for _, g in pairs))
            gates = [g for layer in some.gates.values() for g in layer[k].tolist()]
            assert bool(neurons[k]) == (all(g in (0.0, 1.0) for g in gates) and 0.0 in gates)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_that_is_not_negative(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="fold: tolerance="):
        check_tolerance("fold", tolerance)
