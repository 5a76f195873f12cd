"""The lineage of a network as plain JSON: from the raw data to the scores, with all that is needed to train it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from nasplug import files, results
from nasplug.compact import CompactNetwork, digest_of
from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, scrub
from nasplug.identity import decisive
from nasplug.identity import digest_of as digest_of_plain
from nasplug.plan import REFIT, Pack, axes, paths_of, replica_name, row_of, shown_values, study_of
from nasplug.tasks import Facts

__all__ = ["FILE", "FORMAT", "check", "digest", "lineage_of", "mean_of", "read", "write"]

FILE = "lineage.json"
FORMAT = 1
STAGES = {"relaxed": "relaxed_", "hard": "cut_", "inherited": "inherited_", "retrained": "retrained_", "final": ""}
"""Stage of a network -> what the columns of its scores begin with."""
SPLITS = ("train_", "valid_", "test_", "fitted_")
SIZES = ("edges", "neurons", "inputs", "parameters", "layers")
PARTS = ("network", "data", "study", "pack", "replica", "training", "plugins", "scores")
"""What every record has beside its format."""


def lineage_of(folder: Path, config: StudyConfig, row: Mapping[str, Any], network: CompactNetwork) -> dict[str, Any]:
    """The record of one network of a study, a function of the study's folder alone (``docs/lineage.md`` describes it).

    Args:
        folder: of the study.
        config: of the study as it is now; the record has the version of it that trained the network.
        row: of the table of networks.
        network: that leaves.

    Raises:
        ConfigError: where a record in the folder is missing or damaged.
    """
    name = str(row["replica"])
    pack, place = row_of(name)
    told = results.pack_record(folder, pack)
    plan = results.plan_of(folder, pack, ())
    facts = results.facts_of(folder, name)
    version, config = results.number_of(folder, pack), results.planner_of(folder, pack, config)
    plain: dict[str, Any] = scrub(config.plain())
    owners: dict[str, str] = json.loads(row["owners"]) if isinstance(row.get("owners"), str) else {}
    return {
        "format": FORMAT,
        "network": _network(network),
        "data": _data(facts),
        "study": {
            "name": config.study,
            **({"version": version} if version > 1 else {}),
            "config": plain,
            "digest": digest_of_plain(decisive(config)),
        },
        "pack": {"rows": plan.rows, "row": place, **_together(folder, config, plan, place)},
        "replica": {
            "name": name,
            "configuration": plan.configurations[place],
            "seed": plan.seeds[place],
            "fold": plan.folds[place] if plan.folds else None,
            "varies": {path: values[place] for path, values in shown_values(plan, axes(config)).items()},
        },
        "schedules": _schedules(study_of(config, plan).plain()),
        "training": {
            "finished": told.get("finished"),
            "device": told.get("device"),
            "compiled": bool(told["seconds"].get("compiled")),
            "resumed_at": int(told["seconds"].get("resumed_at", 0)),
            "seconds": told["seconds"],
            "environment": told.get("environment", {"packages": {"torch": told.get("torch")}}),
        },
        "plugins": {"owners": owners, "made_by": told.get("made_by", {})},
        "scores": scores_of(row),
        "certificate": results.certificate(folder, name),
    }


def mean_of(members: Sequence[Mapping[str, Any]], digest: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an ensemble: that of each member, and its own ``scores``."""
    return {"format": FORMAT, "network": {"digest": digest}, "scores": dict(scores), "members": list(members)}


def _together(folder: Path, config: StudyConfig, plan: Pack, place: int) -> dict[str, Any]:
    """The plan of a network's row, or of all rows of its population; with what it depends on of other rows."""
    if not plan.groups:
        return {**_path(config, plan, place), "plan": scrub(plan.only(place).plain())}
    rows = [row for row in range(plan.rows) if plan.groups[row] == plan.groups[place]]
    found = results.schedule_of(folder, replica_name(plan.id, place))
    steps, names = (found[column].tolist() for column in ("step", "replica"))
    copies = [{"step": steps[at], "of": names[at]} for at in range(len(steps) - 1) if names[at] != names[at + 1]]
    told = {"rows": len(rows), "row": rows.index(place), "first": rows[0], "copies": copies}
    return {"population": told, "plan": scrub(plan.some(rows).plain())}


