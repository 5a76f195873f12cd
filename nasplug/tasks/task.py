"""`Task`: the splits with all that is known of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.tasks.facts import Described, Facts
from nasplug.tasks.losses import Link, Loss, mean, one_hot
from nasplug.tasks.metrics import R2, Accuracy, Metric, bounded, mislabelled, variance
from nasplug.tasks.origin import PARTS
from nasplug.tasks.splits import Resamples, Split, check_weights

__all__ = ["READING", "Task"]

READING = "reading: "
"""What the keys of notes begin with that say how data were read: what they are does not depend on them."""
MOST_TARGETS = 50  # that have columns of their own

DEFAULTS: Mapping[str, Metric] = {"r2": R2(), "accuracy": Accuracy()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Described):
    """What is learned, and how it is scored.

    ``regression``: numbers; the error is the loss's own (`nasplug.tasks.Loss.error`), mostly the squared one. ``binary``: two
    labels, one output, a logit (``logistic``) or a score cut at 1/2 (``mse``); the error is the share of wrong labels.
    ``classes``: C outputs, the largest counts, likewise; targets are labels, or probabilities ``(C, N)`` of a teacher.

    Attributes (and those of `nasplug.tasks.Described`):
        loss: see above.
        scores: metrics beside the loss and the error, by name.
        train, valid, test: the splits. Searching reads ``train``, choosing reads ``valid``,
            only the final scores read ``test``.
        image: channels, rows and columns, where the inputs are an image read in this order; else None.
        resamples: how development samples are resampled; None for a hold-out. Then ``train`` and ``valid`` are the parts of the
            last resample, and scales come from all development samples.
        units: ``(K, O)``, the ``output_scale`` of each network's own data; None where all networks have that of the task.
    """

    loss: Loss
    train: Split
    valid: Split
    test: Split
    image: tuple[int, int, int] | None = None
    resamples: Resamples | None = None
    scores: Mapping[str, Metric] = field(default_factory=dict)
    units: Tensor | None = None
    _digest: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.columns:
            object.__setattr__(self, "columns", self.features)
            object.__setattr__(self, "groups", tuple(range(len(self.features))))

    @property
    def inputs(self) -> int:
        """I."""
        return int(self.train.x.shape[-2])

    @property
    def outputs(self) -> int:
        """O: outputs of a network for this task."""
        return len(self.targets) if self.kind == "classes" else int(self.train.y.shape[-2]) * len(self.loss.outputs)

    @property
    def link(self) -> Link:
        """What turns outputs into what is served."""
        return self.loss.link

    @property
    def digest(self) -> str:
        """SHA-256 of everything that can change an answer, hexadecimal: the identity of the data, wherever they lie.

        Values, weights, splits, scales and shifts, names, kind, loss, image, columns, encoder, and the notes of what was
        filled or left out; not ``source``, which says where they came from.
        """
        if not self._digest:  # hashed once: a large table takes seconds
            h = hashlib.sha256()
            words: list[Any] = [self.name, self.kind, str(self.loss), self.features, self.targets, self.image]
            notes = sorted((key, text) for key, text in self.notes.items() if not key.startswith(READING))
            words += [notes, self.columns, self.groups, self.encoder, self.transform, list(self.scores)]
            if whose := [part for part, split in zip(PARTS, self.splits, strict=True) if split.weights is not None]:
                words.append(whose)
            h.update(json.dumps(words).encode())
            scales = (self.input_shift, self.input_scale, self.output_shift, self.output_scale)
            drawn = () if self.resamples is None else (self.resamples.train, self.resamples.valid)
            own = () if self.units is None else (self.units,)
            for tensor in (*(part for split in self.splits for part in split.batch), *scales, *drawn, *own):
                h.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                h.update(tensor.detach().cpu().contiguous().numpy().data)
            self._digest.append(h.hexdigest())
        return self._digest[0]

    @property
    def facts(self) -> Facts:
        """What is known of it without its samples."""
        judged = self.valid if self.resamples is None else self.development
        weights, y = judged.weights, judged.y.double()
        y = y if judged.y.is_floating_point() else y.unsqueeze(-2)
        return Facts(
            **{part.name: getattr(self, part.name) for part in fields(Described)},
            digest=self.digest,
            loss=str(self.loss),
            link=self.link,
            samples={part: split.samples for part, split in zip(PARTS, self.splits, strict=True)},
            trivial=self.trivial,
            higher=self.higher,
            variance=float(variance(y, None if weights is None else weights.double()).mean()),
            resamples=self.rounds,
            effective={
                part: float(split.weights.double().sum() ** 2 / split.weights.double().square().sum())
                for part, split in zip(PARTS, self.splits, strict=True)
                if split.weights is not None and split.weights.dim() == 1
            },
            held=None if self.resamples is None else float((self.resamples.valid > 0).sum(1).double().mean()),
        )

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Task:
        """The same task with its splits on a device, in a floating-point type."""
        return self._each(lambda split: split.to(device, dtype))

    def _each(self, change: Callable[[Split], Split]) -> Task:
        """Every split changed; what training and validation share stays shared."""
        train, valid = change(self.train), self.valid
        if valid.x is self.train.x:
            aside = change(Split(valid.x[..., :0], valid.y[..., :0], valid.weights)).weights
            valid = Split(train.x, train.y, aside)
        else:
            valid = change(valid)
        return replace(self, train=train, valid=valid, test=change(self.test))

    @property
    def higher(self) -> tuple[str, ...]:
        """Names of scores of which more is better."""
        return tuple(name for name, metric in {**DEFAULTS, **self.scores}.items() if metric.higher)

    @property
    def stacked(self) -> bool:
        """Whether each network has its own data."""
        return self.train.x.dim() == 3

    @property
    def shape(self) -> tuple[Any, ...]:
        """What data sets must have in common to be one stack: kind, loss, image, inputs, which of them share a column, outputs,
        samples, weights or none.
        """
        splits = self.splits if self.resamples is None else (self.development, self.test)
        parts = ((split.samples, split.weights is not None) for split in splits)
        shared = self.groups if len(self.columns) < self.inputs else ()
        of_data = self.kind, self.loss, self.image, self.inputs, shared, self.outputs, self.rounds
        return *of_data, *itertools.chain.from_iterable(parts)

    @property
    def rounds(self) -> int:
        """R, how many resamples there are; 0 for a hold-out."""
        return 0 if self.resamples is None else self.resamples.count

    @property
    def development(self) -> Split:
        """The samples of ``train`` and then of ``valid``, in one split."""
        parts = zip(self.train.batch, self.valid.batch, strict=True)
        return Split(*(torch.cat(both, -1) for both in parts))

    def resampled(self, folds: Sequence[int]) -> Task:
        """The task of a pack whose network k trains, and is validated, on the resample ``folds[k]``.

        ``train`` and ``valid`` are all development samples, in the same memory, with weights ``(K, N)``: those of the resample
        times the samples' own. A network of the fold -1 has all of them, to train and to be validated on.
        """
        whole, drawn = self.development, self.resamples
        if drawn is None or all(fold == -1 for fold in folds):
            return replace(self, train=whole, valid=whole)
        index = torch.tensor(folds, dtype=torch.long)
        return replace(self, train=drawn.of(index, drawn.train, whole), valid=drawn.of(index, drawn.valid, whole))

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Training, validation and test."""
        return self.train, self.valid, self.test

    def take(self, index: Tensor) -> Task:
        """The task of the networks at ``index`` (long, ``(k,)``)."""
        made = self._each(lambda split: split.take(index))
        return made if self.units is None else replace(made, units=self.units[index.to(self.units.device)])

    def rows(self, first: int, end: int) -> Task:
        """What scores the networks from ``first`` up to ``end``: with their own units."""
        return self if self.units is None else replace(self, units=self.units[first:end])

    def losses(self, outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The training loss of each network: ``outputs (K, O, B)``, ``y`` and ``weights`` as in `Split` -> ``(K,)``.

        With weights ``sum_n w_n l_n / sum_n w_n`` (`nasplug.tasks.mean`).
        """
        return mean(self.loss(outputs, y), weights)

    def errors(self, outputs: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The error shown to users, ``(K,)``, less is better: `Loss.error` for regression, else the share of wrong labels."""
        if self.kind == "regression":
            return mean(self.loss.error(outputs, y), weights)
        finite = bounded(outputs if weights is None else outputs.where(weights.unsqueeze(-2) != 0, 0.0))
        wrong = mislabelled(self.loss.point(outputs), y)
        return torch.where(finite, mean(wrong.to(outputs.dtype), weights), torch.nan)

    def metrics(self, outputs: Tensor, y: Tensor, weights: Tensor | None = None, *, final: bool = True) -> dict[str, Tensor]:
        """``loss`` and ``error``; if ``final`` also ``r2`` (regression) or ``accuracy`` (labels), ``scores``, and the error of
        each of several targets (`each_error`); ``(K,)``.
        """
        found = {"loss": self.losses(outputs, y, weights), "error": self.errors(outputs, y, weights)}
        if not final:
            return found
        per = len(self.loss.outputs)
        for t, name in enumerate(self.each_error):
            found[name] = mean(self.loss.error(outputs[:, t * per : (t + 1) * per], y[..., t : t + 1, :]), weights)
        said = self.loss.point(outputs)
        if self.kind == "regression":
            scale = self.output_scale if self.units is None else self.units
            unit = scale.to(said)[..., :: len(self.loss.outputs)].unsqueeze(-1)  # (T, 1) or (K, T, 1)
            said, y = said * unit, y * unit
        default = "r2" if self.kind == "regression" else "accuracy"
        for name, metric in {default: DEFAULTS[default], **self.scores}.items():
            found[name] = metric(said, y, weights)
        return found

    @property
    def each_error(self) -> list[str]:
        """Names of the errors of single targets, ``error_TARGET``: of a regression on several, `MOST_TARGETS` at most.

        Anything but letters, digits and ``_`` in a target's name is ``_``; names that become the same have their place behind.
        The mean of these errors is ``error``.
        """
        end = self.loss.outputs[0]  # of several outputs per target, which are called "price q0.1"
        targets = [name.removesuffix(f" {end}") if end else name for name in self.targets[:: len(self.loss.outputs)]]
        if self.kind != "regression" or not 1 < len(targets) <= MOST_TARGETS:
            return []
        words = [re.sub(r"\W", "_", target) for target in targets]
        odd = [words.count(word) > 1 or f"_{word}".endswith("_se") for word in words]  # _se is behind standard errors
        return [f"error_{word}_{t + 1}" if odd[t] else f"error_{word}" for t, word in enumerate(words)]

    @property
    def constant(self) -> Tensor:
        """Outputs of the best network that says the same for every sample, ``(1 or K, O)``: learned from the training split."""
        y, weights = one_hot(self.train.y, self.outputs), self.train.weights
        found = self.loss.constant(y, weights)
        return found.view(-1, self.outputs)

    @property
    def trivial(self) -> dict[str, float]:
        """The scores of `constant`, ``valid_error`` and so on: what a network must beat to have learned anything."""
        found = {}
        task = self if self.resamples is None else self.resampled([-1])  # of folds: on all development samples
        constant = task.constant.unsqueeze(-1)  # (1, O, 1)
        for part, split in zip(PARTS, task.splits, strict=True):
            outputs = constant.to(split.x).expand(-1, -1, split.samples)
            for name, values in self.metrics(outputs, *split.batch[1:]).items():
                if math.isfinite(value := float(values.mean())):
                    found[f"{part}_{name}"] = value
        return found

    def check(self) -> None:
        """Refuse data that cannot be learned from.

        Raises:
            ConfigError: for an empty split, a value that is not finite, weights that are none (of a resample, too), or a target
                that does not vary.
        """
        for part, split in zip(PARTS, self.splits, strict=True):
            if split.samples < 1:
                raise ConfigError(f"task {self.name!r}: the {part} split is empty; each split needs a sample at least")
            for what, tensor in (("input", split.x), ("target", split.y)):
                if not bool(torch.isfinite(tensor).all()):
                    raise ConfigError(
                        f"task {self.name!r}: the {part} split has {what} values that are not finite; "
                        "drop or fill those rows first"
                    )
            check_weights(f"task {self.name!r}: the weights of the {part} split", split)
        if len(self.groups) != self.inputs or set(self.groups) != set(range(len(self.columns))):
            raise ConfigError(
                f"task {self.name!r}: groups of {len(self.groups)} inputs in {len(self.columns)} columns; needed: the place of "
                f"its column for each of {self.inputs} inputs, and no column without one"
            )
        if self.image is not None and math.prod(self.image) != self.inputs:
            raise ConfigError(
                f"task {self.name!r}: images of {list(self.image)} (channels, rows, columns) are {math.prod(self.image)} "
                f"numbers, and there are {self.inputs} inputs; correct one of the two"
            )
        if not bool(_varies(self.train.y, self.train.weights)):
            raise ConfigError(
                f"task {self.name!r}: the target is constant on the training split; there is nothing to learn from it"
            )
        if self.resamples is not None:
            self._check_resamples(self.resamples)

    def _check_resamples(self, drawn: Resamples) -> None:
        """Refuse a resample of which the samples' own weights leave nothing: its networks would have the error 0."""
        whole = self.development
        own = torch.ones(whole.samples) if whole.weights is None else whole.weights
        for number, (train, valid) in enumerate(zip(drawn.train, drawn.valid, strict=True)):
            for what, weights in (("train on", train * own), ("validate on", valid * own)):
                if not bool((weights.sum(-1) > 0).all()):
                    raise ConfigError(
                        f"task {self.name!r}: resample {number} of {drawn.words} has no sample to {what} whose weight is above "
                        "0; weigh more samples above 0, take fewer folds, or another kind of validation"
                    )
            if not bool(_varies(whole.y, train * own)):
                raise ConfigError(
                    f"task {self.name!r}: the target is constant on the training samples of resample {number} of {drawn.words} "
                    "whose weight is above 0; weigh more samples above 0, take fewer folds, or another kind of validation"
                )


def _varies(y: Tensor, weights: Tensor | None) -> Tensor:
    """Whether targets differ among the samples that have a weight above 0, in a network's row at least: ``()`` bool."""
    if weights is not None:
        some = weights > 0
        y = y[..., some if some.dim() == 1 else some.any(0)]
    return (y != y[..., :1]).any()
