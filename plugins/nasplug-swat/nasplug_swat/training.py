"""Training an autoencoder: a generator of progress that can stop anywhere and goes on exactly where it stood.

A training's folder holds ``checkpoint.safetensors`` while it runs, ``curve.csv`` and ``curve.png``, and in the end
``autoencoder.safetensors``. Networks, probes and noise are functions of (seed, step), and of the files of trained networks
where there are some, whose digest belongs to the training: there is no generator to save.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError
from nasplug.networks import Networks, forward, harden, where
from nasplug.replicas import normal, seeds_of, uniform
from nasplug_swat.autoencoder import (
    GAIN,
    SIZES,
    Autoencoder,
    Decoded,
    Size,
    decode,
    fresh,
    latents,
    made,
    networks_of,
    normalised,
    read,
    save,
    shipped,
)
from nasplug_swat.pictures import curve
from nasplug_swat.pool import Pool, Trained, gather
from nasplug_swat.representation import Matrices, Space, deepen, kinds, layout, pack, used
from nasplug_swat.sampling import Sampling, draw, draw_ends

__all__ = ["CURVE", "PICTURE", "RESULT", "Progress", "Training", "functional_error", "losses", "scores", "train"]

FLOOR = 1e-4
"""Added to a network's mean square output before errors are divided by it: constants near 0 have no size of their own."""


class Training(BaseModel):
    """A training run as one YAML file.

    ``batch`` networks of each depth a step, compared on ``probes`` points of [-1, 1]^I. ``matrix`` weighs the reconstruction of
    the matrix, ``across`` is the share of each batch that deeper decoders must express too. ``noise`` is added to latents.
    ``start`` is an autoencoder of the same space, size and sampling to go on from, a file or the name of one that comes along;
    null starts near the identity. ``networks``: see `nasplug_swat.pool.Trained`; null is random networks alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    space: Space = Space()
    size: Literal["tiny", "small", "medium", "gpt2"] | Size = "small"
    sampling: Sampling = Sampling()
    networks: Trained | None = None
    steps: int = Field(4000, ge=1)
    batch: int = Field(64, ge=1)
    probes: int = Field(32, ge=1)
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(100, ge=0)
    clip: float = Field(1.0, gt=0)
    matrix: float = Field(0.3, ge=0)
    across: float = Field(0.5, ge=0, le=1)
    noise: float = Field(0.02, ge=0)
    seed: int = Field(0, ge=0, lt=2**32)
    start: str | None = Field(None, min_length=1)
    every: int = Field(250, ge=1, description="steps between two validations")
    validate_on: int = Field(256, ge=1, description="fresh networks a depth, at each validation")
    test_on: int = Field(1000, ge=1, description="fresh networks a depth, at the end")
    checkpoint_seconds: float = Field(60.0, gt=0)
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _has_room(self) -> Training:
        if self.networks is not None and not bool(self.networks.rows(self.batch).any()):
            raise ValueError(
                f"networks.share {self.networks.share:g} of a batch of {self.batch} is no network; needed: one or more. "
                "Take a larger share or batch"
            )
        return self

    @property
    def dimensions(self) -> Size:
        """The size, by its name or as given."""
        return SIZES[self.size] if isinstance(self.size, str) else self.size

    @property
    def plain(self) -> dict[str, Any]:
        """What decides the result, as plain data; where and how often it is saved plays no part."""
        names = set(Training.model_fields) - {"checkpoint_seconds", "device", "threads"}
        if self.networks is None:  # trainings on random networks alone are what they were before there was a choice
            names.remove("networks")
        return self.model_dump(mode="json", include=names) | {"size": self.dimensions.model_dump()}

    def identity(self, pools: tuple[Pool, Pool] | None = None) -> str:
        """What a checkpoint must have been made for: the settings, and the trained networks that were found."""
        plain = self.plain if pools is None else self.plain | {"pools": [pool.digest for pool in pools]}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands: errors are medians of validation networks, own-depth decoder, one a depth.

    ``trained``: the same on trained networks that were held back, nan for depths without one; empty for a training without.
    """

    step: int
    steps: int
    loss: float
    errors: tuple[float, ...]
    seconds: float
    trained: tuple[float, ...] = ()


