"""The loop: a pack is its rows, a broken row is alone, a stopped run goes on as if it had not stopped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.contracts import Params
from nasplug.errors import ContractError
from nasplug.networks import forward, take
from nasplug.optimizers import SGD, Adam, Optimizer
from nasplug.replicas import normal
from nasplug.schedules import Track, linear, track
from nasplug.tasks import Kind, Split
from nasplug.testing import example_task
from nasplug.train import (
    OBJECTIVE,
    Architect,
    Batches,
    Keep,
    Report,
    Search,
    State,
    alternate,
    compile_step,
    evaluate,
    halves,
    start,
    step,
    train,
)
from nasplug.train.scoring import CHUNK_FLOATS

from .stand_ins import Dense, Openness, Squares, search

few = settings(max_examples=25, deadline=None)
METRICS = {"train_loss", "penalty", "valid_loss", "valid_error", "edges"}


def last(found: Search, state: State | None = None, **options: Any) -> Report:
    *_, report = train(found, state, **options)
    return report


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def architect(optimizer: Optimizer | None = None, share: float = 0.0, order: int = 1) -> Architect:
    """Rates that differ between the four rows."""
    return Architect(optimizer or Adam(), torch.tensor([0.03, 0.01, 0.1, 0.02], dtype=torch.float64), share, order)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "classes": {"kind": "classes", "method": Dense(skips=True, hidden=(3, 3))},
    "gates": {"method": Dense(gated=True), "penalties": (Openness(),)},
    "everything": {
        "kind": "binary",
        "method": Dense(hidden=(4, 3), skips=True, gated=True, noisy=True, act="gelu"),
        "penalties": (Squares(), Openness()),
        "batch": 7,
        "clip": 0.05,
    },
    "momentum": {"optimizer": SGD(momentum=0.9, weight_decay=0.01), "batch": 5, "clip": 1.0},
    "single level": {
        "method": Dense(gated=True),
        "architect": architect(Adam(beta1=0.5, weight_decay=1e-3)),
        "clip": 0.5,
    },
    "first order": {"method": Dense(gated=True, noisy=True), "architect": architect(share=0.5), "batch": 5},
    "second order": {
        "method": Dense(gated=True, skips=True),
        "architect": architect(share=0.4, order=2),
        "penalties": (Openness(),),
        "optimizer": SGD(momentum=0.9),
        "clip": 0.1,
    },
    "decoupled": {"optimizer": Adam(weight_decay=0.1, decoupled=True), "method": Dense(act="relu"), "batch": 24},
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_pack_is_its_rows_trained_alone(case: str) -> None:
    found = search(**CASES[case])
    reports = list(train(found, every=10))
    for k in range(len(found.seeds)):
        row = torch.tensor([k])
        alone = list(train(found.take(row), every=10))
        assert [r.step for r in alone] == [r.step for r in reports] == [10, 20, 25]
        for whole, single in zip(reports, alone, strict=True):
            for name, values in whole.metrics.items():
                assert torch.allclose(values[row], single.metrics[name], rtol=0, atol=1e-10), (k, name)
        mine = reports[-1].state.take(row)
        for name, tensor in {**mine.params, **mine.moments}.items():
            theirs = {**alone[-1].state.params, **alone[-1].state.moments}[name]
            assert torch.allclose(tensor, theirs, rtol=0, atol=1e-10), (k, name)


@pytest.mark.parametrize("case", ["plain", "everything", "second order"])
def test_room_for_more_rows_changes_none(case: str) -> None:
    """A state that was trained with room is gone on with as one without."""
    found = search(**CASES[case])
    plain, (early, *_, roomy) = last(found), list(train(found, every=10, room=9))
    assert early.step == 10
    assert len(early.state.params["bias 1"]) == len(early.healthy) == len(found.seeds)
    for name, values in plain.metrics.items():
        assert torch.allclose(values, roomy.metrics[name], rtol=0, atol=1e-12), name
    for name, leaf in {**plain.state.params, **plain.state.moments}.items():
        for other in (roomy, last(found, early.state)):
            assert torch.allclose(leaf, {**other.state.params, **other.state.moments}[name], rtol=0, atol=1e-12), name


@pytest.mark.parametrize("case", sorted(CASES))
def test_rows_differ_and_learn(case: str) -> None:
    """Else the laws above say nothing."""
    found = search(**CASES[case], steps=25)
    began, ended = start(found), last(found)
    for name, leaf in ended.state.params.items():
        assert not torch.equal(leaf, began.params[name]), name
        assert len({tuple(row) for row in leaf.flatten(1).tolist()}) == len(found.seeds), name


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -1e300])
def test_a_broken_row_is_alone(case: str, poison: float) -> None:
    found = search(**CASES[case])
    clean, broken = start(found), start(found)
    for leaf in broken.params.values():
        leaf[1] = poison
    reports = [last(found, state) for state in (clean, broken)]
    others = torch.tensor([0, 2, 3])
    equal(reports[0].state.take(others).params, reports[1].state.take(others).params)
    equal(reports[0].state.take(others).moments, reports[1].state.take(others).moments)
    for name in METRICS:
        assert torch.equal(reports[0].metrics[name][others], reports[1].metrics[name][others]), name
    assert reports[0].healthy.tolist() == [True] * 4
    if poison != -1e300:
        assert reports[1].healthy.tolist() == [True, False, True, True]


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("case", sorted(CASES))
def test_a_report_that_is_kept_stays_as_it_is(case: str, keep: Keep) -> None:
    """Nothing that follows changes it, neither the steps nor a second training from it; nor does it change the training."""
    found = replace(search(**CASES[case]), keep=keep)

    def tensors(report: Report) -> dict[str, Tensor]:
        state = report.state
        parts = {"params": state.params, "moments": state.moments, "best": state.best, "metrics": report.metrics}
        return {f"{part}/{name}": t for part, of in parts.items() for name, t in of.items()} | {"healthy": report.healthy}

    kept, seen = [], []
    for report in train(found, every=10):
        kept.append(report)
        seen.append({name: t.clone() for name, t in tensors(report).items()})
    list(train(found, kept[0].state, every=10))
    for report, before in zip(kept, seen, strict=True):
        equal(tensors(report), before)
    assert not torch.equal(kept[0].state.params["weight 1 0"], kept[1].state.params["weight 1 0"])
    for report, before in zip(train(found, every=10), seen, strict=True):
        equal(tensors(report), before)
        for t in tensors(report).values():
            t.zero_()


@pytest.mark.parametrize("case", sorted(CASES))
def test_training_goes_on_where_it_stopped(case: str) -> None:
    found = search(**CASES[case])
    whole = last(found)
    first = next(iter(train(found, every=10)))
    assert first.step == first.state.step == 10
    rest = list(train(found, first.state, every=10))
    assert [report.step for report in rest] == [20, 25]
    equal(rest[-1].state.params, whole.state.params)
    equal(rest[-1].state.moments, whole.state.moments)
    equal(dict(rest[-1].metrics), dict(whole.metrics))


@pytest.mark.parametrize("case", sorted(CASES))
def test_removing_rows_on_the_way(case: str) -> None:
    """To stop a replica is to remove its row: the others end where they would have ended."""
    found = search(**CASES[case])
    whole = last(found)
    first = next(iter(train(found, every=10)))
    rows = torch.tensor([3, 1])
    rest = last(found.take(rows), first.state.take(rows))
    for name, leaf in rest.state.params.items():
        assert torch.allclose(leaf, whole.state.params[name][rows], rtol=0, atol=1e-10), name


def test_a_row_is_its_seed_and_its_numbers() -> None:
    """Two rows with one seed and one set of numbers end equal, bit by bit, wherever they stand."""
    found = search(method=Dense(gated=True, noisy=True), penalties=(Openness(),), batch=6)
    twins = last(found.take(torch.tensor([0, 2, 0, 1, 0]))).state.params
    for name, leaf in twins.items():
        assert torch.allclose(leaf[0], leaf[2], rtol=0, atol=1e-13), name
        assert torch.allclose(leaf[0], leaf[4], rtol=0, atol=1e-13), name


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_one_step_is_torchs(kind: Kind) -> None:
    """Losses, penalties and gradients of one row, written out with torch's own pieces; SGD with rate 1 shows the gradient."""
    found = search(kind=kind, rows=3, penalties=(Squares(),), optimizer=SGD(), method=Dense(act="tanh"))
    state = start(found)
    batch = found.task.train
    level = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    before = state.copy()
    loss, penalty = step(
        found, state.params, {}, (batch.x, batch.y), torch.ones(3).double(), torch.ones(3).double(), (level,), None
    )
    assert loss.shape == penalty.shape == (3,)
    assert not loss.requires_grad
    assert not penalty.requires_grad
    for k in range(3):
        leaves = {name: p[k].clone().requires_grad_() for name, p in before.params.items()}
        hidden = torch.tanh(batch.x.T @ leaves["weight 1 0"].T + leaves["bias 1"])
        out = hidden @ leaves["weight 2 1"].T + leaves["bias 2"]
        if kind == "regression":
            wanted = torch.nn.functional.mse_loss(out, batch.y.T)
        elif kind == "binary":
            wanted = torch.nn.functional.binary_cross_entropy_with_logits(out, batch.y.T)
        else:
            wanted = torch.nn.functional.cross_entropy(out, batch.y)
        squares = leaves["weight 1 0"].square().sum() + leaves["weight 2 1"].square().sum()
        assert loss[k].item() == pytest.approx(wanted.item(), abs=1e-12)
        assert penalty[k].item() == pytest.approx(float(level[k]) * squares.item(), abs=1e-12)
        (wanted + level[k] * squares).backward()
        for name, leaf in leaves.items():
            assert leaf.grad is not None
            moved = before.params[name][k] - state.params[name][k]
            assert torch.allclose(moved, leaf.grad, rtol=0, atol=1e-12), name


