"""The observer: what a study leaves in MLflow, and when."""

from __future__ import annotations

import logging
import math
import re
import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nasplug import ensemble, results
from nasplug.config import REGISTERED, REGISTERED_WORDS, StudyConfig
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.hookspecs import hookimpl
from nasplug.packs import TABLE
from nasplug.plan import axes, task_places
from nasplug.plugins import Plugins
from nasplug.tasks import Facts, Task
from nasplug.tracking.children import Children
from nasplug.tracking.curves import Done, done_of, done_packs, points
from nasplug.tracking.evidence import write_evidence
from nasplug.tracking.ledger import is_told, story_of, take_note
from nasplug.tracking.models import ensure_registered
from nasplug.tracking.notes import address, model_note, study_note, version_note
from nasplug.tracking.places import database_of, default_uri, probe
from nasplug.tracking.records import Row, cleaned, datasets_of, scores_of
from nasplug.tracking.registry import GATE, WHY, Registered, register
from nasplug.tracking.schema import whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Registered", "Tracker"]

SERVED_SCORES = ("valid_error", "test_error", "valid_loss", "test_loss", "edges", "neurons", "inputs", "parameters")
ARTIFACTS = (TABLE, "report.html", "front.csv", "choices.csv", "stability.csv", "linear.json")
PICTURES = ("*.png", "*.svg")
ENSEMBLE = "ensemble"  # what the mean of several networks is called where a replica is asked for
MOST_TASKS = 64  # a study that sweeps over more data sets lists the first ones; each network still names its own
SERVER = 60.0  # seconds that the end of a study waits for a server, and
FILE = 300.0  # for a database file: the work is done by this machine, which other studies may use too
ANSWER = 10  # seconds that a server has for a short question, and
SLOW = 30  # for any other
AWAY = 30.0  # seconds that a server is left alone that did not answer, while packs are trained
EARLY = "nasplug.ended_early"  # tag: what a sweep left out
PAUSES = (1.0, 2.0, 4.0)  # seconds before the end is told again to a server that answered before: it may have been restarted

_log = logging.getLogger(__name__)