def functional_error(nets: Networks, x: Tensor, y: Tensor) -> Tensor:
    """``mean (f(x) - y)^2 / (mean y^2 + 1e-4)``, ``(K,)``, over outputs and the columns of ``x (I, B)``; ``y (K, O, B)``.

    Source: SWAT-NN, equation 5. We differ: it is divided by the network's own mean square, or deep networks with
    large outputs would be all that counts; and each decoder answers for itself instead of the best one for all.
    """
    return (forward(nets, x) - y).square().mean((1, 2)) / (y.square().mean((1, 2)) + FLOOR)


def _matrix_error(decoded: Decoded, target: Matrices) -> Tensor:
    """How far the numbers are from a matrix, ``(K,)``: mean squares of weights and biases, cross-entropies of the rest.

    What means nothing in the target is not asked for.
    """
    wanted, kind = normalised(target, decoded.sampling), kinds(target.space, target.depth).to(target.values.device)
    asked = used(target)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        where = where.to(values)
        return (values * where).sum((1, 2)) / where.sum((1, 2)).clamp(min=1.0)

    squares = mean((decoded.numbers - wanted).square(), asked & ((kind == 1) | (kind == 2)))
    logits, labels = GAIN * decoded.numbers, (wanted + 1.0) / 2.0
    masks = mean(F.binary_cross_entropy_with_logits(logits, labels, reduction="none"), asked & (kind == 4))
    nets = networks_of(decoded)
    chosen = asked & (kind == 3)
    shares = torch.zeros_like(decoded.numbers)
    for layer, columns in layout(target.space, target.depth).choices.items():
        shares[:, : target.space.width, columns] = nets.choices[layer].clamp(min=1e-12).log()
    activations = -mean(shares * labels, chosen) * len(target.space.candidates)
    return squares + masks + activations


def losses(autoencoder: Autoencoder, training: Training, step: int, device: str = "cpu", pool: Pool | None = None) -> Tensor:
    """The training loss of a step: a number, a function of weights, training and step (and what its folders hold) alone.

    ``pool``: the networks of ``training.networks`` to learn from, on the device; None reads them.

    Per network and decoder ``log1p(functional error) + matrix * reconstruction error``: the decoder of the network's own depth,
    and for a share of them every deeper one, whose target is the network with identity layers in front. Where ends vary, the
    networks of a step share theirs.
    """
    sampling, trained = training.sampling, training.networks
    if trained is not None:
        pool = pool or gather(trained, training.space)[0].to(device)
    one = torch.tensor([training.seed], device=device)
    space = training.space.at(*draw_ends(training.space, one, f"swat/train {step}"))
    x = uniform(one, f"swat/probes {step}", (space.inputs, training.probes), -1.0, 1.0)[0].float()
    base = torch.arange(training.batch, device=device) + training.seed * 2**20
    given: dict[int, tuple[Networks, Tensor, Tensor]] = {}
    for depth in range(1, space.deepest + 1):
        seeds = seeds_of(base, f"swat/train {step} {depth}")
        nets = draw(space, depth, seeds, sampling)
        if trained is not None and pool is not None and (real := pool.draw(space, depth, seeds, trained.noise)) is not None:
            nets = where(trained.rows(training.batch).to(device), real, nets)
        z = latents(autoencoder, pack(nets, space))
        if training.noise:
            z = z + training.noise * normal(seeds, "swat/noise", tuple(z.shape[1:])).to(z)
        given[depth] = (nets, z, forward(nets, x))
    total = x.new_zeros(())
    share = round(training.across * training.batch)
    for depth in range(1, space.deepest + 1):
        parts = [(pack(given[depth][0], space), *given[depth][1:])]
        for shallow in range(1, depth) if share and _passes(space) else ():
            nets, z, y = given[shallow]
            some = nets.map(lambda t: t[:share])
            parts.append((pack(deepen(some, depth, space), space), z[:share], y[:share]))
        target = Matrices(torch.cat([m.values for m, _, _ in parts]), depth, space)
        z, y = torch.cat([z for _, z, _ in parts]), torch.cat([y for _, _, y in parts])
        decoded = decode(autoencoder, z, depth, space)
        decoded = replace(decoded, numbers=decoded.numbers.float())
        loss = torch.log1p(functional_error(networks_of(decoded), x, y))
        if training.matrix:
            loss = loss + training.matrix * _matrix_error(decoded, target)
        total = total + loss.mean()
    return total / space.deepest


