"""What a network does, in numbers: contributions to one prediction, effects of columns, pairs that interact, the formula.

All of it is of the network itself, not of a model of the network; rows of a `Background` say what it is compared with.
"""

from __future__ import annotations

from nasplug.explain.background import ROWS, Background
from nasplug.explain.effects import Curve, Effect, Grid, affordable, base, curves, effects, grids
from nasplug.explain.formula import Formula, formula, rounded
from nasplug.explain.pairs import Pair, meeting, pairs
from nasplug.explain.shapley import contributions
from nasplug.explain.unfolded import columns_of, explainable, scale_words

__all__ = [
    "ROWS",
    "Background",
    "Curve",
    "Effect",
    "Formula",
    "Grid",
    "Pair",
    "affordable",
    "base",
    "columns_of",
    "contributions",
    "curves",
    "effects",
    "explainable",
    "formula",
    "grids",
    "meeting",
    "pairs",
    "rounded",
    "scale_words",
]
