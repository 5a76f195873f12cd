"""What is seen in each picture, in words: for who hears a page, and where pictures are not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.compact import CompactNetwork
from nasplug.drawing import strengths
from nasplug.drawing.style import Array
from nasplug.explain import Effect
from nasplug.records import output_names
from nasplug.results import shown_error
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "curves_words",
    "cut_words",
    "effects_words",
    "front_words",
    "network_words",
    "path_words",
    "schedule_words",
    "steady_words",
    "test_words",
]

MOST = 12  # names in one text
CURVES = {
    "history_train_loss": "training loss",
    "history_valid_loss": "validation loss",
    "history_edges": "number of edges",
    "history_entropy": "entropy of choices",
}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def front_words(frame: pd.DataFrame, front: pd.DataFrame, chosen: pd.Series[Any], facts: Facts) -> str:
    """The ends of the front, and the chosen network on it."""
    dots = int((frame["status"] == "finished").sum())
    ends = [
        f"{_count(int(row['edges']), 'edge')} with {shown_error(facts, float(row['valid_error']))}"
        for row in (front.iloc[0], front.iloc[-1])
    ]
    along = f"from {ends[0]} to {ends[1]}" if len(front) > 1 else ends[0]
    return (
        f"Scatter plot of validation error against edges of {_count(dots, 'network')}. The front, a falling line, has "
        f"{_count(len(front), 'network')}, {along}. The chosen network is marked: {_count(int(chosen['edges']), 'edge')}, "
        f"{shown_error(facts, float(chosen['valid_error']))}."
    )


def network_words(network: CompactNetwork) -> str:
    """Inputs, strongest first, hidden layers and outputs."""
    size, found = network.record["sizes"], strengths(network)
    layers = [" and ".join(f"{count} {name}" for name, count in layer) for layer in network.record["activations"]]
    hidden = f"hidden layers: {'; '.join(layers)}" if layers else "no hidden layer"
    inputs = _listed([s.feature + (f" ({s.sign})" if s.sign else "") for s in found])
    inputs = f"inputs, strongest first: {inputs}" if found else "no input is left: the output is constant"
    return (
        f"Drawing of the chosen network, left to right: {inputs}; {hidden}; outputs: {_listed(output_names(network.record))}. "
        f"{_count(size['edges'], 'edge')}, {_count(size['parameters'], 'parameter')}."
    )


def effects_words(effects: Sequence[Effect]) -> str:
    """Each column with its importance and direction."""
    told = [f"{e.grid.column} ({e.direction + ', ' if e.direction else ''}importance {e.importance:.3g})" for e in effects]
    return f"Effect curves, the most important column first: {_listed(told)}."


def test_words(chosen: pd.Series[Any], facts: Facts) -> str:
    """How good the predictions are."""
    if facts.kind == "regression":
        return (
            "Predicted against true values of the test split, and residuals against predictions; R² is "
            f"{float(chosen['test_r2']):.3f}."
        )
    right = f"{100 * (1.0 - float(chosen['test_error'])):.1f} %"
    more = f", AUC {float(chosen['test_auc']):.3f}" if "test_auc" in chosen else ""
    return f"Confusion matrix, ROC curves and calibration on the test split: {right} of the labels are right{more}."


def cut_words(front: pd.DataFrame, chosen: pd.Series[Any]) -> str:
    """The chosen network's loss at each stage."""
    stages = {"relaxed": "relaxed_valid_loss", "cut": "cut_valid_loss", "fine-tuned": "valid_loss"}
    told = ", ".join(f"{name} {float(chosen[column]):.4g}" for name, column in stages.items())
    return f"Validation loss of {_count(len(front), 'network')} of the front at three stages; of the chosen one: {told}."


def curves_words(histories: pd.DataFrame, chosen: str, temperature: Array | None = None) -> str:
    """How far training went."""
    mine = histories[histories["replica"] == chosen]
    told = ""
    for column, words in CURVES.items():
        if len(mine) and column in mine and mine.iloc[0][column] is not None and len(mine.iloc[0][column]):
            values = np.asarray(mine.iloc[0][column], dtype=float)
            ends = [f"{value:,.0f}" if column == "history_edges" else f"{value:.3g}" for value in values[[0, -1]]]
            told += f" The chosen network's {words} goes from {ends[0]} to {ends[1]}."
    if temperature is not None:
        told += f" Its temperature goes from {temperature[0]:.3g} to {temperature[-1]:.3g}."
    return f"Curves of training over the steps, one line for each of {_count(len(histories), 'network')}.{told}"


def schedule_words(found: pd.DataFrame) -> str:
    """Where the numbers of a network's schedule began and ended; ``found`` is what `nasplug.results.schedule_of` makes."""
    names = [name for name in found.columns if name.startswith(("penalties.", "train.", "temperature"))]
    told = ", ".join(f"{name} from {found[name].iloc[0]:.3g} to {found[name].iloc[-1]:.3g}" for name in names)
    copies = int((found["replica"] != found["replica"].shift(-1).ffill()).sum())
    return f"What the chosen network trained with over the steps: {told}. It was a copy {_count(copies, 'time')}."


def steady_words(level: str, threshold: float) -> str:
    """What lines and marks are."""
    return (
        f"Lines over {level}: the share of half samples that keep each input; marked are the threshold {threshold:g} and the "
        "chosen level."
    )


def path_words(path: pd.DataFrame, facts: Facts) -> str:
    """Error and size at the ends of the levels; ``path`` is what `nasplug.drawing.path_of` makes."""
    ends = []
    for level in (path.index[0], path.index[-1]):
        error, edges = (float(path.loc[level, (score, "middle")]) for score in ("valid_error", "edges"))
        ends.append(f"at {level:.3g} a median of {shown_error(facts, error)} and {edges:,.0f} edges")
    return f"Validation error and edges over {len(path)} penalty levels: {ends[0]}, {ends[1]}."
