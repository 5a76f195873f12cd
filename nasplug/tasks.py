"""`Task`: data turned once into columns, and the losses and metrics of K networks on it, each of shape ``(K,)``."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug.errors import ConfigError

__all__ = ["Kind", "Loss", "Split", "Task", "stack", "unscaled"]

Kind = Literal["regression", "binary", "classes"]
Loss = Literal["mse", "logistic", "cross_entropy"]

USUAL: Mapping[Kind, Loss] = {"regression": "mse", "binary": "logistic", "classes": "cross_entropy"}
"""The loss of a kind where none is asked for."""


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data, samples as columns.

    Attributes:
        x: inputs ``(I, N)``, scaled; ``(K, I, N)`` where each network of a pack has data of its own (`stack`).
        y: targets ``(O, N)`` float for regression and binary, ``(N,)`` long for classes; likewise with K in front.
    """

    x: Tensor
    y: Tensor

    @property
    def samples(self) -> int:
        """N."""
        return int(self.x.shape[-1])

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """``(x, y)``."""
        return self.x, self.y

    def columns(self, index: Tensor) -> Split:
        """The samples at ``index`` (long, ``(B,)``), in that order."""
        return Split(self.x.index_select(-1, index), self.y.index_select(-1, index))

    def cut(self, held: int) -> tuple[Split, Split, Split]:
        """In three, in the order they stand: the last ``held`` samples to test, as many before them to validate.

        Raises:
            ConfigError: where a part would be empty.
        """
        n = self.samples
        if not 1 <= held <= (n - 1) // 2:
            raise ConfigError(f"{n} samples with {held} to validate and {held} to test; needed: at least one in each of three")
        ends = itertools.pairwise((0, n - 2 * held, n - held, n))
        train, valid, test = (Split(self.x[..., a:b].contiguous(), self.y[..., a:b].contiguous()) for a, b in ends)
        return train, valid, test

    def take(self, index: Tensor) -> Split:
        """The data of the networks at ``index`` (long, ``(k,)``): shared data are theirs as they are."""
        if self.x.dim() == 2:
            return self
        return Split(self.x.index_select(0, index), self.y.index_select(0, index))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Split:
        """The same split on a device; floating-point targets follow ``dtype``, classes stay long."""
        y = self.y.to(device) if self.y.dtype == torch.long else self.y.to(device, dtype)
        return Split(self.x.to(device, dtype), y)


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned, and how it is scored.

    ``regression``: ``mse``, ``O`` targets, error = MSE. ``binary``: one output; ``logistic`` (a logit, cut at 0) or
    ``mse`` on 0/1 targets (cut at 1/2), error = share of wrong labels. ``classes``: ``cross_entropy`` on C logits, error =
    share of wrong labels.

    Attributes:
        name: shown in tables and tracking.
        kind: see above.
        loss: see above.
        train, valid, test: the splits. Searching reads ``train``, choosing reads ``valid``,
            only the final score reads ``test``.
        features: a name an input.
        targets: a name an output for regression; else the class labels in order (two for binary).
        input_shift, input_scale: ``x = (raw - shift) / scale``, each ``(I,)``; from the training split alone.
        output_shift, output_scale: ``raw target = y * scale + shift``, each ``(O,)``; zeros and ones for labels.
        source: where the data came from, in words.
        image: channels, rows and columns, where the inputs are an image read in this order; else None.
    """

    name: str
    kind: Kind
    loss: Loss
    train: Split
    valid: Split
    test: Split
    features: tuple[str, ...]
    targets: tuple[str, ...]
    input_shift: Tensor
    input_scale: Tensor
    output_shift: Tensor
    output_scale: Tensor
    source: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)
    image: tuple[int, int, int] | None = None

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.train.x.shape[-2])

    @property
    def outputs(self) -> int:
        """O: what a network for this task must put out."""
        return len(self.targets) if self.kind == "classes" else int(self.train.y.shape[-2])

    @property
    def digest(self) -> str:
        """SHA-256 of all splits and names, hexadecimal: the identity of the data in lineage."""
        h = hashlib.sha256()
        for split in self.splits:
            for tensor in (split.x, split.y):
                h.update(str(tuple(tensor.shape)).encode())
                h.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        h.update("\x1f".join((self.kind, self.loss, *self.features, *self.targets)).encode())
        return h.hexdigest()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Task:
        """The same task with its splits on a device, in a floating-point type."""
        return replace(
            self,
            train=self.train.to(device, dtype),
            valid=self.valid.to(device, dtype),
            test=self.test.to(device, dtype),
        )

    @property
    def stacked(self) -> bool:
        """Whether each network has data of its own."""
        return self.train.x.dim() == 3

    @property
    def shape(self) -> tuple[Any, ...]:
        """What data sets must have in common to be one stack: kind, loss, image, inputs, outputs, samples of each split."""
        return self.kind, self.loss, self.image, self.inputs, self.outputs, *(split.samples for split in self.splits)

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Training, validation and test."""
        return self.train, self.valid, self.test

    def take(self, index: Tensor) -> Task:
        """The task of the networks at ``index`` (long, ``(k,)``)."""
        return replace(self, train=self.train.take(index), valid=self.valid.take(index), test=self.test.take(index))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The training loss of each network: ``outputs (K, O, B)``, ``y`` as in `Split` -> ``(K,)``.

        ``mse`` is the mean over outputs and samples (no factor 1/2).
        """
        if self.loss == "mse":
            return (outputs - y).square().mean((1, 2))
        if self.loss == "logistic":
            # log(1 + e^o) - y o, stable for both signs of o
            return (F.softplus(outputs) - outputs * y).mean((1, 2))
        log_normaliser = torch.logsumexp(outputs, dim=1)  # (K, B)
        k, _, b = outputs.shape
        picked = outputs.gather(1, y.view(-1, 1, b).expand(k, 1, b)).squeeze(1)  # (K, B)
        return (log_normaliser - picked).mean(1)

    def errors(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The error a person reads, ``(K,)``, smaller is better: MSE for regression, else the share of wrong labels."""
        if self.kind == "regression":
            return (outputs - y).square().mean((1, 2))
        if self.kind == "binary":
            cut = 0.0 if self.loss == "logistic" else 0.5
            wrong = (outputs > cut) != (y > 0.5)
            finite = torch.isfinite(outputs).all(2).all(1)
            return torch.where(finite, wrong.to(outputs.dtype).mean((1, 2)), torch.nan)
        finite = torch.isfinite(outputs).all(2).all(1)
        return torch.where(finite, (outputs.argmax(1) != y).to(outputs.dtype).mean(1), torch.nan)

    def metrics(self, outputs: Tensor, y: Tensor) -> dict[str, Tensor]:
        """``loss`` and ``error``, and ``r2`` (regression) or ``accuracy`` (labels); each ``(K,)``.

        ``r2 = 1 - MSE / variance of y``, pooled over outputs; 0 is the constant predictor of this split.
        """
        found = {"loss": self.losses(outputs, y), "error": self.errors(outputs, y)}
        if self.kind == "regression":
            variance = (y - y.mean(-1, keepdim=True)).square().mean((-2, -1))  # () or (K,)
            found["r2"] = 1.0 - found["error"] / variance
        else:
            found["accuracy"] = 1.0 - found["error"]
        return found

    def standard_error(self, error: float, split: Split) -> float:
        """One standard error of a share of wrong labels, ``sqrt(e (1 - e) / N)``; 0 for regression (not defined here)."""
        if self.kind == "regression":
            return 0.0
        return float((max(error * (1.0 - error), 0.0) / split.samples) ** 0.5)

    def check(self) -> None:
        """Refuse data that cannot be learned from.

        Raises:
            ConfigError: for an empty split, a value that is not finite, or a target that does not vary.
        """
        for part in ("train", "valid", "test"):
            split: Split = getattr(self, part)
            if split.samples < 1:
                raise ConfigError(f"task {self.name!r}: the {part} split is empty; each split needs a sample at least")
            for what, tensor in (("input", split.x), ("target", split.y)):
                if not bool(torch.isfinite(tensor).all()):
                    raise ConfigError(
                        f"task {self.name!r}: the {part} split has {what} values that are not finite; "
                        "drop or fill those rows first"
                    )
        if self.image is not None and math.prod(self.image) != self.inputs:
            raise ConfigError(
                f"task {self.name!r}: images of {list(self.image)} (channels, rows, columns) are {math.prod(self.image)} "
                f"numbers, and there are {self.inputs} inputs; correct one of the two"
            )
        if bool((self.train.y == self.train.y[..., :1]).all()):
            raise ConfigError(
                f"task {self.name!r}: the target is constant on the training split; there is nothing to learn from it"
            )


