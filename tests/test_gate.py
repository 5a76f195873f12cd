"""The gate in front of the alias champion: paired tests, what fits, policies, history, promotions at once; real MLflow."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from scipy import stats

from nasplug import ConfigError, NasplugError, Study, files
from nasplug.cli import main
from nasplug.compact import compact
from nasplug.config import parse
from nasplug.testing import example_networks
from nasplug.tracking import default_uri, history_of, promote, read_policy, rollback, served, standing
from nasplug.tracking.evidence import TEST, WRONG, Evidence, Measured, evidence_of, measure, read_evidence, write_evidence
from nasplug.tracking.gate import compare, decide
from nasplug.tracking.history import CLAIM, HEAD, held

from .processes import PATIENCE

NAME = "tumour"


def measured(errors: Any, parameters: int = 10, **changes: Any) -> Evidence:
    values = np.asarray(errors, dtype=np.float64)
    weights = changes.pop("weights", None)
    told: dict[str, Any] = {
        "digest": "d",
        "kind": "binary",
        "targets": ["no", "yes"],
        "outputs": ["P(yes)"],
        "reads": ["a"],
        "columns": ["a", "b"],
        "data": "data",
        "rows": "rows",
        "metric": WRONG,
        "samples": len(values),
        "error": float(np.average(values, weights=weights)),
        "parameters": parameters,
        "edges": parameters,
    }
    return Evidence(Measured(**(told | changes)), values, weights)


def wrong(n: int, *places: int) -> Any:
    found = np.zeros(n)
    found[list(places)] = 1.0
    return found


# -- paired tests ------------------------------------------------------------------------------------------------------


def test_labels_are_compared_by_mcnemars_exact_test() -> None:
    champion, candidate = measured(wrong(100, *range(10))), measured(wrong(100, 0, 50))
    found = compare(candidate, champion)
    assert found.p_value == pytest.approx(sum(stats.binom.pmf(k, 10, 0.5) for k in (9, 10)))  # 9 of 10 discordant rows
    assert found.better
    assert found.difference == pytest.approx(-0.08)
    assert not compare(champion, candidate).better


def test_squared_errors_are_compared_by_swapping_pairs() -> None:
    rng = np.random.default_rng(1)
    champion = rng.gamma(1.0, 2.0, 12)
    gap = rng.normal(-0.4, 1.0, 12)
    candidate = np.maximum(champion + gap, 0.0)
    found = compare(measured(candidate, metric="squared error"), measured(champion, metric="squared error"))
    d = candidate - champion
    signs = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1)  # every way to swap
    assert found.p_value == pytest.approx((signs.T @ d <= d.sum() + 1e-12).mean(), abs=1e-9)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / np.sqrt(12))


def test_the_limit_for_many_rows_is_that_of_the_same_test() -> None:
    rng = np.random.default_rng(2)
    champion = rng.gamma(1.0, 2.0, 2200)
    candidate = np.maximum(champion + rng.normal(-0.02, 1.0, 2200), 0.0)
    few, many = (
        compare(measured(candidate[:n], metric="squared error"), measured(champion[:n], metric="squared error"))
        for n in (1990, 2200)
    )
    assert few.p_value == pytest.approx(stats.norm.cdf(few.difference / few.standard_error), abs=0.02)
    assert many.p_value == pytest.approx(stats.norm.cdf(many.difference / many.standard_error), abs=0.02)


def test_weights_count() -> None:
    """A weight of 0 is a row that is not there."""
    weights = np.r_[np.ones(40), np.zeros(40)]
    champion, candidate = wrong(80, *range(10)), wrong(80, *range(40, 80))
    with_weights = compare(measured(candidate, weights=weights), measured(champion, weights=weights))
    alone = compare(measured(candidate[:40]), measured(champion[:40]))
    assert with_weights.difference == pytest.approx(alone.difference)
    assert with_weights.standard_error == pytest.approx(alone.standard_error)
    assert with_weights.p_value == pytest.approx(alone.p_value, abs=1e-6)


def test_false_promotions_are_as_rare_as_the_level_says() -> None:
    """Equal networks: one in twenty passes at most."""
    rng = np.random.default_rng(3)
    passed = [compare(measured(rng.random(200) < 0.1), measured(rng.random(200) < 0.1)).better for _ in range(400)]
    assert np.mean(passed) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(
    ("candidate", "passes", "words"),
    [
        (measured(wrong(200, 1)), True, "better than the champion"),
        (measured(wrong(200, *range(13)), 5), True, "as good as the champion, and smaller"),
        (measured(wrong(200, *range(12)), 10), False, "as good as the champion, and not smaller"),
        (measured(wrong(200, *range(40)), 5), False, "not better than the champion"),
        (measured(wrong(200, *range(40)), 50), False, "the champion has less error and fewer parameters"),
        (measured(wrong(200), rows="others"), False, "test rows: 200 rows others, needed: the champion's 200 rows rows"),
        (measured(wrong(200), data="others"), False, "data: data others, needed: the champion's data data"),
        (measured(wrong(200), kind="classes"), False, "task: classes of no, yes, needed: binary of no, yes"),
        (measured(wrong(200), targets=["0", "1"]), False, "task: binary of 0, 1, needed"),
        (measured(wrong(200), outputs=["score of yes"]), False, "outputs: answers score of yes, needed: answers P(yes)"),
        (measured(wrong(200), reads=["a", "c"]), False, "columns: needs c, needed: columns of the champion's data"),
        (measured(wrong(200), metric="mae"), False, "measure: mae, needed: share of wrong labels"),
        ("version 2 has no test.parquet", False, "cannot be compared with version 1: version 2 has no test.parquet"),
    ],
)
def test_what_the_gate_says(candidate: Evidence | str, passes: bool, words: str) -> None:
    found = decide(candidate, measured(wrong(200, *range(12)), 10), "version 1")
    assert found.passes is passes
    assert words in found.why
    assert found.dominated is ("fewer parameters" in words)


def test_a_reason_has_figures() -> None:
    why = decide(measured(wrong(200, *range(40)), 5), measured(wrong(200, *range(12)), 10), "version 1").why
    for part in (
        "test error 20.00 %",
        "6.00 % of version 1",
        "+14.00 percentage points",
        "p = 1",
        "5 parameters against 10",
        "200",
    ):
        assert part in why
    assert decide(measured(wrong(5)), None, "").passes
    assert decide("nothing", None, "").passes


# -- what is stored ----------------------------------------------------------------------------------------------------


def test_errors_are_in_the_targets_own_units(tmp_path: Path) -> None:
    """Whatever the network learned: the mean of what is stored is the squared error of what is served."""
    table = tmp_path / "houses.csv"
    rng = np.random.default_rng(0)
    rows = "\n".join(f"{a:.3f},{b:.3f},{1000 * np.exp(a):.2f}" for a, b in rng.normal(size=(60, 2)))
    table.write_text(f"a,b,price\n{rows}\n")
    prices = pd.read_csv(table)
    found = []
    for transform in ("none", "log"):
        raw = {"use": "table", "path": str(table), "target": "price", "transform": transform}
        plain = {"study": "s", "store": str(tmp_path), "task": raw, "method": {"use": "edges", "hidden": []}}
        task = Study.from_dict(plain).task
        network = compact(example_networks(k=1, widths=(2, 3, 1), parts=("biases",)), 0, task)
        x = (task.test.x.double() * task.input_scale.view(-1, 1) + task.input_shift.view(-1, 1)).T.numpy()
        there = prices.iloc[[int(np.abs(prices["a"] - a).argmin()) for a in x[:, 0]]]
        evidence = measure(network, task)
        assert evidence is not None
        served = network.predict(there)["price"].to_numpy()
        np.testing.assert_allclose(evidence.errors, (served - there["price"].to_numpy()) ** 2, rtol=2e-3)
        assert evidence.of.error == pytest.approx(evidence.errors.mean())
        assert (evidence.of.reads, evidence.of.columns, evidence.of.samples) == (["a", "b"], ["a", "b"], len(x))
        write_evidence(network, task, tmp_path)
        back = read_evidence(tmp_path / TEST)
        assert back.of == evidence.of
        np.testing.assert_array_equal(back.errors, evidence.errors)
        found.append((evidence.of.data, evidence.of.rows, evidence.of.metric))
    assert found[0] == found[1]
    content = (tmp_path / TEST).read_bytes()
    (tmp_path / TEST).write_bytes(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    with pytest.raises(files.DamageError, match="was changed"):
        read_evidence(tmp_path / TEST)


# -- a registry --------------------------------------------------------------------------------------------------------


def study(store: Path, name: str, **changes: Any) -> Study:
    raw: dict[str, Any] = {
        "study": name,
        "store": str(store),
        "task": {"use": "breast_cancer", "validation": "holdout"},
        "method": {"use": "edges", "hidden": [2]},
        "loss": {"use": "logistic"},
        "train": {"steps": 60, "lr": 0.05, "reports": 2, "compile": False},
        "linear": False,
        "reach": None,
        "mlflow": {"register": NAME, "children": 0},
    }
    return Study(parse(raw | changes)).run("serial")


FLOWERS = {"task": {"use": "iris", "validation": "holdout"}, "loss": None}
BAD = {"steps": 1, "lr": 1e-4, "reports": 1, "compile": False}  # it says the same to everybody


def client_of(store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(default_uri(store), default_uri(store))


def ask(*words: str, status: int = 0) -> str:
    found = CliRunner(env={"COLUMNS": "300"}).invoke(main, list(words))
    assert found.exit_code == status, found.output
    return found.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good network, a bad one later, and one of flowers under the same name."""
    store = tmp_path_factory.mktemp("registry")
    study(store, "good")
    study(store, "bad", train=BAD)
    study(store, "flowers", **FLOWERS)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    from mlflow.tracking._tracking_service import utils

    there = tmp_path / "store"
    shutil.copytree(whole, there)
    utils._artifact_repos_cache.clear()  # by id of a model, which all copies share
    with closing(sqlite3.connect(there / "mlflow.db")) as database:  # places are absolute
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(whole), str(there)))
        database.commit()
    for state in there.glob("*/mlflow.json"):
        told = files.read_json(state)
        files.write_json(state, told | {"uri": told["uri"].replace(str(whole), str(there))})
    return there


