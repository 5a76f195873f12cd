"""What the laws compare, and how they fail: every helper says what went wrong in the law's own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from nasplug import networks
from nasplug.errors import ContractError
from nasplug.networks import PARTS, Networks

__all__ = [
    "HARD",
    "TOLERANCE",
    "calm",
    "equal",
    "filled",
    "fits",
    "gradients",
    "row_of",
    "same",
    "spoil",
    "tensors_of",
    "with_gradients",
    "without",
]

Made = TypeVar("Made")

HARD = ("gates", "edge_gates", "choices")  # parts that have values between hard ones
TOLERANCE = 1e-10  # between a row in a pack and the row alone, in float64


def tensors_of(nets: Networks) -> dict[str, Tensor]:
    """Every tensor of a record by name."""
    return {f"{part}[{key}]": tensor for part in PARTS for key, tensor in getattr(nets, part).items()}


def filled(nets: Networks, value: float) -> Networks:
    """Every number the same, choices one-hot (a simplex has no point 0): where norms and roots have their corners."""
    return replace(nets.map(lambda t: torch.full_like(t, value)), choices=networks.harden(nets).choices)


def row_of(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """One row, still with its replica axis; a zero-dimensional tensor belongs to the pack."""
    return {name: t[index : index + 1] if t.dim() else t for name, t in tensors.items()}


def without(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """All rows but one."""
    return {name: torch.cat([t[:index], t[index + 1 :]]) for name, t in tensors.items() if t.dim()}


def spoil(tensor: Tensor, row: int) -> Tensor:
    """A copy whose row is NaN."""
    copy = tensor.clone()
    copy[row] = torch.nan
    return copy


def same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], law: str, tolerance: float = 0.0) -> None:
    """Fail with the law's words where two sets of tensors differ (bitwise unless a tolerance is given; NaN equals NaN)."""
    assert set(found) == set(wanted), f"{law}: has {sorted(found)}, the other one {sorted(wanted)}"
    for name, tensor in found.items():
        try:
            torch.testing.assert_close(tensor, wanted[name], rtol=tolerance, atol=tolerance, equal_nan=True)
        except AssertionError as error:
            raise AssertionError(f"{law}: {name} differs. {error}") from None


def fits(nets: Networks, law: str) -> None:
    """Fail where a record does not fit itself."""
    try:
        nets.check()
    except ContractError as error:
        raise AssertionError(f"{law}: {error}") from error


def equal(one: Tensor, other: Tensor) -> bool:
    """Bitwise, where NaN equals NaN."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def calm(law: str, work: Callable[..., Made], *args: Any) -> Made:
    """The result of ``work``; what torch raises on NaN, or without data to look at, becomes a broken law."""
    try:
        return work(*args)
    except (RuntimeError, NotImplementedError, ValueError, IndexError, ArithmeticError) as error:
        raise AssertionError(f"{law}: raised {type(error).__name__}: {error}") from error


def gradients(values: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of ``values.sum()``; zeros for a leaf that is not read."""
    if not values.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(leaves.items(), found, strict=True)}


def with_gradients(function: Callable[[Networks], Tensor], nets: Networks) -> dict[str, Tensor]:
    """The value of each network, ``value``, and the gradient in every tensor."""
    leaves = nets.map(lambda t: t.detach().clone().requires_grad_())
    value = function(leaves)
    return {"value": value.detach(), **{f"gradient of {n}": g for n, g in gradients(value, tensors_of(leaves)).items()}}
