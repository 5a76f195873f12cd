"""A small network as a logged model, and as a version of a registered model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nasplug.compact import CompactNetwork, digest_of
from nasplug.ensemble import Ensemble
from nasplug.errors import NasplugError
from nasplug.tasks import Task
from nasplug.tracking.evidence import write_evidence
from nasplug.tracking.packaging import package
from nasplug.tracking.places import artifact_root, as_global, once, probe, talking
from nasplug.tracking.schema import alone

__all__ = ["Entry", "ensure_registered", "log_model", "new_version", "publish", "publish_files", "reach"]

SEE_TAGS = "see the tags of each version for where it came from"


def log_model(
    client: Any,
    experiment: str,
    run: str,
    network: CompactNetwork | Ensemble,
    task: Task,
    name: str,
    tags: Mapping[str, str],
    beside: Callable[[Path], None] = lambda folder: None,
) -> str:
    """The network as a model that answers rows without nasplug (`nasplug.tracking.packaging`); the logged model's id.

    What `mlflow.pyfunc.log_model` does, with a client that knows its URI instead of MLflow's global state, and without loading
    the model back to try it. ``beside`` may write more files into the model's folder.

    Raises:
        NasplugError: for a network that cannot be exported.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    with once():
        model = client.create_logged_model(
            experiment, name.replace("/", "-"), run, tags=dict(tags), model_type="nasplug.network"
        )
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    record = Model(
        artifact_path=model.artifact_location,
        run_id=run,
        model_uuid=model.model_id,
        model_id=model.model_id,
        metadata={"nasplug": network.record},
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        try:
            package(network, task, folder, record)
        except RuntimeError as error:  # what torch.export raises
            raise NasplugError(
                f"network {name} cannot be exported for MLflow: {type(error).__name__}: {str(error)[:500]}. Its functions "
                "must be traceable by torch.export; the results are safe on disk, and mlflow=null does not track"
            ) from error
        beside(folder)
        client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def ensure_registered(client: Any, name: str, about: str = f"Made by nasplug; {SEE_TAGS}.") -> None:
    """Make the registered model, unless it is there; ``about`` describes a new one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def new_version(client: Any, uri: str, name: str, model: str, run: str, tags: Mapping[str, str], description: str) -> str:
    """A version of the registered model ``name`` from a logged model; its number."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    with as_global(uri), once():  # the registry of a database looks the model up through MLflow's global URI
        made = client.create_model_version(
            name, f"models:/{model}", run_id=run, tags=dict(tags), description=description, model_id=model
        )
    link = json.dumps([{"name": name, "version": int(made.version)}])
    client.set_logged_model_tags(model, {MLFLOW_MODEL_VERSIONS: link})  # MLflow's page shows it there
    return str(made.version)


@contextmanager
def probed(uri: str) -> Iterator[None]:
    """`probe`, which makes the folder of a database, and then `alone`, whose lock lies in it."""
    probe(uri)
    with alone(uri):
        yield


@dataclass(frozen=True, slots=True)
class Entry:
    """What a plugin made outside of a study, as it shall stand in MLflow.

    Attributes:
        name: of the registered model that gets a version.
        uri: of the store.
        store: the folder for artifacts where ``uri`` is a database that is no file; a server and a database file have a place.
        experiment: of the run.
        run_name: a person's name for it.
        tags: of run and version, and of the logged model.
        metrics: of the run.
        files: of the run.
    """

    name: str
    uri: str
    store: str
    experiment: str
    run_name: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Sequence[Path] = ()


def publish(entry: Entry, network: CompactNetwork, task: Task) -> str:
    """A network as a version of the registered model ``entry.name``; the version's number.

    Run, logged model and version have the tags and ``nasplug.digest`` (`digest_of`). A network that is a version of that name
    already is not logged again. No alias is moved. Artifacts go where those of studies go.

    Raises:
        NasplugError: for a place that cannot be reached or refuses, or a network that cannot be exported.
    """

    def log(client: Any, experiment: str, run: str, told: Mapping[str, str]) -> str:
        for file in entry.files:
            client.log_artifact(run, str(file))
        beside = partial(write_evidence, network, task)
        model = log_model(client, experiment, run, network, task, entry.run_name, told, beside)
        return new_version(client, entry.uri, entry.name, model, run, told, f"{entry.run_name}; {SEE_TAGS}")

    return _published(entry, digest_of(network), log)


def publish_files(entry: Entry, digest: str) -> str:
    """Files that are no network as a version of the registered model ``entry.name``; the version's number.

    ``mlflow.artifacts.download_artifacts("models:/NAME/VERSION")`` gives them back. ``digest`` (SHA-256, hexadecimal) says what
    they are: a version that has it as ``nasplug.digest`` is not made twice. As `publish` in all else.

    Raises:
        NasplugError: for a place that cannot be reached or refuses.
    """

    def log(client: Any, experiment: str, run: str, told: Mapping[str, str]) -> str:
        for file in entry.files:
            client.log_artifact(run, str(file), "files")
        source = f"{client.get_run(run).info.artifact_uri}/files"
        words = f"{entry.run_name}; {SEE_TAGS}"
        return str(client.create_model_version(entry.name, source, run, tags=dict(told), description=words).version)

    return _published(entry, digest, log)


def _published(entry: Entry, digest: str, log: Callable[[Any, str, str, Mapping[str, str]], str]) -> str:
    """The version that has this digest, or what ``log`` makes of client, experiment, run and tags."""
    told = {**entry.tags, "nasplug.digest": digest}
    safe = f"The result itself is safe on disk, and not a version of {entry.name!r}; run the same command again"
    with talking(entry.uri, retries=1, seconds=30, told=safe), probed(entry.uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=entry.uri, registry_uri=entry.uri)
        ensure_registered(client, entry.name)
        for version in client.search_model_versions(f"name = '{entry.name}'"):
            if version.tags.get("nasplug.digest") == digest:
                return str(version.version)
        found = client.get_experiment_by_name(entry.experiment)
        root = artifact_root(entry.uri, entry.store)
        experiment = client.create_experiment(entry.experiment, root) if found is None else found.experiment_id
        run = client.create_run(experiment, run_name=entry.run_name, tags=told).info.run_id
        status = "FAILED"
        try:
            for key, value in entry.metrics.items():
                client.log_metric(run, key, value)
            made = log(client, str(experiment), run, told)
            status = "FINISHED"
        finally:
            client.set_terminated(run, status)
        return made


def reach(uri: str) -> None:
    """Ask MLflow for something small: for callers whose work takes long and ends there.

    Raises:
        NasplugError: where it does not answer.
    """
    with talking(uri, retries=1, seconds=5, told="Give the URI of a store that is there, or register nothing"), probed(uri):
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models(max_results=1)