def test_a_worse_network_and_one_of_other_data_become_challenger(whole: Path) -> None:
    """It was the champion that came last, whatever it was."""
    client = client_of(whole)
    found = history_of(default_uri(whole), NAME)
    assert dict(found.aliases) == {"champion": "1", "challenger": "3"}
    assert not found.trouble
    assert [(e.alias, e.before, e.version, e.act, e.forced) for e in found.events] == [
        ("champion", "", "1", "registered", False),
        ("challenger", "", "2", "registered", False),
        ("challenger", "2", "3", "registered", False),
    ]
    assert "there was no champion" in found.events[0].why
    assert "percentage points, p = 1), " in found.events[1].why
    assert "task: classes of setosa" in found.events[2].why
    bad = client.get_model_version(NAME, "2")
    assert (bad.tags["nasplug.gate"], bad.tags["nasplug.gate.why"]) == ("challenger", found.events[1].why)
    run = client.get_run(files.read_json(whole / "bad" / "mlflow.json")["run_id"])
    assert run.data.tags["nasplug.gate.why"] == found.events[1].why
    assert found.events[1].why in run.data.tags["mlflow.note.content"]
    assert files.read_json(whole / "bad" / "mlflow.json")["alias"] == "challenger"
    evidence = evidence_of(client, default_uri(whole), bad)
    assert isinstance(evidence, Evidence)
    assert set(np.unique(evidence.errors)) <= {0.0, 1.0}
    assert evidence.of.error == pytest.approx(float(bad.tags["nasplug.test_error"]), rel=1e-4)
    assert evidence.of.calibration is not None


