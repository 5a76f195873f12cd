"""Which configurations are tried: a grid at once, or a sampler asked for one generation at a time."""

from __future__ import annotations

from nasplug.sampling.generations import Generations, Outcome, drawing_of, generations_of
from nasplug.sampling.journal import JOURNAL, Journal
from nasplug.sampling.samplers import Drawing

__all__ = ["JOURNAL", "Drawing", "Generations", "Journal", "Outcome", "drawing_of", "generations_of"]
