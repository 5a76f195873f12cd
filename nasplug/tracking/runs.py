"""The runs of one study in MLflow."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.config import MLflow, StudyConfig, flatten
from nasplug.console import visible
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.identity import decisive
from nasplug.tracking.ledger import STATE_FILE, Note, note_of, story_of, take_note
from nasplug.tracking.places import artifact_root, database_of, default_uri, once, talking
from nasplug.tracking.records import now_ms
from nasplug.tracking.schema import state_of

__all__ = ["Runs", "end_killed", "params_of"]

FOLDER = "nasplug.folder"  # tag: which folder's study a parent run is of
RUN_KEY = "nasplug.key"  # tag of a parent run: see `nasplug.tracking.ledger.Note`
LOCK = ".telling.lock"
KEY, PARAM, TAG = 250, 6000, 8000  # MLflow's limits
PAGE = 1000
KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's page then shows runs, not traces


class Runs:
    """A client that is told its URI, the study's experiment and parent run, found or made, and what is written to a run."""

    def __init__(self, config: StudyConfig, manifest: Sequence[Mapping[str, Any]]) -> None:
        self.config = config
        self._manifest = manifest
        self.settings = config.mlflow or MLflow()
        self.uri = self.settings.uri or default_uri(config.home)
        self.run = ""
        self._client: Any = None
        self._experiment = ""
        self._folder = config.folder.resolve()
        self._noted: Note | None = None

    @contextmanager
    def _talk(self, *, retries: int, seconds: int, told: str) -> Iterator[None]:
        """`talking`, as the only process that tells of this study.

        Raises:
            NasplugError: where MLflow fails, or another process tells it now.
        """
        with talking(self.uri, retries=retries, seconds=seconds, told=told):
            self._folder.mkdir(parents=True, exist_ok=True)
            with files.locked(self._folder, "telling MLflow of this study", LOCK):
                yield

    @property
    def _note(self) -> Note:
        """What was noted where the study ran; of one that noted nothing, what is known here."""
        if self._noted is None:
            self._noted = note_of(self._folder) or take_note(self._folder, self._manifest)
        return self._noted

    def _connect(self) -> Any:
        """A client whose tables exist when it is returned."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        if self.settings.register_ is not None:
            client.search_registered_models(max_results=1)  # the registry makes its own connection
        return client

    def _find_experiment(self) -> str:
        """The experiment's id; made where it is missing.

        Raises:
            ConfigError: when it was deleted: MLflow keeps the name, and takes no runs.
        """
        name = self.settings.experiment or self.config.study
        found = self._client.get_experiment_by_name(name)
        if found is None:
            made = self._make_experiment(name)
            if made is not None:
                return made
            found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"mlflow.experiment: {name!r} was deleted at {scrub(self.uri)}; restore it "
                f"(mlflow experiments restore -x {found.experiment_id}) or give another name (mlflow.experiment=NAME)"
            )
        return str(found.experiment_id)

    def _make_experiment(self, name: str) -> str | None:
        """Its id; None where another study has made it just now."""
        from mlflow.exceptions import MlflowException

        try:
            root = artifact_root(self.uri, str(self.config.home))
            return str(self._client.create_experiment(name, artifact_location=root, tags=KIND))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return None

    def _find_run(self) -> str:
        """The run that this study wrote before, or a new one.

        A run of this folder that still says RUNNING and is not the one to go on with was killed, and is marked so.
        """
        run, news = self._remembered()
        if not run:
            run = self._begun() or self._begin(news)
            there = self._client.get_run(run).data.params  # what may change cannot be a parameter: those are written once
            params = [param for param in params_of(flatten(decisive(self.config))) if param.key not in there]
            self._client.log_batch(run, params=params)
        for left in self._search(f"tags.`{FOLDER}` = '{self._mark}' AND attributes.status = 'RUNNING'"):
            if left.info.run_id != run:
                self._client.set_terminated(left.info.run_id, "KILLED")
        self._client.update_run(run, status="RUNNING")
        return run

    def _begun(self) -> str:
        """The run with this study's key: it was made, and that was not written down; empty where there is none.

        A copy of the study's folder has the same key. So a run that holds something must be of this folder.
        """
        found = [one for one in self._keyed() if not one.data.params or one.data.tags.get(FOLDER) == self._mark]
        return min(((one.info.start_time, one.info.run_id) for one in found), default=(0, ""))[1]

    def _doubles(self) -> list[str]:
        """Runs with this study's key beside its own that hold nothing: they were made, and the answer never came."""
        return [one.info.run_id for one in self._keyed() if one.info.run_id != self.run and not one.data.params]

    def _keyed(self) -> Iterator[Any]:
        return self._search(f"tags.`{RUN_KEY}` = '{self._note.key}'")

    @property
    def _mark(self) -> str:
        """The study's folder, in a form that any path can be searched by."""
        return hashlib.sha256(str(self._folder).encode()).hexdigest()

    def _remembered(self) -> tuple[str, str]:
        """What ``mlflow.json`` says: a run that is there, or an empty id and why there is none."""
        from mlflow.exceptions import MlflowException

        path = self._folder / STATE_FILE
        if not path.exists():
            return "", ""
        try:
            state = files.read_json(path)
        except files.DamageError as error:
            return "", f"an earlier run, which is not known any more: {error}"
        if state["uri"] != scrub(self.uri):
            return "", f"continues run {state['run_id']} at {state['uri']}: the tracking URI changed"
        if state["experiment_id"] != self._experiment:
            return "", f"continues run {state['run_id']} of experiment {state['experiment_id']}: the experiment changed"
        try:
            run = self._client.get_run(state["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return "", f"continues run {state['run_id']}, which is no longer there"
        if run.info.lifecycle_stage != "active":
            return "", f"continues run {state['run_id']}, which was deleted"
        return str(state["run_id"]), ""

    def _begin(self, news: str) -> str:
        """A new parent run."""
        story = story_of(self._folder)
        tags = {FOLDER: self._mark, RUN_KEY: self._note.key, **({"nasplug.continues": news} if news else {})}
        return self._create_run(self.config.study, tags, began=None if story is None else int(1000 * story.began))

    def _create_run(self, name: str, tags: Mapping[str, str], *, child: bool = False, began: int | None = None) -> str:
        """A run with the tags that MLflow's own fluent functions would set; returns its id. ``began``: `now_ms`."""
        standard = {"mlflow.source.name": "nasplug", "mlflow.source.type": "LOCAL", "mlflow.user": self._note.user}
        parent = {"mlflow.parentRunId": self.run} if child else {}
        every = {**standard, **parent, **tags}
        with once():
            made = self._client.create_run(self._experiment, start_time=began or now_ms(), run_name=name, tags=every)
        return str(made.info.run_id)

    def _remember(self, *, running: bool, **found: str) -> None:
        """Write ``mlflow.json``, keeping the registered model of an earlier time."""
        state = {"uri": scrub(self.uri), "experiment_id": self._experiment, "run_id": self.run, "running": running, **found}
        path = self._folder / STATE_FILE
        old: dict[str, Any] = {}
        with suppress(files.DamageError):
            old = files.read_json(path)
        kept = old if old.get("run_id") == state["run_id"] else {}
        self._folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {**kept, **state})

    def _tag(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(_key(key), value[:TAG]) for key, value in tags.items()])

    def _metrics(self, run: str, metrics: Mapping[str, float]) -> None:
        """Numbers of a run; those that it has already are not told again."""
        from mlflow.entities import Metric

        now, known = now_ms(), self._client.get_run(run).data.metrics
        news = {key: float(value) for key, value in metrics.items() if math.isfinite(value) and known.get(key) != value}
        self._client.log_batch(run, metrics=[Metric(key, value, now, 0) for key, value in news.items()])

    def _search(self, where: str) -> Iterator[Any]:
        """Runs of the experiment, page by page."""
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs([self._experiment], where, max_results=PAGE, page_token=token or None)
            yield from page
            token = page.token or None


