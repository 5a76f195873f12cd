"""The penalty on concentrations: its laws, its form, that it is the weight decay of DrNAS's code, and where it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.config import parse
from nasplug.errors import ConfigError
from nasplug.plan import Pack, assemble, components, try_out
from nasplug.plugins import load_plugins
from nasplug.testing import RegularizerLaws, example_networks
from nasplug.train import train
from nasplug_mixture import concentrations
from nasplug_mixture.dirichlet import LEAST, whole
from nasplug_mixture.dirichlet import concentrations as as_drawn

torch.set_num_threads(1)

METHODS: dict[str, dict[str, Any]] = {
    "mixture": {"use": "mixture", "hidden": [4], "per": "neuron", "candidates": ["relu", "tanh", "sigmoid"]},
    "operations": {"use": "operations", "hidden": [4, 4], "widths": [2]},
}
DECAY = 0.3


class TestConcentrations(RegularizerLaws):
    name = "concentrations"


def config(method: str, level: Any, decay: float = 0.0, share: float = 0.5, **changes: Any) -> Any:
    architecture = {"optimizer": {"use": "adam", "beta1": 0.5, "weight_decay": decay}, "lr": 0.05, "share": share} | changes
    return parse(
        {
            "study": "s",
            "task": {"use": "mixture_teacher", "samples": 80},
            "method": METHODS[method] | {"sampling": "dirichlet"},
            "penalties": [{"use": "concentrations", "level": level}] if level is not None else [],
            "discretizers": [{"use": "closest"}],
            "train": {"steps": 12, "lr": 0.01, "dtype": "float64", "architecture": architecture},
            "seeds": 2,
            "mlflow": None,
        }
    )


def trained(study: Any, columns: dict[str, list[float]] | None = None) -> dict[str, Tensor]:
    plugins = load_plugins()
    pack = Pack("p", {}, columns or {}, study.seed_list, [0] * len(study.seed_list))
    parts = components(study, pack, plugins)
    *_, last = train(assemble(parts, pack, plugins), every=12)
    return {name: p for name, p in last.state.params.items() if name in parts.method.traits.architecture}


@given(st.lists(st.floats(-30.0, 30.0), min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_penalty_is_half_the_squared_distance_of_leaves_from_0(leaves: list[float]) -> None:
    leaf = torch.tensor([[leaves]], dtype=torch.float64).requires_grad_()
    nets = replace(example_networks(0, 1, parts=()), concentrations={1: whole(leaf)})
    value = concentrations()(nets)
    torch.testing.assert_close(value, leaf.square().sum().view(1) / 2)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    torch.testing.assert_close(slope, leaf.detach(), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(whole(leaf).clamp(min=LEAST), as_drawn(leaf))


def test_what_was_dropped_does_not_count() -> None:
    b = torch.tensor([[[0.0, 3.0, 1.0]]], dtype=torch.float64).requires_grad_()
    value = concentrations()(replace(example_networks(0, 1, parts=()), concentrations={1: b}))
    assert value.tolist() == [2.0]
    assert torch.autograd.grad(value.sum(), b)[0].tolist() == [[[0.0, 2.0, 0.0]]]


@pytest.mark.parametrize(
    ("method", "changes"), [("mixture", {}), ("mixture", {"order": 2}), ("operations", {}), ("operations", {"share": 0.0})]
)
def test_it_moves_the_architecture_as_the_weight_decay_of_its_adam(method: str, changes: dict[str, Any]) -> None:
    """So does the code of DrNAS's authors; and each row has its own level."""
    found = trained(config(method, {"grid": [DECAY, 0.0]}, **changes), {"penalties.0.level": [DECAY, 0.0]})
    decayed, free = (trained(config(method, None, decay, **changes)) for decay in (DECAY, 0.0))
    for name, leaf in found.items():
        torch.testing.assert_close(leaf, torch.stack([decayed[name][0], free[name][1]]), atol=1e-9, rtol=1e-7)
    assert any(not torch.allclose(decayed[name], free[name], atol=1e-4) for name in found)
    far, near = (sum(float(leaf[0].square().sum()) for leaf in each.values()) for each in (free, decayed))
    assert near < far


@pytest.mark.parametrize("method", [*METHODS])
def test_without_concentrations_it_is_refused_when_the_study_is_planned(method: str) -> None:
    study = config(method, 1e-3)
    study = study.model_copy(update={"method": study.method.model_copy(update={"sampling": "gumbel"})})
    plugins = load_plugins()
    pack = Pack("p", {}, {}, [0], [0])
    parts = components(study, pack, plugins)
    with pytest.raises(ConfigError, match=r"penalties.0: 'concentrations' reads concentrations, which method .* does not make"):
        try_out(parts, assemble(parts, pack, plugins), plugins)
