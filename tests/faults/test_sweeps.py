"""A mapping is a sweep only where it can be nothing else: an option that takes mappings gets those that were written."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import nasplug_edges
from nasplug.config import as_sweep, parse
from nasplug.contracts import Regularizer
from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl
from nasplug.networks import Networks
from nasplug.plan import Pack, axes, chunk, grid, unambiguous
from nasplug.plugins import Plugins

GIVEN: list[object] = []


class Named(Regularizer):
    needs = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        return torch.zeros(nets.replicas)


def named(
    *,
    costs: Mapping[str, float] | None = None,
    ranges: Mapping[str, list[float]] | None = None,
    anything: Any = None,
    rate: float = 1.0,
) -> Regularizer:
    """A penalty whose options are mappings."""
    GIVEN.append(costs or ranges or anything or rate)
    return Named()


class Stranger:
    @hookimpl
    def register_regularizers(self, register: Register) -> None:
        register("named", named)


def planned(**options: Any) -> tuple[list[str], list[Pack]]:
    """The swept places, and the packs, of a study with these options."""
    plugins = Plugins()
    for module in ("nasplug.activations", "nasplug.schedules", "nasplug.data.datasets"):
        plugins.add(import_module(module), module, "nasplug", "0")
    plugins.add(Stranger(), "stranger", "stranger", "1")
    plugins.add(nasplug_edges, "edges", "edges", "1")
    study = parse(
        {
            "study": "x",
            "task": {"use": "xor", "samples": 20},
            "method": {"use": "edges", "mode": "l1", "hidden": [2]},
            "penalties": [{"use": "named", "level": 1.0, **options}],
            "train": {"steps": 5},
            "mlflow": None,
        }
    )
    GIVEN.clear()
    unambiguous(study, plugins)
    found = axes(study)
    return [axis.path for axis in found], chunk(study, grid(found), plugins)


@pytest.mark.parametrize("costs", [{"tanh": 1, "log": 2}, {"log": 2}, {"choice": 1.5, "grid": 2}, {"uniform": 1, "points": 3}])
def test_names_of_sweeps_are_names_too(costs: dict[str, float]) -> None:
    swept, _ = planned(costs=costs)
    assert swept == []
    assert [costs] == GIVEN


@pytest.mark.parametrize("ranges", [{"log": [1, 2]}, {"choice": [1, 2]}, {"uniform": [0, 1], "points": [3, 4]}, {"grid": [1]}])
def test_what_may_be_both_is_refused(ranges: dict[str, Any]) -> None:
    if "points" in ranges:
        with pytest.raises(ConfigError, match=r"penalties\.0\.ranges\.points: \[3, 4\]; needed: a whole number"):
            planned(ranges=ranges)
        return
    with pytest.raises(ConfigError, match=r"penalties\.0\.ranges: .* is a sweep as it is written, and .* For the value write"):
        planned(ranges=ranges)
    swept, packs = planned(ranges={"choice": [ranges]})
    assert swept == ["penalties.0.ranges"]
    assert len(packs) == 1
    assert [ranges] == GIVEN


def test_sweeps_over_mappings_and_inside_them() -> None:
    swept, packs = planned(costs={"choice": [{"log": 1}, {"log": 2}]})
    assert (swept, len(packs), GIVEN) == (["penalties.0.costs"], 2, [{"log": 1}, {"log": 2}])
    swept, packs = planned(costs={"log": {"choice": [1, 2]}, "tanh": 3})
    assert (swept, GIVEN) == (["penalties.0.costs.log"], [{"log": 1, "tanh": 3}, {"log": 2, "tanh": 3}])


def test_a_place_of_any_kind_is_swept() -> None:
    swept, packs = planned(anything={"uniform": [0, 1], "points": 3})
    assert (swept, len(packs)) == (["penalties.0.anything"], 3)


@pytest.mark.parametrize("wrong", [{"log": [1, 2], "pionts": 3}, {"choice": 3}, {"log": 2, "tanh": 1}], ids=str)
def test_a_place_of_numbers_says_what_a_sweep_is(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"penalties\.0\.rate: .*; needed: a number, or a sweep .* no other key but points"):
        planned(rate=wrong)


def test_a_sweep_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log bounds \[0\.0, 1\.0\]; needed: both > 0"):
        planned(rate={"log": [0, 1], "points": 3})
    assert as_sweep({"log": 2}) is None
    assert as_sweep({"use": "x", "log": [1, 2]}) is None
