"""The engine: the kernel's steps for the loop, after a proof on the first of them that they are those of `step`."""

from __future__ import annotations

import importlib.util
import subprocess
import textwrap
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from nasplug.contracts import Params
from nasplug.engine.fitting import Canonical, canonical
from nasplug.engine.launching import launch
from nasplug.train import Batches, Engine, Search, step

__all__ = ["TOLERANCE", "available", "engine", "engine_for"]

PROVEN_STEPS = 5
TOLERANCE = 1e-3
"""Of the way that a leaf's numbers went in the first steps, and of a loss; float32 alone differs by 1e-6 to 1e-4."""

Moments = dict[str, Tensor]
Told = tuple[Tensor, Tensor]
Steps = Callable[[Canonical, Search, Params, Moments, Batches, int, int], Told]


def available() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def engine_for(search: Search, params: Params) -> Engine | None:
    """The engine where it fits, on a CUDA device with Triton; else None."""
    if search.seeds.device.type != "cuda" or torch.version.cuda is None or not available():
        return None
    plan = canonical(search, params)
    return None if isinstance(plan, str) else engine(plan)


def engine(plan: Canonical, steps: Steps = launch) -> Engine:
    """Steps of all rows in the kernel, in place (`nasplug.train.Engine`).

    The first `PROVEN_STEPS` are made by `nasplug.train.step` too. Where they differ by more than `TOLERANCE`, or the kernel
    does not run, a warning says so and this engine makes no more steps: the state is whole, and the loop goes on with its own.

    Args:
        plan: what `canonical` found.
        steps: makes them; the kernel by default.
    """
    proven = broken = False

    def advance(search: Search, params: Params, moments: Moments, first: int, until: int) -> Told | None:
        nonlocal proven, broken
        if broken:
            return None
        batches = Batches(search.task.train, search.batch, search.data_seed)
        if proven:
            return steps(plan, search, params, moments, batches, first, until)
        middle = min(first + PROVEN_STEPS, until)
        mine, true = (_copied(params), _copied(moments)), (_copied(params), _copied(moments))
        try:
            found = steps(plan, search, *mine, batches, first, middle)
            wanted = _plain(search, *true, batches, first, middle)
            off = _distance(params, true[0], mine[0], wanted, found)
        except _refusals() as error:
            broken = True
            first_line = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
            warnings.warn(f"the engine does not run here ({first_line}); training goes on without it", stacklevel=2)
            return None
        if not off <= TOLERANCE:
            broken = True
            warnings.warn(
                f"the engine's first {middle - first} steps differ from plain ones by {off:.2g} of the way that the networks "
                f"went, and float32 explains {TOLERANCE:g} at most; training goes on without it",
                stacklevel=2,
            )
            return None
        proven = True
        for mine_or_true, kept in ((true[0], params), (true[1], moments)):
            for name, leaf in kept.items():
                leaf.copy_(mine_or_true[name])
        return wanted if middle == until else steps(plan, search, params, moments, batches, middle, until)

    return advance


def _refusals() -> tuple[type[Exception], ...]:
    """What Triton, its compilers and the driver raise where they cannot compile or launch."""
    known = (RuntimeError, OSError, subprocess.SubprocessError)
    if not available():
        return known
    from triton.errors import TritonError

    return (*known, TritonError)


def _copied(leaves: Params) -> Params:
    return {name: leaf.clone() for name, leaf in leaves.items()}


def _plain(search: Search, params: Params, moments: Moments, batches: Batches, first: int, until: int) -> Told:
    """The same steps by `step`, in place."""
    for t in range(first, until):
        levels = tuple(level.at(t) for level in search.levels)
        told = step(search, params, moments, batches.at(t).batch, search.lr.at(t), search.tau.at(t), levels, None)
    return told


def _distance(begun: Params, true: Params, mine: Params, wanted: Told, found: Told) -> float:
    """How far the engine is from `step`: of the leaves in units of their mean way, of loss and penalty relative to them.

    Of rows that `step` left finite; means, since a gradient that is 0 but for rounding may send one number the other way.
    """
    healthy = torch.stack([torch.isfinite(leaf).flatten(1).all(1) for leaf in true.values()]).all(0)
    healthy = healthy & torch.isfinite(wanted[0])
    if not bool(healthy.any()):
        return 0.0
    off = []
    for name, leaf in true.items():
        away, moved = (mine[name] - leaf)[healthy].abs().mean(), (leaf - begun[name])[healthy].abs().mean()
        off.append(away / moved.clamp(min=1e-9))
    for value, other in zip(wanted, found, strict=True):
        off.append(((other - value)[healthy].abs() / (value[healthy].abs() + 1e-3)).max())
    return float(torch.stack(off).max())
