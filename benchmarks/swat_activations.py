"""Searched activations against fixed ones over many functions, and which ones searches keep (SWAT-NN's figures 3 and 4).

    python benchmarks/swat_activations.py FOLDERS... [--pictures FOLDER]
    python benchmarks/swat_activations.py --quick

FOLDERS are those of studies that vary `task.function` and `method.activation` of method `swat`, null (searched) among its
values: `plugins/nasplug-swat/configs/swat_activations.yaml`. For each mode: each fixed activation against the searched ones at
equal depth; and at equal numbers of searches the best of the fixed ones against the best of as many searches from other seeds,
both by validation. Ratios are of test errors, with 90 % bounds over functions. `--pictures` draws activations.png. `--quick`
makes a small study for itself: to see that it runs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from swat_compare import QUICK
from swat_tables import BEST, FLOOR, by_depth, by_function, in_order, studies, table

from nasplug import Study
from nasplug.errors import ConfigError
from nasplug.networks import alive, harden, take

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATION, MODE = "method.activation", "method.mode"
ANY, AGAIN = ", best of the fixed", ", best of as many searches"
COLOURS = ("#000000", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00")


def _fixed(frame: pd.DataFrame) -> pd.Series[Any]:
    """The fixed activation of each row, "" where it was searched.

    Raises:
        ConfigError: where no row was searched, or none has an activation.
    """
    if ACTIVATION not in frame:
        raise ConfigError(f"no study varies {ACTIVATION}; needed: null (searched) and activations among its values")
    fixed = frame[ACTIVATION].map(lambda name: "" if name is None or name == "null" else str(name))
    if (fixed == "").all() or (fixed != "").all():
        raise ConfigError(f"{ACTIVATION} is {sorted(set(fixed))}; needed: null (searched) and activations among its values")
    return fixed


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """`swat_tables.table`, each label against its mode with searched activations, and the two best against each other.

    ``frame``: of `swat_tables.studies`. The best of the fixed is chosen by validation among the activations of one seed, the
    best of as many searches among as many seeds; so both had as many searches.
    """
    fixed = _fixed(frame)
    count = int(fixed[fixed != ""].nunique())
    modes = frame[MODE] if MODE in frame else pd.Series("latent", index=frame.index)
    parts = []
    for mode in in_order(modes):
        mine = frame[modes == mode]
        searched, others = mine[fixed[mine.index] == ""], mine[fixed[mine.index] != ""]
        parts.append(table(by_function(mine), str(mode)))
        whole = searched["seed"].nunique() // count * count  # seeds in groups of as many as there are fixed activations
        again = searched[searched["seed"] < whole].assign(mode=f"{mode}{AGAIN}", seed=lambda rows: rows["seed"] // count)
        if whole:
            parts.append(table(by_function(pd.concat([others.assign(mode=f"{mode}{ANY}"), again])), f"{mode}{AGAIN}"))
    return pd.concat(parts, ignore_index=True)


def kept(folders: Sequence[Path], frame: pd.DataFrame) -> pd.DataFrame:
    """Shares of activations among active neurons of searched networks, by mode and hidden layer, at the chosen depth.

    ``frame``: of `swat_tables.studies` of these folders; the networks are those that validation chooses.
    """
    chosen = by_depth(frame[_fixed(frame) == ""])
    chosen = chosen[chosen["depth"] == BEST]
    lines = []
    for folder in folders:
        study = Study.open(folder)
        places = study.frame["replica"]
        mine = chosen[chosen["replica"].isin(places)]
        split = mine["replica"].str.split("/", expand=True)
        for pack in split[0].unique() if len(mine) else ():
            rows = mine[split[0] == pack]
            nets = study.networks(pack)
            some = alive(harden(take(nets, torch.tensor(split[1][split[0] == pack].astype(int).to_numpy()))))
            for layer, choice in some.choices.items():
                on = (some.gates[layer] > 0).unsqueeze(-1)
                for name, counts in zip(some.candidates, (choice * on).sum(1).T.tolist(), strict=True):
                    lines += [
                        {"mode": mode, "layer": layer, "activation": name, "neurons": count}
                        for mode, count in zip(rows["mode"], counts, strict=True)
                    ]
    sums = pd.DataFrame(lines).groupby(["mode", "layer", "activation"], sort=False)["neurons"].sum().reset_index()
    sums["share"] = sums["neurons"] / sums.groupby(["mode", "layer"])["neurons"].transform("sum")
    return sums


def drawn(frame: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Each function's error by activation at the chosen depth, and the shares that searches keep."""
    from matplotlib.figure import Figure

    each = by_function(frame)
    each = each[each["depth"] == BEST].assign(error=lambda rows: rows["error"].clip(lower=FLOOR))
    modes = in_order(shares["mode"])
    wide = each.pivot(index="function", columns="mode", values="error")
    order = wide[str(modes[0])].sort_values(ascending=False).index
    figure = Figure(figsize=(4.6 * len(modes) + 2.6, 1.8 + 0.2 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(modes) + 1, squeeze=False, width_ratios=[2] * len(modes) + [1])[0]
    names = list(shares["activation"].unique())
    looks = {name: (COLOURS[i % len(COLOURS)], "sD^vP"[i % 5]) for i, name in enumerate(names, start=1)}
    for axes, mode in zip(panels, modes, strict=False):
        for label in (name for name in in_order(each["mode"]) if name == mode or name.startswith(f"{mode}, ")):
            words = "searched" if label == mode else label.removeprefix(f"{mode}, ")
            colour, marker = looks.get(words, (COLOURS[0], "o"))
            axes.plot(wide.loc[order, label], range(len(order)), marker, color=colour, label=words, markersize=5)
        axes.set(xscale="log", title=str(mode), xlabel="test MSE / variance")
        axes.set_yticks(range(len(order)), order if mode == modes[0] else [""] * len(order), fontsize=7)
        axes.grid(axis="x", color="#d5d9df", linewidth=0.5)
        axes.legend(fontsize=7, frameon=False)
    bars = shares.assign(bar=shares["mode"] + " " + shares["layer"].astype(str))
    wide = bars.pivot_table(index="bar", columns="activation", values="share", sort=False)
    below = wide.cumsum(axis=1) - wide
    for name in wide:
        panels[-1].bar(wide.index, wide[name], bottom=below[name], color=looks[str(name)][0], width=0.7)
    panels[-1].set(title="what searches keep", ylabel="share of active neurons", ylim=(0, 1))
    panels[-1].tick_params(axis="x", labelrotation=60, labelsize=7)
    return figure


def told(found: pd.DataFrame, shares: pd.DataFrame) -> str:
    """Both tables for a terminal."""
    lines = []
    for row in found.to_dict("records"):
        line = {name: row[name] for name in ("mode", "size", "depth", "functions", "seeds")}
        line |= {"error": f"{row['error']:.4f}", "non-zeros": f"{row['parameters']:g}", "against": row["against"]}
        there = pd.notna(row["ratio"])
        line["ratio"] = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" if there else ""
        lines.append(line | {"wins-ties-losses": f"{row['wins']}-{row['ties']}-{row['losses']}" if there else ""})
    wide = shares.pivot_table(index=["mode", "layer"], columns="activation", values="share", sort=False)
    return f"{pd.DataFrame(lines).fillna('').to_string(index=False)}\n\nshares of active neurons\n{wide.round(3).to_string()}"


def quick(store: Path) -> list[Path]:
    """A study of seconds."""
    method = QUICK["method"] | {"activation": {"choice": [None, "tanh", "sigmoid"]}}
    return [Study.from_dict({**QUICK, "method": method, "store": str(store)}).run("serial").folder]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="compare a small study made for it: to see that it runs")
    given = parser.parse_args(arguments)
    if given.quick == bool(given.folders):
        parser.error("give the folders of studies, or --quick")
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folders = quick(Path(temporary)) if given.quick else given.folders
            frame = studies(folders)
            found = compared(frame)
            shares = kept(folders, frame)
        except ConfigError as error:
            parser.error(str(error))
    print(told(found, shares))
    if given.pictures is not None:
        given.pictures.mkdir(parents=True, exist_ok=True)
        drawn(frame, shares).savefig(given.pictures / "activations.png", dpi=130, facecolor="white")
        print(given.pictures / "activations.png")
    print(json.dumps({"table": json.loads(found.to_json(orient="records")), "kept": shares.to_dict("records")}))


if __name__ == "__main__":
    main()
