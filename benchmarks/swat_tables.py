"""Studies of many functions as one table: error against size for each mode, and how sure the order is.

A *label* says what a row was made by, in the column ``mode``: the mode of method ``swat`` (`latent`, `switch`, `untrained`,
`direct`), with its discretizers (`latent + admm`), or `dense` for another method without penalties. A *level* is the ``size``
of `swat_levels`; a baseline, which has none, has "-" there and is set beside every level.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nasplug import Study
from nasplug.errors import ConfigError, did_you_mean

__all__ = [
    "BEST",
    "FLOOR",
    "POOR",
    "TIE",
    "at_most",
    "by_depth",
    "by_function",
    "in_order",
    "rows_of",
    "studies",
    "table",
    "told",
]

FLOOR = 1e-4
"""Errors below this share of the variance count as equally good: ratios of rounding noise decide nothing."""
POOR = 0.9
"""A network of a smaller R2 has not learned its function."""
TIE = 0.05
"""Errors that differ by less than this share are a tie."""
BEST = "chosen"
"""The depth of a row whose depth was chosen on validation data, like its learning rate."""
NO_LEVEL = "-"

FUNCTION, DRAWS = "task.function", 2000
KEY = ["mode", "size", "depth", "function"]
LABELS = ("latent", "switch", "untrained", "direct")
SIZES = ("small", "medium", "large")
COMPARED = {FUNCTION, "method.mode", "method.depth", "method.hidden"}  # columns of the table: no reason for another label
IDLE = {"train.reports", "train.compile"}  # change no network
SWEEPS = {"choice", "grid", "uniform", "log", "points"}
Array = npt.NDArray[np.float64]


def _start(folder: object) -> str:
    """A start is the folder of a network, ``<study>/best`` as a rule, or none (which a table has as the word null)."""
    path = Path(folder) if isinstance(folder, str) and folder != "null" else None
    return "" if path is None else f", from {path.parent.name if path.name == 'best' else path.name}"


def _autoencoder(file: object) -> str:
    """One that comes along has a name; one that training wrote is the file of its training's folder."""
    path = Path(str(file))
    return f", {path.parent.name if path.name == 'autoencoder.safetensors' else path.stem}"


TOLD: Mapping[str, Callable[[Any], str]] = {
    "method.autoencoder": _autoencoder,
    "method.start": _start,
    "method.activation": lambda name: "" if name is None or name == "null" else f", {name}",
    "train.steps": lambda steps: f", {int(steps)} steps",
}
"""What is compared where a study varies it, and how a label says it; all else is chosen on validation data."""


# -- the rows of studies, and their labels -----------------------------------------------------------------------------


def _uses(config: Mapping[str, Any], part: str) -> list[str]:
    return [str(component["use"]) for component in config.get(part) or []]


def _labels(frame: pd.DataFrame, config: Mapping[str, Any]) -> pd.Series[Any] | str:
    method = config["method"]
    after = "".join(f" + {name}" for name in _uses(config, "discretizers"))
    varied = frame["method.mode"].astype(str) if "method.mode" in frame else None
    if method["use"] == "swat":
        modes = varied if varied is not None else str(method.get("mode", "latent"))
        for column, words in TOLD.items():
            if column in frame:
                modes = modes + frame[column].map(words)
        return modes + after
    if varied is not None:
        return f"{method['use']} " + varied + after
    return "dense" if not after and not _uses(config, "penalties") else f"{method['use']}{after}"


def _depths(frame: pd.DataFrame, method: Mapping[str, Any]) -> pd.Series[Any] | list[int] | int:
    if method["use"] == "swat":
        return frame["method.depth"] if "method.depth" in frame else int(method.get("depth", 2))
    if "method.hidden" in frame:
        return [len(json.loads(hidden)) for hidden in frame["method.hidden"]]
    # Of a method without this option: hidden layers that still have a neuron.
    return len(method["hidden"]) if "hidden" in method else frame["layers"]


def _levels(frame: pd.DataFrame, config: Mapping[str, Any]) -> pd.Series[Any] | str:
    penalties = _uses(config, "penalties")
    if "swat_levels" not in penalties:
        return NO_LEVEL
    i = penalties.index("swat_levels")
    swept = f"penalties.{i}.size"
    return frame[swept] if swept in frame else str(config["penalties"][i].get("size", "medium"))


