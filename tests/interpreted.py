"""What the engine's kernel does in Triton's interpreter, beside plain steps: one line of JSON, case by case.

    TRITON_INTERPRET=1 python tests/interpreted.py [CASE ...]

A process of its own, as the interpreter must be asked for before Triton is imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.contracts import Regularizer
from nasplug.engine import Canonical, canonical
from nasplug.engine.fitting import KINDS
from nasplug.engine.launching import launch
from nasplug.engine.tiles import activation, activation_slope
from nasplug.optimizers import Adam
from nasplug.schedules import cosine, geometric, linear, track
from nasplug.tasks import CrossEntropy, Kind, Logistic, Loss, Split, SquaredError, unscaled
from nasplug.tasks.losses import AbsoluteError, Huber
from nasplug.train import Batches, Search, State, start, step
from nasplug_edges import edges
from nasplug_regularizers import inputs, l1, neurons

STEPS = 20
MSE, ADAM = SquaredError(), Adam()


@dataclass(frozen=True)
class Case:
    """A search that the engine serves; by default of the least."""

    hidden: tuple[int, ...] = (3,)
    inputs: int = 2
    outputs: int = 1
    samples: int = 5
    batch: int | None = None
    rows: int = 1
    loss: Loss = MSE
    penalties: tuple[Regularizer, ...] = ()
    adam: Adam = ADAM
    weights: str = ""  # "shared" or "own"
    method: tuple[tuple[str, Any], ...] = (("mode", "l1"), ("activation", "tanh"))
    clip: float | None = None
    zeros: bool = False
    stacked: bool = False
    soft: bool = False


PENALTIES = (l1(layers=[1.0, 0.5]), inputs(), inputs(adaptive=0.03), neurons(of="both"), neurons(of="leaving", scale="none"))
CASES = {
    "linear": Case(hidden=(), outputs=2, loss=AbsoluteError(), penalties=(l1(), inputs())),
    "one hidden layer": Case(penalties=(l1(),), rows=2, batch=3, loss=Huber(0.3), stacked=True),
    "two hidden layers": Case(
        hidden=(3, 4), penalties=(neurons(of="both", layers=[1.0, 2.0]), l1()), method=(("mode", "l1"), ("bias", False))
    ),
    "zeros": Case(zeros=True, penalties=PENALTIES, adam=Adam(weight_decay=0.1)),
    "annealed": Case(
        method=(("mode", "annealed"),), rows=2, loss=Logistic(), weights="own", adam=Adam(weight_decay=0.1, decoupled=True)
    ),
    "wide": Case(inputs=17, hidden=(33,), outputs=3, samples=40, batch=39, loss=CrossEntropy(), soft=True, penalties=(l1(),)),
    "classes": Case(outputs=3, loss=CrossEntropy(0.1), clip=0.1, weights="shared"),
}


def made(case: Case) -> Search:
    """The search of a case: noise of its shape, schedules of each row's own."""
    g = torch.Generator().manual_seed(0)
    lead = (case.rows,) if case.stacked else ()
    x = torch.randn(*lead, case.inputs, case.samples, generator=g)
    y = torch.randn(*lead, case.outputs, case.samples, generator=g)
    if isinstance(case.loss, Logistic):
        y = (y > 0).float()
    elif isinstance(case.loss, CrossEntropy):
        y = torch.softmax(y, 0) if case.soft else y.argmax(0)
    weights = None
    if case.weights:
        weights = torch.rand(*((case.rows,) if case.weights == "own" else ()), case.samples, generator=g)
        weights[..., 1] = 0.0
    split = Split(x, y, weights)
    kind: Kind = next(iter(sorted(case.loss.kinds, reverse=True)))
    targets = None if kind == "regression" else list("abc"[: max(2, case.outputs)])
    task = unscaled("noise", (split, split, split), kind=kind, loss=case.loss, targets=targets)
    seeds = torch.arange(case.rows)
    rows = range(case.rows)

    def tracked(schedules: Sequence[Callable[[float], float]], scale: Sequence[float]) -> Any:
        return track(schedules, [k % len(schedules) for k in rows], [scale[k % len(scale)] for k in rows], STEPS).to(
            "cpu", torch.float32
        )

    ramps = [linear(), linear(since=0.2, until=0.6)]
    return Search(
        task,
        edges(hidden=list(case.hidden), **dict(case.method)),
        case.penalties,
        case.adam,
        seeds,
        STEPS,
        tracked([cosine(start=1.0, end=0.1), linear(start=1.0, end=0.5)], [0.05, 0.02]),
        tracked([geometric(start=1.0, end=0.05), linear(start=1.0, end=0.0, until=0.5)], [1.0]),
        tuple(tracked(ramps, [0.1 / (1 + n), 0.03]) for n, _ in enumerate(case.penalties)),
        batch=case.batch,
        clip=case.clip,
    )