def test_k_appears_where_it_should_and_nowhere_else() -> None:
    """The same row beside 1, 3 or 6 others has the same losses: nothing is averaged over K."""
    found = search(rows=6, penalties=(Squares(),), clip=0.1)
    wanted = last(found).metrics
    for rows in (1, 2, 4):
        metrics = last(found.take(torch.arange(rows))).metrics
        assert metrics.keys() == METRICS
        for name, values in metrics.items():
            assert values.shape == (rows,), name
            assert torch.allclose(values, wanted[name][:rows], rtol=0, atol=1e-10), name


def test_reports() -> None:
    found = search(steps=7)
    reports = list(train(found, every=3))
    assert [report.step for report in reports] == [3, 6, 7]
    assert {report.steps for report in reports} == {7}
    assert all(report.healthy.dtype == torch.bool for report in reports)
    task = found.task
    nets = found.method.relax(reports[-1].state.params, found.tau.at(6))
    scores = task.metrics(forward(nets, task.valid.x), task.valid.y)
    assert torch.equal(reports[-1].metrics["valid_loss"], scores["loss"])
    assert torch.equal(reports[-1].metrics["valid_error"], scores["error"])
    assert list(train(found, reports[-1].state)) == []
    assert [report.step for report in train(found, every=100)] == [7]


