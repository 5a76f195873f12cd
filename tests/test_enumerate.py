"""Every architecture of a space is trained, and searches are scored by the table of them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasplug import spaces
from nasplug.cli import main
from nasplug.config import parse, to_yaml
from nasplug.errors import ConfigError
from nasplug.finetune import Frozen
from nasplug.networks import Networks
from nasplug.optimizers import Adam
from nasplug.plan import fixed_parts, named
from nasplug.plugins import load_plugins
from nasplug.schedules import still
from nasplug.spaces import scoring
from nasplug.spaces.scoring import Found, baselines, scored
from nasplug.spaces.searches import _chance
from nasplug.spaces.table import Table
from nasplug.study import Study
from nasplug.train import Search, put, train

NAMES = ("relu", "tanh", "elu")
STUDY: dict[str, Any] = {
    "study": "small",
    "task": {"use": "mixture_teacher", "samples": 100, "inputs": 2},
    "method": {"use": "mixture", "hidden": [3, 3], "per": "layer", "candidates": ["relu", "tanh"]},
    "discretizers": [{"use": "argmax"}],
    "train": {"steps": 12, "architecture": {"lr": 0.1, "share": 0.5}},
    "seeds": 2,
    "mlflow": None,
}


def study(folder: Path, **changes: Any) -> Study:
    return Study.from_dict(STUDY | {"store": str(folder)} | changes)


def nets(widths: tuple[int, ...], per: str) -> Networks:
    blocks = {(to, to - 1): torch.zeros(1, widths[to], widths[to - 1]) for to in range(1, len(widths))}
    choices = {layer: torch.full((1, widths[layer] if per == "neuron" else 1, 3), 1 / 3) for layer in range(1, len(widths) - 1)}
    return Networks(widths, blocks, choices=choices, candidates=NAMES)


# architectures as text


@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), min_size=1, max_size=3))
def test_text_says_which_neurons_there_are(layers: list[list[str]]) -> None:
    """Read and written again it is the same text, and has each layer's activations as often as they were given."""
    widths = (2, *map(len, layers), 1)
    given_text = "/".join("+".join(layer) for layer in layers)
    made = put(nets(widths, "neuron"), fixed_parts([given_text], nets(widths, "neuron")))
    made.check()
    (text,) = named(made)
    again = put(made, fixed_parts([text], made)).choices
    for layer, names in enumerate(layers, start=1):
        counts = [names.count(name) for name in NAMES]
        assert made.choices[layer].sum(1).tolist() == [counts]
        assert again[layer].sum(1).tolist() == [counts]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("relu", "has 1 layers, and the networks have 2"),
        ("relu/tanhh", "'tanhh' is no candidate.*tanh"),
        ("relu/2*tanh", "does not fit hidden layer 2"),
        ("relu/", "needed: one activation per hidden layer"),
        ("999999999*relu/tanh", "does not fit hidden layer 1"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_when_the_study_is_planned(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        study(tmp_path, fixed=text, train={"steps": 3}).plan()


def test_what_cannot_be_fixed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="beside train"):
        study(tmp_path, fixed="relu/tanh").plan()
    with pytest.raises(ConfigError, match="searches for no activations, operations or sizes"):
        study(tmp_path, fixed="relu", method={"use": "edges", "hidden": [3]}, train={"steps": 3}).plan()


# networks with fixed activations


def test_a_row_does_not_depend_on_the_architectures_beside_it(tmp_path: Path) -> None:
    """Up to rounding, in float64; and its activations are those that were asked for."""
    changes = {
        "fixed": {"grid": ["relu/tanh", "tanh/tanh", "tanh/relu"]},
        "train": {"steps": 12, "dtype": "float64"},
        "discretizers": [],
    }
    frames = []
    for pack in (6, 2):
        one = study(tmp_path / str(pack), resources={"pack": pack}, **changes).run("serial", report=False)
        frames.append(one.frame)
        assert named(one.networks("p0000"))[:2] == ["relu/tanh"] * 2
    for name in ("test_loss", "valid_loss"):
        assert frames[0][name].tolist() == pytest.approx(frames[1][name].tolist(), rel=1e-10)
    assert frames[0]["test_loss"].nunique() == 6


def test_a_fixed_architecture_is_trained_as_a_plain_network_is(tmp_path: Path) -> None:
    """The same first weights, data and steps: the mixture's one-hot choices change nothing."""
    one = study(tmp_path, fixed="tanh/tanh", train={"steps": 12}, discretizers=[], seeds=1).run("serial", report=False)
    search = one.networks("p0000")
    mixture = load_plugins().build("method", "mixture", {k: v for k, v in STUDY["method"].items() if k != "use"}, "method")
    seeds = torch.tensor([0])
    task = one.task.to("cpu", torch.float32)
    soft = mixture.relax({n: p.float() for n, p in mixture.init(task, seeds).items()}, torch.ones(1))
    plain = Networks(soft.widths, soft.blocks, soft.biases, candidates=("tanh",))
    alone = Search(task, Frozen(plain), (), Adam(), seeds, 12, still([0.01], 12), still([1.0], 12), ())
    *_, report = train(alone, every=12)
    for edge, block in search.blocks.items():
        torch.testing.assert_close(block, report.state.params[f"block {edge[0]} {edge[1]}"], rtol=1e-5, atol=1e-6)


# the space


def space(**changes: Any) -> spaces.Space:
    return spaces.space_of(parse(STUDY | changes), load_plugins())


def test_a_space_has_every_architecture_once() -> None:
    found = space()
    assert (found.architectures, found.networks) == (4, 8)
    assert found.parts[0].config.fixed.grid == ["relu/relu", "relu/tanh", "tanh/relu", "tanh/tanh"]  # type: ignore[union-attr]
    assert "50%" in found.different[0]
    method = STUDY["method"] | {"per": "neuron", "hidden": {"choice": [[2], [3], [1, 2]]}, "candidates": list(NAMES)}
    found = space(method=method)
    assert [part.architectures for part in found.parts] == [6, 10, 3 * 6]
    assert len({part.config.study for part in found.parts}) == 3


def test_widths_and_depths_share_studies_where_their_architectures_are_the_same() -> None:
    hidden = {"choice": [[2], [3], [2, 2], [3, 3], [2, 3]]}
    found = space(method=STUDY["method"] | {"hidden": hidden})
    assert [(part.architectures, part.shapes) for part in found.parts] == [(2, 2), (4, 3)]
    edges = {"use": "edges", "mode": "l1", "hidden": [{"choice": [2, 4, 8]}]}
    (part,) = space(method=edges, train={"steps": 3}, discretizers=[]).parts
    assert (part.architectures, part.shapes, part.config.fixed) == (1, 3, None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": {"use": "mixture", "hidden": [16, 16]}}, "5,567,099,769 architectures.*11,134,199,538 networks.*20,000"),
        ({"train": {"lr": {"choice": [0.1, 0.2]}}}, "train.lr: varies"),
        ({"fixed": "relu/relu", "train": {}}, "fixed: is given"),
        ({"method": {"use": "edges", "hidden": [3]}, "train": {}, "discretizers": []}, "one architecture"),
        (
            {"method": {"use": "operations", "hidden": [4, 4], "operations": ["linear", "none"], "widths": [2]}, "train": {}},
            "2 more choices than the operations of its 6 edges.*vary method.hidden",
        ),
        ({"method": {"use": "operations", "hidden": [4] * 5}, "train": {}}, "combinations of operations; needed: 500,000"),
        ({"task": {"use": "iris", "validation": "folds"}}, "5 folds.*holdout"),
        (
            {"method": STUDY["method"] | {"bias": {"choice": [True, False]}}},
            "method.bias: True and False make networks of the same",
        ),
    ],
)
def test_what_is_no_space_is_refused_before_anything_is_trained(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        space(**changes)


# scores


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few draws of the bootstrap, where only means are looked at."""
    monkeypatch.setattr(scoring, "DRAWS", 10)
    monkeypatch.setattr(scoring, "DRAWS_OF_ORDERS", 10)


def table(valid: Any, test: Any) -> Table:
    valid, test = np.asarray(valid, dtype=float), np.asarray(test, dtype=float)
    scores = {"valid_error": valid, "valid_loss": valid, "test_error": test, "test_loss": test}
    keys = tuple(((3,), f"a{n}") for n in range(len(valid)))
    none: Any = None
    return Table(none, keys, tuple(range(valid.shape[1])), scores, {}, "", 1, 1.0, "share")


errors = st.integers(2, 7).flatmap(
    lambda n: st.integers(1, 3).flatmap(
        lambda s: st.lists(st.lists(st.integers(0, 20), min_size=s, max_size=s), min_size=n, max_size=n)
    )
)


@pytest.mark.usefixtures("quick")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(errors)
def test_drawing_at_random_is_what_it_is_on_average(valid: list[list[int]]) -> None:
    """The exact expectation against all draws, one by one; more draws are better where validation tells the truth."""
    values = np.asarray(valid) + np.linspace(0, 0.5, len(valid))[:, None]  # no ties
    found = table(values, values)
    for one in baselines(found, drawn=(1, 2, 3)):
        k, chosen = one.networks, []
        for seed in range(values.shape[1]):
            others = [s for s in range(values.shape[1]) if s != seed] or [seed]
            for some in itertools.combinations(range(len(values)), k):
                chosen.append(values[min(some, key=lambda a: values[a, seed])][others].mean())
        best = []
        for seed in range(values.shape[1]):
            others = [s for s in range(values.shape[1]) if s != seed] or [seed]
            best.append(values[values[:, others].mean(1).argmin(), seed])
        assert one.regret.mean == pytest.approx(np.mean(chosen) - np.mean(best))
        assert one.behind >= -1e-12


def test_the_best_is_not_chosen_by_what_judges_it() -> None:
    """The winner of one seed's luck is not the best: it is chosen by the other seeds."""
    values = [[0.0, 9.0, 9.0], [9.0, 0.0, 9.0], [9.0, 9.0, 0.0], [4.0, 4.0, 4.0]]
    found = scored(table(values, values), Found("s", [3], {}, 1))
    assert (found.regret.mean, found.behind, found.rank) == (0.0, 0.0, 1.0)
    noisy = scored(table([[1, 1], [0, 0]], [[3, 5], [7, 5]]), Found("s", [0], {}, 1))
    assert noisy.regret.mean == 4 - 6  # validation would have taken the other one
    assert (noisy.behind, noisy.regret.low, noisy.regret.high) == (0.0, -4.0, 0.0)


def test_tau_is_that_of_the_order() -> None:
    values = np.random.default_rng(0).permutation(20)[:, None] + np.zeros((20, 3))
    orders = {"right": -values.T[:2], "wrong": values.T[:1], "none": np.zeros((1, 20))}
    found = scored(table(values, values), Found("s", [0, 1], orders, 2))
    assert [found.tau[name].mean for name in orders] == [1.0, -1.0, 0.0]
    assert (found.tau["right"].low, found.tau["right"].high) == (1.0, 1.0)


def test_what_broke_in_a_search_is_last_in_its_order() -> None:
    values = np.arange(6.0)[:, None] + np.zeros((6, 3))
    broken = -values.T[:1]
    broken[0, 0] = -np.inf  # the best of all, as last
    assert scored(table(values, values), Found("s", [0], {"one": broken}, 1)).tau["one"].mean == pytest.approx(1 / 3)


def test_what_diverged_is_last_and_never_picked() -> None:
    values = np.array([[np.nan, 0.0], [1.0, 1.0], [2.0, 2.0]])
    found = table(values, values)
    assert found.rank.tolist() == [3, 1, 2]
    one = scored(found, Found("s", [1], {}, 1))
    assert (one.regret.mean, one.rank) == (0.0, 1.0)
    assert all(math.isfinite(each.regret.mean) for each in baselines(found))


@settings(max_examples=20)
@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_chances_of_all_architectures_of_neurons_sum_to_one(sites: list[list[float]]) -> None:
    shares = [[share / sum(site) for share in site] for site in sites]
    method = STUDY["method"] | {"per": "neuron", "hidden": [len(sites)], "candidates": list(NAMES)}
    config = space(method=method).parts[0].config.fixed
    texts = config.grid or config.choice or []  # type: ignore[union-attr]
    assert sum(math.exp(_chance(text, NAMES, [shares])) for text in texts) == pytest.approx(1.0)


# the command


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a search, and its space enumerated and scored."""
    folder = tmp_path_factory.mktemp("space")
    (folder / "small.yaml").write_text(to_yaml(STUDY | {"store": str(folder)}))
    study(folder).run("serial", report=False)
    study(folder, study="other", task=STUDY["task"] | {"seed": 1}).run("serial", report=False)
    return folder


def ask(folder: Path, *options: str, status: int = 0) -> str:
    command = ["enumerate", str(folder / "small.yaml"), *options, "--runner", "serial"]
    done = CliRunner(env={"COLUMNS": "160"}).invoke(main, command)
    if done.exit_code != status:
        raise AssertionError(done.output) from done.exception
    return done.output


def test_one_command_trains_the_space_and_scores_the_search(ran: Path) -> None:
    text = ask(ran, "--score", str(ran / "small"), "--quiet")
    assert "The best of 4 architectures" in text
    assert "small chose 3x3" in text
    assert "best of all 4" in text
    folder = ran / "small-all"
    rows = pd.read_csv(folder / "architectures.csv")
    assert sorted(rows["architecture"]) == ["relu/relu", "relu/tanh", "tanh/relu", "tanh/tanh"]
    assert rows["test_error"].tolist() == pytest.approx(rows[["test_error_seed0", "test_error_seed1"]].mean(axis=1).tolist())
    assert rows["rank"].tolist() == [1, 2, 3, 4]
    assert (folder / "architectures.png").stat().st_size > 1000
    written = json.loads((folder / "scores.json").read_text())
    before = (folder / "widths-3x3" / "packs" / "p0000" / "networks.safetensors").stat().st_mtime_ns
    again = json.loads(ask(ran, "--score", str(ran / "small"), "--quiet", "--json"))
    assert (folder / "widths-3x3" / "packs" / "p0000" / "networks.safetensors").stat().st_mtime_ns == before
    assert again["searches"] == written["searches"]
    search = again["searches"][0]
    assert search["name"] == "small"
    assert set(search["tau"]) == {"shares", "shared weights"}
    assert all(-1 <= tau["low"] <= tau["mean"] <= tau["high"] <= 1 for tau in search["tau"].values())
    assert search["behind"] >= 0


def test_a_search_on_other_data_or_steps_is_told_apart(ran: Path) -> None:
    assert "trained on other data" in ask(ran, "--score", str(ran / "other"), "--quiet", status=2)
    study(ran, study="longer", train=STUDY["train"] | {"steps": 13}).run("serial", report=False)
    assert "longer: trained for 13 steps, the table's networks for 12." in ask(ran, "--score", str(ran / "longer"), "--quiet")
    study(ran, study="wider", method=STUDY["method"] | {"hidden": [4]}).run("serial", report=False)
    assert "which is no architecture" in ask(ran, "--score", str(ran / "wider"), "--quiet", status=2)


def test_the_size_is_shown_and_bounded(ran: Path) -> None:
    assert "4 architectures x 2 seeds = 8 networks" in ask(ran, "--plan")
    assert "8 networks with 2 seeds; needed: 7 at most" in ask(ran, "--plan", "--most", "7", status=2)
