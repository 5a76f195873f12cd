"""The lineage of a registered model, from the files of its version."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from nasplug import lineage
from nasplug.errors import ConfigError, NasplugError
from nasplug.tracking.children import LINEAGE
from nasplug.tracking.policy import REPRODUCED
from nasplug.tracking.serving import asked

__all__ = ["Version", "mark_reproduced", "traced"]


class Version(NamedTuple):
    """A version of a registered model, and where it came from.

    Attributes:
        name, number: of the version.
        aliases: that it bears now.
        lineage: its record (`nasplug.lineage.lineage_of`).
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    lineage: dict[str, Any]


def traced(uri: str, model: str) -> Version:
    """The lineage of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; neither its run nor its study's folder need be there.

    Raises:
        ConfigError: for another name of a model, or a version without lineage.
        DamageError: for a lineage that was changed.
        NasplugError: where MLflow does not answer, has no such model, or holds another lineage than was registered.
    """
    told = "Give a registered model, and its store (--store)"
    with asked(uri, model, told) as (client, version), tempfile.TemporaryDirectory() as there:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            home = client.get_logged_model(str(version.source).removeprefix("models:/")).artifact_location
            file = download_artifacts(artifact_uri=f"{home}/{lineage.FILE}", dst_path=there, tracking_uri=uri)
            record = lineage.read(Path(file))
        except (MlflowException, OSError):
            raise ConfigError(
                f"{model} is version {version.version} without {lineage.FILE}: this nasplug did not register it. Its tags have "
                "what is known of it; run its study again and register the result"
            ) from None
    if (tag := version.tags.get(LINEAGE)) is not None and tag != lineage.digest(record):
        raise NasplugError(
            f"{model}: its {lineage.FILE} is not the one that was registered; do not trust it, and register the network again"
        )
    return Version(str(version.name), str(version.version), tuple(sorted(map(str, version.aliases))), record)


def mark_reproduced(uri: str, model: str, *, reproduced: bool) -> None:
    """Write on the version (tag `REPRODUCED`) whether it came out the same again: the day, or ``false``.

    Raises:
        NasplugError: where MLflow does not answer, or may not be written.
    """
    told = "The result is printed above; the version was not tagged"
    with asked(uri, model, told) as (client, version):
        day = datetime.now(UTC).date().isoformat()
        client.set_model_version_tag(version.name, str(version.version), REPRODUCED, day if reproduced else "false")
