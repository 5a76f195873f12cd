"""The laws of tasks, and that the data are what they say."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.errors import ConfigError
from nasplug.testing import TaskLaws
from nasplug_mixture import mixture_teacher


class TestTeacher(TaskLaws):
    name = "mixture_teacher"
    options: ClassVar = {"activations": ["relu", "tanh"], "samples": 60, "noise": 0.1}


def test_another_seed_is_another_teacher_of_variance_one() -> None:
    one, other = (mixture_teacher(seed=seed) for seed in (0, 1))
    assert not torch.equal(one.train.y, other.train.y)
    assert float(one.train.y.var()) == pytest.approx(1.0)
    assert (one.train.samples, one.valid.samples, one.test.samples) == (512, 64, 64)


def test_noise_is_added_to_the_same_teacher() -> None:
    clean, noisy = (mixture_teacher(noise=noise) for noise in (0.0, 0.5))
    assert torch.equal(clean.train.x, noisy.train.x)
    assert float((noisy.train.y - clean.train.y).std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 9}, "samples=9; needed: a whole number >= 10"),
        ({"hidden": 0}, "(samples|hidden|inputs)=.*needed: a whole number >= 1"),
        ({"activations": []}, "at least one"),
        ({"activations": ["rleu"]}, "Did you mean 'relu'"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mixture_teacher(**options)