def rows_of(study: Study) -> pd.DataFrame:
    """A study's finished networks, one row per network, with the columns of its table and five more.

    ``mode``: its label; ``size``: its level, "-" without one; ``depth``: hidden layers; ``function``; ``error``: test MSE over
    the variance of the test targets, in [0, inf), 1 for the constant predictor.

    Raises:
        ConfigError: for a study without results or without a network that finished, or one that is no regression of several
            functions.
    """
    frame, config = study.frame, study.config.model_dump()
    if missing := [name for name in (FUNCTION, "test_r2") if name not in frame]:
        raise ConfigError(
            f"{study.folder} has no {', '.join(missing)}; needed: a study of regression that varies task.function"
        )
    frame = frame[(frame["status"] == "finished") & frame["valid_error"].notna()]
    if frame.empty:
        raise ConfigError(
            f"{study.folder} has no network that finished; see the column 'status' of its table, and run it again"
        )
    return frame.assign(
        mode=_labels(frame, config),
        size=_levels(frame, config),
        depth=_depths(frame, config["method"]),
        function=frame[FUNCTION],
        error=1.0 - frame["test_r2"],
    )


def _flat(value: object, path: str) -> dict[str, object]:
    """A study's part as path -> value; a sweep is one value."""
    if isinstance(value, Mapping) and value and not set(value) <= SWEEPS:
        return {name: leaf for key, part in value.items() for name, leaf in _flat(part, f"{path}.{key}").items()}
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return {name: leaf for i, part in enumerate(value) for name, leaf in _flat(part, f"{path}.{i}").items()}
    return {path: value}


def _settings(config: Mapping[str, Any]) -> dict[str, object]:
    """What a study was run with, but for what the table has in columns; ``penalties`` are their names."""
    found: dict[str, object] = {}
    for part in ("task", "method", "penalties", "temperature", "discretizers", "train"):
        found |= _flat(config.get(part), part)
    penalties = _uses(config, "penalties")
    named = {f"penalties.{i}.use" for i in range(len(penalties))}
    levels = {f"penalties.{i}.size" for i, name in enumerate(penalties) if name == "swat_levels"}
    found["penalties"] = " + ".join(penalties)
    return {path: value for path, value in found.items() if path not in COMPARED | IDLE | named | levels}


def _words(path: str, settings: Mapping[str, object]) -> str:
    """A setting for people: ``3000 steps``, ``lr 0.01 or 0.03``, ``no penalties``."""
    name, value = path.rpartition(".")[2], settings.get(path)
    if path not in settings:
        return f"default {name}"
    if isinstance(value, Mapping):
        value = " or ".join(map(str, value.get("choice") or value.get("grid") or ["swept"]))
    if path == "penalties":
        return f"penalties {value}" if value else "no penalties"
    return f"{value} steps" if name == "steps" else f"{name} {'null' if value is None else value}"


