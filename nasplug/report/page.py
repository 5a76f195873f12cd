"""The page: one HTML file, and the files beside it."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from nasplug import files, results, stability
from nasplug.activations import FUNCTIONS
from nasplug.compact import CompactNetwork
from nasplug.config import Choose
from nasplug.console import visible
from nasplug.drawing import draw_curves, draw_cut, draw_front, draw_network, save_png, strengths, svg
from nasplug.errors import scrub
from nasplug.folds import candidates
from nasplug.monotone import told
from nasplug.packs import PACK, TABLE
from nasplug.plan import Axis, kind_words, row_of, task_places
from nasplug.report.explaining import MOST_ROWS, figures_of, spread_of, write_explanations
from nasplug.report.finished import Finished
from nasplug.report.lines import lines_of, shown_error, write_verdict
from nasplug.report.mean import ensemble_words
from nasplug.report.stable import steadiness
from nasplug.report.tables import columns_of, heading_of, listed, number_text, thinned, trivial_words
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["import_libraries", "write_report"]

LISTED = 30  # rows of the tables of what went wrong
PICTURES = ("front", "network", "effects", "test", "frequencies")  # that have a file of their own, too
CURVES = 24  # networks whose training curves are drawn


def import_libraries() -> None:
    """Import what `write_report` needs, which takes a second or two: at a moment when the driver waits anyway."""
    for name in ("matplotlib.figure", "pandas"):
        import_module(name)


def write_report(study: Finished, seconds: float | None = None) -> Path:
    """Write ``report.html`` (one file, no network), the files beside it (PNG, CSV), ``linear.json`` and ``explain/``.

    Args:
        study: one that has run.
        seconds: how long this run took; None when the report is made later.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    began = None if seconds is None else time.time() - seconds  # now: fits and pictures take time too
    config, folder, frame, axes = study.config, study.folder, study.frame, study.axes
    ranked, score = results.judged(frame, study.facts_of, config.choose)
    front = results.standing(frame, study.facts_of, config.choose)
    best = results.choose(frame, study.facts_of, config.choose)
    standing = candidates(frame)
    chosen = str(best["replica"])
    task = study.task_of(chosen)
    network = study.network(chosen)
    by_score = results.front(ranked, score)
    slack = results.allowed(by_score.iloc[int(by_score[score].argmin())], task.facts, config.choose)
    band = slack if config.choose.by == "error" else 0.0  # the picture's axis is the error
    verdict = write_verdict(study, best)
    colour = next(((a.path, heading_of(a, axes)) for a in axes if a.row and a.path in frame.columns), None)
    if colour is not None and colour[1] == "level":
        colour = (colour[0], "penalty level λ")
    lines = results.front(lines_of(ranked), score) if verdict.line is not None else front.iloc[:0]
    explained = write_explanations(study, chosen, task, network)
    inside = lines[["edges", "valid_error"]].to_numpy(float)
    spread = spread_of(standing, front)
    figures = {
        "front": draw_front(standing, front, chosen, slack=band, colour=colour, lines=inside, spread=spread),
        "network": draw_network(network),
        "cut": draw_cut(front, chosen),
        "curves": draw_curves(_histories(folder, front, chosen), chosen),
        **figures_of(study, task, network, explained),
    }
    steady = steadiness(study, best)
    if steady is not None and steady.picture is not None:
        figures["frequencies"] = steady.picture
    _save(folder, figures)
    files.write_csv(folder / "front.csv", front.drop(columns="owners", errors="ignore"))
    columns = columns_of(study, task.facts, frame)
    places = task_places(axes)
    each = study.choices() if places else None
    if each is not None:
        files.write_csv(folder / "choices.csv", each.drop(columns="owners", errors="ignore"))
    environment = Environment(
        loader=PackageLoader("nasplug"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # names of columns and labels; not Markup
    )
    page = environment.get_template("report.html").render(
        config=config,
        task=task,
        pictures={name: Markup(svg(figure, name)) for name, figure in figures.items() if figure is not None},
        facts=_facts(study, task, frame, seconds, began),
        verdict=" ".join(
            [
                _verdict(task, best, network),
                *(f"{said}." for said in trivial_words(task.facts, front, chosen)),
                verdict.sentence,
                stability.words(folder),
                ensemble_words(study),
            ]
        ).rstrip(),
        rule=_rule(task, slack, config.choose),
        columns=columns,
        rows=listed(front, columns, chosen),
        each=None if each is None else listed(each.sort_values(places, kind="stable"), columns, chosen),
        chosen=best,
        explained=None if isinstance(explained, str) else explained,
        unexplained=explained if isinstance(explained, str) else "",
        tested=f"{min(MOST_ROWS, task.test.samples):,}",
        strengths=strengths(network),
        steady=steady,
        line=verdict.line,
        lines=len(lines_of(frame)),
        sentence=verdict.sentence,
        error=lambda value: shown_error(task.facts, float(value)),
        one=kind_words(places)[0],
        several=kind_words(places)[1],
        cut=_cut(standing, best),
        stages=list(_stages(frame)),
        retrain="retrained_valid_loss" in frame.columns,
        certificate=_certificate(results.certificate(folder, chosen), frame),
        finetune=config.train.finetune if isinstance(config.train.finetune, int) else None,
        owners=_owners(frame),
        versions=_versions(folder),
        yaml=yaml.safe_dump(scrub(config.plain()), sort_keys=False),
        troubles=_troubles(frame, axes),
        snippets=_snippets(folder, network, chosen),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )
    path = folder / "report.html"
    files.write_text(path, scrub(page))
    return path


def _save(folder: Path, figures: Mapping[str, Figure | None]) -> None:
    """Pictures that have a file; that of an earlier run goes where there is none now."""
    for name in PICTURES:
        figure = figures.get(name)
        if figure is None:
            (folder / f"{name}.png").unlink(missing_ok=True)
            continue
        with files.beside(folder / f"{name}.png") as there:
            save_png(figure, there)


def _histories(folder: Path, front: pd.DataFrame, chosen: str) -> pd.DataFrame:
    """Curves of the front's networks (evenly thinned to `CURVES`, the chosen one always among them)."""
    names = [str(name) for name in thinned(front, chosen, CURVES)["replica"]]

    def read(column: str) -> bool:
        return column in ("replica", "edges") or column.startswith("history_")

    table: pd.DataFrame = files.read_table(folder / TABLE, read, [("replica", "in", names)]).to_pandas()
    return table.sort_values("edges", kind="stable")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _facts(
    study: Finished, task: Task, frame: pd.DataFrame, seconds: float | None, began: float | None
) -> list[tuple[str, str]]:
    """What the study was, in pairs of name and value; ``task`` is the chosen network's."""
    config, swept = study.config, task_places(study.axes)
    counts = frame["status"].value_counts()
    packs = frame["replica"].map(lambda name: row_of(name)[0])
    found = [
        (
            "task of the chosen network" if swept else "task",
            f"{task.name} ({task.kind}, loss {task.loss}): {_count(task.inputs, 'input')}, {_count(task.outputs, 'output')}",
        ),
        ("data", task.source or "not said"),
        ("samples", _samples(task)),
        ("method", config.method.use + _options(config.method.options)),
        ("penalties", ", ".join(p.use for p in config.penalties) or "none"),
        ("discretizers", ", ".join(d.use for d in config.discretizers) or "none"),
        *(
            [("monotone", f"each output {told(config.monotone)}: the weights of every network prove it")]
            if config.monotone
            else []
        ),
        ("networks", f"{len(frame):,} in {_count(packs.nunique(), 'pack')}"),
        ("finished", f"{int(counts.get('finished', 0)):,}"),
        ("diverged", f"{int(counts.get('diverged', 0)):,}"),
        ("failed", f"{int(counts.get('failed', 0)):,}"),
    ]
    if swept:
        found.insert(0, (kind_words(swept)[1], f"{len(frame[swept].drop_duplicates()):,} ({', '.join(swept)})"))
    found += [(f"data: {name}", words) for name, words in task.notes.items()]
    work = _pack_seconds(study.folder)
    if seconds is not None and began is not None:
        files = {p: study.folder / "packs" / p / TABLE for p in packs.unique()}
        fresh = {p for p, file in files.items() if file.exists() and file.stat().st_mtime >= began - 1.0}
        made = int(packs.isin(fresh).sum())
        found.append(("time of this run", _duration(seconds)))
        if made == len(frame):
            found.append(("networks per second", f"{made / max(seconds, 1e-9):,.1f}"))
        else:
            found.append(("made in this run", f"{made:,} of {len(frame):,} networks; the others were there or have failed"))
            if made:
                found.append(("networks per second", f"{made / max(seconds, 1e-9):,.1f} (those of this run)"))
    if work:
        found.append(("time inside packs", f"{_duration(work)} in all"))
    return found


def _samples(task: Task) -> str:
    if task.resamples is None:
        return f"{task.train.samples:,} train, {task.valid.samples:,} validation, {task.test.samples:,} test"
    development = task.train.samples + task.valid.samples
    return f"{development:,} development ({task.resamples.words}), {task.test.samples:,} test"


def _options(options: dict[str, Any]) -> str:
    return f" ({', '.join(f'{key}: {value}' for key, value in options.items())})" if options else ""


def _packs(folder: Path) -> list[dict[str, Any]]:
    return [results.pack_record(folder, file.parent.name) for file in sorted((folder / "packs").glob(f"*/{PACK}"))]


def _pack_seconds(folder: Path) -> float:
    return sum(float(pack["seconds"].get(part, 0.0)) for pack in _packs(folder) for part in ("build", "train", "harden"))


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _verdict(task: Task, best: pd.Series[Any], network: CompactNetwork) -> str:
    size = (
        f"The chosen network reads {int(best['inputs'])} of {_count(task.inputs, 'input')} and has "
        f"{_count(int(best['neurons']), 'hidden neuron')}, {_count(int(best['edges']), 'edge')} and "
        f"{_count(network.parameter_count, 'parameter')}."
    )
    error, n = float(best["test_error"]), task.test.samples
    if task.kind == "regression":
        found = float(best["test_r2"])
        r2 = "R² is not defined (the target is constant there)" if math.isnan(found) else f"its R² is {found:.4f}"
        return f"{size} On {n:,} test samples {r2} (mean squared error {error:.4g} of the standardised target)."
    spread = task.facts.standard_error(error, "test")
    share = f"{100 * error:.2f} % ± {100 * spread:.2f} (one standard error)"
    return f"{size} It is wrong on {round(error * n):,} of {n:,} test samples: {share}."


def _rule(task: Task, slack: float, rule: Choose) -> str:
    more = rule.by in task.facts.higher
    score = f"validation {rule.by.replace('_', ' ')}"
    if rule.rule == "best":
        least = "largest" if more else "smallest"
        return f"Chosen is the network of the front with the {least} {score}. Test scores choose nothing."
    why = "one standard error of the best, Breiman's rule"
    if rule.rule == "within":
        why = "as the study asks"
    elif task.resamples is not None:
        why = (
            f"one standard error of the best over {task.resamples.words}, and of the difference to it fold by fold; the "
            "network itself was trained on all development samples"
        )
    elif rule.by != "error":
        why = "1 % of the way to it from the score of a network that gives every sample the same answer"
    elif task.kind == "regression":
        why = "1 % of the target's variance"
    room = shown_error(task.facts, slack) if rule.by == "error" else f"{slack:.4g}"
    return (
        f"Chosen is the smallest network of the front whose {score} is at most {room} {'below' if more else 'above'} the best "
        f"({why}). Test scores choose nothing."
    )


@dataclass(frozen=True, slots=True)
class Certified:
    """What was certified of the chosen network, and how often which verdict was given."""

    verdict: str
    numbers: list[tuple[str, str, str]]  # name, the chosen network's, the median of all that finished
    headings: list[str]
    sites: list[list[str]]


def _certificate(found: Mapping[str, Any] | None, frame: pd.DataFrame) -> Certified | None:
    if found is None:
        return None
    finished = frame[frame["status"] == "finished"]
    numbers = [
        (name.replace("_", " "), _plain(value), _plain(float(finished[f"certificate_{name}"].median())))
        for name, value in found.items()
        if isinstance(value, int | float)
    ]
    sites = [site for site in found.get("sites", []) if isinstance(site, Mapping)]
    headings = list(dict.fromkeys(key for site in sites for key in site))
    cells = [[_plain(site.get(key, "")) for key in headings] for site in sites]
    return Certified(str(found["verdict"]), numbers, [heading.replace("_", " ") for heading in headings], cells)


def _plain(value: Any) -> str:
    """Any plain value in a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return ", ".join(_plain(inner) for inner in value) if isinstance(value, list) else str(value)


STAGES = {
    "relaxed": "relaxed_valid",
    "cut": "cut_valid",
    "fine-tuned": "inherited_valid",
    "from scratch": "retrained_valid",
    "served": "valid",
}


def _stages(frame: pd.DataFrame) -> dict[str, str]:
    """What stages the study's networks went through, and how their columns begin."""
    if "retrained_valid_loss" in frame.columns:
        return STAGES
    return {"relaxed": "relaxed_valid", "cut": "cut_valid", "fine-tuned": "valid"}


def _cut(frame: pd.DataFrame, best: pd.Series[Any]) -> list[list[str]]:
    """Validation loss and error by stage: the chosen network's and the median of all that finished."""
    finished = frame[frame["status"] == "finished"]
    found = []
    for what in ("loss", "error") if "valid_accuracy" in frame.columns else ("loss",):  # mean squared error is the loss
        for whose in ("chosen network", "median of all finished"):
            cells = []
            for prefix in _stages(frame).values():
                name = f"{prefix}_{what}"
                value = float(best[name]) if whose == "chosen network" else float(finished[name].median())
                cells.append("-" if math.isnan(value) else f"{value:.4g}")
            found.append([f"validation {what}, {whose}", *cells])
    return found


def _owners(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Place of the config and the plugin that stood there, for every combination that the study used."""
    found: dict[tuple[str, str], None] = {}
    if "owners" in frame.columns:
        for text in frame["owners"].dropna().unique():
            found |= dict.fromkeys(json.loads(text).items())
    return sorted(found)


def _versions(folder: Path) -> list[tuple[str, str]]:
    packs = _packs(folder)
    return [
        ("nasplug", version("nasplug")),
        ("torch", ", ".join(sorted({str(p.get("torch", "?")) for p in packs}))),
        ("device", ", ".join(sorted({str(p.get("device", "?")) for p in packs}))),
        ("Python", platform.python_version()),
    ]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Replicas that did not finish."""

    status: str
    count: int
    headings: list[str]
    rows: list[list[str]]


def _troubles(frame: pd.DataFrame, axes: Sequence[Axis]) -> list[Trouble]:
    found = []
    for status in ("failed", "diverged"):
        bad = frame[frame["status"] == status]
        if bad.empty:
            continue
        names = ["replica", "configuration", "seed", *(a.path for a in axes if a.path in frame.columns)]
        names += ["error"] if status == "failed" and "error" in frame.columns else []
        rows = [[number_text(row[name]) for name in names] for _, row in bad.head(LISTED).iterrows()]
        found.append(Trouble(status, len(bad), names, rows))
    return found


def _snippets(folder: Path, network: CompactNetwork, chosen: str) -> list[tuple[str, str]]:
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
