"""What a plugin implements. A component inherits its contract, so that nasplug can refuse a misspelt name.

Type checkers check the signatures; `nasplug.testing` checks the laws, which types cannot express.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import SequenceMatcher
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from nasplug.errors import ContractError
from nasplug.networks import PARTS, Networks, forward
from nasplug.tasks import Loss, Metric, Task

__all__ = [
    "Certifying",
    "Discretizer",
    "Norms",
    "Params",
    "Proximal",
    "Regularizer",
    "Schedule",
    "Score",
    "SearchMethod",
    "Traits",
    "check_component",
]

Params = dict[str, Tensor]
"""Trainable leaves by name; every leaf is ``(K, ...)``."""

Schedule = Callable[[float], float]
"""Progress in [0, 1] -> value. Its author never sees K: a pack tabulates schedules to ``(T, K)``."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Optional abilities of a search method.

    Attributes:
        architecture: leaves that are architecture and not weights. They can have their own optimizer, and a bilevel search
            trains them on other samples than the weights.
        simplex: leaves of ``architecture`` whose last axis is >= 0 and sums to 1. Only an optimizer that keeps them on the
            simplex may change them.
        holds: parts of `Networks` that are themselves parameters, so that `Proximal` penalties can change them; see
            `SearchMethod.hold`.
        untrained: leaves that no optimizer moves, `SearchMethod.project` alone, such as what is left to choose from.
        stochastic: `SearchMethod.relax` draws noise; the loop passes one fresh seed per row and step.
        convex: the loss is convex in its parameters. Where a monotone network may not have a weight's sign, the weight then
            becomes 0; other methods get its sign changed, so that it is not lost to training.
        capturable: a step may be captured as one program and replayed; False makes it run eagerly everywhere.
        origin: name -> version of what the method was made from; part of the lineage of each network.

    Raises:
        ContractError: for a value of another type, a part that does not exist, or a point of the simplex that is a weight.
    """

    architecture: frozenset[str] = frozenset()
    simplex: frozenset[str] = frozenset()
    holds: frozenset[str] = frozenset()
    untrained: frozenset[str] = frozenset()
    stochastic: bool = False
    convex: bool = False
    capturable: bool = True
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("architecture", "simplex", "holds", "untrained"):
            value = getattr(self, name)
            if not isinstance(value, frozenset) or not all(isinstance(one, str) for one in value):
                raise ContractError(f"Traits({name}={value!r}): write a frozenset of names: frozenset({{'logits'}})")
        for name in ("stochastic", "convex", "capturable"):
            if not isinstance(getattr(self, name), bool):
                raise ContractError(f"Traits({name}={getattr(self, name)!r}): needed: True or False")
        if not isinstance(self.origin, Mapping) or not all(
            isinstance(one, str) for pair in self.origin.items() for one in pair
        ):
            raise ContractError(f"Traits(origin={self.origin!r}): needed: a mapping of texts, name -> version")
        if strange := sorted(self.holds - set(PARTS)):
            raise ContractError(f"Traits(holds=...): {', '.join(strange)} are not parts of Networks; parts: {', '.join(PARTS)}")
        if both := sorted(self.untrained & self.architecture):
            raise ContractError(f"Traits(untrained=...): {', '.join(both)} are in architecture, which is trained; remove one")
        if weights := sorted(self.simplex - self.architecture):
            raise ContractError(f"Traits(simplex=...): {', '.join(weights)} are not in architecture; add them there")


PLAIN = Traits()


class SearchMethod(ABC):
    """How weights and architecture are parametrised. It holds the options that set shapes, but no tensors and no state.

    Laws: row k of `init` depends on ``seeds[k]`` alone; nothing reduces over K; control flow does not read data.
    """

    __slots__ = ()

    @property
    def traits(self) -> Traits:
        """Its optional abilities: a class attribute ``traits = Traits(...)``, or a property."""
        return PLAIN

    @abstractmethod
    def init(self, task: Task, seeds: Tensor) -> Params:
        """Fresh parameters: ``seeds`` long ``(K,)`` -> leaves ``(K, ...)`` on the device of ``seeds``."""

    @abstractmethod
    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """The soft networks at temperature ``tau (K,)``; the smaller tau, the nearer they are to hard ones.

        ``noise``: one seed per row, long ``(K,)``, for methods that are ``stochastic``; None for the others.
        """

    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        """Outputs: ``x (I, B)`` or ``(K, I, B)`` -> ``(K, O, B)``. Override it only if the method has a faster form."""
        return forward(nets, x)

    def direct(self, nets: Networks) -> Networks:
        """The same functions with ``blocks`` as plain weights (direct space). The default returns ``nets`` unchanged."""
        return nets

    def project(self, params: Params, step: int, steps: int) -> Params:
        """Parameters after step ``step`` (1-based) of ``steps``, changed without a gradient: rounded, or kept in a range.

        It works row by row. The default returns ``params`` unchanged.
        """
        return params

    def hold(self, nets: Networks) -> Params:
        """The leaves of the parts in ``traits.holds`` alone: ``relax(params | hold(nets))`` has these parts of ``nets``.

        Raises:
            ContractError: for a method that holds none.
        """
        raise ContractError(f"{type(self).__name__} holds no parts of its networks; a proximal penalty has nothing to move")

    def accept(self, task: Task) -> None:  # noqa: B027 - most have nothing to refuse
        """Check the task when a study is planned; return nothing if the method can learn it.

        Raises:
            ConfigError: if its options do not fit the task.
        """


@dataclass(frozen=True, slots=True)
class Norms:
    """A sum of norms over groups of weights, ``factor sum_g h(|w_g|)``: what an engine computes in a penalty's place.

    Attributes:
        layer: see ``of``.
        of: ``each`` weight that enters the layer is a group; or each neuron of the layer (0: each input) has one: of the
            weights ``entering`` it, ``leaving`` it, or ``both``.
        factor: what the sum is multiplied by.
        unit: ``h(n) = unit log(1 + n / unit)``; None: ``h(n) = n``.
    """

    layer: int
    of: Literal["each", "entering", "leaving", "both"]
    factor: float
    unit: float | None = None

    def __call__(self, nets: Networks) -> Tensor:
        """The value, ``(K,)``; for tests and checks, as its slope at 0 is not that of a penalty."""
        if self.of == "each":
            norms = torch.cat([nets.block(e).abs().flatten(1) for e in nets.blocks if e[0] == self.layer], 1)
        else:
            into = [nets.block(e).square().sum(2) for e in nets.blocks if e[0] == self.layer and self.of != "leaving"]
            out = [nets.block(e).square().sum(1) for e in nets.blocks if e[1] == self.layer and self.of != "entering"]
            norms = torch.stack([*into, *out]).sum(0).sqrt()
        return self.factor * (norms if self.unit is None else self.unit * torch.log1p(norms / self.unit)).sum(1)


class Regularizer(ABC):
    """A penalty on soft networks, unscaled: nasplug multiplies it by its level, so that levels can be swept."""

    __slots__ = ()

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Parts of `Networks` it reads (names in `nasplug.networks.PARTS`); checked when the study is planned."""

    @abstractmethod
    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``, >= 0, with finite gradients."""

    def norms(self, nets: Networks) -> Sequence[Norms] | None:
        """The same value as sums of norms of effective weights, the gradient at a norm of 0 being 0; None: it is none.

        Engines read it (`nasplug.engine`); without it they leave the penalty to plain steps. ``nets`` is one network (K = 1),
        for its skeleton.
        """
        return None

    def accept(self, nets: Networks) -> None:  # noqa: B027 - most have nothing to refuse
        """Check one network (K = 1) when a study is planned; return nothing if the options fit.

        Raises:
            ConfigError: if they do not.
        """


class Proximal(Regularizer):
    """A penalty with its own step after the optimizer's; the step makes values exactly 0.

    Its value is reported, its gradient is not used. The method must hold the parts that it needs (`Traits`). When its level
    has gone back to 0 for good, values that are exactly 0 stay 0, and the others are trained further without it (debiasing on
    a fixed support).
    """

    __slots__ = ()

    @abstractmethod
    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        """``argmin_q |q - p|^2 / 2 + amount penalty(q)`` over the parts it needs; the others are unchanged.

        ``amount (K,)``, >= 0, is the learning rate times the level. It works row by row; control flow does not read data.
        """


class Score(Protocol):
    """Scores networks, and holds their data."""

    @property
    def task(self) -> Task:
        """Their data. Fit on ``task.train``, choose by the score, and do not read ``task.test``.

        Inputs are shared, ``x (I, N)``, or each network has its own, ``(K, I, N)``.
        """
        ...

    def __call__(self, nets: Networks) -> Tensor:
        """Validation loss, one per network in their order, ``(K,)``; not finite for a broken network."""
        ...

    def take(self, index: Tensor) -> Score:
        """The score for the networks at ``index`` (long, ``(k,)``) alone; it is needed as networks may have their own data."""
        ...


class Discretizer(ABC):
    """Discretizes soft networks: its gates become 0 or 1, its choices one-hot. A second call changes nothing more."""

    __slots__ = ()

    @property
    @abstractmethod
    def needs(self) -> frozenset[str]:
        """Parts of `Networks` it reads; checked when the study is planned."""

    @abstractmethod
    def __call__(self, nets: Networks, score: Score) -> Networks:
        """Networks in direct space -> harder networks; ``score`` gives the validation loss of candidates."""

    def accept(self, nets: Networks) -> None:  # noqa: B027 - most have nothing to refuse
        """Check one network (K = 1, direct space) when a study is planned; return nothing if the options fit.

        Raises:
            ConfigError: if they do not.
        """


class Certifying(Discretizer):
    """A discretizer that can also say how far its decision is proven, for each network."""

    __slots__ = ()

    @abstractmethod
    def certified(self, nets: Networks, score: Score) -> tuple[Networks, Sequence[Mapping[str, Any]]]:
        """The same networks as a call gives, and one certificate per network: K mappings of plain data.

        Both come from one call, so that shared results are computed once. Each mapping has ``verdict`` (text: what is certain,
        and within which scope), ``sites`` (a list of plain mappings, one per decision) and any numbers, which become columns
        of the study.
        """


CONTRACTS: Mapping[str, tuple[type, tuple[type, ...]]] = {
    "method": (SearchMethod, ()),
    "regularizer": (Regularizer, (Proximal,)),
    "discretizer": (Discretizer, (Certifying,)),
    "task": (Task, ()),
    "loss": (Loss, ()),
    "metric": (Metric, ()),
}
"""Plugin kind -> its contract, and the contracts that extend it."""

NEAR = 0.8
"""Names more alike than this are taken for one name and a misspelling of it."""


def check_component(kind: str, component: object, whom: str) -> None:
    """Refuse a component that does not inherit its contract, or has names that nasplug would not read. Also used by the kit.

    ``whom`` names the component in the error. A name with a leading underscore is its author's own.

    Raises:
        ContractError: with what to write instead.
    """
    if kind not in CONTRACTS:
        if not callable(component):
            raise ContractError(f"{whom}: the plugin returned {type(component).__name__}; needed: a function")
        return
    contract, more = CONTRACTS[kind]
    if not isinstance(component, contract):
        name = type(component).__name__
        raise ContractError(
            f"{whom}: the plugin returned {name}; a nasplug.{contract.__name__} is needed"
            + ("" if contract is Task else f": write class {name}({contract.__name__}), from nasplug")
        )
    if contract is not Task:
        _refuse_unread(component, [contract, *more], whom)
    if isinstance(component, SearchMethod):
        _check_traits(component, whom)
    if isinstance(component, Regularizer | Discretizer):
        _check_needs(component, whom)


def _refuse_unread(component: object, contracts: Sequence[type], whom: str) -> None:
    """Names of another contract, of a trait, and near misses of both."""
    read = {name for one in contracts if isinstance(component, one) for name in _public(one)}
    others = {name: f"inherit nasplug.{one.__name__}" for one in contracts for name in _public(one) if name not in read}
    if isinstance(component, SearchMethod):
        others |= {f.name: f"write traits = Traits({f.name}=...), from nasplug" for f in fields(Traits)}
    required = {name for one in contracts for name in getattr(one, "__abstractmethods__", ())}
    meant = {name: f"write {name}" for name in read - required} | others
    for name in sorted(_public(component) - read):
        near = max(meant, key=lambda one: SequenceMatcher(None, name, one).ratio())
        if SequenceMatcher(None, name, near).ratio() > NEAR:
            raise ContractError(
                f"{whom}: {type(component).__name__} has {name!r}, which nasplug does not read; {meant[near]}, or give it "
                "another name (a leading underscore will do)"
            )


def _public(of: object) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def _check_needs(component: Regularizer | Discretizer, whom: str) -> None:
    needs = component.needs
    if not isinstance(needs, frozenset):
        raise ContractError(f"{whom}: needs is {needs!r}; write a frozenset of parts: needs = frozenset({{'blocks'}})")
    if strange := sorted(needs - set(PARTS)):
        raise ContractError(f"{whom}: needs: {', '.join(strange)} are not parts of Networks; parts: {', '.join(PARTS)}")


def _check_traits(method: SearchMethod, whom: str) -> None:
    traits = method.traits
    if not isinstance(traits, Traits):
        raise ContractError(f"{whom}: traits is {type(traits).__name__}; write traits = Traits(...), from nasplug")
    has = type(method).hold is not SearchMethod.hold
    if bool(traits.holds) != has:
        found = "hold, and traits.holds is empty" if has else "traits.holds, and no hold"
        raise ContractError(f"{whom}: {type(method).__name__} has {found}; needed: both, or neither")
