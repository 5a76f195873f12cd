"""The figures of the plugin nasplug-sparcs, from studies.

    python benchmarks/sparcs_figures.py [STORE]

Runs `configs/papers/sparcs_transition.yaml`, and one network of `sparcs_teacher.yaml`, into STORE (default runs; a study that
is there is read, not run again) and writes plugins/nasplug-sparcs/docs/: `transition.png` (|Gamma| against alpha), `paths.png`
(|Gamma| of each neuron), `found.png` (an architecture that `obs` left), `spectrum.png` (the teacher's eigenvalues) and
`curve.png` (its loss against neurons).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from nasplug.drawing import draw_network
from nasplug.networks import Networks, take
from nasplug.packs import load_networks
from nasplug.plan import build_task
from nasplug.study import Study
from nasplug.train import ValidationLoss
from nasplug_sparcs import curve, gamma, paths, spectrum, transition

ROOT = Path(__file__).parents[1]
PAPERS = ROOT / "configs" / "papers"
OUT = ROOT / "plugins" / "nasplug-sparcs" / "docs"
SHOWN = (0.2, 0.4, 0.5, 0.7, 1.0)


def finished(config: str, store: str, *overrides: str) -> Study:
    """A study, run where it has not been."""
    return Study.from_yaml(PAPERS / f"{config}.yaml", [f"store={store}", "mlflow=null", *overrides]).run("serial")


def main() -> None:
    store = sys.argv[1] if len(sys.argv) > 1 else "runs"
    OUT.mkdir(exist_ok=True)
    study = finished("sparcs_transition", store)
    frame = study.frame
    packs = {folder.name: load_networks(folder) for folder in sorted((study.folder / "packs").iterdir())}
    carried = {name: gamma(nets).tolist() for name, nets in packs.items()}
    places = [(pack, int(row)) for pack, row in frame["replica"].str.split("/")]
    frame["gamma"] = [carried[pack][row] for pack, row in places]
    figure = transition(frame["task.alpha"].tolist(), frame["task.beta"].tolist(), frame["gamma"].tolist())
    figure.savefig(OUT / "transition.png", dpi=110)
    print(frame.groupby(["task.beta", "task.alpha"])["gamma"].agg(["mean", "std"]).round(3).unstack(0).to_string())

    smooth = frame[(frame["task.beta"] == 5.0) & (frame["seed"] == frame["seed"].min())]
    named: dict[str, Networks] = {}
    for place, alpha in zip(smooth.index, smooth["task.alpha"], strict=True):
        if any(abs(alpha - shown) < 1e-9 for shown in SHOWN):
            pack, row = places[frame.index.get_loc(place)]
            named[f"alpha {alpha:g}"] = take(packs[pack], torch.tensor([row]))
    paths(named, 1).savefig(OUT / "paths.png", dpi=110)

    cut = [
        "study=sparcs_transition_found",
        "discretizers=[{use: obs, r2: 0.999}]",
        "task.alpha=1.0",
        "task.beta=5.0",
        "seeds=1",
    ]
    found = finished("sparcs_transition", store, *cut)
    draw_network(found.network(found.frame["replica"].iloc[0])).savefig(OUT / "found.png", dpi=80)
    print(found.frame[["neurons", "edges", "parameters", "valid_r2", "test_r2"]].to_string())

    teacher = finished("sparcs_teacher", store, "study=sparcs_teacher_curve", "discretizers=[]", "seeds=1")
    nets = load_networks(teacher.folder / "packs" / "p0000")
    spectrum(nets).savefig(OUT / "spectrum.png", dpi=110)
    task = build_task(teacher.config, teacher.plugins).to("cpu", torch.float32)
    score = ValidationLoss(task)
    figure, counts, losses = curve(nets, 2, score)
    figure.savefig(OUT / "curve.png", dpi=110)
    print("teacher, layer 2, loss by neurons left:", {n: float(f"{loss:.2g}") for n, loss in zip(counts, losses, strict=True)})


if __name__ == "__main__":
    main()
