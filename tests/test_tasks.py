"""Tasks made by hand: cut in three, shifts 0, scales 1, names that fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nasplug import ConfigError
from nasplug.tasks import Kind, Split, SquaredError, unscaled


def numbered(samples: int, inputs: int = 2, outputs: int = 1) -> Split:
    """Sample n is full of n in ``x`` and of -n in ``y``."""
    n = torch.arange(float(samples))
    return Split(n.expand(inputs, -1), -n.expand(outputs, -1))


def test_a_split_is_cut_in_the_order_it_stands() -> None:
    for split in (numbered(10), Split(numbered(10).x.expand(3, -1, -1), numbered(10).y.expand(3, -1, -1))):
        train, valid, test = split.cut(2)
        assert [part.samples for part in (train, valid, test)] == [6, 2, 2]
        for part, first in ((train, 0), (valid, 6), (test, 8)):
            assert bool((part.x[..., 0] == first).all())
            assert bool((part.y[..., 0] == -first).all())
            assert part.x.is_contiguous()
            assert part.y.is_contiguous()
    labels = Split(torch.zeros(2, 5), torch.arange(5))
    assert [part.y.tolist() for part in labels.cut(1)] == [[0, 1, 2], [3], [4]]


@pytest.mark.parametrize(("samples", "held"), [(9, 0), (9, -1), (9, 5), (2, 1), (4, 2)])
def test_no_part_of_a_cut_is_empty(samples: int, held: int) -> None:
    with pytest.raises(ConfigError, match="at least one in each of three"):
        numbered(samples).cut(held)


def test_a_regression_as_it_is() -> None:
    task = unscaled("plain", numbered(10, 3, 2).cut(1), source="by hand")
    task.check()
    assert (task.name, task.kind, str(task.loss), task.source) == ("plain", "regression", "mse", "by hand")
    assert (task.inputs, task.outputs) == (3, 2)
    assert (task.features, task.targets) == (("x0", "x1", "x2"), ("y0", "y1"))
    for shift, scale, size in ((task.input_shift, task.input_scale, 3), (task.output_shift, task.output_scale, 2)):
        assert shift.tolist() == [0.0] * size
        assert scale.tolist() == [1.0] * size
    named = unscaled("named", numbered(10, 3, 2).cut(1), features=("a", "b", "c"), targets=("u", "v"))
    assert (named.features, named.targets) == (("a", "b", "c"), ("u", "v"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shifts_and_scales_are_of_the_type_of_the_data(dtype: torch.dtype) -> None:
    split = numbered(10).to("cpu", dtype)
    task = unscaled("typed", split.cut(1))
    assert {t.dtype for t in (task.input_shift, task.input_scale, task.output_shift, task.output_scale)} == {dtype}


@pytest.mark.parametrize(
    ("kind", "labels", "loss", "outputs"),
    [("binary", ("no", "yes"), "logistic", 1), ("classes", ("a", "b", "c"), "cross_entropy", 3)],
)
def test_labels_have_names_and_a_loss(kind: Kind, labels: tuple[str, ...], loss: str, outputs: int) -> None:
    x = torch.rand(2, 10)
    y = torch.arange(10) % 3 if kind == "classes" else (x[:1] > 0.5).float()
    task = unscaled("labels", Split(x, y).cut(2), kind=kind, targets=labels)
    assert (str(task.loss), task.outputs, task.targets, len(task.output_shift)) == (loss, outputs, labels, outputs)
    if kind == "binary":
        assert unscaled("labels", Split(x, y).cut(2), kind=kind, loss=SquaredError(), targets=labels).loss == SquaredError()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"features": ("a",)}, "1 features and 1 targets; needed: 2 and 1"),
        ({"targets": ("u", "v")}, "2 features and 2 targets; needed: 2 and 1"),
        ({"kind": "binary", "targets": ("yes",)}, "2 features and 1 targets; needed: 2 and 2"),
        ({"kind": "binary"}, "a binary task without targets"),
        ({"kind": "classes"}, "a classes task without targets"),
    ],
)
def test_names_that_do_not_fit_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        unscaled("wrong", numbered(10).cut(1), **options)


def test_a_stack_is_unscaled_too() -> None:
    whole = numbered(10, 3)
    task = unscaled("stacked", Split(whole.x.expand(4, -1, -1), whole.y.expand(4, -1, -1)).cut(1))
    assert task.stacked
    assert (task.inputs, task.outputs, task.features) == (3, 1, ("x0", "x1", "x2"))
