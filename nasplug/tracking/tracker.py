"""The observer: what a study leaves in MLflow, and when."""

from __future__ import annotations

import logging
import math
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nasplug import ensemble, files, machine, results
from nasplug.config import REGISTERED, REGISTERED_WORDS, StudyConfig
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.hookspecs import hookimpl
from nasplug.packs import TABLE
from nasplug.plan import axes, task_places
from nasplug.plugins import Plugins
from nasplug.tasks import Facts, Task
from nasplug.tracking.children import Children
from nasplug.tracking.evidence import write_evidence
from nasplug.tracking.models import ensure_registered
from nasplug.tracking.notes import address, model_note, study_note, version_note
from nasplug.tracking.places import default_uri, probe, talking
from nasplug.tracking.records import Row, cleaned, datasets_of, scores_of
from nasplug.tracking.registry import GATE, WHY, Registered, register
from nasplug.tracking.schema import alone

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Registered", "Tracker"]

SERVED_SCORES = ("valid_error", "test_error", "valid_loss", "test_loss", "edges", "neurons", "inputs", "parameters")
ARTIFACTS = (TABLE, "report.html", "front.csv", "choices.csv", "stability.csv", "linear.json")
PICTURES = ("*.png", "*.svg")
ENSEMBLE = "ensemble"  # what the mean of several networks is called where a replica is asked for
MOST_TASKS = 64  # a study that sweeps over more data sets lists the first ones; each network still names its own

_log = logging.getLogger(__name__)