def test_another_encoding_of_the_same_rows_is_compared(store: Path) -> None:
    task = {"use": "breast_cancer", "validation": "holdout"}
    study(store, "other", task=task, method={"use": "edges", "mode": "l1", "hidden": []}, seeds=[3])
    why = history_of(default_uri(store), NAME).events[-1].why
    assert "of version 1" in why
    assert "cannot be compared" not in why
    study(store, "split", task=task | {"seed": 1})
    assert "test rows: " in history_of(default_uri(store), NAME).events[-1].why


def test_a_study_may_leave_aliases_alone(store: Path) -> None:
    before = dict(history_of(default_uri(store), NAME).aliases)
    study(store, "never", seeds=[7], mlflow={"register": NAME, "children": 0, "promote": "never"})
    assert dict(history_of(default_uri(store), NAME).aliases) == before
    assert client_of(store).get_model_version(NAME, "4").tags["nasplug.gate"] == "none"
    asked = {"register": "fresh", "children": 0, "promote": "challenger"}
    study(store, "never", seeds=[7], mlflow=asked)
    assert dict(history_of(default_uri(store), "fresh").aliases) == {"challenger": "1"}
    with pytest.raises(ConfigError, match=r"mlflow\.promote: 'always'; needed: .*if-better"):
        parse({"study": "x", "task": {"use": "iris"}, "method": {"use": "edges"}, "mlflow": {"promote": "always"}})


