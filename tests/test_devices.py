"""Packs on a device that is not the CPU: no tensor is left behind, and the networks are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nasplug import files
from nasplug.cli import main
from nasplug.packs import TABLE, load_networks, run_pack
from nasplug.study import Study

from .other_device import Elsewhere, other_device

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.001}],
    "discretizers": [{"use": "threshold", "tolerance": 0.05}],
    "train": {"steps": 12, "lr": 0.01, "batch": 8, "finetune": 4, "reports": 4, "compile": False},
    "seeds": 3,
    "resources": {"pack": 64},
    "linear": False,
    "mlflow": None,
}
CASES: dict[str, dict[str, Any]] = {
    "annealed": {
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "temperature": {"use": "linear"},
        "task": {"use": "xor", "samples": 20, "noise": {"grid": [0.1, 0.2]}},
    },
    "best": {"train": SMALL["train"] | {"keep": "best", "retrain": 4, "clip": 1.0, "decay": {"use": "cosine"}}},
    "folds": {"task": {"use": "iris", "validation": {"use": "folds", "folds": 3}}},
    "stop": {
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 4}}],
        "stop": {"use": "halving", "rungs": 1, "keep": 0.5},
        "discretizers": [{"use": "threshold", "eps": {"choice": [0.01, 0.1]}}],
    },
    "proximal": {
        "task": {"use": "diabetes"},
        "monotone": {"bmi": 1},
        "penalties": [{"use": "lasso", "level": 0.001}],
        "train": SMALL["train"] | {"optimizer": {"use": "sgd"}},
        "seeds": 1,
    },
    "sparcs": {"method": {"use": "sparcs", "hidden": [6]}, "penalties": [{"use": "eigenvalue", "level": 0.01}]},
    "mixture": {
        "method": {"use": "mixture", "hidden": [4]},
        "penalties": [],
        "discretizers": [{"use": "argmax"}],
        "train": SMALL["train"] | {"architecture": {"lr": 0.1, "share": 0.5, "order": 2}},
    },
}


QUICK = ("best", "stop", "mixture")


@pytest.mark.parametrize("case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES])
def test_a_pack_elsewhere_is_the_same_as_here(tmp_path: Path, case: str) -> None:
    study = Study.from_dict({**SMALL, **CASES[case], "store": str(tmp_path)})
    pack = study.plan()[0]
    for _ in run_pack(study.config, pack, study.plugins, tmp_path / "here"):
        pass
    with other_device() as device:
        for _ in run_pack(study.config, pack, study.plugins, tmp_path / "there", device=device):
            pass
    here, there = (files.read_table(tmp_path / place / TABLE).to_pandas() for place in ("here", "there"))
    for column in ("status", "valid_loss", "valid_error", "test_error", "edges"):
        assert here[column].equals(there[column]), column
    for edge, w in load_networks(tmp_path / "there").blocks.items():
        assert w.device == torch.device("cpu")
        torch.testing.assert_close(w, load_networks(tmp_path / "here").blocks[edge], rtol=0, atol=0, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
def test_a_study_on_a_gpu_is_trained_halted_and_exported(tmp_path: Path, case: str) -> None:
    """Its numbers are near those of the CPU, a killed pack goes on, and its network leaves the machine."""
    changes = {**SMALL, **CASES[case], "train": {**SMALL["train"], **CASES[case].get("train", {}), "dtype": "float64"}}
    here = Study.from_dict({**changes, "store": str(tmp_path / "cpu")}).run("serial", report=False)
    there = Study.from_dict({**changes, "store": str(tmp_path / "gpu"), "resources": {"pack": 64, "gpus": 0.5}})
    pack = there.plan()[0]
    started = run_pack(there.config, pack, there.plugins, there.folder / "packs" / pack.id, device="cuda")
    next(started)
    started.close()
    there.run("serial", report=False)
    first, second = (study.frame.sort_values("replica").reset_index(drop=True) for study in (here, there))
    assert first["status"].tolist() == second["status"].tolist()
    np.testing.assert_allclose(first["valid_loss"], second["valid_loss"], rtol=1e-5, atol=1e-7)
    record = json.loads((there.folder / "packs" / pack.id / "pack.json").read_text())
    assert record["device"] == "cuda"
    assert record["environment"]["device"] == torch.cuda.get_device_name()
    found = there.network()
    x = there.task.test.x.double().T
    assert found(x).device == torch.device("cpu")
    told = CliRunner().invoke(main, ["export", str(there.folder), "--out", str(tmp_path / "out"), "--to", "python,c"])
    assert told.exit_code == 0, told.output
    told = CliRunner().invoke(main, ["reproduce", str(there.folder), "--json"])
    assert told.exit_code == 0, told.output


def test_the_other_device_refuses_what_a_gpu_refuses() -> None:
    with other_device() as device:
        there, here = torch.arange(3.0, device=device), torch.ones(3)
        assert isinstance(there, Elsewhere)
        with pytest.raises(RuntimeError, match="expected all tensors to be on one device"):
            there + here
        with pytest.raises(TypeError, match="can't convert"):
            there.numpy()
        assert (there + here.to(device)).cpu().tolist() == [1.0, 2.0, 3.0]
        assert (there.long() >> 1).tolist() == [0, 0, 1]
