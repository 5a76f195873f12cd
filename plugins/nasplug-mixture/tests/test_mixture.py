"""The laws of `nasplug.testing`, what the choices are in each mode, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from nasplug.errors import ConfigError
from nasplug.networks import ACTIVATIONS, Networks
from nasplug.testing import SearchMethodLaws, example_task
from nasplug_mixture import USUAL, mixture

SEEDS = torch.arange(3)
ONE = torch.ones(3, dtype=torch.float64)


class TestNeurons(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [5]}


class TestLayers(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [4, 3], "per": "layer", "candidates": ["relu", "tanh", "sin"], "bias": False}


class TestSimplex(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [4, 3], "parametrisation": "simplex", "candidates": ["relu", "tanh"]}


class TestGumbel(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {"hidden": [4], "sampling": "gumbel", "candidates": ["relu", "tanh", "sigmoid"]}


class TestStraightThrough(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {
        "hidden": [4],
        "sampling": "straight_through",
        "parametrisation": "simplex",
        "candidates": ["relu", "tanh", "sigmoid"],
    }
