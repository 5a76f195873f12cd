"""A registered model back as a network: its own files, which stay when the runs that made it are deleted."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasplug import compact, ensemble
from nasplug.activations import FUNCTIONS, Function
from nasplug.compact import CompactNetwork, digest_of
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError, NasplugError, scrub
from nasplug.tracking.models import probed
from nasplug.tracking.packaging import NETWORK
from nasplug.tracking.places import talking, variables
from nasplug.tracking.registry import DIGEST

__all__ = ["MODELS", "asked", "served"]

MODELS = "models:/"
MODEL = re.compile(r"models:/([^/@:]+)(?:@([^/@:]+)|/(\d+))")


@contextmanager
def asked(uri: str, model: str, told: str) -> Iterator[tuple[Any, Any]]:
    """A client, and the version of a registered model, while MLflow is talked to.

    Args:
        uri: of the tracking store, which has the registry, too.
        model: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        told: what to do where MLflow does not answer, or has no such model.

    Raises:
        ConfigError: for another name of a model, or one that is not there.
        NasplugError: where MLflow does not answer.
    """
    found = MODEL.fullmatch(model)
    if found is None:
        raise ConfigError(f"{model}; needed: models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, number = found.groups()
    silent = variables({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
    with talking(uri, retries=1, seconds=30, told=told), probed(uri), silent:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        try:
            version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # an alias that is not there
                raise
            raise ConfigError(f"{model} is not in the registry at {scrub(uri)}. {told}") from None
        yield client, version


def served(uri: str, model: str, functions: Mapping[str, Function] = FUNCTIONS) -> CompactNetwork | Ensemble:
    """The network of a registered model, with its encoder; nothing that MLflow holds is run as code.

    Args:
        uri: of the tracking store, which has the registry, too.
        model: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        functions: what activations mean.

    Raises:
        ConfigError: for another name of a model, or one that is not there.
        NasplugError: where MLflow does not answer, or holds other files than were registered.
    """
    told = "Give a model that is there, and its store (--store)"
    with asked(uri, model, told) as (client, version), tempfile.TemporaryDirectory() as there:
        if DIGEST not in version.tags:
            raise NasplugError(f"{model} is no network of nasplug: it has no tag {DIGEST}. Load it with what registered it")
        folder = _network_files(client, uri, version, there)
        if (folder / compact.RECORD).exists():
            network: CompactNetwork | Ensemble = compact.load(folder, functions)
        else:
            network = ensemble.load(folder, functions)
    if digest_of(network) != version.tags.get(DIGEST, ""):
        raise NasplugError(
            f"{model}: its files are not those that were registered; run the study again, which tells MLflow anew"
        )
    return network


def _network_files(client: Any, uri: str, version: Any, there: str) -> Path:
    """The network's own files, fetched from where MLflow itself loads a version; those of older versions are with its run."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    home = client.get_model_version_download_uri(version.name, str(version.version))
    try:
        return Path(download_artifacts(artifact_uri=f"{home}/{NETWORK}", dst_path=there, tracking_uri=uri))
    except (MlflowException, OSError) as error:
        try:
            return Path(client.download_artifacts(str(version.run_id), NETWORK, there))
        except (MlflowException, OSError):
            raise error from None
