"""Spaces of operations: every architecture once, trained as it is, and searches of operations scored by the table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import spaces
from nasplug.cli import main
from nasplug.config import parse, to_yaml
from nasplug.errors import ConfigError
from nasplug.networks import alive, decided, forward, harden, sizes
from nasplug.plan import Edges, edges_of, fixed_parts, named
from nasplug.plugins import load_plugins
from nasplug.spaces.edges import wirings
from nasplug.study import Study
from nasplug.testing import example_task
from nasplug.train import put
from nasplug_mixture import operations

SEEDS = torch.arange(3)
ONE = torch.ones(3, dtype=torch.float64)
STUDY: dict[str, Any] = {
    "study": "wired",
    "task": {"use": "mixture_teacher", "samples": 80, "inputs": 3},
    "method": {"use": "operations", "hidden": [3], "operations": ["linear", "rank_1", "none"]},
    "discretizers": [{"use": "closest"}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.3},
    "train": {"steps": 12, "lr": 0.01, "architecture": {"optimizer": {"use": "adam"}, "lr": 0.05, "share": 0.5}},
    "seeds": 2,
    "linear": False,
    "mlflow": None,
}


def soft(**options: Any) -> Any:
    method = operations(**options)
    return method.relax(method.init(example_task(), SEEDS), ONE)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": [4, 4]},
        {"hidden": [3, 4], "operations": ["none", "rank_1", "linear"]},
        {"hidden": [4, 4], "operations": ["linear", "residual"], "between": "next"},
    ],
)
def test_a_wiring_is_what_a_network_computes(options: dict[str, Any]) -> None:
    """All combinations of operations: those that come to one architecture compute the same, and are called so when hard."""
    nets, task = soft(bias=False, **options), example_task()  # with biases a layer without inputs adds constants
    edges = edges_of(nets)
    found = wirings(edges)
    assert len(set(found.texts)) == len(found.texts) <= len(found.combinations)
    rows = np.random.default_rng(0).permutation(len(found.combinations))[:60]
    for row in rows.tolist():
        index: list[Any] = [torch.full((3,), int(place)) for place in found.combinations[row]]
        hard = alive(harden(decided(nets, index)))
        text = found.texts[found.comes_to[row]]
        assert named(hard, nets) == [text] * 3
        fixed = alive(harden(put(nets, fixed_parts([text] * 3, nets))))
        assert torch.equal(forward(hard, task.train.x), forward(fixed, task.train.x))
        assert torch.equal(sizes(hard)["edges"], sizes(fixed)["edges"])


def test_rows_have_their_own_operations() -> None:
    nets, task = soft(hidden=[4, 4]), example_task()
    texts = [
        "linear/none,residual/none,none,linear",
        "rank_2/linear,none/linear,none,linear",
        "none/linear,none/linear,none,none",
    ]
    mine = put(nets, fixed_parts(texts, nets))
    mine.check()
    for k, text in enumerate(texts):
        torch.testing.assert_close(
            forward(mine, task.train.x)[k], forward(put(nets, fixed_parts([text] * 3, nets)), task.train.x)[k]
        )


edge = st.lists(st.sampled_from(["linear", "rank_1", "none", "gone"]), min_size=1, max_size=3, unique=True)


@settings(max_examples=30, deadline=None)
@given(st.lists(edge, min_size=3, max_size=3), st.integers(0, 10**6))
def test_the_chances_of_all_architectures_sum_to_one(names: list[list[str]], seed: int) -> None:
    edges: Edges = tuple(zip([(1, 0), (2, 0), (2, 1)], map(tuple, names), strict=True))  # type: ignore[arg-type]
    draw = np.random.default_rng(seed)
    shares = [draw.dirichlet(np.ones(len(one))).tolist() for one in names]
    assert math.isclose(float(np.exp(wirings(edges).chances(shares)).sum()), 1.0, rel_tol=1e-9)


def test_a_space_of_operations() -> None:
    """Three edges: what does not lead from the input to the output is counted as none."""
    found = spaces.space_of(parse(STUDY), load_plugins())
    assert (
        found.architectures == 2 + 2 * 2
    )  # without the hidden layer, and with it by linear or rank_1; each with a skip or not
    assert "no temperature: networks whose operations are fixed do not read it" in found.different
    texts = found.parts[0].config.fixed.grid  # type: ignore[union-attr]
    assert "none/linear,none" in texts
    assert "linear/linear,none" not in texts
    hidden = spaces.space_of(parse(STUDY | {"method": STUDY["method"] | {"hidden": {"choice": [[3], [4]]}}}), load_plugins())
    assert [(part.architectures, part.shapes) for part in hidden.parts] == [(6, 2)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("linear/linear", "one operation per edge.*such as linear/linear,linear"),
        ("linear/linear,liner", "'liner' is no operation of the edge from layer 1 to layer 2.*linear"),
    ],
)
def test_a_text_that_fits_no_edges_is_refused_when_the_study_is_planned(text: str, told: str, tmp_path: Path) -> None:
    changes = {"fixed": text, "train": {"steps": 3}, "temperature": None, "discretizers": [], "store": str(tmp_path)}
    with pytest.raises(ConfigError, match=told):
        Study.from_dict(STUDY | changes).plan()


def test_one_command_trains_all_wirings_and_scores_a_search(tmp_path: Path) -> None:
    (tmp_path / "wired.yaml").write_text(to_yaml(STUDY | {"store": str(tmp_path)}))
    searched = Study.from_dict(STUDY | {"store": str(tmp_path)}).run("serial", report=False)
    command = ["enumerate", str(tmp_path / "wired.yaml"), "--score", str(searched.folder), "--quiet", "--runner", "serial"]
    done = CliRunner(env={"COLUMNS": "160"}).invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    rows = pd.read_csv(tmp_path / "wired-all" / "architectures.csv")
    assert told["architectures"] == len(rows) == rows["architecture"].nunique() == 6
    constant = rows[rows["architecture"] == "none/none,none"].iloc[0]
    assert (constant["edges"], constant["hidden"]) == (0, 3)
    assert rows["finished"].tolist() == [2] * 6
    (search,) = [one for one in told["searches"] if one["name"] == "wired"]
    assert set(search["tau"]) == {"shares"}
    assert -1 <= search["tau"]["shares"]["low"] <= search["tau"]["shares"]["high"] <= 1
    assert sum(search["architectures"].values()) == 2
    assert all(name.removeprefix("3 ") in set(rows["architecture"]) for name in search["architectures"])
