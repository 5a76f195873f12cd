"""A study that has run gets more seeds, values or trials: only these are trained, and all is as if it had been one study."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import Study
from nasplug.cli import main
from nasplug.config import StudyConfig, parse, to_yaml
from nasplug.errors import ConfigError
from nasplug.files import DamageError
from nasplug.folder import kept
from nasplug.plan import Numbers, Pack, added, axes, chunk, grid, linear_packs, rest
from nasplug.plugins import load_plugins
from nasplug.results import VERSIONS, versions
from nasplug.runner import SerialRunner, Watch
from nasplug.tracing import find, reproduce


def raw(store: Path, study: str = "grown", levels: Sequence[float] = (0.01, 0.05), **changes: Any) -> dict[str, Any]:
    """A study of a second, in float64: numbers depend on who shares a pack in their last bits alone."""
    return {
        "study": study,
        "store": str(store),
        "task": {"use": "xor", "samples": 24},
        "method": {"use": "edges", "mode": "l1", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"grid": list(levels)}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 20, "lr": 0.05, "finetune": 3, "reports": 2, "dtype": "float64", "batch": 8},
        "seeds": 2,
        "linear": False,
        "reach": None,
        "mlflow": None,
    } | changes


def ran(given: dict[str, Any], **how: Any) -> Study:
    return Study.from_dict(given).run("serial", **how)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(left: Study, right: Study) -> None:
    """Two studies have the same networks, whatever their packs and configurations are called."""
    keys = [*(axis.path for axis in right.axes), "linear.level", "linear.debiased", "seed", "fold"]
    tables = [study.frame.drop(columns=["replica", "configuration", "owners"]) for study in (left, right)]
    keys = [key for key in keys if key in tables[1]]
    assert set(tables[0].columns) == set(tables[1].columns)
    one, other = (table.sort_values(keys).reset_index(drop=True)[sorted(table.columns)] for table in tables)
    pd.testing.assert_frame_equal(one, other, rtol=1e-7, atol=1e-9)
    assert left.front().drop(columns="replica").reset_index(drop=True).shape == right.front().drop(columns="replica").shape


# -- plans -------------------------------------------------------------------------------------------------------------


def planned(study: StudyConfig, packs: Sequence[Pack] = ()) -> tuple[list[Pack], list[int]]:
    """All packs of a grid, of which some are there; and the numbers of its configurations."""
    configurations = grid(axes(study))
    numbers = Numbers(packs).of(configurations)
    return [*packs, *rest(study, configurations, numbers, packs, load_plugins(), first_pack=len(packs))], numbers


def rows(packs: Sequence[Pack]) -> Counter[tuple[Any, ...]]:
    return Counter(
        (pack.values.get("method.hidden.0"), *(pack.columns[path][row] for path in sorted(pack.columns)), pack.seeds[row])
        for pack in packs
        for row in range(pack.rows)
    )


LEVELS, RATES, WIDTHS = (0.0, 0.01, 0.1, 1.0), (0.01, 0.02), (2, 3)


@settings(max_examples=12)
@given(
    given=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.integers(1, 3)), min_size=2, max_size=3
    ),
    size=st.sampled_from(["auto", 1, 3]),
)
def test_what_is_added_and_what_was_there_are_the_larger_grid(given: list[tuple[int, ...]], size: int | str) -> None:
    packs: list[Pack] = []
    so_far = (0, 0, 0, 0)
    for steps in given:
        so_far = tuple(max(pair) for pair in zip(so_far, steps, strict=True))  # type: ignore[assignment]
        levels, rates, widths, seeds = so_far
        study = parse(
            raw(Path("x"), levels=LEVELS[:levels], seeds=seeds, resources={"pack": size})
            | {"method": {"use": "edges", "mode": "l1", "hidden": [{"grid": list(WIDTHS[:widths])}]}}
            | {"train": {"steps": 2, "lr": {"grid": list(RATES[:rates])}}}
        )
        before = len(packs)
        packs, numbers = planned(study, packs)
        assert [pack.id for pack in packs] == [f"p{at:04d}" for at in range(len(packs))]
        assert rows(packs) == rows(chunk(study, grid(axes(study)), load_plugins(), fast=True))
        assert sorted(numbers) == list(range(len(numbers)))
        for pack in packs[before:]:
            for row, number in enumerate(pack.configurations):
                own = {path: column[row] for path, column in pack.columns.items()} | dict(pack.values)
                assert grid(axes(study))[numbers.index(number)] == own
    assert planned(study, packs)[0] == packs  # nothing is planned twice


def test_a_longer_range_has_the_points_of_the_shorter_one_but_for_a_rounding() -> None:
    short, long = ({"log": [1e-4, high], "points": points} for high, points in ((1e-1, 16), (1.0, 21)))
    studies = [parse(raw(Path("x")) | {"penalties": [{"use": "l1", "level": level}]}) for level in (short, long)]
    assert added(*studies, guided=False) == ["penalties.0.level: 5 values more"]
    packs, _ = planned(studies[1], planned(studies[0])[0])
    assert sum(pack.rows for pack in packs) == 21 * 2


def test_data_sets_have_their_linear_networks_once() -> None:
    study = parse(raw(Path("x"), task={"use": "iris", "validation": "holdout"}, linear=True))
    packs = linear_packs(study, load_plugins(), 4)
    assert min(number for pack in packs for number in pack.configurations) == 4
    assert not linear_packs(study, load_plugins(), 100, packs)


def test_equal_configurations_that_were_drawn_have_each_a_number() -> None:
    packs = chunk(parse(raw(Path("x"), seeds=1)), [{"penalties.0.level": 0.01}] * 2, load_plugins(), fast=True)
    found = Numbers(packs).of([{"penalties.0.level": level} for level in (0.01, 0.05, 0.01, 0.01)])
    assert found == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": {"use": "xor", "samples": 25}}, ["task.samples: 24, now 25"]),
        ({"train": {"steps": 30}}, ["train.steps: 20, now 30", "train.batch: 8, now 'full'"]),
        ({"method": {"use": "sparcs"}}, ["method.use: 'edges', now 'sparcs'"]),
        ({"seeds": 1}, ["seeds: 2, now 1", "behind them"]),
        ({"seeds": [1, 0, 2]}, ["seeds: 2, now [1, 0, 2]", "behind them"]),
        ({"levels": [0.01]}, ["1 of the 2 values"]),
        ({"levels": [0.01, 0.2]}, ["1 of the 2 values"]),
        ({"penalties": []}, ["penalties: ["]),
        ({"sampler": {"use": "random"}}, ["sampler.use: 'grid', now 'random'"]),
        ({"stop": {"use": "halving"}}, ["stop: null, now"]),
        (
            {"discretizers": [{"use": "threshold", "tolerance": 0.02, "eps": {"grid": [0.0, 1.0]}}]},
            ["discretizers.0.eps: null"],
        ),
        ({"task": {"use": "xor", "samples": {"grid": [24, 48]}}}, ["task.samples: 24, now {'grid'"]),
    ],
)
def test_all_else_is_refused_by_name(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot be extended to this") as caught:
        added(parse(raw(Path("x"))), parse(raw(Path("x"), **changes)), guided=False)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "study: ..." in str(caught.value)


def test_what_depends_on_others_is_refused() -> None:
    halving = [parse(raw(Path("x"), seeds=seeds, stop={"use": "halving"})) for seeds in (2, 3)]
    with pytest.raises(ConfigError, match="stopped early"):
        added(*halving, guided=False)
    points = [
        parse(raw(Path("x")) | {"penalties": [{"use": "l1", "level": {"log": [0.01, 1.0], "points": n}}]}) for n in (4, 8)
    ]
    with pytest.raises(ConfigError, match=r"points: 7 keeps all"):
        added(*points, guided=False)
    drawn = raw(Path("x")) | {"penalties": [{"use": "l1", "level": {"log": [0.01, 1.0]}}]}
    small, more, seeds = (
        parse(drawn | {"sampler": {"use": "tpe", "trials": trials}, "seeds": seeds})
        for trials, seeds in ((4, 1), (8, 1), (8, 2))
    )
    assert added(small, more, guided=True) == ["sampler.trials: 4 more"]
    with pytest.raises(ConfigError, match=r"by seeds: sampler 'tpe' drew from the results"):
        added(small, seeds, guided=True)
    with pytest.raises(ConfigError, match="trials that were made are kept"):
        added(more, small, guided=True)


# -- studies -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Study, dict[Path, bytes]]:
    """A study that was extended by seeds, levels and a place that did not vary; the same at once; the packs before that."""
    store = tmp_path_factory.mktemp("grown")
    small = ran(raw(store))
    before = contents(small.folder / "packs")
    rates = raw(store)["train"] | {"lr": {"grid": [0.05, 0.02]}}
    larger = raw(store, levels=(0.01, 0.02, 0.05), seeds=3, train=rates)
    with pytest.raises(ConfigError, match="nasplug extend adds them"):
        Study.from_dict(larger).run("serial")
    return ran(larger, extend=True), ran(larger | {"study": "once"}), before


def test_extended_is_trained_at_once(grown: tuple[Study, Study, dict[Path, bytes]]) -> None:
    extended, once, before = grown
    assert {path: path.read_bytes() for path in before} == before
    assert len(extended.frame) == len(once.frame) == 3 * 2 * 3
    same(extended, once)
    assert extended.frame["configuration"].nunique() == 6


def test_lineage_has_the_config_that_trained_a_network(grown: tuple[Study, Study, dict[Path, bytes]]) -> None:
    extended, _, _ = grown
    names = list(extended.frame["replica"])
    old, new = (extended.lineage(name)["study"] for name in (names[0], names[-1]))
    assert "version" not in old  # its record is what it was before
    assert (old["config"]["seeds"], new["config"]["seeds"], new["version"]) == (2, 3, 2)
    assert [one.config["seeds"] for one in versions(extended.folder)] == [2]
    for name in (names[0], names[-1]):
        assert reproduce(find(str(extended.folder), replica=name)).reproduced


def test_again_nothing_is_trained(grown: tuple[Study, Study, dict[Path, bytes]]) -> None:
    extended, _, _ = grown
    there = contents(extended.folder / "packs")
    for how in ({}, {"extend": True}):
        Study.open(extended.folder).run("serial", **how)
        assert contents(extended.folder / "packs") == there
    assert len(versions(extended.folder)) == 1


@pytest.mark.slow
def test_folds_refits_and_half_samples_are_extended(tmp_path: Path) -> None:
    given = {
        "task": {"use": "diabetes", "validation": {"use": "folds", "folds": 2}},
        "stability": {"subsamples": 2, "threshold": 0.75, "levels": 1},
    }
    small = ran(raw(tmp_path, **given))
    before = contents(small.folder / "packs")
    more = raw(tmp_path, levels=(0.01, 0.05, 0.2), **given) | {"seeds": 3}
    extended, once = ran(more, extend=True), ran(more | {"study": "once"})
    assert {path: path.read_bytes() for path in before} == before
    same(extended, once)


def test_rounds_of_stronger_levels_get_new_seeds(tmp_path: Path) -> None:
    far = {"penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-3], "points": 4}}], "reach": 1}
    small = raw(tmp_path, **far) | {"seeds": 1}
    assert len(ran(small).frame) == 8  # four rounds of one level each
    same(ran(small | {"seeds": 2}, extend=True), ran(small | {"seeds": 2, "study": "once"}))


@pytest.mark.parametrize("use", ["random", "tpe"])
def test_trials_go_on(tmp_path: Path, use: str) -> None:
    drawn = [{"use": "l1", "level": {"log": [0.001, 0.1]}}]
    sampler = {"use": use, "trials": 5, **({"generation": 3} if use == "tpe" else {})}
    given = raw(tmp_path, penalties=drawn, seeds=1, sampler=sampler)
    names = list(ran(given).frame["replica"])
    extended, once = (
        ran(given | {"study": name, "sampler": sampler | {"trials": 8}}, extend=name == "grown") for name in ("grown", "once")
    )
    assert list(extended.frame["replica"][:5]) == names
    same(extended, once)
    trials = [(study.folder / "optuna.journal").read_text().count('"op_code":4') for study in (extended, once)]
    assert trials[0] == trials[1]


class Stopping(SerialRunner):
    """Is stopped after one pack."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Any, watch: Watch) -> None:
        super().run(study, packs[:1], plugins, watch)
        if len(packs) > 1:
            raise KeyboardInterrupt