def _path(config: StudyConfig, plan: Pack, place: int) -> dict[str, Any]:
    """The levels that a network passed through, its own the last; the place of its path among those that trained together."""
    paths = paths_of(study_of(config, plan), plan)
    if not paths.ends:
        return {}
    until = paths.number[place] + 1
    told = {"over": f"penalties.{paths.penalty}.level", "levels": paths.levels[:until], "ends": paths.ends[:until]}
    return {"path": {**told, "row": paths.path[place], "rows": paths.pack.rows}}


def _network(network: CompactNetwork) -> dict[str, Any]:
    size = {key: int(value) for key, value in network.record["sizes"].items()}
    return {"digest": digest_of(network), "sizes": size, "reads": [name for name, _ in network.columns]}


def _data(facts: Facts) -> dict[str, Any]:
    encoder = None
    if facts.encoder is not None:
        encoder = {"digest": digest_of_plain(facts.encoder), "columns": len(facts.columns), "features": len(facts.features)}
    return {
        "origin": None if facts.origin is None else facts.origin.plain(),
        "task": {
            "name": facts.name,
            "kind": facts.kind,
            "loss": facts.loss,
            "digest": facts.digest,
            "source": scrub(facts.source),
            "samples": dict(facts.samples),
            "resamples": facts.resamples,
            "targets": list(facts.targets),
        },
        "encoder": encoder,
        "transform": None if facts.transform is None else digest_of_plain(facts.transform),
    }


def _schedules(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The study's schedules, by their places."""
    found = {"temperature": plain["temperature"], "train.decay": plain["train"]["decay"]}
    found |= {f"penalties.{i}.ramp": penalty["ramp"] for i, penalty in enumerate(plain["penalties"])}
    return {place: use for place, use in found.items() if use is not None}


def scores_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Scores by stage, and sizes: finite numbers, at full precision.

    Of a refitted network ``valid_*`` are means over the folds of its configuration: they stand at ``over folds``.
    """
    reals = {key: float(v) for key, v in row.items() if isinstance(v, Real)}
    finite = {key: value for key, value in reals.items() if math.isfinite(value)}
    refitted = finite.get("fold") == REFIT
    found: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    folds: dict[str, float] = {}
    for key, value in finite.items():
        stage, start = next((s, start) for s, start in STAGES.items() if key.startswith(start))
        own = key.removeprefix(start)
        if own.startswith(SPLITS):
            (folds if refitted and "valid_" in key else found[stage])[key if refitted and "valid_" in key else own] = value
    made: dict[str, Any] = {stage: scores for stage, scores in found.items() if scores}
    made |= {"over folds": folds} if folds else {}
    return made | {"sizes": {key: int(finite[key]) for key in SIZES if key in finite}}


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record, hexadecimal: the same wherever the network left, whatever else was exported beside it."""
    return digest_of_plain({key: value for key, value in record.items() if key != "exports"})


def write(record: Mapping[str, Any], folder: Path) -> None:
    """``lineage.json`` in a folder, sealed (`nasplug.files`)."""
    files.write_json(folder / FILE, record)


def read(path: Path) -> dict[str, Any]:
    """The record in a file.

    Raises:
        DamageError: for a file that is not what was written.
        ConfigError: for one of a later nasplug, or that is no lineage.
    """
    return check(files.read_json(path), str(path))


def check(record: dict[str, Any], where: str) -> dict[str, Any]:
    """A record that this nasplug can read.

    Raises:
        ConfigError: for one of a later nasplug, or that is no lineage.
    """
    made = record.get("format")
    if members := record.get("members"):
        for member in members:
            check(member, where)
        return record
    if not isinstance(made, int) or not all(isinstance(record.get(part), dict) for part in PARTS):
        raise ConfigError(f"{where} is not the lineage of a network; needed: a {FILE} that nasplug wrote")
    if made > FORMAT:
        raise ConfigError(f"{where} has the format {made}, this nasplug reads up to {FORMAT}; install a later nasplug")
    return record