class Tracker(Children):
    """Writes a study to MLflow while it runs and when it is done. Running a study again continues the same parent run.

    ``Tracker(config, plugins).study_finished(config.plain(), folder)`` alone tracks a study that ran untracked before. Whatever
    fails can be told again, here or by `sync` in any process: what MLflow has already is found there, and not made twice.

    Attributes:
        uri: the tracking URI, as configured (it may hold a password: never show it; `scrub` it).
        run: the parent run's id, empty before `study_started`.
        patience_seconds: how long the end of a study waits for MLflow: ``mlflow.wait``.
        registered: the chosen network's place in the registry, once it is there.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins) -> None:
        super().__init__(config, plugins)
        self.registered: Registered | None = None
        usual = SERVER if database_of(self.uri) is None else FILE
        self.patience_seconds = usual if self.settings.wait is None else self.settings.wait
        self._study: Mapping[str, Any] = {}
        self._opened = False
        self._warned = False
        self._next = -math.inf  # when MLflow is asked again, in the seconds of a monotonic clock
        self._done: dict[str, Done] = {}
        self._told: int | None = None  # points of the curves that MLflow has; None: it is to be asked

    # -- observers -----------------------------------------------------------------------------------------------------

    @hookimpl
    def study_started(self, study: Mapping[str, Any], folder: Path) -> None:
        """Make the schema, the experiment and the parent run, or find the run that this study has already.

        Where MLflow cannot be reached or written now, that is said once, and tried again as packs finish and at the end.
        """
        self._study, self._folder = study, folder.resolve()
        self._noted = take_note(self._folder, self._manifest)
        self._try()

    @hookimpl
    def pack_finished(self) -> None:
        """Points on the study's curves: of this pack, and of those that MLflow was not told of."""
        self._try()

    def _try(self) -> None:
        """Tell how far the study is. What fails can wait, but packs must not wait for a server that is away, one by one."""
        if time.monotonic() < self._next:
            return
        try:
            if not self._opened:
                self._open(self._study)
            with self._talk(retries=0, seconds=ANSWER, told=""):
                self._progress()
        except NasplugError as error:
            self._next = time.monotonic() + AWAY
            if not self._warned:
                _log.warning("%s. The study goes on; MLflow is told as soon as it answers, or with %s", error, self._command)
            self._warned = True

    @property
    def _command(self) -> str:
        return f"nasplug sync {shlex.quote(str(self._folder))}"

    def _open(self, study: Mapping[str, Any]) -> None:
        """Connect, and begin the parent run or go on with it.

        Raises:
            NasplugError: when MLflow cannot be reached or written.
        """
        store = default_uri(self.config.home)
        told = f"Start that server or correct the URI; mlflow.uri=null tracks into {store}, mlflow=null does not track"
        with self._talk(retries=0, seconds=ANSWER, told=told):
            probe(self.uri)
            whole(self.uri)
            self._client = self._connect()
            self._experiment = self._find_experiment()
            self.run = self._find_run()
            self._describe(study)
            self._remember(running=True)
        self._opened = True

    @hookimpl
    def study_finished(self, study: Mapping[str, Any], folder: Path) -> None:
        """Results, the front's networks with their models, failures, and the registered version.

        Raises:
            NasplugError: when MLflow fails now, and again after `PAUSES` if it answered before. `sync` tells the rest.
        """
        self._folder = folder.resolve()
        for pause in (*PAUSES, None):
            try:
                self._finish(study)
                break
            except NasplugError:
                if pause is None or not self._opened:
                    raise
                time.sleep(pause)

    def _finish(self, study: Mapping[str, Any]) -> None:
        if not self._opened:
            self._open(study)
        told = f"The study's results are safe in {self._folder}; to tell MLflow the rest: {self._command}"
        with self._talk(retries=2, seconds=SLOW, told=told):
            frame = results.read(self._folder)
            best, rows = self._front(frame)
            children = self._children()
            self._summarize(frame, rows, best)
            places = task_places(axes(self.config))
            each = _rows(results.choices(frame, places, self._facts, self.config.choose)) if places else {}
            self._log_front(rows, each, best, children)
            self._log_failures(frame, children)
            if self.settings.register_ is not None:
                self.registered = self._register(self.settings.register_, children[best], rows[best])
                self._tag(self.run, {"nasplug.model": self.registered.name, "nasplug.model_version": self.registered.version})
                self._tell_gate(self.registered)
            if self.config.ensemble is not None:
                mean = self._log_ensemble(children, rows[best])
                if self.settings.register_ is not None:
                    self._register_mean(f"{self.settings.register_}-ensemble", mean, best)
            found = {} if self.registered is None else dict(zip(("model", "version", "alias"), self.registered, strict=True))
            self._end("FINISHED", found)

    @hookimpl
    def study_stopped(self, study: Mapping[str, Any], folder: Path, reason: str) -> None:
        """Say in MLflow that the study ended without results."""
        self._folder = folder.resolve()
        try:
            self._ended_early(study, "FAILED", reason)
        except NasplugError as error:
            _log.warning("%s. To tell MLflow that this study was stopped: %s", error, self._command)

    def _ended_early(self, study: Mapping[str, Any], status: str, reason: str) -> None:
        """What there is of a study that was stopped or killed."""
        if not self._opened:
            self._open(study)
        with self._talk(retries=0, seconds=ANSWER, told=""):
            self._progress()
            if reason:
                self._tag(self.run, {"nasplug.stopped": scrub(reason)})
            self._end(status, {})

    def _end(self, status: str, found: Mapping[str, str]) -> None:
        """The run has ended, and all of it is told."""
        self._drop_doubles()
        story = story_of(self._folder)
        at = None if story is None or story.ended is None else int(1000 * story.ended)
        self._client.set_terminated(self.run, status, at)
        self._remember(running=False, **found, **({} if story is None else {"told": story.mark}))

    def sync(self) -> bool:
        """Tell what MLflow does not have of the last run, which has ended; whether there was something.

        To be called by the process that holds the study's folder.

        Raises:
            NasplugError: where MLflow fails, or the data have changed since the study ran.
        """
        story = story_of(self._folder)
        if story is None or is_told(self._folder, story):
            return False
        if story.end == "finished":
            self.study_finished(story.study, self._folder)
        else:
            self._ended_early(story.study, "FAILED" if story.end else "KILLED", story.reason)
        return True

    # -- the parent run ------------------------------------------------------------------------------------------------

    def _describe(self, study: Mapping[str, Any]) -> None:
        """Config, plugins, environment and data; written at each start, as a resumed study may run elsewhere."""
        client, run = self._client, self.run
        manifest, environment = self._note.plugins, self._note.environment
        client.log_text(run, yaml.safe_dump(scrub(study), sort_keys=False), "study.yaml")
        client.log_dict(run, {"plugins": manifest}, "plugins.json")
        client.log_dict(run, environment, "environment.json")
        tags = {f"nasplug.plugin.{plugin['plugin']}": str(plugin["version"]) for plugin in manifest}
        tags |= {"nasplug.study": self.config.study, "nasplug.config_digest": self._config_digest}
        if earlier := results.versions(self._folder):  # parameters are those of the first version: MLflow writes them once
            tags["nasplug.extended"] = "; ".join(", ".join(one.added) for one in earlier)
        tags |= {f"nasplug.version.{name}": version for name, version in environment["packages"].items()}
        if not task_places(axes(self.config)):
            task, digest = self._task("")
            tags |= {"nasplug.task": task.name, "nasplug.data_digest": digest}
            client.log_inputs(run, datasets=datasets_of(task, digest))
        self._tag(run, tags)

    def _some_tasks(self) -> list[tuple[Task, str]]:
        """The first `MOST_TASKS` different tasks of the packs that are done."""
        found: dict[str, tuple[Task, str]] = {}
        for pack in sorted(self._done):
            plan = results.plan_of(self._folder, pack, axes(self.config))
            for row in range(plan.rows):
                task, digest = self._made(plan.task(row))
                found[digest] = (task, digest)
                if len(found) == MOST_TASKS:
                    return list(found.values())
        return list(found.values())

    def _progress(self) -> None:
        """The study's curves, from the packs that are done: the same points at the same times, whenever they are told."""
        self._done |= {pack: done_of(self._folder, pack) for pack in done_packs(self._folder) if pack not in self._done}
        if self._told is None:  # later it is known: each pack would ask for all points before it
            history = self._client.get_metric_history(self.run, "packs_done")
            self._told = max((point.step for point in history), default=0)
        told, self._told = self._told, None  # asked again, should the answer not come
        self._client.log_batch(self.run, metrics=points(self._done.values(), told))
        self._told = len(self._done)

    def _summarize(self, frame: pd.DataFrame, rows: Mapping[str, Row], best: str) -> None:
        """The study's numbers, data, files, and a line for the page of the run."""
        self._progress()
        status = frame["status"].value_counts()
        chosen, story = rows[best], story_of(self._folder)
        metrics = {
            "networks": len(frame),
            **{f"networks_{word}": int(status.get(word, 0)) for word in ("finished", "stopped", "diverged", "failed")},
            "networks_untrained": 0 if (early := results.ending_of(self._folder)) is None else early.untrained,
            "front_size": len(rows),
            "seconds": float("nan") if story is None else story.seconds,
            "pack_seconds": sum(done.seconds for done in self._done.values()),
            **{f"chosen_{name}": value for name, value in scores_of(chosen).items()},
        }
        self._metrics(self.run, metrics)
        for task, digest in self._some_tasks():
            self._client.log_inputs(self.run, datasets=datasets_of(task, digest))
        pictures = [path for pattern in PICTURES for path in sorted(self._folder.glob(pattern))]
        with tempfile.TemporaryDirectory() as beside:
            for path in [*(self._folder / name for name in ARTIFACTS), *pictures]:
                if path.exists():
                    self._client.log_artifact(self.run, str(cleaned(path, Path(beside))))
        counts = {str(word): int(n) for word, n in status.items()}
        note = study_note(self._folder, self._facts(best), chosen, counts, len(rows), address(self._experiment, self.run))
        self._tag(self.run, {"mlflow.note.content": note, "nasplug.chosen": best})
        if early is not None:
            self._tag(self.run, {EARLY: early.words})
        elif EARLY in self._client.get_run(self.run).data.tags:
            self._client.delete_tag(self.run, EARLY)

    def _front(self, frame: pd.DataFrame) -> tuple[str, dict[str, Row]]:
        """The chosen network, and the rows of the front."""
        best = str(results.choose(frame, self._facts, self.config.choose)["replica"])
        return best, _rows(results.standing(frame, self._facts, self.config.choose))

    def _facts(self, replica: str) -> Facts:
        return results.facts_of(self._folder, replica)

    # -- the registry --------------------------------------------------------------------------------------------------

    def register(self, replica: str, name: str | None) -> Registered:
        """Any network of a study that has run, or its mean (``ensemble``), as a version of a registered model.

        It gets a child run and a model where it has none. A study that was not tracked is tracked first.

        Args:
            replica: its name.
            name: of the registered model; None: that of the config, or else the study's; of a mean with ``-ensemble``.

        Raises:
            ConfigError: for a network that is not there or did not finish, or a name that no model can have.
            NasplugError: when MLflow fails.
        """
        if name is not None and re.fullmatch(REGISTERED, name) is None:
            raise ConfigError(f"name {name!r}; needed: {REGISTERED_WORDS}")
        told = f"The study's results are safe in {self._folder}; run the same command again"
        frame = results.read(self._folder)
        chosen = frame[frame["replica"] == (replica if replica != ENSEMBLE else self._front(frame)[0])]
        if chosen.empty or chosen.iloc[0]["status"] != "finished":
            status = "is not one of its table" if chosen.empty else f"is {chosen.iloc[0]['status']}"
            raise ConfigError(f"{replica!r} {status}; only networks of {self._folder} that finished can be registered")
        if replica == ENSEMBLE and self.config.ensemble is None:
            raise ConfigError("this study has no ensemble; write ensemble: 8, say, and run it again: nothing is retrained")
        with self._talk(retries=1, seconds=SLOW, told=told):
            probe(self.uri)
            whole(self.uri)
            self._client = self._connect()
            self._client.search_registered_models(max_results=1)  # the registry makes its own connection
            self._experiment = self._find_experiment()
            self.run, _ = self._remembered()
        if not self.run:
            self.study_finished(self.config.plain(), self._folder)
        with self._talk(retries=2, seconds=SLOW, told=told):
            children = self._children()
            (row,) = _rows(chosen).values()
            name = name or self.settings.register_ or self.config.study
            if replica == ENSEMBLE:
                return self._register_mean(f"{name}-ensemble", self._log_ensemble(children, row), str(row["replica"]))
            best, rows = self._front(frame)
            return self._register(name, self._one(row, children, front=replica in rows, chosen=replica == best), row)

    def _register(self, name: str, child: Any, row: Row) -> Registered:
        """The chosen network."""
        scores = {f"nasplug.{key}": f"{value:.6g}" for key, value in scores_of(row).items() if key in SERVED_SCORES}
        facts = self._facts(str(row["replica"]))
        columns = results.network(self._folder, str(row["replica"]), facts, self.plugins.functions).columns
        page = address(self._experiment, child.info.run_id)
        words = version_note(self.config.study, facts, row, tuple(column for column, _ in columns), page)
        ensure_registered(self._client, name, model_note(name, facts))

        def evidence(folder: Path) -> None:
            replica = str(row["replica"])
            task = self._task(replica)[0]
            results.write_certificate(self._folder, replica, folder)
            write_evidence(results.network(self._folder, replica, task, self.plugins.functions), task, folder)

        return register(self._client, self.uri, name, child, scores, words, evidence, self.settings.promote)

    def _tell_gate(self, made: Registered) -> None:
        """What the gate said of the version, as tags and in the note of the run."""
        told = self._client.get_model_version(made.name, made.version).tags
        note = self._client.get_run(self.run).data.tags.get("mlflow.note.content", "")
        words = f"{note}\n\nRegistered as version {made.version} of {made.name}: {told.get(WHY, '')}"
        self._tag(self.run, {GATE: told.get(GATE, ""), WHY: told.get(WHY, ""), "mlflow.note.content": words})

    def _register_mean(self, name: str, child: Any, replica: str) -> Registered:
        """The ensemble, as a model of its own; ``replica``: the chosen network, whose task it has."""
        found = {key: value for key, value in child.data.metrics.items() if key in SERVED_SCORES}
        words = f"the mean of {child.data.tags['nasplug.members']} of study {self.config.study}"
        if "test_error" in found:
            words += f": {int(found['parameters'])} parameters, test error {found['test_error']:.4g}"
        scores = {f"nasplug.{key}": f"{value:.6g}" for key, value in found.items()}

        def evidence(folder: Path) -> None:
            network = ensemble.load(self._folder / "ensemble", self.plugins.functions)
            write_evidence(network, self._task(replica)[0], folder)

        mean = register(self._client, self.uri, name, child, scores, words, evidence, self.settings.promote)
        self._tag(self.run, {"nasplug.ensemble": mean.name, "nasplug.ensemble_version": mean.version})
        return mean


def _rows(frame: pd.DataFrame) -> dict[str, Row]:
    """Replica -> its row as plain Python values."""
    return {str(row["replica"]): {str(key): value for key, value in row.items()} for row in frame.to_dict("records")}
