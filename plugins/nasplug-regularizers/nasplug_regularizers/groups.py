"""`inputs` and `neurons`: whole inputs and whole neurons go, not single weights (group lasso)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from nasplug.additive import room
from nasplug.contracts import Norms, Proximal, Regularizer
from nasplug.errors import ConfigError
from nasplug.groups import gathered, spread
from nasplug.networks import Edge, Networks
from nasplug.replicas import total

__all__ = [
    "Blocks",
    "Family",
    "Grouped",
    "Inputs",
    "Neurons",
    "ProximalInputs",
    "ProximalNeurons",
    "Scale",
    "check_adaptive",
    "inputs",
    "neurons",
    "root",
]

Blocks = dict[Edge, Tensor]
Scale = Literal["root", "none"]
Side = Literal["entering", "leaving", "both"]

SWEEPS = 30
"""Of Dykstra's algorithm, where groups overlap."""

GONE = 1e-6
"""Of its norm before the step: what Dykstra's algorithm leaves of a group that goes, sweep by sweep less."""


class Family(NamedTuple):
    """Groups of weights of which no two share one.

    Attributes:
        norms: Euclidean norms of the groups, ``(K, G)``.
        sizes: how many weights each has, ``(G,)``, or ``()`` where all have as many.
        level: what its part of the penalty is multiplied by.
        scaled: the blocks with each group multiplied by its number, ``(K, G)``.
    """

    norms: Tensor
    sizes: Tensor
    level: float
    scaled: Callable[[Tensor], Blocks]


def root(squares: Tensor) -> Tensor:
    """The square root, with slope 0 where it is 0."""
    some = squares > 0
    # The root is taken of 1 where the sum is 0: its own slope there is infinite and would turn 0 into NaN.
    return torch.where(some, torch.where(some, squares, torch.ones_like(squares)).sqrt(), torch.zeros_like(squares))


@dataclass(frozen=True, slots=True)
class Grouped(Regularizer):
    """What `inputs` and `neurons` share; see `inputs`."""

    scale: Scale
    adaptive: float | None
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    @abstractmethod
    def _families(self, nets: Networks, blocks: Blocks) -> list[Family]:
        """The groups of ``blocks``, which stand for those of ``nets``."""

    def _values(self, nets: Networks, blocks: Blocks) -> Tensor:
        like = next(iter(blocks.values()))
        none = like.new_zeros(like.shape[0])
        return total([none, *(self._value(family) for family in self._families(nets, blocks))])

    def _value(self, family: Family) -> Tensor:
        """``sum_g factor_g h(norm_g)``, h the identity or ``unit_g log(1 + norm_g / unit_g)``: ``(K,)``."""
        factor, unit = self._numbers(family)
        values = family.norms if self.adaptive is None else unit * torch.log1p(family.norms / unit)
        return family.level * (factor * values).sum(1)

    def _norms(self, layer: int, of: Side, family: Family) -> Norms:
        """A family as engines read it, whose groups are all of one size."""
        factor, unit = self._numbers(family)
        return Norms(layer, of, family.level * float(factor), None if self.adaptive is None else float(unit))

    def _numbers(self, family: Family) -> tuple[Tensor, Tensor]:
        """The factor of each group, and the norm at which `adaptive` has halved the pull: both ``(G,)`` or ``()``."""
        root = family.sizes.sqrt()
        return (root if self.scale == "root" else torch.ones_like(root)), (self.adaptive or 0.0) * root

    def _shrunk(self, family: Family, amount: Tensor) -> Tensor:
        """By what each group is multiplied in its proximal step, ``(K, G)``; exactly 0 where it goes."""
        norms = family.norms
        factor, unit = self._numbers(family)
        cut = amount.unsqueeze(1) * family.level * factor  # (K, G)
        if self.adaptive is None:
            left = (norms - cut).clamp(min=0.0)
        else:
            # Of (r - norm)^2 / 2 + cut unit log(1 + r / unit) the smaller of its inner minimum, where it has one, and r = 0.
            inside = (norms + unit).square() - 4.0 * cut * unit
            inner = ((norms - unit) + inside.clamp(min=0.0).sqrt()) / 2.0
            there = (inner - norms).square() / 2.0 + cut * unit * torch.log1p(inner.clamp(min=0.0) / unit)
            stays = (inside >= 0) & (inner > 0) & (there <= norms.square() / 2.0)
            left = torch.where(stays, inner, torch.zeros_like(inner))
        return left / norms.clamp(min=torch.finfo(norms.dtype).tiny)


