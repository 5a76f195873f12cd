"""What the page says of a study in words: what it was, how good the chosen network is, by which rule it was chosen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug.compact import CompactNetwork
from nasplug.config import Choose
from nasplug.monotone import told
from nasplug.packs import TABLE
from nasplug.plan import kind_words, row_of, task_places
from nasplug.report.finished import Finished
from nasplug.report.parts import packs_of
from nasplug.results import ending_of, pack_seconds, shown_difference
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["facts_words", "network_verdict", "rule_words"]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def facts_words(
    study: Finished, task: Task, frame: pd.DataFrame, seconds: float | None, began: float | None
) -> list[tuple[str, str]]:
    """What the study was, in pairs of name and value; ``task`` is the chosen network's."""
    config, swept = study.config, task_places(study.axes)
    counts = frame["status"].value_counts()
    packs = frame["replica"].map(lambda name: row_of(name)[0])
    found = [
        (
            "task of the chosen network" if swept else "task",
            f"{task.name} ({task.kind}, loss {task.loss}): {_inputs(task)}, {_count(task.outputs, 'output')}",
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
        *([] if config.stop is None else [("stopped at a rung", f"{int(counts.get('stopped', 0)):,}")]),
        ("diverged", f"{int(counts.get('diverged', 0)):,}"),
        ("failed", f"{int(counts.get('failed', 0)):,}"),
        *([] if (early := ending_of(study.folder)) is None else [("not trained", f"{early.untrained:,}. {early.words}")]),
    ]
    if swept:
        found.insert(0, (kind_words(swept)[1], f"{len(frame[swept].drop_duplicates()):,} ({', '.join(swept)})"))
    found += [(name.removeprefix("reading: "), words) for name, words in task.notes.items()]
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


def _pack_seconds(folder: Path) -> float:
    return sum(map(pack_seconds, packs_of(folder)))


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def _inputs(task: Task) -> str:
    """``30 inputs``, or ``8 columns as 40 inputs``."""
    inputs = _count(task.inputs, "input")
    return f"{_count(len(task.columns), 'column')} as {inputs}" if 0 < len(task.columns) < task.inputs else inputs


def network_verdict(task: Task, best: pd.Series[Any], network: CompactNetwork) -> str:
    """Size and test error of the chosen network, or its R² where the target is a number."""
    shared = 0 < len(task.columns) < task.inputs  # what was made of one column counts as one
    size = (
        f"The chosen network reads {int(best['inputs'])} of "
        f"{_count(len(task.columns), 'column') if shared else _count(task.inputs, 'input')} and has "
        f"{_count(int(best['neurons']), 'hidden neuron')}, {_count(int(best['edges']), 'edge')} and "
        f"{_count(network.parameter_count, 'parameter')}."
    )
    error, n = float(best["test_error"]), task.test.samples
    if task.kind == "regression":
        found = float(best["test_r2"])
        r2 = "R² is not defined (the target is constant there)" if math.isnan(found) else f"its R² is {found:.4f}"
        return f"{size} On {n:,} test samples {r2} (mean squared error {error:.4g} of the scaled target)."
    spread = task.facts.standard_error(error, "test")
    share = f"{100 * error:.2f} % ± {shown_difference(task.facts, spread)} (one standard error)"
    return f"{size} It is wrong on {round(error * n):,} of {n:,} test samples: {share}."


def rule_words(task: Task, slack: float, rule: Choose) -> str:
    """By which rule the network was chosen; ``slack`` is how much worse than the best it may be."""
    more = rule.by in task.facts.higher
    score = f"validation {rule.by.replace('_', ' ')}"
    if rule.rule == "best":
        least = "largest" if more else "smallest"
        return f"Chosen is the network of the front with the {least} {score}. Test scores are not used."
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
    room = shown_difference(task.facts, slack) if rule.by == "error" else f"{slack:.4g}"
    return (
        f"Chosen is the smallest network of the front whose {score} is at most {room} {'below' if more else 'above'} the best "
        f"({why}). Test scores are not used."
    )