def test_the_type_of_the_task_is_the_type_of_everything() -> None:
    found = search(dtype=torch.float32, penalties=(Squares(),), steps=3)
    state = last(found).state
    assert {t.dtype for t in (*state.params.values(), *state.moments.values())} == {torch.float32}


def test_a_parameter_that_nothing_reads_stays() -> None:
    @dataclass(frozen=True)
    class Extra(Dense):
        def init(self, task: Any, seeds: Tensor) -> Params:
            return super().init(task, seeds) | {"bias 9": normal(seeds, "unread", ())}

        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Any:
            return super().relax({n: p for n, p in params.items() if n != "bias 9"}, tau, noise)

    found = search(method=Extra(), clip=1.0)
    state = last(found).state
    assert torch.equal(state.params["bias 9"], normal(found.seeds, "unread", ()))


def test_projection_follows_each_step() -> None:
    seen: list[tuple[int, int]] = []

    @dataclass(frozen=True)
    class Rounded(Dense):
        def project(self, params: Params, step: int, steps: int) -> Params:
            seen.append((step, steps))
            return {name: p if name.startswith("bias") else p.clamp(-0.2, 0.2) for name, p in params.items()}

    report = last(search(method=Rounded(), steps=6), every=2)
    assert seen == [(t, 6) for t in range(1, 7)]
    assert all(float(p.abs().max()) <= 0.2 for name, p in report.state.params.items() if name.startswith("weight"))


# Minibatches.


def numbered(samples: int) -> Split:
    """A split whose inputs and targets are the numbers of its samples."""
    x = torch.arange(samples, dtype=torch.float64).view(1, samples)
    return Split(x, 10.0 * x)


