"""The child runs of a study: networks of the front with their models, the ensemble, packs that failed."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug import ensemble, files, identity, lineage, results
from nasplug.compact import CompactNetwork, digest_of, save
from nasplug.config import StudyConfig
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError, scrub
from nasplug.plan import axes, build_task, row_of, settle
from nasplug.plugins import Plugins
from nasplug.tasks import Task
from nasplug.tracking.evidence import write_evidence
from nasplug.tracking.models import log_model
from nasplug.tracking.records import Row, curves_of, datasets_of, now_ms, pack_of, scored_on, scores_of, spread
from nasplug.tracking.registry import DIGEST
from nasplug.tracking.runs import Runs, params_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Children"]

FAILED_PACKS = 20  # child runs for failed packs: enough to see what goes wrong, not a thousand times the same
COMPLETE = "nasplug.complete"  # tag of a child run: whether all of it is there
LINEAGE = "nasplug.lineage"  # tag: the digest of a network's lineage (`nasplug.lineage.digest`)
MADE_FROM = "nasplug.method."  # how tags begin that say what a method was made from
SHA256 = re.compile(r"[0-9a-f]{64}")
MEAN = "/ensemble"  # where a network's run has its replica: a name that no replica has


@dataclass(frozen=True, slots=True)
class Logged:
    """What a child run is written from.

    Attributes:
        name: of the run, and of the logged model.
        network: what is served.
        task: what it was trained on.
        digest: of the task.
        lineage: tags of run, model and version (`Children._lineage`).
        scores: of the run; linked with the model and with the split that they were measured on.
        write: writes the network's files into a folder.
        beside: writes what its model has beside it into a folder.
        states: tags of the run alone, which may change.
        params: of the run.
        curves: ``history/<name>``, values by ``step``.
    """

    name: str
    network: CompactNetwork | Ensemble
    task: Task
    digest: str
    lineage: Mapping[str, str]
    scores: Mapping[str, float]
    write: Callable[[Path], object]
    beside: Callable[[Path], None] = lambda folder: None
    states: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


class Children(Runs):
    """What is written of single networks and packs of a study; `nasplug.tracking.tracker.Tracker` says when."""

    def __init__(self, config: StudyConfig, plugins: Plugins) -> None:
        super().__init__(config, plugins.manifest)
        self.plugins = plugins
        self._tasks: dict[str, tuple[Task, str]] = {}
        self._models: dict[str, str] = {}  # digest of a network -> its logged model, or nothing

    @property
    def _config_digest(self) -> str:
        """SHA-256 of what decides the results."""
        return identity.digest_of(identity.decisive(self.config))

    def _task(self, replica: str) -> tuple[Task, str]:
        """A replica's task (empty: the only one of the study) and its digest."""
        if not replica:
            return self._made({})
        pack, row = row_of(replica)
        return self._made(results.plan_of(self._folder, pack, axes(self.config)).task(row))

    def _made(self, own: Mapping[str, Any]) -> tuple[Task, str]:
        key = json.dumps(own, sort_keys=True)
        if key not in self._tasks:
            task = build_task(settle(self.config, own), self.plugins)
            if (known := results.known_tasks(self._folder)) and task.digest not in known:
                raise ConfigError(f"task {task.name!r}: its data have changed since the study ran; put those back")
            self._tasks[key] = (task, task.digest)
        return self._tasks[key]

    def _children(self) -> dict[str, Any]:
        """The child runs that are complete, by replica or failed pack; half-written ones (of a crash) are deleted.

        Ensembles are called ``/ensemble`` and their digest: as long as its members are the same, one is not made twice.
        """
        where = f"tags.`mlflow.parentRunId` = '{self.run}'"
        complete: dict[str, Any] = {}
        for child in self._search(where):
            tags = child.data.tags
            if tags.get(COMPLETE) == "true":
                name = tags.get("nasplug.replica") or tags["nasplug.pack"]
                complete[name + (tags[DIGEST] if name == MEAN else "")] = child
                continue
            for model in self._client.search_logged_models([self._experiment], f"source_run_id = '{child.info.run_id}'"):
                self._client.delete_logged_model(model.model_id)
            self._client.delete_run(child.info.run_id)
        return complete

    def _drop_doubles(self) -> None:
        """Delete what MLflow made of requests whose answers never came: empty runs, and models that their run does not have.

        A model whose run is gone stays: a person deleted that, and a registered version may be this model.
        """
        for run in self._doubles():
            self._client.delete_run(run)
        kept: dict[str, set[str]] = {}
        for child in self._children().values():
            kept[child.info.run_id] = {model.model_id for model in child.outputs.model_outputs} if child.outputs else set()
        for model in self._client.search_logged_models([self._experiment], f"tags.`nasplug.parent_run` = '{self.run}'"):
            if model.model_id not in kept.get(model.source_run_id, {model.model_id}):
                self._client.delete_logged_model(model.model_id)

    def _log_front(self, rows: Mapping[str, Row], each: Mapping[str, Row], best: str, children: dict[str, Any]) -> None:
        """One child run per network of the front, and for ``each`` data set its own; earlier ones learn where they now stand.

        At most ``mlflow.children`` of either, evenly over them. Only the chosen one has a model (`_exported`).
        """
        needed = best if self.settings.children or self.settings.register_ is not None else None
        of_front = spread(list(rows), self.settings.children, needed)
        names = list(dict.fromkeys([*of_front, *spread(list(each), self.settings.children, None)]))
        for name, child in children.items():
            if "/" in name and not name.startswith(MEAN):
                now = {"nasplug.front": _word(name in rows), "nasplug.chosen": _word(name == best)}
                if any(child.data.tags.get(key) != word for key, word in now.items()):
                    self._tag(child.info.run_id, now)
        missing = [name for name in names if name not in children and name != best]
        curves = curves_of(self._folder, missing)
        for name in missing:
            row = rows[name] if name in rows else each[name]
            self._log(self._network(row, curves.get(name, {}), front=name in rows, chosen=False))
        if best in names:
            children[best] = self._one(rows[best], children, front=True, chosen=True)

    def _one(self, row: Row, children: Mapping[str, Any], *, front: bool, chosen: bool) -> Any:
        """The child run of a network with its model, of which what is missing is made."""
        child = children.get(name := str(row["replica"]))
        curves = curves_of(self._folder, [name])[name] if child is None else {}
        return self._exported(self._network(row, curves, front=front, chosen=chosen), child)

    def _network(self, row: Row, curves: Mapping[str, Sequence[float]], *, front: bool, chosen: bool) -> Logged:
        """One network of the table."""
        name = str(row["replica"])
        task, digest = self._task(name)
        network = results.network(self._folder, name, task, self.plugins.functions)
        record = lineage.lineage_of(self._folder, self.config, row, network)

        def beside(folder: Path) -> None:
            results.write_certificate(self._folder, name, folder)
            lineage.write(record, folder)

        def write(folder: Path) -> None:
            save(network, folder)
            beside(folder)

        tags, scores = self._lineage(row, task, digest) | {LINEAGE: lineage.digest(record)}, scores_of(row)
        states = {"nasplug.front": _word(front), "nasplug.chosen": _word(chosen)}
        params = {key: value for key, value in row.items() if "." in key or key in ("seed", "configuration")}
        return Logged(name, network, task, digest, tags, scores, write, beside, states, params, curves)

    def _log_ensemble(self, children: dict[str, Any], row: Row) -> Any:
        """The mean of several networks, where that of the folder has no run yet; ``row`` is the chosen network's."""
        folder = self._folder / "ensemble"
        network = ensemble.load(folder, self.plugins.functions)
        key = MEAN + digest_of(network)
        task, digest = self._task(str(row["replica"]))
        members = [str(member["name"]) for member in network.record["members"]]
        tags = self._lineage(row, task, digest) | {
            "nasplug.replica": MEAN,
            "nasplug.pack": ", ".join(dict.fromkeys(map(pack_of, members))),
            "nasplug.members": ", ".join(members),
        }
        told = files.read_json(folder / "scores.json")
        scores = {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
        record = lineage.read(folder / lineage.FILE)
        tags |= {LINEAGE: lineage.digest(record)}
        write, beside = partial(shutil.copytree, folder, dirs_exist_ok=True), partial(lineage.write, record)
        made = Logged("ensemble", network, task, digest, tags, scores, write, beside)
        children[key] = self._exported(made, children.get(key))
        return children[key]

    def _log(self, made: Logged, *, model: bool = False) -> str:
        """A child run: parameters, scores, curves, data and files, and with ``model`` its model; returns its id."""
        began = now_ms()
        run = self._create_run(
            made.name, {**made.lineage, DIGEST: digest_of(made.network), **made.states}, child=True, began=began
        )
        self._client.log_inputs(run, datasets=datasets_of(made.task, made.digest), models=self._sources(made.lineage))
        with tempfile.TemporaryDirectory() as there:
            made.write(Path(there))
            self._client.log_artifacts(run, there, "network")
        self._client.log_batch(
            run, self._points(made, run, began, self._model(made, run) if model else None), params_of(made.params)
        )
        self._client.set_terminated(run, "FINISHED")
        self._client.set_tag(run, COMPLETE, "true")  # last: a child without it is made anew
        return run

    def _sources(self, tags: Mapping[str, str]) -> list[Any]:
        """What the method of a run was made from, as inputs of it: logged models of this store with such a digest."""
        from mlflow.entities import LoggedModelInput

        digests = {which for key, which in tags.items() if key.startswith(MADE_FROM) and SHA256.fullmatch(which)}
        found = []
        for digest in sorted(digests):
            if digest not in self._models:
                where = [each.experiment_id for each in self._client.search_experiments()]
                models = self._client.search_logged_models(where, f"tags.`{DIGEST}` = '{digest}'", max_results=1)
                self._models[digest] = models[0].model_id if models else ""
            found += [LoggedModelInput(self._models[digest])] if self._models[digest] else []
        return found

    def _exported(self, made: Logged, child: Any | None) -> Any:
        """The child run of a network with its model, which it gets where it has none; made where there is no run.

        Tracing a network takes as long as ten child runs: those that are neither served nor asked for have none.
        """
        if child is not None and child.outputs and child.outputs.model_outputs:
            return child
        if child is None:
            run = self._log(made, model=True)
        else:
            run = str(child.info.run_id)
            self._client.set_tag(run, COMPLETE, "false")  # until the model is whole
            points = self._points(replace(made, curves={}), run, child.info.start_time, self._model(made, run))
            self._client.log_batch(run, points)
            self._client.set_tag(run, COMPLETE, "true")
        return self._client.get_run(run)

    def _model(self, made: Logged, run: str) -> str:
        tags = {**made.lineage, DIGEST: digest_of(made.network)}

        def beside(folder: Path) -> None:
            made.beside(folder)
            write_evidence(made.network, made.task, folder)

        return log_model(self._client, self._experiment, run, made.network, made.task, made.name, tags, beside)

    def _points(self, made: Logged, run: str, at: int, model: str | None) -> list[Any]:
        """Scores, of the run and of its ``model``, and curves; dated ``at`` the run's start, so that none is there twice."""
        from mlflow.entities import Metric

        points = [
            Metric(key, value, at, 0, model, *scored_on(key, made.task, made.digest), run)
            for key, value in made.scores.items()
            if math.isfinite(value)
        ]
        steps = made.curves.get("step", ())
        for key, values in made.curves.items():
            pairs = zip(steps, values if key != "step" else (), strict=False)
            points += [Metric(f"history/{key}", float(v), at, int(step)) for step, v in pairs if math.isfinite(v)]
        return points

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
            "nasplug.plugins": ", ".join(sorted({f"{p['distribution']}=={p['version']}" for p in self._note.plugins})),
            "nasplug.task": task.name,
            "nasplug.data_digest": digest,
            "nasplug.config_digest": self._config_digest,
        }

    def _log_failures(self, frame: pd.DataFrame, children: Mapping[str, Any]) -> None:
        """One child run per failed pack, with its error; one that works since then is marked."""
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
            self._client.set_tag(run, COMPLETE, "true")


def _listed(owners: Mapping[str, str], kind: str) -> str:
    return ", ".join(owner for place, owner in sorted(owners.items()) if re.fullmatch(rf"{kind}\.\d+", place))


def _word(value: bool) -> str:
    return "true" if value else "false"
