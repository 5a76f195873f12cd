"""Training an autoencoder: a generator of progress that can stop anywhere and goes on exactly where it stood.

A training's folder holds ``checkpoint.safetensors`` while it runs, ``curve.csv`` and ``curve.png``, and in the end
``autoencoder.safetensors``. Networks, probes and noise are functions of (seed, step), and of the files of trained networks
where there are some, whose digest belongs to the training: there is no generator to save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.files import beside, locked
from nasplug.machine import arithmetic
from nasplug_swat.autoencoder.checkpoints import Row, remove_checkpoint, restore, save_checkpoint, write_curve
from nasplug_swat.autoencoder.files import read, save, shipped
from nasplug_swat.autoencoder.losses import losses, scores
from nasplug_swat.autoencoder.model import Autoencoder, fresh, made
from nasplug_swat.autoencoder.pictures import curve
from nasplug_swat.autoencoder.pool import Pool, gather
from nasplug_swat.autoencoder.settings import Training

__all__ = ["CURVE_PICTURE", "RESULT", "Progress", "train"]

CURVE_PICTURE, RESULT = "curve.png", "autoencoder.safetensors"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: errors are medians of validation networks, own-depth decoder, one per depth.

    ``trained``: the same on trained networks that were held back, nan for depths without one; empty for a training without.
    """

    step: int
    steps: int
    loss: float
    errors: tuple[float, ...]
    seconds: float
    trained: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    """What does not change while a training runs.

    ``learned`` and ``held`` are the trained networks that it learns from, and those held back; None without any.
    """

    training: Training
    folder: Path
    identity: str
    device: str
    learned: Pool | None
    held: Pool | None

    def begin(self) -> Autoencoder:
        """Where weights begin.

        Raises:
            ConfigError: for a start that is of another space, size or sampling.
        """
        training = self.training
        if training.start is None:
            return fresh(training.space, training.dimensions, training.sampling, training.seed).to(self.device, torch.float32)
        found = read(shipped().get(training.start, Path(training.start).expanduser()))
        if (found.space, found.size, found.sampling) != (training.space, training.dimensions, training.sampling):
            raise ConfigError(
                f"start: {training.start} is of {found.space!r}, {found.size!r}, {found.sampling!r}; needed: those of this "
                "training. Give another file, or leave start out"
            )
        return found.to(self.device, torch.float32)


def train(training: Training, folder: Path) -> Iterator[Progress]:
    """Train, validate, save; yields at each validation. Goes on from the folder's checkpoint; a finished one is left alone.

    Raises:
        ConfigError: for a folder that holds another training, a device that is not there, or trained networks that cannot be
            learned from.
    """
    pools = None if training.networks is None else gather(training.networks, training.space)
    identity = training.identity(pools)
    if (folder / RESULT).exists():
        if read(folder / RESULT).about.get("identity") != identity:
            raise ConfigError(
                f"{folder / RESULT}: was trained with other settings or on other trained networks; give another folder"
            )
        return
    device = _device(training.device)
    learned, held = (None, None) if pools is None else (pool.to(device) for pool in pools)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "this training"), arithmetic(training.threads):
        yield from _train(_Run(training, folder, identity, device, learned, held))


def _train(run: _Run) -> Iterator[Progress]:
    training, start = run.training, run.begin()
    weights = {name: w.clone().requires_grad_() for name, w in start.weights.items()}
    model = replace(start, weights=weights)
    optimizer = torch.optim.Adam(list(weights.values()), training.lr, betas=(0.9, 0.98))
    rows = restore(run.folder, run.identity, weights, optimizer)
    spent = rows[-1]["seconds"] if rows else 0.0
    began = saved = time.perf_counter()
    since: list[Tensor] = []
    for step in range(int(rows[-1]["step"]) if rows else 0, training.steps):
        since.append(_stepped(run, model, optimizer, step))
        done = step + 1
        if done % training.every != 0 and done != training.steps:
            continue
        loss = float(torch.stack(since).mean())
        row = {"step": float(done), "seconds": spent + time.perf_counter() - began, "loss": loss, **_validated(run, model)}
        rows, since = [*rows, row], []
        write_curve(run.folder, rows)
        yield _progress(row, training)
        if done == training.steps or time.perf_counter() - saved > training.checkpoint_seconds:
            save_checkpoint(run.folder, run.identity, weights, optimizer, rows)
            saved = time.perf_counter()
    _finish(run, replace(model, weights={name: w.detach() for name, w in weights.items()}), rows)


