"""`Study`: plan, run, harden, track, report. The public Python API; the command line is a thin layer over it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pluggy import PluginValidationError

from nasplug import results
from nasplug.compact import CompactNetwork, save
from nasplug.config import StudyConfig, from_yaml, parse, read_yaml, scrub, to_yaml
from nasplug.errors import ConfigError, NasplugError, PluginError, did_you_mean
from nasplug.networks import Networks
from nasplug.packs import TABLE, load_networks
from nasplug.plan import TASK, Axis, Pack, axes, build_task, cells, chunk, corners, forget_tasks, settle, task_places
from nasplug.plugins import Plugins, load_plugins
from nasplug.report import import_libraries, write_report
from nasplug.runner import RayRunner, Runner, SerialRunner, Watch
from nasplug.sampling import Generations
from nasplug.tasks import Task
from nasplug.tracking import Tracker

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Study"]

MERGE_SECONDS = 10.0
STUDY_FILE = "study.yaml"


class Study:
    """A sweep over penalty levels, temperature schedules, learning rates, seeds and shapes, and what it earned.

    >>> study = Study.from_yaml("configs/quickstart.yaml").run()  # doctest: +SKIP
    >>> study.front()[["valid_error", "test_error", "edges"]]  # doctest: +SKIP
    """

    def __init__(self, config: StudyConfig, plugins: Plugins | None = None) -> None:
        self.config = config
        self.plugins = plugins or load_plugins()

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Study:
        """A study from its file, with ``a.b=value`` overrides.

        Raises:
            ConfigError: for anything in it that cannot be run.
        """
        return cls(read_yaml(Path(path), overrides))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Study:
        """A study from plain data with the keys of the YAML."""
        return cls(parse(raw))

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """A study from the folder it wrote, to look at its results.

        Raises:
            ConfigError: when the folder is not a study's.
        """
        folder = Path(folder)
        file = folder / STUDY_FILE
        if not file.is_file():
            inside = [str(found.parent) for found in sorted(folder.glob(f"*/{STUDY_FILE}"))]
            there = f"one of {', '.join(inside)}" if inside else "<store>/<study>"
            raise ConfigError(f"{folder} is not a study's folder (it has no {STUDY_FILE}); give {there}")
        config = parse(from_yaml(file.read_text(encoding="utf-8"), str(file)))
        return cls(config.model_copy(update={"store": str(folder.parent), "study": folder.name}))

    # -- planning ------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Everything the study writes."""
        return self.config.folder

    @property
    def axes(self) -> list[Axis]:
        """What varies, and whether it varies between rows or between packs."""
        return axes(self.config)

    @property
    def generations(self) -> Generations:
        """The configurations, afresh."""
        return Generations(self.config.sampler, self.axes)

    def plan(self) -> list[Pack]:
        """The packs of the first generation (for a grid: all), checked as they will be before a run.

        Raises:
            ConfigError: for anything that cannot be run.
        """
        forget_tasks()
        generations = self.generations
        sampler = self.config.sampler.use
        if sampler != "grid":
            if not generations.drawn:
                raise ConfigError(
                    f"sampler: {sampler!r} has nothing to draw; needed: a sweep with choice, uniform or log. "
                    "Write one, or take sampler grid"
                )
            drawn = [axis.path for axis in self.axes if axis.path in task_places(self.axes) and axis.sweep.grid is None]
            if sampler in ("tpe", "nsga2") and drawn:
                raise ConfigError(
                    f"sampler: {sampler!r} would look for the easiest data set ({', '.join(drawn)}); write {{grid: [...]}} "
                    "there, so that each configuration is judged by all of them, or take sampler random or grid"
                )
            chunk(self.config, corners(self.axes), self.plugins)  # what a later generation may draw is refused now
        return chunk(self.config, next(iter(generations)), self.plugins)

    def check(self) -> list[Pack]:
        """As `plan`, and the folder too: all that can be refused without knowing who runs the packs. Writes nothing.

        Raises:
            ConfigError: for anything that cannot be run, a store that cannot be written, a folder that is taken.
        """
        packs = self.plan()
        there = next(parent for parent in (self.folder, *self.folder.resolve().parents) if parent.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            what = "is read-only" if there.is_dir() else "is a file"
            raise ConfigError(
                f"store: {self.folder} cannot be written ({there} {what}); choose a folder you may write to (store: ...)"
            )
        path = self.folder / STUDY_FILE
        if path.exists():
            old = from_yaml(path.read_text(encoding="utf-8"), str(path))
            plain = self.config.plain()
            changed = [
                key for key in plain if key not in _MAY_CHANGE and (not isinstance(old, dict) or old.get(key) != plain[key])
            ]
            if changed:
                raise ConfigError(
                    f"{self.folder} already holds another study of that name (different: {', '.join(changed)}); "
                    "give this one another name (study: ...), or remove that folder"
                )
        elif self.folder.exists() and (others := sorted({p.name for p in self.folder.iterdir()} - _BEFORE_CLAIMED)):
            raise ConfigError(
                f"{self.folder} exists and is not a study's folder (it holds {', '.join(others[:3])}, no {STUDY_FILE}); "
                "give the study another name (study: ...) or another store"
            )
        return packs

    @property
    def task(self) -> Task:
        """The study's task (where tasks are swept: the first one)."""
        first = {axis.path: axis.sweep.first for axis in self.axes if axis.path in task_places(self.axes)}
        return build_task(settle(self.config, first), self.plugins)

    def task_of(self, replica: str) -> Task:
        """The task a replica was trained on.

        Raises:
            ConfigError: when its pack has not finished.
        """
        return build_task(settle(self.config, results.task_values(self.folder, replica)), self.plugins)

    # -- running -------------------------------------------------------------------------------------------------------

    def run(
        self,
        runner: Literal["ray", "serial"] | Runner = "ray",
        *,
        address: str | None = None,
        observers: Sequence[object] = (),
        packs: list[Pack] | None = None,
    ) -> Study:
        """Run what is not done yet, and write results, report and tracking. Running again resumes: nothing is done twice.

        Args:
            runner: ``ray`` (a pack is a Ray Tune trial), ``serial`` (in this process) or a `nasplug.runner.Runner`.
            address: of a Ray cluster; None starts Ray on this machine.
            observers: objects with any of the observer hooks, beside the installed plugins.
            packs: what `check` just returned, so that the study is not planned again; None: it is checked here.

        Raises:
            ConfigError: before any work, for what cannot be run; nothing is written then.
            NasplugError: when no network of the whole study finished.
        """
        began = time.perf_counter()
        chosen: Runner = _runner(runner, address)
        chosen.check(self.config)
        first = self.check() if packs is None else packs
        tracker = [] if self.config.mlflow is None else [Tracker(self.config, self.plugins)]
        with self._observing([*tracker, *observers]), ThreadPoolExecutor(1) as aside:
            hook = self.plugins.manager.hook
            fresh = self._claim()
            starting = aside.submit(chosen.start)  # seconds of waiting, while observers get ready
            try:
                try:
                    hook.study_started(study=self.config.plain(), folder=self.folder)
                    import_libraries()
                    starting.result()
                except NasplugError:
                    if fresh:
                        self._unclaim()
                    raise
                failed = self._run_generations(chosen, first)
            finally:
                wait([starting])
                chosen.close()  # in this thread: Ray ends the process when its objects are let go while it stops
                results.merge(self.folder)
            if not (self.frame["status"] == "finished").any():
                reason = _nothing(failed, self.folder)
                for each in tracker:
                    each.stopped(reason)
                raise NasplugError(reason)
            best = self.best()
            name = str(best["replica"])
            save(self.network(name), self.folder / "best")
            results.write_certificate(self.folder, name, self.folder / "best")
            write_report(self, time.perf_counter() - began)
            hook.study_finished(study=self.config.plain(), folder=self.folder)
        return self

    def _run_generations(self, runner: Runner, first: list[Pack]) -> dict[str, str]:
        """Every generation in turn; each is planned when the one before has been told."""
        failed: dict[str, str] = {}
        failures: list[dict[str, Any]] = []
        generations = self.generations
        packs_so_far = configurations_so_far = 0
        for number, configurations in enumerate(generations):
            packs = self._planned(number, configurations, packs_so_far, configurations_so_far, first)
            waiting = [p for p in packs if not (self.folder / "packs" / p.id / TABLE).exists()]
            failed |= runner.run(self.config, waiting, self.plugins, self._watch())
            failures += [row for p in packs if p.id in failed for row in _failed_rows(p, failed[p.id], self.axes)]
            results.write_failures(self.folder, failures)
            results.merge(self.folder)
            generations.tell(self._outcome(), configurations_so_far)
            packs_so_far += len(packs)
            configurations_so_far += len(configurations)
        return failed

    def _planned(
        self, number: int, configurations: list[dict[str, Any]], first_pack: int, first: int, planned: list[Pack]
    ) -> list[Pack]:
        """A generation's packs: as the folder remembers them (a resumed study keeps its rows' places), else newly made."""
        path = self.folder / f"plan-{number:03d}.json"
        if path.exists():
            return [Pack(**pack) for pack in json.loads(path.read_text())]
        packs = planned
        if number > 0:
            packs = chunk(self.config, configurations, self.plugins, first_pack=first_pack, first=first)
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps([pack.plain() for pack in packs]))
        beside.replace(path)
        return packs

    def _outcome(self) -> dict[int, tuple[float, float]]:
        """Validation loss and edges of each configuration, averaged over the seeds that finished."""
        frame = self.frame
        finished = frame[frame["status"] == "finished"]
        if finished.empty:
            return {}
        means = finished.groupby("configuration")[["valid_loss", "edges"]].mean()
        return {int(n): (float(loss), float(edges)) for n, loss, edges in means.itertuples()}

    def _watch(self) -> Watch:
        hook = self.plugins.manager.hook
        merged = time.monotonic()

        def reported(pack: str, metrics: Mapping[str, float]) -> None:
            hook.pack_reported(pack=pack, metrics=metrics)

        def finished(pack: str) -> None:
            nonlocal merged
            hook.pack_finished(pack=pack, folder=self.folder / "packs" / pack)
            if time.monotonic() - merged > MERGE_SECONDS:
                results.merge(self.folder)
                merged = time.monotonic()

        return Watch(reported, finished)

    def _claim(self) -> bool:
        """Make the folder and write the study into it; whether it is the first time.

        Raises:
            ConfigError: when the store cannot be written.
        """
        path = self.folder / STUDY_FILE
        beside = path.with_suffix(".tmp")
        fresh = not path.exists()
        try:
            (self.folder / "packs").mkdir(parents=True, exist_ok=True)
            beside.write_text(to_yaml(scrub(self.config.plain())), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise ConfigError(
                f"store: {self.folder} cannot be written ({error.strerror}); choose a folder you may write to (store: ...)"
            ) from None
        return fresh

    def _unclaim(self) -> None:
        """Take back a claim under which nothing was run, so that a corrected study finds its name free."""
        (self.folder / STUDY_FILE).unlink()
        for empty in (self.folder / "packs", self.folder):
            with suppress(OSError):  # an observer has left something in it
                empty.rmdir()

    @contextmanager
    def _observing(self, observers: Sequence[object]) -> Iterator[None]:
        manager = self.plugins.manager
        registered = []
        try:
            for observer in observers:
                if manager.register(observer) is not None:
                    registered.append(observer)
            manager.check_pending()
            yield
        except PluginValidationError as error:
            raise PluginError(f"an observer's hook is not one of nasplug/hookspecs.py: {error}. Correct its name") from error
        finally:
            for observer in registered:
                manager.unregister(observer)

    # -- results -------------------------------------------------------------------------------------------------------

    @property
    def frame(self) -> pd.DataFrame:
        """A row a replica; see the README for its columns."""
        return results.read(self.folder)

    def front(self) -> pd.DataFrame:
        """The Pareto set of validation error and edges, smallest network first."""
        return results.front(self.frame)

    def best(self) -> pd.Series[Any]:
        """The row of the chosen network: the smallest that is as good as the best within the stated slack."""
        return results.choose(self.frame, self.task_of)

    def within(self, **limits: float) -> pd.Series[Any]:
        """The row with the smallest validation error within limits, for example ``within(parameters=30, latency_us=50)``.

        A limit is the most a column may be; ``latency_us`` is measured on this CPU, one sample a call. Nothing is trained.

        Raises:
            ConfigError: for a limit that is no column, or that no network keeps.
        """
        return results.within(self.frame, limits, lambda name: results.latency(self.network(name)))

    def choices(self) -> pd.DataFrame:
        """The chosen network of each data set, where the study varies its task: a row each, as `best` is one."""
        return results.choices(self.frame, task_places(self.axes), self.task_of)

    def network(self, replica: str | None = None) -> CompactNetwork:
        """A replica's small network on raw features (default: the chosen one)."""
        name = str(self.best()["replica"]) if replica is None else replica
        return results.network(self.folder, name, self.task_of(name))

    def networks(self, pack: str) -> Networks:
        """The hard networks of a finished pack, ``p0001`` say, on scaled features: ``p0001/0017`` is row 17.

        Raises:
            ConfigError: when there is no such pack, or it has not finished.
        """
        return load_networks(self.folder / "packs" / pack)


_MAY_CHANGE = frozenset({"store", "resources", "mlflow"})
_BEFORE_CLAIMED = frozenset({"packs", "study.tmp"})  # what a run that was stopped while it claimed its folder may leave


def _runner(runner: str | Runner, address: str | None) -> Runner:
    if not isinstance(runner, str):
        return runner
    if runner == "ray":
        return RayRunner(address)
    if runner == "serial":
        if address is not None:
            raise ConfigError(f"address {address!r} with runner 'serial', which runs here; leave it out, or take runner 'ray'")
        return SerialRunner()
    raise ConfigError(f"runner {runner!r} is not known; known: ray, serial.{did_you_mean(runner, ('ray', 'serial'))}")


def _failed_rows(pack: Pack, error: str, found: Sequence[Axis]) -> list[dict[str, Any]]:
    swept = {axis.path: axis.sweep for axis in found}
    columns = {
        path: cells(swept[path], column) if path.startswith(TASK) else [float(value) for value in column]
        for path, column in pack.columns.items()
    }
    return [
        {
            "replica": f"{pack.id}/{row:04d}",
            "configuration": pack.configurations[row],
            "seed": pack.seeds[row],
            **{path: column[row] for path, column in columns.items()},
            "status": "failed",
            "error": error,
        }
        for row in range(pack.rows)
    ]


def _nothing(failed: Mapping[str, str], folder: Path) -> str:
    if failed:
        pack, error = min(failed.items())
        where = f" (Ray's whole story: {folder}/ray/tune/*/error.txt)" if (folder / "ray").exists() else ""
        return f"no network finished: {len(failed)} packs failed, {pack} with: {error}{where}; repair that and run again"
    return "no network finished with finite scores: all diverged; try a smaller learning rate or clip gradients"