@few
@example(samples=4, batch=2, seed=2**63 - 1)
@example(samples=4, batch=2, seed=-(2**63))
@given(samples=st.integers(2, 30), batch=st.integers(1, 30), seed=st.integers(-(2**63), 2**63 - 1))
def test_an_epoch_shows_every_sample_at_most_once(samples: int, batch: int, seed: int) -> None:
    batches = Batches(numbered(samples), batch, seed)
    size = min(batch, samples)
    per_epoch = samples // size
    for epoch in range(3):
        shown = [batches.at(epoch * per_epoch + position) for position in range(per_epoch)]
        assert all(part.x.shape == part.y.shape == (1, size) for part in shown)
        assert all(torch.equal(part.y, 10.0 * part.x) for part in shown)
        numbers = torch.cat([part.x[0] for part in shown]).tolist()
        assert len(set(numbers)) == len(numbers) == per_epoch * size
        if samples % size == 0:
            assert sorted(numbers) == list(range(samples))


@few
@given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=8), seed=st.integers(0, 5))
def test_a_batch_is_a_function_of_the_step(steps: list[int], seed: int) -> None:
    here = Batches(numbered(11), 3, seed)
    for t in steps:
        assert torch.equal(here.at(t).x, Batches(numbered(11), 3, seed).at(t).x)


def test_epochs_and_data_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> tuple[float, ...]:
        batches = Batches(numbered(12), 4, seed)
        return tuple(v for position in range(3) for v in batches.at(3 * epoch + position).x[0].tolist())

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_over_epochs_every_sample_is_shown_even_where_the_last_batch_is_dropped() -> None:
    batches = Batches(numbered(7), 3, 0)
    shown = {v for t in range(40) for v in batches.at(t).x[0].tolist()}
    assert shown == set(range(7))


@pytest.mark.parametrize("batch", [None, 7, 100])
def test_a_full_batch_is_the_split_itself(batch: int | None) -> None:
    split = numbered(7)
    assert Batches(split, batch, 0).at(5) is split


# Scoring.


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_scores_in_pieces_are_the_scores_of_the_whole(kind: Kind) -> None:
    task = example_task(kind, inputs=1, samples=20_000)
    method = Dense(hidden=(4,))
    nets = method.relax(method.init(task, torch.arange(55)), torch.ones(55))
    assert nets.replicas * sum(nets.widths[1:]) * task.valid.samples > CHUNK_FLOATS  # in more than one piece
    found = evaluate(task, task.valid, nets, forward)
    whole = task.metrics(forward(nets, task.valid.x), task.valid.y)
    assert found.keys() == whole.keys()
    for name, values in whole.items():
        assert found[name].shape == (55,)
        assert torch.allclose(found[name], values, rtol=0, atol=1e-12), name
    some = torch.tensor([54, 3])
    for name, values in evaluate(task, task.valid, take(nets, some), forward).items():
        assert torch.allclose(values, whole[name][some], rtol=0, atol=1e-12), name


def test_one_network_larger_than_a_piece_is_still_scored() -> None:
    task = example_task(inputs=1, samples=300_000)
    method = Dense(hidden=(20,))
    nets = method.relax(method.init(task, torch.arange(2)), torch.ones(2))
    assert sum(nets.widths[1:]) * task.valid.samples > CHUNK_FLOATS
    assert evaluate(task, task.valid, nets, forward)["loss"].isfinite().tolist() == [True, True]


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_a_broken_network_has_no_score(kind: Kind) -> None:
    task = example_task(kind)
    method = Dense()
    params = method.init(task, torch.arange(3))
    params["bias 2"][1] = torch.nan
    scores = evaluate(task, task.valid, method.relax(params, torch.ones(3)), forward)
    for name, values in scores.items():
        assert [math.isnan(v) for v in values.tolist()] == [False, True, False], name


# Compiled.


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step(recwarn: pytest.WarningsRecorder) -> None:
    """With everything in it that a step may have, and one row broken from the start."""
    found = search(Dense(hidden=(3,), gated=True, noisy=True), penalties=(Openness(),), batch=8, clip=0.5, dtype=torch.float32)
    broken = start(found)
    for leaf in broken.params.values():
        leaf[1] = torch.nan
    eager, compiled = last(found), last(found, broken, compiled=True)
    assert not [str(w.message) for w in recwarn if "cannot compile" in str(w.message)]
    others = torch.tensor([0, 2, 3])
    for name, leaf in eager.state.params.items():
        assert torch.allclose(leaf[others], compiled.state.params[name][others], rtol=0, atol=1e-5), name
    for name, values in eager.metrics.items():
        assert torch.allclose(values[others], compiled.metrics[name][others], rtol=1e-5, atol=1e-5), name
    assert compiled.healthy.tolist() == [True, False, True, True]


