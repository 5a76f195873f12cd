"""An autoencoder as a registered model in MLflow, with what it was sampled and trained from."""

from __future__ import annotations

from pathlib import Path

from nasplug_swat.autoencoder import read
from nasplug_swat.training import CURVE, PICTURE, RESULT

__all__ = ["log"]


def log(folder: Path, name: str, uri: str) -> str:
    """Log the finished training in ``folder`` and register its autoencoder under ``name``; the version's number.

    The version's files are the autoencoder and its curve: ``mlflow.artifacts.download_artifacts("models:/NAME/VERSION")``
    and then ``nasplug_swat.read``. Its tags say digest, space, size, sampling, and the digest of the
    trained networks it learned from. A version that has this digest is not made twice.
    """
    import mlflow
    from mlflow.exceptions import RestException
    from mlflow.tracking import MlflowClient

    autoencoder = read(folder / RESULT)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        client.get_registered_model(name)
    except (mlflow.MlflowException, RestException):
        client.create_registered_model(name, description="Network autoencoders of nasplug-swat.")
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("nasplug.swat.digest") == autoencoder.digest:
            return str(version.version)
    experiment = client.get_experiment_by_name("autoencoders")
    where = client.create_experiment("autoencoders") if experiment is None else experiment.experiment_id
    run = client.create_run(where, run_name=folder.name)
    told = {
        "nasplug.swat.digest": autoencoder.digest,
        "nasplug.swat.space": autoencoder.space.model_dump_json(),
        "nasplug.swat.size": autoencoder.size.model_dump_json(),
        "nasplug.swat.sampling": autoencoder.sampling.model_dump_json(),
    }
    if "networks" in autoencoder.about:
        told["nasplug.swat.networks"] = autoencoder.about["networks"]["digest"]
    for key, value in autoencoder.about["training"].items():
        client.log_param(run.info.run_id, key, value)
    for key, value in told.items():
        client.set_tag(run.info.run_id, key, value)
    for kind in ("soft", "hard", "trained"):
        for pair, values in autoencoder.about.get(kind, {}).items():
            for word, value in values.items():
                client.log_metric(run.info.run_id, f"{kind}_{pair.replace('->', '_in_')}_{word}", value)
    for file in (RESULT, CURVE, PICTURE):
        if (folder / file).exists():
            client.log_artifact(run.info.run_id, str(folder / file), "autoencoder")
    client.set_terminated(run.info.run_id)
    source = f"{client.get_run(run.info.run_id).info.artifact_uri}/autoencoder"
    made = client.create_model_version(name, source, run.info.run_id, tags=told)
    return str(made.version)
