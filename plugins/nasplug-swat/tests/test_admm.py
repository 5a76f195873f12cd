"""The laws, sparsity for accuracy, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.plugins import load_plugins
from nasplug.testing import DiscretizerLaws, example_networks, example_score
from nasplug_swat.search import admm

torch.set_num_threads(1)


class TestAdmm(DiscretizerLaws):
    name = "admm"
    options: ClassVar = {"rounds": 2, "steps": 3, "threshold": 0.3}


def test_it_prunes_more_than_a_cut_and_costs_less() -> None:
    nets = example_networks(3, 4, (2, 6, 1), {"biases"}, skips=False)
    score = example_score(nets.widths, samples=64)
    before = score(nets)
    after = admm(rounds=20, steps=50, threshold=0.3, lr=0.02)(nets, score)
    kept = sum(gate.sum((1, 2)) for gate in after.edge_gates.values())
    plain = sum((w.abs() >= 0.3).sum((1, 2)) for w in nets.blocks.values())
    assert float(kept.sum()) < float(plain.sum())
    assert bool((score(after) < before).all())


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"threshold": -1.0}, {"lr": 0.0}, {"rounds": 0}, {"steps": 0}])
def test_what_cannot_be_is_told(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"admm: .*{next(iter(options))}"):
        load_plugins().build("discretizer", "admm", options)
