"""Benchmarks of methods and their controls: `sparcs_controls.py`, `edges_dynamics.py` and the bounds they share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import edges_dynamics
import pandas as pd
import pytest
import sparcs_controls
import sparcs_figures
import sparcs_heads
import torch
from bounds import mean, ratio, share

from nasplug.networks import Networks, sizes
from nasplug.testing import example_networks, example_task
from nasplug.train import ValidationLoss


def test_bounds_of_shares_and_ratios() -> None:
    low, high = share(9, 10) or (math.nan, math.nan)
    assert (low, high) == pytest.approx((0.6523, 0.9776), abs=1e-3)  # Wilson's at 90 %
    assert share(0, 0) is None
    assert ratio([], []) is None
    assert ratio([2.0, 8.0], [1.0, 4.0]) == pytest.approx((2.0, 2.0, 2.0))
    assert mean([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0 - 2.92 / 3**0.5, 2.0 + 2.92 / 3**0.5), abs=1e-3)  # t(2) at 90 %
    assert mean([4.0]) == (4.0, 4.0, 4.0)


def found(arm: str, seed: int, level: float, **more: Any) -> dict[str, Any]:
    row = {
        "grid": "g",
        "criterion": 0.98,
        "layers_taught": 1,
        "teacher": "20",
        "neurons_taught": 20,
        "samples": 100,
        "noise": 0.0,
    }
    row |= {
        "arm": arm,
        "seed": seed,
        "level": level,
        "met": True,
        "valid_loss": 1.0,
        "test_r2": 0.99,
        "neurons": 20,
        "layers": 1,
    }
    return row | {"parameters": 800, "searched": 1000, "steps": 10} | more


def test_levels_are_chosen_by_validation_and_controls_are_compared_where_both_met() -> None:
    rows = [found("dense + obs", seed, math.nan, neurons=20 + seed) for seed in (0, 1)]
    rows += [
        found("sparcs + obs", 0, 0.1, neurons=40),
        found("sparcs + obs", 0, 1.0, neurons=30, test_r2=0.5),  # fewer neurons, whatever the test samples say
        found("sparcs + obs", 1, 0.1, met=False, neurons=5, valid_loss=2.0),
        found("sparcs + obs", 1, 1.0, met=False, neurons=3, valid_loss=3.0),
    ]
    best = sparcs_controls.chosen(pd.DataFrame(rows))
    assert best[best["arm"] == "sparcs + obs"].sort_values("seed")["neurons"].tolist() == [30, 5]
    dense, sparcs = sparcs_controls.summed(best, ["grid", "layers_taught"])
    assert (dense["met"], dense["depth"], dense["ratio"]) == (2, 2, pytest.approx((1.0, 1.0, 1.0)))
    assert (sparcs["met"], sparcs["teachers"], sparcs["neurons"]) == (1, 2, 1.5)
    assert sparcs["ratio"] == pytest.approx((1.5, 1.5, 1.5))
    assert "| 1 of 2 [" in sparcs_controls.told([dense, sparcs], ["grid", "layers_taught"])


def test_the_smallest_neurons_go_first() -> None:
    """Two neurons of which one does nothing: scale between layers plays no part."""
    blocks = {(1, 0): torch.tensor([[[1e3], [1.0]]]), (2, 1): torch.tensor([[[1e-6, 1.0]]])}
    nets = Networks(widths=(1, 2, 1), blocks=blocks, candidates=("relu",))
    order = sparcs_controls.norms(nets)
    assert order[1][0].argmin() == 0
    target = torch.tensor([[[1.0]]])

    class Score:
        def __call__(self, nets: Networks) -> torch.Tensor:
            kept = nets.gates[1].unsqueeze(1) * nets.blocks[2, 1] @ nets.blocks[1, 0]
            return (kept - target).square().flatten(1).sum(1)

    cut = sparcs_controls.in_order(nets, order, torch.tensor([0.01]), Score())  # type: ignore[arg-type]
    assert sizes(cut)["neurons"].tolist() == [1]


@pytest.mark.slow
def test_both_benchmarks_run(capsys: pytest.CaptureFixture[str]) -> None:
    sparcs_controls.main(["--quick"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    lines = {line["arm"]: line for line in figures["cells"]}
    assert set(lines) == set(sparcs_controls.ARMS)
    assert lines["direct + obs"]["neurons"] < lines["direct + zeros"]["neurons"]  # what is 0 is not taken for a cut network
    edges_dynamics.main(["--quick"])
    curves = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(len(curve["edges"]) == 10 for curve in curves.values())


def test_heads_have_the_same_stem_and_steps(tmp_path: Path) -> None:
    for setting in sparcs_heads.SETTINGS:
        studies = [sparcs_heads.study_of(setting, head, tmp_path, quick=False) for head in ("linear", "plain", "spectral")]
        assert len({study.config.study for study in studies}) == 3
        stems = [study.config.method.options["stem"] for study in studies]
        assert stems == [setting.stem] * 3
        assert [layer["norm"] for layer in setting.stem["layers"]] == ["batch"] * len(setting.channels)
        assert len({str(study.config.train) for study in studies}) == 1


def test_pruning_in_an_order_ends_at_the_network_itself() -> None:
    nets = example_networks(0, 1, (3, 5, 4, 1), ["blocks", "biases"])
    score = ValidationLoss(example_task())
    counts, losses = sparcs_figures.by_order(nets, sparcs_controls.norms(nets), score)
    assert counts == list(range(10))
    assert losses[-1] == pytest.approx(float(score(nets)))
    none = sparcs_figures.with_gates(nets, {1: torch.zeros(1, 5).double(), 2: torch.zeros(1, 4).double()})
    assert losses[0] == pytest.approx(float(score(none)))