def _passes(space: Space) -> bool:
    """Whether identity layers exist in this space."""
    return 2 * space.inputs <= space.width and any(n in space.candidates for n in ("identity", "relu", "leaky_relu"))


@torch.no_grad()
def scores(
    autoencoder: Autoencoder,
    networks: int,
    seed: int = 0,
    *,
    stream: str = "swat/fresh",
    hard: bool = False,
    probes: int = 256,
    pool: Pool | None = None,
) -> dict[tuple[int, int], Tensor]:
    """Functional errors of ``networks`` fresh networks a depth through every decoder: ``(depth, decoder) -> (K,)``.

    Where ends vary, each 32 networks share theirs. ``hard``: masks and activations are rounded first. Fresh: seeds that
    training never draws. With a ``pool`` they are drawn from its networks; depths that it does not have are left out.
    """
    space, device = autoencoder.space, autoencoder.weights["encoder/values"].device
    one = torch.tensor([seed], device=device)
    points = uniform(one, stream + "/probes", (space.inputs, probes), -1.0, 1.0)[0].float()
    found: dict[tuple[int, int], Tensor] = {}
    for depth in range(1, space.deepest + 1):
        seeds = seeds_of(torch.arange(networks, device=device) + seed * 2**20, f"{stream} {depth}")
        rows: dict[int, list[Tensor]] = {}
        ends = None if pool is None else pool.ends(depth)
        for number, part in enumerate(torch.split(seeds, 32 if space.vary else 256) if ends != [] else ()):
            here = space.at(*(ends[number % len(ends)] if ends else draw_ends(space, one, f"{stream} {depth} {number}")))
            real = None if pool is None else pool.draw(here, depth, part)
            nets, x = real or draw(here, depth, part, autoencoder.sampling), points[: here.inputs]
            z, y = latents(autoencoder, pack(nets, here)), forward(nets, x)
            for decoder in range(1, space.deepest + 1):
                made = networks_of(decode(autoencoder, z, decoder, here))
                rows.setdefault(decoder, []).append(functional_error(harden(made) if hard else made, x, y))
        found |= {(depth, decoder): torch.cat(errors) for decoder, errors in rows.items()}
    return found


def _rate(training: Training, step: int) -> float:
    """Linear warm-up, then a cosine to 0."""
    if step < training.warmup:
        return training.lr * (step + 1) / training.warmup
    progress = (step - training.warmup) / max(training.steps - training.warmup, 1)
    return training.lr * (1.0 + math.cos(math.pi * progress)) / 2.0


def _device(asked: str) -> str:
    if asked != "auto":
        if asked.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"device: {asked}; here torch {torch.__version__} has no GPU. Write auto or cpu")
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def _precision(device: str) -> AbstractContextManager[Any]:
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.startswith("cuda") else nullcontext()