@pytest.mark.slow
def test_packs_of_one_shape_share_a_program_and_numbers_outside_of_tensors_do_not() -> None:
    """Each is trained as if it were alone in its process: what a program was made for is checked."""
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    found = search(Dense(hidden=(3,), noisy=True, gated=True), penalties=(Openness(),), batch=8, clip=0.05)
    others = [
        replace(found, seeds=found.seeds + 10, lr=found.lr.take(torch.tensor([3, 1, 0, 2]))),
        replace(found, seeds=found.seeds[:3], lr=found.lr.take(torch.arange(3)), tau=found.tau.take(torch.arange(3)),
                levels=tuple(level.take(torch.arange(3)) for level in found.levels)),
        replace(found, clip=0.01),
    ]  # fmt: skip
    before, made = counters["stats"]["unique_graphs"], []
    for each in (found, *others):
        eager, compiled = last(each), last(each, compiled=True, room=len(found.seeds))
        made.append(counters["stats"]["unique_graphs"] - before)
        for name, leaf in eager.state.params.items():
            assert torch.allclose(leaf, compiled.state.params[name], rtol=0, atol=1e-10), (len(made), name)
    assert made == [1, 1, 1, 2]


def test_the_second_order_is_the_derivative_through_one_step() -> None:
    """DARTS' finite difference against autograd through the step ahead, and the two halves of the data are apart."""
    method = Dense(gated=True)
    found = search(method=method, architect=architect(SGD(), share=0.5, order=2), optimizer=SGD())
    inner, held = halves(found.task.train, 0.5, 0)
    columns = {tuple(c) for c in found.task.train.x.T.tolist()}
    assert {tuple(c) for c in inner.x.T.tolist()} | {tuple(c) for c in held.x.T.tolist()} == columns
    assert inner.samples == held.samples == 12
    state = start(found)
    before = state.copy().params
    lr, tau = found.lr.at(3), found.tau.at(3)
    alternate(found, state.params, state.moments, (inner.pair, held.pair), lr, tau, (), None)

    def loss(leaves: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        return found.task.losses(forward(method.relax(leaves, tau), batch[0]), batch[1])

    leaves = {name: p.clone().requires_grad_() for name, p in before.items()}
    weights, logits = found.weights(leaves), found.architecture(leaves)
    assert sorted(logits) == ["logit 1 0", "logit 2 1"]
    slopes = torch.autograd.grad(loss(leaves, inner.pair).sum(), list(weights.values()), create_graph=True)
    ahead = {n: w - lr.view(-1, *[1] * (w.dim() - 1)) * g for (n, w), g in zip(weights.items(), slopes, strict=True)}
    wanted = torch.autograd.grad(loss(leaves | ahead, held.pair).sum(), list(logits.values()))
    assert found.architect is not None
    for (name, old), gradient in zip(logits.items(), wanted, strict=True):
        toward = (old - state.params[name]) / found.architect.lr.view(-1, 1, 1)
        assert torch.allclose(toward, gradient, rtol=1e-3, atol=1e-6), name


def test_a_search_without_an_architect_cannot_alternate() -> None:
    found = search()
    state = start(found)
    pair = found.task.train.pair
    with pytest.raises(ContractError, match="take step"):
        alternate(found, state.params, state.moments, (pair, pair), found.lr.at(0), found.tau.at(0), (), None)


@pytest.mark.slow
def test_a_compiled_bilevel_step_is_the_same_step(recwarn: pytest.WarningsRecorder) -> None:
    found = search(method=Dense(gated=True), architect=architect(share=0.5, order=2), batch=6, clip=1.0, dtype=torch.float32)
    eager, compiled = last(found), last(found, compiled=True)
    assert not [w for w in recwarn if "uncompiled" in str(w.message)]
    for name, leaf in eager.state.params.items():
        assert torch.allclose(leaf, compiled.state.params[name], rtol=0, atol=1e-4), name


def test_the_best_iterate_is_kept_row_by_row_and_through_a_stop() -> None:
    """Adam at a rate far too large wanders: the last iterate is not the best one."""

    def numbers(values: list[float], *schedules: Callable[[float], float]) -> Track:
        return track(schedules or [lambda progress: 1.0], [k % max(len(schedules), 1) for k in range(4)], values, 40)

    settled = replace(
        search(Dense(gated=True), penalties=(Squares(),), steps=40, batch=6, keep="best"),
        lr=numbers([0.3, 1.0, 0.5, 2.0]),
        tau=numbers([1.0, 1.0, 2.0, 2.0], linear(start=2.0, end=1.0, until=0.4), linear(start=2.0, end=1.0, until=0.7)),
        levels=(numbers([1e-3, 1e-2, 1e-3, 1e-2], linear(until=0.3)),),
    )
    reports = list(train(settled, every=4))
    objectives = []
    for report in train(replace(settled, keep="last"), every=4):
        nets = settled.method.relax(report.state.params, settled.tau.at(report.step - 1))
        value = evaluate(settled.task, settled.task.valid, nets, forward)["loss"]
        value = value + settled.levels[0].at(report.step - 1) * Squares()(nets)
        same = settled.tau.at(report.step - 1) == settled.tau.at(39)
        objectives.append(torch.where(same, value, torch.inf))
    wanted = torch.stack(objectives).min(0).values
    kept = reports[-1].state
    assert torch.allclose(kept.best[OBJECTIVE], wanted)
    nets = settled.method.relax(kept.kept, settled.tau.at(39))
    value = evaluate(settled.task, settled.task.valid, nets, forward)["loss"] + settled.levels[0].at(39) * Squares()(nets)
    assert torch.allclose(value, wanted)
    assert not torch.equal(kept.kept["weight 1 0"], kept.params["weight 1 0"])
    stopped = next(report for report in train(settled, every=4) if report.step == 32).state
    assert torch.equal(last(settled, stopped, every=4).state.best[OBJECTIVE], kept.best[OBJECTIVE])
    row = torch.tensor([2])
    alone = last(settled.take(row), every=4).state
    assert torch.allclose(alone.best[OBJECTIVE], wanted[row])


def test_a_row_that_ends_broken_keeps_what_it_had() -> None:
    one = track([lambda progress: 1.0], [0] * 4, [1.0] * 4, 20)
    found = replace(search(keep="best", steps=20), tau=one)
    state = next(iter(train(found, every=10))).state
    good = {name: p[1].clone() for name, p in state.kept.items()}
    state.params["weight 1 0"][1] = torch.nan
    ended = last(found, state, every=10)
    assert ended.healthy.tolist() == [True, False, True, True]
    for name, p in ended.state.kept.items():
        assert torch.equal(p[1], good[name])


def test_a_method_that_replaces_its_leaves_keeps_the_best_of_the_new_ones() -> None:
    @dataclass(frozen=True)
    class Switching(Dense):
        def init(self, task: Any, seeds: Tensor) -> Params:
            return super().init(task, seeds) | {"late bias 1": normal(seeds, "late", self.hidden)}

        def relax(self, params: Params, tau: Tensor, noise: Tensor | None = None) -> Any:
            plain = {n: p for n, p in params.items() if n != "late bias 1"}
            return super().relax({"bias 1": params["late bias 1"], **plain}, tau, noise)

        def project(self, params: Params, step: int, steps: int) -> Params:
            return {n: p for n, p in params.items() if n != "bias 1"} if step >= 10 else params

    one = track([lambda progress: 1.0], [0] * 4, [1.0] * 4, 20)
    found = replace(search(method=Switching(), keep="best", steps=20), tau=one)
    reports = list(train(found, every=5))
    assert "bias 1" in reports[0].state.kept
    assert reports[-1].state.kept.keys() == reports[-1].state.params.keys()
    assert "bias 1" not in reports[-1].state.kept
    after = [report for report in reports if report.step >= 10]
    wanted = torch.stack([report.metrics["valid_loss"] for report in after]).min(0).values
    assert torch.allclose(reports[-1].state.best[OBJECTIVE], wanted)


@pytest.mark.slow
def test_where_dynamo_cannot_say_why_a_program_does_not_fit_the_programs_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at places that only an earlier program's arguments had: an IndexError from inside of torch."""
    from torch._dynamo import convert_frame

    asked: list[bool] = []

    def get_and_maybe_log_recompilation_reasons(*given: Any, **options: Any) -> list[str]:
        asked.append(True)
        raise IndexError("tuple index out of range")

    def doubled(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1.0, 2.0 * x

    name = get_and_maybe_log_recompilation_reasons.__name__
    assert hasattr(convert_frame, name)
    monkeypatch.setattr(convert_frame, name, get_and_maybe_log_recompilation_reasons)
    move = compile_step(doubled)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for size in (3, 4, 3):
            x = torch.arange(float(size))
            torch.testing.assert_close(move(x), doubled(x))
    assert len(asked) == 2
