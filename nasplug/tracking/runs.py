"""The runs of one study in MLflow."""

from __future__ import annotations

import getpass
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nasplug.config import MLflow, StudyConfig, scrub
from nasplug.errors import ConfigError
from nasplug.tracking.places import artifact_root, default_uri
from nasplug.tracking.records import flatten, now_ms

__all__ = ["STATE_FILE", "Runs"]

STATE_FILE = "mlflow.json"
KEY, PARAM, TAG, BATCH = 250, 6000, 8000, 100  # MLflow's limits
PAGE = 1000


class Runs:
    """A client that is told its URI, the study's experiment and parent run, found or made, and what is written to a run."""

    def __init__(self, config: StudyConfig) -> None:
        self.config = config
        self.settings = config.mlflow or MLflow()
        self.uri = self.settings.uri or default_uri(Path(config.store))
        self.run = ""
        self._client: Any = None
        self._experiment = ""
        self._folder = config.folder.resolve()

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
            return str(self._client.create_experiment(name, artifact_location=artifact_root(self.uri, self.config.store)))
        if found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"mlflow.experiment: {name!r} was deleted at {scrub(self.uri)}; restore it "
                f"(mlflow experiments restore -x {found.experiment_id}) or give another name (mlflow.experiment=NAME)"
            )
        return str(found.experiment_id)

    def _find_run(self) -> tuple[str, str]:
        """The run that this study wrote before, or an empty id and why it cannot go on."""
        from mlflow.exceptions import MlflowException

        path = self._folder / STATE_FILE
        if not path.exists():
            return "", ""
        state = json.loads(path.read_text())
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
        self._client.update_run(state["run_id"], status="RUNNING")
        return str(state["run_id"]), ""

    def _begin(self, news: str) -> str:
        """A new parent run with what never changes."""
        run = self._create_run(self.config.study, {"nasplug.continues": news} if news else {})
        # what a resumed study may change (store, resources, mlflow) cannot be a parameter: those are written once
        plain = {key: value for key, value in self.config.plain().items() if key not in ("store", "resources", "mlflow")}
        self._params(run, flatten(plain))
        return run

    def _create_run(self, name: str, tags: Mapping[str, str], *, child: bool = False) -> str:
        """A run with the tags that MLflow's own fluent functions would set; returns its id."""
        standard = {"mlflow.source.name": "nasplug", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
        parent = {"mlflow.parentRunId": self.run} if child else {}
        made = self._client.create_run(self._experiment, run_name=name, tags={**standard, **parent, **tags})
        return str(made.info.run_id)

    def _remember(self, state: Mapping[str, Any]) -> None:
        """Write ``mlflow.json``, keeping the registered model of an earlier time."""
        path = self._folder / STATE_FILE
        old = json.loads(path.read_text()) if path.exists() else {}
        kept = old if old.get("run_id") == state["run_id"] else {}
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps({**kept, **state}, indent=1) + "\n")
        beside.replace(path)

    def _params(self, run: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        every = [Param(_key(key), str(scrub(str(value)))[:PARAM]) for key, value in params.items()]
        for at in range(0, len(every), BATCH):
            self._client.log_batch(run, params=every[at : at + BATCH])

    def _tag(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        every = [RunTag(_key(key), value[:TAG]) for key, value in tags.items()]
        for at in range(0, len(every), BATCH):
            self._client.log_batch(run, tags=every[at : at + BATCH])

    def _metrics(self, run: str, metrics: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = now_ms()
        every = [Metric(key, float(value), now, step) for key, value in metrics.items() if math.isfinite(value)]
        self._client.log_batch(run, metrics=every)

    def _search(self, where: str) -> Iterator[Any]:
        """Runs of the experiment, page by page."""
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs([self._experiment], where, max_results=PAGE, page_token=token or None)
            yield from page
            token = page.token or None


def _key(text: str) -> str:
    """A name that MLflow takes for a parameter, tag or metric."""
    return re.sub(r"[^\w.\-: /]", "_", text)[:KEY]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"