def begun(case: Case, search: Search) -> State:
    """Where it starts: some weights exactly 0, and whole groups of them, where the case says so."""
    state = start(search)
    if case.zeros:
        for leaf in state.params.values():
            leaf[..., 0] = 0.0
    return state


def plain(search: Search, state: State) -> tuple[Tensor, Tensor]:
    """All steps by `step`, in place."""
    batches = Batches(search.task.train, search.batch, search.data_seed)
    for t in range(STEPS):
        levels = tuple(level.at(t) for level in search.levels)
        told = step(search, state.params, state.moments, batches.at(t).batch, search.lr.at(t), search.tau.at(t), levels, None)
    return told


def engined(search: Search, state: State, stops: Sequence[int] = (STEPS,)) -> tuple[Tensor, Tensor]:
    """Steps by the kernel, in place, with a launch up to each of the stops."""
    plan = canonical(search, state.params)
    assert isinstance(plan, Canonical), plan
    batches = Batches(search.task.train, search.batch, search.data_seed)
    at = 0
    for stop in stops:
        told = launch(plan, search, state.params, state.moments, batches, at, stop)
        at = stop
    return told


def leaves(state: State, told: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Everything that a run left."""
    return {**state.params, **state.moments, "loss": told[0], "penalty": told[1]}


def off(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def deviation(name: str) -> float:
    """Of the kernel from plain steps."""
    search = made(CASES[name])
    true, mine = begun(CASES[name], search), begun(CASES[name], search)
    return off(leaves(true, plain(search, true)), leaves(mine, engined(search, mine, (5, STEPS))))


def row_law() -> float:
    """Of rows alone from the same rows in a pack."""
    case = replace(CASES["two hidden layers"], rows=3, batch=2)
    search = made(case)
    pack = begun(case, search)
    whole = leaves(pack, engined(search, pack, (3,)))
    found = 0.0
    for k in range(3):
        index = torch.tensor([k])
        alone = search.take(index)
        state = begun(case, search).take(index)
        mine = leaves(state, engined(alone, state, (3,)))
        found = max(found, off(mine, {n: t[k : k + 1] if t.dim() else t for n, t in whole.items()}))
    return found


@triton.jit
def curves(z, values, slopes, KIND: tl.constexpr):
    """An activation and its slope at 64 places."""
    at = tl.arange(0, 64)
    here = tl.load(z + at)
    tl.store(values + at, activation(here, KIND))
    tl.store(slopes + at, activation_slope(here, KIND))


def curve_deviation(kind: str) -> float:
    """Of an activation and its slope from torch's, near 0 and far from it."""
    z = torch.cat(
        [torch.linspace(-6, 6, 31), torch.linspace(-0.2, 0.2, 30), torch.tensor([-40.0, 30.0, 90.0])]
    ).requires_grad_()
    true = FUNCTIONS[kind](z)
    (slope,) = torch.autograd.grad(true.sum(), z)
    values, slopes = torch.empty(64), torch.empty(64)
    curves[(1,)](z.detach(), values, slopes, kind)
    return off({"value": true.detach(), "slope": slope}, {"value": values, "slope": slopes})


def main(names: Sequence[str]) -> None:
    """All cases, or those that are named."""
    torch.set_num_threads(1)
    found = {}
    for name in names or CASES:
        began = time.perf_counter()
        found[name] = deviation(name)
        print(name, found[name], f"{time.perf_counter() - began:.1f} s", file=sys.stderr)
    if not names:
        found["row law"] = row_law()
        found |= {kind: curve_deviation(kind) for kind in sorted(KINDS)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
