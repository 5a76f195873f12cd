"""The study as a person writes it: one YAML file, checked as a whole before anything runs."""

from __future__ import annotations

from nasplug.config.checking import SWEEPS, check
from nasplug.config.flat import flatten
from nasplug.config.levels import LevelPath
from nasplug.config.limits import MOST_NETWORKS, MOST_REPORTS, MOST_RUNGS, MOST_STEPS, MOST_TRIALS
from nasplug.config.models import (
    Choose,
    Plateau,
    Sampler,
    Stability,
    Stop,
    StudyConfig,
    Use,
    parse,
)
from nasplug.config.population import Population
from nasplug.config.reading import read_mapping, read_yaml, refusing
from nasplug.config.schema import json_schema
from nasplug.config.sweeps import Sweep, as_sweep, leaves
from nasplug.config.where import REGISTERED, REGISTERED_WORDS, MLflow, Resources
from nasplug.config.yamls import from_yaml, override, to_yaml

__all__ = [
    "MOST_NETWORKS",
    "MOST_REPORTS",
    "MOST_RUNGS",
    "MOST_STEPS",
    "MOST_TRIALS",
    "REGISTERED",
    "REGISTERED_WORDS",
    "SWEEPS",
    "Choose",
    "LevelPath",
    "MLflow",
    "Plateau",
    "Population",
    "Resources",
    "Sampler",
    "Stability",
    "Stop",
    "StudyConfig",
    "Sweep",
    "Use",
    "as_sweep",
    "check",
    "flatten",
    "from_yaml",
    "json_schema",
    "leaves",
    "override",
    "parse",
    "read_mapping",
    "read_yaml",
    "refusing",
    "to_yaml",
]
