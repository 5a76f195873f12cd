"""What networks are judged by beside the loss: metrics with direction and unit, of all rows of a pack at once.

All are registered by name (`nasplug.hookspecs.register_metrics`); a study adds some with ``metrics: [{use: auc}]``, and may
choose by one (``choose: {by: auc}``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from nasplug.hookspecs import Register, hookimpl
from nasplug.tasks.losses import LABELS, REGRESSION, Kind, mean

__all__ = ["Metric", "bounded", "labels_of", "mislabelled", "register_metrics", "variance"]

BOTH = REGRESSION | LABELS
LEAST = 1e-15  # a probability of 0 is taken for this: else one sure mistake is an infinite log-loss


class Metric(ABC):
    """A metric. It holds its options and no tensors.

    Laws: row k reads row k alone; a weight of 2 is a sample twice; NaN where it is not defined, never an infinity.
    """

    __slots__ = ()

    kinds: ClassVar[frozenset[Kind]] = LABELS
    """The kinds of task that it is for."""
    higher: ClassVar[bool] = False
    """Whether more is better."""
    unit: ClassVar[str] = ""
    """Empty for a pure number, ``target`` for the target's own unit, ``nats``."""

    @abstractmethod
    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """``(K,)``.

        Args:
            predicted: what the networks say, ``(K, O, B)``: for regressions numbers in the target's unit, up to a shift; the
                probability of the second label (or a score that is cut at 1/2); those of the classes.
            y: the same of the data, ``(O, B)`` or ``(K, O, B)``; for classes labels ``(B,)``, or probabilities ``(O, B)``.
            weights: of the samples, ``(B,)`` or ``(K, B)``, or None.
        """


