"""What is told of a study before it starts: how much there is to train, a range of seconds, memory, packs of few networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nasplug import Study
from nasplug.cli import main, studies
from nasplug.config import StudyConfig, to_yaml
from nasplug.plan import Cost, Pack, cost_of, few_words, longest_first
from nasplug.plugins import Plugins
from nasplug.runner import SerialRunner, Watch


@pytest.fixture(autouse=True)
def _nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def raw(store: Path, **changes: Any) -> dict[str, Any]:
    return {
        "study": "costs",
        "store": str(store),
        "task": {"use": "xor", "samples": 24},
        "method": {"use": "edges", "mode": "l1", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"grid": [0.01, 0.05]}}],
        "train": {"steps": 40, "lr": 0.05, "reports": 4},
        "seeds": 10,
        "linear": False,
        "reach": None,
        "mlflow": None,
    } | changes


def cost(store: Path, later: int = 0, **changes: Any) -> Cost:
    study = Study.from_dict(raw(store, **changes))
    found = cost_of(study.config, study.plan(), study.plugins, later=later, together=1)
    assert found is not None
    return found


def test_more_costs_more(tmp_path: Path) -> None:
    least = cost(tmp_path)
    assert (least.networks, least.packs, least.source) == (20, 2, "guessed")
    assert 0 < least.seconds[0] < least.seconds[1]
    steps, seeds = cost(tmp_path, train={"steps": 100_000}), cost(tmp_path, seeds=2000)
    tuned, later = cost(tmp_path, train={"steps": 40, "finetune": 100_000}), cost(tmp_path, later=2000)
    for more in (steps, seeds, tuned, later):
        assert all(a > b for a, b in zip(more.seconds, least.seconds, strict=True))
    assert later.networks == 2020
    assert seeds.bytes > least.bytes
    stability = cost(tmp_path, task={"use": "iris", "validation": "holdout"}, stability=True)
    folds = cost(tmp_path, task={"use": "iris", "validation": "folds"})
    plain = cost(tmp_path, task={"use": "iris", "validation": "holdout"})
    assert stability.seconds[1] > plain.seconds[1]
    assert folds.seconds[1] > plain.seconds[1]
    assert folds.networks == 5 * plain.networks
    assert json.loads(json.dumps(least.plain()))["seconds"][0] > 0
    assert "20 networks in 2 packs, 1 at once: about" in str(least)


def test_half_as_many_together_take_longer(tmp_path: Path) -> None:
    study = Study.from_dict(raw(tmp_path, train={"steps": 100_000}))
    packs = study.plan()
    alone, both = (cost_of(study.config, packs, study.plugins, together=n) for n in (1, 2))
    assert alone is not None
    assert both is not None
    assert alone.seconds[1] > both.seconds[1]
    assert alone.bytes < both.bytes
    assert cost_of(study.config, [], study.plugins) is None


def test_packs_of_few_networks_are_named(tmp_path: Path) -> None:
    few = Study.from_dict(raw(tmp_path, method={"use": "edges", "mode": "l1", "hidden": [{"grid": [2, 3, 4, 5]}]}, seeds=1))
    packs = few.plan()
    assert "4 of 4 packs have fewer than 16 networks (method.hidden.0 varies between packs)" in few_words(packs, few.axes)
    assert not few_words(Study.from_dict(raw(tmp_path)).plan(), few.axes)


def test_commands_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.yaml").write_text(to_yaml(raw(tmp_path)))
    file, runner = str(tmp_path / "study.yaml"), CliRunner()
    assert "Cost here: 20 networks in 2 packs" in runner.invoke(main, ["plan", file]).stdout
    assert json.loads(runner.invoke(main, ["plan", file, "--json"]).stdout)["cost"]["source"] == "guessed"
    command = ["run", file, "--runner", "serial"]
    monkeypatch.setattr(studies, "LONG_SECONDS", 0.0)
    told = runner.invoke(main, command)
    assert told.exit_code == 0, told.output
    assert "Cost here: 20 networks in 2 packs, 1 at once" in told.stderr
    assert "Cost here" not in runner.invoke(main, command).stderr  # nothing is left
    assert json.loads(runner.invoke(main, ["plan", file, "--json"]).stdout)["cost"]["source"] == "measured"


def test_packs_that_take_longest_come_first(tmp_path: Path) -> None:
    study = Study.from_dict(
        raw(
            tmp_path,
            method={"use": "edges", "mode": "l1", "hidden": {"choice": [[2], [300, 300]]}},
            resources={"pack": 8},
            seeds=6,
        )
    )
    packs = study.plan()
    assert [pack.rows for pack in packs] == [6, 6, 6, 6]
    found = longest_first(study.config, packs, study.plugins)
    widths = [pack.values["method.hidden"] for pack in found]
    assert widths == [[300, 300], [300, 300], [2], [2]]
    assert [pack.id for pack in found] == ["p0002", "p0003", "p0000", "p0001"]
    assert longest_first(study.config, packs[:2], study.plugins) == packs[:2]
    assert longest_first(study.config, [], study.plugins) == []
    batches = {"steps": 5, "batch": {"choice": list(range(2, 44))}}  # more kinds than are looked at
    many = Study.from_dict(raw(tmp_path, task={"use": "xor", "samples": 60}, train=batches, seeds=1, penalties=[]))
    more = many.plan()
    assert len(more) == 42
    assert {pack.id for pack in longest_first(many.config, more, many.plugins)} == {pack.id for pack in more}


class Backwards(SerialRunner):
    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        SerialRunner().run(study, packs[::-1], plugins, watch)


def test_the_order_of_packs_decides_nothing(tmp_path: Path) -> None:
    given = {"method": {"use": "edges", "mode": "l1", "hidden": {"choice": [[2], [3]]}}, "resources": {"pack": 8}, "seeds": 6}
    one = Study.from_dict(raw(tmp_path / "one", **given)).run("serial", report=False)
    other = Study.from_dict(raw(tmp_path / "other", **given)).run(Backwards(), report=False)
    assert one.frame.equals(other.frame)
    assert one.best()["replica"] == other.best()["replica"]
