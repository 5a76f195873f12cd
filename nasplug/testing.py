"""Conformance kits: the laws that every plugin keeps, first-party and strangers' alike, as test classes to inherit.

    from nasplug.testing import RegularizerLaws

    class TestMine(RegularizerLaws):
        name = "mine"                  # as registered
        options = {"sharpness": 3.0}   # as in a config

One class a set of options; regularizers and discretizers may set ``widths`` (skeletons that fit), methods ``task_options``.
pytest collects the laws through the subclass. A law is a plain method that raises `AssertionError` with the reason; nothing
needs a fixture. Laws that start a process are marked ``slow``: register that marker in your own pytest configuration.
Everything is in float64, where a pack and its rows alone agree to 1e-10.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from torch import Tensor

from nasplug import networks
from nasplug.compact import compact, export, load, save
from nasplug.contracts import (
    Certifying,
    Discretizer,
    Holding,
    Params,
    Projected,
    Proximal,
    Regularizer,
    Schedule,
    Score,
    SearchMethod,
)
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import PARTS, Edge, Networks
from nasplug.optimizers import Adam
from nasplug.plugins import Plugins, load_plugins
from nasplug.replicas import normal, uniform
from nasplug.schedules import tabulate
from nasplug.stems import Convolution, Stem, drawn
from nasplug.stems import parts as stem_parts
from nasplug.tasks import Kind, Split, Task, stack, unscaled

__all__ = [
    "ActivationLaws",
    "DiscretizerLaws",
    "Laws",
    "RegularizerLaws",
    "ScheduleLaws",
    "SearchMethodLaws",
    "TaskLaws",
    "example_networks",
    "example_score",
    "example_task",
    "fingerprint",
]

SKELETONS = ((3, 4, 1), (2, 3, 4, 2))
"""Widths the kits try: one hidden layer and one output; two hidden layers and two outputs (with skips)."""

CANDIDATES = ("tanh", "relu", "identity")
Made = TypeVar("Made")

ALWAYS = frozenset({"blocks", "biases"})
HARD = ("gates", "edge_gates", "choices")
TOLERANCE = 1e-10
EXPORTED = 1e-5


# Examples: random networks, a score and tasks, each a pure function of plain data.


def example_networks(
    seed: int = 0,
    k: int = 5,
    widths: tuple[int, ...] = SKELETONS[1],
    parts: Iterable[str] = PARTS,
    *,
    skips: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Networks:
    """Random soft networks with exactly these parts (blocks always): row j depends on ``seed + j`` alone.

    Weights and biases are normal, gates and edge gates uniform in [0, 1], eigenvalues normal on all layers 0..D. Choices
    are uniform points of the simplex, one a neuron in odd layers and one a layer in even ones, over three candidates.
    ``skips`` joins every pair of layers, else only neighbours. With ``kernels`` or ``kernel_biases`` they have a stem, 2 and 1
    channels on images of one row, which leaves as many features as there are inputs.

    Raises:
        ConfigError: for a part that is not in `nasplug.networks.PARTS`.
    """
    wanted = frozenset(parts) | {"blocks"}
    if unknown := wanted - set(PARTS):
        raise ConfigError(f"example_networks: unknown parts {sorted(unknown)}; known: {', '.join(PARTS)}")
    seeds = torch.arange(seed, seed + k)
    depth = len(widths) - 1
    edges = [(to, source) for to in range(1, depth + 1) for source in range(to) if skips or source == to - 1]

    def gaussian(name: str, *shape: int) -> Tensor:
        return normal(seeds, name, shape).to(dtype)

    def unit(name: str, *shape: int) -> Tensor:
        return uniform(seeds, name, shape).to(dtype)

    def simplex(layer: int) -> Tensor:
        rows = widths[layer] if layer % 2 else 1
        share = -torch.log1p(-uniform(seeds, f"choices/{layer}", (rows, len(CANDIDATES))))  # exponential, then normalised
        return (share / share.sum(-1, keepdim=True)).to(dtype)

    hidden = range(1, depth)
    stem = Stem(
        image=(1, 1, widths[0]), layers=tuple(Convolution(channels=n, kernel=(1, 3), activation="tanh") for n in (2, 1))
    )
    stem_of = {name: leaf.to(dtype) for name, leaf in drawn(stem, seeds).items()}
    return Networks(
        widths=tuple(widths),
        blocks={(to, source): gaussian(f"block/{to}/{source}", widths[to], widths[source]) for to, source in edges},
        biases={layer: gaussian(f"bias/{layer}", widths[layer]) for layer in range(1, depth + 1)} if "biases" in wanted else {},
        gates={layer: unit(f"gate/{layer}", widths[layer]) for layer in hidden} if "gates" in wanted else {},
        edge_gates={(to, source): unit(f"edge_gate/{to}/{source}", widths[to], widths[source]) for to, source in edges}
        if "edge_gates" in wanted
        else {},
        choices={layer: simplex(layer) for layer in hidden} if "choices" in wanted else {},
        eigenvalues={layer: gaussian(f"eigenvalue/{layer}", widths[layer]) for layer in range(depth + 1)}
        if "eigenvalues" in wanted
        else {},
        candidates=CANDIDATES if "choices" in wanted else CANDIDATES[:1],
        **(stem_parts(stem, stem_of) if wanted & {"kernels", "kernel_biases"} else {}),
    )


@dataclass(frozen=True, slots=True)
class ExampleScore:
    """The validation loss of networks on a task, whatever their type."""

    task: Task

    def take(self, index: Tensor) -> Score:
        """Of the networks at ``index``."""
        return ExampleScore(self.task.take(index))

    def __call__(self, nets: Networks) -> Tensor:
        """``(K,)``."""
        like = next(iter(nets.blocks.values()))
        valid = self.task.valid
        return self.task.losses(networks.forward(nets, valid.x.to(like)), valid.y.to(like))


def example_score(widths: tuple[int, ...], samples: int = 16, seed: int = 0) -> Score:
    """A score for networks of these widths: mean squared distance to ``sin(2 x_1 + output)`` at the points of ``seed``.

    Its ``task`` has twice as many training samples.
    """

    def split(seed: int, samples: int) -> Split:
        x = uniform(torch.tensor([seed]), "probe", (widths[0], samples), -1.0, 1.0)[0]  # (I, B)
        return Split(x, torch.sin(2.0 * x[:1] + torch.arange(widths[-1]).unsqueeze(1)))  # (O, B)

    train, valid, test = (split(number + 100 * seed, size) for number, size in ((8, 2 * samples), (7, samples), (9, samples)))
    return ExampleScore(unscaled("example score", (train, valid, test), source="nasplug.testing"))


def example_task(kind: Kind = "regression", *, seed: int = 0, inputs: int = 3, samples: int = 24) -> Task:
    """A small task of that kind in float64: regression of one target, one logit, or three classes; inputs in [-1, 1]."""

    def split(number: int) -> Split:
        x = uniform(torch.tensor([seed]), f"split/{number}", (inputs, samples), -1.0, 1.0)[0]  # (I, N)
        value = torch.sin(2.0 * x[:1]) + x.square().mean(0, keepdim=True)  # (1, N)
        if kind == "regression":
            return Split(x, value)
        if kind == "binary":
            return Split(x, (value > 0.3).double())
        return Split(x, ((value > -0.2).long() + (value > 0.8).long())[0])

    train, valid, test = (split(number) for number in range(3))
    names: dict[Kind, tuple[str, ...]] = {"regression": ("y",), "binary": ("no", "yes"), "classes": ("low", "middle", "high")}
    return unscaled(f"example {kind}", (train, valid, test), kind=kind, targets=names[kind], source="nasplug.testing")


# What the laws compare.


def _tensors(nets: Networks) -> dict[str, Tensor]:
    """Every tensor of a record by name."""
    return {f"{part}[{key}]": tensor for part in PARTS for key, tensor in getattr(nets, part).items()}


def _hard(nets: Networks) -> Networks:
    """The record with every gate exactly 0 or 1 and choices one-hot."""
    return networks.harden(nets)


def _filled(nets: Networks, value: float) -> Networks:
    """Every number the same, choices one-hot (a simplex has no point 0): where norms and roots have their corners."""
    return replace(nets.map(lambda t: torch.full_like(t, value)), choices=_hard(nets).choices)


def _row(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """One row, still with its replica axis; a zero-dimensional tensor belongs to the pack."""
    return {name: t[index : index + 1] if t.dim() else t for name, t in tensors.items()}


def _others(tensors: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """All rows but one."""
    return {name: torch.cat([t[:index], t[index + 1 :]]) for name, t in tensors.items() if t.dim()}


def _spoiled(tensor: Tensor, row: int) -> Tensor:
    """A copy whose row is NaN."""
    copy = tensor.clone()
    copy[row] = torch.nan
    return copy


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], law: str, tolerance: float = 0.0) -> None:
    """Fail with the law's words where two sets of tensors differ (bitwise unless a tolerance is given; NaN equals NaN)."""
    assert set(found) == set(wanted), f"{law}: has {sorted(found)}, the other one {sorted(wanted)}"
    for name, tensor in found.items():
        try:
            torch.testing.assert_close(tensor, wanted[name], rtol=tolerance, atol=tolerance, equal_nan=True)
        except AssertionError as error:
            raise AssertionError(f"{law}: {name} differs. {error}") from None


