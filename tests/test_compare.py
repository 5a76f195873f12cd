"""Studies side by side: what may be compared, what is said where rows differ, budgets, the page and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from nasplug import Study
from nasplug.cli import main
from nasplug.errors import ConfigError
from nasplug.report.compared import write_comparison
from nasplug.report.comparing import budget_grid, compare


def study(folder: Path, name: str, file: str, **options: Any) -> Study:
    raw = {
        "study": name,
        "store": str(folder / "runs"),
        "task": {"use": "table", "path": str(folder / file), "target": "y", "validation": "holdout", "seed": 0}
        | options.pop("task", {}),
        "method": {"use": "edges", "mode": "annealed", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 3}}],
        "temperature": {"use": "geometric", "start": 1.0, "end": 0.05},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 40, "lr": 0.05, "finetune": 5, "reports": 2},
        "linear": False,
        "mlflow": None,
    }
    return Study.from_dict(raw | options).run("serial", report=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four studies: ``labels``, the same data with other options, fewer rows of them, numbers."""
    there = tmp_path_factory.mktemp("compare")
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(150, 3)), columns=pd.Index(["a", "b", "c"]))
    score = frame["a"] - frame["b"] + 0.4 * random.normal(size=150)
    frame.assign(y=np.where(score > 0, "yes", "no")).to_csv(there / "labels.csv", index=False)
    frame[:140].assign(y=np.where(score[:140] > 0, "yes", "no")).to_csv(there / "fewer.csv", index=False)
    frame.assign(y=10 * score).to_csv(there / "numbers.csv", index=False)
    study(there, "labels", "labels.csv")
    study(there, "smaller", "labels.csv", method={"use": "edges", "mode": "annealed", "hidden": [2]})
    study(there, "fewer", "fewer.csv")
    study(there, "numbers", "numbers.csv")
    return there / "runs"


def opened(folder: Path, names: Sequence[str]) -> list[Study]:
    return [Study.open(folder / name) for name in names]


def test_the_same_rows(folder: Path) -> None:
    found = compare(opened(folder, ["labels", "smaller"]))
    assert found.rows == {"valid": "same", "test": "same"}
    assert found.differences == {"method.hidden": ["[3]", "[2]"]}
    assert not any("WARNING" in words for words in found.words)
    for side in found.sides:
        frame = side.study.frame
        for budget in found.budgets:
            row, fit = side.within(budget), frame[frame["parameters"] <= budget]
            assert (row is None) == fit.empty
            if row is not None:
                assert row["valid_error"] == fit["valid_error"].min()
    rows = budget_grid(found).rows
    assert [cells[0] for _, cells in rows] == [f"{budget:,}" for budget in found.budgets]
    assert found.budgets[-1] >= max(side.front["parameters"].max() for side in found.sides)


def test_other_rows_are_warned_of(folder: Path) -> None:
    found = compare(opened(folder, ["labels", "fewer"]))
    assert found.rows["test"] == "different"
    assert sum("WARNING" in words for words in found.words) == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["labels"], "two or more"),
        (["labels", "labels"], "same folder"),
        (["labels", "numbers"], "other targets"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder: Path, names: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compare(opened(folder, names))


def test_numbers_are_compared_in_one_unit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that was scaled by another factor has its errors in the first study's units."""
    one, other = opened(folder, ["numbers", "numbers"])
    other.config = other.config.model_copy(update={"study": "again", "store": str(folder)})
    facts = one.facts_of("p0000/0000")
    from dataclasses import replace

    monkeypatch.setattr(Study, "folder", property(lambda self: folder / "numbers"))
    monkeypatch.setattr(other, "facts_of", lambda name: replace(facts, output_scale=3 * facts.output_scale), raising=False)
    first, second = compare([one, other]).sides
    np.testing.assert_allclose(second.front["valid_error"], 9 * first.front["valid_error"])
    assert second.chosen["test_error"] == pytest.approx(9 * first.chosen["test_error"])


def test_the_command_and_its_page(folder: Path, tmp_path: Path) -> None:
    names = [str(folder / name) for name in ("labels", "smaller", "fewer")]
    page = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["compare", *names, "--out", str(page)], env={"COLUMNS": "150"})
    assert done.exit_code == 0, done.output
    assert "WARNING: they were tested on different rows" in done.output
    assert "parameters · ○ labels  ● smaller  △ fewer" in done.output
    text = page.read_text(encoding="utf-8")
    assert "WARNING: they were tested on different rows" in text
    assert 'aria-label="Fronts, validation error' in text
    done = CliRunner().invoke(main, ["compare", *names[:2], "--json"])
    told = json.loads(done.stdout)
    assert [one["name"] for one in told["studies"]] == ["labels", "smaller"]
    assert told["rows"] == {"valid": "same", "test": "same"}
    for out in ("page.txt", str(tmp_path / "nowhere" / "page.html")):
        done = CliRunner().invoke(main, ["compare", *names, "--out", out])
        assert done.exit_code == 2
        assert "--out" in done.output


def test_a_comparison_without_differences(folder: Path, tmp_path: Path) -> None:
    found = compare(opened(folder, ["labels", "smaller"]))
    from dataclasses import replace

    write_comparison(replace(found, differences={}), tmp_path / "page.html")
    assert "Their configs are the same" in (tmp_path / "page.html").read_text(encoding="utf-8")
