"""How soft networks are over the steps: entropy of choices, and the edges that would be left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import Study, drawing
from nasplug.contracts import SearchMethod
from nasplug.discretize import discretize
from nasplug.networks import Networks, sizes
from nasplug.report import seen
from nasplug.results import read
from nasplug.train import start, train
from nasplug.train.softness import CHUNK_FLOATS, entropy, softness
from nasplug_discretizers import threshold
from nasplug_edges import edges
from nasplug_mixture import mixture
from nasplug_sparcs import sparcs

from .stand_ins import Dense, search


def choosing(*rows: list[list[float]]) -> Networks:
    """Networks of two inputs, whose hidden neurons have these choices."""
    choice = torch.tensor(rows, dtype=torch.float64)
    k, h, a = choice.shape
    blocks = {(1, 0): torch.ones(k, h, 2, dtype=torch.float64), (2, 1): torch.ones(k, 1, h, dtype=torch.float64)}
    names = ("relu", "tanh", "sigmoid")[:a]
    return Networks(widths=(2, h, 1), blocks=blocks, choices={1: choice}, candidates=names)


def test_entropy_is_a_share_of_the_largest_one() -> None:
    hard, even, half = [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]
    found = entropy(choosing([hard, hard], [even, even], [hard, even], [half, half], [[math.nan] * 3, hard]))
    assert found is not None
    np.testing.assert_allclose(found[:4], [0.0, 1.0, 0.5, math.log(2) / math.log(3)], atol=1e-12)
    assert math.isnan(float(found[4]))
    assert entropy(Networks(widths=(2, 1), blocks={(1, 0): torch.ones(1, 1, 2)})) is None
    assert entropy(choosing([[1.0]])) is None


@given(st.integers(2, 3), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=30)
def test_entropy_lies_between_0_and_1_and_is_a_rows_own(a: int, h: int, seed: int) -> None:
    choice = torch.rand(5, h, a, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).pow(8)
    nets = choosing(*(choice / choice.sum(-1, keepdim=True)).tolist())
    found = entropy(nets)
    assert found is not None
    assert bool(((found >= 0) & (found <= 1 + 1e-12)).all())
    for k in range(5):
        alone = entropy(nets.map(lambda t, k=k: t[k : k + 1]))  # type: ignore[misc]
        assert alone is not None
        assert float(alone) == pytest.approx(float(found[k]), abs=1e-12)


METHODS: dict[str, SearchMethod] = {
    "gated": edges(mode="gated", hidden=[4]),
    "annealed": edges(mode="annealed", hidden=[3, 3], skips=True),
    "sparcs": sparcs(hidden=[3, 3]),
    "mixture": mixture(hidden=[4], candidates=["tanh", "relu"]),
    "stand-in": Dense(gated=True, skips=True),
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_edges_are_those_that_a_cut_at_a_hundredth_leaves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(method=METHODS[name])
    params = start(found).params
    draw = torch.Generator().manual_seed(0)
    params = {key: p * torch.rand(p.shape, dtype=p.dtype, generator=draw) ** 6 for key, p in params.items()}
    nets = found.relax(params, found.tau.at(0))
    hard, _ = discretize(found.task, found.direct(nets), [threshold(eps=0.01)])
    wanted = sizes(hard)["edges"]
    assert softness(found, nets)["edges"].tolist() == wanted.tolist()
    assert (len(set(wanted.tolist())) > 1) or name == "sparcs"
    monkeypatch.setattr("nasplug.train.softness.CHUNK_FLOATS", 1)  # a row at a time
    assert CHUNK_FLOATS > 1
    assert softness(found, nets)["edges"].tolist() == wanted.tolist()
    for leaf in params.values():
        leaf[1] = math.nan
    broken = softness(found, found.relax(params, found.tau.at(0)))
    assert broken["edges"].isnan().tolist() == [k == 1 for k in range(len(wanted))]
    assert broken["edges"][[0, 2]].tolist() == wanted[[0, 2]].tolist()


def test_reports_of_a_pack_are_those_of_its_rows_alone() -> None:
    found = search(method=mixture(hidden=[3], candidates=["tanh", "relu", "gelu"]))
    reports = list(train(found, every=10))
    for k in range(len(found.seeds)):
        for whole, alone in zip(reports, train(found.take(torch.tensor([k])), every=10), strict=True):
            for name in ("edges", "entropy"):
                assert float(alone.metrics[name]) == pytest.approx(float(whole.metrics[name][k]), abs=1e-10)
    assert "entropy" not in next(train(search(), every=10)).metrics


# -- of a study --------------------------------------------------------------------------------------------------------


def study(folder: Path, **changes: Any) -> Study:
    """Eight networks with a choice for each neuron, beside linear ones."""
    raw: dict[str, Any] = {
        "study": "soft",
        "store": str(folder),
        "task": {"use": "breast_cancer", "validation": "holdout"},
        "method": {"use": "mixture", "hidden": [3], "candidates": ["tanh", "relu", "gelu"]},
        "penalties": [{"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 4}}],
        "temperature": {"use": "geometric", "start": 1.0, "end": 0.02},
        "discretizers": [{"use": "argmax"}, {"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 60, "batch": 64, "lr": 0.05, "reports": 6},
        "seeds": 2,
        "linear": False,
        "mlflow": None,
    }
    return Study.from_dict({**raw, **changes}).run("serial", progress=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("soft"))


def test_a_study_keeps_both_over_the_steps(done: Study) -> None:
    frame = read(done.folder, histories=True)
    searched = frame[frame["method.use"] == "mixture"]
    assert len(searched) == 8
    for _, row in searched.iterrows():
        assert len(row["history_entropy"]) == len(row["history_edges"]) == len(row["history_step"]) == 6
        assert 0.0 <= row["history_entropy"][-1] < row["history_entropy"][0] <= 1.0
    first = [row["history_edges"][0] for _, row in searched.iterrows()]
    assert 80 < max(first) <= 93
    assert min(row["history_edges"][-1] for _, row in searched.iterrows()) < min(first)


def test_the_report_draws_entropy_and_edges_beside_the_temperature(done: Study) -> None:
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    training = page.split('<h2 id="training">')[1].split("</section>")[0]
    for words in ("entropy of choices (1: undecided)", "edges (|weight| at least 0.01)", "temperature of the chosen"):
        assert words in training, words
    assert "entropy of choices goes from" in training
    steps, edges = [[1, 2]] * 2, [[1234.0, 7.0], [30.0, 20.0]]
    frame = pd.DataFrame({"replica": ["p", "l"], "edges": [7, 20], "history_step": steps, "history_edges": edges})
    mixed = frame.assign(history_entropy=[[0.5, 0.25], None])  # a linear network has nothing to choose
    for table, panels in ((frame, 1), (mixed, 2)):
        figure = drawing.draw_curves(table, "p")
        assert figure is not None
        assert len(figure.axes) == panels
    words = seen.curves_words(mixed, "p")
    assert "number of edges goes from 1,234 to 7" in words
    assert "entropy of choices goes from 0.5 to 0.25" in words
