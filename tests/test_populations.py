"""Populations: rows copy rows; what a population becomes depends on it alone, not on its pack, a kill or its portions."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nasplug import lineage, results
from nasplug.config import StudyConfig
from nasplug.errors import ConfigError
from nasplug.lineage.again import again
from nasplug.packs import TABLE, load_networks, run_pack, training
from nasplug.packs.population import PARENT, exchanged, numbers_at, tuned
from nasplug.packs.portions import Portions
from nasplug.packs.stopping import compared
from nasplug.packs.stored import HISTORIES, Standing, load_checkpoint, save_checkpoint
from nasplug.plan import assemble, components, exchanges
from nasplug.report import write_report
from nasplug.study import Study
from nasplug.summary import print_plan
from nasplug.train import State, start, train

SMALL: dict[str, Any] = {
    "study": "population",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "gated", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"log": [0.0001, 0.03], "points": 4}, "ramp": {"use": "linear", "until": 0.3}}],
    "temperature": {"use": "geometric", "start": 1.0, "end": {"choice": [0.1, 0.2]}, "until": 0.5},
    "discretizers": [{"use": "threshold", "tolerance": 0.02}],
    "train": {
        "steps": 60,
        "lr": 0.05,
        "batch": 7,
        "decay": {"use": "cosine", "end": 0.1},
        "finetune": 3,
        "reports": 12,
        "dtype": "float64",
        "population": {"of": 8, "every": 0.2, "perturb": {"tau": 1.1}},
    },
    "seeds": 2,
    "linear": False,
    "mlflow": None,
}
LEVEL = "penalties.0.level"


def study(store: Path, **changes: Any) -> Study:
    train = {**SMALL["train"], **changes.pop("train", {})}
    return Study.from_dict({**SMALL, "store": str(store), "train": train, **changes})


@pytest.fixture(scope="module")
def bred(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("bred")).run("serial", report=False)


def frame_of(study: Study) -> pd.DataFrame:
    frame = results.read(study.folder, histories=True)
    return frame.sort_values([LEVEL, "temperature.end", "seed"]).reset_index(drop=True)


def test_populations_are_dealt_from_all_over_the_study(bred: Study) -> None:
    plan = results.plan_of(bred.folder, "p0000", ())
    assert list(plan.groups) == [0] * 8 + [1] * 8
    for group in (0, 1):
        rows = [row for row in range(16) if plan.groups[row] == group]
        assert len({plan.columns[LEVEL][row] for row in rows}) == 4
    frame = frame_of(bred)
    assert set(frame["status"]) == {"finished"}
    assert set(frame["population"]) == {"p0000.0", "p0000.1"}


def test_the_history_says_who_went_on_as_whom_and_with_what(bred: Study) -> None:
    frame = results.read(bred.folder, histories=True).sort_values("replica").reset_index(drop=True)
    parents = np.stack(frame["history_parent"].to_list())  # (K, reports)
    steps = frame["history_step"][0]
    own = np.arange(16)
    copied = parents != own[:, None]
    marks = [at for at, step in enumerate(steps) if copied[:, at].any()]
    assert [int(steps[at]) for at in marks] == exchanges(bred.config, results.plan_of(bred.folder, "p0000", ()), 60)
    groups = frame["population"].to_numpy()
    factors = {LEVEL: 1.2, "train.lr": 1.2, "temperature": 1.1}
    for at in marks:
        for group in set(groups):
            assert copied[groups == group, at].sum() == 2  # a quarter of 8
        for row in np.flatnonzero(copied[:, at]):
            donor = parents[row, at]
            assert groups[row] == groups[donor]
            assert not copied[donor, at]
            for place, factor in factors.items():
                mine, theirs = (frame[f"history_{place}"][one][at + 1] for one in (row, donor))
                now = theirs / mine
                assert math.isclose(max(now, 1 / now), factor, rel_tol=1e-4), (place, now)


def test_a_population_is_the_same_in_any_pack(bred: Study, tmp_path: Path) -> None:
    """The row law of populations, to 1e-10 in float64: one pack of two populations against two packs of one."""
    split = study(tmp_path, resources={"pack": 8}).run("serial", report=False)
    assert [results.plan_of(split.folder, pack, ()).rows for pack in ("p0000", "p0001")] == [8, 8]
    found, wanted = frame_of(split), frame_of(bred)
    for name in ("valid_loss", "test_loss", "relaxed_valid_loss", "edges", "train_loss"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-10, atol=1e-12)
    for name in ("history_valid_loss", f"history_{LEVEL}", "history_train.lr"):
        np.testing.assert_allclose(np.stack(found[name]), np.stack(wanted[name]), rtol=1e-6)


def test_numbers_of_a_row_are_those_of_its_seed_and_place(bred: Study) -> None:
    """The seed law: with other populations beside it a population draws the same."""
    plan = results.plan_of(bred.folder, "p0000", ())
    standing = _standing(16)
    scores = {"valid_error": np.tile(np.arange(8.0), 2), "edges": np.ones(16)}
    both = exchanged(bred.config, plan, standing, scores)
    second = list(range(8, 16))
    alone = exchanged(bred.config, plan.some(second), _standing(8), {name: value[second] for name, value in scores.items()})
    assert (both.history[PARENT][-1][second] == alone.history[PARENT][-1] + 8).all()
    for place in (LEVEL, "train.lr", "temperature"):
        assert (both.tuned[place][second] == alone.tuned[place]).all()
    assert (both.history[PARENT][-1][[*range(6), *range(8, 14)]] == [*range(6), *range(8, 14)]).all()
    assert set(both.history[PARENT][-1][[6, 7]]) <= {0, 1}


def _standing(rows: int) -> Standing:
    params = {"w": torch.arange(float(rows)).view(-1, 1)}
    history = {name: [np.ones(rows)] for name in (LEVEL, "train.lr", "temperature", PARENT)}
    return Standing(State(params, {"m/w": 10 * params["w"], "count": torch.tensor(3.0)}, 10), np.arange(rows), history)


def test_a_copy_has_weights_and_the_optimizers_memory(bred: Study) -> None:
    plan = results.plan_of(bred.folder, "p0000", ()).some(range(8))
    scores = {"valid_error": np.arange(8.0), "edges": np.ones(8)}
    after = exchanged(bred.config, plan, _standing(8), scores)
    source = after.history[PARENT][-1].astype(int)
    assert (after.state.params["w"][:, 0].numpy() == source).all()
    assert (after.state.moments["m/w"][:, 0].numpy() == 10 * source).all()
    assert float(after.state.moments["count"]) == 3.0
    assert after.passed == 1


def test_a_diverged_or_constant_network_copies_and_is_not_copied(bred: Study) -> None:
    plan = results.plan_of(bred.folder, "p0000", ()).some(range(8))
    scores = {
        "valid_error": np.array([0.1, np.nan, 0.5, 0.3, 0.4, 0.2, 0.2, 0.2]),
        "edges": np.array([9.0, 1, 0, 5, 5, 5, 5, 5]),
    }
    source = exchanged(bred.config, plan, _standing(8), scores).history[PARENT][-1].astype(int)
    assert source[1] != 1
    assert source[2] != 2
    assert not {1, 2} & set(source)


def test_a_constant_network_is_not_copied_whatever_sizes_are_compared(bred: Study) -> None:
    by = {"of": 8, "every": 0.2, "by": ["valid_error", "neurons"]}
    mine = StudyConfig.model_validate({**bred.config.plain(), "train": {**bred.config.plain()["train"], "population": by}})
    assert mine.train.population is not None
    assert compared(mine.train.population) == ["valid_error", "neurons", "edges"]
    plan = results.plan_of(bred.folder, "p0000", ()).some(range(8))
    scores = {
        "valid_error": np.array([0.1, 0.2, 0.5, 0.3, 0.4, 0.2, 0.2, 0.2]),
        "neurons": np.array([3.0, 3, 0, 3, 3, 3, 3, 3]),
        "edges": np.array([9.0, 1, 0, 5, 5, 5, 5, 5]),
    }
    source = exchanged(mine, plan, _standing(8), scores).history[PARENT][-1].astype(int)
    assert 2 not in source


def test_a_row_is_blamed_for_its_own_steps_alone(tmp_path: Path) -> None:
    """Rows that diverged and went on as copies of others have no error, nor what rows did before they were copies."""
    train = {"lr": {"choice": [0.05, 1e25]}, "dtype": "float32", "population": {"of": 8, "every": 0.5}}
    fixed: dict[str, Any] = {"penalties": [{"use": "l1", "level": 0.001}], "temperature": None}
    frame = study(tmp_path, train=train, seeds=8, **fixed).run("serial", report=False).frame
    diverged = frame["status"] == "diverged"
    assert (diverged.sum(), (~diverged).sum()) == (4, 12)  # of 8 that diverged a quarter of each population copied
    assert frame.loc[diverged, "error"].str.contains("not finite from step 2 on").all()
    assert frame.loc[~diverged, "error"].isna().all()


def test_numbers_stay_where_they_may_be_however_often_they_are_multiplied(bred: Study, tmp_path: Path) -> None:
    plan = results.plan_of(bred.folder, "p0000", ())
    columns = {**plan.columns, LEVEL: [0.0, 1e-30] * 8}
    search = assemble(components(bred.config, plan, bred.plugins), replace(plan, columns=columns), bred.plugins)
    extremes = np.tile([1.2**300, 1.2**-300], 8)
    names = (LEVEL, "train.lr", "temperature")
    found = tuned(search, replace(_standing(16), tuned={"origin": np.arange(16), **dict.fromkeys(names, extremes)}))
    last = numbers_at(found, 60)
    assert (last[LEVEL][0::2] == 0).all()
    assert (last[LEVEL][1::2] > 0).all()
    for place in names:
        assert torch.isfinite(last[place]).all()
    assert (found.lr.scale > 0).all()


@pytest.mark.parametrize("reports", [1, 2, 3, 5, 8, 11])
def test_a_killed_population_goes_on_as_if_it_had_not_been(
    reports: int, bred: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between an exchange's report and the exchange."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    pack = results.plan_of(bred.folder, "p0000", ())
    going = run_pack(bred.config, pack, bred.plugins, tmp_path)
    for _ in range(reports):
        next(going)
    going.close()
    list(run_pack(bred.config, pack, bred.plugins, tmp_path))
    wanted = pq.read_table(bred.folder / "packs/p0000" / TABLE).to_pandas()
    pd.testing.assert_frame_equal(pq.read_table(tmp_path / TABLE).to_pandas(), wanted, check_exact=True)
    nets, all_of_them = (load_networks(folder) for folder in (tmp_path, bred.folder / "packs/p0000"))
    for edge, block in nets.blocks.items():
        assert torch.equal(block, all_of_them.blocks[edge])


def test_a_checkpoint_has_what_exchanges_made(tmp_path: Path) -> None:
    history = {name: [np.ones(4)] for name in ("step", *HISTORIES, LEVEL)}
    now = replace(
        _standing(4), history=history, passed=2, tuned={"origin": np.array([0, 0, 2, 3]), LEVEL: np.array([1, 1.2, 1, 1])}
    )
    save_checkpoint(tmp_path, "mine", now)
    found = load_checkpoint(tmp_path, "mine", "cpu", ["w"])
    assert found is not None
    assert found.passed == 2
    assert found.tuned["origin"].tolist() == [0, 0, 2, 3]
    assert found.tuned[LEVEL].tolist() == [1.0, 1.2, 1.0, 1.0]


def test_portions_train_the_same_populations(bred: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "Portions", lambda device: Portions(device, 4))  # as where memory has ended twice
    list(run_pack(bred.config, results.plan_of(bred.folder, "p0000", ()), bred.plugins, tmp_path))
    wanted = pq.read_table(bred.folder / "packs/p0000" / TABLE).to_pandas()
    found = pq.read_table(tmp_path / TABLE).to_pandas()
    np.testing.assert_allclose(found["valid_loss"], wanted["valid_loss"], rtol=1e-10, atol=1e-12)
    assert [list(row) for row in found["history_parent"]] == [list(row) for row in wanted["history_parent"]]


def test_before_the_first_exchange_rows_are_as_if_there_were_no_population(bred: Study, tmp_path: Path) -> None:
    plan = results.plan_of(bred.folder, "p0000", ())
    search = assemble(components(bred.config, plan, bred.plugins), plan, bred.plugins)
    first = next(iter(train(search, start(search), every=5)))
    frame = results.read(bred.folder, histories=True).sort_values("replica")
    losses = np.array([history[0] for history in frame["history_valid_loss"]])
    np.testing.assert_allclose(losses, first.metrics["valid_loss"].numpy(), rtol=1e-6)


def test_each_data_set_has_populations_of_its_own(tmp_path: Path) -> None:
    mine = study(tmp_path, task={"use": "xor", "samples": 20, "seed": {"grid": [0, 1, 2]}}, seeds=1, resources={"pack": 24})
    (pack,) = mine.plan()
    assert sorted(set(pack.groups)) == [0, 1, 2]
    for group in set(pack.groups):
        assert len({pack.columns["task.seed"][row] for row in range(pack.rows) if pack.groups[row] == group}) == 1


def test_a_pack_of_no_fixed_size_has_room_for_a_population(tmp_path: Path) -> None:
    """However many processors a machine has, over which packs are spread."""
    packs = study(tmp_path, train={"population": {"of": 64}}, seeds=8, resources={"cpus": 0.01}).plan()
    assert [pack.rows for pack in packs] == [64]


def test_a_plan_says_what_populations_there_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = study(tmp_path)
    print_plan(mine, mine.plan())
    told = " ".join(capsys.readouterr().out.split())
    assert "Populations: 2 of 8 rows; 4 times the worst 2 of each copy the best 2 by valid_error and edges" in told


def test_a_schedule_is_what_a_network_trained_with_as_whomever(bred: Study) -> None:
    frame = results.read(bred.folder, histories=True).set_index("replica")
    copies = 0
    for name in frame.index:
        found = bred.schedule(name)
        assert list(found) == ["step", "replica", "valid_error", "edges", LEVEL, "temperature", "train.lr"]
        assert found["step"].tolist() == list(range(5, 61, 5))
        assert found["replica"].iloc[-1] == name
        for at, row in enumerate(found.itertuples(index=False)):
            assert row[4] == frame[f"history_{LEVEL}"][row.replica][at]
            assert row.valid_error == frame["history_valid_error"][row.replica][at]
        copies += int((found["replica"] != found["replica"].shift(-1).ffill()).sum())
        first = bred.frame.set_index("replica")[LEVEL][found["replica"].iloc[0]]
        ramp = min(1.0, 4 / 59 / 0.3)
        assert math.isclose(found[LEVEL].iloc[0], first * ramp, rel_tol=1e-5)
    assert copies
    assert bred.schedule()["replica"].iloc[-1] == bred.best()["replica"]


def test_the_report_draws_the_schedule_that_was_found(bred: Study) -> None:
    page = write_report(bred).read_text(encoding="utf-8")
    assert "The schedule that the population found" in page
    assert f"{LEVEL} from " in page
    assert "temperature of the chosen" not in page  # it may have been that of others
    assert "penalty level λ at the beginning" in page
    assert not (bred.folder / "path.png").exists()  # a level's errors are those of rows that left it


def test_a_network_of_no_population_has_no_schedule_of_its_own(tmp_path: Path) -> None:
    plain = study(tmp_path, train={"population": None, "steps": 20}, seeds=1, reach=None).run("serial", report=False)
    with pytest.raises(ConfigError, match="trained in no population"):
        plain.schedule()


def test_a_network_is_trained_again_with_its_whole_population(tmp_path: Path) -> None:
    """In float32, from the middle of a pack of 50."""
    done = study(
        tmp_path, train={"dtype": "float32", "population": {"of": 10}}, seeds=25, resources={"pack": 200}, reach=None
    ).run("serial", report=False)
    plan = results.plan_of(done.folder, "p0000", ())
    frame = results.read(done.folder, histories=True).sort_values("replica").reset_index(drop=True)
    row = next(at for at in range(70, 200) if done.schedule(f"p0000/{at:04d}")["replica"].nunique() > 1)
    network = done.network(f"p0000/{row:04d}")
    record = json.loads(json.dumps(lineage.lineage_of(done.folder, done.config, frame.iloc[row].to_dict(), network)))
    told = record["pack"]["population"]
    assert told["rows"] == len(record["pack"]["plan"]["seeds"]) == 10
    assert told["first"] + told["row"] == row
    assert plan.groups[told["first"]] == plan.groups[row]
    assert told["copies"]
    again_told, _ = again(record, network, done.plugins)
    assert again_told.equal
    assert again_told.scores_equal
    assert again_told.rows < 60
    words = lineage.text(lineage.stages(record))
    assert f"row {told['row']} of a population of 10" in words
    assert f"after step {told['copies'][0]['step']} a copy of {told['copies'][0]['of']}" in words


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"train": {"path": {"over": LEVEL, "steps": 5}}}, "train.population: beside train.path"),
    ({"stop": {"use": "halving"}}, "train.population: beside stop"),
    ({"train": {"keep": "best"}}, r"train.population: beside train.keep: best, .* write keep: last"),
    ({"stability": True}, "train.population: beside stability"),
    ({"sampler": {"use": "tpe", "trials": 4}}, r"sampler 'tpe' learns what a configuration is worth, .* take sampler random"),
    ({"resources": {"pack": 5}}, r"a population of 8 rows trains in one pack, .* room for 5 rows. Write resources.pack: 8"),
    ({"train": {"population": {"every": 0.05}}}, r"19 exchanges in 60 steps, .* more reports"),
    ({"train": {"population": {"perturb": {"levels": 1, "rate": 1, "tau": 1}}}}, "needed: a factor above 1"),
    ({"train": {"population": {"share": 0.6}}}, "train.population.share: 0.6"),
    ({"train": {"population": {"by": ["edges", "edges"]}}}, "edges, edges; needed: each once"),
    (
        {"penalties": [], "temperature": None, "train": {"population": {"perturb": {"rate": 1}}}},
        "the study has nothing that it changes",
    ),
    (
        {"task": {"use": "diabetes", "validation": {"use": "folds", "folds": 2}}, "train": {"batch": "full"}},
        r"train.population: beside 2 folds, .* Write validation: holdout",
    ),
    ({"penalties": [], "temperature": None, "seeds": 1}, "none of the 1 networks has another to copy"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_what_cannot_be_is_refused_when_it_is_planned(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        study(tmp_path, **changes).plan()


def test_a_study_of_populations_is_not_extended(bred: Study) -> None:
    with pytest.raises(ConfigError, match=r"copied others of their population .* Make a new study"):
        Study.open(bred.folder, ["seeds=3"]).run("serial", extend=True)