@dataclass(frozen=True, slots=True)
class Inputs(Grouped):
    """See `inputs`."""

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        return self._values(nets, {edge: nets.block(edge) for edge in nets.blocks})

    def norms(self, nets: Networks) -> Sequence[Norms] | None:
        """One group per input; None where inputs share a column, or networks are a sum of small ones."""
        if nets.groups or nets.terms:
            return None
        (family,) = self._families(nets, dict(nets.blocks))
        return [self._norms(0, "leaving", family)]

    def accept(self, nets: Networks) -> None:
        """Refuse a stem: what leaves layer 0 are its features.

        Raises:
            ConfigError: with a stem.
        """
        if nets.stem is not None:
            raise ConfigError(
                "inputs: the method has a stem, and what enters the first layer are its features, not inputs; needed: a method "
                "without a stem. Remove the penalty, or the stem"
            )

    def _families(self, nets: Networks, blocks: Blocks) -> list[Family]:
        """One group per column of the user's table; each input where none share a column."""
        leaving = {edge: w for edge, w in blocks.items() if edge[1] == 0}
        rows = sum(w.shape[1] * room(nets, edge) for edge, w in leaving.items())
        squares = total(w.square().sum(1) for w in leaving.values())  # (K, I)
        sizes = squares.new_full((), float(rows))
        if nets.groups:
            sizes = sizes * gathered(torch.ones_like(squares[0]), nets.groups)
            squares = gathered(squares, nets.groups)

        def scaled(share: Tensor) -> Blocks:
            each = spread(share, nets.groups) if nets.groups else share
            return {edge: w * each.unsqueeze(1) if edge in leaving else w for edge, w in blocks.items()}

        return [Family(root(squares), sizes, 1.0, scaled)]


@dataclass(frozen=True, slots=True)
class ProximalInputs(Inputs, Proximal):
    """The same value of the weights as they are, minimised by its proximal map; see `inputs`."""

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        return self._values(nets, dict(nets.blocks))

    def norms(self, nets: Networks) -> None:
        """None: its value is of weights without their gates, and no gradient of it is used."""

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """Block soft threshold: no two groups share a weight."""
        (family,) = self._families(nets, dict(nets.blocks))
        return replace(nets, blocks=family.scaled(self._shrunk(family, amount)))


