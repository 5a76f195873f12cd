"""Tables and texts of the page below its pictures: what cutting cost, certificates, failures, owners, how to use it."""

from __future__ import annotations

import json
import math
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug import results
from nasplug.activations import FUNCTIONS
from nasplug.compact import CompactNetwork
from nasplug.packs import PACK
from nasplug.plan import Axis
from nasplug.report.paper import Grid
from nasplug.report.tables import number_text
from nasplug.results import shown_error
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Certified", "certified", "cut_grid", "made_grid", "packs_of", "retrained", "snippets", "trouble_grids"]

LISTED = 30  # rows of the tables of what went wrong
STAGES = {
    "relaxed": "relaxed_valid",
    "cut": "cut_valid",
    "fine-tuned": "inherited_valid",
    "from scratch": "retrained_valid",
    "served": "valid",
}


def packs_of(folder: Path) -> list[dict[str, Any]]:
    """The records of all finished packs."""
    return [results.pack_record(folder, file.parent.name) for file in sorted((folder / "packs").glob(f"*/{PACK}"))]


@dataclass(frozen=True, slots=True)
class Certified:
    """What was certified of the chosen network.

    Attributes:
        verdict: in words.
        numbers: the chosen network's, and the median of all that finished.
        sites: of each choice; None without any.
    """

    verdict: str
    numbers: Grid
    sites: Grid | None


def certified(found: Mapping[str, Any] | None, frame: pd.DataFrame) -> Certified | None:
    """A certificate as tables."""
    if found is None:
        return None
    finished = frame[frame["status"] == "finished"]
    numbers = [
        (False, [name.replace("_", " "), _plain(value), _plain(float(finished[f"certificate_{name}"].median()))])
        for name, value in found.items()
        if isinstance(value, int | float)
    ]
    sites = [site for site in found.get("sites", []) if isinstance(site, Mapping)]
    headings = list(dict.fromkeys(key for site in sites for key in site))
    rows = [(False, [_plain(site.get(key, "")) for key in headings]) for site in sites]
    words = [heading.replace("_", " ") for heading in headings]
    return Certified(
        str(found["verdict"]),
        Grid("certain-numbers", "Numbers of the certificate", ["", "chosen network", "median of all finished"], numbers),
        Grid("certain-sites", "Each choice", words, rows, text=True) if rows else None,
    )


def _plain(value: Any) -> str:
    """Any plain value in a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(_plain(inner) for inner in value) if isinstance(value, list) else str(value)


def retrained(frame: pd.DataFrame) -> bool:
    """Whether architectures were trained from scratch, too."""
    return "retrained_valid_loss" in frame.columns


def _stages(frame: pd.DataFrame) -> dict[str, str]:
    """What stages the study's networks went through, and how their columns begin."""
    return STAGES if retrained(frame) else {"relaxed": "relaxed_valid", "cut": "cut_valid", "fine-tuned": "valid"}


def cut_grid(frame: pd.DataFrame, best: pd.Series[Any], facts: Facts) -> Grid:
    """Validation loss and error by stage: the chosen network's and the median of all that finished."""
    finished = frame[frame["status"] == "finished"]
    rows = []
    for what in ("loss", "error") if "valid_accuracy" in frame.columns else ("loss",):  # mean squared error is the loss
        for whose in ("chosen network", "median of all finished"):
            cells = []
            for prefix in _stages(frame).values():
                name = f"{prefix}_{what}"
                value = float(best[name]) if whose == "chosen network" else float(finished[name].median())
                shown = f"{value:.4g}" if what == "loss" else shown_error(facts, value)
                cells.append("-" if math.isnan(value) else shown)
            rows.append((False, [f"validation {what}, {whose}", *cells]))
    return Grid("cut-stages", "Validation scores by stage", ["score", *_stages(frame)], rows)


def made_grid(frame: pd.DataFrame, folder: Path, digest: str) -> Grid:
    """Every plugin that stood somewhere in the config, versions, device and the data's digest."""
    found: dict[tuple[str, str], None] = {}
    if "owners" in frame.columns:
        for text in frame["owners"].dropna().unique():
            found |= dict.fromkeys(json.loads(text).items())
    packs = packs_of(folder)
    rows = [
        *sorted(found),
        ("nasplug", version("nasplug")),
        ("torch", ", ".join(sorted({str(p.get("torch", "?")) for p in packs}))),
        ("device", ", ".join(sorted({str(p.get("device", "?")) for p in packs}))),
        *[
            ("did not fit in memory", f"pack {p['pack']['id']}: trained in {n} portions")
            for p in packs
            if (n := p.get("portions", 1)) > 1
        ],
        ("Python", platform.python_version()),
        ("data (SHA-256)", digest),
    ]
    headings = ["place", "component (plugin version)"]
    return Grid("made-by", "Plugins, versions and data", headings, [(False, row) for row in rows], text=True)


def trouble_grids(frame: pd.DataFrame, axes: Sequence[Axis]) -> list[Grid]:
    """Replicas that did not finish, a table for each way."""
    found = []
    for status in ("failed", "diverged"):
        bad = frame[frame["status"] == status]
        if bad.empty:
            continue
        names = ["replica", "configuration", "seed", *(a.path for a in axes if a.path in frame.columns)]
        names += ["error"] if status == "failed" and "error" in frame.columns else []
        rows = [(False, [number_text(row[name]) for name in names]) for _, row in bad.head(LISTED).iterrows()]
        caption = f"{len(bad):,} {status}" + (f", the first {len(rows)} of them" if len(bad) > len(rows) else "")
        found.append(Grid(f"trouble-{status}", caption, names, rows, text=True))
    return found


def orders(folder: Path, network: CompactNetwork) -> list[str]:
    """What to do with the results, on the command line."""
    there = shlex.quote(str(folder))
    found = [f"nasplug predict {there} new.csv", f"nasplug explain {there} new.csv"] if network.stem is None else []
    return [
        *found,
        f"nasplug export {there} --to {'pt2' if network.stem else 'python,c'} --out exported",
        f"nasplug lineage {there}",
    ]


def snippets(folder: Path, network: CompactNetwork, chosen: str) -> list[tuple[str, str]]:
    """What to do with the results, in Python: words and code that runs."""
    inputs, outputs = network.record["inputs"], network.widths[-1]
    strange = any(name not in FUNCTIONS for name in network.names)  # activations of plugins
    chances = network.record["link"] in ("sigmoid", "softmax")
    return [
        (
            "The chosen network, from its two files (network.json, weights.safetensors)",
            f"""from pathlib import Path

import torch
from nasplug.compact import load
{"from nasplug.plugins import load_plugins" if strange else ""}
network = load(Path({str(folder / "best")!r}){", load_plugins().functions" if strange else ""})
x = torch.zeros(5, {inputs}).double()  # (N, {inputs}): raw features, ordered as in network.record["features"]
print(network(x))  # (N, {outputs}): {"probabilities" if chances else "in the target's units"}
""",
        ),
        (
            "Any network of the study, as a graph that needs no nasplug",
            f"""import torch
from nasplug.compact import export
from nasplug.study import Study

network = Study.open({str(folder)!r}).network({chosen!r})
torch.export.save(export(network, torch.zeros(2, {inputs}).double()), "network.pt2")
print(torch.export.load("network.pt2").module()(torch.zeros(5, {inputs}).double()))
""",
        ),
    ]
