"""`Study`: plan, run, tell, and read the results. The public Python API; the command line is a thin layer over it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

from nasplug import files, lineage, results
from nasplug.buckets import copied, copying, fetched
from nasplug.compact import save
from nasplug.config import StudyConfig, override, parse, read_yaml, refusing
from nasplug.errors import NasplugError, scrub
from nasplug.events import StudyFinished, StudyStarted, StudyStopped
from nasplug.export import alone, import_graphs
from nasplug.folder import check, claim, config_of, held
from nasplug.folds import candidates
from nasplug.machine import cpus_here
from nasplug.observers import Audience, listeners
from nasplug.places import in_bucket
from nasplug.plan import Cost, Pack, cost_of, forget_tasks
from nasplug.plugins import Plugins, load_plugins
from nasplug.progress import entered, watching
from nasplug.report import ENSEMBLE, import_libraries, write_ensemble, write_report
from nasplug.runner import Runner, SerialRunner, runner_of
from nasplug.sampling import Generations, generations_of
from nasplug.study.course import Course, started, stopped
from nasplug.study.ending import nothing_finished
from nasplug.study.planning import first_packs
from nasplug.study.reading import Results
from nasplug.tracking import STATE_FILE, Registered, Tracker, database_of

__all__ = ["Study"]

SOON, LATER = 1.0, 6.0  # seconds: when packs are on their way to workers, and when workers have imported what they need


class Study(Results):
    """A sweep over penalty levels, temperature schedules, learning rates, seeds and shapes, and its results.

    >>> study = Study.from_yaml("configs/quickstart.yaml").run()  # doctest: +SKIP
    >>> study.front()[["valid_error", "test_error", "edges"]]  # doctest: +SKIP

    Attributes:
        untold: what observers did wrong or were not told in the last run, one line per observer.
        untracked: why MLflow does not have all of the last run; empty if it has, or is not used. `sync` tells it the rest.
        uncopied: why a store in a bucket does not have all of the last run; empty if it has. `sync` copies the rest.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins | None = None, *, fast: bool = False) -> None:
        super().__init__(config, plugins or load_plugins())
        self.fast = fast
        """Whether planning leaves out the trials of strangers' components (`nasplug.plan.check_laws`)."""
        self.untold: tuple[str, ...] = ()
        self.untracked = ""
        self.uncopied = ""

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = (), *, fast: bool = False) -> Study:
        """A study from its file, with ``a.b=value`` overrides.

        Raises:
            ConfigError: for anything in it that cannot be run.
        """
        return cls(read_yaml(Path(path), overrides), fast=fast)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Study:
        """A study from plain data with the keys of the YAML."""
        return cls(parse(raw))

    @classmethod
    def open(cls, folder: str | Path, overrides: Sequence[str] = ()) -> Study:
        """A study from the folder it wrote, to read its results; or, with ``a.b=value`` overrides, to extend it.

        A study in a bucket (``s3://bucket/path/study``) is fetched first.

        Raises:
            ConfigError: if the folder is not that of a study.
            NasplugError: if a bucket cannot be read.
        """
        bucket = isinstance(folder, str) and in_bucket(folder)
        store, _, name = str(folder).rstrip("/").rpartition("/")
        folder = fetched(str(folder)) if bucket else Path(os.path.abspath(folder))  # "." has no name
        config = config_of(folder)
        if overrides:
            raw = config.plain()
            for text in overrides:
                override(raw, text)
            config = parse(raw)
        there = {"store": store, "study": name} if bucket else {"store": str(folder.parent), "study": folder.name}
        return cls(config.model_copy(update=there))

    # -- planning ------------------------------------------------------------------------------------------------------

    @property
    def generations(self) -> Generations:
        """The configurations, from the beginning."""
        return generations_of(self.config, self.plugins)

    def plan(self) -> list[Pack]:
        """The packs of the first generation (for a grid: all packs), checked as before a run.

        Raises:
            ConfigError: for anything that cannot be run.
        """
        with refusing(f"the study {self.config.study!r}", "planned"):
            return first_packs(self.config, self.plugins, fast=self.fast)

    def check(self, *, accept_changes: bool = False, extend: bool = False) -> list[Pack]:
        """Check the study as `plan` does, and its folder: everything that does not depend on the runner. Writes nothing.

        Args:
            accept_changes, extend: see `run`.

        Raises:
            ConfigError: for anything that cannot be run, a store that cannot be written, a folder that is taken or was made of
                other data, by other plugins or by another nasplug.
        """
        packs = self.plan()
        check(self.config, packs, self.plugins, accept_changes=accept_changes, extend=extend)
        return packs

    # -- running -------------------------------------------------------------------------------------------------------

    def run(
        self,
        runner: Literal["ray", "serial"] | Runner = "ray",
        *,
        address: str | None = None,
        observers: Sequence[object] = (),
        accept_changes: bool = False,
        extend: bool = False,
        progress: bool | None = None,
        report: bool = True,
        before: Callable[[Cost], object] | None = None,
    ) -> Study:
        """Run what is not done yet; write results, report and tracking. Running again resumes: nothing is done twice.

        Observers, MLflow among them, are told from a log, each in its own thread. Nothing that they do stops a study.
        `untold` and standard error say what an observer did wrong or was not told.

        Args:
            runner: ``ray`` (a pack is a Ray Tune trial), ``serial`` (in this process) or a `nasplug.runner.Runner`.
            address: of a Ray cluster; None starts Ray on this machine.
            observers: objects with any of the observer hooks, in addition to the installed plugins.
            accept_changes: if the data, a plugin or nasplug changed since the folder's packs were made, set these aside and
                train all packs again. Without it such a folder is refused, so that one table never mixes both.
            extend: if the folder holds a study with fewer seeds, fewer values of what varies, or fewer trials, train what that
                one lacks. Its networks stay as they are. Without it such a folder is refused.
            progress: whether to show how far it is, on standard error; None: in notebooks, as one line.
            report: whether to write the report and its pictures, and the chosen network as graphs (``best/``).
            before: is told what is left to train, and what that costs here, before it starts.

        Raises:
            ConfigError: before any work, for what cannot be run; nothing is written then.
            PluginError: for an observer that is given twice, or has hooks that are not an observer's; nothing is written then.
            NasplugError: if no network of the study finished (before its budget was spent).
        """
        began = time.time()
        chosen = runner_of(runner, address)
        chosen.check(self.config)
        tracker = [] if self.config.mlflow is None else [Tracker(self.config, self.plugins)]
        shown = watching(progress, observers)
        audience = listeners(self.plugins, observers, [*tracker, *shown])
        with copying(self.config.store, self.config.study, self._local) as run:
            packs = self.check(accept_changes=accept_changes, extend=extend)
            with held(self.config), started(chosen, import_libraries if report else lambda: None), entered(shown):
                claim(self.config, packs, self.plugins, extend=extend)
                plain, home = scrub(self.config.plain()), self.folder.resolve()
                anchored = self._anchored()
                course = Course(anchored.config, anchored.plugins, packs, anchored._measures)
                if before is not None:
                    waiting, later = course.waiting
                    together = 1 if isinstance(chosen, SerialRunner) else None
                    if (cost := cost_of(self.config, waiting, self.plugins, later=later, together=together)) is not None:
                        before(cost)
                with Audience(home, audience) as told:
                    told.tell(StudyStarted(plain, home, course.counts))
                    try:
                        if report and not isinstance(chosen, SerialRunner):  # others train, and this process waits
                            import_graphs(SOON if len(course.first) < cpus_here() else LATER)
                        try:
                            failed = course.run(chosen, told)
                        finally:
                            chosen.close()
                            files.settle(home / "packs", began)
                            course.table.write()
                        anchored.snapshot()._conclude(failed, course.ending, began, report=report)
                    except BaseException as error:
                        told.tell(StudyStopped(plain, home, stopped(error)))
                        raise
                    told.tell(StudyFinished(plain, home))
        self.untold = tuple(each.failure for each in audience if each.failure)
        self.untracked = "".join(each.failure for each in audience if each.observer in tracker)
        self.uncopied = "" if run is None else run.trouble
        return self

    @property
    def _local(self) -> frozenset[str]:
        """Files that no bucket gets: what a database of this machine alone was told."""
        uri = None if self.config.mlflow is None else self.config.mlflow.uri
        return frozenset() if uri and database_of(uri) is None else frozenset({STATE_FILE})

    def _anchored(self) -> Study:
        """The same study with an absolute store: whoever changes the working directory during a run changes nothing."""
        there = copy(self)
        there.config = self.config.model_copy(update={"store": str(self.config.home.absolute())})
        return there

    def _conclude(self, failed: Mapping[str, str], ending: results.Ending | None, began: float, *, report: bool = True) -> None:
        """The chosen network and, if wanted, the report; the run ``began`` at this moment (`time.time`).

        Raises:
            NasplugError: when no network finished.
        """
        if not (candidates(self.frame)["status"] == "finished").any():
            raise NasplugError(nothing_finished(failed, self.folder, ending))
        name, best = str(self.best()["replica"]), self.folder / "best"
        network = self.network(name)
        save(network, best)
        alone(network, best, graphs=report)
        results.write_certificate(self.folder, name, best)
        lineage.write(self.lineage(name), best)
        write_ensemble(self, name)
        if self.config.ensemble is not None:
            lineage.write(self.lineage(ENSEMBLE), self.folder / ENSEMBLE)
        if report:
            write_report(self, began)

    # -- telling it anew -----------------------------------------------------------------------------------------------

    def register(self, replica: str | None = None, name: str | None = None) -> Registered:
        """Export a network to MLflow, as a version of a registered model: any of a study that has run, or the mean.

        It gets a child run with its model there, unless it has one; a study that was not tracked is tracked first. No alias
        moves but by the rules of `nasplug.tracking.registry`.

        Args:
            replica: ``p0001/0017`` say, or ``ensemble``; default: the chosen one.
            name: of the registered model; default: ``mlflow.register``, or else the study's name, of a mean with ``-ensemble``.

        Raises:
            ConfigError: for a name that is no finished replica, data that have changed, or a study that runs now.
            NasplugError: where MLflow fails.
        """
        network = str(self.best()["replica"]) if replica is None else replica
        if network != ENSEMBLE:
            self.task_of(network)  # refuses data that have changed
        with held(self.config):
            return Tracker(self.config, self.plugins).register(network, name)

    def sync(self) -> bool:
        """Tell MLflow, and a bucket, what they do not have of the last run. Whether there was something to tell.

        What it has already is not told twice, whichever process has told it.

        Raises:
            ConfigError: for a study that runs now, or whose data have changed since it ran.
            NasplugError: where MLflow or the bucket fails.
        """
        told = False
        if self.config.mlflow is not None:
            forget_tasks()  # the data may have changed since
            with held(self.config):
                told = Tracker(self.config, self.plugins).sync()
        if in_bucket(self.config.store):
            told = copied(self.config.store, self.config.study, self._local) or told
        return told
