"""The laws, and agreement with the core's penalties at the paper's levels."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from nasplug.errors import ContractError
from nasplug.plugins import load_plugins
from nasplug.testing import RegularizerLaws, example_networks
from nasplug_swat.search import swat_levels
from nasplug_swat.search.levels import TABLE

torch.set_num_threads(1)


class TestLarge(RegularizerLaws):
    name = "swat_levels"
    options: ClassVar = {"size": "large"}


@pytest.mark.parametrize("size", sorted(TABLE))
def test_it_is_the_sum_of_its_parts(size: str) -> None:
    nets = example_networks(0, 4)
    plugins = load_plugins()
    sparsity, alpha, beta = TABLE[size]
    parts = (
        0.1 * sparsity * plugins.build("regularizer", "l1", {})(nets)
        + 0.01 * sparsity * plugins.build("regularizer", "soft_count", {})(nets)
        + (alpha + beta) * plugins.build("regularizer", "compactness", {"share": alpha / (alpha + beta)})(nets)
    )
    torch.testing.assert_close(swat_levels(size=size)(nets), parts)  # type: ignore[arg-type]


def test_networks_without_gates_are_told() -> None:
    with pytest.raises(ContractError, match="gates on neurons and on edges"):
        swat_levels()(example_networks(0, 2, parts={"blocks"}))
