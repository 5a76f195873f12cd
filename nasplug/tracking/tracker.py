"""The observer: what a study leaves in MLflow, and when."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.parquet as pq
import yaml

from nasplug import results
from nasplug.compact import save
from nasplug.config import StudyConfig, scrub
from nasplug.errors import NasplugError
from nasplug.hookspecs import hookimpl
from nasplug.packs import HISTORIES, TABLE
from nasplug.plan import axes, build_task, settle, task_places, task_values
from nasplug.plugins import Plugins
from nasplug.tasks import Task
from nasplug.tracking.models import ensure_registered, log_model, new_version
from nasplug.tracking.places import alone, default_uri, probe, talking
from nasplug.tracking.records import (
    Row,
    cleaned,
    curves_of,
    datasets_of,
    environment_report,
    now_ms,
    pack_of,
    scored_on,
    scores_of,
    spread,
)
from nasplug.tracking.runs import Runs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Registered", "Tracker"]

CHAMPION, CHALLENGER = "champion", "challenger"
SERVED_SCORES = ("valid_error", "test_error", "valid_loss", "test_loss", "edges", "neurons", "inputs", "parameters")
FAILED_PACKS = 20  # child runs for failed packs: enough to see what goes wrong, not a thousand times the same
ARTIFACTS = (TABLE, "report.html", "front.csv", "choices.csv", "baseline.json")
PICTURES = ("*.png", "*.svg")
MOST_TASKS = 64  # a study that sweeps over more data sets lists the first ones; each network still names its own
STATES = ("nasplug.front", "nasplug.chosen", "nasplug.complete")  # tags that say how a run stands, not where it came from
METRICS = 1000  # MLflow's limit

_log = logging.getLogger(__name__)


class Registered(NamedTuple):
    """Where a served network is found: ``models:/<name>@<alias>``, which was ``models:/<name>/<version>`` when written."""

    name: str
    version: str
    alias: str


class Tracker(Runs):
    """Writes a study to MLflow while it runs and when it is done. Running a study again continues the same parent run.

    ``Tracker(config, plugins).study_finished(config.plain(), folder)`` alone tracks a study that ran untracked before.

    Attributes:
        uri: the tracking URI, as configured (it may hold a password: never show it; `scrub` it).
        run: the parent run's id, empty before `study_started`.
        registered: the chosen network's place in the registry, once it is there.
    """

    def __init__(self, config: StudyConfig, plugins: Plugins) -> None:
        super().__init__(config)
        self.plugins = plugins
        self.registered: Registered | None = None
        self._began = time.monotonic()
        self._behind = False
        self._best = math.inf
        self._counted: dict[str, int] = {}  # pack -> networks
        self._tasks: dict[str, tuple[Task, str]] = {}

    # -- observers -----------------------------------------------------------------------------------------------------

    @hookimpl
    def study_started(self, study: Mapping[str, Any], folder: Path) -> None:
        """Make the schema, the experiment and the parent run, or find the run that this study has already.

        Raises:
            NasplugError: when MLflow cannot be reached or written: before any work, and within seconds.
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
            self._remember({"uri": scrub(self.uri), "experiment_id": self._experiment, "run_id": self.run})

    @hookimpl
    def pack_finished(self) -> None:
        """A point on the study's curves. A server that has gone away meanwhile costs the point, never the study."""
        if self._behind or self._client is None:
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
        if self._client is None:
            self.study_started(study, folder)
        told = f"The study's results are safe in {self._folder}; run the same command again to track them, nothing is redone"
        with talking(self.uri, retries=3, seconds=60, told=told):
            frame = results.read(self._folder)
            self._count()
            best = str(results.choose(frame, lambda name: self._task(name)[0])["replica"])
            rows = _rows(results.front(frame))
            children = self._children()
            self._summarize(frame, rows, best)
            places = task_places(axes(self.config))
            each = _rows(results.choices(frame, places, lambda name: self._task(name)[0])) if places else {}
            self._log_front(rows, each, best, children)
            self._log_failures(frame, children)
            if self.settings.register_ is not None:
                self.registered = self._register(self.settings.register_, children[best], rows[best])
            self._client.set_terminated(self.run, "FINISHED")
            found = {} if self.registered is None else dict(zip(("model", "version", "alias"), self.registered, strict=True))
            self._remember({"uri": scrub(self.uri), "experiment_id": self._experiment, "run_id": self.run, **found})

    def stopped(self, reason: str) -> None:
        """Say in MLflow that the study ended without results; to be called where `study_finished` will not be.

        Says nothing when MLflow itself is the trouble: the caller has a better error in hand.
        """
        if self._client is None or not self.run:
            return
        try:
            with talking(self.uri, retries=0, seconds=5, told=""):
                self._tag(self.run, {"nasplug.stopped": scrub(reason)})
                self._client.set_terminated(self.run, "FAILED")
        except NasplugError as error:
            _log.warning("%s", error)

    # -- the parent run ------------------------------------------------------------------------------------------------

    def _describe(self, study: Mapping[str, Any]) -> None:
        """Config, plugins, environment and data; written at each start, as a resumed study may run elsewhere."""
        client, run = self._client, self.run
        manifest = self.plugins.manifest
        client.log_text(run, yaml.safe_dump(scrub(study), sort_keys=False), "study.yaml")
        client.log_dict(run, {"plugins": manifest}, "plugins.json")
        environment = environment_report()
        client.log_dict(run, environment, "environment.json")
        tags = {f"nasplug.plugin.{plugin['plugin']}": str(plugin["version"]) for plugin in manifest}
        tags |= {"nasplug.study": self.config.study, "nasplug.config_digest": self._config_digest}
        tags |= {f"nasplug.version.{name}": version for name, version in environment["packages"].items()}
        if not task_places(axes(self.config)):
            task, digest = self._task("")
            tags |= {"nasplug.task": task.name, "nasplug.data_digest": digest}
            client.log_inputs(run, datasets=datasets_of(task, digest))
        self._tag(run, tags)

    @property
    def _config_digest(self) -> str:
        """SHA-256 of what decides the results."""
        plain = {key: value for key, value in self.config.plain().items() if key not in ("store", "resources", "mlflow")}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def _task(self, replica: str) -> tuple[Task, str]:
        """A replica's task (empty: the only one of the study) and its digest."""
        return self._made(results.task_values(self._folder, replica) if replica else {})

    def _made(self, own: Mapping[str, Any]) -> tuple[Task, str]:
        key = json.dumps(own, sort_keys=True)
        if key not in self._tasks:
            task = build_task(settle(self.config, own), self.plugins)
            self._tasks[key] = (task, task.digest)
        return self._tasks[key]

    def _some_tasks(self) -> list[tuple[Task, str]]:
        """The first `MOST_TASKS` different tasks of the packs that are done."""
        found: dict[str, tuple[Task, str]] = {}
        for pack in sorted(self._counted):
            plan = results.plan_of(self._folder, pack)
            for row in range(len(plan["seeds"])):
                task, digest = self._made(task_values(plan["values"], plan["columns"], row))
                found[digest] = (task, digest)
                if len(found) == MOST_TASKS:
                    return list(found.values())
        return list(found.values())

    def _count(self) -> None:
        """Read the tables of packs that were not counted yet."""
        for file in (self._folder / "packs").glob(f"*/{TABLE}"):
            if file.parent.name not in self._counted:
                table = pq.read_table(file, columns=["status", "valid_error"]).to_pandas()
                self._counted[file.parent.name] = len(table)
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
            **{f"networks_{word}": int(status.get(word, 0)) for word in ("finished", "diverged", "failed")},
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
        note = (
            f"{len(frame)} networks, {len(rows)} on the front. Chosen: **{best}**, {int(chosen['edges'])} edges, "
            f"validation error {chosen['valid_error']:.4g}, test error {chosen['test_error']:.4g}."
        )
        self._tag(self.run, {"mlflow.note.content": note, "nasplug.chosen": best})

    # -- child runs ----------------------------------------------------------------------------------------------------

    def _children(self) -> dict[str, Any]:
        """The child runs that are complete, by replica or failed pack; half-written ones (of a crash) are deleted."""
        where = f"tags.`mlflow.parentRunId` = '{self.run}'"
        complete: dict[str, Any] = {}
        for child in self._search(where):
            tags = child.data.tags
            if tags.get("nasplug.complete") == "true":
                complete[tags.get("nasplug.replica") or tags["nasplug.pack"]] = child
                continue
            for output in child.outputs.model_outputs if child.outputs else ():
                self._client.delete_logged_model(output.model_id)
            self._client.delete_run(child.info.run_id)
        return complete

    def _log_front(self, rows: Mapping[str, Row], each: Mapping[str, Row], best: str, children: dict[str, Any]) -> None:
        """A child run a network of the front, and for ``each`` data set its own; earlier ones are told where they stand now.

        At most ``mlflow.children`` of either, evenly over them.
        """
        needed = best if self.settings.children or self.settings.register_ is not None else None
        of_front = spread(list(rows), self.settings.children, needed)
        names = list(dict.fromkeys([*of_front, *spread(list(each), self.settings.children, None)]))
        for name, child in children.items():
            if "/" in name:
                now = {"nasplug.front": _word(name in rows), "nasplug.chosen": _word(name == best)}
                if any(child.data.tags.get(key) != word for key, word in now.items()):
                    self._tag(child.info.run_id, now)
        missing = [name for name in names if name not in children]
        curves = curves_of(self._folder, missing)
        for name in missing:
            row = rows[name] if name in rows else each[name]
            children[name] = self._log_network(row, curves.get(name, {}), front=name in rows, chosen=name == best)

    def _log_network(self, row: Row, curves: Mapping[str, Sequence[float]], *, front: bool, chosen: bool) -> Any:
        """One network: parameters, scores, curves, data, files and model."""
        from mlflow.entities import Metric

        name = str(row["replica"])
        task, digest = self._task(name)
        lineage = self._lineage(row, task, digest)
        run = self._create_run(name, {**lineage, "nasplug.front": _word(front), "nasplug.chosen": _word(chosen)}, child=True)
        params = {key: value for key, value in row.items() if "." in key or key in ("seed", "configuration")}
        self._params(run, params)
        self._client.log_inputs(run, datasets=datasets_of(task, digest))
        network = results.network(self._folder, name, task)
        with tempfile.TemporaryDirectory() as beside:
            save(network, Path(beside))
            results.write_certificate(self._folder, name, Path(beside))
            self._client.log_artifacts(run, beside, "network")
        certified = partial(results.write_certificate, self._folder, name)
        model = log_model(self._client, self._experiment, run, network, task, name, lineage, certified)
        now = now_ms()
        scores = scores_of(row).items()
        points = [Metric(key, value, now, 0, model, *scored_on(key, task, digest), run) for key, value in scores]
        steps = curves.get("step", ())
        for key in HISTORIES:
            pairs = zip(steps, curves.get(key, ()), strict=False)
            points += [Metric(f"history/{key}", float(v), now, int(step)) for step, v in pairs if math.isfinite(v)]
        for at in range(0, len(points), METRICS):
            self._client.log_batch(run, metrics=points[at : at + METRICS])
        self._client.set_terminated(run, "FINISHED")
        self._client.set_tag(run, "nasplug.complete", "true")  # last: a child without it is made anew
        return self._client.get_run(run)

    def _lineage(self, row: Row, task: Task, digest: str) -> dict[str, str]:
        """Where a network came from: the tags of its run, its model and its registered version."""
        owners: dict[str, str] = json.loads(row["owners"])
        name = str(row["replica"])
        return {
            "nasplug.study": self.config.study,
            "nasplug.replica": name,
            "nasplug.pack": pack_of(name),
            "nasplug.parent_run": self.run,
            "nasplug.method": owners["method"],
            **{f"nasplug.{place}": which for place, which in owners.items() if place.startswith("method.")},
            **{f"nasplug.{kind}": _listed(owners, kind) for kind in ("penalties", "discretizers") if _listed(owners, kind)},
            "nasplug.plugins": ", ".join(sorted({f"{p['distribution']}=={p['version']}" for p in self.plugins.manifest})),
            "nasplug.task": task.name,
            "nasplug.data_digest": digest,
            "nasplug.config_digest": self._config_digest,
        }

    def _log_failures(self, frame: pd.DataFrame, children: Mapping[str, Any]) -> None:
        """A child run a failed pack, with its error; one that works since then is marked."""
        failed = frame[frame["status"] == "failed"]
        packs = {str(pack): rows for pack, rows in failed.groupby(failed["replica"].map(pack_of))}
        for name, child in children.items():
            if "/" not in name and name not in packs and "nasplug.resolved" not in child.data.tags:
                self._tag(child.info.run_id, {"nasplug.resolved": "true"})
        for pack, rows in list(packs.items())[:FAILED_PACKS]:
            if pack in children:
                continue
            error = str(scrub(str(rows["error"].iloc[0])))
            run = self._create_run(f"{pack} failed", {"nasplug.study": self.config.study, "nasplug.pack": pack}, child=True)
            self._tag(run, {"nasplug.error": error, "mlflow.note.content": error})
            self._metrics(run, {"networks": len(rows)})
            self._client.set_terminated(run, "FAILED")
            self._client.set_tag(run, "nasplug.complete", "true")

    # -- the registry --------------------------------------------------------------------------------------------------

    def _register(self, name: str, child: Any, row: Row) -> Registered:
        """The chosen network as a version that bears the alias ``champion``; the one before becomes the ``challenger``.

        A version that this run made before is kept, and does not take the alias back from a study that came later.
        """
        client, run = self._client, child.info.run_id
        ensure_registered(client, name)
        ours = [v for v in client.search_model_versions(f"run_id = '{run}'") if v.name == name]
        version = str(ours[0].version) if ours else self._new_version(name, child, row)
        if not ours or ours[0].tags.get("nasplug.promoted") != "true":
            before = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
            previous = before.get(CHAMPION)
            if previous not in (None, version):
                client.set_model_version_tag(name, version, "nasplug.previous_champion", previous)
                client.set_registered_model_alias(name, CHALLENGER, previous)
            client.set_registered_model_alias(name, CHAMPION, version)
            client.set_model_version_tag(name, version, "nasplug.promoted", "true")  # last: without it, this is done again
        self._tag(self.run, {"nasplug.model": name, "nasplug.model_version": version})
        return Registered(name, version, CHAMPION)

    def _new_version(self, name: str, child: Any, row: Row) -> str:
        model = child.outputs.model_outputs[0].model_id
        lineage = {key: value for key, value in child.data.tags.items() if key.startswith("nasplug.") and key not in STATES}
        scores = {f"nasplug.{key}": f"{value:.6g}" for key, value in scores_of(row).items() if key in SERVED_SCORES}
        description = (
            f"{row['replica']} of study {self.config.study}: {int(row['edges'])} edges, "
            f"validation error {row['valid_error']:.4g}, test error {row['test_error']:.4g}"
        )
        return new_version(self._client, self.uri, name, model, child.info.run_id, lineage | scores, description)


def _rows(frame: pd.DataFrame) -> dict[str, Row]:
    """Replica -> its row as plain Python values."""
    return {str(row["replica"]): {str(key): value for key, value in row.items()} for row in frame.to_dict("records")}


def _pack_seconds(folder: Path) -> float:
    path = folder / "pack.json"
    seconds = json.loads(path.read_text())["seconds"] if path.exists() else {}
    return float(sum(seconds.get(part, 0.0) for part in ("build", "train", "harden")))


def _listed(owners: Mapping[str, str], kind: str) -> str:
    return ", ".join(owner for place, owner in sorted(owners.items()) if place.startswith(f"{kind}."))


def _word(value: bool) -> str:
    return "true" if value else "false"
