"""How often inputs, pairs of inputs, activations and depths are kept over half samples, with bounds on false selections.

Complementary pairs (Shah and Samworth 2013, "Variable selection with error control: another look at stability selection",
Journal of the Royal Statistical Society B 75, 55-80). Half samples are weights, so they are rows of packs as folds are: a
network that was trained, discretized and fine-tuned on one half sees nothing of the other. We differ in what was decided before
on all development samples: centres and scales of inputs, and which configurations are counted. The bounds hold for a
configuration that was fixed before.
"""

from __future__ import annotations

from nasplug.stability.bounds import concave, unimodal, worst
from nasplug.stability.counting import Tally, inputs_of, tally, whole_pairs
from nasplug.stability.frequencies import FREQUENCIES, count, frequencies, read, stable, words
from nasplug.stability.levels import path_of

__all__ = [
    "FREQUENCIES",
    "Tally",
    "concave",
    "count",
    "frequencies",
    "inputs_of",
    "path_of",
    "read",
    "stable",
    "tally",
    "unimodal",
    "whole_pairs",
    "words",
    "worst",
]
