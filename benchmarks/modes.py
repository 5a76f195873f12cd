"""The ways in which `gpu.py` makes a step: ours, and those that it is compared with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from workloads import LEARNING_RATE, LEVEL, Module, Workload

from nasplug.engine import available, canonical
from nasplug.engine.launching import launch
from nasplug.train import Batches, Search, State, compile_step, step
from nasplug.train.replaying import Steps
from nasplug.train.timetable import timetable

__all__ = ["MODES", "OURS", "PROGRAMS", "Advance", "UnservedError"]

Advance = Callable[..., Tensor]
"""Makes so many steps (1 by default): the losses ``(K,)`` before the last of them."""


class UnservedError(Exception):
    """A mode that a workload, or this machine, has not."""


def _repeated(once: Callable[[], Tensor]) -> Advance:
    def advance(steps: int = 1) -> Tensor:
        for _ in range(steps):
            loss = once()
        return loss

    return advance


def _by(advance: Callable[..., tuple[Tensor, Tensor]], plan: Search, state: State) -> Advance:
    batch, lr, tau, levels = plan.task.train.pair, plan.lr.at(0), plan.tau.at(0), tuple(level.at(0) for level in plan.levels)
    return _repeated(lambda: advance(plan, state.params, state.moments, batch, lr, tau, levels, None)[0])


def eager(work: Workload, plan: Search, state: State) -> Advance:
    """As it is written."""
    return _by(step, plan, state)


def compiled(work: Workload, plan: Search, state: State) -> Advance:
    """By `torch.compile`."""
    return _by(compile_step(), plan, state)


def _replayed(advance: Callable[..., tuple[Tensor, Tensor]], plan: Search, state: State) -> Advance:
    if plan.seeds.device.type == "cpu":
        raise UnservedError("steps are captured on a GPU alone")
    move = Steps(timetable(plan, advance, 0, plan.steps), step)
    clock = torch.zeros(1, dtype=torch.long, device=plan.seeds.device)
    return _repeated(lambda: move(state.params, state.moments, clock, False)[0])


def captured(work: Workload, plan: Search, state: State) -> Advance:
    """By the training loop's own steps, which a GPU captures and replays."""
    return _replayed(step, plan, state)


def compiled_captured(work: Workload, plan: Search, state: State) -> Advance:
    """Compiled, then captured and replayed."""
    return _replayed(compile_step(), plan, state)


def engine(work: Workload, plan: Search, state: State) -> Advance:
    """All in one launch of the engine's kernel."""
    found = canonical(plan, state.params)
    if isinstance(found, str):
        raise UnservedError(f"the engine does not serve it: {found}")
    if not available():
        raise UnservedError("triton is not installed")
    if plan.seeds.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise UnservedError("the engine's kernel runs on a GPU, or for tests in Triton's interpreter (TRITON_INTERPRET=1)")
    batches = Batches(plan.task.train, None, 0)

    def advance(steps: int = 1) -> Tensor:
        return launch(found, plan, state.params, state.moments, batches, 0, steps)[0]

    return advance


def vmap(work: Workload, plan: Search, state: State) -> Advance:
    """Gradients of one network by `torch.func.grad`, of all by `torch.func.vmap`; then our Adam."""
    (x, y), tau = plan.task.train.pair, plan.tau.at(0)
    level = plan.levels[0].at(0)

    def loss(leaves: Mapping[str, Tensor], tau: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        nets = plan.relax({name: p.unsqueeze(0) for name, p in leaves.items()}, tau.view(1))
        value = plan.task.losses(plan.forward(nets, x), y)[0]
        return value + level * plan.penalties[0](nets)[0], value

    slopes = torch.func.vmap(torch.func.grad(loss, has_aux=True))

    def once() -> Tensor:
        gradients, losses = slopes(state.params, tau, level)
        with torch.no_grad():
            plan.optimizer.update(state.params, gradients, state.moments, plan.lr.at(0))
        found: Tensor = losses.detach()
        return found

    return _repeated(once)


def alone(work: Workload, plan: Search, state: State) -> Advance:
    """One `nn.Module` with torch's fused Adam, as people write it; it trains the first network alone."""
    (x, y), model = (t.T.contiguous() for t in plan.task.train.pair), Module(work.widths, work.mixture).to(plan.seeds.device)
    with torch.no_grad():  # the module's parameters are the leaves themselves, so that both are compared with float64
        for number, layer in enumerate(model.layers, start=1):
            layer.weight.data, layer.bias.data = state.params[f"weight {number}"][0], state.params[f"bias {number}"][0]
        for number, logits in enumerate(model.logits or (), start=1):
            logits.data = state.params[f"logits {number}"][0]
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)

    def once() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.mse_loss(model(x), y)
        (value + LEVEL * model.penalty()).backward()
        optimizer.step()
        return value.detach().view(1)

    return _repeated(once)


PROGRAMS: Mapping[str, Callable[[Workload, Search, State], Advance]] = {
    "eager": eager,
    "alone": alone,
    "captured": captured,
    "engine": engine,
    "vmap": vmap,
    "compiled": compiled,
    "compiled_captured": compiled_captured,
}
MODES = tuple(PROGRAMS)
OURS = ("eager", "captured", "engine", "compiled", "compiled_captured")
