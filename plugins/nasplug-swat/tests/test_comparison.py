"""The table of modes, from results with a known answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.errors import ConfigError
from nasplug.study import Study
from nasplug_swat.comparison import chosen, compare, rows_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    lines = []
    for f in range(12):
        hard = float(random.uniform(-2, 0))
        for mode, factor in (("direct", 1.0), ("latent", 2.0)):
            for seed in range(3):
                for lr, worse in ((0.01, 1.0), (0.1, 9.0)):
                    error = 10**hard * factor * worse
                    lines.append(
                        {
                            "method.mode": mode,
                            "method.depth": 2,
                            "task.function": f"f{f}",
                            "seed": seed,
                            "train.lr": lr,
                            "valid_error": error,
                            "test_error": 0.1 * error,
                            "test_r2": 1.0 - error,
                            "neurons": 4 if mode == "direct" else 6,
                            "parameters": 20,
                            "status": "finished",
                        }
                    )
    pd.DataFrame(lines).to_parquet(tmp_path / "replicas.parquet")
    return tmp_path


def test_the_table_finds_the_factor_between_modes(folder: Path) -> None:
    assert set(chosen(rows_of(folder))["train.lr"]) == {0.01}  # on validation data
    done = CliRunner().invoke(main, ["swat", "compare", str(folder), "--json", "--picture", str(folder / "p.png")])
    assert done.exit_code == 0, done.output
    found = {line["mode"]: line for line in json.loads(done.stdout[: done.stdout.rindex("]") + 1])}
    assert found["latent"]["ratio"] == pytest.approx(2.0)
    assert found["latent"]["low"] == pytest.approx(2.0)
    assert found["latent"]["functions"] == 12
    assert found["direct"]["ratio"] is None
    assert (found["direct"]["neurons"], found["latent"]["neurons"]) == (4.0, 6.0)
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        rows_of(tmp_path / "nowhere")
    pd.read_parquet(folder / "replicas.parquet").drop(columns="task.function").to_parquet(folder / "replicas.parquet")
    with pytest.raises(ConfigError, match=r"has no task\.function"):
        rows_of(folder)


@pytest.mark.slow
def test_the_papers_study_reduced_further(tmp_path: Path) -> None:
    config = Path(__file__).parents[3] / "configs" / "papers" / "swat_cornn.yaml"
    less = [
        "task.function={choice: [Adjiman, McCormick, Himmelblau]}",
        "method.depth=2",
        "penalties.0.size=large",
        "train.lr=0.02",
    ]
    less += ["seeds=2", "train.steps=300", "train.finetune=100", f"store={tmp_path}"]
    done = Study.from_yaml(config, [*less, "mlflow=null"]).run("serial")
    assert (done.frame["status"] == "finished").all()
    found = compare([done.folder]).set_index("mode")
    assert sorted(found.index) == ["direct", "latent", "switch", "untrained"]
    assert bool((found["error"] < 0.2).all())  # of the variance
    assert bool((found["parameters"] < 85).all())
