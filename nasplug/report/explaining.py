"""Explanations of a study's networks: what is kept of them in its folder, and what a page shows of the chosen one.

``explain/<task>.parquet`` are up to 256 development rows, which everything is compared with. ``explain/chosen.json`` has the
formula, effects and pairs of the chosen network, ``explain/test.parquet`` its predictions on the test split.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from nasplug import files
from nasplug.compact import CompactNetwork, compact, digest_of
from nasplug.data.transforms import undone
from nasplug.drawing import MOST_EFFECTS, draw_effects, draw_labels, draw_numbers
from nasplug.errors import ConfigError, NasplugError, cause
from nasplug.explain import (
    Background,
    Curve,
    Effect,
    Formula,
    Pair,
    affordable,
    base,
    columns_of,
    contributions,
    curves,
    effects,
    explainable,
    formula,
    meeting,
    pairs,
    rounded,
    scale_words,
)
from nasplug.packs import load_networks
from nasplug.plan import row_of
from nasplug.report.finished import Finished
from nasplug.tasks import Facts, Loss, Task
from nasplug.tasks.making import labels_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "Explained",
    "background_of",
    "contributions_of",
    "explained_of",
    "figures_of",
    "formula_of",
    "read_predictions",
    "same_configuration",
    "spread_of",
    "write_explanations",
    "write_predictions",
]

_log = logging.getLogger(__name__)

EXPLAIN = "explain"
CHOSEN, PREDICTIONS = "chosen.json", "test.parquet"
REMEDY = "run the study again, which writes it anew, or delete it: then it is made from your data"
MOST_OTHERS = 24  # networks that a band is made of
MOST_ROWS = 20_000  # predictions that are kept
NUMBERS = 2**22  # features that are held at once for them: 32 MB
MOST_COLUMNS = 200  # that a network reads whose effects are told
LONG = 200  # numbers of a formula that is still written


@dataclass(frozen=True, slots=True)
class Explained:
    """What is told of one network.

    Attributes:
        formula: rounded; None where no data are there to round it by and none was kept.
        effects: the most important first.
        pairs: those that can interact, strongest first, as far as they were measured.
        possible: how many can interact.
        scale: on which scale effects are, in words.
        bands: column -> curves of other networks of its configuration.
        rows: how many it is compared with.
        base: mean outputs over these, one per output.
    """

    formula: Formula
    effects: list[Effect]
    pairs: list[Pair]
    possible: int
    scale: str
    bands: Mapping[str, list[Curve]]
    rows: int
    base: list[float]

    @property
    def sums(self) -> str:
        """That the curves are the model, in words; empty where columns can interact."""
        if self.possible or not self.effects:
            return ""
        ends = ", ".join(f"{value:.4g}" for value in self.base[:6]) + (", ..." if len(self.base) > 6 else "")
        return f"The curves are the model: on this scale an output is its base ({ends}) and each column's curve at its value."

    @property
    def others(self) -> int:
        """How many networks a band is made of."""
        return max((len(curves) for curves in self.bands.values()), default=0)

    @property
    def written(self) -> str:
        """The formula as text, or that it is too long."""
        if self.formula.numbers <= LONG:
            return self.formula.text()
        return f"{self.formula.numbers:,} numbers: too long to be read here; Study.formula().text() writes it"

    def plain(self) -> dict[str, Any]:
        """Plain JSON, for people and programs; no rows of data are in it, but values where curves have points."""
        found = []
        for effect in self.effects:
            grid, others = effect.grid, self.bands.get(effect.grid.column, [])
            one: dict[str, Any] = {
                "column": grid.column,
                "kind": grid.kind,
                "importance": effect.importance,
                "direction": effect.direction,
                "numbers": grid.numbers.tolist(),
                "words": list(grid.words),
                "shares": grid.shares.tolist(),
                "effect": effect.curve.numbers.tolist(),
                "effect_of_words": effect.curve.words.tolist(),
            }
            if len(others) > 1:
                for name, end in (("low", np.min), ("high", np.max)):
                    one[name] = end([c.numbers for c in others], axis=0).tolist()
                    one[f"{name}_of_words"] = end([c.words for c in others], axis=0).tolist()
            found.append(one)
        told = {name: getattr(self.formula, name) for name in ("digits", "numbers", "rule", "scale")}
        told |= {"text": self.written, "latex": self.formula.latex() if self.formula.numbers <= LONG else ""}
        couples = [{"columns": [p.first, p.second], "strength": p.strength, "h": p.h} for p in self.pairs]
        return {"formula": told, "effects": found, "pairs": couples, "pairs_possible": self.possible, "base": self.base} | {
            "band_of": self.others
        }


def background_of(study: Finished, replica: str) -> Background:
    """The rows that a replica's predictions are compared with: those of the folder, else drawn anew from its data.

    Raises:
        ConfigError: where the folder has none and the data are gone, or have changed.
    """
    path = study.folder / EXPLAIN / f"{study.facts_of(replica).digest}.parquet"
    if not path.exists():
        return Background.of_task(study.task_of(replica))
    try:
        return Background.load(path)
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, REMEDY) from None


def formula_of(study: Finished, replica: str, network: CompactNetwork) -> Formula:
    """The formula of a replica, with the digits that the folder says of the chosen one; of another its data are asked.

    Raises:
        ConfigError: for a network that cannot be explained, or data that are gone or have changed.
    """
    path = study.folder / EXPLAIN / CHOSEN
    if path.exists():
        try:
            told = files.read_json(path)
        except files.DamageError as error:
            raise files.DamageError(path, error.reason, REMEDY) from None
        if told["network"] == digest_of(network):
            return replace(formula(network, told["formula"]["digits"]), rule=told["formula"]["rule"])
    return rounded(network, study.task_of(replica))


def contributions_of(study: Finished, rows: pd.DataFrame, replica: str) -> pd.DataFrame:
    """What each column adds to the predictions for rows of the user's table (`nasplug.explain.contributions`).

    Raises:
        ConfigError: as `background_of`, and for a network that cannot be explained.
    """
    network = explainable(study.network(replica))
    return contributions(network, rows, background_of(study, replica))


def explained_of(study: Finished, replica: str) -> Explained:
    """Everything that is told of a replica.

    Raises:
        ConfigError: as `background_of` and `formula_of`.
    """
    network = explainable(study.network(replica))
    if words := too_wide(network):
        raise ConfigError(f"{words}. What each adds to a prediction can be told: nasplug explain FOLDER TABLE")
    return explained(study, replica, network, background_of(study, replica), formula_of(study, replica, network))


def too_wide(network: CompactNetwork) -> str:
    """Why effects, pairs and formula are not told; empty where they are."""
    count = len(columns_of(network))
    return (
        f"the network reads {count:,} columns, and effects are told of at most {MOST_COLUMNS}" if count > MOST_COLUMNS else ""
    )


def same_configuration(study: Finished, replica: str, network: CompactNetwork) -> list[CompactNetwork]:
    """Other networks of a replica's configuration, of other seeds and folds: at most 24."""
    frame = study.frame
    row = frame[frame["replica"] == replica].iloc[0]
    mine = (frame["configuration"] == row["configuration"]) & (frame["status"] == "finished") & (frame["replica"] != replica)
    facts: Facts = study.facts_of(replica)
    found: list[CompactNetwork] = []
    by_pack: dict[str, list[int]] = {}
    for name in frame.loc[mine, "replica"].head(MOST_OTHERS):
        pack, place = row_of(str(name))
        if study.facts_of(str(name)).digest == facts.digest:
            by_pack.setdefault(pack, []).append(place)
    for pack, places in by_pack.items():
        nets = load_networks(study.folder / "packs" / pack, network.functions)
        found += [compact(nets, place, facts) for place in places]
    return found