def stopped(run: Callable[[], object]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run()


def test_stopped_before_and_while_it_was_extended(tmp_path: Path) -> None:
    alone = {"resources": {"pack": 2}}
    stopped(lambda: Study.from_dict(raw(tmp_path, **alone)).run(Stopping()))
    larger = raw(tmp_path, levels=(0.01, 0.05, 0.2, 0.3), **alone)
    stopped(lambda: Study.from_dict(larger).run(Stopping(), extend=True))
    assert [len(one.packs) for one in kept(parse(larger))] == [2, 2]
    study = Study.from_dict(larger)
    (study.folder / "plan-000.json").write_text("{}")  # what has finished is known from its own record
    extended = study.run("serial")  # the same command, or a run with the larger config
    same(extended, ran(larger | {"study": "once"}))


def test_killed_while_the_new_config_was_written(tmp_path: Path) -> None:
    study = ran(raw(tmp_path))
    there, config = contents(study.folder / "packs"), (study.folder / "study.yaml").read_bytes()
    larger = raw(tmp_path, seeds=3)
    ran(larger, extend=True)
    for path in [*study.folder.glob("plan-v2-*"), *study.folder.glob("packs/p0001/*")]:
        path.unlink()
    (study.folder / "study.yaml").write_bytes(config)
    assert len(ran(raw(tmp_path)).frame) == 4
    assert contents(study.folder / "packs") == there
    same(ran(larger, extend=True), ran(larger | {"study": "once"}))


def test_other_data_and_lost_records_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    frame = pd.DataFrame({"a": range(40), "b": [i % 7 for i in range(40)]}).assign(y=lambda f: f.a + 3.0 * f.b)
    frame.to_csv(table, index=False)
    given = raw(tmp_path, task={"use": "table", "path": str(table), "target": "y", "validation": "holdout"})
    study = ran(given)
    frame.assign(b=1.0 * frame.b + (frame.a == 3)).to_csv(table, index=False)
    there = contents(study.folder)
    with pytest.raises(ConfigError, match="made of something else; changed: the data"):
        ran(given | {"seeds": 3}, extend=True)
    with pytest.raises(ConfigError, match="is not a study's folder"):
        ran(given | {"study": "none"}, extend=True)
    with pytest.raises(ConfigError, match="take one of them"):
        ran(given | {"seeds": 3}, extend=True, accept_changes=True)
    assert contents(study.folder) == there
    frame.to_csv(table, index=False)
    ran(given | {"seeds": 3}, extend=True)
    (study.folder / VERSIONS).write_text("{}")
    with pytest.raises(DamageError, match=f"{VERSIONS}.*--accept-changes"):
        study.lineage()
    with pytest.raises(ConfigError, match=VERSIONS):
        ran(given | {"seeds": 3})
    assert len(ran(given | {"seeds": 3}, accept_changes=True).frame) == 6


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    given = raw(tmp_path, mlflow={"children": 0})
    study = ran(given)
    run = json.loads((study.folder / "mlflow.json").read_text())["run_id"]
    told = CliRunner().invoke(main, ["extend", str(study.folder), "seeds=3", "--runner", "serial", "--json"])
    assert told.exit_code == 0, told.output
    assert "seeds: 1 more" in told.stderr
    assert json.loads(told.stdout)["best"]["replica"] == study.best()["replica"]
    assert len(study.frame) == 6
    (tmp_path / "wider.yaml").write_text(to_yaml(given | {"study": "other", "seeds": 3, "store": "elsewhere"}))
    wider = ["--config", str(tmp_path / "wider.yaml"), "penalties.0.level.grid=[0.01, 0.05, 0.2]"]
    told = CliRunner().invoke(main, ["extend", str(study.folder), *wider, "--runner", "serial"])
    assert told.exit_code == 0, told.output
    assert "penalties.0.level: 1 value more" in told.stderr
    assert len(study.frame) == 9
    assert json.loads((study.folder / "mlflow.json").read_text())["run_id"] == run
    refused = CliRunner().invoke(main, ["extend", str(study.folder), "train.steps=21"])
    assert refused.exit_code == 2
    assert "train.steps: 20, now 21" in refused.stderr
    from mlflow import MlflowClient

    tags = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(run).data.tags
    assert tags["nasplug.extended"] == "seeds: 1 more; penalties.0.level: 1 value more"