def test_running_an_old_study_again_moves_no_alias(store: Path) -> None:
    """Whatever of it was deleted: the history knows its network."""
    uri, client = default_uri(store), client_of(store)
    promote(uri, NAME, "2", force=True, why="a test")
    state = files.read_json(store / "good" / "mlflow.json")
    experiment = client.get_run(state["run_id"]).info.experiment_id
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)
    again = study(store, "good")
    assert history_of(uri, NAME).champion == "2"
    client.delete_model_version(NAME, files.read_json(again.folder / "mlflow.json")["version"])
    study(store, "good")
    assert history_of(uri, NAME).champion == "2"
    assert not history_of(uri, NAME).trouble


def test_a_registration_that_was_killed_heals(store: Path) -> None:
    """After the event, before the alias: the next one completes it, and nothing is written twice."""
    uri, client = default_uri(store), client_of(store)
    tags = client.get_registered_model(NAME).tags
    client.set_registered_model_tag(NAME, HEAD, json.dumps({"events": 2, "digest": "lost"}))
    client.set_registered_model_alias(NAME, "challenger", "2")
    client.delete_model_version_tag(NAME, "3", "nasplug.gate")
    assert history_of(uri, NAME).pending is not None
    study(store, "flowers", **FLOWERS)
    found = history_of(uri, NAME)
    assert found.aliases["challenger"] == "2"  # decided before: nothing to do
    with held(client, uri, NAME) as now:
        assert (now.pending, now.aliases["challenger"]) == (None, "3")
    assert client.get_registered_model(NAME).tags == tags
    assert client.get_model_version(NAME, "3").tags["nasplug.gate"] == "challenger"


def test_a_claim_that_a_crash_left_is_waited_for_and_removed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasplug.tracking.history.PATIENCE", 0.3)
    client = client_of(store)
    client.set_registered_model_tag(NAME, f"{CLAIM}0", "somebody")
    with held(client, default_uri(store), NAME):
        claims = [key for key in client.get_registered_model(NAME).tags if key.startswith(CLAIM)]
        assert len(claims) == 1
        assert claims != [f"{CLAIM}0"]
    assert not [key for key in client.get_registered_model(NAME).tags if key.startswith(CLAIM)]


# -- promote, rollback, history ----------------------------------------------------------------------------------------


def test_promote_refuses_and_shows_every_condition(store: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "error: 0.2\nparameters: 1000\nedges: 1000\nlatency_us: 1.0e+6\nflash_bytes: 1000000\ncalibration: 0.9\n"
        "certificate: required\nreproduced: required\n"
    )
    words = ("promote", NAME, "--to", "2", "--policy", str(policy), "--store", str(store))
    told = ask(*words, status=1)
    for part in (
        "comparison",
        "expected calibration error",
        "us per row",
        "bytes",
        "nobody has reproduced it",
        "FAILED",
        "passed",
    ):
        assert part in told
    assert "The champion is version 1, as before." in told
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    failed = {one["name"] for one in found["conditions"] if not one["passed"]}
    assert {"comparison", "error", "certificate", "reproduced"} == failed
    assert history_of(default_uri(store), NAME).champion == "1"
    client_of(store).set_model_version_tag(NAME, "2", "nasplug.reproduced", "bit-equal")
    found = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert next(one for one in found["conditions"] if one["name"] == "reproduced")["passed"]