def explained(study: Finished, replica: str, network: CompactNetwork, background: Background, made: Formula) -> Explained:
    """Everything that is told of a network."""
    background = affordable(network, background)
    found = effects(network, background)
    others = same_configuration(study, replica, network)
    bands: dict[str, list[Curve]] = {}
    if network.widths[-1] == 1:
        shown = [effect.grid for effect in found[:MOST_EFFECTS]]
        for other in others:
            for grid, one in zip(shown, curves(other, background, shown), strict=True):
                bands.setdefault(grid.column, []).append(one)
    couples = pairs(network, background)
    values = [part for effect in found for part in (effect.importance, effect.curve.numbers, effect.curve.words)]
    values += [part for pair in couples for part in (pair.strength, pair.h)]
    if not all(np.isfinite(part).all() for part in values):
        raise NasplugError(
            f"its outputs are not finite on rows mixed of others, which effects are means over (activations: "
            f"{', '.join(network.names) or 'none'})"
        )
    bands = {name: curves for name, curves in bands.items() if all(_finite(one) for one in curves)}
    scale, rows = scale_words(network), len(background.features)
    return Explained(made, found, couples, len(meeting(network)), scale, bands, rows, base(network, background).tolist())


def _finite(curve: Curve) -> bool:
    return bool(np.isfinite(curve.numbers).all() and np.isfinite(curve.words).all())


