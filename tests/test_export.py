"""Every form says what the network says: of random networks, of every activation, of words, gaps, dates and every kind of task."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings

from nasplug.activations import FUNCTIONS
from nasplug.compact import CompactNetwork, compact
from nasplug.data.columns import from_frames
from nasplug.data.transforms import TransformName
from nasplug.export import asked, export, program
from nasplug.export.forms import FORMS
from nasplug.networks import Networks, harden
from nasplug.tasks import Task
from nasplug.testing import example_networks

from .stand_ins import records

ROWS = 120
EXACT = [form for form in FORMS.values() if form.exact]


def table(seed: int = 0) -> pd.DataFrame:
    """A column of each kind, with gaps, codes, rare words and a date far from 1970 beside its spread."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, ROWS).astype(float)
    age[::9] = -999
    colour = random.choice(np.array(["red", "blue", "it's \"odd\" */", None], dtype=object), ROWS, p=[0.4, 0.3, 0.2, 0.1])
    colour[:2] = "rare"
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 10**6, ROWS), unit="s")
    return pd.DataFrame(
        {
            "age of\nowner": age,
            "colour": colour,
            "when": when,
            "sold": random.choice([True, False], ROWS),
            "for": random.normal(1e6, 1.0, ROWS),
            "größe": np.where(random.random(ROWS) < 0.2, np.nan, random.random(ROWS)),
        }
    )


def task_of(kind: str = "regression", transform: TransformName = "none", rows: pd.DataFrame | None = None) -> Task:
    rows = table() if rows is None else rows
    random = np.random.default_rng(1)
    answers = {
        "regression": {"price": 100.0 + 20.0 * random.random(ROWS)},
        "several": {"price": 5.0 + random.random(ROWS), "rent": 1e4 * (1 + random.random(ROWS))},
        "binary": {"label": random.choice(["no", "it's \"yes\""], ROWS)},
        "classes": {"label": random.choice(["a", "b", "c"], ROWS)},
    }[kind]
    return from_frames(
        rows,
        pd.DataFrame(answers),
        name="rows",
        where="rows",
        source="rows",
        missing={"age of\nowner": "indicator", "colour": "category", "größe": "median"},
        numeric="piecewise",
        bins=3,
        transform=transform,
        codes={"age of\nowner": [-999.0]},
    )


def network_of(task: Task, seed: int = 0) -> CompactNetwork:
    """A random network on a task: small weights, as networks that were trained have."""
    nets = harden(example_networks(seed, 1, (task.inputs, 4, 3, task.outputs), ("biases", "gates", "choices")))
    nets = replace(nets.map(torch.Tensor.float), blocks={edge: 0.4 * w.float() for edge, w in nets.blocks.items()})
    return compact(nets, 0, task)


def told(network: CompactNetwork, out: Path, task: Task | None = None, forms: str = "") -> dict[str, Any]:
    found = export(network, "my study", asked(forms) if forms else EXACT, out, task)
    return {form.form: form for form in found.forms}


@pytest.mark.parametrize(
    ("kind", "transform"),
    [("regression", "none"), ("several", "none"), ("several", "log"), ("regression", "rank"), ("binary", "none"), ("classes", "none")],
)
def test_forms_answer_raw_rows_as_the_network_does(kind: str, transform: TransformName, tmp_path: Path) -> None:
    task = task_of(kind, transform)
    found = told(network_of(task), tmp_path, task)
    for name, form in found.items():
        if name == "formula" and transform == "rank":
            assert "rank" in form.refused
            continue
        assert not form.refused, form
        assert form.difference <= 1e-5
        assert form.error is not None
        assert all((tmp_path / file).exists() for file in form.files)
