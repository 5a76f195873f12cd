"""Why rows diverged: the penalty that was not finite first is named, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from nasplug.causes import MOST_ROWS, causes
from nasplug.contracts import Regularizer
from nasplug.networks import Networks
from nasplug.train import Search, train

from .stand_ins import Squares, search


@dataclass(frozen=True)
class Bounded(Regularizer):
    """The sum of absolute weights; NaN (or its slope alone) where one of them is beyond a bound."""

    most: float
    slope_alone: bool = False
    needs: frozenset[str] = field(default=frozenset({"blocks"}))

    def __call__(self, nets: Networks) -> Tensor:
        weights = torch.cat([w.flatten(1) for w in nets.blocks.values()], 1)
        beyond = weights.detach().abs().amax(1) > self.most
        broken = torch.where(beyond, torch.nan, 1.0)
        if self.slope_alone:
            return weights.abs().sum(1) + (torch.where(beyond, 0.0, 1.0) * (weights * 0.0).sum(1)).abs().sqrt()
        return weights.abs().sum(1) * broken


def told(found: Search, every: int = 5) -> dict[int, str]:
    history: dict[str, list[np.ndarray]] = {"step": [], "valid_loss": []}
    for report in train(found, every=every):
        history["step"].append(np.full(len(found.seeds), report.step))
        history["valid_loss"].append(report.metrics["valid_loss"].numpy())
    return causes(found, history, [f"penalty {i}" for i in range(len(found.penalties))])


def test_healthy_rows_have_no_cause() -> None:
    assert told(search(penalties=(Squares(),))) == {}


def test_the_penalty_that_is_not_finite_is_named() -> None:
    found = told(search(penalties=(Squares(), Bounded(0.0)), steps=10))
    assert found == dict.fromkeys(range(4), "penalty 1 is nan at step 1; tell its author, or lower its level")


def test_a_slope_that_is_not_finite_is_named() -> None:
    found = told(search(penalties=(Bounded(0.0, slope_alone=True), Squares()), steps=10))
    assert found == dict.fromkeys(
        range(4), "the slope of penalty 0 is not finite at step 1; tell its author, or lower its level"
    )


def test_an_innocent_penalty_is_not_blamed() -> None:
    made = search(penalties=(Squares(),), steps=40, rows=2)
    found = told(replace(made, lr=replace(made.lr, table=made.lr.table * 1e200)))
    assert found
    assert all(reason.endswith("; try a smaller train.lr, or train.clip") for reason in found.values())


def test_rows_are_looked_into_up_to_where_they_diverged_also_where_the_first_was_stopped_before() -> None:
    made = search(penalties=(Squares(), Bounded(2.0)), steps=40, rows=2)
    made = replace(made, lr=replace(made.lr, table=made.lr.table * 20))
    assert "at step 1;" not in told(made, every=1)[1]
    steps = [np.array([1, 1]), np.array([1, 40])]  # the first row was stopped after a step
    history = {"step": steps, "valid_loss": [np.zeros(2), np.array([0.0, np.nan])]}
    assert set(causes(made, history, ["penalty 0", "penalty 1"])) == {1}
    assert causes(made, history, ["penalty 0", "penalty 1"], among=[0]) == {}


def test_only_the_first_rows_are_looked_into() -> None:
    found = told(search(penalties=(Bounded(0.0),), steps=6, rows=6))
    assert len(found) == MOST_ROWS


def test_without_penalties_nothing_is_trained_again() -> None:
    assert causes(search(), {"step": [np.array([1])], "valid_loss": [np.array([np.nan])]}, []) == {}
