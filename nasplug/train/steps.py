"""One step of all rows: gradients, moves, and the step as one compiled program."""

from __future__ import annotations

import textwrap
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nasplug.contracts import Params, Proximal
from nasplug.errors import ContractError
from nasplug.networks import PACE, observing
from nasplug.replicas import clip, column, norm, number_of
from nasplug.train.search import ARCHITECTURE, Batch, Search

__all__ = ["alternate", "compile_step", "slope", "step"]

MOST_PROGRAMS = 16  # compiled steps that a process keeps
TELLS_WHY = "get_and_maybe_log_recompilation_reasons"  # of Dynamo
_forgotten = 0  # programs that torch had counted when those of this process were last dropped


def slope(
    search: Search,
    params: Params,
    wanted: Params,
    batch: Batch,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor, Params, Params]:
    """Task loss ``(K,)``, penalty ``(K,)``, the gradients of their sum in the ``wanted`` leaves, and observed statistics.

    ``total_k = loss_k + sum_p level_pk penalty_pk``; the sum over k is taken in the last line only, where it separates
    again: row k's gradient depends on row k alone. Proximal penalties have no gradient.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in wanted.items()}
    nets = search.relax(params | leaves, tau, noise)
    outputs, seen = observing(search.forward, nets, batch[0], *batch[2:])
    loss = search.task.losses(outputs, *batch[1:])  # (K,)
    penalty = torch.zeros_like(loss)
    for regularizer, level in zip(search.penalties, levels, strict=True):
        value = level * regularizer(nets)
        penalty = penalty + (value.detach() if isinstance(regularizer, Proximal) else value)
    found = torch.autograd.grad((loss + penalty).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    return loss.detach(), penalty.detach(), dict(zip(leaves, found, strict=True)), seen


def _follow(params: Params, seen: Params) -> None:
    """Running statistics towards those of the batch, in place."""
    for name, value in seen.items():
        params[name].lerp_(value, PACE)


def _move_weights(search: Search, params: Params, gradients: Params, moments: dict[str, Tensor], lr: Tensor) -> None:
    """The optimizer's step, in place."""
    weights = search.weights(params)
    mine = {name: gradients[name] for name in weights}
    search.optimizer.update(weights, clip(mine, search.clip) if search.clip is not None else mine, moments, lr)


def _move_architecture(search: Search, params: Params, gradients: Params, moments: dict[str, Tensor]) -> None:
    """The architect's step, in place."""
    if search.architect is not None:
        leaves = search.architecture(params)
        mine = {name.removeprefix(ARCHITECTURE): t for name, t in moments.items() if name.startswith(ARCHITECTURE)}
        search.architect.optimizer.update(leaves, {name: gradients[name] for name in leaves}, mine, search.architect.lr)


def _shrink(search: Search, params: Params, lr: Tensor, tau: Tensor, levels: tuple[Tensor, ...], noise: Tensor | None) -> None:
    """The proximal penalties' steps, in place."""
    for regularizer, level in zip(search.penalties, levels, strict=True):
        if isinstance(regularizer, Proximal):
            shrunk = regularizer.shrink(search.relax(params, tau, noise), lr * level)
            for name, leaf in search.method.hold(shrunk).items():
                params[name].copy_(leaf)


def _sign(search: Search, params: Params, tau: Tensor, noise: Tensor | None) -> None:
    """Parameters that are weights as they are get the signs that they may have, in place."""
    if search.projected:
        for name, leaf in search.method.hold(search.relax(params, tau, noise)).items():
            params[name].copy_(leaf)