class Tracker(Children):
    """Writes a study to MLflow while it runs and when it is done. Running a study again continues the same parent run.

    ``Tracker(config, plugins).study_finished(config.plain(), folder)`` alone tracks a study that ran untracked before.

    Attributes:
        uri: the tracking URI, as configured (it may hold a password: never show it; `scrub` it).
        run: the parent run's id, empty before `study_started`.
        patience_seconds: how long the end of a study waits for MLflow: ``mlflow.wait``.
        registered: the chosen network's place in the registry, once it is there.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins) -> None:
        super().__init__(config, plugins)
        self.registered: Registered | None = None
        self._began = time.monotonic()
        self.patience_seconds = self.settings.wait
        self._opened = False
        self._behind = False
        self._best = math.inf
        self._counted: dict[str, int] = {}  # pack -> networks

    # -- observers -----------------------------------------------------------------------------------------------------

    @hookimpl
    def study_started(self, study: Mapping[str, Any], folder: Path) -> None:
        """Make the schema, the experiment and the parent run, or find the run that this study has already.

        Where MLflow cannot be reached or written now, that is said, and `study_finished` tries again.
        """
        try:
            self._open(study, folder)
        except NasplugError as error:
            self._behind = True
            _log.warning("%s. The study goes on, and MLflow is told when it ends", error)

    def _open(self, study: Mapping[str, Any], folder: Path) -> None:
        """Connect, and begin the parent run or go on with it.

        Raises:
            NasplugError: when MLflow cannot be reached or written.
        """
        self._began = time.monotonic()
        self._folder = folder.resolve()
        store = default_uri(Path(self.config.store))
        told = f"Start that server or correct the URI; mlflow.uri=null tracks into {store}, mlflow=null does not track"
        with talking(self.uri, retries=1, seconds=5, told=told):
            probe(self.uri)
            with alone(self.uri):
                self._client = self._connect()
                self._experiment = self._find_experiment()
            self.run, news = self._find_run()
            if not self.run:
                self.run = self._begin(news)
            self._describe(study)
            self._remember(running=True)
        self._opened = True

    @hookimpl
    def pack_finished(self) -> None:
        """A point on the study's curves. A server that has gone away meanwhile costs the point, never the study."""
        if self._behind or not self._opened:
            return
        try:
            with talking(self.uri, retries=1, seconds=5, told=""):
                self._progress()
        except NasplugError as error:
            self._behind = True  # do not let every pack wait for a server that is down; study_finished tries again
            _log.warning("%s; results stay in %s and are tracked when the study ends", error, self._folder)

    @hookimpl
    def study_finished(self, study: Mapping[str, Any], folder: Path) -> None:
        """Results, the front's networks with their models, failures, and the registered version.

        Raises:
            NasplugError: when MLflow fails now: the results are in the folder, and running again tracks them.
        """
        if not self._opened:
            self._open(study, folder)
        told = f"The study's results are safe in {self._folder}; run the same command again to track them, nothing is redone"
        with talking(self.uri, retries=3, seconds=60, told=told):
            frame = results.read(self._folder)
            self._count()
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
            self._client.set_terminated(self.run, "FINISHED")
            found = {} if self.registered is None else dict(zip(("model", "version", "alias"), self.registered, strict=True))
            self._remember(running=False, **found)

    @hookimpl
    def study_stopped(self, reason: str) -> None:
        """Say in MLflow that the study ended without results."""
        if not self._opened:
            return
        try:
            with talking(self.uri, retries=0, seconds=5, told=""):
                self._tag(self.run, {"nasplug.stopped": scrub(reason)})
                self._client.set_terminated(self.run, "FAILED")
                self._remember(running=False)
        except NasplugError as error:
            _log.warning("%s", error)

    # -- the parent run ------------------------------------------------------------------------------------------------

    def _describe(self, study: Mapping[str, Any]) -> None:
        """Config, plugins, environment and data; written at each start, as a resumed study may run elsewhere."""
        client, run = self._client, self.run
        manifest = self.plugins.manifest
        client.log_text(run, yaml.safe_dump(scrub(study), sort_keys=False), "study.yaml")
        client.log_dict(run, {"plugins": manifest}, "plugins.json")
        environment = machine.environment()
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
        for pack in sorted(self._counted):
            plan = results.plan_of(self._folder, pack, axes(self.config))
            for row in range(plan.rows):
                task, digest = self._made(plan.task(row))
                found[digest] = (task, digest)
                if len(found) == MOST_TASKS:
                    return list(found.values())
        return list(found.values())

    def _count(self) -> None:
        """Read the tables of packs that were not counted yet."""
        for file in (self._folder / "packs").glob(f"*/{TABLE}"):
            if file.parent.name not in self._counted:
                table = files.read_table(file, ["status", "valid_error"]).to_pandas()
                self._counted[file.parent.name] = len(table)
                if "valid_error" not in table:  # refitted networks: scored on what they were trained on
                    continue
                good = table.loc[table["status"] == "finished", "valid_error"]
                self._best = min(self._best, *good) if len(good) else self._best

    def _progress(self) -> None:
        """A point on the study's curves: packs and networks done, the best validation error so far."""
        self._count()
        packs, networks = len(self._counted), sum(self._counted.values())
        self._metrics(self.run, {"packs_done": packs, "networks_done": networks, "best_valid_error": self._best}, step=packs)

    def _summarize(self, frame: pd.DataFrame, rows: Mapping[str, Row], best: str) -> None:
        """The study's numbers, data, files, and a line for the page of the run."""
        self._progress()
        status = frame["status"].value_counts()
        chosen = rows[best]
        metrics = {
            "networks": len(frame),
            **{f"networks_{word}": int(status.get(word, 0)) for word in ("finished", "stopped", "diverged", "failed")},
            "front_size": len(rows),
            "seconds": time.monotonic() - self._began,
            "pack_seconds": sum(_pack_seconds(self._folder / "packs" / pack) for pack in self._counted),
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
        with talking(self.uri, retries=1, seconds=30, told=told):
            probe(self.uri)
            with alone(self.uri):
                self._client = self._connect()
                self._client.search_registered_models(max_results=1)  # the registry makes its own connection
                self._experiment = self._find_experiment()
            self.run, _ = self._remembered()
        if not self.run:
            self.study_finished(self.config.plain(), self._folder)
        with talking(self.uri, retries=3, seconds=60, told=told):
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


def _pack_seconds(folder: Path) -> float:
    seconds = results.pack_record(folder.parent.parent, folder.name)["seconds"]
    return float(sum(seconds.get(part, 0.0) for part in ("build", "train", "harden")))
