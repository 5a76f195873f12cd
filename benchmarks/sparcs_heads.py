"""Heads behind stems with batch normalisation: accuracy over epochs (the paper's Figures 16 and 17), and a table with bounds.

    python benchmarks/sparcs_heads.py [--store FOLDER] [--out FOLDER] [--quick]

Three stems with `norm: batch`: two convolutions on scikit-learn's digits and on MNIST-1D, where the paper has CIFAR-10 (Figure
16), and three convolutions on MNIST-1D, where it has a second backbone (EfficientNetV2 on CIFAR-100, Figure 17). Behind each a
linear head, a plain hidden layer and a spectral head, trained with the stem for equal steps; then the spectral heads are pruned
by `obs` (a validation loss 5 % higher, refits of 200 steps), and as the authors' code prunes them: in each report the hidden
eigenvalues are put to 0, without training, which leaves a linear head, the skip through the eigenvectors. Each head takes the
learning rate, of three, of the smallest mean validation error. Test samples choose nothing.

Writes heads.png and heads_deep.png (validation accuracy) and prints test accuracies with bounds that hold 90 % (Student's t
over seeds: other first weights, the same data) and differences from the linear head of the same seed. ``--store`` keeps the
studies, and the same command goes on with them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bounds import mean

from nasplug import results
from nasplug.machine import arithmetic
from nasplug.networks import alive, forward, harden, join, sizes, take
from nasplug.packs import load_networks
from nasplug.plan import Pack, assemble, build_task, components, settle
from nasplug.study import Study
from nasplug.train import ValidationLoss, evaluate, train
from nasplug_sparcs import heads, obs

DOCS = Path(__file__).parents[1] / "plugins" / "nasplug-sparcs" / "docs"
PRUNED = "spectral, obs"
OFF = "spectral, eigenvalues at 0"


@dataclass(frozen=True)
class Setting:
    """A stem on a data set, and the width of the hidden heads behind it."""

    words: str
    picture: str
    task: str
    image: tuple[int, int, int]
    channels: tuple[int, ...]
    kernels: tuple[Any, ...]
    pool: Any
    hidden: int

    @property
    def stem(self) -> dict[str, Any]:
        """As a config has it."""
        layers = [
            {"channels": c, "kernel": k, "pool": self.pool, "norm": "batch"}
            for c, k in zip(self.channels, self.kernels, strict=True)
        ]
        return {"image": list(self.image), "layers": layers}


SETTINGS = (
    Setting("digits, 2 convolutions", "heads", "digits_images", (1, 8, 8), (8, 16), (3, 3), 2, 64),
    Setting("MNIST-1D, 2 convolutions", "heads", "mnist1d", (1, 1, 40), (16, 16), ([1, 5], [1, 3]), [1, 2], 100),
    Setting(
        "MNIST-1D, 3 convolutions", "heads_deep", "mnist1d", (1, 1, 40), (16, 24, 32), ([1, 5], [1, 3], [1, 3]), [1, 2], 100
    ),
)


def study_of(setting: Setting, head: str, store: Path, quick: bool) -> Study:
    """One head behind a stem, at each rate."""
    plain = {"use": "edges", "mode": "l1", "hidden": [] if head == "linear" else [setting.hidden]}
    spectral = {"use": "sparcs", "hidden": [setting.hidden], "bias_input": True}
    raw = {
        "study": f"{setting.picture}_{setting.task}_{head.replace(' ', '_')}",
        "store": str(store),
        "task": {"use": setting.task},
        "method": {**(spectral if head == "spectral" else plain), "stem": setting.stem},
        "penalties": [{"use": "eigenvalue", "norm": "l1", "level": 0.0001}] if head == "spectral" else [],
        "discretizers": [],
        "train": {
            "steps": 40 if quick else 800,
            "batch": 128,
            "lr": 0.01 if quick else {"choice": [0.003, 0.01, 0.03]},
            "decay": {"use": "cosine"},
            "reports": 10 if quick else 40,
        },
        "seeds": 2 if quick else 8,
        "sampler": {"use": "grid"},
        "resources": {"cpus": 1, "gpus": 0, "pack": 24},
        "mlflow": None,
        "linear": False,
    }
    return Study.from_dict(raw)


def chosen(study: Study) -> pd.DataFrame:
    """The rows of the rate with the smallest mean validation error."""
    frame = results.read(study.folder, histories=True)
    frame = frame[frame["status"] == "finished"]
    rate = frame.groupby("train.lr")["valid_error"].mean().idxmin() if "train.lr" in frame else None
    return (frame if rate is None else frame[frame["train.lr"] == rate]).sort_values("seed")


def pruned(study: Study, rows: pd.DataFrame, quick: bool) -> dict[str, np.ndarray]:
    """What `obs` leaves of the chosen spectral heads, by their seeds."""
    places = [name.split("/") for name in rows["replica"]]
    packs = {pack: load_networks(study.folder / "packs" / pack) for pack, _ in places}
    nets = join([take(packs[pack], torch.tensor([int(row)])) for pack, row in places])
    task = build_task(study.config, study.plugins).to("cpu", nets.blocks[1, 0].dtype)
    free = replace(nets, gates={}, edge_gates={})  # with gates `obs` takes it as cut before
    hard = obs(tolerance=0.05, refit=20 if quick else 200)(free, ValidationLoss(task))
    found = {name: values.numpy() for name, values in sizes(hard).items()}
    for split in ("valid", "test"):
        found[f"{split}_error"] = evaluate(task, getattr(task, split), hard, forward)["error"].numpy()
    return found


def switched_off(study: Study, rows: pd.DataFrame) -> tuple[list[float], dict[str, np.ndarray]]:
    """The chosen spectral heads with hidden eigenvalues of 0, at each report: epochs, and errors and sizes at the end.

    They are trained again, as reports do not keep what eigenvectors were; ``valid_errors`` are ``(K, reports)``.
    """
    rate = {"train.lr": rows["train.lr"].iloc[0]} if "train.lr" in rows else {}
    config = settle(study.config, rate)
    pack = Pack("p0000", {}, {}, [int(seed) for seed in rows["seed"]], [0] * len(rows))
    parts = components(config, pack, study.plugins)
    search = assemble(parts, pack, study.plugins)
    task, errors, epochs = search.task, [], []
    per_epoch = task.train.samples / study.config.train.batch
    nets: Any = None
    for report in train(search, every=study.config.train.steps // study.config.train.reports):
        off = {name: p * 0.0 if name == "eigenvalues" else p for name, p in report.state.params.items()}
        with torch.no_grad():
            nets = search.relax(off, search.tau.at(0))
            errors.append(evaluate(task, task.valid, nets, search.forward)["error"])
        epochs.append(report.step / per_epoch)
    found = {name: values.numpy() for name, values in sizes(alive(harden(search.direct(nets)))).items()}
    found["valid_errors"] = torch.stack(errors, 1).numpy()
    found["test_error"] = evaluate(task, task.test, nets, search.forward)["error"].numpy()
    return epochs, found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, help="where the studies are kept, and gone on with")
    parser.add_argument("--out", type=Path, help="where pictures are written (default: the plugin's docs; of --quick: nowhere)")
    parser.add_argument("--quick", action="store_true", help="40 steps, two seeds, two of three stems: to see that it runs")
    given = parser.parse_args(arguments)
    out = given.out or (None if given.quick else DOCS)
    panels: dict[str, dict[str, Any]] = {}
    ended: dict[str, dict[str, torch.Tensor]] = {}
    figures: dict[str, Any] = {}
    columns = (
        "stem",
        "head",
        "lr",
        "test accuracy, %",
        "less the linear head's",
        "neurons",
        "parameters",
        "linear in the end",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    with tempfile.TemporaryDirectory() as temporary, arithmetic(1):
        for setting in SETTINGS[::2] if given.quick else SETTINGS:
            base: np.ndarray | None = None
            panel = panels.setdefault(setting.picture, {}).setdefault(setting.words, {})
            for head in ("linear", "plain hidden layer", "spectral"):
                study = study_of(setting, head, given.store or Path(temporary), given.quick).run("serial")
                rows = chosen(study)
                per_epoch = build_task(study.config, study.plugins).train.samples / study.config.train.batch
                steps = np.asarray(rows["history_step"].iloc[0], float)
                error = np.stack([np.asarray(values, float) for values in rows["history_valid_error"]])
                panel[head] = ((steps / per_epoch).tolist(), torch.from_numpy(100 * (1 - error)))
                told = {name: rows[name].to_numpy(float) for name in ("test_error", "neurons", "parameters")}
                both = {head: told}
                if head == "spectral":
                    epochs, off = switched_off(study, rows)
                    panel[OFF] = (epochs, torch.from_numpy(100 * (1 - off["valid_errors"])))
                    both |= {PRUNED: pruned(study, rows, given.quick), OFF: off}
                for name, those in both.items():
                    accuracy = 100 * (1 - those["test_error"])
                    base = accuracy if base is None else base
                    found, less = mean(accuracy), mean(accuracy - base)
                    key = f"{setting.picture}/{setting.task}/{name}"
                    figures[key] = {"accuracy": found, "difference": less, "neurons": float(np.median(those["neurons"]))}
                    cells = [setting.words, name, f"{rows['train.lr'].iloc[0] if 'train.lr' in rows else 0.01:g}"]
                    cells += [f"{found[0]:.2f} [{found[1]:.2f}, {found[2]:.2f}]"]
                    cells += ["" if name == "linear" else f"{less[0]:+.2f} [{less[1]:+.2f}, {less[2]:+.2f}]"]
                    cells += [f"{np.median(those['neurons']):.0f}", f"{np.median(those['parameters']):,.0f}"]
                    cells += [f"{int((those['neurons'] == 0).sum())} of {len(accuracy)}"]
                    print(f"| {' | '.join(cells)} |", flush=True)
                    if name == PRUNED:
                        valid = torch.from_numpy(100 * (1 - those["valid_error"]))
                        ended.setdefault(setting.picture, {})[setting.words] = valid
    for picture, each in panels.items():
        figure = heads(each, ended[picture])
        if out is not None:
            out.mkdir(exist_ok=True, parents=True)
            figure.savefig(out / f"{picture}.png", dpi=110)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