def test_force_needs_a_reason_rollback_goes_back_and_history_tells(store: Path) -> None:
    at = ("--store", str(store))
    assert "--force without --why" in ask("promote", NAME, "--to", "2", "--force", *at, status=2)
    told = ask("promote", NAME, "--to", "2", "--force", "--why", "the doctor said so", *at)
    assert "Version 2 of tumour is champion now; before: 1. the doctor said so. Against the gate: " in told
    assert "champion already" in ask("promote", NAME, "--to", "2", *at)
    ask("promote", NAME, "--to", "3", "--force", "--why", "flowers", *at)
    assert "Version 2 of tumour is champion again" in ask("rollback", NAME, *at)
    assert "Version 1 of tumour is champion again" in ask("rollback", NAME, "--why", "it was better", *at)
    assert "has had no champion before" in ask("rollback", NAME, *at, status=2)
    events = json.loads(ask("history", NAME, "--json", *at))["events"]
    champions = [(e["before"], e["version"], e["act"], e["forced"]) for e in events if e["alias"] == "champion"]
    assert champions == [
        ("", "1", "registered", False),
        ("1", "2", "promoted", True),
        ("2", "3", "promoted", True),
        ("3", "2", "rolled back", False),
        ("2", "1", "rolled back", False),
    ]
    assert events[-1]["why"] == "it was better"
    assert events[3]["figures"]["p_value"] == pytest.approx(1.0)
    today = datetime.now(UTC).date()
    assert "version 1, by " in ask("history", NAME, "--on", str(today), *at)
    assert "none" in ask("history", NAME, "--on", str(today - timedelta(days=1)), *at)
    assert "the doctor said so" in ask("history", NAME, *at)
    assert dict(history_of(default_uri(store), NAME).aliases) == {"champion": "1", "challenger": "2"}
    for number in ("2", "3"):
        ask("promote", NAME, "--to", number, "--force", "--why", "again", *at)
    client_of(store).delete_model_version(NAME, "2")
    told = ask("rollback", NAME, *at)  # over the version that is not there any more
    assert "Version 1 of tumour is champion again" in told
    assert "version 2 was deleted" in history_of(default_uri(store), NAME).events[-1].why


def test_a_changed_or_lost_event_shows(store: Path) -> None:
    client, at = client_of(store), ("--store", str(store))
    tags = client.get_registered_model(NAME).tags
    key = f"{HEAD}.000002"
    client.set_registered_model_tag(NAME, key, tags[key].replace("challenger", "champion", 1))
    assert "event 3 does not follow from event 2" in ask("history", NAME, *at, status=1)
    client.delete_registered_model_tag(NAME, key)
    assert "event 2 is missing" in ask("history", NAME, *at, status=1)
    client.set_registered_model_tag(NAME, key, tags[key])
    client.delete_registered_model_tag(NAME, f"{HEAD}.000003")
    assert "event 3 is missing" in ask("history", NAME, *at, status=1)
    ask("promote", NAME, "--to", "2", "--force", "--why", "go on", *at)  # a hole stays a hole
    assert "event 3 is missing" in ask("history", NAME, *at, status=1)
    for at_what in ('"at":"soon', '"at":"2020-01-01","was":"'):  # no time, no zone
        client.set_registered_model_tag(NAME, f"{HEAD}.000001", tags[f"{HEAD}.000001"].replace('"at":"', at_what, 1))
        assert "event 1 cannot be read" in ask("history", NAME, "--on", "2020-01-01", *at, status=1)


@pytest.mark.parametrize("events", ["1e999", "-1", "300000000"])
def test_a_wrong_count_of_events_costs_a_line(store: Path, events: str) -> None:
    client, at = client_of(store), ("--store", str(store))
    client.set_registered_model_tag(NAME, HEAD, f'{{"events": {events}, "digest": "x"}}')
    client.set_registered_model_tag(NAME, f"{HEAD}.99999999", "x")
    told = ask("history", NAME, *at, status=1)
    assert "event 99999999 cannot be read" in told
    assert "to 99999998 are missing" in told
    assert ("events 100000000 to 300000000 are missing" if events == "300000000" else "cannot be read") in told


def test_a_champion_of_somebody_else_is_replaced_by_force_alone(store: Path) -> None:
    uri, client = default_uri(store), client_of(store)
    source = client.get_model_version(NAME, "1").source
    theirs = client.create_model_version(NAME, str(store / "mlartifacts"), None)
    client.set_registered_model_alias(NAME, "champion", theirs.version)
    assert source
    study(store, "later", seeds=[9])
    found = history_of(uri, NAME)
    assert found.champion == str(theirs.version)
    assert f"version {theirs.version} has no test.parquet: it was registered by an older nasplug" in found.events[-1].why
    assert "moved since by something else than nasplug" in ask("history", NAME, "--store", str(store))
    assert not promote(uri, NAME, "1").promoted
    assert promote(uri, NAME, "1", force=True, why="theirs is unknown").promoted
    assert rollback(uri, NAME).version == str(theirs.version)
    with pytest.raises(NasplugError, match=r"champion is no network of nasplug: it has no tag nasplug.digest"):
        served(uri, f"models:/{NAME}@champion")
    assert promote(uri, NAME, "1", force=True, why="theirs is unknown").promoted
    client.delete_model_version(NAME, theirs.version)
    with pytest.raises(ConfigError, match=rf"every champion before version 1 of .* was deleted \(version {theirs.version}\)"):
        rollback(uri, NAME)


