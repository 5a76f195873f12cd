"""The lineage of a network, found by its folder or by its model's name; and the network trained again from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nasplug import compact, lineage
from nasplug.compact import CompactNetwork
from nasplug.errors import ConfigError, NasplugError
from nasplug.folder import STUDY_FILE
from nasplug.lineage.again import Reproduction, again
from nasplug.plugins import load_plugins
from nasplug.study import Study
from nasplug.tracking import MODELS, served, store_of, traced

__all__ = ["Traced", "find", "leave", "reproduce"]


class Traced(NamedTuple):
    """A network's lineage, and where it was found.

    Attributes:
        where: as it was asked for.
        record: see `nasplug.lineage.lineage_of`.
        registered: ``models:/NAME/3 (champion)``; empty for folders.
        uri: of the store, for models.
        changed: files of an export that are not as they were written, or gone.
    """

    where: str
    record: dict[str, Any]
    registered: str = ""
    uri: str = ""
    changed: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """``models:/NAME/3``: what was found, wherever an alias points by now; empty for folders."""
        return self.registered.partition(" ")[0]

    @property
    def stages(self) -> list[lineage.Stage]:
        """From the data to what is served."""
        return lineage.stages(self.record, self.registered)


def find(where: str, store: str = "runs", replica: str | None = None) -> Traced:
    """The lineage of a study's network (the chosen one), of a network's or an export's folder, or of ``models:/NAME@ALIAS``.

    No plugin needs to be installed for the last three.

    Args:
        where: of these.
        store: for ``models:/``: the folder of a store, or an address of MLflow.
        replica: of a study another network than the chosen one.

    Raises:
        ConfigError: for a folder that holds none of these, or a network without lineage.
        NasplugError: for a model that MLflow does not have, or a lineage that was changed.
    """
    folder = Path(where).expanduser()
    if replica is not None and (where.startswith(MODELS) or not (folder / STUDY_FILE).exists()):
        raise ConfigError(
            f"--replica {replica}: {where} is not the folder of a study; leave --replica out, or give the folder of one"
        )
    if where.startswith(MODELS):
        uri = store if "://" in store else store_of(Path(store))
        version = traced(uri, where)
        bears = f" ({', '.join(version.aliases)})" if version.aliases else ""
        return Traced(where, version.lineage, f"{MODELS}{version.name}/{version.number}{bears}", uri)
    best = folder / "best" / lineage.FILE
    if (folder / STUDY_FILE).exists():
        return Traced(where, lineage.read(best) if replica is None and best.exists() else Study.open(folder).lineage(replica))
    if not (folder / lineage.FILE).exists():
        raise ConfigError(
            f"{where} has no {lineage.FILE}, and is not the folder of a study; needed: the folder of a study, of a network or "
            f"of an export that nasplug wrote, or {MODELS}NAME@ALIAS"
        )
    record = lineage.read(folder / lineage.FILE)
    return Traced(where, record, changed=tuple(_changed(folder, record.get("exports", []))))


def _changed(folder: Path, exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Files of an export that are not those that were written; exports of an older nasplug have no digests to tell."""
    for export in exports:
        for file, digest in export.get("digests", {}).items():
            path = folder / Path(file).name
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                yield str(path)


def leave(found: Traced, out: Path, forms: Sequence[Mapping[str, Any]]) -> None:
    """Write a network's lineage beside its exports, with what was exported: ``forms``, as ``export.json`` has them.

    Raises:
        ConfigError: where another file of that name is in the folder.
    """
    try:
        if (out / lineage.FILE).exists():
            lineage.read(out / lineage.FILE)
    except ConfigError as error:
        raise ConfigError(f"{error}; no export wrote it: name another folder, or move the file") from None
    kept = ("form", "files", "bytes", "difference", "error", "digests")
    exports = [{key: form[key] for key in kept if key in form} for form in forms if not form["refused"]]
    lineage.write({**found.record, "exports": exports}, out)


def _network(found: Traced, functions: Mapping[str, Any]) -> CompactNetwork | None:
    """The network as it left; None where its files are gone, or are none of nasplug's."""
    folder = Path(found.where).expanduser()
    try:
        if found.uri:
            network = served(found.uri, found.version, functions)
            return network if isinstance(network, CompactNetwork) else None
        if (folder / STUDY_FILE).exists():
            return Study.open(folder).network(str(found.record["replica"]["name"]))
        return compact.load(folder, functions)
    except NasplugError:
        return None


def reproduce(found: Traced, data: str | None = None, out: Path | None = None) -> Reproduction:
    """Train a network again, alone, and compare it with what left (`nasplug.lineage.again`).

    Args:
        found: its lineage.
        data: where the file of its task lies now.
        out: a folder for the new network.

    Raises:
        ConfigError: where it cannot be trained: a plugin or the data are not there; or ``out`` is a file or holds a network.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; needed: a folder, which may be new")
    if out is not None and (out / compact.RECORD).exists():
        raise ConfigError(f"--out {out} holds a network already, which would be lost; needed: another folder")
    plugins = load_plugins()
    told, network = again(
        found.record, None if "members" in found.record else _network(found, plugins.functions), plugins, data
    )
    if out is not None:
        compact.save(network, out)
    return told