def _difference(settings: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """In words, what a study has that another has not; None where that is nothing, or too much for a label."""
    paths = [path for path in {**settings, **other} if settings.get(path, ...) != other.get(path, ...)]  # None is a value
    if "penalties" in paths:
        paths = [path for path in paths if not path.startswith("penalties.")]
    words = ", ".join(_words(path, settings) for path in paths)
    return words if 0 < len(paths) <= 2 and len(words) <= 40 else None


@dataclass
class _Owner:
    """Who has a label: with what settings, and which rows are there already."""

    settings: Mapping[str, object]
    rows: set[tuple[object, ...]] = field(default_factory=set)


def studies(folders: Sequence[Path]) -> pd.DataFrame:
    """`rows_of` several studies together, from their folders, with labels that tell them apart.

    The first folder with a label keeps it. A later one with other settings has them added (``direct, 3000 steps``), or its name
    where that is too long or says nothing. Studies of the same settings are one, unless they have the same rows.

    Raises:
        ConfigError: as `rows_of`, for a folder that is not a study's, and for one that is given twice.
    """
    whole = [folder.resolve() for folder in folders]
    if twice := [str(folder) for i, folder in enumerate(folders) if whole[i] in whole[:i]]:
        raise ConfigError(f"{', '.join(twice)}: given twice; give each study's folder once")
    owners: dict[str, _Owner] = {}
    parts = []
    for folder in whole:
        study = Study.open(folder)
        frame, settings = rows_of(study), _settings(study.config.model_dump())
        for mode, part in frame.groupby("mode", sort=False):
            label, rows = str(mode), set(part[["size", "depth", "function", "seed"]].itertuples(index=False, name=None))
            more = _difference(settings, owners[label].settings) if label in owners else None
            for name in (label, f"{label}, {more}", f"{label}, {folder.name}", f"{label}, {folder}"):
                if more is None and name == f"{label}, {more}":
                    continue
                owner = owners.setdefault(name, _Owner(settings))
                if owner.settings == settings and not owner.rows & rows:
                    owner.rows |= rows
                    parts.append(part.assign(mode=name))
                    break
    return pd.concat(parts, ignore_index=True)


def at_most(frame: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """`rows_of` with a limit of non-zeros in the place of the level: of each limit the networks that keep it, ``<=   30``.

    So levels, like learning rates, are chosen on validation data, and modes are compared at equal sizes.

    Raises:
        ConfigError: where no network is so small.
    """
    parts = [frame[frame["parameters"] <= most].assign(size=f"<= {most:>4}") for most in sizes]
    if not (found := pd.concat(parts, ignore_index=True)).empty:
        return found
    raise ConfigError(f"no network has {max(sizes)} non-zeros or fewer; the smallest has {frame['parameters'].min():g}")


# -- the table ---------------------------------------------------------------------------------------------------------


def by_depth(frame: pd.DataFrame) -> pd.DataFrame:
    """The network with the least validation error of each label, level, depth, function and seed, and of each over all depths.

    So learning rates, and all else that a study varies and no label tells (`TOLD`), are chosen on validation data; rows of
    ``depth`` "chosen" have the depth chosen too. ``hidden_layers`` has the depth as a number.
    """
    frame = frame.assign(hidden_layers=frame["depth"])
    each = frame.loc[frame.groupby([*KEY, "seed"])["valid_error"].idxmin()]
    best = each.loc[each.groupby([name for name in [*KEY, "seed"] if name != "depth"])["valid_error"].idxmin()]
    return pd.concat([each.astype({"depth": object}), best.assign(depth=BEST)], ignore_index=True)


def by_function(frame: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds of `by_depth`, one row per function, label, level and depth.

    Columns: ``function``, ``mode``, ``size``, ``depth`` (a number, or "chosen"), ``seeds`` (how many), ``hidden_layers``,
    ``test_mse``, ``error`` (test MSE / variance of the test targets), ``neurons`` (active ones), ``parameters`` (non-zeros).
    """
    groups = by_depth(frame).rename(columns={"test_error": "test_mse"}).groupby(KEY, sort=False)
    each = groups[["hidden_layers", "test_mse", "error", "neurons", "parameters"]].median()
    each.insert(0, "seeds", groups["seed"].nunique())
    each = each.reset_index().sort_values(KEY, key=_ranks, ignore_index=True)
    return each[["function", *KEY[:-1], *each.columns[len(KEY) :]]]


def in_order(values: Iterable[Any]) -> list[Any]:
    """Labels, levels or depths, each once: as the paper has them, others by name, depth "chosen" and level "-" last."""
    known = [*LABELS, *SIZES]
    last = [BEST, NO_LEVEL]

    def rank(value: Any) -> tuple[int, int, str]:
        if isinstance(value, str):
            return (2, 0, "") if value in last else (0, known.index(value), "") if value in known else (1, 0, value)
        return (0, int(value), "")

    return sorted(dict.fromkeys(values), key=rank)


def _ranks(column: pd.Series[Any]) -> pd.Series[Any]:
    return column.map({value: i for i, value in enumerate(in_order(column))}) if column.name in KEY[:-1] else column


def _geometric(errors: pd.Series[Any], least: float) -> float:
    return float(np.exp(np.log(errors.to_numpy(dtype=np.float64).clip(least)).mean()))


def _against(mine: pd.DataFrame, other: pd.DataFrame, seed: int) -> dict[str, float]:
    """Ratio of errors over the functions that both have, its bounds, and how often which is better."""
    pair = (
        mine.set_index("function")[["error"]].join(other.set_index("function")["error"].rename("other"), how="inner").dropna()
    )
    if pair.empty:
        return {}
    gaps: Array = np.log(pair["error"].to_numpy().clip(FLOOR)) - np.log(pair["other"].to_numpy().clip(FLOOR))
    drawn = gaps[np.random.default_rng(seed).integers(0, len(gaps), (DRAWS, len(gaps)))].mean(1)
    low, high = np.exp(np.quantile(drawn, [0.05, 0.95]))
    tie = np.log1p(TIE) + 1e-12
    found = {"ratio": float(np.exp(gaps.mean())), "low": float(low), "high": float(high)}
    return found | {
        "wins": int((gaps < -tie).sum()),
        "ties": int((np.abs(gaps) <= tie).sum()),
        "losses": int((gaps > tie).sum()),
    }


def table(each: pd.DataFrame, against: str = "direct", seed: int = 0) -> pd.DataFrame:
    """`by_function` summed up: one row per level, depth and label.

    ``test_mse``, ``error``: geometric means over functions, errors not below 1e-4 of the variance; ``neurons``, ``parameters``:
    medians; ``r2``: the median R2, ``poor``: the share of functions with R2 below 0.9. ``ratio``: the geometric mean of the
    errors over those of the label ``against`` at the same level and depth, with bounds ``low`` and ``high`` that hold 90 %
    (bootstrap over functions, 2,000 draws from ``seed``); ``wins``, ``ties``, ``losses``: functions on which the error is
    less, within 5 %, or more. What has no level is compared with every level: one row per level, named in ``against``.

    Raises:
        ConfigError: for a label that is not there.
    """
    labels = in_order(each["mode"])
    if against not in labels:
        raise ConfigError(
            f"against {against!r}: no study has this label; there are: {', '.join(labels)}. Take one of them "
            f"(--against LABEL), or give the folder of a study that has it too.{did_you_mean(against, labels)}"
        )
    mine = each[each["mode"] == against]
    opponents = [(size, depth, part) for (size, depth), part in mine.groupby(["size", "depth"], sort=False)]
    lines: list[dict[str, Any]] = []
    for key, part in each.groupby(["mode", "size", "depth"], sort=False):
        mode, size, depth = key if isinstance(key, tuple) else (key, NO_LEVEL, BEST)
        line: dict[str, Any] = {
            "mode": mode,
            "size": size,
            "depth": depth,
            "functions": len(part),
            "seeds": int(part["seeds"].max()),
            "test_mse": _geometric(part["test_mse"], 1e-12),
            "error": _geometric(part["error"], FLOOR),
            "r2": float(1.0 - part["error"].median()),
            "poor": float((part["error"] > 1.0 - POOR).mean()),
            "neurons": float(part["neurons"].median()),
            "parameters": float(part["parameters"].median()),
        }
        compared = []
        for level, layers, other in opponents if mode != against else ():
            if layers == depth and (level == size or NO_LEVEL in (level, size)):
                name = against if level in (size, NO_LEVEL) else f"{against} ({level})"
                compared.append({**line, "against": name, **_against(part, other, seed)})
        lines += compared or [line]
    columns = [
        *lines[0],
        *(name for name in ("against", "ratio", "low", "high", "wins", "ties", "losses") if name not in lines[0]),
    ]
    found = pd.DataFrame(lines, columns=columns).sort_values(
        ["size", "depth", "mode"], key=_ranks, kind="stable", ignore_index=True
    )
    return found.astype(dict.fromkeys(("wins", "ties", "losses"), "Int64"))


def told(found: pd.DataFrame) -> str:
    """`table` for a terminal, with lines that say what its columns are."""
    lines = []
    for row in found.to_dict("records"):
        line = {name: row[name] for name in ("mode", "size", "depth", "functions", "seeds")}
        line |= {name: f"{row[name]:.3g}" for name in ("test_mse", "error", "r2", "poor", "neurons", "parameters")}
        there = pd.notna(row["ratio"])
        line["against"] = row["against"] if there else ""
        line["ratio"] = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if there else ""
        lines.append(line | {"wins-ties-losses": f"{row['wins']}-{row['ties']}-{row['losses']}" if there else ""})
    return (
        f"{pd.DataFrame(lines).to_string(index=False)}\n\n"
        "error: test MSE / variance of the target; it and test_mse are geometric means over functions, r2, neurons (active)\n"
        f"and parameters (non-zero) medians, poor the share of functions with R2 below {POOR:g}; of each function the median\n"
        f"over seeds. ratio: of errors, with 90 % bounds (bootstrap over functions); a tie is within {100 * TIE:g} %. depth\n"
        f"{BEST}: the least validation error of each function and seed."
    )
