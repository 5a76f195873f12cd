"""A study of a table with words, gaps and ramps: its explanations, from its folder alone, of every network of its front."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.errors import ConfigError, NasplugError
from nasplug.explain import formula
from nasplug.plan import forget_tasks
from nasplug.predicting import flat
from nasplug.report.explaining import _middle, background_of, explained, read_predictions
from nasplug.study import Study
from nasplug.tasks.losses import poisson, quantiles

ROWS = 240


def table() -> pd.DataFrame:
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "area": draw.uniform(20, 200, ROWS).round(1),
            "year": draw.integers(1950, 2020, ROWS),
            "light colour": draw.choice(["red", "green", "blue"], ROWS),
            "noise": draw.normal(size=ROWS).round(3),
        }
    )
    worth = frame["area"] * (1 + (frame["light colour"] == "red")) + 2 * (frame["year"] - 1985)
    frame["class"] = np.select([worth > 210, worth > 90], ["dear", "middling"], "cheap")
    frame.loc[draw.choice(ROWS, 20, replace=False), "area"] = np.nan
    return frame


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    home = tmp_path_factory.mktemp("explained")
    table().to_csv(home / "houses.csv", index=False)
    task = {"use": "table", "path": str(home / "houses.csv"), "target": "class", "numeric": "piecewise", "missing": "indicator"}
    raw = {
        "study": "houses",
        "store": str(home / "runs"),
        "mlflow": None,
        "task": task | {"bins": 4, "validation": "holdout"},
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1e-3, 3e-2], "points": 3}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 60, "batch": 64, "lr": 0.03, "finetune": 20},
        "seeds": 2,
        "reach": None,
    }
    done = Study.from_dict(raw).run("serial")
    (home / "houses.csv").unlink()  # from here on the folder is all there is
    return Study.open(done.folder)


def logits(probabilities: np.ndarray) -> np.ndarray:
    """Up to a constant of each row."""
    found: np.ndarray = np.log(probabilities)
    return found - found.mean(axis=1, keepdims=True)


def test_contributions_sum_on_every_network_of_the_front(study: Study) -> None:
    rows = table().head(4)
    for name in study.front()["replica"]:
        found = study.explain(rows, name)
        network = study.network(name)
        assert list(found.index.names) == [None, "output"]
        sums = found.drop(columns="prediction").sum(axis=1)
        assert np.abs(sums - found["prediction"]).max() < 1e-9 * max(1.0, found["prediction"].abs().max())
        served = network(torch.tensor(network.features(rows))).detach().numpy()
        mine = found["prediction"].to_numpy().reshape(4, 3)
        sure = served.min(axis=1) > 1e-6  # the logarithm of a probability near 0 has few digits in float32
        assert logits(served)[sure] == pytest.approx((mine - mine.mean(axis=1, keepdims=True))[sure], abs=1e-3)
        x = torch.tensor(network.features(rows))
        assert torch.allclose(formula(network)(x), torch.tensor(served), atol=1e-5)


def test_the_chosen_networks_formula_needs_no_data(study: Study) -> None:
    made = study.formula()
    assert made.digits < 9
    assert "validation samples" in made.rule
    assert str(made).startswith(("score of", "h1 ="))
    others = [name for name in study.front()["replica"] if name != study.best()["replica"]]
    forget_tasks()  # what this process has read
    with pytest.raises(ConfigError, match=r"houses\.csv"):
        study.formula(others[0])


def test_the_command_prints_and_writes(study: Study, tmp_path: Path) -> None:
    table().head(3).to_csv(tmp_path / "new.csv", index=False)
    run = CliRunner()
    told = run.invoke(main, ["explain", str(study.folder)]).output
    assert "score of dear" in told
    assert "light colour" in told
    rows = [str(study.folder), str(tmp_path / "new.csv")]
    told = run.invoke(main, ["explain", *rows]).output
    assert "row 2, middling: base" in told
    assert "Scale: logits" in told
    answer = run.invoke(main, ["explain", *rows, "--json", "--out", str(tmp_path / "out.csv")]).stdout
    assert len(json.loads(answer)["rows"]) == 9
    written = pd.read_csv(tmp_path / "out.csv")
    assert written.columns[:3].tolist() == ["row", "output", "base"]
    assert len(written) == 9
    assert json.loads(answer)["rows"][0].keys() >= {"row", "output"}
    told = run.invoke(main, ["explain", str(study.folder), "--out", str(tmp_path / "out.csv")])
    assert (told.exit_code != 0, "name one" in told.output) == (True, True)


def test_columns_that_are_called_as_ours_keep_their_names() -> None:
    told = flat(pd.DataFrame({"base": [1.0], "row": [2.0], "prediction": [3.0]}))
    assert told.columns.tolist() == ["row'", "base", "row", "prediction"]


def test_a_damaged_background_says_what_to_do(study: Study) -> None:
    (path,) = (file for file in (study.folder / "explain").glob("*.parquet") if file.name != "test.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        with pytest.raises(ConfigError, match="run the study again, which writes it anew, or delete it"):
            study.explain(table().head(1))
    finally:
        path.write_bytes(whole)


def test_an_activation_that_is_not_finite_is_said(study: Study) -> None:
    frame = study.frame
    name = str(frame[(frame["neurons"] > 0) & (frame["status"] == "finished")].iloc[0]["replica"])
    network, background = study.network(name), background_of(study, name)
    made = formula(network)
    network.functions = dict.fromkeys(network.functions, torch.sqrt)
    network.get_parameter("bias_1").data -= 1e6
    with pytest.raises(NasplugError, match="outputs are not finite on rows mixed of others"):
        explained(study, name, network, background, made)


def test_pictures_of_several_quantiles_are_of_the_one_nearest_to_the_median() -> None:
    assert _middle(quantiles(levels=[0.5, 0.9]), 2) == 0
    assert _middle(quantiles(levels=[0.1, 0.2, 0.6]), 3) == 2
    assert _middle(poisson(), 1) == 0


def test_the_folder_has_predictions_and_the_page_shows_them(study: Study) -> None:
    true, said = read_predictions(study.folder / "explain" / "test.parquet")
    best = study.best()
    assert float((said.argmax(axis=1) != true[:, 0]).mean()) == pytest.approx(best["test_error"])
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    for words in ("What each column does", "The formula", "Predictions on the test split", "calibration", "range over seeds"):
        assert words in page
    assert len(page) < 2_000_000
