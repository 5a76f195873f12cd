"""A lineage in words: as a tree for the terminal, and as a flowchart in Mermaid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nasplug.console import one_line

__all__ = ["Stage", "mermaid", "name_of", "stages", "text"]

SHORT = 12  # characters of a digest that tell it from others


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the way from data to what is served.

    Attributes:
        name: of the stage.
        title: what it is, in a few words.
        facts: what else is known, in lines.
    """

    name: str
    title: str
    facts: tuple[str, ...] = ()


def stages(record: Mapping[str, Any], registered: str = "") -> list[Stage]:
    """The stages of a lineage, in order; what the record does not have is left out. ``registered``: as which version."""
    if members := record.get("members"):
        return _of_mean(record, members, registered)
    found = [_data(record["data"]), *_encoder(record["data"]), _study(record), _pack(record), _replica(record)]
    found += _scored(record["scores"], record.get("certificate"))
    if network := record["network"]:
        size = ", ".join(f"{value} {name}" for name, value in network["sizes"].items())
        found.append(Stage("network", size, (f"digest {network['digest'][:SHORT]}", f"reads {_listed(network['reads'])}")))
    if exports := record.get("exports"):
        left = tuple(f"{export['form']}: {', '.join(export['files'])}" for export in exports)
        found.append(Stage("exports", f"{len(left)} forms" if len(left) > 1 else "1 form", left))
    return [*found, Stage("version", registered)] if registered else found


def name_of(record: Mapping[str, Any]) -> str:
    """What a network, or an ensemble, is called."""
    if members := record.get("members"):
        return f"the ensemble of {len(members)} networks of study {members[0]['study']['name']}"
    return f"{record['replica']['name']} of study {record['study']['name']}"


def _of_mean(record: Mapping[str, Any], members: Sequence[Mapping[str, Any]], registered: str) -> list[Stage]:
    """The stages of an ensemble: what its members share, and one line for each of them."""
    first = members[0]
    each = tuple(f"{one['replica']['name']}, seed {one['replica']['seed']}, digest {_digest(one)}" for one in members)
    shown = [f"{name} {value:.6g}" for name, value in record["scores"].items() if name.endswith(("error", "loss"))]
    found = [_data(first["data"]), *_encoder(first["data"]), _study(first), Stage("members", f"{len(members)} networks", each)]
    found.append(Stage("ensemble", ", ".join(shown) or "their mean", (f"digest {_digest(record)}",)))
    return [*found, Stage("version", registered)] if registered else found


def _digest(record: Mapping[str, Any]) -> str:
    return str(record["network"]["digest"])[:SHORT]


def _data(data: Mapping[str, Any]) -> Stage:
    task, origin = data["task"], data.get("origin")
    sizes = ", ".join(f"{part} {count}" for part, count in task["samples"].items())
    lines = [f"{task['kind']}, loss {task['loss']}: {sizes}"]
    if task["resamples"]:
        lines.append(f"validated on {task['resamples']} resamples")
    if origin is None:
        return Stage("data", task["source"] or task["name"], (*lines, f"digest {task['digest'][:SHORT]}"))
    parts = ", ".join(f"{part} {digest[:SHORT]}" for part, digest in origin["splits"].items())
    raw = f"raw data {origin['digest'][:SHORT]}, {origin['rows']} rows"
    return Stage("data", origin["where"], (raw, f"rows of {parts}", *lines))


def _encoder(data: Mapping[str, Any]) -> Iterator[Stage]:
    if encoder := data.get("encoder"):
        title = f"{encoder['columns']} columns to {encoder['features']} features"
        more = ("the target is transformed",) if data.get("transform") else ()
        yield Stage("encoder", title, (f"digest {encoder['digest'][:SHORT]}", *more))