def _stepped(run: _Run, model: Autoencoder, optimizer: torch.optim.Optimizer, step: int) -> Tensor:
    """One step of the weights, in place; its loss."""
    training = run.training
    for group in optimizer.param_groups:
        group["lr"] = _rate(training, step)
    with _precision(run.device):
        loss = losses(model, training, step, run.device, run.learned)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.weights.values(), training.clip)
    optimizer.step()
    return loss.detach()


def _rate(training: Training, step: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    if step < training.warmup:
        return training.lr * (step + 1) / training.warmup
    progress = (step - training.warmup) / max(training.steps - training.warmup, 1)
    return training.lr * (1.0 + math.cos(math.pi * progress)) / 2.0


def _validated(run: _Run, model: Autoencoder) -> Row:
    """Errors of fresh networks, and of trained ones that were held back."""
    training, deepest = run.training, run.training.space.deepest
    errors = scores(model, training.validate_on, training.seed, stream="swat/valid")
    row = _by_depth("median", errors, deepest, _median) | _by_depth("q90", errors, deepest, _tail)
    row["deeper"] = max((_median(e) for (depth, decoder), e in errors.items() if decoder > depth), default=math.nan)
    if run.held is not None:
        real = scores(model, training.validate_on, training.seed, stream="swat/valid", pool=run.held)
        row |= _by_depth("trained_median", real, deepest, _median) | _by_depth("trained_q90", real, deepest, _tail)
    return row


def _median(errors: Tensor) -> float:
    return float(errors.median())


def _tail(errors: Tensor) -> float:
    """The 90th percentile."""
    return float(errors.quantile(0.9))


def _by_depth(name: str, found: Mapping[tuple[int, int], Tensor], deepest: int, quantile: Callable[[Tensor], float]) -> Row:
    """A quantile of errors through the own decoder, one per depth; nan where there is none."""
    return {f"{name}_{d}": quantile(found[d, d]) if (d, d) in found else math.nan for d in range(1, deepest + 1)}


def _progress(row: Row, training: Training) -> Progress:
    def each(name: str) -> tuple[float, ...]:
        return tuple(row[f"{name}_{depth}"] for depth in range(1, training.space.deepest + 1) if f"{name}_{depth}" in row)

    return Progress(int(row["step"]), training.steps, row["loss"], each("median"), row["seconds"], each("trained_median"))


def _finish(run: _Run, model: Autoencoder, rows: Sequence[Row]) -> None:
    """Test it, draw its curve, and write it down as the result."""
    training = run.training

    def told(model: Autoencoder, **options: Any) -> dict[str, dict[str, float]]:
        return _summary(scores(model, training.test_on, training.seed, **options))

    about: dict[str, Any] = {
        "identity": run.identity,
        "training": training.plain,
        "seconds": rows[-1]["seconds"],
        "torch": torch.__version__,
        "soft": told(model),
        "hard": told(model, hard=True),
    }
    if run.learned is not None and run.held is not None:
        about["networks"] = {"learned": run.learned.counts, "held_back": run.held.counts, "digest": run.learned.digest}
        about["trained"] = told(model, pool=run.held)
        about["trained_hard"] = told(model, pool=run.held, hard=True)
        about["trained_before"] = told(run.begin(), pool=run.held)
    with beside(run.folder / CURVE_PICTURE) as there:
        curve(rows).savefig(there, dpi=120, format="png")
    save(made(model.weights, training.space, training.dimensions, training.sampling, about), run.folder / RESULT)
    remove_checkpoint(run.folder)


def _summary(found: Mapping[tuple[int, int], Tensor]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile of each pair, as plain data: ``"depth->decoder"``."""
    return {
        f"{depth}->{decoder}": {"median": _median(errors), "q90": _tail(errors)} for (depth, decoder), errors in found.items()
    }


def _device(asked: str) -> str:
    if asked != "auto":
        if asked.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device: {asked}; here torch {torch.__version__} has no GPU. Write auto or cpu")
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(device: str) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.startswith("cuda") else nullcontext()
