"""`Split`: one part of the data, samples as columns, with weights where they do not all count as much."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasplug.errors import ConfigError

__all__ = ["Resamples", "Split", "check_weights"]


@dataclass(frozen=True, slots=True)
class Split:
    """One part of the data, samples as columns.

    Attributes:
        x: inputs ``(I, N)``, scaled; ``(K, I, N)`` where each network of a pack has data of its own (`stack`).
        y: targets ``(O, N)`` float for regression and binary, ``(N,)`` long for classes; likewise with K in front.
        weights: how much each sample counts, ``(N,)``, or ``(K, N)`` where each network has weights of its own, finite and
            >= 0; None: each counts as much. A loss is ``sum_n w_n l_n / sum_n w_n``, so only their ratios matter.
    """

    x: Tensor
    y: Tensor
    weights: Tensor | None = None

    @property
    def samples(self) -> int:
        """N."""
        return int(self.x.shape[-1])

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """``(x, y)``."""
        return self.x, self.y

    @property
    def batch(self) -> tuple[Tensor, ...]:
        """``(x, y)``, or ``(x, y, weights)`` where it has weights."""
        return self.pair if self.weights is None else (*self.pair, self.weights)

    def columns(self, index: Tensor) -> Split:
        """The samples at ``index`` (long, ``(B,)``), in that order."""
        return Split(*(part.index_select(-1, index) for part in self.batch))

    def cut(self, held: int) -> tuple[Split, Split, Split]:
        """In three, in the order they stand: the last ``held`` samples to test, as many before them to validate.

        Raises:
            ConfigError: where a part would be empty.
        """
        n = self.samples
        if not 1 <= held <= (n - 1) // 2:
            raise ConfigError(f"{n} samples with {held} to validate and {held} to test; needed: at least one in each of three")
        ends = itertools.pairwise((0, n - 2 * held, n - held, n))
        train, valid, test = (Split(*(part[..., a:b].contiguous() for part in self.batch)) for a, b in ends)
        return train, valid, test

    def take(self, index: Tensor) -> Split:
        """The data and weights of the networks at ``index`` (long, ``(k,)``): what is shared is theirs as it is."""
        return self._rows(lambda part: part.index_select(0, index))

    def rows(self, first: int, end: int) -> Split:
        """The data and weights of the networks from ``first`` up to ``end``, as views."""
        return self._rows(lambda part: part[first:end])

    def _rows(self, pick: Callable[[Tensor], Tensor]) -> Split:
        own = self.weights is not None and self.weights.dim() == 2
        if self.x.dim() == 2 and not own:
            return self
        x, y = (pick(self.x), pick(self.y)) if self.x.dim() == 3 else self.pair
        return Split(x, y, pick(self.weights) if self.weights is not None and own else self.weights)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Split:
        """The same split on a device; floating-point targets and weights follow ``dtype``, classes stay long."""
        return Split(*(p.to(device) if p.dtype == torch.long else p.to(device, dtype) for p in self.batch))


@dataclass(frozen=True, slots=True)
class Resamples:
    """How the development samples of a task (those of ``train``, then those of ``valid``) are trained and validated on in turn.

    Attributes:
        train: weights to train with, ``(R, N)``, >= 0: 0 is held out, a bootstrap counts.
        valid: weights to be validated with, ``(R, N)``, likewise.
        words: what they are, ``5 folds``.
    """

    train: Tensor
    valid: Tensor
    words: str

    @property
    def count(self) -> int:
        """R."""
        return int(self.train.shape[0])

    def of(self, folds: Tensor, weights: Tensor, whole: Split) -> Split:
        """Development samples with the ``weights (R, N)`` of each row's fold, long ``(K,)``; -1 is the row of ones."""
        mine = torch.cat([weights, torch.ones_like(weights[:1])])[folds]
        return replace(whole, weights=mine if whole.weights is None else mine * whole.weights)


def check_weights(what: str, split: Split) -> None:
    """Refuse weights that are not as many as samples, below 0, not finite, or all 0 for a network.

    Raises:
        ConfigError: beginning with ``what``.
    """
    weights = split.weights
    if weights is None:
        return
    if weights.dim() not in (1, 2) or weights.shape[-1] != split.samples or not weights.is_floating_point():
        raise ConfigError(
            f"{what} are {weights.dtype} {tuple(weights.shape)} for {split.samples} samples; needed: floating-point numbers "
            "(samples,), or (networks, samples)"
        )
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        raise ConfigError(f"{what}: one is below 0 or not finite; needed: finite numbers >= 0")
    if not bool((weights.sum(-1) > 0).all()):
        raise ConfigError(f"{what} are all 0, so nothing is left of it; give some samples weights above 0")