@dataclass(frozen=True, slots=True)
class Neurons(Grouped):
    """See `neurons`."""

    of: Side
    layers: tuple[float, ...] | None

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``; 0 for networks without hidden neurons."""
        return self._values(nets, {edge: nets.block(edge) for edge in nets.blocks})

    def norms(self, nets: Networks) -> Sequence[Norms] | None:
        """One group per hidden neuron; None where networks are a sum of small ones."""
        if nets.terms:
            return None
        families = self._families(nets, dict(nets.blocks))
        return [self._norms(layer, self.of, family) for layer, family in enumerate(families, 1)]

    def accept(self, nets: Networks) -> None:
        """Refuse networks without hidden layers, and another number of ``layers`` than they have.

        Raises:
            ConfigError: with both numbers.
        """
        if nets.depth < 2:
            raise ConfigError(
                f"neurons: the networks have widths {nets.widths} and no hidden neurons; needed: one hidden layer at least. "
                "Remove the penalty, or give the method hidden layers"
            )
        if self.layers is not None and len(self.layers) != nets.depth - 1:
            raise ConfigError(
                f"neurons has {len(self.layers)} layers for {nets.depth - 1} hidden layers (widths {nets.widths}); give one "
                "number per hidden layer, first to last"
            )

    def _families(self, nets: Networks, blocks: Blocks) -> list[Family]:
        return [self._family(nets, blocks, layer) for layer in range(1, nets.depth)]

    def _family(self, nets: Networks, blocks: Blocks, layer: int) -> Family:
        """One group per neuron of a hidden layer."""
        into = {edge: w for edge, w in blocks.items() if edge[0] == layer and self.of != "leaving"}
        out = {edge: w for edge, w in blocks.items() if edge[1] == layer and self.of != "entering"}
        squares = total([w.square().sum(2) for w in into.values()] + [w.square().sum(1) for w in out.values()])  # (K, H)
        count = sum(w.shape[2] * room(nets, edge) for edge, w in into.items())
        count += sum(w.shape[1] * room(nets, edge) for edge, w in out.items())

        def scaled(share: Tensor) -> Blocks:
            made = dict(blocks)
            for edge, w in into.items():
                made[edge] = w * share.unsqueeze(2)
            for edge, w in out.items():
                made[edge] = w * share.unsqueeze(1)
            return made

        level = 1.0 if self.layers is None else self.layers[layer - 1]
        return Family(root(squares), squares.new_full((), float(count)), level, scaled)


@dataclass(frozen=True, slots=True)
class ProximalNeurons(Neurons, Proximal):
    """The same value of the weights as they are, minimised by its proximal map; see `neurons`."""

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``; 0 for networks without hidden neurons."""
        return self._values(nets, dict(nets.blocks))

    def norms(self, nets: Networks) -> None:
        """None: its value is of weights without their gates, and no gradient of it is used."""

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """Block soft threshold, layer by layer; where groups overlap, `SWEEPS` sweeps of Dykstra's algorithm."""
        blocks = dict(nets.blocks)
        hidden = range(1, nets.depth)
        if self.of != "both" or not any(to in hidden and source in hidden for to, source in blocks):
            for layer in hidden:
                family = self._family(nets, blocks, layer)
                blocks = family.scaled(self._shrunk(family, amount))
            return replace(nets, blocks=blocks)
        return replace(nets, blocks=self._dykstra(nets, blocks, amount))

    def _dykstra(self, nets: Networks, blocks: Blocks, amount: Tensor) -> Blocks:
        """The proximal map of a sum of families, each of which has its own; what all but went is exactly 0."""
        hidden = range(1, nets.depth)
        before = {layer: self._family(nets, blocks, layer).norms for layer in hidden}
        left = {layer: {edge: torch.zeros_like(w) for edge, w in blocks.items()} for layer in hidden}
        for _ in range(SWEEPS):
            for layer in hidden:
                given = {edge: w + left[layer][edge] for edge, w in blocks.items()}
                family = self._family(nets, given, layer)
                blocks = family.scaled(self._shrunk(family, amount))
                left[layer] = {edge: w - blocks[edge] for edge, w in given.items()}
        for layer, norms in before.items():
            family = self._family(nets, blocks, layer)
            blocks = family.scaled((family.norms > GONE * norms).to(norms))
        return blocks


def inputs(*, proximal: bool = False, scale: Scale = "root", adaptive: float | None = None) -> Regularizer:
    """Group lasso on inputs: all weights that leave an input are one group, so that whole inputs go.

    ``sum_g s_g ||w_g||``: w_g are the weights from input g to every layer that reads it (edge gates included), ``s_g =
    sqrt(p_g)`` with p_g their number (``scale: root``) or 1 (``scale: none``). Ramps and words of one column of a table are
    one group (`nasplug.networks.Networks.groups`). Shape ``(K,)``, range [0, inf), in units of a weight times a number of
    weights (root); the gradient of a group of exact zeros is 0. Biases are not penalised.

    ``adaptive``: a size of a weight a. Groups whose root mean square r is large beside it are pulled less, by ``1 / (1 +
    r / a)``: the penalty is ``sum_g s_g u_g log(1 + ||w_g|| / u_g)`` with ``u_g = a sqrt(p_g)``. So inputs that help are
    hardly shrunk while noise goes: 0.01 to 0.03 found more of the true inputs than the plain penalty in all that was tried;
    its levels are larger (0.003 to 1). Not convex: what is near 0 when the level rises is lost, so ramp it.

    ``proximal``: each step ends with the proximal map at learning rate times level (`nasplug.contracts.Proximal`), of the
    weights themselves: ``w_g max(1 - lr level s_g / ||w_g||, 0)``, and with ``adaptive`` the better of the inner minimum and
    0. Inputs become exactly 0. Only for methods that hold their blocks (`linear`, and `edges` but for ``snap``). Adam's steps
    are about ``lr`` per weight whatever the loss is, so levels are then between 0.01 and 1, and what they mean changes with
    the batch size; with ``sgd`` they are those of the loss.

    Fails: correlated inputs share their group's work, and either may stay. The gradient alone makes no exact zeros: let the
    learning rate go to 0 (``train.decay``) and cut (``threshold``). In `sparcs` it reads eigenvectors: a column of
    zeros is an input without effect, but scale moves between eigenvectors and eigenvalues.

    Raises:
        ConfigError: for an ``adaptive`` that is not a finite number > 0.

    Source: Yuan and Lin 2006; on networks: Scardapane et al. 2017. ``adaptive``: Zou 2006 with exponent 1, its weights from the
    current network instead of a first pass (reweighted as in Candes, Wakin and Boyd 2008), so that nothing has to be kept.
    """
    check_adaptive("inputs", adaptive)
    return (ProximalInputs if proximal else Inputs)(scale, adaptive)


