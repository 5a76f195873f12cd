"""Selection frequency over complementary half samples: bounds, half samples, counts, and a study that has them."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import Networks, Study
from nasplug.cli import main
from nasplug.config import parse
from nasplug.data.datasets import diabetes, iris
from nasplug.data.resampling import half_samples
from nasplug.errors import ConfigError
from nasplug.networks import sizes
from nasplug.packs import TABLE, run_pack
from nasplug.plan import Pack, axes, check_halves, components, halves, linear_packs
from nasplug.plan.linear import half_pace
from nasplug.plan.linear import path_of as path_of_data
from nasplug.plugins import load_plugins
from nasplug.stability import concave, inputs_of, path_of, stable, tally, unimodal, whole_pairs, worst
from nasplug.stability.bounds import tails
from nasplug.stability.levels import wanted
from nasplug.tasks import Split, unscaled

SUBSAMPLES = 8


def raw(store: Path, **changes: Any) -> dict[str, Any]:
    """A study of seconds."""
    return {
        "study": "steady",
        "store": str(store),
        "task": {"use": "diabetes", "validation": {"use": "folds", "folds": 2}},
        "method": {"use": "edges", "mode": "l1", "hidden": [3]},
        "penalties": [{"use": "l1", "level": {"grid": [0.01, 0.05, 0.2]}}],
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 60, "lr": 0.05, "finetune": 5, "reports": 2, "dtype": "float64"},
        "seeds": 1,
        "linear": False,
        "reach": None,
        "mlflow": None,
        "stability": {"subsamples": SUBSAMPLES, "threshold": 0.75},
    } | changes


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.from_dict(raw(tmp_path_factory.mktemp("runs"))).run("serial")


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_bounds_as_published() -> None:
    assert worst(2, 9, 0.75) == pytest.approx(4 / 9 / 0.5)
    assert unimodal(2, 9, 0.75, 50) == pytest.approx(4 / 9 / 0.98)  # the example of the R package stabs: PFER 0.454
    assert unimodal(2, 9, 0.9, 50) == pytest.approx(4 / 9 * 4 * 0.11 / 1.02)
    assert worst(2, 9, 0.5) == 9
    assert unimodal(6, 9, 0.9, 50) == worst(6, 9, 0.9)  # theta above 1 / sqrt(3)
    assert unimodal(5, 9, 0.7, 50) == worst(5, 9, 0.7)  # tau below 1/2 + 1/(2B) + 3/4 theta^2
    assert worst(0, 9, 0.9) == unimodal(0, 9, 0.9, 50) == concave(0, 9, 0.9, 50) == 0
    assert concave(50, 1000, 0.6, 50) < unimodal(50, 1000, 0.6, 50) < worst(50, 1000, 0.6)


@settings(deadline=None, max_examples=60)
@given(
    p=st.integers(1, 60), share=st.floats(0, 1), low=st.floats(0.51, 1), high=st.floats(0.51, 1), pairs=st.sampled_from([4, 10])
)
def test_bounds_fall_with_the_frequency(p: int, share: float, low: float, high: float, pairs: int) -> None:
    low, high = sorted((low, high))
    q = share * p
    assert 0 <= worst(q, p, high) <= worst(q, p, low) <= p
    for tau in (low, high):
        assert 0 <= unimodal(q, p, tau, pairs) <= worst(q, p, tau)
        assert 0 <= concave(q, p, tau, pairs) <= worst(q, p, tau)
    assert concave(q, p, high, pairs) <= concave(q, p, low, pairs) + 1e-12


@settings(deadline=None, max_examples=100)
@given(
    n=st.integers(2, 12),
    slopes=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    floor=st.floats(1e-3, 10),
    r=st.sampled_from([-0.5, -0.25]),
)
def test_no_concave_distribution_has_a_larger_tail(n: int, slopes: list[float], floor: float, r: float) -> None:
    """P(X = i)^r is convex: the sums of slopes that rise."""
    convex = np.concatenate([[0.0], np.cumsum(sorted(slopes[:n]))])
    law = (convex - convex.min() + floor) ** (1.0 / r)
    law = np.concatenate([law, np.zeros(n + 1 - len(law))])
    law /= law.sum()
    most = tails(float(law @ np.arange(n + 1)) / n, n, r)
    assert (law[::-1].cumsum()[::-1] <= most * (1 + 1e-4) + 1e-9).all()


def test_the_bound_holds_for_items_that_are_drawn() -> None:
    """Each half sample selects each of 40 items by chance: as many reach the threshold as is allowed, or fewer."""
    draw = np.random.default_rng(0)
    for theta in (0.1, 0.3, 0.5):
        kept = draw.random((200, 40, 20)) < theta
        share, q = kept.mean(2), kept.mean(2).sum(1).mean()
        for tau in (0.55, 0.7, 0.9):
            reached = (share >= tau).sum(1).mean()
            assert reached <= concave(q, 40, tau, 10) + 1e-9 <= worst(q, 40, tau) + 2e-9


# -- half samples ------------------------------------------------------------------------------------------------------


def test_half_samples_are_complementary_pairs() -> None:
    task = iris(validation="holdout")
    made = half_samples(task, 6, 3)
    train, y = made.train, task.development.y
    assert made.train is made.valid
    assert not bool((train[0::2] * train[1::2]).any())
    for label in range(3):
        members = (y == label).float()
        assert set((train * members).sum(1).tolist()) == {float(members.sum() // 2)}
    assert torch.equal(half_samples(task, 10, 3).train[:6], train)  # more of them leave the first ones
    assert not torch.equal(half_samples(task, 6, 4).train, train)
    numbers = half_samples(diabetes(validation="holdout"), 2, 0).train
    assert numbers.sum(1).tolist() == [numbers.shape[1] // 2] * 2
    assert whole_pairs({0, 1, 2, 5, 6, 7}) == {0, 1, 6, 7}


def test_a_network_learns_from_its_half_alone() -> None:
    study = parse(raw(Path("x"), penalties=[], discretizers=[]))
    pack = Pack("s0000", {}, {}, [0] * 3, [0] * 3, folds=[3, 0, 1])
    task = components(study, pack, load_plugins()).task
    whole = half_samples(diabetes(validation="holdout"), 4, 0).train.shape[1]
    assert task.train.weights is not None
    assert task.valid.weights is not None
    assert torch.equal(task.train.weights, task.valid.weights)
    assert task.train.weights.sum(1).tolist() == [whole // 2] * 3
    assert not bool((task.train.weights[1] * task.train.weights[2]).any())


# -- counts ------------------------------------------------------------------------------------------------------------


def deep() -> Networks:
    """Two networks of 4 inputs, two hidden layers of 2: in the first 0 and 1 meet in layer 2; in the second all is dead."""
    first, second, last = torch.zeros(2, 2, 4), torch.zeros(2, 2, 2), torch.zeros(2, 1, 2)
    first[0, 0, 0] = first[0, 1, 1] = first[1, 0, 2] = 1.0
    second[0, 0, :] = 1.0
    second[0, 1, 0] = 1.0
    last[0, 0, 0] = 1.0
    skip = torch.zeros(2, 1, 4)
    skip[0, 0, 3] = 1.0
    return Networks(widths=(4, 2, 2, 1), blocks={(1, 0): first, (2, 1): second, (3, 2): last, (3, 0): skip})


def test_what_is_counted() -> None:
    nets = deep()
    found = tally(nets, torch.tensor([0, 1]))
    assert found.networks == 2
    assert found.inputs.tolist() == [1, 1, 0, 1]
    assert found.pairs is not None
    assert found.pairs.nonzero().tolist() == [[0, 1], [1, 0]]  # input 3 goes to the output alone: it cannot interact
    assert found.depths.tolist() == [1, 0, 1]
    assert found.activations is None
    assert torch.equal(inputs_of(nets).sum(1), sizes(nets)["inputs"])
    joined = replace(nets, groups=(0, 0, 1, 1))  # inputs of one column
    assert tally(joined, torch.tensor([0])).inputs.tolist() == [1, 1]
    assert not bool(tally(joined, torch.tensor([0])).pairs.any())  # type: ignore[union-attr]
    choices = {layer: torch.eye(2).expand(2, 2, 2) for layer in (1, 2)}
    mixed = replace(nets, candidates=("relu", "tanh"), choices=choices)
    one = tally(mixed, torch.tensor([0]))
    assert one.activations is not None
    assert one.activations.tolist() == [1, 1]
    again = tally(mixed, torch.tensor([0, 0, 1])) + one
    assert (again.networks, again.inputs.tolist()) == (4, [3, 3, 0, 3])


def test_which_configurations_are_counted() -> None:
    penalties = [{"use": "l1", "level": {"grid": [1.0, 2.0, 3.0]}}]
    found = axes(parse(raw(Path("x"), penalties=penalties, train={"lr": {"grid": [0.1, 0.2]}})))
    rows = [(level, lr) for level in (1.0, 2.0, 3.0) for lr in (0.1, 0.2)]
    frame = pd.DataFrame([{"configuration": n, "penalties.0.level": v, "train.lr": lr} for n, (v, lr) in enumerate(rows)])
    frame["method.use"] = "edges"
    assert path_of(frame, frame.iloc[3], found) == ("penalties.0.level", [1, 3, 5])
    assert wanted(frame.iloc[[0, 3]], frame, frame.iloc[3], found, 8) == [0, 1, 3, 5]
    assert wanted(frame.iloc[[0, 3, 5]], frame, frame.iloc[3], found, 2) in ([0, 1, 3], [0, 1, 3, 5])
    assert 3 in wanted(frame, frame, frame.iloc[3], found, 1)


# -- a study -----------------------------------------------------------------------------------------------------------


def test_the_table_is_what_its_networks_kept(done: Study) -> None:
    table = done.stability()
    assert set(table["kind"]) == {"input", "pair", "depth"}
    assert set(table["configuration"]) == {0, 1, 2}  # all levels of the path
    inputs = table[table["kind"] == "input"]
    assert len(inputs) == 3 * 10
    assert set(table["networks"]) == {SUBSAMPLES}
    assert (table["frequency"] == table["kept"] / SUBSAMPLES).all()
    assert inputs.loc[inputs["frequency"] <= 0.5, "bound"].isna().all()
    assert inputs.loc[inputs["frequency"] > 0.5, "bound"].notna().all()
    kept = pd.Series(0, index=inputs.set_index(["configuration", "item"]).index)
    for path in sorted((done.folder / "packs").glob("s*")):
        plan = json.loads((path / "pack.json").read_text())["pack"]
        read = inputs_of(done.networks(path.name))
        assert sorted(set(plan["folds"])) == list(range(SUBSAMPLES))
        for row, number in enumerate(plan["configurations"]):
            for at in read[row].nonzero().flatten().tolist():
                kept[number, done.task.columns[at]] += 1
    assert (kept.to_numpy() == inputs["kept"].to_numpy()).all()


def test_networks_get_columns_and_fronts(done: Study) -> None:
    frame, table = done.frame, done.stability()
    assert not frame["replica"].str.startswith("s").any()  # networks on half samples are counted, and no rows
    best = done.best()
    shares = table[(table["kind"] == "input") & (table["configuration"] == best["configuration"])].set_index("item")[
        "frequency"
    ]
    mine = shares[[name for name, _ in done.network().columns]]
    assert best["least_frequency"] == mine.min()
    assert best["stable_inputs"] == (mine >= 0.75).sum()
    share = float(done.front()["least_frequency"].max())
    steady = done.front(stable=share)
    assert len(steady)
    assert (steady["least_frequency"] >= share).all()
    assert done.within(0.0, edges=1000)["replica"] in set(done.front()["replica"])
    with pytest.raises(ConfigError, match="needed: a share"):
        done.front(stable=2)
    with pytest.raises(ConfigError, match="no complementary pair of half samples has networks that finished"):
        stable(frame.assign(least_frequency=float("nan")), 0.5)


def test_it_is_told(done: Study) -> None:
    told = json.loads((done.folder / "stability.json").read_text())["sentence"]
    assert f"of {SUBSAMPLES} half samples; " in told
    assert "of 10 inputs reach 0.75" in told
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    assert "How often its inputs are kept" in page
    assert told.split(";")[0] in page
    assert (done.folder / "frequencies.png").exists()
    shown = CliRunner().invoke(main, ["front", str(done.folder), "--stable", "0", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["stable"] == 0
    whole = CliRunner().invoke(main, ["front", str(done.folder), "--json"])
    assert json.loads(whole.output)["stability"] == told
    words = CliRunner().invoke(main, ["front", str(done.folder), "--stable", "0"])
    assert "3 configurations were counted" in words.output.replace("\n", " ")


@pytest.mark.slow
def test_it_is_resumed_and_extended(done: Study, tmp_path: Path) -> None:
    there = tmp_path / "steady"
    shutil.copytree(done.folder, there)
    before, first = {path.name for path in there.glob("packs/*")}, done.stability()
    again = Study.from_dict(raw(tmp_path)).run("serial")
    assert {path.name for path in there.glob("packs/*")} == before
    assert again.stability().equals(first)
    more = Study.from_dict(raw(tmp_path, stability={"subsamples": SUBSAMPLES + 2})).run("serial")
    new = {path.name for path in there.glob("packs/*")} - before
    assert new
    assert all(name.startswith("s") for name in new)
    assert sum(len(more.networks(name).biases[1]) for name in new) == 3 * 2
    assert set(more.stability()["networks"]) == {SUBSAMPLES + 2}
    without = Study.from_dict(raw(tmp_path, stability=False)).run("serial")
    assert "least_frequency" not in without.frame
    assert not (there / "frequencies.png").exists()
    with pytest.raises(ConfigError, match="write stability: true"):
        without.front(stable=0.5)
    with pytest.raises(ConfigError, match=r"has no stability\.parquet"):
        without.stability()


@pytest.mark.slow
def test_counts_do_not_depend_on_packs(done: Study, tmp_path: Path) -> None:
    """Row law, to the table."""
    table = Study.from_dict(raw(tmp_path, resources={"pack": 5})).run("serial").stability()
    assert (table["kept"].to_numpy() == done.stability()["kept"].to_numpy()).all()


def test_linear_networks_are_counted_in_packs_of_their_own() -> None:
    study = parse(raw(Path("x"), linear=True, train={"steps": 5}))
    plugins = load_plugins()
    packs = linear_packs(study, plugins, 3)
    numbers = packs[0].configurations[:2]
    found = halves(study, {int(numbers[0]): 0, int(numbers[1]): 2}, 4, packs, plugins)
    assert {pack.id[:2] for pack in found} == {"ls"}
    assert all(pack.linear and pack.halved for pack in found)
    rows = {(c, half) for pack in found for c, half in zip(pack.configurations, pack.folds, strict=True)}
    assert rows == {(numbers[0], half) for half in range(4)} | {(numbers[1], half) for half in (2, 3)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": {"use": "diabetes", "validation": {"use": "groups", "by": "sex"}}}, "validation 'groups', where samples"),
        ({"task": {"use": "diabetes", "validation": {"use": "time"}}}, "validation 'time', where samples"),
        ({"task": {"use": "digits_images"}}, "images, whose pixels are no columns"),
        ({"task": {"use": "diabetes", "seed": {"grid": [0, 1]}}}, r"several data sets \(task.seed\)"),
        ({"method": {"use": "edges", "stem": {"image": [1, 8, 8]}}}, "a stem, which reads the whole image"),
    ],
)
def test_what_cannot_be_halved_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_halves(parse(raw(Path("x"), **changes)), load_plugins())


def test_plans_say_what_it_costs(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(raw(tmp_path, stability=True)))
    shown = CliRunner().invoke(main, ["plan", str(file), "--fast"])
    assert "at most 1,600 networks more, 100 half samples of each configuration" in shown.output.replace("\n", " ")


# -- what held-out samples are not -------------------------------------------------------------------------------------


def test_no_score_on_half_samples_passes_for_one_on_held_out_samples(tmp_path: Path) -> None:
    study, plugins = parse(raw(Path("x"), train={"steps": 4, "reports": 2})), load_plugins()
    pack = Pack("s0000", {"penalties.0.level": 0.01}, {}, [0] * 2, [0] * 2, folds=[0, 1])
    told = list(run_pack(study, pack, plugins, tmp_path / pack.id))
    assert all(math.isnan(one.best_valid_error) for one in told)  # of the terminal and of other observers
    names = pq.read_schema(tmp_path / pack.id / TABLE).names
    assert {"fitted_error", "history_fitted_error"} <= set(names)
    assert not [name for name in names if "valid" in name and not name.startswith("relaxed_")], names


def test_linear_networks_on_half_samples_take_steps_that_are_short_enough() -> None:
    """A half that has one sample far away has nearly twice the curvature of all samples."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, generator=generator)
    x[:, 35] = 100.0  # of the validation split, which the sweep does not train on
    whole = Split(x, x[:1].clone())
    parts = (whole.columns(torch.arange(a, b)) for a, b in ((0, 30), (30, 40), (0, 5)))
    task = unscaled("far", tuple(parts))  # type: ignore[arg-type]
    halves = half_samples(task, 4, 0)
    made = torch.cat([x, torch.ones(1, 40)]).double()
    steepest = max(float(torch.linalg.eigvalsh((made * w / w.sum()) @ made.T).max()) for w in halves.train.double())
    assert 2.0 * steepest * path_of_data(task).lr > 4 / 3  # where momentum is no longer stable
    assert 2.0 * steepest * half_pace(task, 0) <= 1.0


def test_wide_data_are_counted_in_little_memory() -> None:
    columns = 60_000  # a square of them has 14 GB
    gate = torch.zeros(2, 1, columns)
    gate[0, 0, 7] = gate[1, 0, 5] = gate[1, 0, 6] = 1.0
    nets = Networks(widths=(columns, 1), blocks={(1, 0): gate})
    assert inputs_of(nets).nonzero().tolist() == [[0, 7], [1, 5], [1, 6]]
    assert tally(nets, torch.tensor([0, 1])).inputs.sum() == 3