def _started(training: Training) -> Autoencoder:
    """Where weights begin.

    Raises:
        ConfigError: for a start that is of another space, size or sampling.
    """
    if training.start is None:
        return fresh(training.space, training.dimensions, training.sampling, training.seed)
    found = read(shipped().get(training.start, Path(training.start).expanduser()))
    if (found.space, found.size, found.sampling) != (training.space, training.dimensions, training.sampling):
        raise ConfigError(
            f"start: {training.start} is of {found.space!r}, {found.size!r}, {found.sampling!r}; needed: those of this "
            "training. Give another file, or leave start out"
        )
    return found


CHECKPOINT, CURVE, PICTURE, RESULT = "checkpoint.safetensors", "curve.csv", "curve.png", "autoencoder.safetensors"


def _save_checkpoint(
    folder: Path,
    identity: str,
    optimizer: torch.optim.Optimizer,
    weights: dict[str, Tensor],
    rows: list[dict[str, float]],
    step: int,
) -> None:
    tensors = {f"weights/{name}": w.detach() for name, w in weights.items()}
    for name, w in weights.items():
        state = optimizer.state[w]
        tensors |= {f"first/{name}": state["exp_avg"], f"second/{name}": state["exp_avg_sq"]}
    beside = folder / (CHECKPOINT + ".tmp")
    told = {"identity": identity, "step": str(step), "rows": json.dumps(rows)}
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, beside, metadata=told)
    beside.replace(folder / CHECKPOINT)


def _load_checkpoint(
    folder: Path, identity: str, device: str
) -> tuple[dict[str, dict[str, Tensor]], list[dict[str, float]], int] | None:
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device=device) as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); remove it to start anew") from error
    if told.get("identity") != identity:
        raise ConfigError(
            f"{path}: belongs to a training with other settings or other trained networks; give another folder, or remove it "
            "to start anew"
        )
    groups: dict[str, dict[str, Tensor]] = {"weights": {}, "first": {}, "second": {}}
    for name, tensor in tensors.items():
        group, leaf = name.split("/", 1)
        groups[group][leaf] = tensor
    return groups, json.loads(told["rows"]), int(told["step"])


def _write_curve(folder: Path, rows: list[dict[str, float]]) -> None:
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    (folder / CURVE).write_text(text.getvalue())


def _summary(found: Mapping[tuple[int, int], Tensor]) -> dict[str, dict[str, float]]:
    """Median and 90th percentile a pair, as plain data: ``"depth->decoder"``."""
    return {
        f"{depth}->{decoder}": {"median": float(errors.median()), "q90": float(errors.quantile(0.9))}
        for (depth, decoder), errors in found.items()
    }


def train(training: Training, folder: Path) -> Iterator[Progress]:
    """Train, validate, save; yields at each validation. Goes on from the folder's checkpoint; a finished one is left alone.

    Raises:
        ConfigError: for a folder that holds another training, a device that is not there, or trained networks that cannot be
            learned from.
    """
    pools = None if training.networks is None else gather(training.networks, training.space)
    if (folder / RESULT).exists():
        if read(folder / RESULT).about.get("identity") != training.identity(pools):
            raise ConfigError(
                f"{folder / RESULT}: was trained with other settings or on other trained networks; give another folder"
            )
        return
    with _arithmetic(training.threads):
        yield from _train(training, folder, _device(training.device), pools)


@contextmanager
def _arithmetic(threads: int) -> Iterator[None]:
    """On so many threads, numbers below 1e-38 as zero (they cost a hundredfold); afterwards as it was."""
    flushed = bool(torch.full((), 1e-40) * 1.0 == 0.0)
    before = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)


def _by_depth(found: Mapping[tuple[int, int], Tensor], deepest: int, share: float) -> list[float]:
    """A quantile of errors through the own decoder, one a depth; nan where there is none."""
    return [float(found[d, d].quantile(share)) if (d, d) in found else math.nan for d in range(1, deepest + 1)]