def neurons(
    *,
    of: Side = "entering",
    proximal: bool = False,
    scale: Scale = "root",
    adaptive: float | None = None,
    layers: Sequence[float] | None = None,
) -> Regularizer:
    """Group lasso on hidden neurons: all weights that enter a neuron, leave it, or both are one group.

    ``sum over hidden layers l and their neurons h of c_l s_h ||w_h||`` with ``s_h = sqrt(p_h)`` (``scale: root``) or 1.
    ``layers``: one ``c_l >= 0`` per hidden layer, first to last (default 1 each). ``adaptive`` and ``proximal`` as in
    `inputs`. Shape ``(K,)``, range [0, inf); biases are not penalised. A neuron that nothing enters is a constant, which
    joins the next biases.

    With ``of: both`` weights between two hidden neurons are in the groups of both, so groups overlap from two layers on.
    The proximal map is then that of the whole sum, by 30 sweeps of Dykstra's algorithm over the layers: groups that end at 0
    are exactly 0, other weights are near the exact map. Otherwise no weight is in two groups, and the map is exact.

    Fails: a ReLU network can move scale from what enters a neuron to what leaves it; ``both`` leaves it no way to.

    Raises:
        ConfigError: for an ``adaptive`` that is not a finite number > 0, ``layers`` that are empty, negative, not finite or all
            zero, and a proximal ``adaptive`` of ``both``, which has no known map.

    Source: Yuan and Lin 2006; on networks: Wen et al. 2016, Scardapane et al. 2017. Dykstra's algorithm for proximal maps:
    Bauschke and Combettes 2008. We differ: ``both``, ``adaptive``, levels by layer.
    """
    check_adaptive("neurons", adaptive)
    if proximal and adaptive is not None and of == "both":
        raise ConfigError(
            f"neurons: proximal with adaptive={adaptive:g} and of='both'; groups overlap and the penalty is not convex, so its "
            "proximal map is not known. Take of: entering or leaving, or leave one of the two out"
        )
    kind = ProximalNeurons if proximal else Neurons
    return kind(scale, adaptive, of, by_layer("neurons", layers, "hidden layer"))


def check_adaptive(where: str, adaptive: float | None) -> None:
    """Refuse a size of weights that is none.

    Raises:
        ConfigError: naming it.
    """
    if adaptive is not None and not (math.isfinite(adaptive) and adaptive > 0.0):
        raise ConfigError(
            f"{where}: adaptive={adaptive}; needed: a finite number > 0, the size of weights that are pulled half as much "
            "as tiny ones (0.03, say), or null"
        )


def by_layer(where: str, layers: Sequence[float] | None, what: str) -> tuple[float, ...] | None:
    """What levels are multiplied by in each layer, checked.

    Raises:
        ConfigError: for numbers that are none, negative, not finite or all zero.
    """
    if layers is None:
        return None
    if not layers or not all(math.isfinite(c) and c >= 0.0 for c in layers) or not any(c > 0.0 for c in layers):
        raise ConfigError(
            f"{where}: layers={list(layers)}; needed: one finite number >= 0 per {what}, first to last, one of them > 0"
        )
    return tuple(layers)
