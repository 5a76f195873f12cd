"""Losses and metrics, tried on two made-up networks when a study is planned: what breaks there is named, not what calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from nasplug.errors import ContractError, NasplugError, cause
from nasplug.tasks import Loss, Metric, Task

__all__ = ["blaming", "shaped", "try_loss", "try_metric"]

SAMPLES = 64
SLACK = 1e-4  # relative: how far one network's number may change with the network beside it


@contextmanager
def blaming(whom: str) -> Iterator[None]:
    """Whatever a plugin raises that is not one of our errors, with its name."""
    try:
        yield
    except NasplugError:
        raise
    except Exception as error:
        raise ContractError(
            f"{whom} broke on one network with {cause(error)}. Change its options, or tell its author"
        ) from error


def shaped(whom: str, value: object, wanted: tuple[int, ...], rule: str) -> None:
    """Refuse what is no tensor of that shape."""
    if not isinstance(value, Tensor) or tuple(value.shape) != wanted:
        came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ContractError(f"{whom} returned {came}; needed: shape {wanted}, {rule}. Tell its author")


def try_loss(whom: str, loss: Loss, task: Task) -> None:
    """Refuse a loss that is no number per network and sample, has no slope, mixes networks or writes into what it is given.

    Raises:
        ContractError: naming ``whom``.
    """
    outputs, y = _made_up(task)
    value = _tried(
        whom, lambda o: loss(o, y), outputs.requires_grad_(), y, (2, y.shape[-1]), "one number per network and sample"
    )
    if not value.requires_grad:
        raise ContractError(f"{whom} has no slope in the outputs, so nothing is learned; tell its author")
    with blaming(whom), torch.enable_grad():
        (slope,) = torch.autograd.grad(value.sum(), outputs)
    if not bool(torch.isfinite(value).all() and torch.isfinite(slope).all()):
        raise ContractError(f"{whom}: its value or slope is not finite at outputs near the mean of the target; tell its author")


def try_metric(whom: str, metric: Metric, task: Task) -> None:
    """Refuse a metric that is no number per network, mixes networks or writes into what it is given.

    Raises:
        ContractError: naming ``whom``.
    """
    outputs, y = _made_up(task)
    said = task.loss.point(outputs)
    if task.kind == "regression":
        unit = task.output_scale.to(said)[:: len(task.loss.outputs)].unsqueeze(-1)
        said, y = said * unit, y * unit
    _tried(whom, lambda o: metric(o, y), said, y, (2,), "one number per network")


def _made_up(task: Task) -> tuple[Tensor, Tensor]:
    """Outputs of two networks near the mean, ``(2, O, B)``, and the targets of some training samples."""
    y = task.train.y[..., _varied(task)].clone()
    draw = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(2, task.outputs, y.shape[-1], generator=draw), y


def _varied(task: Task) -> Tensor:
    """Training samples of all labels, or from the least value to the largest: the first of a sorted table may be all alike."""
    y = task.train.y
    values = y if y.dim() == 1 else y.argmax(-2) if task.kind == "classes" else y.flatten(0, -2)[0]
    order = values.argsort(stable=True)
    counts = torch.from_numpy(np.unique(values.cpu().numpy(), return_counts=True)[1])
    if len(counts) > SAMPLES:
        return order[torch.arange(SAMPLES) * (len(order) - 1) // (SAMPLES - 1)]
    turn = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[turn.argsort(stable=True)][:SAMPLES]


def _tried(
    whom: str, call: Callable[[Tensor], Tensor], outputs: Tensor, y: Tensor, wanted: tuple[int, ...], rule: str
) -> Tensor:
    before = outputs.detach().clone(), y.clone()
    with blaming(whom), torch.enable_grad():
        value = call(outputs)
    shaped(whom, value, wanted, rule)
    if not value.is_floating_point():
        raise ContractError(f"{whom} returned {value.dtype}; needed: floating-point numbers. Tell its author")
    if not torch.equal(outputs.detach(), before[0]) or not torch.equal(y, before[1]):
        raise ContractError(f"{whom} writes into the outputs or targets that it is given; tell its author")
    with blaming(whom):
        alone = call(outputs[:1])
    if not torch.allclose(value[:1].double(), alone.double(), rtol=SLACK, atol=1e-6, equal_nan=True):
        raise ContractError(f"{whom}: its value for one network changes when another joins it; tell its author")
    return value
