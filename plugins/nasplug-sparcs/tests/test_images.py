"""Experiment 3, reduced: a spectral head behind a small CNN, and a linear one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nasplug.compact import compact
from nasplug.packs import load_networks
from nasplug.study import Study

CONFIGS = Path(__file__).parents[3] / "configs" / "papers"


def finished(name: str, store: Path, *given: str) -> Any:
    small = [f"store={store}", "mlflow=null", "seeds=2", "train.steps=400", "train.lr=0.01", *given]
    return Study.from_yaml(CONFIGS / f"{name}.yaml", small).run("serial")


@pytest.mark.slow
def test_behind_a_cnn_the_digits_need_no_hidden_neuron(tmp_path: Path) -> None:
    done = finished("sparcs_digits", tmp_path)
    cut = done.frame
    linear = finished("sparcs_digits_control", tmp_path, "method.hidden=[]").frame
    for frame in (cut, linear):
        assert (frame["test_accuracy"] > 0.95).all()
    assert (cut["neurons"] == 0).all()
    assert cut["edges"].tolist() == linear["edges"].tolist() == [640, 640]
    small = compact(load_networks(done.folder / "packs" / "p0000"), 0)
    assert small.stem is not None
    assert [layer.channels for layer in small.stem.layers] == [8, 16]
