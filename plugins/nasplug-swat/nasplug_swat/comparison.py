"""Studies of many functions as one table: error against size for each mode, and how sure the order is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from nasplug.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["chosen", "compare", "picture", "rows_of", "table"]

FLOOR = 1e-4
"""Errors below this share of the variance count as equally good: ratios of rounding noise decide nothing."""

MODE, SIZE, DEPTH, FUNCTION = "method.mode", "penalties.0.size", "method.depth", "task.function"
DRAWS = 2000


def rows_of(folder: Path) -> pd.DataFrame:
    """A study's networks, a row each, with ``error``: test MSE over the variance of the test targets.

    Raises:
        ConfigError: for a folder without results, or a study that is no regression of several functions.
    """
    file = folder / "replicas.parquet"
    if not file.exists():
        raise ConfigError(f"{file} is not there; give the folder of a study that has run, <store>/<study>")
    frame = pd.read_parquet(file)
    if missing := [name for name in (FUNCTION, "test_r2") if name not in frame]:
        raise ConfigError(f"{file}: has no {', '.join(missing)}; needed: a study of regression that varies task.function")
    frame = frame[frame["status"] == "finished"].copy()
    frame["error"] = (1.0 - frame["test_r2"]).clip(lower=FLOOR)
    study = yaml.safe_load((folder / "study.yaml").read_text()) if (folder / "study.yaml").exists() else {}
    penalties, method = study.get("penalties") or [{}], study.get("method") or {}
    for name, value in (
        (SIZE, penalties[0].get("size", "-")),
        (DEPTH, method.get("depth", 2)),
        (MODE, method.get("mode", "latent")),
    ):
        if name not in frame:
            frame[name] = value  # the same in all of the study
    return frame


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """Of networks that differ in nothing compared (in their learning rate, say) the one with the least validation error."""
    best = frame.groupby([MODE, SIZE, DEPTH, FUNCTION, "seed"])["valid_error"].idxmin()
    return frame.loc[best]


def _by_function(frame: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds, a row a mode, size, depth and function."""
    columns = ["error", "test_error", "neurons", "parameters"]
    return frame.groupby([MODE, SIZE, DEPTH, FUNCTION])[columns].median().reset_index()


def _geometric(values: np.ndarray) -> float:
    return float(np.exp(np.log(values.clip(1e-12)).mean()))


def table(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row a mode, size and depth: geometric mean of the error over functions, and its ratio to ``direct`` with 90 % bounds.

    Bounds are a bootstrap over functions. Neurons and non-zeros are medians over functions.
    """
    each = _by_function(frame)
    wide = each.pivot_table(index=[SIZE, DEPTH, FUNCTION], columns=MODE, values="error")
    random = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    for key, part in each.groupby([MODE, SIZE, DEPTH]):
        mode, size, depth = key if isinstance(key, tuple) else (key, "-", "-")
        line: dict[str, Any] = {
            "mode": mode,
            "size": size,
            "depth": depth,
            "functions": len(part),
            "test_mse": _geometric(part["test_error"].to_numpy()),
            "error": _geometric(part["error"].to_numpy()),
            "neurons": float(part["neurons"].median()),
            "parameters": float(part["parameters"].median()),
        }
        if "direct" in wide and mode != "direct":
            both = wide[(wide.index.get_level_values(SIZE) == size) & (wide.index.get_level_values(DEPTH) == depth)]
            pair = both[[str(mode), "direct"]].dropna().to_numpy()
            gaps = np.log(pair[:, 0] / pair[:, 1])
            drawn = gaps[random.integers(0, len(gaps), (DRAWS, len(gaps)))].mean(1)
            line |= {"ratio": float(np.exp(gaps.mean())), "low": float(np.exp(np.quantile(drawn, 0.05)))}
            line["high"] = float(np.exp(np.quantile(drawn, 0.95)))
        lines.append(line)
    return pd.DataFrame(lines).sort_values(["size", "depth", "mode"], ignore_index=True)


def picture(found: pd.DataFrame) -> Figure:
    """Geometric mean error against median non-zeros, a line a mode through its sizes, a panel a depth."""
    from matplotlib.figure import Figure

    depths = sorted(found["depth"].unique())
    figure = Figure(figsize=(1.2 + 3.0 * len(depths), 3.2), layout="constrained")
    panels = figure.subplots(1, len(depths), squeeze=False, sharey=True)[0]
    for panel, depth in zip(panels, depths, strict=True):
        for mode, part in found[found["depth"] == depth].groupby("mode"):
            line = part.sort_values("parameters")
            panel.semilogy(line["parameters"], line["error"], marker="o", label=mode)
        panel.set_title(f"{depth} hidden layers" if depth != "-" else "", fontsize=9)
        panel.set_xlabel("non-zeros (median)")
    panels[0].set_ylabel("test MSE / variance (geometric mean)")
    panels[-1].legend(fontsize=8)
    return figure


def compare(folders: Sequence[Path]) -> pd.DataFrame:
    """`table` of several studies together, as if they were one; learning rates are chosen on validation data."""
    return table(chosen(pd.concat([rows_of(folder) for folder in folders], ignore_index=True)))
