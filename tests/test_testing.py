"""The kits themselves: a law that cannot fail is worthless, so each one meets a plugin that breaks it, and says why."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug import networks
from nasplug.contracts import (
    Certifying,
    Discretizer,
    Norms,
    Params,
    Proximal,
    Regularizer,
    Schedule,
    Score,
    SearchMethod,
    Traits,
)
from nasplug.errors import ConfigError
from nasplug.hookspecs import hookimpl
from nasplug.networks import Networks
from nasplug.plugins import KINDS, Plugins, load_plugins
from nasplug.replicas import normal
from nasplug.tasks import LOSSES, Split, Task
from nasplug.testing import (
    ActivationLaws,
    DiscretizerLaws,
    Laws,
    RegularizerLaws,
    ScheduleLaws,
    SearchMethodLaws,
    TaskLaws,
    example_networks,
    example_score,
    example_task,
    fingerprint,
)

KITS: dict[str, type[Laws]] = {
    "regularizer": RegularizerLaws,
    "discretizer": DiscretizerLaws,
    "schedule": ScheduleLaws,
    "task": TaskLaws,
    "method": SearchMethodLaws,
    "activation": ActivationLaws,
}
SLOW = {"test_rebuild_in_a_fresh_process", "test_export_law_in_other_runtimes"}


# Lawful plugins, as small as they can be. The broken ones are these with one thing changed.


@dataclass
class Penalty(Regularizer):
    """The sum of squared gates and of absolute weights."""

    needs: frozenset[str] = frozenset({"blocks", "gates"})

    def __call__(self, nets: Networks) -> Tensor:
        return self.weights(nets) + sum(g.square().sum(1) for g in nets.gates.values())

    def weights(self, nets: Networks) -> Tensor:
        return torch.stack([nets.block(edge).abs().sum((1, 2)) for edge in nets.blocks]).sum(0)


@dataclass
class Rounding(Discretizer):
    """Gates at one half."""

    needs: frozenset[str] = frozenset({"gates"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        score(nets)
        return replace(nets, gates={layer: self.gate(g) for layer, g in nets.gates.items()})

    def gate(self, g: Tensor) -> Tensor:
        return (g >= 0.5).to(g.dtype)


@dataclass
class Method(SearchMethod):
    """``I -> 4 -> O`` with sigmoid gates and a mixture of two activations; noise moves the gates' logits."""

    traits = Traits(architecture=frozenset({"logit", "mixture"}))
    hidden: ClassVar[int] = 4

    def init(self, task: Task, seeds: Tensor) -> Params:
        h = self.hidden
        shapes = {"w1": (h, task.inputs), "b1": (h,), "w2": (task.outputs, h), "b2": (task.outputs,)}
        shapes |= {"logit": (h,), "mixture": (1, 2)}
        return {name: self.draw(seeds, name, shape).float() for name, shape in shapes.items()}

    def draw(self, seeds: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        return normal(seeds, name, shape)

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        logit = params["logit"]
        if noise is not None:
            logit = logit + 0.1 * normal(noise, "gates", (self.hidden,))
        return Networks(
            widths=(params["w1"].shape[2], self.hidden, params["w2"].shape[1]),
            blocks={(1, 0): params["w1"], (2, 1): params["w2"]},
            biases={1: params["b1"], 2: params["b2"]},
            gates={1: torch.sigmoid(logit / tau.unsqueeze(-1))},
            choices={1: torch.softmax(params["mixture"] / tau.view(-1, 1, 1), -1)},
            candidates=("relu", "tanh"),
        )


def slope() -> Schedule:
    return lambda progress: 1.0 - 0.5 * progress


# How a plugin that is not installed gets into a kit.


def registry(kind: str, factory: Callable[..., object]) -> Plugins:
    """Our own names and one more, ``toy``."""
    plugins = Plugins()

    def offer(register: Callable[[str, Callable[..., object]], None]) -> None:
        register("toy", factory)

    module = ModuleType("toys")
    setattr(module, KINDS[kind], hookimpl(offer))
    plugins.add(module, "toys", "nasplug-toys", "1")
    return plugins


def kit(kind: str, factory: Callable[..., object], **attributes: object) -> Laws:
    """The kit of that kind, applied to ``factory``."""
    made = registry(kind, factory)
    return type("Toy", (KITS[kind],), {"name": "toy", "plugins": lambda self: made, **attributes})()  # type: ignore[no-any-return]


def laws(kind: str) -> set[str]:
    return {name for name in dir(KITS[kind]) if name.startswith("test_")}


def documented(made: Callable[[], object]) -> Callable[..., object]:
    """A factory with a docstring."""

    def factory() -> object:
        """A toy."""
        return made()

    return factory


LAWFUL: dict[str, Callable[[], object]] = {
    "regularizer": Penalty,
    "discretizer": Rounding,
    "schedule": slope,
    "task": example_task,
    "method": Method,
    "activation": lambda: torch.tanh,
}


@pytest.mark.parametrize(("kind", "law"), [(kind, law) for kind in KITS for law in sorted(laws(kind) - SLOW)])
def test_a_lawful_plugin_passes(kind: str, law: str) -> None:
    getattr(kit(kind, documented(LAWFUL[kind])), law)()


# Broken regularizers.


class Scalar(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets).mean()


class Negative(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) - 1.0


class Single(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets).float()


class SteepAtZero(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return sum(g.square().sum(1).sqrt() for g in nets.gates.values())  # type: ignore[return-value]


class Logarithm(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return sum(-torch.xlogy(g, g).sum(1) for g in nets.gates.values())  # type: ignore[return-value]


class ReadsBiases(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) + sum(b.square().sum(1) for b in nets.biases.values())


class ReadsEdgeGates(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        total = super().__call__(nets)
        return total + nets.edge_gates[1, 0].sum((1, 2)) if nets.edge_gates else total


class NeedsMoreThanItSays(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) + nets.eigenvalues[1].abs().sum(1)


class RelativeToThePack(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        return value / (1.0 + value.detach().mean())


class GradientOfThePack(Penalty):
    """Values are right; the gradient is normalised over rows."""

    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        pull = value / (1.0 + value.detach().mean())
        return value.detach() + pull - pull.detach()


class TouchesOthers(Penalty):
    """Adds nothing, unless there is a NaN somewhere."""

    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) + 0.0 * nets.gates[1].detach().sum()


class RaisesOnNan(Penalty):
    """Batched eigenvalue routines raise for the whole batch."""

    def __call__(self, nets: Networks) -> Tensor:
        w = nets.block((1, 0))
        spectrum: Tensor = torch.linalg.eigvalsh(w.detach() @ w.detach().transpose(1, 2))
        return super().__call__(nets) + 0.0 * spectrum.sum(1).nan_to_num()


class LooksAtData(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        return value if bool((value > 1.0).any()) else value * 1.0


class OnTheWrongDevice(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        return super().__call__(nets) + torch.zeros(nets.replicas, dtype=torch.float64)


class OtherNorms(Penalty):
    def norms(self, nets: Networks) -> list[Norms]:
        return [Norms(1, "each", 1.0)]


class Overwrites(Penalty):
    def __call__(self, nets: Networks) -> Tensor:
        value = super().__call__(nets)
        if not nets.blocks[1, 0].requires_grad and nets.blocks[1, 0].device.type == "cpu":
            nets.blocks[1, 0].mul_(0.5)
        return value


class Remembers(Penalty):
    calls = 0

    def __call__(self, nets: Networks) -> Tensor:
        self.calls += 1
        return super().__call__(nets) * self.calls


# Broken discretizers.


class HalfWay(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return torch.where(g >= 0.5, 0.9 * torch.ones_like(g), torch.zeros_like(g))


class NanStays(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return torch.where(g.isnan(), g, super().gate(g))


class TwoChosen(Rounding):
    def __call__(self, nets: Networks, score: Score) -> Networks:
        largest = {layer: (c >= c.amax(-1, keepdim=True)).to(c.dtype) for layer, c in nets.choices.items()}
        return replace(super().__call__(nets, score), choices=largest)


class WrongShape(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return super().gate(g)[:, :1]


class TurnsRound(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return 1.0 - super().gate(g)


class CutsAtThePacksMean(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return (g >= g.nanmean()).to(g.dtype)


class CutsAtThePacksLoss(Rounding):
    """Whether a row loses a neuron depends on the mean loss: NaN when one row is broken."""

    def __call__(self, nets: Networks, score: Score) -> Networks:
        loss = score(nets)
        rounded = super().__call__(nets, score)
        poor = (loss > loss.mean()).unsqueeze(-1)
        return replace(rounded, gates={layer: g.masked_fill(poor, 0.0) for layer, g in rounded.gates.items()})


class CutsAtTheFirstOnesData(Rounding):
    """Takes the first axis of the data for its inputs; where networks have their own it is the first network."""

    def __call__(self, nets: Networks, score: Score) -> Networks:
        rounded = super().__call__(nets, score)
        open_ = (score.task.train.x[0].mean() > 0).to(torch.float64)
        return replace(rounded, gates={layer: g * open_ for layer, g in rounded.gates.items()})


class CutsAtTheFirstOnesWeights(Rounding):
    """Weighs samples by the weights of the first network."""

    def __call__(self, nets: Networks, score: Score) -> Networks:
        rounded = super().__call__(nets, score)
        weights = score.task.train.weights
        if weights is None:
            return rounded
        open_ = (weights.view(-1, weights.shape[-1])[0, 0] > 0).to(torch.float64)
        return replace(rounded, gates={layer: g * open_ for layer, g in rounded.gates.items()})


class RefusesNan(Rounding):
    def __call__(self, nets: Networks, score: Score) -> Networks:
        if not bool(torch.isfinite(score(nets)).all()):
            raise ValueError("a loss is not finite")
        return super().__call__(nets, score)


class NeedsEigenvaluesToo(Rounding):
    def __call__(self, nets: Networks, score: Score) -> Networks:
        return replace(super().__call__(nets, score), eigenvalues={1: nets.eigenvalues[1]} if nets.eigenvalues[1].dim() else {})


class OneByOne(Rounding):
    def __call__(self, nets: Networks, score: Score) -> Networks:
        for k in range(nets.replicas):
            score(networks.take(nets, torch.tensor([k])))
        return super().__call__(nets, score)


class AsManyScoringsAsRows(Rounding):
    def __call__(self, nets: Networks, score: Score) -> Networks:
        for _ in range(nets.replicas):
            score(nets)
        return super().__call__(nets, score)


class Certifies(Rounding, Certifying):
    def certified(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, object]]]:
        return self(nets, score), [{"verdict": "rounded", "sites": [], **self.more()} for _ in range(nets.replicas)]

    def more(self) -> dict[str, object]:
        return {"gap": 0.5}


class CertifiesOther(Certifies):
    def certified(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, object]]]:
        return nets, super().certified(nets, score)[1]


class CertifiesTooFew(Certifies):
    def certified(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, object]]]:
        return self(nets, score), super().certified(nets, score)[1][1:]


class CertifiesWithoutWords(Certifies):
    def more(self) -> dict[str, object]:
        return {"verdict": None}


class CertifiesNan(Certifies):
    def more(self) -> dict[str, object]:
        return {"gap": math.nan}


class CertifiesTuples(Certifies):
    def more(self) -> dict[str, object]:
        return {"margins": (1.0, 2.0)}


def test_a_lawful_certifying_discretizer_passes() -> None:
    for law in sorted(laws("discretizer") - SLOW):
        getattr(kit("discretizer", documented(Certifies)), law)()


class InPlace(Rounding):
    def gate(self, g: Tensor) -> Tensor:
        return g.copy_(super().gate(g))


# Broken schedules.


def endless() -> Schedule:
    return lambda progress: math.inf if progress == 1.0 else 0.0


def tensors() -> Schedule:
    return lambda progress: torch.tensor(progress)  # type: ignore[return-value]


def ratchet() -> Schedule:
    highest = 0.0

    def value(progress: float) -> float:
        nonlocal highest
        highest = max(highest, progress)
        return highest

    return value


# Broken tasks.


def changed(**parts: Any) -> Callable[[], Task]:
    return lambda: replace(example_task(), **parts)


def binary(**parts: Any) -> Callable[[], Task]:
    return lambda: replace(example_task("binary"), **parts)


def classes(**parts: Any) -> Callable[[], Task]:
    return lambda: replace(example_task("classes"), **parts)


REGRESSION, CLASSES = example_task(), example_task("classes")


# Broken methods.


class WrongArchitecture(Method):
    traits = Traits(architecture=frozenset({"alpha"}))


class OldWay(Method):
    stochastic = True


class Misspelt(Method):
    def projekt(self, params: Params, step: int, steps: int) -> Params:
        return params


class ShrinksUnread(Penalty):
    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        return nets


class CertifiesUnread(Rounding):
    def certifies(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, object]]]:
        return self(nets, score), []


class SharedLeaf(Method):
    def init(self, task: Task, seeds: Tensor) -> Params:
        return super().init(task, seeds) | {"scale": torch.ones(())}


class InfiniteLeaf(Method):
    def init(self, task: Task, seeds: Tensor) -> Params:
        return super().init(task, seeds) | {"scale": torch.full((len(seeds),), math.inf)}


class ByPosition(Method):
    def draw(self, seeds: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        return super().draw(torch.arange(len(seeds)), name, shape)


class OneGenerator(Method):
    def draw(self, seeds: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(int(seeds.sum()))
        return torch.randn(len(seeds), *shape, generator=generator)


class SeedIsIgnored(Method):
    def draw(self, seeds: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        return super().draw(torch.zeros_like(seeds), name, shape)


def relaxed(change: Callable[[Networks], Networks]) -> type[Method]:
    """A method whose networks are changed on the way out."""

    class Changed(Method):
        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
            return change(super().relax(params, tau, noise))

    return Changed


def without_an_input(nets: Networks) -> Networks:
    return replace(
        nets, widths=(nets.widths[0] - 1, *nets.widths[1:]), blocks={**nets.blocks, (1, 0): nets.blocks[1, 0][..., 1:]}
    )


def spread_over_rows(nets: Networks) -> Networks:
    return replace(nets, gates={1: (nets.gates[1] + 1e-6 * nets.gates[1].nanmean(0)).clamp(max=1.0)})


def looking(nets: Networks) -> Networks:
    return nets if float(nets.gates[1].detach().nan_to_num().sum()) >= 0.0 else nets.map(torch.zeros_like)


class Writes(Method):
    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        nets = super().relax(params, tau, noise).map(torch.clone)
        with torch.no_grad():
            params["b1"].mul_(0.99)
        return nets


class FreshNoise(Method):
    calls = 0

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        self.calls += 1
        return super().relax(params, tau, None if noise is None else noise + self.calls)


class SamplesFirst(Method):
    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        return super().forward(nets, x).transpose(1, 2)


class CentresSharedInputs(Method):
    def forward(self, nets: Networks, x: Tensor) -> Tensor:
        return super().forward(nets, x - x.mean(-1, keepdim=True) if x.dim() == 2 else x)


class ForgetsBiases(Method):
    def direct(self, nets: Networks) -> Networks:
        return replace(nets, biases={})


class RaisesOnTheWay(Method):
    """A batched routine that raises for all rows when one is NaN."""

    def direct(self, nets: Networks) -> Networks:
        w = nets.blocks[1, 0].detach()
        torch.linalg.eigvalsh(w @ w.transpose(1, 2))
        return nets


class ClippedOverRows(Method):
    """Scales gradients by a norm over the whole pack, as `clip_grad_norm_` would."""

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        nets = super().relax(params, tau, noise)
        if nets.blocks[1, 0].requires_grad:
            w = nets.blocks[1, 0] * 1.0
            w.register_hook(  # type: ignore[no-untyped-call]
                lambda g: g / (1.0 + 1e6 * g.norm())
            )
            return replace(nets, blocks={**nets.blocks, (1, 0): w})
        return nets


class Cancels(Method):
    """Two hidden neurons that take each other's billions away: nothing that float32 can hold."""

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        nets = super().relax(params, tau, noise)
        like = nets.biases[1]
        shift = torch.tensor([1e9, 1e9, 0.0, 0.0], dtype=like.dtype, device=like.device)
        sign = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=like.dtype, device=like.device)
        last = nets.blocks[2, 1] * torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=like.dtype, device=like.device) + sign
        return replace(
            nets,
            blocks={**nets.blocks, (2, 1): last},
            biases={**nets.biases, 1: like + shift},
            gates={1: torch.ones_like(nets.gates[1])},
            choices={},
            candidates=("relu",),
        )


class Shrinks(Penalty, Proximal):
    """``|gate|^2`` by its proximal map, ``g / (1 + 2 amount)``, times a wrong factor."""

    factor: ClassVar[float] = 3.0

    def __init__(self) -> None:
        super().__init__(frozenset({"gates"}))

    def __call__(self, nets: Networks) -> Tensor:
        return sum(g.square().sum(1) for g in nets.gates.values())  # type: ignore[return-value]

    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        scale = 1.0 / (1.0 + self.factor * amount.unsqueeze(1))
        return replace(nets, gates={layer: g * scale for layer, g in nets.gates.items()})


class ShrinksRightly(Shrinks):
    factor: ClassVar[float] = 2.0


class ShrinksByThePack(Shrinks):
    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        return super().shrink(nets, amount * len(amount))


class ShrinksBiases(ShrinksRightly):
    def shrink(self, nets: Networks, amount: Tensor) -> Networks:
        return replace(super().shrink(nets, amount), biases={layer: 0.5 * b for layer, b in nets.biases.items()})


class Holds(Method):
    traits = Traits(holds=frozenset({"blocks"}))

    def hold(self, nets: Networks) -> Params:
        return {"w1": nets.blocks[1, 0], "w2": nets.blocks[2, 1]}


class HoldsUnasked(Holds):
    traits = Traits()


class HoldsOther(Holds):
    def hold(self, nets: Networks) -> Params:
        return {**super().hold(nets), "w1": nets.blocks[1, 0] + 1.0}


class HoldsStrangers(Holds):
    def hold(self, nets: Networks) -> Params:
        return {"weights": nets.blocks[1, 0]}


def test_a_lawful_proximal_penalty_and_its_method_pass() -> None:
    for law in sorted(laws("regularizer") - SLOW):
        getattr(kit("regularizer", documented(ShrinksRightly)), law)()
    holding = kit("method", documented(Holds))
    assert isinstance(holding, SearchMethodLaws)
    holding.test_holds()


Case = tuple[str, str, Callable[[], object], str]


def activation_of(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    return lambda: function


def saying(function: Callable[[Tensor], Tensor]) -> Callable[[], object]:
    """An activation that says that it never decreases."""

    def says(z: Tensor) -> Tensor:
        return function(z)

    says.non_decreasing = True  # type: ignore[attr-defined]
    return lambda: says


def clock() -> Callable[[], Task]:
    """A task that is another one each time."""
    times = itertools.count()
    return lambda: replace(REGRESSION, targets=(f"at {next(times)}",))


BROKEN: list[Case] = [
    ("schedule", "test_contract", lambda: 0.5, "the plugin returned float; needed: a function"),
    ("task", "test_contract", lambda: "words", "a nasplug.Task is needed"),
    ("activation", "test_elementwise", activation_of(lambda z: z - z.mean()), "elementwise law: values differs"),
    ("activation", "test_elementwise", activation_of(lambda z: z.flatten()), "elementwise law: shape"),
    ("activation", "test_elementwise", activation_of(lambda z: z.double()), "became torch.float64"),
    ("activation", "test_what_it_says_of_its_slope", saying(torch.cos), "monotone law: it says that it never decreases"),
    ("activation", "test_finite", activation_of(torch.log), "a value is not finite"),
    ("activation", "test_finite", activation_of(lambda z: (z + 10.0).sqrt()), "a slope is not finite"),
    (
        "activation",
        "test_control_flow_reads_no_data",
        activation_of(lambda z: z if bool(z.sum() > 0) else -z),
        "compile law, tensors without data",
    ),
    ("regularizer", "test_contract", lambda: Penalty(frozenset({"weights"})), "are not parts"),
    ("regularizer", "test_contract", lambda: Penalty({"blocks"}), "frozenset"),  # type: ignore[arg-type]
    ("regularizer", "test_value", Scalar, "never reduced over rows"),
    ("regularizer", "test_value", Negative, ">= 0"),
    ("regularizer", "test_value", Single, "float32"),
    ("regularizer", "test_gradient_is_finite", SteepAtZero, "mind sqrt"),
    ("regularizer", "test_gradient_is_finite", Logarithm, "mind sqrt"),
    ("regularizer", "test_reads_what_it_needs", ReadsBiases, "reads 'biases'"),
    ("regularizer", "test_reads_what_it_needs", ReadsEdgeGates, "reads 'edge_gates'"),
    ("regularizer", "test_reads_what_it_needs", lambda: Penalty(frozenset({"gates"})), "reads 'blocks'"),
    ("regularizer", "test_needs_are_enough", NeedsMoreThanItSays, "KeyError"),
    ("regularizer", "test_row_law", RelativeToThePack, "row law, row 0: .*value"),
    ("regularizer", "test_row_law", GradientOfThePack, "gradient of"),
    ("regularizer", "test_isolation", TouchesOthers, "isolation law: value differs"),
    ("regularizer", "test_isolation", RaisesOnNan, "raised"),
    ("regularizer", "test_control_flow_reads_no_data", LooksAtData, "compile law"),
    ("regularizer", "test_control_flow_reads_no_data", OnTheWrongDevice, "compile law"),
    ("regularizer", "test_changes_nothing", Overwrites, "its input"),
    ("regularizer", "test_changes_nothing", Remembers, "a second call"),
    ("regularizer", "test_norms", OtherNorms, "norms law: value differs"),
    ("regularizer", "test_shrinking", Shrinks, "is better"),
    ("regularizer", "test_shrinking", ShrinksByThePack, "row law of shrink"),
    ("regularizer", "test_shrinking", ShrinksBiases, "a part it does not need"),
    ("discretizer", "test_contract", lambda: Rounding(frozenset({"masks"})), "are not parts"),
    ("discretizer", "test_output_is_hard", HalfWay, "neither 0 nor 1"),
    ("discretizer", "test_output_is_hard", NanStays, "neither 0 nor 1"),
    ("discretizer", "test_output_is_hard", TwoChosen, "not one-hot"),
    ("discretizer", "test_output_is_hard", WrongShape, "has shape"),
    ("discretizer", "test_idempotent", TurnsRound, "idempotence law"),
    ("discretizer", "test_row_law", CutsAtThePacksMean, "row law, row"),
    ("discretizer", "test_row_law_with_data_of_its_own", CutsAtTheFirstOnesData, "data of its own"),
    ("discretizer", "test_row_law_with_weights", CutsAtTheFirstOnesWeights, "row law, sample weights, row"),
    ("discretizer", "test_isolation", CutsAtThePacksLoss, "isolation law: gates"),
    ("discretizer", "test_isolation", RefusesNan, "raised ValueError"),
    ("discretizer", "test_needs_are_enough", NeedsEigenvaluesToo, "KeyError"),
    ("discretizer", "test_scores_all_rows_at_once", OneByOne, r"packs of \[1, 2\] rows"),
    ("discretizer", "test_scores_all_rows_at_once", AsManyScoringsAsRows, "3 scorings for 2 rows, 7 for 6"),
    ("discretizer", "test_changes_nothing", InPlace, "its input"),
    ("discretizer", "test_certified", CertifiesOther, "certificate law, against the call"),
    ("discretizer", "test_certified", CertifiesTooFew, "3 for 4 networks"),
    ("discretizer", "test_certified", CertifiesWithoutWords, "needed verdict, a text"),
    ("discretizer", "test_certified", CertifiesNan, "not plain data"),
    ("discretizer", "test_certified", CertifiesTuples, "changes on its way"),
    ("schedule", "test_values_are_finite_numbers", endless, "inf at progress 1.0"),
    ("schedule", "test_values_are_finite_numbers", tensors, "a Tensor"),
    ("schedule", "test_progress_is_all_it_knows", ratchet, "no state"),
    ("task", "test_can_be_learned", changed(train=Split(REGRESSION.train.x, torch.zeros(1, 24))), "constant"),
    ("task", "test_can_be_learned", changed(test=Split(REGRESSION.test.x * math.nan, REGRESSION.test.y)), "not finite"),
    ("task", "test_shapes", changed(features=("x",)), "1 features for 3 inputs"),
    ("task", "test_shapes", changed(targets=("y", "z")), "2 targets, needed 1"),
    ("task", "test_shapes", changed(valid=Split(REGRESSION.valid.x.T, REGRESSION.valid.y)), "valid.x"),
    ("task", "test_shapes", changed(valid=Split(REGRESSION.valid.x, REGRESSION.valid.y[0])), "valid.y"),
    ("task", "test_shapes", changed(input_scale=torch.zeros(3)), "not positive"),
    ("task", "test_shapes", changed(input_shift=torch.zeros(1)), "input_shift"),
    ("task", "test_shapes", binary(train=REGRESSION.train), "labels other than"),
    ("task", "test_shapes", classes(test=Split(CLASSES.test.x, CLASSES.test.y.double())), "not long"),
    ("task", "test_shapes", classes(test=Split(CLASSES.test.x, CLASSES.test.y + 1)), "outside 0..2"),
    ("task", "test_loss_fits_the_kind", changed(loss=LOSSES["binary"]), "it is for"),
    ("task", "test_makes_the_same_digest", clock(), "two digests"),
    (
        "task",
        "test_splits_share_no_sample",
        changed(test=REGRESSION.train),
        "24 of 24 samples of test are",
    ),
    ("method", "test_architecture_names_parameters", WrongArchitecture, "alpha"),
    ("method", "test_contract", OldWay, r"'stochastic', .* write traits = Traits\(stochastic=...\)"),
    ("method", "test_contract", Misspelt, "'projekt', .* write project"),
    ("method", "test_contract", HoldsUnasked, "hold, and traits.holds is empty"),
    ("regularizer", "test_contract", ShrinksUnread, "'shrink', .* inherit nasplug.Proximal"),
    ("discretizer", "test_contract", CertifiesUnread, "'certifies', .* inherit nasplug.Certifying"),
    ("method", "test_init_leads_with_replicas", SharedLeaf, "no replica axis"),
    ("method", "test_init_leads_with_replicas", InfiniteLeaf, "not finite"),
    ("method", "test_seed_law", ByPosition, "another order"),
    ("method", "test_seed_law", OneGenerator, "the first 1 rows"),
    ("method", "test_seed_law", SeedIsIgnored, "two seeds gave the same"),
    ("method", "test_relax_makes_networks", relaxed(lambda n: replace(n, gates={1: 2.0 * n.gates[1]})), r"leaves \[0, 1\]"),
    ("method", "test_relax_makes_networks", relaxed(lambda n: replace(n, choices={1: 0.9 * n.choices[1]})), "simplex"),
    ("method", "test_relax_makes_networks", relaxed(without_an_input), "inputs and outputs"),
    ("method", "test_relax_makes_networks", relaxed(lambda n: replace(n, biases={1: n.biases[2]})), "has shape"),
    ("method", "test_relax_makes_networks", relaxed(lambda n: networks.take(n, torch.tensor([0, 1]))), "2 networks from 4"),
    ("method", "test_relax_changes_nothing", Writes, "purity law"),
    ("method", "test_relax_changes_nothing", FreshNoise, "a second call"),
    ("method", "test_holds", HoldsOther, "hold after relax"),
    ("method", "test_holds", HoldsStrangers, "are no parameters"),
    ("method", "test_forward", SamplesFirst, "forward law: shape"),
    ("method", "test_forward", CentresSharedInputs, "forward law, "),
    ("method", "test_direct_is_the_same_function", ForgetsBiases, "direct law"),
    ("method", "test_row_law", relaxed(spread_over_rows), "row law, row 0"),
    ("method", "test_row_law", ClippedOverRows, "row law, row 0"),
    ("method", "test_row_law_with_weights", ClippedOverRows, "row law, sample weights, row 0"),
    (
        "method",
        "test_isolation",
        relaxed(lambda n: replace(n, gates={1: n.gates[1] + 0.0 * n.gates[1].mean()})),
        "isolation law",
    ),
    ("method", "test_isolation", RaisesOnTheWay, "isolation law, a NaN row: raised"),
    ("method", "test_control_flow_reads_no_data", relaxed(looking), "compile law"),
    ("method", "test_export_law", Cancels, "as a module"),
]


@pytest.mark.parametrize(("kind", "law", "made", "reason"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_plugin_fails(kind: str, law: str, made: Callable[[], object], reason: str) -> None:
    toy = kit(kind, documented(made))
    with pytest.raises(AssertionError, match=reason):
        getattr(toy, law)()


# Laws that all kinds share, broken in every kind.


def undocumented(kind: str) -> Callable[..., object]:
    return lambda: LAWFUL[kind]()


def random(kind: str) -> object:
    """Components that draw from torch's global generator; at the call, or when they are made."""
    shift = float(torch.rand(()))
    return shifted(kind, shift)


def shifted(kind: str, shift: float) -> object:
    """Lawful but for a number that comes from somewhere else."""
    if kind == "regularizer":

        class More(Penalty):
            def __call__(self, nets: Networks) -> Tensor:
                return super().__call__(nets) + shift

        return More()
    if kind == "discretizer":

        class Elsewhere(Rounding):
            def gate(self, g: Tensor) -> Tensor:
                return (g * 1e4 * (1.0 + shift) % 1.0 >= 0.5).to(g.dtype)

        return Elsewhere()
    if kind == "schedule":
        return lambda progress: shift
    if kind == "activation":
        return lambda z: torch.tanh(z) + shift
    if kind == "task":
        return replace(REGRESSION, train=Split(REGRESSION.train.x, REGRESSION.train.y + shift))

    class Moved(Method):
        def draw(self, seeds: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
            return super().draw(seeds, name, shape) + shift

    return Moved()


@pytest.mark.parametrize("kind", KITS)
def test_without_a_docstring_a_plugin_fails(kind: str) -> None:
    with pytest.raises(AssertionError, match="no docstring"):
        kit(kind, undocumented(kind)).test_is_documented()


@pytest.mark.parametrize("kind", KITS)
@pytest.mark.parametrize(("options", "reason"), [({"at": {1, 2}}, "not plain data"), ({"at": (1, 2)}, "change on their way")])
def test_with_options_that_are_no_plain_data_a_plugin_fails(kind: str, options: object, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        kit(kind, documented(LAWFUL[kind]), options=options).test_options_are_plain_data()


@pytest.mark.parametrize("kind", KITS)
def test_a_plugin_that_draws_from_the_global_generator_fails(kind: str) -> None:
    with pytest.raises(AssertionError, match="global generator"):
        kit(kind, documented(lambda: random(kind))).test_rebuild()


@pytest.mark.parametrize("kind", KITS)
def test_a_plugin_that_differs_each_time_it_is_made_fails(kind: str) -> None:
    made = iter(range(1, 100))
    with pytest.raises(AssertionError, match="other tensors from the same options"):
        kit(kind, documented(lambda: shifted(kind, 0.1 * next(made)))).test_rebuild()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution whose toys differ from process to process, installed for this test and the processes it starts."""
    lines = ["import os", "from nasplug.hookspecs import hookimpl", "from test_testing import shifted"]
    for kind, hook in KINDS.items():
        lines += [
            f"def {kind}():",
            '    "A toy."',
            f"    return shifted({kind!r}, os.getpid() * 0.618034 % 1.0)",
            "@hookimpl",
            f"def {hook}(register):",
            f"    register('toy', {kind})",
        ]
    (tmp_path / "nasplug_toys.py").write_text("\n".join(lines) + "\n")
    record = tmp_path / "nasplug_toys-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: nasplug-toys\nVersion: 1\n")
    (record / "entry_points.txt").write_text("[nasplug]\ntoys = nasplug_toys\n")
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), here]))
    monkeypatch.setenv("NASPLUG_LOAD_PLUGINS", "nasplug-toys")
    monkeypatch.syspath_prepend(here)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("kind", KITS)
def test_a_plugin_that_depends_on_the_process_fails(kind: str) -> None:
    toy: Laws = type("Toy", (KITS[kind],), {"name": "toy"})()
    toy.test_rebuild()  # here it is always the same
    with pytest.raises(AssertionError, match="something else in a fresh process"):
        toy.test_rebuild_in_a_fresh_process()


@pytest.mark.slow
def test_a_plugin_that_is_not_installed_cannot_be_made_in_a_fresh_process() -> None:
    with pytest.raises(AssertionError, match=r"cannot be made in a fresh process(.|\n)*'toy' is not installed"):
        kit("schedule", documented(slope)).test_rebuild_in_a_fresh_process()


@pytest.mark.slow
def test_a_registered_component_is_the_same_in_a_fresh_process() -> None:
    toy: Laws = type("Toy", (ScheduleLaws,), {"name": "geometric", "options": {"start": 2.0, "end": 0.1}})()
    toy.test_rebuild_in_a_fresh_process()


@pytest.mark.slow
def test_a_lawful_method_runs_elsewhere() -> None:
    toy = kit("method", documented(Method))
    assert isinstance(toy, SearchMethodLaws)
    toy.test_export_law_in_other_runtimes()


@pytest.mark.slow
def test_an_activation_that_no_other_runtime_knows_fails() -> None:
    plugins = registry("method", documented(relaxed(lambda n: replace(n, choices={}, candidates=("bessel",)))))
    module = ModuleType("functions")
    setattr(module, KINDS["activation"], hookimpl(lambda register: register("bessel", lambda: torch.special.bessel_j0)))
    plugins.add(module, "functions", "nasplug-functions", "1")
    toy = kit("method", documented(Method), plugins=lambda self: plugins)
    assert isinstance(toy, SearchMethodLaws)
    toy.test_export_law()
    with pytest.raises(AssertionError, match="export law, ONNX"):
        toy.test_export_law_in_other_runtimes()


def test_every_law_has_been_seen_to_fail() -> None:
    shared = {"test_is_documented", "test_options_are_plain_data", "test_rebuild", "test_rebuild_in_a_fresh_process"}
    for kind in KITS:
        seen = {law for of, law, *_ in BROKEN if of == kind} | shared
        if kind == "method":
            seen |= {"test_export_law_in_other_runtimes"}
        if kind == "activation":
            seen |= {"test_contract"}  # one that is no function cannot even be registered
        assert seen == laws(kind), kind


# The examples.


def test_example_rows_depend_on_their_seed_alone() -> None:
    many, alone = example_networks(10, 5), example_networks(12, 1)
    assert torch.equal(many.blocks[1, 0][2], alone.blocks[1, 0][0])
    assert torch.equal(many.choices[1][2], alone.choices[1][0])


@pytest.mark.parametrize("part", ["biases", "gates", "edge_gates", "choices", "eigenvalues"])
def test_example_networks_have_the_parts_asked_for(part: str) -> None:
    nets = example_networks(0, 3, (3, 4, 2, 1), [part])
    nets.check()
    assert nets.parts == {"blocks", part}
    assert set(nets.blocks) == {(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}
    assert set(example_networks(0, 3, (3, 4, 2, 1), [part], skips=False).blocks) == {(1, 0), (2, 1), (3, 2)}


def test_example_networks_refuse_an_unknown_part() -> None:
    with pytest.raises(ConfigError, match="unknown parts"):
        example_networks(parts=["masks"])


def test_example_networks_are_as_soft_as_they_say() -> None:
    nets = example_networks(0, 50)
    for layer, choice in nets.choices.items():
        assert choice.shape[1] == (nets.widths[layer] if layer % 2 else 1)
        torch.testing.assert_close(choice.sum(-1), torch.ones_like(choice.sum(-1)))
    assert all(0.0 <= float(g.min()) < 0.1 < 0.9 < float(g.max()) <= 1.0 for g in nets.gates.values())
    assert example_networks(dtype=torch.float32).blocks[1, 0].dtype == torch.float32


def test_example_score_is_a_number_a_row() -> None:
    nets = example_networks(0, 4)
    score = example_score(nets.widths)
    alone = torch.cat([score(networks.take(nets, torch.tensor([k]))) for k in range(4)])
    torch.testing.assert_close(score(nets), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_example_tasks_are_lawful(kind: str) -> None:
    toy = kit("task", documented(lambda: example_task(kind)))  # type: ignore[arg-type]
    for law in sorted(laws("task") - SLOW):
        getattr(toy, law)()


def test_a_method_may_name_its_task() -> None:
    plugins = registry("method", documented(Method))
    module = ModuleType("tasks")

    def three(*, inputs: int) -> Task:
        """Three classes."""
        return example_task("classes", inputs=inputs)

    setattr(module, KINDS["task"], hookimpl(lambda register: register("three", three)))
    plugins.add(module, "tasks", "nasplug-tasks", "1")
    toy = kit("method", documented(Method), plugins=lambda self: plugins, task_options=("three", {"inputs": 5}))
    assert isinstance(toy, SearchMethodLaws)
    assert (toy.task().inputs, toy.task().outputs) == (5, 3)
    for law in sorted(laws("method") - SLOW):
        getattr(toy, law)()
    assert toy.fingerprint() != fingerprint("method", "toy", {}, plugins=plugins)