def variance(y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Of targets, pooled over outputs: ``(O, N)`` -> ``()``; ``(K, O, N)``, or weights ``(K, N)``, -> ``(K,)``."""
    return _spread(y, weights).mean(-1)


def _spread(y: Tensor, weights: Tensor | None) -> Tensor:
    """The variance of each target: ``(T, N)`` -> ``(T,)``; ``(K, T, N)``, or weights ``(K, N)``, -> ``(K, T)``."""
    if weights is None:
        return (y - y.mean(-1, keepdim=True)).square().mean(-1)
    share = (weights / weights.sum(-1, keepdim=True)).unsqueeze(-2)  # (1, N) or (K, 1, N)
    return ((y - (y * share).sum(-1, keepdim=True)).square() * share).sum(-1)


def labels_of(predicted: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted and true labels, long ``(K, B)`` and ``(B,)`` or ``(K, B)``."""
    if predicted.shape[1] == 1:
        return (predicted[:, 0] > 0.5).long(), (y.select(-2, 0) > 0.5).long()
    return predicted.argmax(1), y.argmax(-2) if y.is_floating_point() else y


def bounded(outputs: Tensor) -> Tensor:
    """Which rows of ``(K, O, B)`` are finite throughout, bool ``(K,)``."""
    return outputs.abs().amax((1, 2)) < torch.inf  # NaN where one is; ten times faster on a CPU than isfinite and all


def mislabelled(predicted: Tensor, y: Tensor) -> Tensor:
    """Where the predicted label is not the true one, bool ``(K, B)``."""
    if predicted.shape[1] == 1:
        return (predicted[:, 0] > 0.5) != (y.select(-2, 0) > 0.5)
    found, wanted = labels_of(predicted, y)
    return found != wanted


def _chances(predicted: Tensor) -> Tensor:
    """A probability for every label, ``(K, C, B)``."""
    return torch.cat([1.0 - predicted, predicted], 1) if predicted.shape[1] == 1 else predicted


def _each(weights: Tensor | None, like: Tensor) -> Tensor:
    """A weight for each row and sample, ``(K, B)``."""
    return torch.ones_like(like) if weights is None else weights.to(like).expand_as(like)


def _sound(predicted: Tensor, values: Tensor) -> Tensor:
    """NaN in the rows whose outputs are not finite."""
    return torch.where(bounded(predicted), values, torch.nan)


def _confusion(predicted: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    """The weight of each true (second axis) and predicted (last axis) label, ``(K, C, C)``."""
    found, wanted = labels_of(predicted, y)
    classes = max(2, predicted.shape[1])
    cell = wanted.expand_as(found) * classes + found  # (K, B)
    total = predicted.new_zeros(len(found), classes * classes)
    total.scatter_add_(1, cell, _each(weights, predicted[:, 0]))
    return total.view(-1, classes, classes)


class R2(Metric):
    """See `r2`."""

    kinds = REGRESSION
    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over the targets that vary; NaN where none does."""
        spread = _spread(y.double(), weights)  # (T,) or (K, T); float32 has no squares of 1e20 or of 1e-23
        away = (predicted.double() - y).square()
        error = torch.stack([mean(one, weights) for one in away.unbind(1)], -1)  # (K, T)
        varies = spread > 0
        each = torch.where(varies, 1.0 - error / torch.where(varies, spread, 1.0), 0.0)
        return (each.sum(-1) / varies.sum(-1)).to(predicted.dtype)  # 0 / 0 is NaN


class Mae(Metric):
    """See `mae`."""

    kinds = REGRESSION
    unit = "target"

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over targets."""
        return mean((predicted - y).abs().mean(1), weights)


class Rmse(Metric):
    """See `rmse`."""

    kinds = REGRESSION
    unit = "target"

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The root of the mean over targets and samples."""
        return mean((predicted.double() - y).square().mean(1), weights).sqrt().to(predicted.dtype)


@dataclass(frozen=True, slots=True)
class PinballLoss(Metric):
    """See `pinball`."""

    level: float
    kinds: ClassVar[frozenset[Kind]] = REGRESSION
    unit: ClassVar[str] = "target"

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over targets."""
        away = y - predicted
        return mean(torch.maximum(self.level * away, (self.level - 1.0) * away).mean(1), weights)


class Accuracy(Metric):
    """See `accuracy`."""

    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The share of right labels."""
        return _sound(predicted, mean((~mislabelled(predicted, y)).to(predicted), weights))


class BalancedAccuracy(Metric):
    """See `balanced_accuracy`."""

    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """The mean over the labels that come."""
        counts = _confusion(predicted, y, weights)
        each, there = counts.diagonal(dim1=1, dim2=2), counts.sum(2)
        recall = torch.where(there > 0, each / torch.where(there > 0, there, 1.0), 0.0)
        return _sound(predicted, recall.sum(1) / (there > 0).sum(1))


class F1(Metric):
    """See `f1`."""

    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Of the second of two labels; of more, the mean over those that come or are predicted."""
        counts = _confusion(predicted, y, weights)
        each, both = counts.diagonal(dim1=1, dim2=2), counts.sum(1) + counts.sum(2)
        f1 = torch.where(both > 0, 2.0 * each / torch.where(both > 0, both, 1.0), 0.0)  # (K, C)
        if predicted.shape[1] == 1:
            return _sound(predicted, f1[:, 1])
        return _sound(predicted, f1.sum(1) / (both > 0).sum(1))


class Auc(Metric):
    """See `auc`."""

    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """NaN where a label never comes."""
        _, wanted = labels_of(predicted, y)
        weight = _each(weights, predicted[:, 0])
        if predicted.shape[1] == 1:
            return _sound(predicted, _ranked(predicted[:, 0], (wanted == 1).expand_as(weight), weight))
        each = [_ranked(predicted[:, c], (wanted == c).expand_as(weight), weight) for c in range(predicted.shape[1])]
        return _sound(predicted, torch.stack(each).mean(0))


def _ranked(score: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """``P(score of a positive > of a negative) + P(equal) / 2``, all ``(K, B)`` -> ``(K,)``."""
    score = torch.nan_to_num(score)
    ordered, index = score.contiguous().sort(1)
    mine = positive.gather(1, index)
    w = weight.gather(1, index)
    below = torch.cat([torch.zeros_like(w[:, :1]), (w * ~mine).cumsum(1)], 1)  # (K, B + 1): negatives before each place
    first, end = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
    won = (below.gather(1, first) + below.gather(1, end)) / 2
    pairs = (w * mine).sum(1) * (w * ~mine).sum(1)
    return torch.where(pairs > 0, (w * mine * won).sum(1) / torch.where(pairs > 0, pairs, 1.0), torch.nan)


class LogLoss(Metric):
    """See `log_loss`."""

    unit = "nats"

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Probabilities below 1e-15 count as that."""
        likely = _chances(predicted).clamp(LEAST, 1.0).log()  # (K, C, B)
        if y.is_floating_point():
            return _sound(predicted, mean(-(likely * (_chances(y.unsqueeze(0) if y.dim() == 2 else y))).sum(1), weights))
        k, _, b = likely.shape
        return _sound(predicted, mean(-likely.gather(1, y.view(-1, 1, b).expand(k, 1, b)).squeeze(1), weights))


@dataclass(frozen=True, slots=True)
class Calibration(Metric):
    """See `calibration`."""

    bins: int

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        """Bins of equal width; empty ones count for nothing."""
        found, wanted = labels_of(predicted, y)
        sure = _chances(predicted).amax(1)  # (K, B)
        weight = _each(weights, sure)
        bin_of = (torch.nan_to_num(sure) * self.bins).long().clamp(0, self.bins - 1)
        off = weight * ((found == wanted).to(sure) - sure)
        gap = torch.zeros_like(sure[:, :1]).repeat(1, self.bins).scatter_add_(1, bin_of, off)
        return _sound(predicted, gap.abs().sum(1) / weight.sum(1))


def r2() -> Metric:
    """``1 - squared error / variance`` of each target, the mean over targets: 1 is exact, 0 the mean.

    So the units of targets do not matter (scikit-learn's ``uniform_average``). A target that does not vary in a split is left
    out of the mean, where scikit-learn counts it as 0 or 1; NaN where none varies.
    """
    return R2()


def mae() -> Metric:
    """The mean absolute error, in the target's unit; the mean over several targets."""
    return Mae()


def rmse() -> Metric:
    """The root of the mean squared error, in the target's unit."""
    return Rmse()


def pinball(*, level: Annotated[float, Field(gt=0, lt=1)] = 0.5) -> Metric:
    """The loss of a quantile, ``max(level e, (level - 1) e)`` with ``e = y - prediction``, in the target's unit."""
    return PinballLoss(level)


def accuracy() -> Metric:
    """The share of right labels."""
    return Accuracy()


def balanced_accuracy() -> Metric:
    """The mean over labels of the share of its samples that is found; 1/2 for a network that repeats one of two labels."""
    return BalancedAccuracy()


def f1() -> Metric:
    """``2 tp / (2 tp + fp + fn)`` of the second of two labels; of more labels the mean over all."""
    return F1()


def auc() -> Metric:
    """The area under the ROC curve: how often a sample of the second label has the larger score; ties count half.

    Of more than two classes the mean over each against the rest. NaN where a label never comes.
    """
    return Auc()


def log_loss() -> Metric:
    """The cross-entropy of the probabilities that are served, in nats."""
    return LogLoss()


def calibration(*, bins: Annotated[int, Field(ge=2, le=1000)] = 15) -> Metric:
    """The expected calibration error: how far the share of right labels is from what the network is sure of, 0 to 1.

    The mean of ``|right - sure|`` over ``bins`` of equal width of the largest probability, by their weights. It is biased
    upwards on few samples. Source: Guo et al. 2017.
    """
    return Calibration(bins)


OURS: tuple[Callable[..., Metric], ...] = (
    r2,
    mae,
    rmse,
    pinball,
    accuracy,
    balanced_accuracy,
    f1,
    auc,
    log_loss,
    calibration,
)


@hookimpl
def register_metrics(register: Register) -> None:
    """Ours."""
    for made in OURS:
        register(made.__name__, made)
