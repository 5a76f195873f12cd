"""The figures of the plugin nasplug-sparcs, from studies.

    python benchmarks/sparcs_figures.py [STORE] [--only NAME ...] [--out FOLDER] [--quick]

Runs `configs/papers/sparcs_transition.yaml`, its data in direct space, and one network of `sparcs_teacher.yaml`, into STORE
(default runs; a study that is there is read, not run again) and writes plugins/nasplug-sparcs/docs/:

- `transition`: transition.png (|Gamma| against alpha), paths.png (|Gamma| of each neuron), eigenvalues.png (their mean size),
  neurons.png (how many carry a path) and fits.png (targets, and how far networks are from them).
- `direct`: direct.png (|Gamma| against alpha of all skips as plain weights, with a group lasso over what enters each neuron).
- `kept`: kept.png and kept_direct.png (how many neurons `obs` leaves at R2 0.98, against alpha: of spectral networks, and of
  those in direct space).
- `found`: found.png (an architecture that `obs` left at alpha 1).
- `teacher`: spectrum.png (eigenvalues), curve.png (loss against neurons by `obs`) and orders.png (in three orders of pruning).

`sparcs_heads.py` draws heads behind stems.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from sparcs_controls import norms
from torch import Tensor

from nasplug.cuts import ranks
from nasplug.drawing import draw_network
from nasplug.machine import arithmetic
from nasplug.networks import Networks, forward, take
from nasplug.packs import load_networks
from nasplug.plan import build_task
from nasplug.study import Study
from nasplug.train import ValidationLoss
from nasplug_sparcs import curve, fits, gamma, gamma_by_neuron, orders, paths, spectrum, transition

ROOT = Path(__file__).parents[1]
PAPERS = ROOT / "configs" / "papers"
DOCS = ROOT / "plugins" / "nasplug-sparcs" / "docs"
SHOWN = (0.2, 0.4, 0.5, 0.7, 1.0)
CARRIES = 0.01  # paths of at least this size are drawn by the authors' code
FEW = ["task.alpha={uniform: [0.0, 1.0], points: 3}", "seeds=2", "train.steps=300", "method.hidden=[40]"]
DIRECT = [
    "study=sparcs_transition_direct",
    "method={use: edges, mode: l1, hidden: [300], skips: true}",
    "penalties=[{use: neurons, level: 0.0001}]",
    "seeds=4",
]
OBS = "discretizers=[{use: obs, r2: 0.98}]"  # 0.999 is missed by most networks from alpha 0.6 on, after 3,200 steps
FOUND = [
    "study=sparcs_transition_found",
    "discretizers=[{use: obs, r2: 0.999}]",
    "task.alpha=1.0",
    "task.beta=5.0",
    "seeds=1",
]
TEACHER = ["study=sparcs_teacher_curve", "discretizers=[]", "seeds=1"]
SMALL = ["method.hidden=[40, 40]", "train.steps=200", "task.samples=2000"]


def finished(config: str, store: str, *overrides: str) -> Study:
    """A study, run where it has not been."""
    return Study.from_yaml(PAPERS / f"{config}.yaml", [f"store={store}", "mlflow=null", *overrides]).run("serial")


def carried(study: Study) -> tuple[pd.DataFrame, dict[str, Networks]]:
    """The table of a study with |Gamma| of each network, and the networks of its packs."""
    frame = study.frame
    packs = {folder.name: load_networks(folder) for folder in sorted((study.folder / "packs").iterdir())}
    values = {name: gamma(nets).tolist() for name, nets in packs.items()}
    places = [(pack, int(row)) for pack, row in frame["replica"].str.split("/")]
    frame["gamma"] = [values[pack][row] for pack, row in places]
    print(frame.groupby(["task.beta", "task.alpha"])["gamma"].agg(["mean", "std"]).round(3).unstack(0).to_string())
    print(frame.groupby(["task.beta", "task.alpha"])["valid_r2"].median().round(4).unstack(0).to_string())
    return frame, packs


def draw_transition(store: str, out: Path, quick: bool) -> None:
    """Experiment 1."""
    frame, packs = carried(finished("sparcs_transition", store, *(FEW if quick else [])))
    figure = transition(frame["task.alpha"].tolist(), frame["task.beta"].tolist(), frame["gamma"].tolist())
    figure.savefig(out / "transition.png", dpi=110)
    smooth = frame[(frame["task.beta"] == 5.0) & (frame["seed"] == frame["seed"].min())]
    named: dict[str, Networks] = {}
    for alpha, place in zip(smooth["task.alpha"], smooth["replica"], strict=True):
        if any(abs(alpha - shown) < 1e-9 for shown in SHOWN):
            pack, row = place.split("/")
            named[f"alpha {alpha:g}"] = take(packs[pack], torch.tensor([int(row)]))
    paths(named, 1).savefig(out / "paths.png", dpi=110)
    places = [(pack, int(row)) for pack, row in frame["replica"].str.split("/")]
    columns = frame["task.alpha"].tolist(), frame["task.beta"].tolist()
    means = {name: nets.eigenvalues[1].abs().mean(1).tolist() for name, nets in packs.items()}
    frame["eigenvalues"] = [means[pack][row] for pack, row in places]
    shares = frame["eigenvalues"] / frame.groupby("task.beta")["eigenvalues"].transform("max")
    transition(*columns, shares.tolist(), "mean |eigenvalue|, of the largest").savefig(out / "eigenvalues.png", dpi=110)
    carry = {name: (gamma_by_neuron(nets, 1) >= CARRIES).sum(1).tolist() for name, nets in packs.items()}
    frame["carrying"] = [carry[pack][row] for pack, row in places]
    told = "neurons that carry a path"
    transition(*columns, frame["carrying"].tolist(), told).savefig(out / "neurons.png", dpi=110)
    print(frame.groupby(["task.beta", "task.alpha"])[["eigenvalues", "carrying"]].mean().round(3).unstack(0).to_string())
    draw_fits(frame, packs).savefig(out / "fits.png", dpi=90)


def draw_fits(frame: pd.DataFrame, packs: dict[str, Networks]) -> Figure:
    """Targets and errors of the networks of one seed over [-1, 1]^2."""
    side = torch.linspace(-1.0, 1.0, 41)
    x = torch.stack([side.repeat(41), side.repeat_interleave(41)])
    rows: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for beta, alpha, place in frame[frame["seed"] == frame["seed"].min()][
        ["task.beta", "task.alpha", "replica"]
    ].values.tolist():
        pack, row = place.split("/")
        t = math.tanh(beta * (alpha - 0.5))
        target = 0.5 * (1.0 - t) * x.mean(0) + 0.5 * (1.0 + t) * x.square().mean(0)
        output = forward(take(packs[pack], torch.tensor([int(row)])), x)[0, 0]
        rows.setdefault(f"beta {beta:g}", {})[f"alpha {alpha:g}"] = (target.reshape(41, 41), output.reshape(41, 41))
    return fits({name: {title: row[title] for title in sorted(row)} for name, row in sorted(rows.items(), reverse=True)})


def draw_direct(store: str, out: Path, quick: bool) -> None:
    """Experiment 1 in direct space."""
    few = [*FEW[:-1], "method={use: edges, mode: l1, hidden: [40], skips: true}"]
    frame, _ = carried(finished("sparcs_transition", store, *DIRECT, *(few if quick else [])))
    figure = transition(frame["task.alpha"].tolist(), frame["task.beta"].tolist(), frame["gamma"].tolist())
    figure.savefig(out / "direct.png", dpi=110)


def draw_kept(store: str, out: Path, quick: bool) -> None:
    """Experiment 1, cut by `obs`: the neurons that a network needs, spectral and in direct space."""
    few = [*FEW[:-1], "method={use: edges, mode: l1, hidden: [40], skips: true}"]
    for name, changes in (("kept", ["study=sparcs_transition_kept", *(FEW if quick else [])]), ("kept_direct", [])):
        changes = changes or [*DIRECT, "study=sparcs_transition_kept_direct", *(few if quick else [])]
        frame = finished("sparcs_transition", store, *changes, "seeds=2" if quick else "seeds=4", OBS).frame
        columns = frame["task.alpha"].tolist(), frame["task.beta"].tolist(), frame["neurons"].tolist()
        transition(*columns, "neurons left by obs").savefig(out / f"{name}.png", dpi=110)
        by = frame.groupby(["task.beta", "task.alpha"])
        print(name)
        print(by["neurons"].agg(["mean", "min", "max"]).round(1).unstack(0).to_string())
        print(by["test_r2"].median().round(4).unstack(0).to_string())


def draw_found(store: str, out: Path, quick: bool) -> None:
    """What `obs` leaves at alpha 1."""
    found = finished("sparcs_transition", store, *(FEW if quick else []), *FOUND)
    draw_network(found.network(found.frame["replica"].iloc[0])).savefig(out / "found.png", dpi=80)
    print(found.frame[["neurons", "edges", "parameters", "valid_r2", "test_r2"]].to_string())


def by_order(nets: Networks, magnitudes: dict[int, Tensor], score: ValidationLoss) -> tuple[list[int], list[float]]:
    """Validation losses of one network with its first so many neurons by magnitude, over all layers, without a refit."""
    layers = sorted(magnitudes)
    rank = ranks(torch.cat([magnitudes[layer] for layer in layers], 1))
    total = rank.shape[1]
    counts = sorted({*range(min(61, total + 1)), *range(60, total + 1, 10), total})
    like = next(iter(nets.blocks.values()))
    losses = []
    for count in counts:
        kept = (rank >= total - count).to(like).split_with_sizes([nets.widths[layer] for layer in layers], 1)
        losses.append(float(score(with_gates(nets, dict(zip(layers, kept, strict=True))))))
    return counts, losses


def with_gates(nets: Networks, gates: dict[int, Tensor]) -> Networks:
    """The same weights with these neurons."""
    return Networks(
        widths=nets.widths,
        blocks=nets.blocks,
        biases=nets.biases,
        gates=gates,
        eigenvalues=nets.eigenvalues,
        candidates=nets.candidates,
        functions=nets.functions,
    )


def draw_teacher(store: str, out: Path, quick: bool) -> None:
    """Experiment 2."""
    teacher = finished("sparcs_teacher", store, *TEACHER, *(SMALL if quick else []))
    nets = load_networks(teacher.folder / "packs" / "p0000")
    spectrum(nets).savefig(out / "spectrum.png", dpi=110)
    task = build_task(teacher.config, teacher.plugins).to("cpu", torch.float32)
    score = ValidationLoss(task)
    figure, counts, losses = curve(nets, 2, score)
    figure.savefig(out / "curve.png", dpi=110)
    print("teacher, layer 2, loss by neurons left:", {n: float(f"{loss:.2g}") for n, loss in zip(counts, losses, strict=True)})
    plain = with_gates(nets, {})
    named = {
        "eigenvalues": by_order(plain, {layer: nets.eigenvalues[layer].abs() for layer in (1, 2)}, score),
        "magnitudes": by_order(plain, norms(plain), score),
        "obs": (counts, losses),
    }
    scale = float(task.valid.y.var(-1, correction=0).mean())
    missed = {name: (where, [loss / scale for loss in found]) for name, (where, found) in named.items()}
    orders(missed, {"R2 0.98": 0.02, "R2 0.999": 0.001}).savefig(out / "orders.png", dpi=110)
    for name, (where, found) in missed.items():
        print(
            name,
            {mark: min((n for n, x in zip(where, found, strict=True) if x <= mark), default=None) for mark in (0.02, 0.001)},
        )


DRAWN: dict[str, Callable[[str, Path, bool], None]] = {
    "transition": draw_transition,
    "direct": draw_direct,
    "kept": draw_kept,
    "found": draw_found,
    "teacher": draw_teacher,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", nargs="?", default="runs", help="where studies are kept, and read again")
    parser.add_argument("--only", nargs="+", choices=list(DRAWN), default=list(DRAWN), metavar="NAME", help=", ".join(DRAWN))
    parser.add_argument("--out", type=Path, default=DOCS, help="where pictures are written")
    parser.add_argument("--quick", action="store_true", help="few networks, few steps, no picture kept: to see that it runs")
    given = parser.parse_args(arguments)
    with arithmetic(1), tempfile.TemporaryDirectory() as temporary:
        store, out = (temporary, Path(temporary)) if given.quick else (given.store, given.out)
        out.mkdir(exist_ok=True, parents=True)
        for name in given.only:
            DRAWN[name](store, out, given.quick)


if __name__ == "__main__":
    main()
