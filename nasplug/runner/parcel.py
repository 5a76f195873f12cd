"""A study as it is sent to a cluster: its config, the files that it names, and what it was planned with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nasplug.config import StudyConfig, from_yaml, parse, to_yaml
from nasplug.errors import ConfigError
from nasplug.identity import UNDECIDING, makers
from nasplug.places import in_bucket
from nasplug.plugins import Plugins

__all__ = ["Parcel", "check_store", "packed", "unpacked"]

CONFIG, SENT = "study.yaml", "sent.json"
MOST_BYTES = 200 * 2**20  # the head of a cluster keeps what is sent in memory; Ray itself takes 512 MB, compressed
IGNORING = frozenset({".gitignore", ".rayignore"})  # in a sent folder Ray would leave out what they name
SIDES = ("machine that sent the study", "the cluster")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A folder that is sent.

    Attributes:
        folder: with all that travels.
        files: bytes by name, of the files that the study names.
        digest: SHA-256 of all that decides what will run.
    """

    folder: Path
    files: Mapping[str, int]
    digest: str


def check_store(study: StudyConfig) -> None:
    """Refuse a store that Ray would remove with the job's working directory; a bucket stays.

    Raises:
        ConfigError: for a relative path.
    """
    if not (study.store.startswith(("/", "~")) or in_bucket(study.store)):
        raise ConfigError(
            f"store: {study.store!r} is relative, and a job's working directory is removed by Ray; write a folder of the "
            "cluster's head node that stays (store=/data/runs), or a bucket (store=s3://bucket/path)"
        )


def packed(study: StudyConfig, plugins: Plugins, folder: Path) -> Parcel:
    """Fill an empty ``folder``. A file of the working directory keeps its path; any other is put beside, and named there.

    Raises:
        ConfigError: for files that are too large, or cannot be read.
    """
    plain = study.plain()
    sizes: dict[str, int] = {}
    whole = hashlib.sha256()
    changed: dict[str, str] = {}
    for text in dict.fromkeys(_named({key: plain[key] for key in plain if key not in UNDECIDING})):
        here, there = Path(text).expanduser(), _place(text)
        changed |= {text: there} if there != text else {}
        for source in [here] if here.is_file() else _files(here):
            name = there if source == here else str(PurePosixPath(there) / source.relative_to(here).as_posix())
            sizes[name] = source.stat().st_size
            if sum(sizes.values()) > MOST_BYTES:
                raise ConfigError(
                    f"the files that the study names are larger than {MOST_BYTES / 2**20:.0f} MB (with {source}: "
                    f"{sum(sizes.values()) / 2**20:.0f} MB); needed: less, for files of jobs lie in the memory of the "
                    "cluster's head. Copy them to the head node, and run nasplug there (--address auto)"
                )
            try:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
            except OSError as error:
                raise ConfigError(f"{source} cannot be sent: {error.strerror or error}") from None
            whole.update(json.dumps([name, hashlib.sha256((folder / name).read_bytes()).hexdigest()]).encode())
    text = to_yaml(_renamed(plain, changed))
    sent = json.dumps({"manifest": plugins.manifest, "makers": makers(study, plugins)}, sort_keys=True)
    for name, content in ((CONFIG, text), (SENT, sent)):
        if name in sizes:
            raise ConfigError(f"{name!r} is named by the study, and nasplug sends one of its own under that name; rename yours")
        (folder / name).write_text(content, encoding="utf-8")
        whole.update(content.encode())
    return Parcel(folder, sizes, whole.hexdigest())


def unpacked(folder: Path, plugins: Plugins) -> StudyConfig:
    """The study that was sent, in the ``folder`` where it arrived.

    Raises:
        ConfigError: where nothing was sent.
        PluginError: where the plugins here are not those that the study was planned with: every difference.
    """
    try:
        text, sent = ((folder / name).read_text(encoding="utf-8") for name in (CONFIG, SENT))
        was = json.loads(sent)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder}: no study was sent here ({error}); nasplug run CONFIG --address http://... sends one"
        ) from None
    study = parse(from_yaml(text, CONFIG, own=True))
    plugins.require(was["manifest"], was["makers"], makers(study, plugins), SIDES)
    return study


def _files(folder: Path) -> list[Path]:
    """All that is sent of a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in IGNORING)


def _named(value: Any, key: str = "") -> Iterator[str]:
    """Texts that are the path of a file, or under a key like ``path`` of a folder."""
    if isinstance(value, str):
        if key == "use" or not value.strip() or len(value) > 4096 or "\n" in value or "\0" in value:
            return
        path = Path(value).expanduser()
        try:
            found = path.is_file() or (key.endswith(("path", "folder", "root")) and path.is_dir())
        except OSError:  # too long for a name
            found = False
        if found:
            yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _named(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, key)


def _place(text: str) -> str:
    """Where a path lies in the parcel, and what it is called in the config there."""
    path = PurePosixPath(text)
    if not path.is_absolute() and ".." not in path.parts and not text.startswith("~"):
        return text
    return f"sent/{hashlib.sha256(text.encode()).hexdigest()[:8]}/{path.name}"


def _renamed(value: Any, changed: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return changed.get(value, value)
    if isinstance(value, Mapping):
        return {key: inner if key in UNDECIDING else _renamed(inner, changed) for key, inner in value.items()}
    return [_renamed(inner, changed) for inner in value] if isinstance(value, list) else value
