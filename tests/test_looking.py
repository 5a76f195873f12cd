"""`nasplug look` and what `nasplug plan` says of data: real files, the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from nasplug import ConfigError, Study
from nasplug.cli import main
from nasplug.config import parse
from nasplug.data.recipe import TableFacts, recipe
from nasplug.looking import look

ROWS = 200


def houses(rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(0)
    size = random.normal(100, 20, rows).round(1)
    made = pd.DataFrame(
        {
            "Id": range(1, rows + 1),
            "owner": [f"Person {i}" for i in range(rows)],
            "size": size,
            "rooms": random.integers(1, 6, rows),
            "colour": random.choice(["red", "blue", "green"], rows),
            "sold": pd.date_range("2020-01-01", periods=rows).astype(str),
            "same": 1,
            "price": (size * 3000 + random.normal(0, 1e4, rows)).round(2),
        }
    )
    made.loc[[3, 8], "size"] = np.nan
    return made


def ask(*command: str, status: int = 0) -> Result:
    done = CliRunner().invoke(main, list(command))
    if done.exit_code != status:
        raise AssertionError(done.output) from done.exception
    return done


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    houses().to_csv("houses.csv", index=False)
    return tmp_path


def lines(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_columns_kind_and_study() -> None:
    found = json.loads(ask("look", "houses.csv", "--target", "price", "--json").stdout)
    assert (found["rows"], found["kind"], found["why"]) == (ROWS, "regression", "numbers that are not all whole")
    columns = {column["name"]: column for column in found["columns"]}
    kinds = {name: column["kind"] for name, column in columns.items()}
    assert kinds == {
        **dict.fromkeys(("Id", "size", "rooms", "same", "price"), "number"),
        **dict.fromkeys(("owner", "colour"), "category"),
        "sold": "date",
    }
    assert columns["size"]["gaps"] == 2
    assert (columns["rooms"]["low"], columns["rooms"]["high"], columns["rooms"]["distinct"]) == (1, 5, 5)
    assert {word for word, _ in columns["colour"]["words"]} == {"red", "blue", "green"}
    assert {name for name, column in columns.items() if column["left_out"]} == {"Id", "owner", "same"}
    assert found["study"]["task"] == {
        "use": "table",
        "path": "houses.csv",
        "target": "price",
        "exclude": ["Id", "owner"],
        "missing": "indicator",
        "validation": "auto",
    }
    assert found["problems"] == found["warnings"] == []


def test_what_is_written_can_be_planned() -> None:
    ask("look", "houses.csv", "--target", "price", "--write", "my.yaml")
    first = Path("my.yaml").read_text().splitlines()[0]
    assert first == "# houses.csv: 200 rows; regression: numbers that are not all whole."
    text = lines(ask("plan", "my.yaml").stdout)
    for words in (
        "Data: houses.csv: 200 rows, target 'price'.",
        "Kind: regression: numbers that are not all whole.",
        "to test",
        "Inputs: 4 columns",
        "Excluded: left out, by 'exclude': 'Id', 'owner'.",
        "2 of 200 rows filled with the mean of the training split",
        "Constant: left out, constant on the training split: 'same'.",
    ):
        assert words in text, f"{words!r} is not in {text}"
    assert any("Kind: regression" in line for line in json.loads(ask("plan", "my.yaml", "--json").stdout)["data"])


def test_no_file_is_overwritten() -> None:
    Path("my.yaml").write_text("mine\n")
    done = ask("look", "houses.csv", "--target", "price", "--write", "my.yaml", status=2)
    assert "my.yaml: is there already, and is not overwritten" in done.stderr
    assert Path("my.yaml").read_text() == "mine\n"


def test_without_a_target_there_is_no_study() -> None:
    done = ask("look", "houses.csv")
    assert "Name the column to predict: --target COLUMN" in done.stdout
    assert json.loads(ask("look", "houses.csv", "--json").stdout)["study"] is None
    assert "no target was named" in ask("look", "houses.csv", "--write", "my.yaml", status=2).stderr
    assert not Path("my.yaml").exists()


def test_problems_are_shown_and_no_study_is_written() -> None:
    made = houses()
    made["rooms"] = made["rooms"].astype(str)
    made.loc[5, "rooms"] = "?"
    made.loc[7, "colour"] = "-"
    made.to_csv("odd.csv", index=False)
    done = ask("look", "odd.csv", "--target", "price", "--write", "my.yaml", status=2)
    text = lines(done.stdout)
    assert "Problem: column 'rooms' (line 7): '?'" in text
    assert "Problem: column 'colour' (line 9): '-'" in text
    assert "a problem" in text
    assert "my.yaml: not written: column 'rooms' (line 7)" in done.stderr
    ask("look", "odd.csv", 'missing_codes=["?", "-"]', "--target", "price", "--write", "my.yaml")
    study = Study.from_yaml("my.yaml")
    assert study.config.task.options["missing_codes"] == ["?", "-"]
    assert study.plan()


def test_what_a_target_is_warned_of() -> None:
    made = houses(400)
    made["euros"] = made["price"] * 0.92
    made["rare"] = np.where(np.arange(400) % 80 == 0, "fraud", "fine")
    made["code"] = np.where(made["rare"] == "fraud", "F", "N")
    made.to_csv("warned.csv", index=False)
    found = look("warned.csv", ["price"])
    assert [text for text in found.warnings if "'euros' alone tells the target 'price'" in text]
    found = look("warned.csv", ["rare"])
    assert found.kind is not None
    assert found.kind.kind == "binary"
    told = " ".join(found.warnings)
    assert "class 'fraud' has 5 of 400 rows" in told
    assert "wrong in 1.25%" in told
    assert "'code' alone tells the target 'rare'" in told
    assert "euros" not in told


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("houses.csv", "--target", "prise"), "target 'prise' is not a column. Did you mean 'price'?"),
        (("hauses.csv", "--target", "price"), "there is no file"),
        (("houses.xlsx",), "ends in '.xlsx'; accepted"),
        (("houses.csv", "exclud=[Id]"), "unknown key"),
        (("houses.csv", "exclude"), "needed: path=value"),
        (("houses.csv", "target=price"), "--target names the target"),
        (("houses.csv", "thousands=x"), "thousands: 'x'; needed: one of"),
    ],
)
def test_refusals(command: tuple[str, ...], message: str) -> None:
    done = ask("look", *command, status=2)
    assert message in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("columns", [40, 80])
def test_any_width_and_an_ascii_pipe(columns: int) -> None:
    env = os.environ | {"COLUMNS": str(columns), "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    houses().rename(columns={"size": "größe [red]"}).to_csv("wide.csv", index=False)
    command = [sys.executable, "-m", "nasplug", "look", "wide.csv", "--target", "price"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    table = [line for line in done.stdout.splitlines() if line.startswith(("|", "+"))]
    assert table
    assert max(map(len, table)) <= columns
    assert "[red]" in done.stdout.replace("\n", "") or columns == 40


def test_a_table_of_many_columns_is_looked_at_in_parts() -> None:
    random = np.random.default_rng(0).normal(size=(50, 300))
    pd.DataFrame(random, columns=[f"x{i}" for i in range(300)]).to_csv("many.csv", index=False)
    done = ask("look", "many.csv", "--target", "x0")
    assert "240 more" in done.stdout
    assert len(json.loads(ask("look", "many.csv", "--json").stdout)["columns"]) == 300


@pytest.mark.parametrize("target", ["colour", "rooms", "price"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_kind_gives_a_study(target: str, form: str) -> None:
    made = houses().drop(columns=["Id", "owner"])
    made.loc[11, target] = None
    path = f"some houses.{form}"
    made.to_csv(path, index=False) if form == "csv" else made.to_parquet(path)
    found = look(path, [target])
    assert not found.problems
    assert found.task is not None
    assert Study.from_dict(found.study).task.digest == found.task.digest
    assert found.study["study"] == "some-houses"


def test_several_targets() -> None:
    found = look("houses.csv", ["price", "rooms"])
    assert found.task is not None
    assert found.task.targets == ("price", "rooms")
    assert found.kind is not None
    assert found.kind.why == "several targets"


def test_the_kind_may_be_said() -> None:
    found = look("houses.csv", ["rooms"], {"kind": "regression"})
    assert found.task is not None
    assert found.task.kind == "regression"
    assert found.study["task"]["kind"] == "regression"


def test_what_the_task_refuses_is_a_problem() -> None:
    found = look("houses.csv", ["same"])
    assert "constant" in found.problems[0]
    assert not found.study


@pytest.mark.parametrize("path", ["a.csv", "/x y/1.csv", "..csv", "ü.parquet", "x" * 300 + ".csv", "C:\\t\\my table.csv"])
def test_a_recipe_is_a_study_for_any_path(path: str) -> None:
    facts = TableFacts(path=path, target="y", kind="regression", rows=100, numbers=3, categories=0)
    assert parse(recipe(facts)).task.options["path"] == path


def test_a_recipe_goes_by_the_size_of_the_table() -> None:
    few, some, many = (recipe(TableFacts("a.csv", "y", "binary", rows, 3, 0)) for rows in (200, 900, 5000))
    assert ["numeric" in made["task"] for made in (few, some, many)] == [False, True, True]
    assert [made["seeds"] for made in (few, some, many)] == [2, 2, 4]  # folds are rows as seeds are
    words = recipe(TableFacts("a.csv", "y", "binary", 900, 0, 3))
    assert "numeric" not in words["task"]
    said = recipe(TableFacts("a.csv", "y", "binary", 900, 3, 0, options={"numeric": "linear", "validation": "holdout"}))
    assert (said["task"]["numeric"], said["task"]["validation"]) == ("linear", "holdout")


def test_a_recipe_keeps_what_was_said() -> None:
    said: dict[str, Any] = {"missing": "median", "missing_codes": [-999]}
    facts = TableFacts("a.csv", "y", "regression", 100, 3, 0, gaps=True, options=said, exclude=["id"])
    assert recipe(facts)["task"] == {
        "use": "table",
        "path": "a.csv",
        "target": "y",
        **said,
        "exclude": ["id"],
        "validation": "auto",
    }
    with pytest.raises(ConfigError):
        parse(recipe(facts) | {"seeds": 0})


@pytest.mark.parametrize("aside", [{"features": ["size"]}, {"exclude": ["who", "often"]}, {}])
def test_columns_that_validation_and_weights_go_by_are_read_too(tmp_path: Path, aside: dict[str, Any]) -> None:
    path = tmp_path / "t.csv"
    houses().assign(who=np.arange(ROWS) % 17, often=1).to_csv(path, index=False)
    options: dict[str, Any] = {"validation": {"use": "groups", "by": "who", "folds": 3}, "weights": "often"}
    found = look(str(path), ["price"], {"missing": "median", **options, **aside})
    assert found.task is not None
    assert not {"who", "often"} & set(found.task.columns)
