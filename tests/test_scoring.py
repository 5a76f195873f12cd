"""Losses and metrics: their laws, scikit-learn's values, what kinds of tasks they are for, and what is served."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from nasplug import ConfigError, hookimpl
from nasplug.compact import compact
from nasplug.networks import forward
from nasplug.plugins import KINDS, Plugins, load_plugins
from nasplug.replicas import normal
from nasplug.tasks import LOSSES, Kind, Loss, Metric, Split, SquaredError, Task, linked, mean, scored, unscaled
from nasplug.testing import LossLaws, MetricLaws, example_networks, example_task
from nasplug.testing.laws import Laws

LOSS_OPTIONS: dict[str, Mapping[str, Any]] = {
    "mse": {},
    "mae": {},
    "huber": {"delta": 0.3},
    "quantile": {"level": 0.8},
    "quantiles": {"levels": [0.1, 0.5, 0.9]},
    "poisson": {},
    "logistic": {},
    "cross_entropy": {"smoothing": 0.1},
}
METRIC_OPTIONS: dict[str, Mapping[str, Any]] = {
    **{name: {} for name in ("r2", "mae", "rmse", "accuracy", "balanced_accuracy", "f1", "auc", "log_loss")},
    "pinball": {"level": 0.3},
    "calibration": {"bins": 5},
}
CASES = [("loss", name) for name in LOSS_OPTIONS] + [("metric", name) for name in METRIC_OPTIONS]
KITS: dict[str, type[Laws]] = {"loss": LossLaws, "metric": MetricLaws}
SLOW = {"test_rebuild_in_a_fresh_process"}


def laws(kind: str) -> list[str]:
    return sorted(name for name in dir(KITS[kind]) if name.startswith("test_") and name not in SLOW)


def loss(name: str, **options: Any) -> Loss:
    made: Loss = load_plugins().build("loss", name, options or LOSS_OPTIONS[name])
    return made


def metric(name: str) -> Metric:
    made: Metric = load_plugins().build("metric", name, METRIC_OPTIONS[name])
    return made


def test_all_of_ours_are_tried() -> None:
    ours = {kind: {o.name for o in load_plugins().offers(kind).values() if o.owner == "nasplug"} for kind in KITS}
    assert ours == {"loss": set(LOSS_OPTIONS), "metric": set(METRIC_OPTIONS)}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_they_keep_their_laws(kind: str, name: str) -> None:
    options = (LOSS_OPTIONS if kind == "loss" else METRIC_OPTIONS)[name]
    kit = type("Ours", (KITS[kind],), {"name": name, "options": options})()
    for law in laws(kind):
        getattr(kit, law)()


# Broken ones.


class Squares(Loss):
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean(1)


class OfThePack(Squares):
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().__call__(outputs, y) - 0.1 * outputs.mean()


class OneNumber(Squares):
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        return super().__call__(outputs, y).mean(1)


class Rooted(Squares):
    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - y).square().mean(1).sqrt() + outputs.square().sum(1).sqrt()


class WrongConstant(Squares):
    def constant(self, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return super().constant(y, weights) + 1.0


class Share(Metric):
    higher = True

    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        wanted = y > 0.5 if y.is_floating_point() else y == 1
        found = predicted[:, 0] > 0.5 if predicted.shape[1] == 1 else predicted.argmax(1) == 1
        return mean((found == wanted).to(predicted), weights)


class Unweighted(Share):
    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return super().__call__(predicted, y)


class UpsideDown(Share):
    higher = False


class OverRows(Share):
    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        found = super().__call__(predicted, y, weights)
        return found - found.mean() / 10


class Infinite(Share):
    def __call__(self, predicted: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
        return super().__call__(predicted, y, weights) / 0.0


BROKEN: list[tuple[str, str, Callable[[], object], str]] = [
    ("loss", "test_contract", dict, "Loss is needed"),
    ("loss", "test_shape", OneNumber, "needed"),
    ("loss", "test_per_sample", OfThePack, "row law"),
    ("loss", "test_gradient_is_finite", Rooted, "not finite"),
    ("loss", "test_constant_is_best", WrongConstant, "another constant"),
    ("metric", "test_contract", dict, "Metric is needed"),
    ("metric", "test_value", Infinite, "metric law"),
    ("metric", "test_row_law", OverRows, "row law"),
    ("metric", "test_weights", Unweighted, "weights law"),
    ("metric", "test_direction", UpsideDown, "direction law"),
]


def toy(kind: str, made: Callable[[], object]) -> Laws:
    def factory() -> object:
        """A toy."""
        return made()

    module = ModuleType("toys")
    setattr(module, KINDS[kind], hookimpl(lambda register: register("toy", factory)))
    plugins = Plugins()
    plugins.add(module, "toys", "nasplug-toys", "1")
    return type("Toy", (KITS[kind],), {"name": "toy", "plugins": lambda self: plugins})()  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "law", "made", "message"), BROKEN)
def test_a_broken_one_fails(kind: str, law: str, made: Callable[[], object], message: str) -> None:
    lawful = {"loss": Squares, "metric": Share}[kind]
    getattr(toy(kind, lawful), law)()
    with pytest.raises(AssertionError, match=message):
        getattr(toy(kind, made), law)()
    shared = {"test_is_documented", "test_options_are_plain_data", "test_rebuild"}
    assert {law for of, law, *_ in BROKEN if of == kind} | shared == set(laws(kind))


# Against scikit-learn.


@dataclass(frozen=True)
class Data:
    """Predictions of three networks with ties, labels or numbers, and weights."""

    kind: Kind
    said: Tensor
    y: Tensor
    weights: Tensor


def data(kind: Kind, samples: int = 300) -> Data:
    outputs = (4 * normal(torch.arange(3), "outputs", (3 if kind == "classes" else 1, samples)).double()).round() / 4
    said = linked(LOSSES[kind].link, outputs)
    noise = normal(torch.arange(9, 10), "y", (1, samples)).double()[0]
    if kind == "regression":
        y = outputs[0] + noise
    else:
        y = (noise > 0.8).long() + (noise > 1.5).long() if kind == "classes" else (noise > 0.8).double()
        y = y[0] if kind == "classes" else y
    weights = normal(torch.arange(3), "weights", (samples,)).double().abs()
    weights[:, ::7] = 0.0
    return Data(kind, said, y, weights)


def theirs(name: str, one: Data, k: int, w: np.ndarray | None) -> float:
    y, said = one.y.numpy(), one.said[k].numpy()
    if one.kind == "regression":
        y, said = y[0], said[0]
        found = {"r2": sk.r2_score, "mae": sk.mean_absolute_error, "pinball": sk.mean_pinball_loss}
        if name == "rmse":
            return float(np.sqrt(sk.mean_squared_error(y, said, sample_weight=w)))
        return float(found[name](y, said, sample_weight=w, **({"alpha": 0.3} if name == "pinball" else {})))
    y = y[0] if one.kind == "binary" else y
    labels = (said[0] > 0.5).astype(int) if one.kind == "binary" else said.argmax(0)
    if name == "auc":
        if one.kind == "binary":
            return float(sk.roc_auc_score(y, said[0], sample_weight=w))
        return float(np.mean([sk.roc_auc_score(y == c, said[c], sample_weight=w) for c in range(3)]))
    if name == "log_loss":
        chances = np.stack([1 - said[0], said[0]]) if one.kind == "binary" else said
        return float(sk.log_loss(y, chances.T, sample_weight=w))
    if name == "f1":
        how = "binary" if one.kind == "binary" else "macro"
        return float(sk.f1_score(y, labels, sample_weight=w, average=how))
    found = {"accuracy": sk.accuracy_score, "balanced_accuracy": sk.balanced_accuracy_score}
    return float(found[name](y, labels, sample_weight=w))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", sorted(set(METRIC_OPTIONS) - {"calibration"}))
def test_a_metric_is_scikit_learns(name: str, weighted: bool) -> None:
    for kind in sorted(metric(name).kinds):
        one = data(kind)
        found = metric(name)(one.said, one.y, one.weights if weighted else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = [theirs(name, one, k, one.weights[k].numpy() if weighted else None) for k in range(3)]
        assert found.tolist() == pytest.approx(wanted, rel=1e-9), kind


def test_calibration_by_hand() -> None:
    said = torch.tensor([[[0.9, 0.9, 0.6, 0.3]]])
    y = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    # of the two that are 90 % sure one is right, of 60 % and 70 % both: |0.5 - 0.9| 2 + |0.4| + |0.3| over 4
    assert float(load_plugins().build("metric", "calibration", {"bins": 10})(said, y)) == pytest.approx((0.8 + 0.4 + 0.3) / 4)


def test_what_is_not_defined_is_nan_and_never_infinite() -> None:
    said, flat = torch.rand(2, 1, 5), torch.ones(1, 5)
    assert metric("r2")(said, flat).isnan().all()
    assert metric("auc")(said, flat).isnan().all()
    assert torch.isfinite(metric("log_loss")(torch.zeros(1, 1, 5), flat)).all()
    broken = said.clone()
    broken[0, 0, 0] = torch.nan
    for name in ("accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "calibration"):
        assert metric(name)(broken, (torch.arange(5) % 2).float().unsqueeze(0)).isnan().tolist() == [True, False], name


# With tasks.


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("classes", "huber", "of several classes"),
        ("regression", "logistic", "a regression"),
        ("binary", "poisson", "two labels"),
    ],
)
def test_a_loss_of_another_kind_is_refused(kind: Kind, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scored(example_task(kind), loss(name), {})


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="'auc' is for"):
        scored(example_task(), None, {"auc": metric("auc")})


def test_poisson_learns_multiples_of_the_mean_and_serves_rates() -> None:
    task = example_task()
    raw = [torch.poisson(5 + split.x[:1], generator=torch.Generator().manual_seed(i)) for i, split in enumerate(task.splits)]
    shift, scale = 4.0, 2.5
    parts = [replace(split, y=(y - shift) / scale) for split, y in zip(task.splits, raw, strict=True)]
    one = torch.ones(1, dtype=torch.float64)
    task = replace(task, train=parts[0], valid=parts[1], test=parts[2], output_shift=shift * one, output_scale=scale * one)
    made = scored(task, loss("poisson"), {"mae": metric("mae")})
    assert float(made.train.y.mean()) == pytest.approx(1.0)
    assert (float(made.output_shift), float(made.output_scale)) == (0.0, pytest.approx(float(raw[0].mean())))
    nets = example_networks(0, 2, (3, 4, 1), {"biases"}, skips=False)
    outputs = forward(nets, made.test.x)
    served = torch.stack([compact(nets, k, made)(made.test.x.T.float()).detach()[:, 0] for k in range(2)])
    assert bool((served > 0).all())
    wanted = outputs.exp()[:, 0] * raw[0].mean()
    torch.testing.assert_close(served.double(), wanted, rtol=1e-5, atol=1e-5)
    found = made.metrics(outputs, *made.test.batch[1:])
    torch.testing.assert_close(found["mae"], (wanted - raw[2]).abs().mean(1))
    assert compact(nets, 0, made.facts).record["link"] == "exp"
    below = replace(task, train=replace(task.train, y=task.train.y - 10))
    with pytest.raises(ConfigError, match="needs targets >= 0"):
        scored(below, loss("poisson"), {})


def test_quantiles_are_several_outputs_of_each_target() -> None:
    task = unscaled("two", Split(torch.rand(3, 40), torch.rand(2, 40)).cut(10), targets=("a", "b"))
    made = scored(task, loss("quantiles"), {})
    assert (made.outputs, len(made.output_scale)) == (6, 6)
    assert made.targets == ("a q0.1", "a q0.5", "a q0.9", "b q0.1", "b q0.5", "b q0.9")
    outputs = torch.rand(2, 6, 10)
    torch.testing.assert_close(made.loss.point(outputs), outputs[:, [1, 4]])
    assert made.metrics(outputs, made.valid.y)["error"].shape == (2,)
    by_hand = [
        sk.mean_pinball_loss(made.valid.y[t].numpy(), outputs[0, 3 * t + i].numpy(), alpha=level)
        for t in range(2)
        for i, level in enumerate((0.1, 0.5, 0.9))
    ]
    assert float(made.losses(outputs, made.valid.y)[0]) == pytest.approx(np.mean(by_hand), rel=1e-5)
    with pytest.raises(ConfigError, match="rising"):
        load_plugins().build("loss", "quantiles", {"levels": [0.5, 0.1]})


def test_soft_targets() -> None:
    task = example_task("classes")
    soft = torch.softmax(normal(torch.arange(1), "teacher", (3, 24)).double()[0], 0)
    outputs = normal(torch.arange(2), "outputs", (3, 24)).double()
    wanted = -(soft * outputs.log_softmax(1)).sum(1).mean(1)
    torch.testing.assert_close(task.losses(outputs, soft), wanted)
    hard = torch.nn.functional.one_hot(task.train.y, 3).T.double()
    torch.testing.assert_close(task.losses(outputs, hard), task.losses(outputs, task.train.y))
    torch.testing.assert_close(task.errors(outputs, hard), task.errors(outputs, task.train.y))
    torch.testing.assert_close(metric("log_loss")(outputs.softmax(1), soft), wanted)
    learned = replace(
        task, train=replace(task.train, y=soft), valid=replace(task.valid, y=soft), test=replace(task.test, y=soft)
    )
    learned.check()
    assert learned.facts.trivial["valid_loss"] > float(-(soft * soft.log()).sum(0).mean())


def test_smoothing_by_hand() -> None:
    task = scored(example_task("classes"), loss("cross_entropy", smoothing=0.2), {})
    outputs = normal(torch.arange(2), "outputs", (3, 24)).double()
    smooth = 0.8 * torch.nn.functional.one_hot(task.train.y, 3).T + 0.2 / 3
    torch.testing.assert_close(task.losses(outputs, task.train.y), -(smooth * outputs.log_softmax(1)).sum(1).mean(1))
    assert str(task.loss) == "cross_entropy(smoothing=0.2)"
    assert task.digest != example_task("classes").digest


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_the_trivial_scores_are_those_of_the_best_constant(kind: Kind) -> None:
    task = example_task(kind)
    found = task.facts.trivial
    y = task.train.y
    if kind == "regression":
        assert found["valid_error"] == pytest.approx(float((task.valid.y - y.mean()).square().mean()))
        assert found["train_r2"] == pytest.approx(0.0, abs=1e-12)
    else:
        labels = y if kind == "classes" else y[0].long()
        common = int(labels.bincount().argmax())
        valid = task.valid.y if kind == "classes" else task.valid.y[0].long()
        assert found["valid_error"] == pytest.approx(float((valid != common).double().mean()))
    assert set(found) == {
        f"{part}_{n}" for part in ("train", "valid", "test") for n in task.metrics(torch.zeros(1, task.outputs, 24), y)
    }


def test_scales_of_metrics_are_the_targets() -> None:
    task = example_task()
    scaled: Task = replace(scored(task, None, {"mae": metric("mae"), "rmse": metric("rmse")}), output_scale=torch.tensor([7.0]))
    outputs = torch.zeros(1, 1, 24)
    found = scaled.metrics(outputs, scaled.valid.y.float())
    assert float(found["mae"]) == pytest.approx(7.0 * float(task.valid.y.abs().mean()), rel=1e-6)
    assert float(found["rmse"]) == pytest.approx(7.0 * math.sqrt(float(task.valid.y.square().mean())), rel=1e-6)
    assert float(found["error"]) == pytest.approx(float(task.valid.y.square().mean()), rel=1e-6)
    assert SquaredError() == task.loss


@pytest.mark.parametrize("unit", [1e25, 1.0, 1e-25])
def test_scores_of_targets_in_large_and_small_units(unit: float) -> None:
    y = torch.linspace(-1.0, 1.0, 20).unsqueeze(0)
    outputs = torch.stack([y, y + 0.1])
    split = Split(torch.zeros(1, 20), y)
    task = scored(unscaled("units", (split, split, split)), None, {name: metric(name) for name in ("rmse", "mae", "pinball")})
    found = replace(task, output_scale=torch.tensor([unit], dtype=torch.float64)).metrics(outputs, y)
    for name, one in (("rmse", 0.1), ("mae", 0.1), ("pinball", 0.07)):
        assert (found[name].double() / unit).tolist() == pytest.approx([0.0, one], rel=1e-4)
    assert found["r2"].tolist() == pytest.approx([1.0, 1.0 - 0.01 / float(y.var(correction=0))], rel=1e-4)
