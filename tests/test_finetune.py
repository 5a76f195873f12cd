"""Hard networks trained on, piece by piece: what is yielded, what stays, and a penalty whose aim moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from nasplug.contracts import Regularizer
from nasplug.errors import ConfigError
from nasplug.finetune import better, fits, refit
from nasplug.networks import Edge, Networks, take
from nasplug.testing import example_networks, example_task

TASK = example_task()
WIDTHS = (TASK.inputs, 4, 3, TASK.outputs)


def some(k: int = 3) -> Networks:
    """Networks with zeros of each row's own, and one block without any edge."""
    nets = example_networks(3, k, WIDTHS, {"biases"})
    blocks = {edge: torch.where(w.abs() < 0.4, 0.0, w) for edge, w in nets.blocks.items()}
    return replace(nets, blocks={**blocks, (3, 1): torch.zeros_like(blocks[3, 1])})


@dataclass(frozen=True)
class Pull(Regularizer):
    """Towards an aim, strongly."""

    aim: Mapping[Edge, Tensor]
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        return torch.stack([(nets.block(edge) - self.aim[edge]).square().sum((1, 2)) for edge in nets.blocks]).sum(0) * 1e3


def test_the_last_of_them_is_what_a_refit_weighs_against_the_old() -> None:
    nets = some()
    with torch.no_grad():  # as in a discretizer
        parts = list(fits(TASK, nets, 30, 0.02, every=12))
        assert not torch.is_grad_enabled()
    assert len(parts) == 3  # after 12, 24 and 30 steps
    again = list(fits(TASK, nets, 30, 0.02, every=30))
    wanted = better(TASK.to("cpu", torch.float64), again[0], nets)
    tuned = refit(TASK, nets, 30, 0.02)
    for edge, w in nets.blocks.items():
        assert torch.equal(parts[-1].blocks[edge], again[0].blocks[edge])
        assert torch.equal(tuned.blocks[edge], wanted.blocks[edge])
        assert all(bool((one.blocks[edge][w == 0] == 0).all()) for one in parts)  # what is not there is not brought back
        assert bool((w == 0).all()) or not torch.equal(parts[0].blocks[edge], parts[1].blocks[edge])  # each as it was then


def test_a_row_alone_is_the_row_of_a_pack() -> None:
    """Also where the pack has a block that the row has no edge in."""
    nets = some()
    whole = replace(nets, blocks={**nets.blocks, (3, 1): nets.blocks[3, 1].index_fill(0, torch.tensor([1]), 0.5)})
    *_, together = fits(TASK, whole, 20, 0.02, every=20)
    for k in range(3):
        *_, alone = fits(TASK, take(whole, torch.tensor([k])), 20, 0.02, every=20)
        for edge, w in alone.blocks.items():
            torch.testing.assert_close(w[0], together.blocks[edge][k], rtol=0, atol=1e-10)


def test_a_penalty_may_aim_elsewhere_between_two() -> None:
    nets = some()
    there = {edge: (w != 0).to(w) for edge, w in nets.blocks.items()}
    aim = dict(there)
    reached = []
    for found in fits(TASK, nets, 400, 0.05, every=200, schedule=lambda progress: 1.0, penalties=[Pull(aim)]):
        reached.append(found)
        aim |= {edge: -2.0 * t for edge, t in there.items()}
    for edge, t in there.items():
        torch.testing.assert_close(reached[0].blocks[edge], t, rtol=0, atol=0.1)
        torch.testing.assert_close(reached[1].blocks[edge], -2.0 * t, rtol=0, atol=0.1)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"steps=3, lr=-0\.1"):
        list(fits(TASK, some(), 3, -0.1, every=1))
