"""`nasplug predict`: a new file is read as the training file was, and answered by name."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from nasplug import ConfigError, NasplugError, Study, files
from nasplug.cli import main
from nasplug.config import parse
from nasplug.predicting import predict, source, write

ROWS = 200


def rows(seed: int) -> pd.DataFrame:
    """Ages with the code -999 for a gap, cities called 1 and 2, a share with a comma and a unit; what is dear is the label."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, ROWS)
    city = random.choice(["1", "2"], ROWS)
    share = random.random(ROWS).round(3)
    label = np.where((city == "2") ^ (share > 0.8), "dear", "cheap")
    age[::17] = -999
    return pd.DataFrame(
        {
            "age": age,
            "city": city,
            "share": [f"{value:.3f} %".replace(".", ",") for value in share],
            "note": [f"text {i}" for i in range(ROWS)],
            "answer": label,
        }
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("predict")
    rows(0).to_csv(folder / "people.csv", index=False, sep=";")
    raw: dict[str, Any] = {
        "study": "people",
        "store": str(folder / "runs"),
        "task": {
            "use": "table",
            "path": str(folder / "people.csv"),
            "target": "answer",
            "exclude": ["note"],
            "words": ["city"],
            "missing_codes": {"age": [-999]},
            "missing": "median",
            "decimal": ",",
            "units": ["%"],
            "validation": "holdout",
        },
        "method": {"use": "edges", "mode": "l1", "hidden": [6]},
        "penalties": [{"use": "l1", "level": 0.0001}],
        "train": {"steps": 200, "lr": 0.03},
        "linear": False,
        "ensemble": 2,
        "seeds": 2,
        "mlflow": None,
    }
    return Study(parse(raw)).run("serial", report=False)


@pytest.mark.slow
def test_a_registered_model_answers_as_its_study_does(done: Study, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    plain = done.config.plain() | {"store": str(store), "mlflow": {"register": "people", "children": 0}}
    tracked = Study(parse(plain)).run("serial", report=False)
    assert tracked.untracked == ""
    rows(1).to_csv(tmp_path / "new.csv", index=False, sep=";")
    wanted, _ = predict(source(str(tracked.folder)), str(tmp_path / "new.csv"))
    how = {"decimal": ",", "units": ["%"]}
    for name in ("people@champion", "people/1", "people-ensemble@champion"):
        found, _ = predict(source(f"models:/{name}", str(store)), str(tmp_path / "new.csv"), how)
        assert list(found) == list(wanted)
        if "ensemble" not in name:
            pd.testing.assert_frame_equal(found, wanted)
    told = ask("export", "models:/people@champion", "--store", str(store), "--to", "python,sql", "--out", str(tmp_path))
    assert "the registry keeps no rows" in told.stderr
    assert runpy.run_path(str(tmp_path / "people.py"))["ANSWERS"] == tuple(wanted)
    with pytest.raises(NasplugError, match="nobody"):
        source("models:/nobody@champion", str(store))
    with pytest.raises(ConfigError, match="needed: models:/NAME@ALIAS"):
        source("models:/people", str(store))


def ask(*command: str, status: int = 0) -> Any:
    found = CliRunner().invoke(main, list(command))
    assert found.exit_code == status, found.output
    return found


def test_a_new_file_needs_no_target_and_no_other_columns(done: Study, tmp_path: Path) -> None:
    new = rows(1)
    wanted = np.asarray(new["answer"])
    new.drop(columns=["answer", "note"])[["share", "city", "age"]].to_csv(tmp_path / "new.csv", index=False, sep=";")
    answers, _ = predict(source(str(done.folder)), str(tmp_path / "new.csv"))
    assert list(answers) == ["label", "P(cheap)", "P(dear)"]
    assert (answers["label"] == wanted).mean() > 0.85
    read, _ = predict(source(str(done.folder / "best")), str(tmp_path / "new.csv"))  # beside its study
    pd.testing.assert_frame_equal(read, answers)
    mean, _ = predict(source(str(done.folder / "ensemble")), str(tmp_path / "new.csv"))
    assert list(mean) == list(answers)
    alone = shutil.copytree(done.folder / "best", tmp_path / "alone")  # remembers codes and words, not how numbers are written
    with pytest.raises(ConfigError, match=r"decimal|units|number"):
        predict(source(str(alone)), str(tmp_path / "new.csv"))
    again, _ = predict(source(str(alone)), str(tmp_path / "new.csv"), {"decimal": ",", "units": ["%"]})
    pd.testing.assert_frame_equal(again, answers)


def test_the_command_answers_as_csv_json_and_into_files(done: Study, tmp_path: Path) -> None:
    file = str(tmp_path / "new.csv")
    rows(1).head(5).to_csv(file, index=False, sep=";")
    lines = ask("predict", str(done.folder), file).stdout.splitlines()
    assert lines[0] == "label,P(cheap),P(dear)"
    assert len(lines) == 6
    found = json.loads(ask("predict", str(done.folder), file, "--json").stdout)
    assert [row["label"] for row in found] == [line.split(",")[0] for line in lines[1:]]
    for ending in ("csv", "parquet"):
        ask("predict", str(done.folder), file, "--out", str(tmp_path / f"out.{ending}"))
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out.csv"), pd.read_parquet(tmp_path / "out.parquet"), check_dtype=False
    )
    with pytest.raises(ConfigError, match=r"accepted: \.csv, \.parquet"):
        write(pd.DataFrame(), tmp_path / "out.xlsx")


def test_answers_never_replace_the_rows_and_their_place_is_looked_at_first(done: Study, tmp_path: Path) -> None:
    file, link = tmp_path / "new.csv", tmp_path / "link.csv"
    rows(1).head(5).to_csv(file, index=False, sep=";")
    link.symlink_to(file)
    before = file.read_bytes()
    for command in ("predict", "explain"):
        for place in (file, link):
            told = ask(command, str(done.folder), str(file), "--out", str(place), status=2).stderr
            assert "is the file that is read" in told
    assert file.read_bytes() == before
    nowhere = str(tmp_path / "nowhere" / "x.csv")
    for network in (str(done.folder), "models:/people@champion"):  # before the network is looked for
        assert "there is no folder" in ask("predict", network, str(file), "--out", nowhere, status=2).stderr
    (tmp_path / "old.csv").write_text("long before\n" * 100)
    ask("predict", str(done.folder), str(file), "--out", str(tmp_path / "old.csv"))
    assert len(pd.read_csv(tmp_path / "old.csv")) == 5
    assert not list(tmp_path.glob(".*"))


def test_contributions_sum_to_the_prediction(done: Study, tmp_path: Path) -> None:
    file = str(tmp_path / "new.csv")
    rows(1).head(5).to_csv(file, index=False, sep=";")
    found = pd.DataFrame(json.loads(ask("predict", str(done.folder), file, "--explain", "--json").stdout))
    assert found["row"].tolist() == [0, 1, 2, 3, 4]
    parts = [name for name in found if name not in ("row", "prediction")]
    assert {"base", "city"} <= set(parts)
    np.testing.assert_allclose(found[parts].sum(axis=1), found["prediction"], rtol=1e-6)
    told = ask("predict", str(done.folder / "best"), file, "--explain", status=2).stderr
    assert "needed: the folder of a study" in told


def test_what_cannot_be_answered_is_said_in_plain_words(done: Study, tmp_path: Path) -> None:
    file = str(tmp_path / "new.csv")
    rows(1).rename(columns={"share": "shares"}).to_csv(file, index=False, sep=";")
    told = ask("predict", str(done.folder), file, status=2).stderr
    assert "column(s) 'share' are missing" in told
    assert "Did you mean 'shares'?" in told
    rows(1).assign(share="much").to_csv(file, index=False, sep=";")
    assert "'share'" in ask("predict", str(done.folder), file, status=2).stderr
    assert "needed: how the file is read" in ask("predict", str(done.folder), file, "target=answer", status=2).stderr
    assert "there is no such folder" in ask("predict", str(tmp_path / "none"), file, status=2).stderr
    assert "no MLflow store" in ask("predict", "models:/people@champion", file, "--store", str(tmp_path), status=2).stderr


def test_a_study_predicts_by_name(done: Study) -> None:
    frame = pd.DataFrame({"share": [0.1, 0.9], "city": ["1", "1"], "age": [30, None]})
    assert done.predict(frame)["label"].tolist() == ["cheap", "dear"]
    named = done.predict(frame, str(done.front()["replica"].iloc[0]))
    assert list(named) == ["label", "P(cheap)", "P(dear)"]
    assert list(done.predict(frame, "ensemble")) == list(named)


def test_a_study_leaves_by_command_and_the_chosen_network_stands_alone(done: Study, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["export", *words, "--out", str(tmp_path / "out")])

    found = run(str(done.folder), "--to", "python,sql", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["error"] == pytest.approx(done.best()["test_error"], abs=1e-6)
    for form in told["forms"]:
        assert form["error"] == told["error"]
        assert form["difference"] <= 1e-5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"people.py", "people.sql", "export.json", "lineage.json"}
    alone = runpy.run_path(str(done.folder / "best" / "network.py"))["predict"]
    row = {"age": "-999", "city": 2.0, "share": 0.9}
    wanted = done.predict(pd.DataFrame([row]))
    assert alone(row)["label"] == wanted["label"].iloc[0]
    assert alone(row)["P(dear)"] == pytest.approx(wanted["P(dear)"].iloc[0], abs=1e-6)
    table = run(str(done.folder / "best"), "--to", "python", "--name", "Two words")
    assert "test split" in table.output, table.output
    assert (tmp_path / "out" / "two_words.py").exists()
    assert run(str(done.folder), "--replica", "ensemble").exit_code == 1
    for words, text in (
        ((str(done.folder), "--to", "cobol"), "accepted: pt2, onnx, python"),
        ((str(tmp_path / "none"),), "no such folder"),
        ((str(done.folder / "best"), "--replica", "p0001/0001"), "not the folder of a study"),
        ((str(done.folder), "--replica", "p0001/0999"), "is not a pack of this study"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2, refused.output
        assert text in refused.output


def test_answers_are_no_formulas_and_come_back_as_they_were(tmp_path: Path) -> None:
    """Labels and columns that a spreadsheet would run are guarded in CSV, exact elsewhere, and known again when read."""
    random = np.random.default_rng(0)
    word = random.choice(["=x", "-1", "plain"], ROWS)
    table = pd.DataFrame(
        {"=size": random.random(ROWS).round(3), "word": word, "answer": np.where(word == "=x", "=cmd()", "-1")}
    )
    table.to_csv(tmp_path / "train.csv", index=False)
    raw = {
        "study": "formulas",
        "store": str(tmp_path / "runs"),
        "task": {"use": "table", "path": str(tmp_path / "train.csv"), "target": "answer", "validation": "holdout"},
        "method": {"use": "edges", "mode": "l1", "hidden": [4]},
        "train": {"steps": 100, "lr": 0.03},
        "linear": False,
        "mlflow": None,
    }
    done = Study(parse(raw)).run("serial", report=False)
    wanted = done.predict(table)
    assert set(wanted["label"]) == {"=cmd()", "-1"}
    command = ("predict", str(done.folder), str(tmp_path / "train.csv"))
    ask(*command, "--out", str(tmp_path / "out.csv"))
    ask(*command, "--out", str(tmp_path / "out.parquet"))
    written = pd.read_csv(tmp_path / "out.csv", dtype={"label": str})
    assert list(written) == ["label", "P(-1)", "P(=cmd())"]
    assert written["label"].tolist() == wanted["label"].replace("=cmd()", "'=cmd()").tolist()
    assert pd.read_parquet(tmp_path / "out.parquet")["label"].tolist() == wanted["label"].tolist()
    assert [row["label"] for row in json.loads(ask(*command, "--json").stdout)] == wanted["label"].tolist()
    assert ask(*command).stdout.splitlines()[1].split(",")[0] == written["label"][0]
    ask(*command, "--explain", "--out", str(tmp_path / "why.csv"))
    assert "'=size" in pd.read_csv(tmp_path / "why.csv")
    files.write_csv(tmp_path / "again.csv", table)
    again, notes = predict(source(str(done.folder)), str(tmp_path / "again.csv"))
    pd.testing.assert_frame_equal(again, predict(source(str(done.folder)), str(tmp_path / "train.csv"))[0])
    assert any("'=size'" in note for note in notes)
