"""A child run's model as a version of a registered model that bears the alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nasplug.tracking.models import ensure_registered, new_version

__all__ = ["DIGEST", "Registered", "register"]

CHAMPION, CHALLENGER = "champion", "challenger"
STATES = ("nasplug.front", "nasplug.chosen", "nasplug.complete")  # tags that say how a run stands, not where it came from
PROMOTED = "nasplug.promoted"  # tag of a version that has had the alias
DIGEST = "nasplug.digest"  # tag: what a network is, wherever it came from


class Registered(NamedTuple):
    """Where a served network is found: ``models:/<name>@<alias>``, which was ``models:/<name>/<version>`` when written."""

    name: str
    version: str
    alias: str


def register(client: Any, uri: str, name: str, child: Any, scores: Mapping[str, str], description: str) -> Registered:
    """What a child run logged, as a version that bears the alias ``champion``; the one before becomes the ``challenger``.

    A version with the same content is kept, whichever run made it, and does not take the alias back from a study that came
    later. ``scores`` are tags of a new version, beside its lineage.
    """
    ensure_registered(client, name)
    same = [v for v in client.search_model_versions(f"name = '{name}'") if v.tags.get(DIGEST) == child.data.tags[DIGEST]]
    ours = [v for v in same if _has_model(client, v)]
    if ours:
        version = str(ours[0].version)
    else:
        lineage = {key: value for key, value in child.data.tags.items() if key.startswith("nasplug.") and key not in STATES}
        model, tags = child.outputs.model_outputs[0].model_id, {**lineage, **scores}
        version = new_version(client, uri, name, model, child.info.run_id, tags, description)
    previous = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}.get(CHAMPION)
    was_promoted = any(v.tags.get(PROMOTED) == "true" for v in same)
    if not was_promoted or (previous != version and previous in {str(v.version) for v in same}):
        if previous not in (None, version):
            client.set_model_version_tag(name, version, "nasplug.previous_champion", previous)
            client.set_registered_model_alias(name, CHALLENGER, previous)
        client.set_registered_model_alias(name, CHAMPION, version)
        client.set_model_version_tag(name, version, PROMOTED, "true")  # last: without it, this is done again
    return Registered(name, version, CHAMPION)


def _has_model(client: Any, version: Any) -> bool:
    """Whether a version's model is still there: one of a half-written run was deleted with it."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_logged_model(str(version.source).removeprefix("models:/"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True
