"""The laws of an observer."""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from nasplug.config import parse
from nasplug.contracts import Params, SearchMethod
from nasplug.errors import PluginError, cause
from nasplug.events import (
    EVENTS,
    Event,
    PackFailed,
    PackFinished,
    PackReported,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    arguments_of,
    hook_of,
    read_events,
)
from nasplug.hookspecs import Counts, Progress, Register, hookimpl
from nasplug.networks import Networks
from nasplug.observers import listeners, named
from nasplug.plugins import Plugins, load_plugins
from nasplug.plugins.loading import BUILT_IN
from nasplug.replicas import normal
from nasplug.study import Study
from nasplug.tasks import Task
from nasplug.testing.remedies import Kit

__all__ = ["ObserverLaws"]


class Linear(SearchMethod):
    """``y = W x``: the least that a study can search."""

    def init(self, task: Task, seeds: Tensor) -> Params:
        """``{"weight": (K, O, I)}``."""
        return {"weight": normal(seeds, "weight", (task.outputs, task.inputs)).float()}

    def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Networks:
        """One block."""
        weight = params["weight"]
        return Networks(widths=(weight.shape[2], weight.shape[1]), blocks={(1, 0): weight})


def linear() -> Linear:
    """A linear model."""
    return Linear()


class Example:
    """A plugin with that method."""

    @hookimpl
    def register_search_methods(self, register: Register) -> None:
        """One name."""
        register("example", linear)


def _registry() -> Plugins:
    """Our own names and the example, and no observer."""
    plugins, version = Plugins(), metadata.version("nasplug")
    for module in BUILT_IN:
        plugins.add(import_module(module), module, "nasplug", version)
    plugins.add(Example(), "example", "nasplug", version)
    return plugins


@lru_cache(maxsize=1)
def _study() -> Path:
    """The folder of a small study that has run; removed when the process ends."""
    store = tempfile.mkdtemp(prefix="nasplug-laws-")
    atexit.register(shutil.rmtree, store, ignore_errors=True)
    raw = {
        "study": "observed",
        "store": store,
        "task": {"use": "xor", "samples": 40},
        "method": {"use": "example"},
        "train": {"steps": 4, "reports": 2},
        "seeds": 3,
        "mlflow": None,
    }
    with torch.random.fork_rng(devices=[]):
        return Study(parse(raw), _registry()).run("serial").folder.resolve()


class ObserverLaws(Kit):
    """Laws of an observer, told of a small study that has really run (linear models, three seeds, no MLflow)."""

    name: ClassVar[str] = ""
    """The name of the installed plugin; without one override `observer`."""
    seconds: ClassVar[float] = 10.0
    """What one small study may take it."""

    def plugins(self) -> Plugins:
        """The registry: everything installed."""
        return load_plugins()

    def observer(self) -> object:
        """The observer; a fresh one, where it is no plugin."""
        found = [plugin for owner, plugin in self.plugins().members.items() if owner.plugin == self.name]
        assert found, f"no plugin {self.name!r} is installed; set name, or override observer"
        return found[0]

    def whose(self) -> str:
        """See `nasplug.testing.remedies.Kit.whose`."""
        owners = [owner for owner in self.plugins().members if owner.plugin == self.name]
        return str(owners[0]) if owners else named(self.observer())

    def _tell(self, events: Iterable[Event], law: str) -> str:
        """Tell it all of that; what it prints to the standard output."""
        try:
            (listener,) = listeners(_registry(), [self.observer()])
        except PluginError as error:
            raise AssertionError(f"observer law: {error}") from error
        with redirect_stdout(io.StringIO()) as output:
            for event in events:
                try:
                    getattr(listener.manager.hook, hook_of(event))(**arguments_of(event))
                except Exception as error:
                    raise AssertionError(f"{law}: it broke in {hook_of(event)} with {cause(error)}") from error
        return output.getvalue()

    def test_has_hooks_of_an_observer(self) -> None:
        """It has such a hook at least, and none that no run calls."""
        self._tell((), "observer law")

    def test_hears_a_study(self) -> None:
        """Every event of a study, in order, with the files that are there by then."""
        self._tell(read_events(_study() / EVENTS), "observer law")

    def test_hears_of_failures(self) -> None:
        """A pack that failed, and a run that was stopped, of which nothing is there."""
        with tempfile.TemporaryDirectory() as folder:
            self._tell(_failure(Path(folder)), "failure law")

    def test_keeps_studies_apart(self) -> None:
        """Two studies at once, event by event: what belongs to one is never the other's."""
        first = _study()
        with tempfile.TemporaryDirectory() as store:
            second = Path(store).resolve() / "other"
            shutil.copytree(first, second)
            events = read_events(first / EVENTS)
            both = [one for pair in zip(events, _moved(events, first, second), strict=True) for one in pair]
            self._tell(both, "isolation law")

    def test_leaves_results_alone(self) -> None:
        """The study's files are as they were."""
        with tempfile.TemporaryDirectory() as store:
            folder = Path(store).resolve() / "mine"
            shutil.copytree(_study(), folder)
            before = _digests(folder)
            self._tell(_moved(read_events(folder / EVENTS), _study(), folder), "results law")
            after = _digests(folder)
            changed = sorted(str(path.relative_to(folder)) for path, digest in before.items() if after.get(path) != digest)
            assert not changed, f"results law: it changed {', '.join(changed)}"

    def test_prints_nothing_to_the_output(self) -> None:
        """The standard output belongs to the command."""
        printed = self._tell(read_events(_study() / EVENTS), "output law")
        assert not printed, f"output law: it printed {printed[:80]!r}"

    def test_is_soon_done(self) -> None:
        """A small study takes it `seconds` at most, as the end of a study waits for it."""
        began = time.perf_counter()
        self._tell(read_events(_study() / EVENTS), "patience law")
        taken = time.perf_counter() - began
        assert taken <= self.seconds, f"patience law: a small study took it {taken:.1f} s, more than {self.seconds:g}"


def _failure(folder: Path) -> list[Event]:
    study = {"study": "stopped", "store": str(folder)}
    progress = Progress(0.5, 1, 2, 3, 3, float("nan"), 0.1, 60.0)
    return [
        StudyStarted(study, folder / "stopped", Counts(1, 3)),
        PackReported("p0000", progress),
        PackFailed("p0000", "ZeroDivisionError: division by zero"),
        StudyStopped(study, folder / "stopped", "no network finished"),
    ]


def _moved(events: Sequence[Event], old: Path, new: Path) -> list[Event]:
    """The events of a study as those of its copy in another folder."""
    told = (StudyStarted, PackFinished, StudyFinished, StudyStopped)
    return [replace(e, folder=new / e.folder.relative_to(old)) if isinstance(e, told) else e for e in events]


def _digests(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}