def _train(training: Training, folder: Path, device: str, pools: tuple[Pool, Pool] | None) -> Iterator[Progress]:
    folder.mkdir(parents=True, exist_ok=True)
    identity, deepest = training.identity(pools), training.space.deepest
    learned, held = (None, None) if pools is None else (pool.to(device) for pool in pools)
    start = _started(training)
    weights = {name: w.to(device).requires_grad_() for name, w in start.weights.items()}
    optimizer = torch.optim.Adam(list(weights.values()), training.lr, betas=(0.9, 0.98))
    rows: list[dict[str, float]] = []
    first = 0
    if (found := _load_checkpoint(folder, identity, device)) is not None:
        groups, rows, first = found
        with torch.no_grad():
            for name, w in weights.items():
                w.copy_(groups["weights"][name])
                moments = {"exp_avg": groups["first"][name], "exp_avg_sq": groups["second"][name]}
                optimizer.state[w] = {"step": torch.tensor(float(first)), **moments}
    model = replace(start, weights=weights)
    spent = rows[-1]["seconds"] if rows else 0.0
    began = saved = time.perf_counter()
    since: list[Tensor] = []
    for step in range(first, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(training, step)
        with _precision(device):
            loss = losses(model, training, step, device, learned)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), training.clip)
        optimizer.step()
        since.append(loss.detach())
        done = step + 1
        if done % training.every == 0 or done == training.steps:
            errors = scores(model, training.validate_on, training.seed, stream="swat/valid")
            medians = tuple(float(errors[depth, depth].median()) for depth in range(1, deepest + 1))
            tails = [float(errors[depth, depth].quantile(0.9)) for depth in range(1, deepest + 1)]
            deeper = [float(e.median()) for (depth, decoder), e in errors.items() if decoder > depth]
            row = {
                "step": float(done),
                "seconds": spent + time.perf_counter() - began,
                "loss": float(torch.stack(since).mean()),
            }
            row |= {f"median_{d}": value for d, value in enumerate(medians, 1)}
            row |= {f"q90_{d}": value for d, value in enumerate(tails, 1)}
            row["deeper"] = max(deeper, default=math.nan)
            trained: tuple[float, ...] = ()
            if held is not None:
                real = scores(model, training.validate_on, training.seed, stream="swat/valid", pool=held)
                trained = tuple(_by_depth(real, deepest, 0.5))
                row |= {f"trained_median_{d}": value for d, value in enumerate(trained, 1)}
                row |= {f"trained_q90_{d}": value for d, value in enumerate(_by_depth(real, deepest, 0.9), 1)}
            rows, since = [*rows, row], []
            _write_curve(folder, rows)
            yield Progress(done, training.steps, row["loss"], medians, row["seconds"], trained)
        if done == training.steps or (time.perf_counter() - saved > training.checkpoint_seconds and not since):
            _save_checkpoint(folder, identity, optimizer, weights, rows, done)
            saved = time.perf_counter()
    finished = replace(model, weights={name: w.detach() for name, w in weights.items()})
    about = {
        "identity": identity,
        "training": training.plain,
        "seconds": rows[-1]["seconds"],
        "torch": torch.__version__,
        "soft": _summary(scores(finished, training.test_on, training.seed)),
        "hard": _summary(scores(finished, training.test_on, training.seed, hard=True)),
    }
    if learned is not None and held is not None:
        before = _started(training)
        before = replace(before, weights={name: w.to(device) for name, w in before.weights.items()})
        about["networks"] = {"learned": learned.counts, "held_back": held.counts, "digest": learned.digest}
        about["trained"] = _summary(scores(finished, training.test_on, training.seed, pool=held))
        about["trained_hard"] = _summary(scores(finished, training.test_on, training.seed, hard=True, pool=held))
        about["trained_before"] = _summary(scores(before, training.test_on, training.seed, pool=held))
    figure = curve(rows)
    figure.savefig(folder / PICTURE, dpi=120)
    save(made(finished.weights, training.space, training.dimensions, training.sampling, about), folder / RESULT)
    (folder / CHECKPOINT).unlink(missing_ok=True)
