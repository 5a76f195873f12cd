"""`terms`: of a network that is a sum of small ones, whole ones go: a column's or a pair's (group lasso)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nasplug.additive import room
from nasplug.contracts import Proximal, Regularizer
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.replicas import total
from nasplug_regularizers.groups import Blocks, Family, Grouped, Scale, check_adaptive, root

__all__ = ["ProximalTerms", "Terms", "terms"]


@dataclass(frozen=True, slots=True)
class Terms(Grouped):
    """See `terms`."""

    columns: float
    pairs: float

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``; 0 for networks without terms."""
        return self._values(nets, {edge: nets.block(edge) for edge in nets.blocks})

    def accept(self, nets: Networks) -> None:
        """Refuse networks without terms.

        Raises:
            ConfigError: for them, and where no term is penalised.
        """
        if not nets.terms:
            raise ConfigError(
                "terms: the networks are no sum of small ones, so there are none to take; needed: a method with structure "
                "(edges: structure: additive, or pairs). Take inputs or neurons here, or give the method a structure"
            )
        if self.columns == 0.0 and 2 not in nets.terms:
            raise ConfigError("terms: columns=0 for networks without pairs; nothing is penalised. Leave columns out")

    def _families(self, nets: Networks, blocks: Blocks) -> list[Family]:
        """One group per term, of all weights that enter it from inputs; pairs have a level of their own."""
        entering = {edge: w for edge, w in blocks.items() if edge[1] == 0 and edge[0] < nets.depth} if nets.terms else {}
        if not entering:
            return []
        count = len(nets.terms)
        squares = total(w.square().sum(2).view(-1, count, w.shape[1] // count).sum(2) for w in entering.values())  # (K, T)
        weights = sum(w.shape[1] * w.shape[2] * room(nets, edge) for edge, w in entering.items()) / sum(nets.terms)
        found = []
        for most, level in ((1, self.columns), (2, self.pairs)):
            at = [place for place, own in enumerate(nets.terms) if own == most]
            if at and level:
                found.append(self._family(blocks, entering, squares, at, (level, most * weights)))
        return found

    def _family(self, blocks: Blocks, entering: Blocks, squares: Tensor, at: list[int], numbers: tuple[float, float]) -> Family:
        """Of the terms ``at``; ``numbers``: their level, and how many weights each has."""
        first, count = at[0], squares.shape[1]
        mine = slice(first, first + len(at))

        def scaled(share: Tensor) -> Blocks:
            whole = torch.cat([torch.ones_like(squares[:, :first]), share, torch.ones_like(squares[:, mine.stop :])], 1)
            made = dict(blocks)
            for edge, w in entering.items():
                made[edge] = w * whole.repeat_interleave(w.shape[1] // count, 1).unsqueeze(2)
            return made

        level, size = numbers
        return Family(root(squares[:, mine]), squares.new_full((), size), level, scaled)


@dataclass(frozen=True, slots=True)
class ProximalTerms(Terms, Proximal):
    """The same value of the weights as they are, minimised by its proximal map; see `terms`."""

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``; 0 for networks without terms."""
        return self._values(nets, dict(nets.blocks))

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """Block soft threshold: no two groups share a weight."""
        blocks = dict(nets.blocks)
        for number in range(len(self._families(nets, blocks))):
            family = self._families(nets, blocks)[number]
            blocks = family.scaled(self._shrunk(family, amount))
        return replace(nets, blocks=blocks)


def terms(
    *,
    columns: float = 1.0,
    pairs: float = 1.0,
    proximal: bool = False,
    scale: Scale = "root",
    adaptive: float | None = None,
) -> Regularizer:
    """Group lasso on the small networks of a sum: all weights that enter one from inputs are one group, so that it goes whole.

    ``sum_t c_t s_t ||w_t||`` over the terms t (`nasplug.networks.Networks.terms`): ``c_t`` is ``columns`` for the term of a
    column and ``pairs`` for that of a pair, ``s_t = sqrt(p_t)`` with p_t its number of weights (in the mean over columns), or 1
    (``scale: none``). ``adaptive`` and ``proximal`` as in `inputs`. Shape ``(K,)``, range [0, inf), in units of a weight times
    a number (root); 0 for networks without terms. Biases are not penalised.

    ``pairs: 3``, say, keeps a pair only where it does more than its columns alone can; ``columns: 0`` penalises pairs alone. A
    pair's network can do what those of its columns do: with equal levels either may stay.

    Fails: a ReLU network can move scale from what enters a term to what leaves it; add `l1` at a small level.

    Raises:
        ConfigError: for levels that are negative, not finite or both 0, and an ``adaptive`` that is not a finite number > 0.

    Source: Yuan and Lin 2006; on additive models: Ravikumar et al. 2009 (SpAM), whose groups are functions. Ours are weights.
    """
    check_adaptive("terms", adaptive)
    if not all(math.isfinite(c) and c >= 0.0 for c in (columns, pairs)) or columns == pairs == 0.0:
        raise ConfigError(f"terms: columns={columns}, pairs={pairs}; needed: finite numbers >= 0, one of them > 0")
    return (ProximalTerms if proximal else Terms)(scale, adaptive, columns, pairs)
