"""The search method `swat`, the penalty and the discretizer that go with it, and saved networks to start from."""

from __future__ import annotations

from nasplug_swat.search.admm import admm
from nasplug_swat.search.levels import swat_levels
from nasplug_swat.search.method import swat
from nasplug_swat.search.pieces import cut_out, in_raw_units, networks_in, opened, rescaled, scaling_of, units_of

__all__ = [
    "admm",
    "cut_out",
    "in_raw_units",
    "networks_in",
    "opened",
    "rescaled",
    "scaling_of",
    "swat",
    "swat_levels",
    "units_of",
]
