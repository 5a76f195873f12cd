"""Sample weights: a loss is a weighted mean, a pack is its rows with their weights, a weight of 2 is a sample twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nasplug.discretize import discretize
from nasplug.errors import ConfigError
from nasplug.finetune import finetune, retrain
from nasplug.networks import harden
from nasplug.plugins import load_plugins
from nasplug.replicas import normal
from nasplug.tasks import Kind, Split, Task, mean, variance
from nasplug.testing import example_task
from nasplug.testing.comparing import same, tensors_of
from nasplug.testing.examples import example_networks, example_score, weighted
from nasplug.train import Batches, ValidationLoss, evaluate, halves
from nasplug.train.scoring import kept, portioned

from .stand_ins import Dense, Openness, Squares, search
from .test_train import architect, last

KINDS: list[Kind] = ["regression", "binary", "classes"]
ONE = torch.ones(1)


def one_row(task: Task, k: int) -> Task:
    """Row k with weights ``(N,)``."""
    own = task.take(torch.tensor([k]))
    return replace(own, train=flat(own.train), valid=flat(own.valid))


def flat(split: Split) -> Split:
    return split if split.weights is None else replace(split, weights=split.weights[0])


def test_a_mean_is_weighted() -> None:
    values = torch.tensor([[1.0, 2.0, 6.0], [4.0, torch.nan, 8.0]])
    assert mean(values[:1]).tolist() == [3.0]
    assert mean(values, torch.tensor([3.0, 0.0, 1.0])).tolist() == [2.25, 5.0]  # what has no weight is not looked at
    assert mean(values, torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])).tolist() == [4.0, 0.0]
    y = torch.tensor([[0.0, 2.0, 5.0]])
    assert float(variance(y, torch.tensor([1.0, 1.0, 0.0]))) == 1.0
    assert variance(y, torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 7.0]])).tolist() == [1.0, 0.0]
    torch.testing.assert_close(variance(y, torch.ones(3)), variance(y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["losses", "errors", "metrics"])
def test_a_weight_of_two_is_a_sample_twice(kind: Kind, name: str) -> None:
    task = example_task(kind)
    outputs = normal(torch.arange(3), "outputs", (task.outputs, 24)).double()
    counts = torch.arange(24) % 3
    index = torch.arange(24).repeat_interleave(counts)
    found = getattr(task, name)(outputs, task.valid.y, counts.double())
    wanted = getattr(task, name)(outputs[..., index], task.valid.y[..., index])
    own = getattr(task, name)(outputs, task.valid.y, counts.double().expand(3, -1))
    for made in (found, own):
        for one, other in zip(made.values(), wanted.values(), strict=True) if name == "metrics" else [(made, wanted)]:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_weights_in_a_batch_has_no_loss_and_no_slope(kind: Kind) -> None:
    task = example_task(kind)
    outputs = normal(torch.arange(2), "outputs", (task.outputs, 24)).double().requires_grad_()
    weights = torch.stack([torch.zeros(24), torch.ones(24)]).double()
    loss = task.losses(outputs, task.train.y, weights)
    assert float(loss[0].detach()) == 0.0
    (slope,) = torch.autograd.grad(loss.sum(), outputs)
    assert bool((slope[0] == 0).all())
    assert bool((slope[1] != 0).any())


CASES: dict[str, dict[str, Any]] = {
    "plain": {"penalties": (Squares(),)},
    "minibatches": {"method": Dense(gated=True, noisy=True), "penalties": (Openness(),), "batch": 5, "clip": 0.5},
    "classes": {"kind": "classes", "batch": 7},
    "binary": {"kind": "binary", "method": Dense(hidden=(4, 3), skips=True), "keep": "best"},
    "first order": {"method": Dense(gated=True), "architect": architect(share=0.5), "batch": 5},
    "second order": {"method": Dense(gated=True), "architect": architect(share=0.4, order=2), "clip": 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_a_pack_with_weights_is_its_rows(case: str) -> None:
    base = search(**CASES[case])
    whole = replace(base, task=weighted(base.task, 4, seed=3))
    together = last(whole, every=10)
    nets = harden(whole.relax(together.state.kept, whole.tau.at(24)))
    tuned = [tensors_of(made(whole, nets, 5, whole.lr.scale)) for made in (finetune, retrain)]
    for k in range(4):
        row = torch.tensor([k])
        alone = replace(base.take(row), task=one_row(whole.task, k))
        single = last(alone, every=10)
        same({n: v[row] for n, v in together.metrics.items()}, dict(single.metrics), f"row {k}", 1e-10)
        same({n: v[row] for n, v in together.state.params.items()}, single.state.params, f"row {k}", 1e-10)
        one = harden(alone.relax(single.state.kept, alone.tau.at(24)))
        for made, wanted in zip((finetune, retrain), tuned, strict=True):
            found = tensors_of(made(alone, one, 5, alone.lr.scale))
            same(found, {n: t[row] for n, t in wanted.items()}, f"{made.__name__}, row {k}", 1e-9)


def test_equal_weights_change_nothing_but_rounding() -> None:
    plain = search()
    ones = replace(plain.task, train=replace(plain.task.train, weights=torch.full((24,), 3.0, dtype=torch.float64)))
    same(last(replace(plain, task=ones)).state.params, last(plain).state.params, "equal weights", 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_compiled_step_has_weights(share: float, recwarn: pytest.WarningsRecorder) -> None:
    base = search(Dense(gated=True), batch=8, dtype=torch.float32)
    if share:
        base = replace(base, architect=replace(architect(share=share), lr=architect().lr.float()))
    found = replace(base, task=weighted(base.task, 4))
    eager, compiled = last(found), last(found, compiled=True)
    assert not [w for w in recwarn if "uncompiled" in str(w.message)]
    same(compiled.state.params, eager.state.params, "compiled", 1e-4)


def test_batches_and_halves_carry_weights() -> None:
    split = weighted(example_task(), 3).train
    assert split.weights is not None
    part = Batches(split, 5, 0).at(0)
    assert part.weights is not None
    at = [int((split.x[0] == value).nonzero()[0]) for value in part.x[0]]
    assert torch.equal(part.weights, split.weights[:, at])
    for half in halves(split, 0.5, 0):
        assert half.weights is not None
        assert half.weights.shape == (3, half.samples)
    assert all(piece.weights is not None for piece in split.cut(3))
    moved = split.to("cpu", torch.float32)
    assert moved.weights is not None
    assert moved.weights.dtype == torch.float32


def test_scores_read_weights_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    task = weighted(example_task("classes"), 5)
    method = Dense()
    nets = method.relax(method.init(task, torch.arange(5)), ONE.expand(5))
    whole = evaluate(task, task.valid, nets, method.forward)
    monkeypatch.setattr("nasplug.train.scoring.CHUNK_FLOATS", 2 * task.valid.samples * sum(nets.widths[1:]))
    same(evaluate(task, task.valid, nets, method.forward), whole, "in pieces", 1e-12)
    same(evaluate(task, task.valid, nets, method.forward, portions=portioned(task.valid, 5)), whole, "kept", 1e-12)
    some = torch.tensor([3, 1])
    same({"loss": ValidationLoss(task).take(some)(nets.map(lambda t: t[some]))}, {"loss": whole["loss"][some]}, "some", 1e-12)


def test_rows_that_say_the_same_for_every_sample_that_counts() -> None:
    task = example_task("regression")
    method = Dense()
    nets = method.relax(method.init(task, torch.arange(3)), ONE.expand(3))
    nets = nets.map(lambda t: torch.cat([t[:1], torch.zeros_like(t[1:2]), t[2:]]))  # row 1 has no weight
    assert evaluate(task, task.valid, nets, method.forward, constant=True)["constant"].tolist() == [False, True, False]
    one = torch.zeros(3, task.valid.samples, dtype=task.valid.x.dtype)
    one[:, 4] = 1.0  # of one sample every network says the same
    weighed = replace(task.valid, weights=one)
    assert evaluate(task, weighed, nets, method.forward, constant=True)["constant"].all()


def test_what_is_kept_between_reports_is_small() -> None:
    x, y = torch.randn(2, 12), torch.randn(1, 12)
    folds = torch.eye(4).repeat(1, 3)
    assert kept(Split(x, y, folds), 4) is not None
    many = (torch.rand(40, 12) > 0.4).float()
    assert kept(Split(x, y, many), 40) is None
    assert [part[:2] for part in portioned(Split(x, y, folds[[0, 0, 1, 2]]), 4)] == [(0, 2), (2, 3), (3, 4)]


def test_weights_are_part_of_the_digest() -> None:
    task = example_task()
    ones = torch.ones(24, dtype=torch.float64)
    digests = {task.digest}
    for part in ("train", "valid", "test"):
        for weights in (ones, 2 * ones, ones.float()):
            digests.add(replace(task, **{part: replace(getattr(task, part), weights=weights)}).digest)
    assert len(digests) == 10


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(23), "for 24 samples"),
        (torch.ones(24, dtype=torch.long), "floating-point"),
        (-torch.ones(24), "below 0"),
        (torch.full((24,), torch.nan), "not finite"),
        (torch.zeros(24), "all 0"),
        (torch.stack([torch.ones(24), torch.zeros(24)]), "all 0"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Tensor, message: str) -> None:
    task = example_task()
    with pytest.raises(ConfigError, match=message):
        replace(task, valid=replace(task.valid, weights=weights)).check()


def test_a_target_that_is_constant_where_it_counts_is_refused() -> None:
    task = example_task("binary")
    one = (task.train.y[0] == 1).double()
    with pytest.raises(ConfigError, match="constant"):
        replace(task, train=replace(task.train, weights=one)).check()


DISCRETIZERS = {
    "threshold": {"tolerance": 0.5},
    "spectral": {},
    "obs": {"r2": 0.2, "refit": 5},
    "fold": {},
    "admm": {"rounds": 2, "steps": 3},
    "closest": {},
    "least": {},
    "ranked": {},
}


@pytest.mark.parametrize("name", DISCRETIZERS)
def test_discretizers_weigh_samples(name: str) -> None:
    """Weights of whole numbers do what repeated samples do."""
    made = load_plugins().build("discretizer", name, DISCRETIZERS[name])
    nets = example_networks(4, 3, (2, 3, 4, 2), made.needs | {"blocks", "biases"})
    task = example_score((2, 3, 4, 2)).task

    def both(split: Split) -> tuple[Split, Split]:
        counts = torch.arange(split.samples) % 3
        many = split.columns(torch.arange(split.samples).repeat_interleave(counts))
        return replace(split, weights=counts.double()), many

    pairs = [both(split) for split in task.splits]
    hard = []
    for i in (0, 1):
        train, valid, test = (pair[i] for pair in pairs)
        hard.append(discretize(replace(task, train=train, valid=valid, test=test), nets, [made]))
    same(tensors_of(hard[0][0]), tensors_of(hard[1][0]), name, 1e-6)
    keys = ("verdict", "certificate_closest_least", "proven")
    for one, other in zip(hard[0][1], hard[1][1], strict=True):
        assert {k: one.get(k) for k in keys} == {k: other.get(k) for k in keys}