def test_a_version_of_an_older_nasplug_gets_its_file_when_its_study_runs_again(store: Path) -> None:
    uri, client = default_uri(store), client_of(store)
    model = client.get_logged_model(client.get_model_version(NAME, "1").source.removeprefix("models:/"))
    there = Path(model.artifact_location.removeprefix("file://")) / TEST
    there.unlink()
    assert "version 1 has no test.parquet" in promote(uri, NAME, "2").why
    study(store, "good")
    assert there.exists()
    assert "not as good: the champion has less error" in promote(uri, NAME, "2").why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("error: -1", "policy.yaml.error: -1; needed: a number >= 0"),
        ("errors: 1", "policy.yaml.errors: unknown key"),
        ("certificate: yes", "certificate: "),
        ("parameters: 1.5", "parameters: 1.5; needed: "),
        ("- 1", "needed: a policy, a mapping of keys (level, error"),
        ("error: !!python/object/apply:os.getcwd []", "policy.yaml"),
    ],
)
def test_a_policy_is_checked_at_the_door(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_policy(tmp_path / "policy.yaml")
    assert words in str(error.value)


def test_the_policy_on_the_page_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "promotion.md").read_text(encoding="utf-8")
    (block,) = (text for text in page.split("```") if text.strip().startswith("level:"))
    (tmp_path / "policy.yaml").write_text(block)
    found = read_policy(tmp_path / "policy.yaml").model_dump()
    assert None not in found.values()


def test_names_that_are_not_there(whole: Path, tmp_path: Path) -> None:
    at = ("--store", str(whole))
    assert "no model 'none' is registered there; there are: tumour" in ask("history", "none", *at, status=2)
    assert "has no version 99; there are: 1, 2, 3" in ask("promote", NAME, "--to", "99", *at, status=2)
    assert "version 'x'; needed: a number" in ask("promote", NAME, "--to", "x", *at, status=2)
    assert "needed: a number" in ask("promote", NAME, "--to", "9" * 20, *at, status=2)
    assert "model ''; needed: the name" in ask("promote", "", "--to", "1", *at, status=2)
    assert "no MLflow store" in ask("history", NAME, "--store", str(tmp_path), status=2)
    assert "is not there" in ask("history", NAME, "--store", f"sqlite:///{tmp_path}/none.db", status=2)
    assert not list(tmp_path.iterdir())
    told = ask("promote", NAME, "--to", "1", "--store", "http://127.0.0.1:9", status=1)
    assert "failed" in told
    assert len(told.strip().splitlines()) == 1
    assert "--on 2020-13-01; needed" in ask("history", NAME, "--on", "2020-13-01", *at, status=2)


TWO = """
import sys, time
from nasplug import NasplugError
from nasplug.tracking import history_of, promote
import nasplug.tracking.promoting as promoting
uri, version, flag = sys.argv[1:]
judged = promoting.conditions_of
def slow(*given):
    open(flag + version, "w").close()
    import os
    while not all(os.path.exists(flag + v) for v in ("2", "3")):
        time.sleep(0.01)
    return judged(*given)
promoting.conditions_of = slow  # both have judged before one of them moves anything
try:
    promote(uri, "tumour", version, force=True, why="at once")
except NasplugError as error:
    print("lost", error)
else:
    print("won", version)
"""


def both(uri: str, flag: str) -> list[str]:
    """Two processes promote at once."""
    command = [sys.executable, "-c", TWO, uri]
    running = [subprocess.Popen([*command, version, flag], stdout=subprocess.PIPE, text=True) for version in ("2", "3")]
    return sorted(process.communicate(timeout=5 * PATIENCE)[0].strip() for process in running)


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(store: Path, tmp_path: Path) -> None:
    uri = default_uri(store)
    lost, won = both(uri, str(tmp_path / "flag"))
    version = won.removeprefix("won ")
    assert lost.startswith("lost tumour: another promotion came first by ")
    assert f"version {version} is champion now. Nothing was moved" in lost
    found = history_of(uri, NAME)
    assert (found.champion, len(found.events), found.trouble) == (version, 4, ())