def unscaled(
    name: str,
    splits: tuple[Split, Split, Split],
    *,
    kind: Kind = "regression",
    loss: Loss | None = None,
    features: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    source: str = "",
) -> Task:
    """A task whose numbers are learned as they are: every shift 0, every scale 1.

    Args:
        name: shown in tables and tracking.
        splits: training, validation and test.
        kind: see `Task`.
        loss: see `Task`; None: ``mse``, ``logistic`` or ``cross_entropy``, as the kind has it.
        features: a name an input; None: x0, x1, ...
        targets: a name an output of a regression, None: y0, y1, ...; the labels in order of the other kinds, always given.
        source: where the data came from, in words.

    Raises:
        ConfigError: for names that are not as many as what they name, or labels without names.
    """
    train, valid, test = splits
    if targets is None:
        if kind != "regression":
            raise ConfigError(f"task {name!r}: a {kind} task without targets; needed: the names of its labels, in order")
        targets = [f"y{i}" for i in range(train.y.shape[-2])]
    inputs = train.x.shape[-2]
    outputs = len(targets) if kind == "classes" else train.y.shape[-2]
    features = [f"x{i}" for i in range(inputs)] if features is None else features
    wanted = 2 if kind == "binary" else outputs
    if len(features) != inputs or len(targets) != wanted:
        raise ConfigError(
            f"task {name!r}: {len(features)} features and {len(targets)} targets; needed: {inputs} and {wanted}, as in its data"
        )
    like = train.x.dtype
    return Task(
        name=name,
        kind=kind,
        loss=USUAL[kind] if loss is None else loss,
        train=train,
        valid=valid,
        test=test,
        features=tuple(features),
        targets=tuple(targets),
        input_shift=torch.zeros(inputs, dtype=like),
        input_scale=torch.ones(inputs, dtype=like),
        output_shift=torch.zeros(outputs, dtype=like),
        output_scale=torch.ones(outputs, dtype=like),
        source=source,
    )


def stack(tasks: Sequence[Task], index: Sequence[int]) -> Task:
    """One task for a pack whose network k learns ``tasks[index[k]]``: data ``(K, I, N)``; names and scales are the first's.

    Raises:
        ConfigError: for tasks of different shapes, which are no stack.
    """
    if len({task.shape for task in tasks}) != 1:
        raise ConfigError(
            f"tasks of the shapes {sorted({task.shape for task in tasks}, key=str)} in one stack; needed: equal ones"
        )

    def joined(splits: Sequence[Split]) -> Split:
        x, y = (torch.stack([splits[at].pair[part] for at in index]) for part in (0, 1))
        return Split(x, y)

    train, valid, test = (joined(splits) for splits in zip(*(task.splits for task in tasks), strict=True))
    return replace(tasks[0], train=train, valid=valid, test=test)
