"""What a plugin implements. Each contract is small; laws that cannot be typed are checked by `nasplug.testing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from nasplug.networks import Networks
from nasplug.tasks import Task

__all__ = [
    "Certifying",
    "Choosy",
    "Discretizer",
    "Holding",
    "OnSimplex",
    "Params",
    "Projected",
    "Proximal",
    "Regularizer",
    "Schedule",
    "Score",
    "SearchMethod",
    "Stochastic",
    "Traced",
]

Params = dict[str, Tensor]
"""Trainable leaves by name; every leaf is ``(K, ...)``."""

Schedule = Callable[[float], float]
"""Progress in [0, 1] -> value. Its author never sees K: a pack tabulates schedules to ``(T, K)``."""


@runtime_checkable
class SearchMethod(Protocol):
    """How weights and architecture are parametrised. Holds what sets shapes; owns no tensors, keeps no state.

    Laws: row k of `init` depends on ``seeds[k]`` alone; nothing reduces over K; control flow does not read data.
    """

    @property
    def architecture(self) -> frozenset[str]:
        """Names in `Params` that are architecture rather than weights (bilevel loops split on it)."""
        ...

    def init(self, task: Task, seeds: Tensor) -> Params:
        """Fresh parameters: ``seeds`` long ``(K,)`` -> leaves ``(K, ...)`` on the device of ``seeds``."""
        ...

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The soft networks at temperature ``tau (K,)``; small tau is nearly hard.

        ``noise``: a seed a row, long ``(K,)``, for methods that are `Stochastic`; None for the others.
        """
        ...

    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        """``x (I, B)`` or ``(K, I, B)`` -> ``(K, O, B)``; `nasplug.networks.forward` unless a faster form exists."""
        ...

    def direct(self, nets: Networks) -> Networks:
        """The same functions with ``blocks`` as plain weights (direct space); identity for most methods."""
        ...


@runtime_checkable
class Traced(Protocol):
    """A method made from something that has a version of its own, as trained weights: all its networks name it."""

    @property
    def origin(self) -> Mapping[str, str]:
        """What -> which version of it; part of the lineage of each network."""
        ...


@runtime_checkable
class Projected(Protocol):
    """A method that also moves parameters outside the gradient, after each optimizer step (rounding, proximal maps)."""

    def project(self, params: Params, step: int, steps: int) -> Params:
        """Parameters after step ``step`` (1-based) of ``steps``; row by row, may return ``params`` itself."""
        ...


@runtime_checkable
class Stochastic(Protocol):
    """A method whose `SearchMethod.relax` draws noise: the loop then passes a fresh seed a row and step."""

    stochastic: ClassVar[bool]


@runtime_checkable
class Holding(Protocol):
    """A method whose parameters hold parts of its soft networks as they are: `Proximal` penalties may move those."""

    holds: ClassVar[frozenset[str]]
    """Parts of `Networks`."""

    def hold(self, nets: Networks) -> Params:
        """The leaves that hold these parts, and no others: ``relax(params | hold(nets))`` has the parts of ``nets``."""
        ...


@runtime_checkable
class OnSimplex(Protocol):
    """A method with leaves that are points of the simplex themselves: only an optimizer that stays there may move them."""

    @property
    def simplex(self) -> frozenset[str]:
        """Names in `Params` whose last axis is >= 0 and sums to 1; all of them architecture."""
        ...


@runtime_checkable
class Regularizer(Protocol):
    """A penalty on soft networks. Unscaled: its level belongs to the core, so that sweeps over levels compare."""

    needs: ClassVar[frozenset[str]]
    """Parts of `Networks` it reads (names in `nasplug.networks.PARTS`); checked when the study is planned."""

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``, >= 0, with finite gradients."""
        ...


@runtime_checkable
class Proximal(Regularizer, Protocol):
    """A penalty that moves networks in a step of its own, after the optimizer's: what it drives to 0 is exactly 0.

    Its value is reported, its gradient is not used. It needs a method that is `Holding` the parts it needs. Once its level has
    come back to 0 for good, what is exactly 0 stays 0 and the rest trains on without it (debiasing on a fixed support).
    """

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """``argmin_q |q - p|^2 / 2 + amount penalty(q)`` over the parts it needs; the others as they are.

        ``amount (K,)``, >= 0: learning rate times level. Row by row; control flow does not read data.
        """
        ...


class Score(Protocol):
    """How good networks are, and the data they were made for."""

    @property
    def task(self) -> Task:
        """What is fitted is fitted on ``task.train``; choosing goes by the score, and ``task.test`` is nobody's to read.

        Data are shared, ``x (I, N)``, or each network's own, ``(K, I, N)``.
        """
        ...

    def __call__(self, nets: Networks) -> Tensor:
        """Validation loss of each network, ``(K,)``; not finite where a network is broken. As many as were given, in order."""
        ...

    def take(self, index: Tensor) -> Score:
        """The score of the networks at ``index`` (long, ``(k,)``) alone: networks may have data of their own."""
        ...


@runtime_checkable
class Discretizer(Protocol):
    """Makes soft networks hard. Gates it touches become 0 or 1, choices one-hot; running it twice changes nothing more."""

    needs: ClassVar[frozenset[str]]
    """Parts of `Networks` it reads; checked when the study is planned."""

    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Networks in direct space, and a way to score candidates on validation data -> harder networks."""
        ...


@runtime_checkable
class Choosy(Discretizer, Protocol):
    """A discretizer whose options must fit the networks: asked when the study is planned."""

    def accept(self, nets: Networks) -> None:
        """Nothing, for one network of those to come.

        Raises:
            ConfigError: where its options do not fit.
        """
        ...


@runtime_checkable
class Certifying(Discretizer, Protocol):
    """A discretizer that can also say, of each network, how far its decision is proven."""

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """What calling it gives, and what it found in the networks on the way: K mappings of plain data.

        One call for both: what a decision and its certificate share is computed once. Each mapping holds ``verdict`` (text:
        what is certain, and within which scope), ``sites`` (a list of plain mappings, one a decision) and any numbers: those
        become columns of the study.
        """
        ...


Factory = Callable[..., object]
"""Makes a component; its keyword-only parameters are the component's config schema."""
