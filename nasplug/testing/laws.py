"""What holds for every kind, and the digest of what a component makes of the examples."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nasplug.contracts import Discretizer, Regularizer, SearchMethod, check_component
from nasplug.errors import ContractError
from nasplug.networks import PARTS, Networks
from nasplug.plugins import Plugins, load_plugins
from nasplug.replicas import normal
from nasplug.schedules import tabulate
from nasplug.tasks import Loss, Metric, Task
from nasplug.testing.comparing import tensors_of
from nasplug.testing.examples import SKELETONS, example_networks, example_score, example_task, grouped
from nasplug.testing.remedies import Kit

__all__ = ["ALWAYS", "Laws", "NeedsLaws", "fingerprint", "probe"]

ALWAYS = frozenset({"blocks", "biases"})  # parts that examples have beside those a component declares


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
    if kind == "loss":
        return _made_by_loss(component)
    if kind == "metric":
        return _made_by_metric(component)
    if kind == "activation":
        return {"values": component(probe())}
    return {"table": tabulate([component], 11)}


def probe() -> Tensor:
    """Arguments of an activation, ``(2, 3, 7)``: evenly from -10 to 10."""
    return torch.linspace(-10.0, 10.0, 42, dtype=torch.float64).view(2, 3, 7)


def _made_by_regularizer(component: Regularizer, skeletons: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    return {str(tuple(widths)): component(example_networks(0, 3, tuple(widths))) for widths in skeletons}


def _made_by_discretizer(component: Discretizer, skeletons: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    made = {}
    for widths in map(tuple, skeletons):
        hard = component(example_networks(0, 3, widths, component.needs | ALWAYS), example_score(widths))
        made.update({f"{widths} {name}": tensor for name, tensor in tensors_of(hard).items()})
    return made


def _made_by_task(component: Task) -> dict[str, Tensor]:
    splits = {"train": component.train, "valid": component.valid, "test": component.test}
    parts = ("x", "y", "weights")
    return {f"{name}.{part}": t for name, split in splits.items() for part, t in zip(parts, split.batch, strict=False)}


def _made_by_method(component: SearchMethod, task: Task) -> dict[str, Tensor]:
    seeds = torch.tensor([3, 1, 4])
    params = component.init(task, seeds)
    nets = component.relax(params, torch.full((3,), 0.5), seeds)
    return {**params, **tensors_of(nets)}


def _made_by_loss(component: Loss) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for kind in sorted(component.kinds):
        task = example_task(kind)
        outputs = normal(torch.arange(3), "outputs", (task.outputs * len(component.outputs), task.train.samples)).double()
        made[kind] = component(outputs, task.train.y)
    return made


def _made_by_metric(component: Metric) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for kind in sorted(component.kinds):
        task = example_task(kind)
        outputs = normal(torch.arange(3), "outputs", (task.outputs, task.train.samples)).double()
        made[kind] = component(task.loss.point(outputs), task.train.y)
    return made


class Laws(Kit):
    """What holds for every kind; inherit from one of the kits below instead."""

    kind: ClassVar[str]
    name: ClassVar[str]
    """The registered name."""
    options: ClassVar[Mapping[str, Any]] = {}
    """As they would stand in a config: plain data."""

    def plugins(self) -> Plugins:
        """The registry: everything installed. Override it to test a plugin that is not."""
        return load_plugins()

    def whose(self) -> str:
        """See `nasplug.testing.remedies.Kit.whose`."""
        return str(self.plugins().offer(self.kind, self.name))

    def component(self) -> Any:
        """A fresh component, made as a study makes it."""
        return self.plugins().build(self.kind, self.name, self.options)

    def setting(self) -> dict[str, Any]:
        """What `fingerprint` is told besides kind, name and options: plain data."""
        return {}

    def fingerprint(self) -> str:
        """What the component makes of the examples."""
        return fingerprint(self.kind, self.name, self.options, plugins=self.plugins(), **self.setting())

    def test_contract(self) -> None:
        """It inherits its contract, its traits fit, and none of its names is a misspelling of one that nasplug reads."""
        try:
            check_component(self.kind, self.component(), f"{self.kind} {self.name!r}")
        except ContractError as error:
            raise AssertionError(f"contract law: {error}") from error

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


class NeedsLaws(Laws):
    """What regularizers and discretizers share: they declare what they read."""

    widths: ClassVar[tuple[tuple[int, ...], ...]] = SKELETONS
    """Skeletons to try; override it for a component that fits some only."""

    def setting(self) -> dict[str, Any]:
        """The skeletons."""
        return {"widths": self.widths}

    def examples(self, k: int = 4) -> list[Networks]:
        """Soft networks for each skeleton: with every part, with no more than declared (plus blocks and biases), and of inputs
        two of which were made of one column.
        """
        needs = self.component().needs
        found = [
            example_networks(11 * number, k, widths, parts)
            for number, widths in enumerate(self.widths)
            for parts in (PARTS, needs | ALWAYS)
        ]
        return [*found, *(grouped(nets) for nets in found if nets.stem is None)]