def step(
    search: Search,
    params: Params,
    moments: dict[str, Tensor],
    batch: Batch,
    lr: Tensor,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One step of all rows, in place: task loss ``(K,)`` and penalty ``(K,)`` before the step.

    Weights and architecture follow one gradient (`slope`); then proximal penalties move the rows.
    """
    loss, penalty, gradients, seen = slope(search, params, search.trained(params), batch, tau, levels, noise)
    with torch.no_grad():
        _follow(params, seen)
        _move_weights(search, params, gradients, moments, lr)
        _move_architecture(search, params, gradients, moments)
        _shrink(search, params, lr, tau, levels, noise)
        _sign(search, params, tau, noise)
    return loss, penalty


def alternate(
    search: Search,
    params: Params,
    moments: dict[str, Tensor],
    batch: tuple[Batch, Batch],
    lr: Tensor,
    tau: Tensor,
    levels: tuple[Tensor, ...],
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One bilevel step of all rows, in place: the architecture on the held batch, then the weights on theirs.

    ``batch``: the weights' and the held one. With L the loss and penalties, order 1 follows ``grad_a L_held(w, a)``. Order 2
    looks one plain step ahead, ``w' = w - lr grad_w L(w, a)``, and follows ``grad_a L_held(w', a) - lr (grad_a L(w+, a) -
    grad_a L(w-, a)) / 2r`` with ``v = grad_w' L_held(w', a)``, ``w+- = w +- r v`` and a row's own ``r = .01 / |v|``.

    With a clip the step ahead is as short as the weights' own.

    Source: DARTS (Liu et al. 2019), equations 5-8. We differ: the step ahead is the gradient's alone, without momentum and
    weight decay; what is held are training samples, so that the validation split still chooses.

    Returns:
        Loss and penalty of the weights' step.
    """
    inner, held = batch
    architect = search.architect
    if architect is None:
        raise ContractError("alternate: the search has no architect; take step")
    leaves, weights = search.architecture(params), search.weights(params)
    if architect.order == 1:
        toward = slope(search, params, leaves, held, tau, levels, noise)[2]
    else:
        ahead = slope(search, params, weights, inner, tau, levels, noise)[2]
        pace = lr if search.clip is None else lr * (search.clip / norm(ahead).clamp(min=1e-12)).clamp(max=1.0)  # (K,)
        looked = {name: w - column(pace, w) * ahead[name] for name, w in weights.items()}
        found = slope(search, params | looked, search.trained(params | looked), held, tau, levels, noise)[2]
        radius = 0.01 / norm({name: found[name] for name in weights}).clamp(min=1e-12)  # (K,)

        def curve(sign: float) -> Params:
            moved = {name: w + sign * column(radius, w) * found[name] for name, w in weights.items()}
            return slope(search, params | moved, leaves, inner, tau, levels, noise)[2]

        plus, minus = curve(1.0), curve(-1.0)
        rate = pace / (2.0 * radius)
        toward = {name: found[name] - column(rate, p) * (plus[name] - minus[name]) for name, p in leaves.items()}
    with torch.no_grad():
        _move_architecture(search, params, toward, moments)
    loss, penalty, gradients, seen = slope(search, params, weights, inner, tau, levels, noise)
    with torch.no_grad():
        _follow(params, seen)
        _move_weights(search, params, gradients, moments, lr)
        _sign(search, params, tau, noise)
    return loss, penalty


def _told_why(error: Exception) -> bool:
    """Whether Dynamo broke while it told why an earlier program does not fit: it looks at places that are not there now."""
    return any(frame.f_code.co_name == TELLS_WHY for frame, _ in traceback.walk_tb(error.__traceback__))


def compile_step(
    step: Callable[..., tuple[Tensor, Tensor]] = step,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """`step` (or `alternate`) as one compiled program: forward, losses, penalties, gradients and the optimizer fused.

    The gradient is traced into the same graph, which torch leaves out by default. A process keeps the last programs, so that
    packs of one shape share one: what a program depends on beside tensors' values is checked before each call (Dynamo's
    guards). Between processes torch keeps compiled code on disk (`torch._inductor`'s cache).
    """
    import torch._dynamo.exc  # most of a second, and most packs are never compiled
    from torch._dynamo.utils import counters

    def forget() -> None:
        global _forgotten
        torch.compiler.reset()
        _forgotten = counters["stats"]["unique_graphs"]

    if counters["stats"]["unique_graphs"] - _forgotten > MOST_PROGRAMS - 2:  # at the limit torch compiles no more
        forget()
    # Dynamo cannot look into zlib; without this a method that draws noise would not be compiled.
    torch.compiler.assume_constant_result(number_of)  # type: ignore[no-untyped-call]
    program = torch.compile(step, dynamic=False, fullgraph=True)

    broken = False

    def advance(*arguments: Any) -> tuple[Tensor, Tensor]:
        nonlocal broken
        if not broken:
            try:
                with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=MOST_PROGRAMS):
                    try:
                        return program(*arguments)
                    except Exception as error:
                        if not _told_why(error):
                            raise
                        forget()  # without earlier programs there is nothing to tell
                        return program(*arguments)
            # Raised before anything ran: the state is whole.
            except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                broken = True
                first = textwrap.shorten(str(error).split("\n\n")[0], 300)  # its first paragraph names the cause
                warnings.warn(f"torch cannot compile this step ({first}); it goes on uncompiled", stacklevel=2)
        return step(*arguments)

    return advance
