"""`Study`: plan, run, discretize, track, report. The public Python API; the command line is a thin layer over it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from nasplug import ensemble, identity, lineage, results, stability
from nasplug.buckets import copied, copying, fetched
from nasplug.compact import CompactNetwork, digest_of, save
from nasplug.config import StudyConfig, override, parse, read_yaml, refusing
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.events import StudyFinished, StudyStarted, StudyStopped
from nasplug.explain import Formula, explainable
from nasplug.export import alone, import_graphs
from nasplug.folder import check, claim, config_of, held
from nasplug.folds import candidates
from nasplug.networks import Networks
from nasplug.observers import Audience, listeners
from nasplug.packs import load_networks
from nasplug.places import in_bucket
from nasplug.plan import LOSS, TASK, Axis, Cost, Pack, axes, build_task, cost_of, forget_tasks, row_of, settle, task_places
from nasplug.plugins import Plugins, load_plugins
from nasplug.progress import entered, watching
from nasplug.report import (
    ENSEMBLE,
    contributions_of,
    ensemble_scores,
    formula_of,
    html,
    import_libraries,
    narrow,
    write_ensemble,
    write_report,
)
from nasplug.runner import Runner, SerialRunner, runner_of
from nasplug.sampling import Generations, drawing_of
from nasplug.study.course import Course, started, stopped
from nasplug.study.ending import nothing_finished
from nasplug.study.planning import first_packs
from nasplug.tasks import Facts, Task
from nasplug.tracking import STATE_FILE, Registered, Tracker, database_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Study"]


class Study:
    """A sweep over penalty levels, temperature schedules, learning rates, seeds and shapes, and its results.

    >>> study = Study.from_yaml("configs/quickstart.yaml").run()  # doctest: +SKIP
    >>> study.front()[["valid_error", "test_error", "edges"]]  # doctest: +SKIP

    Attributes:
        untold: what observers did wrong or were not told in the last run, one line per observer.
        untracked: why MLflow does not have all of the last run; empty if it has, or is not used. `sync` tells it the rest.
        uncopied: why a store in a bucket does not have all of the last run; empty if it has. `sync` copies the rest.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins | None = None, *, fast: bool = False) -> None:
        self.config = config
        self.plugins = plugins or load_plugins()
        self.fast = fast
        """Whether planning leaves out the trials of strangers' components (`nasplug.plan.check_laws`)."""
        self.untold: tuple[str, ...] = ()
        self.untracked = ""
        self.uncopied = ""
        self._frame: pd.DataFrame | None = None

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
    def folder(self) -> Path:
        """Everything the study writes."""
        return self.config.folder

    @property
    def axes(self) -> list[Axis]:
        """What varies, and whether it varies between rows or between packs."""
        return axes(self.config)

    @property
    def generations(self) -> Generations:
        """The configurations, from the beginning."""
        return Generations(self.config.sampler, self.axes, drawing_of(self.config.sampler, self.plugins))

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

    @property
    def task(self) -> Task:
        """The study's task; the first one if tasks are swept."""
        first = {axis.path: axis.sweep.first for axis in self.axes if axis.path.startswith((TASK, LOSS))}
        return build_task(settle(self.config, first), self.plugins)

    def task_of(self, replica: str) -> Task:
        """The task a replica was trained on, built from its data.

        Raises:
            ConfigError: when its pack has not finished, or the data are not those it was trained on.
        """
        facts, (pack, row) = self.facts_of(replica), row_of(replica)
        task = build_task(settle(self.config, results.plan_of(self.folder, pack, self.axes).task(row)), self.plugins)
        if task.digest != facts.digest:
            raise ConfigError(f"task {task.name!r}: its data have changed since {replica} was trained on them; put those back")
        return task

    def facts_of(self, replica: str) -> Facts:
        """Facts about the task that a replica was trained on, from the study's folder alone.

        Raises:
            ConfigError: when its pack has not finished.
        """
        return results.facts_of(self.folder, replica)

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
                            import_graphs()
                        try:
                            failed = course.run(chosen, told)
                        finally:
                            chosen.close()
                            results.merge(anchored.folder)
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

    # -- results -------------------------------------------------------------------------------------------------------

    @property
    def frame(self) -> pd.DataFrame:
        """One row per replica; see the README for its columns."""
        return results.read(self.folder) if self._frame is None else self._frame

    def snapshot(self) -> Study:
        """The same study as it is now: its table is read once, for all that is asked of it, and later files are not seen."""
        there = copy(self)
        there._frame = results.read(self.folder)
        return there

    def front(self, columns: Literal["narrow", "all"] = "narrow", *, stable: float | None = None) -> pd.DataFrame:
        """The Pareto set of validation error and edges, smallest network first.

        Args:
            columns: ``narrow``: names, sizes, validation and test scores, what varies; ``all``: every column of `frame`.
            stable: of networks alone all of whose inputs were kept in this share of the half samples (`stability`).
        """
        found = results.standing(self._some(stable), self.facts_of, self.config.choose)
        return self.narrow(found) if columns == "narrow" else found

    def narrow(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of `frame` with the columns of a narrow `front`."""
        return narrow(rows, self.axes)

    def _repr_html_(self) -> str:
        return html(self)

    def _some(self, stable: float | None) -> pd.DataFrame:
        """The table of replicas, or its rows with inputs that are so stable."""
        return self.frame if stable is None else stability.stable(self.frame, stable)

    def stability(self) -> pd.DataFrame:
        """How often each input, pair, activation and depth was kept on half samples, one row per configuration and item.

        Raises:
            ConfigError: for a study without ``stability:``.
        """
        return stability.read(self.folder)

    def best(self) -> pd.Series[Any]:
        """The row of the chosen network: the smallest that is as good as the best, by the rule in ``choose:``."""
        return results.choose(self.frame, self.facts_of, self.config.choose)

    def within(self, stable: float | None = None, /, **limits: float) -> pd.Series[Any]:
        """The row with the smallest validation error within limits, for example ``within(parameters=30, latency_us=50)``.

        A limit is the largest value allowed in a column, or in what is measured on this machine: ``latency_us`` of one sample
        per call, ``flash_bytes`` of its C (`nasplug.results.flash`). Nothing is trained. ``stable`` as in `front`.

        Raises:
            ConfigError: for a limit that is no column, or that no network keeps; for ``flash_bytes`` without a C compiler.
        """
        frame, error = results.judged(self._some(stable), self.facts_of, self.config.choose)
        return results.within(frame, limits, self._measures, error)

    def measured(self, *names: str, stable: float | None = None) -> pd.DataFrame:
        """The front with all columns, and ``latency_us`` and ``flash_bytes`` as columns: measured here, as by `within`.

        Raises:
            ConfigError: for another name; for ``flash_bytes`` without a C compiler.
        """
        return results.measured(self.front("all", stable=stable), names, self._measures)

    @property
    def _measures(self) -> Mapping[str, Callable[[str], float]]:
        return results.measures(self.folder, self.network, self.task_of, identity.makers(self.config, self.plugins)["nasplug"])

    def schedule(self, replica: str | None = None) -> pd.DataFrame:
        """The levels, learning rate and temperature that a network of a population trained with (default: the chosen one).

        Raises:
            ConfigError: for a network of no population (`nasplug.results.schedule_of`).
        """
        return results.schedule_of(self.folder, str(self.best()["replica"]) if replica is None else replica)

    def choices(self) -> pd.DataFrame:
        """The chosen network of each data set and loss that the study has, one row for each, as `best` is one."""
        return results.choices(self.frame, task_places(self.axes), self.facts_of, self.config.choose)

    @overload
    def network(self, replica: Literal["ensemble"]) -> Ensemble: ...  # type: ignore[overload-overlap]

    @overload
    def network(self, replica: str | None = None) -> CompactNetwork: ...

    def network(self, replica: str | None = None) -> CompactNetwork | Ensemble:
        """The small network of a replica, on raw features (default: the chosen one); of ``"ensemble"`` the mean of several."""
        if replica == "ensemble":
            if self.config.ensemble is None:
                raise ConfigError("this study has no ensemble; write ensemble: 8, say, and run it again: nothing is retrained")
            return ensemble.load(self.folder / ENSEMBLE, self.plugins.functions)
        name = str(self.best()["replica"]) if replica is None else replica
        return results.network(self.folder, name, self.facts_of(name), self.plugins.functions)

    def predict(self, table: pd.DataFrame, replica: str | None = None) -> pd.DataFrame:
        """Rows of the user's table -> named answers of the chosen network, or of a ``replica`` or ``"ensemble"``.

        See `nasplug.compact.CompactNetwork.predict`.

        Raises:
            ConfigError: for a column that is missing, a value that cannot be read, or a name that is no replica.
        """
        return (self.network() if replica is None else self.network(replica)).predict(table)

    def explain(self, rows: pd.DataFrame, replica: str | None = None) -> pd.DataFrame:
        """What each column adds to each prediction, beside a base, on the scale on which they sum exactly to it.

        ``rows`` of the user's table; default network: the chosen one. They are compared with development rows that the study's
        folder keeps. See `nasplug.explain.contributions`.

        Raises:
            ConfigError: for a network that reads images or is an ensemble, a column that is missing, or a replica of another
                data set than the chosen one, whose data are gone.
        """
        return contributions_of(self, rows, str(self.best()["replica"]) if replica is None else replica)

    def formula(self, replica: str | None = None) -> Formula:
        """A network (default: the chosen one) as a formula in the user's columns and units, with digits that keep its score.

        ``str(study.formula())`` is text; ``latex()`` and ``sympy()`` are the others. The chosen one needs the folder alone,
        others also the data, by which they are rounded.

        Raises:
            ConfigError: for a network that reads images or is an ensemble, or data that are gone.
        """
        name = str(self.best()["replica"]) if replica is None else replica
        return formula_of(self, name, explainable(self.network(name)))

    def lineage(self, replica: str | None = None) -> dict[str, Any]:
        """Where a network (default: the chosen one) came from, as plain JSON: what stands in ``best/lineage.json``.

        Raises:
            ConfigError: for a name that is not a replica, or a pack that has not finished.
        """
        if replica == ENSEMBLE:
            mean = self.network("ensemble")
            members = [self.lineage(str(member["name"])) for member in mean.record["members"]]
            return lineage.mean_of(members, digest_of(mean), ensemble_scores(self.folder))
        name = str(self.best()["replica"]) if replica is None else replica
        network, rows = self.network(name), self.frame[self.frame["replica"] == name].to_dict("records")
        return lineage.lineage_of(self.folder, self.config, {str(key): value for key, value in rows[0].items()}, network)

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

    def networks(self, pack: str) -> Networks:
        """The hard networks of a finished pack, ``p0001`` say, on scaled features: ``p0001/0017`` is row 17.

        Raises:
            ConfigError: when there is no such pack, or it has not finished.
        """
        return load_networks(self.folder / "packs" / pack, self.plugins.functions)