def params_of(values: Mapping[str, Any]) -> list[Any]:
    """Parameters of a run; the client writes as many at once as MLflow takes."""
    from mlflow.entities import Param

    return [Param(_key(key), visible(str(scrub(str(value))))[:PARAM]) for key, value in values.items()]


def end_killed(folder: Path) -> bool:
    """Mark a study's run as ``KILLED`` where its process ended without saying so; whether it did.

    Only in an sqlite file that is there, with the tables of this MLflow: a look at somebody's folder asks no server, and makes
    or migrates nothing. A study that runs, one that ended and could not tell MLflow so (`nasplug sync` does), and a read-only
    folder are left alone too. The next run does it in all these cases.
    """
    path = folder / STATE_FILE
    try:
        if not path.exists() or not files.read_json(path).get("running"):
            return False
        with files.locked(folder, "the study"):
            state = files.read_json(path)
            database, story = database_of(str(state["uri"])), story_of(folder)
            if database is None or not database.exists() or (story is not None and story.end):
                return False
            with talking(state["uri"], retries=0, seconds=5, told=""):
                from mlflow import MlflowClient

                if state_of(database) != "current":
                    return False

                MlflowClient(tracking_uri=state["uri"], registry_uri=state["uri"]).set_terminated(state["run_id"], "KILLED")
            told = {} if story is None else {"told": story.mark}
            files.write_json(path, {**state, **told, "running": False})
    except (NasplugError, OSError, LookupError):  # what the file says may be anything
        return False
    return True


def _key(text: str) -> str:
    """A name that MLflow takes for a parameter, tag or metric."""
    return re.sub(r"[^\w.\-: /]", "_", text)[:KEY]
