"""A small network as a logged model that loads without nasplug, and as a version of a registered model."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasplug.compact import CompactNetwork
from nasplug.errors import NasplugError
from nasplug.tasks import Task
from nasplug.tracking.places import alone, artifact_root, as_global, probe, talking
from nasplug.tracking.records import example_of, version_of

__all__ = ["digest_of", "ensure_registered", "log_model", "new_version", "publish", "reach"]

SERVING = ("torch", "mlflow", "numpy")  # what a logged model needs to be loaded; named, as inferring it takes 10 s a model


def log_model(
    client: Any,
    experiment: str,
    run: str,
    network: CompactNetwork,
    task: Task,
    name: str,
    tags: Mapping[str, str],
    beside: Callable[[Path], None] = lambda folder: None,
) -> str:
    """The network as a graph (``pt2``) that loads without nasplug; returns the logged model's id.

    What `mlflow.pytorch.log_model` does, with a client that knows its URI instead of MLflow's global state, and without
    loading the model back to try it. ``beside`` may write more files into the model's folder.

    Raises:
        NasplugError: for a network that cannot be exported.
    """
    import mlflow.pytorch
    import numpy as np
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    example = example_of(task)
    real = np.dtype("float32")
    signature = ModelSignature(
        inputs=Schema([TensorSpec(real, (-1, example.shape[1]))]),  # unnamed: a named tensor wants a dict of arrays
        outputs=Schema([TensorSpec(real, (-1, task.outputs))]),
    )
    model = client.create_logged_model(experiment, name.replace("/", "-"), run, tags=dict(tags), model_type="nasplug.network")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    record = Model(
        artifact_path=model.artifact_location,
        run_id=run,
        model_uuid=model.model_id,
        model_id=model.model_id,
        metadata={"nasplug": network.record},
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(temporary) / "model")
        try:
            mlflow.pytorch.save_model(
                network,
                folder,
                mlflow_model=record,
                signature=signature,
                input_example=example,
                pip_requirements=[f"{package}=={version_of(package).partition('+')[0]}" for package in SERVING],
                metadata=record.metadata,
                serialization_format="pt2",
            )
        except RuntimeError as error:  # what torch.export raises
            raise NasplugError(
                f"network {name} cannot be exported for MLflow: {type(error).__name__}: {str(error)[:500]}. Its functions "
                "must be traceable by torch.export; the results are safe on disk, and mlflow=null does not track"
            ) from error
        beside(Path(folder))
        client.log_model_artifacts(model.model_id, folder)
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def ensure_registered(client: Any, name: str) -> None:
    """Make the registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Small networks found by nasplug; see the tags of each version.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def new_version(client: Any, uri: str, name: str, model: str, run: str, tags: Mapping[str, str], description: str) -> str:
    """A version of the registered model ``name`` from a logged model; its number."""
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    with as_global(uri):  # the registry of a database looks the model up through MLflow's global URI
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


def digest_of(network: CompactNetwork) -> str:
    """SHA-256 of a network's record and weights, hexadecimal."""
    h = hashlib.sha256(json.dumps(network.record, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        h.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()


def publish(
    network: CompactNetwork,
    task: Task,
    name: str,
    *,
    uri: str,
    experiment: str,
    store: str,
    run_name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Sequence[Path] = (),
) -> str:
    """A network that a plugin made outside of a study, as a version of the registered model ``name``; its number.

    Its run in ``experiment`` has the metrics and files; run, logged model and version have the tags and ``nasplug.digest``
    (`digest_of`). A network that is a version of that name already is not logged again. No alias is moved. Where the store of
    MLflow is no server, artifacts go beside its database, or into the folder ``store``.

    Raises:
        NasplugError: for a place that cannot be reached or refuses, or a network that cannot be exported.
    """
    told = {**tags, "nasplug.digest": digest_of(network)}
    safe = f"The network itself is safe on disk, and not a version of {name!r}; run the same command again"
    with talking(uri, retries=1, seconds=30, told=safe), probed(uri):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        ensure_registered(client, name)
        for version in client.search_model_versions(f"name = '{name}'"):
            if version.tags.get("nasplug.digest") == told["nasplug.digest"]:
                return str(version.version)
        found = client.get_experiment_by_name(experiment)
        where = client.create_experiment(experiment, artifact_root(uri, store)) if found is None else found.experiment_id
        run = client.create_run(where, run_name=run_name, tags=told).info.run_id
        status = "FAILED"
        try:
            for key, value in metrics.items():
                client.log_metric(run, key, value)
            for file in files:
                client.log_artifact(run, str(file))
            model = log_model(client, str(where), run, network, task, run_name, told)
            status = "FINISHED"
        finally:
            client.set_terminated(run, status)
        return new_version(client, uri, name, model, run, told, f"{run_name}: see its tags for where it came from")


def reach(uri: str) -> None:
    """Ask MLflow for something small: for callers whose work takes long and ends there.

    Raises:
        NasplugError: where it does not answer.
    """
    with talking(uri, retries=1, seconds=5, told="Give the URI of a store that is there, or register nothing"), probed(uri):
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=uri, registry_uri=uri).search_registered_models(max_results=1)