def _study(record: Mapping[str, Any]) -> Stage:
    study, config = record["study"], record["study"]["config"]
    train, owners = config["train"], record["plugins"].get("owners", {})
    method = owners.get("method", config["method"]["use"])
    lines = [f"method {method}", f"steps {train['steps']}, batch {train['batch']}, fine-tuning {train['finetune']}"]
    lines += [f"made of {name.removeprefix('method.')} {which}" for name, which in owners.items() if name.startswith("method.")]
    lines += [f"{owner}" for place, owner in owners.items() if re.fullmatch(r"(penalties|discretizers)\.\d+", place)]
    lines += [f"{place}: {_use(use)}" for place, use in record.get("schedules", {}).items()]
    lines += [f"by {name} {version}" for name, version in record["plugins"].get("made_by", {}).items()]
    version = f", version {study['version']}" if "version" in study else ""
    return Stage("study", f"{study['name']} (config {study['digest'][:SHORT]}{version})", tuple(lines))


def _use(use: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {json.dumps(value)}" for key, value in use.items() if key != "use")
    return f"{use['use']}{f' ({options})' if options else ''}"


def _pack(record: Mapping[str, Any]) -> Stage:
    training, here = record["training"], record["training"]["environment"]
    packages = here.get("packages", {})
    lines = [f"on {training['device']}, {here.get('threads', '?')} threads{', compiled' if training['compiled'] else ''}"]
    if here.get("python"):
        lines.append(f"{here['cpu']}, Python {here['python']}, torch {packages.get('torch', '?')}")
    if training["resumed_at"]:
        lines.append(f"resumed at step {training['resumed_at']}")
    if git := here.get("git"):
        lines.append(f"working folder at commit {git['commit'][:SHORT]}{', with changes' if git['dirty'] else ''}")
    if training.get("finished"):
        lines.append(f"finished {training['finished']}")
    return Stage("pack", f"{record['pack']['plan']['id']}, {record['pack']['rows']} networks", tuple(lines))


def _replica(record: Mapping[str, Any]) -> Stage:
    replica = record["replica"]
    lines = [f"configuration {replica['configuration']}, seed {replica['seed']}"]
    if replica["fold"] is not None:
        whole = "trained on all development samples"
        lines.append(whole if replica["fold"] < 0 else f"resample {replica['fold']}")
    lines += [f"{path} = {value}" for path, value in replica["varies"].items()]
    if population := record["pack"].get("population"):
        lines.append(f"row {population['row']} of a population of {population['rows']}")
        lines += [f"after step {copy['step']} a copy of {copy['of']}" for copy in population["copies"]]
    return Stage("replica", f"{replica['name']} (row {record['pack']['row']})", tuple(lines))


def _scored(scores: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> Iterator[Stage]:
    for stage, values in scores.items():
        if stage != "sizes":
            shown = [f"{name} {value:.6g}" for name, value in values.items() if name.endswith(("error", "loss"))]
            yield Stage(stage, ", ".join(shown) or ", ".join(values))
    if certificate:
        yield Stage("certificate", str(certificate.get("verdict", "")))


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "nothing"


def text(found: Sequence[Stage]) -> str:
    """A tree, each stage below the one that it came from; control characters are written out."""
    lines = []
    for depth, stage in enumerate(found):
        lead = "   " * (depth - 1) + "└─ " if depth else ""
        lines.append(one_line(f"{lead}{stage.name}: {stage.title}"))
        lines += [one_line(f"{'   ' * (depth + 1)}{fact}") for fact in stage.facts]
    return "\n".join(lines) + "\n"


def mermaid(found: Sequence[Stage]) -> str:
    """A flowchart from the data down."""
    lines = ["flowchart TD"]
    for number, stage in enumerate(found):
        words = [f"{stage.name}: {stage.title}", *stage.facts]
        lines.append(f'  s{number}["{"<br>".join(map(_quoted, words))}"]')
    lines += [f"  s{number} --> s{number + 1}" for number in range(len(found) - 1)]
    return "\n".join(lines) + "\n"


def _quoted(words: str) -> str:
    """Text that ends no label: characters that Mermaid or HTML would take for their own as entities."""
    return re.sub(r"[^\w .,:/=+()@%-]", lambda found: f"#{ord(found[0])};", one_line(words))