def write_explanations(study: Finished, replica: str, task: Task, network: CompactNetwork) -> Explained | str:
    """Write ``explain/`` of the chosen network; without its ``chosen.json`` where it cannot be explained, which is said why.

    A stranger's activation may fail where no data are: then, too, the study ends as it would without explanations.
    """
    folder = study.folder / EXPLAIN
    folder.mkdir(exist_ok=True)
    (folder / CHOSEN).unlink(missing_ok=True)
    write_predictions(folder / PREDICTIONS, task, network)
    try:
        explainable(network)
    except ConfigError:
        return "This network reads images through a stem: it has no columns that could be explained."
    background = Background.of_task(task)
    background.save(folder / f"{task.digest}.parquet")
    if words := too_wide(network):
        return f"{words[0].upper()}{words[1:]}."
    try:
        found = explained(study, replica, network, background, rounded(network, task))
    except Exception as error:  # noqa: BLE001 - activations are strangers' code; results do not depend on explanations
        _log.warning("%s could not be explained: %s", replica, cause(error))
        return f"{replica} could not be explained: {cause(error)}."
    files.write_json(folder / CHOSEN, {"replica": replica, "network": digest_of(network), **found.plain()})
    return found


@torch.no_grad()
def write_predictions(path: Path, task: Task, network: CompactNetwork) -> None:
    """What the network says of the test split, and what is true, in the user's units; of many rows 20,000, evenly over them."""
    test = task.test
    index = torch.linspace(0, test.samples - 1, min(MOST_ROWS, test.samples), dtype=torch.float64).round().long()
    scale, shift = (end.double().unsqueeze(1) for end in (task.input_scale, task.input_shift))
    step = max(1, NUMBERS // max(task.inputs, 1))
    parts = [index[at : at + step] for at in range(0, len(index), step)]
    outputs = torch.cat([network((test.x.index_select(1, part).double() * scale + shift).T).double() for part in parts])
    columns: dict[str, Any] = {f"said{place}": column for place, column in enumerate(outputs.numpy().T)}
    if task.kind == "regression":
        step = len(task.loss.outputs)  # outputs for each target
        y = test.y[..., index].double().T * task.output_scale.double()[::step] + task.output_shift.double()[::step]
        if network.transform is not None:
            y = undone(y, network.transform.knots())
        columns |= {f"true{place}": column for place, column in enumerate(y.numpy().T)}
    else:
        columns["true0"] = labels_in(test.y[..., index]).numpy()
    files.write_table(path, pa.table(columns))


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """``true (N, T)`` and outputs ``(N, O)`` that `write_predictions` wrote.

    Raises:
        DamageError: for a file that is not there or damaged.
    """
    table = files.read_table(path)
    both = []
    for name in ("true", "said"):
        columns = [c for c in table.column_names if c.startswith(name)]
        both.append(np.stack([table[c].to_numpy() for c in columns], axis=1))
    return both[0], both[1]


def figures_of(study: Finished, task: Task, network: CompactNetwork, found: Explained | str) -> dict[str, Figure | None]:
    """The pictures of a page: ``effects`` and ``test``."""
    made: dict[str, Figure | None] = {"effects": None}
    targets = [str(target) for target in network.record["targets"]]
    if isinstance(found, Explained):
        label = f"effect on {targets[0]}" if task.kind == "regression" and len(targets) == 1 else "effect"
        words = {"the target's units": label}.get(found.scale, f"effect on the {found.scale}")
        names = targets if network.widths[-1] > 1 else targets[-1:]
        made["effects"] = draw_effects(found.effects, words, names, found.bands)
    true, said = read_predictions(study.folder / EXPLAIN / PREDICTIONS)
    if task.kind == "regression":
        step = len(task.loss.outputs)
        middle = _middle(task.loss, step)
        made["test"] = draw_numbers(true, said[:, middle::step], targets[middle::step])
    else:
        made["test"] = draw_labels(true[:, 0].astype(np.int64), said, targets, network.record["link"])
    return made


def _middle(loss: Loss, step: int) -> int:
    """Which of the outputs of a target is the loss's one prediction (`nasplug.tasks.Loss.point`): of quantiles the median."""
    if step == 1 or loss.link != "identity":
        return 0
    return int(loss.point(torch.arange(step, dtype=torch.float64).view(1, step, 1))[0, 0, 0].round().clamp(0, step - 1))


def spread_of(frame: pd.DataFrame, front: pd.DataFrame) -> tuple[np.ndarray, str] | None:
    """Bars for the networks of a front: a standard error over folds, else the range over the seeds of their configuration."""
    if "valid_error_se" in front and front["valid_error_se"].notna().any():
        error, se = front["valid_error"].to_numpy(float), front["valid_error_se"].to_numpy(float)
        return np.stack([error - se, error + se], 1), "± a standard error over folds"
    finished = frame[frame["status"] == "finished"].groupby("configuration")["valid_error"]
    if not (finished.count() > 1).any():
        return None
    ends = [finished.min().reindex(front["configuration"]), finished.max().reindex(front["configuration"])]
    return np.stack([end.to_numpy(float) for end in ends], 1), "range over seeds"