def _fits(nets: Networks, law: str) -> None:
    """Fail where a record does not fit itself."""
    try:
        nets.check()
    except ContractError as error:
        raise AssertionError(f"{law}: {error}") from error


def _equal(one: Tensor, other: Tensor) -> bool:
    """Bitwise, where NaN equals NaN."""
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _calm(law: str, work: Callable[..., Made], *args: Any) -> Made:
    """The result of ``work``; what torch raises on NaN, or without data to look at, becomes a broken law."""
    try:
        return work(*args)
    except (RuntimeError, NotImplementedError, ValueError, IndexError, ArithmeticError) as error:
        raise AssertionError(f"{law}: raised {type(error).__name__}: {error}") from error


def _gradients(values: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of ``values.sum()``; zeros for a leaf that is not read."""
    if not values.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(values.sum(), list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(leaves.items(), found, strict=True)}


def _with_gradients(function: Callable[[Networks], Tensor], nets: Networks) -> dict[str, Tensor]:
    """The value of each network, ``value``, and the gradient in every tensor."""
    leaves = nets.map(lambda t: t.detach().clone().requires_grad_())
    value = function(leaves)
    return {"value": value.detach(), **{f"gradient of {n}": g for n, g in _gradients(value, _tensors(leaves)).items()}}


@dataclass(frozen=True, slots=True)
class _Forbidden(Mapping[Any, Tensor]):
    """A part that was not declared: any look at it fails."""

    part: str
    declared: frozenset[str]

    def _refuse(self) -> AssertionError:
        return AssertionError(
            f"needs law: reads {self.part!r} but declares needs = {sorted(self.declared)}; declare it, or read "
            "effective weights with nets.block(edge)"
        )

    def __getitem__(self, key: Any) -> Tensor:
        raise self._refuse()

    def __iter__(self) -> Iterator[Any]:
        raise self._refuse()

    def __len__(self) -> int:
        raise self._refuse()


@dataclass(frozen=True, slots=True)
class _Declared(Networks):
    """Networks that show the declared parts alone. Who declares blocks may read them gated: ``block`` is their meaning."""

    whole: Networks | None = field(default=None, kw_only=True)

    @property
    def replicas(self) -> int:
        """K: how many there are is no secret."""
        return self._whole.replicas

    @property
    def parts(self) -> frozenset[str]:
        """Which parts there are is none either."""
        return self._whole.parts

    @property
    def _whole(self) -> Networks:
        assert self.whole is not None, "made by _declared alone"
        return self.whole

    def block(self, edge: Edge) -> Tensor:
        """Effective weights, if blocks are declared."""
        return self.blocks[edge] if isinstance(self.blocks, _Forbidden) else self._whole.block(edge)


def _declared(nets: Networks, needs: frozenset[str]) -> Networks:
    """``nets`` with every part outside ``needs`` poisoned."""
    shown: dict[str, Any] = {part: getattr(nets, part) if part in needs else _Forbidden(part, needs) for part in PARTS}
    return _Declared(widths=nets.widths, candidates=nets.candidates, stem=nets.stem, whole=nets, **shown)


# The rebuild law: what a component makes of the examples, as a digest.


def fingerprint(
    kind: str,
    name: str,
    options: Mapping[str, Any],
    *,
    widths: Sequence[Sequence[int]] = SKELETONS,
    task: tuple[str, Mapping[str, Any]] | None = None,
    plugins: Plugins | None = None,
) -> str:
    """SHA-256 of the tensors that a component, rebuilt from plain data, makes of the examples.

    The same in any process on one machine. ``kind`` as in `nasplug.plugins.KINDS`; ``widths`` for regularizers and
    discretizers that fit some skeletons only; ``task`` (a registered name and its options) for search methods that cannot
    learn `example_task`.
    """
    registry = load_plugins() if plugins is None else plugins
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as packs compute: products on several threads may round differently from run to run
    try:
        tensors = _made(registry, registry.build(kind, name, options), kind, widths, task)
    finally:
        torch.set_num_threads(threads)
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _made(
    registry: Plugins,
    component: Any,
    kind: str,
    widths: Sequence[Sequence[int]],
    task: tuple[str, Mapping[str, Any]] | None,
) -> dict[str, Tensor]:
    if kind == "regularizer":
        return _made_by_regularizer(component, widths)
    if kind == "discretizer":
        return _made_by_discretizer(component, widths)
    if kind == "method":
        return _made_by_method(component, example_task() if task is None else registry.build("task", *task))
    if kind == "task":
        return _made_by_task(component)
    if kind == "activation":
        return {"values": component(_probe())}
    return {"table": tabulate([component], 11)}


def _probe() -> Tensor:
    return torch.linspace(-10.0, 10.0, 42, dtype=torch.float64).view(2, 3, 7)


def _made_by_regularizer(component: Regularizer, skeletons: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    return {str(tuple(widths)): component(example_networks(0, 3, tuple(widths))) for widths in skeletons}


def _made_by_discretizer(component: Discretizer, skeletons: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    made = {}
    for widths in map(tuple, skeletons):
        hard = component(example_networks(0, 3, widths, component.needs | ALWAYS), example_score(widths))
        made.update({f"{widths} {name}": tensor for name, tensor in _tensors(hard).items()})
    return made


def _made_by_task(component: Task) -> dict[str, Tensor]:
    splits = {"train": component.train, "valid": component.valid, "test": component.test}
    return {f"{name}.{part}": getattr(split, part) for name, split in splits.items() for part in ("x", "y")}


def _made_by_method(component: SearchMethod, task: Task) -> dict[str, Tensor]:
    seeds = torch.tensor([3, 1, 4])
    params = component.init(task, seeds)
    nets = component.relax(params, torch.full((3,), 0.5), seeds)
    return {**params, **_tensors(nets)}


class Laws:
    """What holds for every kind; inherit from one of the kits below instead."""

    kind: ClassVar[str]
    name: ClassVar[str]
    """The registered name."""
    options: ClassVar[Mapping[str, Any]] = {}
    """As they would stand in a config: plain data."""

    def plugins(self) -> Plugins:
        """The registry: everything installed. Override it to test a plugin that is not."""
        return load_plugins()

    def component(self) -> Any:
        """A fresh component, made as a study makes it."""
        return self.plugins().build(self.kind, self.name, self.options)

    def setting(self) -> dict[str, Any]:
        """What `fingerprint` is told besides kind, name and options: plain data."""
        return {}

    def fingerprint(self) -> str:
        """What the component makes of the examples."""
        return fingerprint(self.kind, self.name, self.options, plugins=self.plugins(), **self.setting())

    def test_is_documented(self) -> None:
        """The factory's docstring has a first line: `nasplug plugins` shows it."""
        summary = self.plugins().offer(self.kind, self.name).summary
        assert summary.strip(), f"{self.kind} {self.name!r}: its factory has no docstring to show"

    def test_options_are_plain_data(self) -> None:
        """Options survive JSON: only plain data crosses a process border."""
        try:
            back = json.loads(json.dumps(self.options))
        except TypeError as error:
            raise AssertionError(f"options of {self.name!r} are not plain data: {error}") from error
        assert back == dict(self.options), f"options of {self.name!r} change on their way through JSON: {back}"

    def test_rebuild(self) -> None:
        """Made twice from the same options it does the same, whatever the global random state; and it leaves that alone."""
        found = []
        with torch.random.fork_rng(devices=[]):
            for seed in (1, 2):
                torch.manual_seed(seed)
                before = torch.get_rng_state()
                found.append(self.fingerprint())
                assert torch.equal(before, torch.get_rng_state()), (
                    f"rebuild law: {self.name!r} draws from torch's global generator; use nasplug.replicas.uniform or normal"
                )
        assert found[0] == found[1], f"rebuild law: {self.name!r} made other tensors from the same options the second time"

    def test_rebuild_in_a_fresh_process(self) -> None:
        """Made in a fresh process from plain data, it does what it does here."""
        code = "import json, sys; from nasplug.testing import fingerprint; print(fingerprint(**json.loads(sys.argv[1])))"
        given = json.dumps({"kind": self.kind, "name": self.name, "options": self.options, **self.setting()})
        done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"rebuild law: {self.name!r} cannot be made in a fresh process:\n{done.stderr}"
        assert done.stdout.strip() == self.fingerprint(), f"rebuild law: {self.name!r} does something else in a fresh process"


class ActivationLaws(Laws):
    """For an activation: elementwise, finite, and the same in any process."""

    kind = "activation"

    def test_elementwise(self) -> None:
        """Each value depends on its own argument alone; shape and type stay."""
        function, z = self.component(), _probe()
        for dtype in (torch.float32, torch.float64):
            values = function(z.to(dtype))
            assert values.shape == z.shape, f"elementwise law: shape {tuple(z.shape)} became {tuple(values.shape)}"
            assert values.dtype == dtype, f"elementwise law: {dtype} became {values.dtype}"
        alone = torch.stack([function(one.view(1))[0] for one in z.flatten()]).view(z.shape)
        _same({"values": function(z)}, {"values": alone}, "elementwise law", TOLERANCE)

    def test_finite(self) -> None:
        """Values and slopes are finite between -10 and 10."""
        z = _probe().requires_grad_()
        values = self.component()(z)
        assert bool(torch.isfinite(values).all()), "finite law: a value is not finite between -10 and 10"
        slopes = _gradients(values, {"z": z})["z"]
        assert bool(torch.isfinite(slopes).all()), "finite law: a slope is not finite between -10 and 10"

    def test_control_flow_reads_no_data(self) -> None:
        """It runs without data (torch's meta device): compile-safe."""
        values = _calm("compile law, tensors without data", self.component(), _probe().to("meta"))
        assert values.device.type == "meta", f"compile law: an argument on 'meta' gave a value on {values.device}"


class _NeedsLaws(Laws):
    """What regularizers and discretizers share: they declare what they read."""

    widths: ClassVar[tuple[tuple[int, ...], ...]] = SKELETONS
    """Skeletons to try; override it for a component that fits some only."""

    def setting(self) -> dict[str, Any]:
        """The skeletons."""
        return {"widths": self.widths}

    def examples(self, k: int = 4) -> list[Networks]:
        """Soft networks for each skeleton: with every part, and with no more than declared (plus blocks and biases)."""
        needs = self.component().needs
        return [
            example_networks(11 * number, k, widths, parts)
            for number, widths in enumerate(self.widths)
            for parts in (PARTS, needs | ALWAYS)
        ]

    def test_needs_are_parts(self) -> None:
        """``needs`` is a frozenset of names in `nasplug.networks.PARTS`."""
        needs = self.component().needs
        assert isinstance(needs, frozenset), f"needs law: needs is a {type(needs).__name__}; write frozenset({{...}})"
        assert needs <= set(PARTS), f"needs law: {sorted(needs - set(PARTS))} are no parts; parts are {PARTS}"


class RegularizerLaws(_NeedsLaws):
    """Laws of a `nasplug.contracts.Regularizer`."""

    kind = "regularizer"

    def component(self) -> Regularizer:
        """A fresh regularizer."""
        made: Regularizer = super().component()
        return made

    def corners(self) -> list[Networks]:
        """Soft examples, hard ones, and ones with every number 0, 1/2 or 1: where roots, norms and logarithms break."""
        return [
            corner
            for nets in self.examples()
            for corner in (nets, _hard(nets), _filled(nets, 0.0), _filled(nets, 0.5), _filled(nets, 1.0))
        ]

    def test_value(self) -> None:
        """The value is ``(K,)``, in the networks' type, finite and at least 0."""
        component = self.component()
        for nets in self.corners():
            value = component(nets)
            like = next(iter(nets.blocks.values()))
            assert tuple(value.shape) == (nets.replicas,), (
                f"value law: shape {tuple(value.shape)} for K={nets.replicas}; a penalty is (K,), never reduced over rows"
            )
            assert value.dtype == like.dtype, f"value law: {value.dtype} from networks in {like.dtype}"
            assert bool((torch.isfinite(value) & (value >= 0)).all()), f"value law: {value.tolist()}; needed: finite and >= 0"

    def test_gradient_is_finite(self) -> None:
        """Gradients are finite, also at exact zeros and at hard gates."""
        for nets in self.corners():
            for name, gradient in _with_gradients(self.component(), nets).items():
                assert bool(torch.isfinite(gradient).all()), (
                    f"gradient law: {name} is not finite at networks whose blocks are like "
                    f"{next(iter(nets.blocks.values())).flatten()[0]:.3g}; mind sqrt, norm and log at 0"
                )

    def test_reads_what_it_needs(self) -> None:
        """It reads no part that it does not declare (effective weights belong to ``blocks``)."""
        component = self.component()
        for nets in self.examples():
            component(_declared(nets, component.needs))

    def test_needs_are_enough(self) -> None:
        """Networks with the declared parts and no others (blocks always exist) give a value."""
        component = self.component()
        for widths in self.widths:
            nets = example_networks(5, 2, widths, component.needs)
            try:
                component(nets)
            except (KeyError, RuntimeError, IndexError) as error:
                raise AssertionError(
                    f"needs law: with {sorted(component.needs)} alone it raised {type(error).__name__}: {error}"
                ) from error

    def test_row_law(self) -> None:
        """A pack's values and gradients are its rows' alone."""
        component = self.component()
        for nets in self.examples():
            pack = _with_gradients(component, nets)
            for k in range(nets.replicas):
                alone = _with_gradients(component, networks.take(nets, torch.tensor([k])))
                _same(_row(pack, k), alone, f"row law, row {k}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row that is NaN leaves the values and gradients of the others as they are, bit by bit."""
        component = self.component()
        for nets in self.examples():
            clean = _with_gradients(component, nets)
            broken = nets.map(lambda t: _spoiled(t, 1))
            dirty = _calm("isolation law, a NaN row", _with_gradients, component, broken)
            _same(_others(dirty, 1), _others(clean, 1), "isolation law")

    def test_control_flow_reads_no_data(self) -> None:
        """It runs without data (torch's meta device): compile-safe, and on the device of its networks."""
        component = self.component()
        for nets in self.examples():
            empty = nets.map(lambda t: t.to("meta"))
            value = _calm("compile law, tensors without data", component, empty)
            assert value.device.type == "meta", f"compile law: networks on 'meta' gave a value on {value.device}"

    def test_changes_nothing(self) -> None:
        """Called twice it says the same, and the networks stay as they were."""
        component = self.component()
        for nets in self.examples():
            before = nets.map(torch.clone)
            first, second = component(nets), component(nets)
            _same(_tensors(nets), _tensors(before), "purity law, its input")
            _same({"value": second}, {"value": first}, "purity law, a second call")

    def test_shrinking(self) -> None:
        """`Proximal` alone: ``shrink`` moves only what it needs, row by row, and no small move from its result is better."""
        component = self.component()
        if not isinstance(component, Proximal):
            return
        for nets in self.corners():
            amount = torch.linspace(0.0, 2.0, nets.replicas, dtype=torch.float64)  # row 0 stays where it is
            before, shrunk = _tensors(nets), component.shrink(nets, amount)
            after = _tensors(shrunk)
            kept = {n: t for n, t in before.items() if n.split("[")[0] not in component.needs}
            _same({n: after[n] for n in kept}, kept, "proximal law, a part it does not need")
            _same(_row(after, 0), _row(before, 0), "proximal law, amount 0", TOLERANCE)
            for k in range(nets.replicas):
                alone = component.shrink(networks.take(nets, torch.tensor([k])), amount[k : k + 1])
                _same(_tensors(alone), _row(after, k), f"row law of shrink, row {k}", TOLERANCE)
            broken = _tensors(_calm("isolation law, a NaN row", component.shrink, nets.map(lambda t: _spoiled(t, 1)), amount))
            _same(_others(broken, 1), _others(after, 1), "isolation law of shrink")

            def cost(some: Networks, before: Mapping[str, Tensor] = before, amount: Tensor = amount) -> Tensor:
                moved = [(t - before[n]).square().flatten(1).sum(1) / 2 for n, t in _tensors(some).items()]
                value: Tensor = torch.stack(moved).sum(0) + amount * component(some)
                return value

            generator = torch.Generator().manual_seed(0)
            for scale in (1e-3, 1e-1, 1.0):
                near = shrunk.map(
                    lambda t, scale=scale, generator=generator: (
                        t  # type: ignore[misc]
                        + scale * torch.randn(t.shape, dtype=t.dtype, generator=generator)
                    )
                )
                worse = cost(near) >= cost(shrunk) - 1e-12
                assert bool(worse.all()), f"proximal law: a move of {scale} from the result of shrink is better"


@dataclass(frozen=True, slots=True)
class _Watched:
    """A score that writes down how many networks it was asked about."""

    score: Score
    asked: list[int]

    @property
    def task(self) -> Task:
        return self.score.task

    def take(self, index: Tensor) -> Score:
        return _Watched(self.score.take(index), self.asked)

    def __call__(self, nets: Networks) -> Tensor:
        self.asked.append(nets.replicas)
        return self.score(nets)


class DiscretizerLaws(_NeedsLaws):
    """Laws of a `nasplug.contracts.Discretizer`."""

    kind = "discretizer"

    def component(self) -> Discretizer:
        """A fresh discretizer."""
        made: Discretizer = super().component()
        return made

    def score(self, nets: Networks) -> Score:
        """The validation loss for these networks: a function of each row alone."""
        return example_score(nets.widths)

    def broken(self, nets: Networks, row: int) -> list[Networks]:
        """The networks with one row broken: all NaN, a NaN weight, and weights so large that its loss overflows."""
        edge = next(iter(nets.blocks))
        one = nets.blocks[edge].clone()
        one[row, 0, 0] = torch.nan
        huge = {e: w.clone() for e, w in nets.blocks.items()}
        for w in huge.values():
            w[row] *= 1e200
        return [
            nets.map(lambda t: _spoiled(t, row)),
            replace(nets, blocks={**nets.blocks, edge: one}),
            replace(nets, blocks=huge),
        ]

    def _touched(self, before: Networks, after: Networks) -> dict[str, Tensor]:
        """Gates and choices that it needs, made or changed."""
        needs = self.component().needs
        old = _tensors(before)
        return {
            name: tensor
            for name, tensor in _tensors(after).items()
            if (part := name.split("[")[0]) in HARD and (part in needs or name not in old or not _equal(old[name], tensor))
        }

    def test_output_is_hard(self) -> None:
        """Gates it touches are exactly 0 or 1 and choices one-hot, in broken rows too; the record fits its skeleton."""
        component = self.component()
        for nets in self.examples():
            for case in (nets, _filled(nets, 0.5), *self.broken(nets, 1)):
                after = _calm("discretizer law", component, case, self.score(case))
                _fits(after, "discretizer law")
                assert after.widths == nets.widths, f"discretizer law: widths {nets.widths} became {after.widths}"
                for name, tensor in self._touched(case, after).items():
                    hard = (tensor == 0) | (tensor == 1)
                    assert bool(hard.all()), f"discretizer law: {name} has entries that are neither 0 nor 1"
                    if name.startswith("choices"):
                        assert bool((tensor.sum(-1) == 1).all()), f"discretizer law: {name} is not one-hot"

    def test_idempotent(self) -> None:
        """Running it twice changes nothing more."""
        component = self.component()
        for nets in self.examples():
            for case in (nets, *self.broken(nets, 1)):
                once = component(case, self.score(case))
                twice = component(once, self.score(case))
                _same(_tensors(twice), _tensors(once), "idempotence law")

    def test_row_law(self) -> None:
        """A pack's result is its rows' alone."""
        component = self.component()
        for nets in self.examples():
            pack = _tensors(component(nets, self.score(nets)))
            for k in range(nets.replicas):
                alone = component(networks.take(nets, torch.tensor([k])), self.score(nets))
                _same(_row(pack, k), _tensors(alone), f"row law, row {k}", TOLERANCE)

    def test_row_law_with_data_of_its_own(self) -> None:
        """So it is where each network has its own data, ``x (K, I, N)``; subsets of rows are scored by ``score.take``."""
        component = self.component()
        for nets in self.examples():
            k = nets.replicas
            own = ExampleScore(stack([example_score(nets.widths, seed=row).task for row in range(k)], range(k)))
            pack = _tensors(_calm("row law, data of its own", component, nets, own))
            for row in range(k):
                alone = component(networks.take(nets, torch.tensor([row])), own.take(torch.tensor([row])))
                _same(_row(pack, row), _tensors(alone), f"row law, data of its own, row {row}", TOLERANCE)
                shared = component(networks.take(nets, torch.tensor([row])), example_score(nets.widths, seed=row))
                _same(_tensors(alone), _tensors(shared), f"row law, data of its own against shared data, row {row}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row with weights or a loss that are not finite raises nothing and leaves the others as they are, bit by bit."""
        component = self.component()
        for nets in self.examples():
            clean = _tensors(component(nets, self.score(nets)))
            for case in self.broken(nets, 1):
                dirty = _calm("isolation law, a broken row", component, case, self.score(case))
                _same(_others(_tensors(dirty), 1), _others(clean, 1), "isolation law")

    def test_certified(self) -> None:
        """`Certifying` alone: ``certified`` makes what the call makes, and says of each network a verdict in plain data."""
        component = self.component()
        if not isinstance(component, Certifying):
            return
        for nets in self.examples():
            for case in (nets, *self.broken(nets, 1)):
                after, found = _calm("certificate law", component.certified, case, self.score(case))
                _same(_tensors(after), _tensors(component(case, self.score(case))), "certificate law, against the call")
                assert len(found) == nets.replicas, f"certificate law: {len(found)} for {nets.replicas} networks"
                for one in found:
                    wanted = isinstance(one.get("verdict"), str) and isinstance(one.get("sites"), list)
                    assert wanted, f"certificate law: needed verdict, a text, and sites, a list; it has {sorted(one)}"
                    try:
                        back = json.loads(json.dumps(one, allow_nan=False))
                    except (TypeError, ValueError) as error:
                        raise AssertionError(f"certificate law: not plain data: {error}") from error
                    assert back == one, "certificate law: it changes on its way through JSON"

    def test_needs_are_enough(self) -> None:
        """Networks with the declared parts and no others (blocks always exist) can be made hard."""
        component = self.component()
        for widths in self.widths:
            nets = example_networks(5, 2, widths, component.needs)
            try:
                component(nets, self.score(nets))
            except (KeyError, RuntimeError, IndexError) as error:
                raise AssertionError(
                    f"needs law: with {sorted(component.needs)} alone it raised {type(error).__name__}: {error}"
                ) from error

    def test_scores_all_rows_at_once(self) -> None:
        """Every scoring takes the whole pack, and six equal rows need no more of them than two."""
        component = self.component()
        for nets in self.examples():
            counts = {}
            for k in (2, 6):
                asked: list[int] = []
                score = self.score(nets)

                component(networks.take(nets, torch.zeros(k, dtype=torch.long)), _Watched(score, asked))
                assert set(asked) <= {k}, f"one-program law: scored packs of {sorted(set(asked))} rows out of {k}"
                counts[k] = len(asked)
            assert counts[2] == counts[6], f"one-program law: {counts[2]} scorings for 2 rows, {counts[6]} for 6 equal ones"

    def test_changes_nothing(self) -> None:
        """The networks that are given stay as they were."""
        component = self.component()
        for nets in self.examples():
            before = nets.map(torch.clone)
            component(nets, self.score(nets))
            _same(_tensors(nets), _tensors(before), "purity law, its input")


class ScheduleLaws(Laws):
    """Laws of a `nasplug.contracts.Schedule`."""

    kind = "schedule"

    def component(self) -> Schedule:
        """A fresh schedule."""
        made: Schedule = super().component()
        return made

    def test_values_are_finite_numbers(self) -> None:
        """A finite plain number for every progress in [0, 1], both ends included."""
        schedule = self.component()
        for step in range(101):
            value = schedule(step / 100)
            assert isinstance(value, (int, float)), f"value law: a {type(value).__name__} at progress {step / 100}"
            assert math.isfinite(value), f"value law: {value} at progress {step / 100}"

    def test_progress_is_all_it_knows(self) -> None:
        """The value depends on progress alone: not on the order, nor on what was asked before."""
        schedule = self.component()
        forwards = [schedule(step / 20) for step in range(21)]
        backwards = [schedule(step / 20) for step in reversed(range(21))][::-1]
        assert forwards == backwards, "purity law: asked backwards it says something else; it must keep no state"


class TaskLaws(Laws):
    """Laws of a factory of `nasplug.tasks.Task`."""

    kind = "task"

    def component(self) -> Task:
        """The task, made afresh."""
        made: Task = super().component()
        return made

    def test_can_be_learned(self) -> None:
        """`Task.check` has nothing to say: no empty split, all numbers finite, a target that varies."""
        try:
            self.component().check()
        except ConfigError as error:
            raise AssertionError(f"task law: {error}") from error

    def test_shapes(self) -> None:
        """Samples are columns; names, shifts and scales are as many as inputs and outputs; scales are positive."""
        task = self.component()
        targets = {"regression": task.outputs, "binary": 2, "classes": task.outputs}[task.kind]
        if task.kind == "binary":
            assert task.outputs == 1, f"task law: a binary task has one output, not {task.outputs}"
        assert len(task.features) == task.inputs, f"task law: {len(task.features)} features for {task.inputs} inputs"
        assert len(task.targets) == targets, f"task law: {len(task.targets)} targets, needed {targets}"
        for name, split in (("train", task.train), ("valid", task.valid), ("test", task.test)):
            assert split.x.is_floating_point(), f"task law: {name}.x is {split.x.dtype}"
            assert tuple(split.x.shape) == (task.inputs, split.samples), f"task law: {name}.x is {tuple(split.x.shape)}"
            if task.kind == "classes":
                assert split.y.dtype == torch.long, f"task law: {name}.y holds classes and is {split.y.dtype}, not long"
                assert tuple(split.y.shape) == (split.samples,), f"task law: {name}.y is {tuple(split.y.shape)}"
                inside = (split.y >= 0) & (split.y < task.outputs)
                assert bool(inside.all()), f"task law: {name}.y has classes outside 0..{task.outputs - 1}"
            else:
                assert split.y.is_floating_point(), f"task law: {name}.y is {split.y.dtype}"
                wanted = (task.outputs, split.samples)
                assert tuple(split.y.shape) == wanted, f"task law: {name}.y is {tuple(split.y.shape)}, needed {wanted}"
            if task.kind == "binary":
                assert bool(((split.y == 0) | (split.y == 1)).all()), f"task law: {name}.y has labels other than 0 and 1"
        for what, tensor, size in (
            ("input_shift", task.input_shift, task.inputs),
            ("input_scale", task.input_scale, task.inputs),
            ("output_shift", task.output_shift, task.outputs),
            ("output_scale", task.output_scale, task.outputs),
        ):
            assert tuple(tensor.shape) == (size,), f"task law: {what} is {tuple(tensor.shape)}, needed {(size,)}"
            assert bool(torch.isfinite(tensor).all()), f"task law: {what} is not finite"
        assert bool((task.input_scale > 0).all() and (task.output_scale > 0).all()), "task law: a scale is not positive"

    def test_loss_fits_the_kind(self) -> None:
        """The loss is one the kind can have, and is ``(K,)`` and finite for the zero predictor on every split."""
        task = self.component()
        fits = {"regression": {"mse"}, "binary": {"logistic", "mse"}, "classes": {"cross_entropy"}}[task.kind]
        assert task.loss in fits, f"task law: loss {task.loss!r} on a {task.kind} task; it can have {sorted(fits)}"
        for split in (task.train, task.valid, task.test):
            loss = task.losses(split.x.new_zeros(2, task.outputs, split.samples), split.y)
            assert tuple(loss.shape) == (2,), f"task law: losses of 2 networks have shape {tuple(loss.shape)}"
            assert bool(torch.isfinite(loss).all()), f"task law: the zero predictor's loss is {loss.tolist()}"


def _leaves(params: Params) -> Params:
    """Copies in float64, integers as they are."""
    return {n: (p.detach().double() if p.is_floating_point() else p.detach()).clone() for n, p in params.items()}


@dataclass(frozen=True, slots=True)
class _Pack:
    """Rows of a method on their way: what varies from row to row stands beside the parameters."""

    params: Params
    seeds: Tensor  # long (K,)
    tau: Tensor  # (K,)
    lr: Tensor  # (K,)

    def row(self, k: int) -> _Pack:
        """One row alone."""
        return _Pack(_row(self.params, k), self.seeds[k : k + 1], self.tau[k : k + 1], self.lr[k : k + 1])


class SearchMethodLaws(Laws):
    """Laws of a `nasplug.contracts.SearchMethod`: init, relax, forward, direct, a few steps of training, and export."""

    kind = "method"
    task_options: ClassVar[tuple[str, Mapping[str, Any]] | None] = None
    """A registered task and its options, for a method that cannot learn `example_task`."""
    replicas: ClassVar[int] = 4
    steps: ClassVar[int] = 4

    def component(self) -> SearchMethod:
        """A fresh method."""
        made: SearchMethod = super().component()
        return made

    def task(self) -> Task:
        """What it learns here, in float64."""
        if self.task_options is None:
            return example_task()
        made: Task = self.plugins().build("task", *self.task_options)
        return made.to("cpu", torch.float64)

    def setting(self) -> dict[str, Any]:
        """The task."""
        return {"task": self.task_options}

    def seeds(self) -> Tensor:
        """Distinct seeds, in no order; long ``(K,)``."""
        return (torch.arange(self.replicas) * 7919 + 13) % 1009

    def pack(self) -> _Pack:
        """A fresh pack in float64 whose rows differ in seed, temperature and learning rate."""
        seeds = self.seeds()
        k = len(seeds)
        return _Pack(
            _leaves(self.component().init(self.task(), seeds)),
            seeds,
            torch.linspace(1.0, 0.2, k, dtype=torch.float64),
            torch.linspace(0.003, 0.01, k, dtype=torch.float64),
        )

    def _soft(self, pack: _Pack) -> list[Networks]:
        """The soft networks without and with noise, at the pack's temperatures and nearly hard."""
        method = self.component()
        return [method.relax(pack.params, pack.tau * scale, noise) for scale in (1.0, 0.02) for noise in (None, pack.seeds)]

    def _trained(self, pack: _Pack) -> dict[str, Tensor]:
        """Parameters and loss after a few full-batch steps of Adam with noise, each row by itself."""
        method, task, optimizer = self.component(), self.task(), Adam()
        params = {name: p.clone() for name, p in pack.params.items()}
        state = optimizer.start(params)
        losses = pack.tau.new_zeros(len(pack.tau))
        for step in range(1, self.steps + 1):
            leaves = {n: p.detach().clone().requires_grad_(p.is_floating_point()) for n, p in params.items()}
            nets = method.relax(leaves, pack.tau, pack.seeds + step)
            losses = task.losses(method.forward(nets, task.train.x), task.train.y)
            moved = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
            optimizer.update({name: params[name] for name in moved}, _gradients(losses, moved), state, pack.lr)
            if isinstance(method, Projected):
                params = {name: p.clone() for name, p in method.project(params, step, self.steps).items()}
        return {**params, "loss": losses.detach()}

    def test_architecture_names_parameters(self) -> None:
        """``architecture`` is a frozenset of names that `init` makes."""
        method = self.component()
        params = method.init(self.task(), self.seeds())
        assert isinstance(method.architecture, frozenset), "architecture law: write frozenset({...})"
        unknown = method.architecture - set(params)
        assert not unknown, f"architecture law: {sorted(unknown)} are no parameters; there are {sorted(params)}"

    def test_init_leads_with_replicas(self) -> None:
        """Every leaf of `init` is ``(K, ...)`` and finite."""
        for name, leaf in self.component().init(self.task(), self.seeds()).items():
            assert leaf.dim() >= 1, f"init law: {name} has no replica axis"
            assert leaf.shape[0] == self.replicas, f"init law: {name} is {tuple(leaf.shape)} for K={self.replicas}"
            assert bool(torch.isfinite(leaf).all()), f"init law: {name} has values that are not finite"

    def test_seed_law(self) -> None:
        """Row k of `init` depends on ``seeds[k]`` alone, bit by bit; another seed gives another row."""
        method, task, seeds = self.component(), self.task(), self.seeds()
        pack = method.init(task, seeds)
        for k in range(1, len(seeds)):
            _same(method.init(task, seeds[:k]), {n: p[:k] for n, p in pack.items()}, f"seed law, the first {k} rows")
        order = torch.arange(len(seeds)).flip(0)
        _same(method.init(task, seeds[order]), {n: p[order] for n, p in pack.items()}, "seed law, rows in another order")
        differs = any(not torch.equal(p[0], p[1]) for p in pack.values())
        assert differs, "seed law: two seeds gave the same parameters"

    def test_relax_makes_networks(self) -> None:
        """The record fits itself and the task; gates are in [0, 1] and choices on the simplex, at any temperature."""
        task = self.task()
        for nets in self._soft(self.pack()):
            _fits(nets, "relax law")
            ends = (nets.inputs, nets.widths[-1])
            assert ends == (task.inputs, task.outputs), f"relax law: {ends} inputs and outputs for {task.inputs, task.outputs}"
            assert nets.replicas == self.replicas, f"relax law: {nets.replicas} networks from {self.replicas} rows"
            for name, tensor in _tensors(nets).items():
                assert bool(torch.isfinite(tensor).all()), f"relax law: {name} has values that are not finite"
                if name.split("[")[0] in HARD:
                    assert bool(((tensor >= 0) & (tensor <= 1)).all()), f"relax law: {name} leaves [0, 1]"
                if name.startswith("choices"):
                    total = tensor.sum(-1)
                    assert torch.allclose(total, torch.ones_like(total)), f"relax law: {name} is not on the simplex"

    def test_relax_changes_nothing(self) -> None:
        """Called twice with the same noise it gives the same networks, and the parameters stay as they were."""
        method, pack = self.component(), self.pack()
        before = {name: p.clone() for name, p in pack.params.items()}
        first, second = (_tensors(method.relax(pack.params, pack.tau, pack.seeds)) for _ in range(2))
        _same(second, first, "purity law, a second call of relax")
        _same(pack.params, before, "purity law, the parameters")

    def test_holds(self) -> None:
        """`Holding` alone: ``hold`` names leaves, and gives back the parameters that the networks were made from."""
        method, pack = self.component(), self.pack()
        if not isinstance(method, Holding):
            return
        assert method.holds <= set(PARTS), f"holding law: {sorted(method.holds - set(PARTS))} are no parts"
        held = method.hold(self._soft(pack)[0])
        assert set(held) <= set(pack.params), f"holding law: {sorted(set(held) - set(pack.params))} are no parameters"
        _same(held, {name: pack.params[name] for name in held}, "holding law, hold after relax")

    def test_forward(self) -> None:
        """``(I, B)`` shared or ``(K, I, B)`` -> ``(K, O, B)``, and both agree."""
        method, task = self.component(), self.task()
        x = task.valid.x
        for nets in self._soft(self.pack()):
            shared = method.forward(nets, x)
            wanted = (self.replicas, task.outputs, x.shape[-1])
            assert tuple(shared.shape) == wanted, f"forward law: shape {tuple(shared.shape)}, needed {wanted}"
            own = method.forward(nets, x.expand(self.replicas, *x.shape).contiguous())
            _same({"outputs": own}, {"outputs": shared}, "forward law, (K, I, B) against (I, B)", 1e-9)

    def test_direct_is_the_same_function(self) -> None:
        """``direct`` gives networks whose canonical forward is the method's own forward."""
        method, x = self.component(), self.task().valid.x
        for nets in self._soft(self.pack()):
            plain = method.direct(nets)
            _fits(plain, "direct law")
            found = {"outputs": networks.forward(plain, x)}
            _same(found, {"outputs": method.forward(nets, x)}, "direct law, against the method's own forward", 1e-9)

    def test_row_law(self) -> None:
        """A pack equals its rows alone: the networks, direct space, and a few steps of training."""
        method, pack = self.component(), self.pack()

        def all_of(some: _Pack) -> dict[str, Tensor]:
            made = self._trained(some)
            for number, nets in enumerate(self._soft(some)):
                made.update({f"networks {number} {n}": t for n, t in _tensors(nets).items()})
                made.update({f"direct {number} {n}": t for n, t in _tensors(method.direct(nets)).items()})
            return {name: tensor.detach() for name, tensor in made.items()}

        together = all_of(pack)
        for k in range(self.replicas):
            _same(_row(together, k), all_of(pack.row(k)), f"row law, row {k}", TOLERANCE)

    def test_isolation(self) -> None:
        """A row that is NaN raises nothing, in training or on the way to direct space, and the others do not change a bit."""
        method, pack = self.component(), self.pack()
        spoiled = {n: _spoiled(p, 1) if p.is_floating_point() else p for n, p in pack.params.items()}
        broken = replace(pack, params=spoiled)

        def all_of(some: _Pack) -> dict[str, Tensor]:
            made = self._trained(some)
            for number, nets in enumerate(self._soft(some)):
                made.update({f"direct {number} {n}": t for n, t in _tensors(method.direct(nets)).items()})
            return {name: tensor.detach() for name, tensor in made.items()}

        dirty = _calm("isolation law, a NaN row", all_of, broken)
        _same(_others(dirty, 1), _others(all_of(pack), 1), "isolation law")

    def test_control_flow_reads_no_data(self) -> None:
        """``relax`` and ``forward`` run without data (torch's meta device): compile-safe, and on the parameters' device."""
        method, pack, x = self.component(), self.pack(), self.task().train.x
        params = {name: p.to("meta") for name, p in pack.params.items()}

        def run(noise: Tensor | None) -> Tensor:
            return method.forward(method.relax(params, pack.tau.to("meta"), noise), x.to("meta"))

        for noise in (None, pack.seeds.to("meta")):
            outputs = _calm("compile law, tensors without data", run, noise)
            assert outputs.device.type == "meta", f"compile law: parameters on 'meta' gave outputs on {outputs.device}"

    def hardened(self) -> Networks:
        """The soft networks in direct space, rounded: what discretizing leaves at the least."""
        return networks.harden(self.component().direct(self._soft(self.pack())[0]))

    def test_export_law(self) -> None:
        """`compact` of a row computes in float32 what the row computes, and comes back from its files as it was."""
        nets, x = self.hardened(), self.task().valid.x
        wanted = networks.forward(nets, x)  # (K, O, B)
        rows = x.T.float()
        for k in range(self.replicas):
            small = compact(nets, k)
            outputs = small(rows).detach()  # (B, O)
            _same({"outputs": outputs.double()}, {"outputs": wanted[k].T}, f"export law, row {k} as a module", EXPORTED)
            with tempfile.TemporaryDirectory() as folder:
                save(small, Path(folder))
                again = load(Path(folder))
            _same({"outputs": again(rows).detach()}, {"outputs": outputs}, f"export law, row {k} saved and loaded")

    def test_export_law_in_other_runtimes(self) -> None:
        """A compact row survives `torch.export` and ONNX Runtime, with any number of samples."""
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        x = self.task().valid.x.T.float()
        small = compact(self.hardened(), 0)
        wanted = {"outputs": small(x).detach()}
        program = _calm("export law, torch.export", export, small, x)
        _same({"outputs": program.module()(x).detach()}, wanted, "export law, torch.export", EXPORTED)
        made = _calm("export law, ONNX", torch.onnx.export, program, ())
        assert made is not None, "export law, ONNX: the exporter made nothing"
        session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
        for count in (len(x), 1):
            (found,) = session.run(None, {session.get_inputs()[0].name: x[:count].numpy()})
            part = {"outputs": wanted["outputs"][:count]}
            _same({"outputs": torch.from_numpy(found)}, part, f"export law, ONNX Runtime with {count} samples", EXPORTED)
