"""What a study's folder holds of one pack or replica: its plan, facts of its task, its certificate, its network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.activations import FUNCTIONS, Function
from nasplug.compact import CompactNetwork, compact
from nasplug.errors import ConfigError, scrub
from nasplug.packs import AGAIN, CERTIFICATE, PACK, RELAXED, TABLE, load_networks
from nasplug.plan import Axis, Pack, data_key, row_of, with_secrets
from nasplug.tasks import Facts, Task

__all__ = [
    "certificate",
    "facts_of",
    "facts_of_row",
    "known_tasks",
    "network",
    "pack_record",
    "pack_seconds",
    "plan_of",
    "portioned",
    "relaxed",
    "write_certificate",
    "write_facts",
]

TASKS = "tasks"


def pack_record(folder: Path, pack: str) -> dict[str, Any]:
    """What a finished pack was and how long it took, as it wrote it: ``pack``, ``seconds``, ``device``, ``torch``.

    Raises:
        ConfigError: for a pack that has not finished, or whose record is damaged.
    """
    path = folder / "packs" / pack / PACK
    if not path.exists():
        raise ConfigError(f"{path} is not there: {pack!r} is not a pack of this study, or has not finished")
    try:
        return files.read_json(path)
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, AGAIN) from None


def pack_seconds(record: Mapping[str, Any]) -> float:
    """What a finished pack took, by its record: it was built, trained and made hard."""
    return sum(float(record["seconds"].get(part, 0.0)) for part in ("build", "train", "harden"))


def portioned(folder: Path, pack: str) -> str:
    """What is to be said of a finished pack whose networks did not all fit in memory at once; empty of others.

    Raises:
        ConfigError: as `pack_record`.
    """
    record = pack_record(folder, pack)
    if record.get("portions", 1) == 1:
        return ""
    return (
        f"pack {pack} did not fit in memory; its {len(record['pack']['seeds'])} networks were trained in {record['portions']} "
        "portions, one after another. Smaller packs (resources.pack) take less time than portions"
    )


def plan_of(folder: Path, pack: str, found: Sequence[Axis]) -> Pack:
    """A finished pack as it was planned; ``found`` are the axes of its study, which know the secrets that no file holds.

    Raises:
        ConfigError: as `pack_record`.
    """
    return with_secrets(Pack(**pack_record(folder, pack)["pack"]), found)


def facts_of(folder: Path, replica: str) -> Facts:
    """What is known of the task that a replica was trained on, from the study's folder alone.

    Raises:
        ConfigError: for a name that is not a replica of this study, a pack that has not finished, or a damaged record.
    """
    pack, row = row_of(replica)
    plan = plan_of(folder, pack, ())
    if row >= plan.rows:
        raise ConfigError(f"{replica!r} is not a replica of {folder}; pack {pack} has {plan.rows} networks")
    return facts_of_row(folder, plan, row)


def facts_of_row(folder: Path, plan: Pack, row: int) -> Facts:
    """`facts_of` for a row of a pack whose plan is at hand."""
    return _facts(folder / TASKS / f"{plan.data[data_key(plan.task(row))]}.json")


@lru_cache(maxsize=64)
def _facts(path: Path) -> Facts:
    try:
        return Facts.from_plain(files.read_json(path))
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, "run the study again, which writes it anew") from None


def write_facts(folder: Path, facts: Iterable[Facts]) -> None:
    """``tasks/<digest>.json`` for each task of the study, where it is not there whole."""
    for one in facts:
        path = folder / TASKS / f"{one.digest}.json"
        try:
            files.verify(path)
        except files.DamageError:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, scrub(one.plain()))


def known_tasks(folder: Path) -> frozenset[str]:
    """The digests of the tasks of a study that are known so far."""
    return frozenset(path.stem for path in (folder / TASKS).glob("*.json"))


def certificate(folder: Path, replica: str) -> dict[str, Any] | None:
    """What a discretizer certified of a replica (`nasplug.contracts.Certifying`); None where none did."""
    path = folder / "packs" / row_of(replica)[0] / TABLE
    rows = files.read_table(path, [CERTIFICATE], [("replica", "=", replica)])
    if not rows.column_names:
        return None
    (text,) = rows[CERTIFICATE].to_pylist()
    found: dict[str, Any] = json.loads(text)
    return found


def relaxed(folder: Path, replicas: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What replicas were before they were made hard (`nasplug.packs.relaxed`), of those of which it was kept.

    Each has ``candidates``; ``layers`` with ``shares`` of the candidates, one row per choice, ``gates`` of neurons, the
    ``choices`` (places of candidates) and neurons ``kept`` afterwards; ``weights``, how many; and of up to `MOST_WEIGHTS` of
    them ``blocks`` with the magnitudes ``before`` and which were ``kept``, ``(H_to, H_from)``.
    """
    found: dict[str, dict[str, Any]] = {}
    for pack in sorted({row_of(name)[0] for name in replicas}):
        path = folder / "packs" / pack / TABLE
        table = files.read_table(path, ["replica", RELAXED], [("replica", "in", list(replicas))])
        if RELAXED in table.column_names:
            found |= {row["replica"]: json.loads(row[RELAXED]) for row in table.to_pylist() if row[RELAXED]}
    return found


def write_certificate(folder: Path, replica: str, to: Path) -> None:
    """``certificate.json`` in the folder ``to``, where the replica has one; one of another network that was there goes."""
    found = certificate(folder, replica)
    if found is not None:
        files.write_json(to / "certificate.json", found)
    else:
        (to / "certificate.json").unlink(missing_ok=True)


def network(
    folder: Path, replica: str, task: Task | Facts | None = None, functions: Mapping[str, Function] = FUNCTIONS
) -> CompactNetwork:
    """A replica's hard network as a small module (with ``task``: on raw features, in the target's units).

    ``functions``: what activations mean; those of plugins are in `nasplug.plugins.Plugins.functions`.

    Raises:
        ConfigError: for a name that is not a replica of this study.
    """
    pack, row = row_of(replica)
    if not (folder / "packs" / pack).is_dir():
        raise ConfigError(f"{replica!r} is not a replica of {folder}; names look like p0000/0012 (column 'replica')")
    nets = load_networks(folder / "packs" / pack, functions)
    if row >= nets.replicas:
        raise ConfigError(f"{replica!r}: pack {pack} has {nets.replicas} networks, 0000 to {nets.replicas - 1:04d}")
    if bool(next(iter(nets.blocks.values()))[row].isnan().all()) and _stopped(folder / "packs" / pack, replica):
        raise ConfigError(
            f"{replica!r} was stopped at a rung (column 'step' of the table) and has no hard network; take one whose status is "
            "finished, or train it to the end: the same study with stop: null, under another name"
        )
    return compact(nets, row, task)


def _stopped(folder: Path, replica: str) -> bool:
    rows = files.read_table(folder / TABLE, ["status"], [("replica", "=", replica)])
    return [str(status) for status in rows["status"].to_pylist()] == ["stopped"]