# -- a server ----------------------------------------------------------------------------------------------------------


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((json.loads(said), dict(self.headers)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given: Any) -> None:
        """Nothing is printed."""


@contextmanager
def hooked() -> Iterator[tuple[str, list[Any]]]:
    """A place for webhooks on loopback, and what it was told."""
    there = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    there.told = []  # type: ignore[attr-defined]
    threading.Thread(target=there.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{there.server_port}/hook", there.told  # type: ignore[attr-defined]
    finally:
        there.shutdown()
        there.server_close()


@contextmanager
def serving(store: Path) -> Iterator[str]:
    """``mlflow server`` on a store, which may send webhooks to loopback."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", default_uri(store), "--artifacts-destination", str(store / "files")]
    env = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    }
    with (store / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=store, env=env, start_new_session=True)
    try:
        for _ in range(400):
            assert process.poll() is None, (store / "log.txt").read_text()[-2000:]
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                break
            time.sleep(0.25)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(PATIENCE)


def wait_for(told: list[Any], count: int) -> list[Any]:
    until = time.monotonic() + PATIENCE
    while len(told) < count and time.monotonic() < until:
        time.sleep(0.1)
    return told


@pytest.mark.slow
def test_on_a_server_webhooks_tell_of_moves_and_of_two_at_once_one_wins(store: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    with serving(store) as uri, hooked() as (address, told):
        MlflowClient(uri, uri).create_webhook("deploy", address, ["model_version_alias.created"], secret="s3cret")
        assert promote(uri, NAME, "2", force=True, why="a test").promoted
        assert standing(uri, NAME, "2").champion == "2"
        found = {(one["data"]["alias"], one["data"]["version"]) for one, _ in wait_for(told, 2)}
        assert found == {("champion", "2"), ("challenger", "1")}
        assert {one["data"]["name"] for one, _ in told} == {NAME}
        assert all(headers["X-MLflow-Signature"].startswith("v1,") for _, headers in told)
        before = len(told)
        rollback(default_uri(store), NAME, "around the server")  # to the database: nobody is told
        assert standing(uri, NAME, "1").champion == "1"
        time.sleep(1.0)
        assert len(told) == before
        promote(uri, NAME, "1", force=True, why="nothing")
        lost, won = both(uri, str(tmp_path / "flag"))
        assert lost.startswith("lost tumour: another promotion came first by ")
        after = history_of(uri, NAME)
        assert (after.champion, after.trouble) == (won.removeprefix("won "), ())
        assert len([one for one in after.events if one.alias == "champion"]) == 4
        assert not [key for key in MlflowClient(uri, uri).get_registered_model(NAME).tags if key.startswith(CLAIM)]


# -- how it stands now -------------------------------------------------------------------------------------------------


def test_front_asks_the_registry(store: Path) -> None:
    good, bad = str(store / "good"), str(store / "bad")
    assert "version 1 of 'tumour', and champion: models:/tumour@champion" in ask("front", good)
    assert "version 2 of 'tumour'; version 1 is champion. When it was registered: not as good" in ask("front", bad)
    promote(default_uri(store), NAME, "2", force=True, why="a test")
    told = json.loads(CliRunner().invoke(main, ["front", good, "--json"]).output)["registered"]
    assert (told["champion"], told["is_champion"], told["version"]) == ("2", False, "1")
    assert json.loads(CliRunner().invoke(main, ["front", bad, "--json"]).output)["registered"]["is_champion"]
    (store / "mlflow.db").unlink()
    assert "is not there any more: who is champion is not known" in ask("front", good)
    assert not (store / "mlflow.db").exists()


def test_a_server_that_is_away_costs_a_line(tmp_path: Path) -> None:
    with pytest.raises(NasplugError, match="does not answer") as error:
        standing("http://me:secret@127.0.0.1:9", NAME, "1")
    assert "secret" not in str(error.value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(NasplugError, match=r"does not answer (within 3 s|\(timed out\))"):
            standing(f"http://127.0.0.1:{silent.getsockname()[1]}", NAME, "1")
        assert time.monotonic() - began < 60.0  # 3 on an idle machine; a default of MLflow's is many minutes
    with pytest.raises(NasplugError, match="was not asked; set MLFLOW_TRACKING_URI"):
        standing("postgresql://127.0.0.1/x", NAME, "1")
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(NasplugError, match="cannot be read"):
        standing(default_uri(tmp_path), NAME, "1")
