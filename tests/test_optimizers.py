"""Each optimizer is torch's, run a row at a time with that row's learning rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nasplug.optimizers import OPTIMIZERS
from nasplug.replicas import column, normal

ROWS, STEPS = 4, 30
TORCHS: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SHAPES: dict[str, tuple[int, ...]] = {"w": (3, 2), "b": (4,), "alone": ()}


def start() -> dict[str, Tensor]:
    return {name: normal(torch.arange(ROWS), name, shape) for name, shape in SHAPES.items()}


def slope(params: dict[str, Tensor], t: int, rows: Tensor) -> dict[str, Tensor]:
    """A gradient that depends on where a row stands: a bowl, and noise that changes with the step."""
    return {name: 2.0 * p + 0.3 * normal(rows, f"{name} {t}", SHAPES[name]) for name, p in params.items()}


def rates(t: int) -> Tensor:
    return torch.tensor([0.1, 0.01, 0.3, 0.0], dtype=torch.float64) * (1.0 - t / STEPS)


CASES: list[tuple[str, dict[str, float], dict[str, Any]]] = [
    ("adam", {}, {}),
    ("adam", {"beta1": 0.5, "beta2": 0.9, "eps": 1e-3}, {"betas": (0.5, 0.9), "eps": 1e-3}),
    ("adam", {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ("adam", {"beta1": 0.0}, {"betas": (0.0, 0.999)}),
    ("adamw", {}, {}),
    ("adamw", {"weight_decay": 0.3, "beta2": 0.99}, {"weight_decay": 0.3, "betas": (0.9, 0.99)}),
    ("adamw", {"weight_decay": 0.0}, {"weight_decay": 0.0}),
    ("sgd", {}, {}),
    ("sgd", {"momentum": 0.9}, {"momentum": 0.9}),
    ("sgd", {"weight_decay": 0.2}, {"weight_decay": 0.2}),
    ("sgd", {"momentum": 0.5, "weight_decay": 0.1}, {"momentum": 0.5, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_equals_torchs_row_by_row(name: str, ours: dict[str, float], theirs: dict[str, Any]) -> None:
    optimizer = OPTIMIZERS[name](**ours)
    params = start()
    state = optimizer.start(params)
    for t in range(STEPS):
        optimizer.update(params, slope(params, t, torch.arange(ROWS)), state, rates(t))
    for k in range(ROWS):
        leaves = {leaf: p[k].clone().requires_grad_() for leaf, p in start().items()}
        peer = TORCHS[name](leaves.values(), lr=0.1, **theirs)
        for t in range(STEPS):
            peer.param_groups[0]["lr"] = float(rates(t)[k])
            gradient = slope({leaf: p.detach()[None] for leaf, p in leaves.items()}, t, torch.tensor([k]))
            for leaf, p in leaves.items():
                p.grad = gradient[leaf][0]
            peer.step()
        for leaf, p in leaves.items():
            assert torch.allclose(params[leaf][k], p.detach(), rtol=0, atol=1e-12), (k, leaf)


@pytest.mark.parametrize("name", sorted(TORCHS))
def test_the_defaults_are_torchs(name: str) -> None:
    """Where ours has the option at all."""
    defaults = TORCHS[name]([torch.zeros(1)], lr=0.1).defaults
    optimizer = OPTIMIZERS[name]()
    for option, value in defaults.items():
        if option == "betas":
            assert (optimizer.beta1, optimizer.beta2) == value  # type: ignore[attr-defined]
        elif hasattr(optimizer, option):
            assert getattr(optimizer, option) == value, option


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_in_place_and_row_by_row(name: str, ours: dict[str, float], theirs: dict[str, Any]) -> None:
    """Parameters and state stay the tensors they were; a NaN row touches no other; taking rows is taking their state."""
    optimizer = OPTIMIZERS[name](**ours)
    whole, broken = start(), start()
    states = [optimizer.start(whole), optimizer.start(broken)]
    for state in states:
        for leaf, tensor in state.items():
            assert tensor.dim() == 0 or tensor.shape[0] == ROWS, leaf
    tensors = {n: id(t) for n, t in (broken | states[1]).items()}
    broken["w"][1] = torch.nan
    for t in range(5):
        for params, state in zip((whole, broken), states, strict=True):
            optimizer.update(params, slope(params, t, torch.arange(ROWS)), state, rates(t))
    assert {n: id(t) for n, t in (broken | states[1]).items()} == tensors
    others = torch.tensor([0, 2, 3])
    for leaf, p in whole.items():
        assert torch.equal(p[others], broken[leaf][others])
    assert broken["w"][1].isnan().all()


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
def test_a_gradient_of_zero_moves_nothing(name: str, ours: dict[str, float], theirs: dict[str, Any]) -> None:
    """Without weight decay; fine-tuning relies on it for what was removed."""
    optimizer = OPTIMIZERS[name](**(ours | {"weight_decay": 0.0}))
    params = start()
    state = optimizer.start(params)
    for t in range(5):
        optimizer.update(params, {leaf: torch.zeros_like(p) for leaf, p in params.items()}, state, rates(t))
    for leaf, p in start().items():
        assert torch.equal(params[leaf], p)


@pytest.mark.parametrize("name", sorted(TORCHS))
def test_a_rate_of_zero_moves_nothing(name: str) -> None:
    optimizer = OPTIMIZERS[name](weight_decay=0.1)
    params = start()
    state = optimizer.start(params)
    before = {leaf: p.clone() for leaf, p in params.items()}
    optimizer.update(params, slope(params, 0, torch.arange(ROWS)), state, torch.zeros(ROWS, dtype=torch.float64))
    for leaf, p in before.items():
        assert torch.equal(params[leaf], p)


def test_float32_follows_float64() -> None:
    """Also in the first steps, where ``1 - beta2^t`` is small."""
    found = []
    for dtype in (torch.float32, torch.float64):
        params = {leaf: p.to(dtype) for leaf, p in start().items()}
        optimizer = OPTIMIZERS["adam"]()
        state = optimizer.start(params)
        for t in range(STEPS):
            gradient = {leaf: g.to(dtype) for leaf, g in slope(start(), t, torch.arange(ROWS)).items()}
            optimizer.update(params, gradient, state, rates(t).to(dtype))
        found.append(params)
    for leaf, p in found[0].items():
        moved = column(rates(0), p) * STEPS
        assert ((p.double() - found[1][leaf]).abs() <= 1e-5 + 1e-4 * moved).all(), leaf


def test_exponentiated_follows_its_formula_and_stays_on_the_simplex() -> None:
    optimizer = OPTIMIZERS["exponentiated"]()
    rows = torch.arange(ROWS)
    point = torch.softmax(normal(rows, "point", (3, 5)), -1)  # (K, 3, 5)
    params, lr = {"a": point.clone()}, torch.tensor([0.1, 1.0, 10.0, 0.0], dtype=torch.float64)
    for t in range(STEPS):
        gradient = normal(rows, f"gradient {t}", (3, 5))
        wanted = params["a"] * torch.exp(-column(lr, gradient) * gradient)
        wanted = (wanted / wanted.sum(-1, keepdim=True)).clamp(min=1e-5)
        wanted = wanted / wanted.sum(-1, keepdim=True)
        optimizer.update(params, {"a": gradient}, optimizer.start(params), lr)
        assert torch.allclose(params["a"], wanted)
        assert torch.allclose(params["a"].sum(-1), torch.ones(ROWS, 3, dtype=torch.float64))
        assert (params["a"] > 0).all()
    assert torch.allclose(params["a"][3], point[3])  # a rate of zero moves nothing


def test_a_slope_common_to_all_candidates_moves_nothing() -> None:
    for common in (-60.0, 12.0, 1e4):
        params = {"a": torch.tensor([[0.7, 0.2, 0.1]])}
        OPTIMIZERS["exponentiated"]().update(params, {"a": torch.full((1, 3), common)}, {}, torch.tensor([1.0]))
        assert torch.allclose(params["a"], torch.tensor([[0.7, 0.2, 0.1]]), atol=2e-3)


def test_exponentiated_survives_a_slope_that_would_overflow() -> None:
    params = {"a": torch.full((1, 3), 1 / 3)}
    OPTIMIZERS["exponentiated"]().update(params, {"a": torch.tensor([[-1e4, 0.0, 1e4]])}, {}, torch.tensor([1.0]))
    assert torch.isfinite(params["a"]).all()
    assert params["a"].argmax() == 0
