"""How a registered version stands now, asked of the registry itself: quickly, and without making or changing anything there."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nasplug.errors import NasplugError, scrub
from nasplug.tracking.history import CHALLENGER, CHAMPION
from nasplug.tracking.places import database_of, talking
from nasplug.tracking.registry import DIGEST, GATE, WHY

__all__ = ["Standing", "standing"]

SECONDS = 3.0
MOST_BYTES = 4_000_000
NAMES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")  # by which a user names a server that may have his credentials


@dataclass(frozen=True, slots=True)
class Standing:
    """What the registry says now.

    Attributes:
        name: of the registered model.
        version: that a study registered.
        champion: the version that bears ``champion``, empty where none does.
        challenger: likewise.
        same: whether the champion is the same network.
        why: why the version got the alias that it got when it was registered, empty where nothing is known.
    """

    name: str
    version: str
    champion: str
    challenger: str
    same: bool
    why: str

    @property
    def sentence(self) -> str:
        """In words."""
        mine = f"version {self.version} of {self.name!r}"
        if self.version == self.champion:
            told = f"This network is {mine}, and champion: models:/{self.name}@champion"
        elif self.same:
            told = f"This network is {mine}, and the champion, version {self.champion}, is the same network"
        else:
            also = ", the challenger" if self.version == self.challenger else ""
            champion = f"version {self.champion} is champion" if self.champion else "there is no champion"
            told = f"This network is {mine}{also}; {champion}"
        return f"{told}. When it was registered: {self.why}" if self.why else told

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        told = {key: getattr(self, key) for key in ("name", "version", "champion", "challenger", "why")}
        return {**told, "is_champion": self.same, "sentence": self.sentence}


def standing(uri: str, name: str, version: str) -> Standing:
    """Ask the registry, for 3 seconds at most, and only read there.

    An sqlite file is read as it is; it is neither made nor migrated. A server gets the credentials of the environment only if
    ``MLFLOW_TRACKING_URI`` names it: the address may come from somebody else's folder. Any other database is asked on this
    condition alone.

    Raises:
        NasplugError: where it does not answer, in one line.
    """
    database = database_of(uri)
    if database is not None:
        aliases, tags = _of_file(database, name)
    elif any(scrub(os.environ.get(key, "")).rstrip("/") == scrub(uri).rstrip("/") for key in NAMES):
        aliases, tags = _of_client(uri, name, version)
    elif uri.startswith(("http://", "https://")):
        aliases, tags = _in_time(uri, partial(_of_server, uri, name, version))
    else:
        raise NasplugError(
            f"the registry at {scrub(uri)} was not asked; set MLFLOW_TRACKING_URI to that address, and it will be"
        )
    champion, mine = aliases.get(CHAMPION, ""), tags.get(version, {})
    digest = mine.get(DIGEST)
    same = champion == version or (digest is not None and tags.get(champion, {}).get(DIGEST) == digest)
    return Standing(name, version, champion, aliases.get(CHALLENGER, ""), same, mine.get(WHY, "") if mine.get(GATE) else "")


Found = tuple[dict[str, str], dict[str, dict[str, str]]]  # alias -> version; version -> its tags


def _in_time(uri: str, ask: Callable[[], Found]) -> Found:
    """What ``ask`` finds, which is not waited for any longer than `SECONDS`: a name may not resolve, an answer may drip.

    Raises:
        NasplugError: what ``ask`` raises, or that it took too long.
    """
    found: list[Found] = []
    failed: list[NasplugError] = []

    def run() -> None:
        try:
            found.append(ask())
        except NasplugError as error:
            failed.append(error)
        except (LookupError, TypeError, AttributeError):  # an answer in JSON that is none of MLflow's
            failed.append(NasplugError(f"the server at {scrub(uri)} is not MLflow: who is champion is not known"))

    asking = threading.Thread(target=run, daemon=True)  # it may outlive this call, never the process
    asking.start()
    asking.join(SECONDS)
    if failed:
        raise failed[0]
    if not found:
        raise NasplugError(f"the registry at {scrub(uri)} does not answer within {SECONDS:g} s: who is champion is not known")
    return found[0]


def _of_file(database: Path, name: str) -> Found:
    if not database.exists():
        raise NasplugError(f"the registry {database} is not there any more: who is champion is not known")
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as there:
            aliases = there.execute("SELECT alias, version FROM registered_model_aliases WHERE name = ?", (name,)).fetchall()
            keys = (name, DIGEST, GATE, WHY)
            rows = there.execute(
                "SELECT version, key, value FROM model_version_tags WHERE name = ? AND key IN (?, ?, ?)", keys
            ).fetchall()
    except sqlite3.Error as error:
        raise NasplugError(f"the registry {database} cannot be read: {error}") from None
    tags: dict[str, dict[str, str]] = {}
    for version, key, value in rows:
        tags.setdefault(str(version), {})[str(key)] = str(value)
    return {str(alias): str(version) for alias, version in aliases}, tags


def _of_client(uri: str, name: str, version: str) -> Found:
    with talking(uri, retries=0, seconds=int(SECONDS), told=""):
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        aliases = {str(alias): str(number) for alias, number in client.get_registered_model(name).aliases.items()}
        numbers = dict.fromkeys((version, aliases.get(CHAMPION, version)))
        return aliases, {number: dict(client.get_model_version(name, number).tags) for number in numbers}


def _of_server(uri: str, name: str, version: str) -> Found:
    model = _get(uri, "registered-models/get", {"name": name}).get("registered_model", {})
    aliases = {str(one["alias"]): str(one["version"]) for one in model.get("aliases", [])}
    tags = {}
    for number in dict.fromkeys((version, aliases.get(CHAMPION, version))):
        found = _get(uri, "model-versions/get", {"name": name, "version": number}).get("model_version", {})
        tags[number] = {str(one["key"]): str(one.get("value", "")) for one in found.get("tags", [])}
    return aliases, tags


def _get(uri: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    address = f"{parts.scheme}://{place}{parts.path.rstrip('/')}/api/2.0/mlflow/{path}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(address)
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            found = json.loads(answer.read(MOST_BYTES))
        if not isinstance(found, dict):
            raise TypeError("its answer is no JSON object")
    except (OSError, ValueError, TypeError, urllib.error.URLError) as error:
        told = " ".join(str(getattr(error, "reason", error)).split())[:200]
        raise NasplugError(
            f"the registry at {scrub(uri)} does not answer ({scrub(told)}): who is champion is not known"
        ) from None
    return found
