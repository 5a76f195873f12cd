"""Transforms of a target: learned, undone, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import ConfigError
from nasplug.compact import CompactNetwork, compact, export, load, save
from nasplug.data.datasets import table
from nasplug.data.transforms import MOST_KNOTS, Transform, undone
from nasplug.tasks import Facts, Task
from nasplug.testing import example_networks


def fitted(use: Any, y: np.ndarray[Any, Any], train: np.ndarray[Any, Any] | None = None) -> Transform:
    return Transform.fit("here", use, y, y if train is None else train, [f"y{i}" for i in range(y.shape[1])])


targets = st.lists(st.floats(1e-3, 1e6), min_size=4, max_size=300).filter(lambda v: len(set(v)) > 1)


@given(targets, st.sampled_from(["log", "rank"]))
@settings(max_examples=80)
def test_law_of_transforms(values: list[float], use: str) -> None:
    """It rises, what was learned from is given back (beyond 129 values within a knot's width), and so is its plain data."""
    y = np.array(values)[:, None]
    made = fitted(use, y)
    t = made.forward(y)
    order = np.argsort(y[:, 0], kind="stable")
    assert (np.diff(t[order, 0]) >= 0).all()
    back = undone(torch.from_numpy(t), made.knots()).numpy()
    if len(set(values)) <= MOST_KNOTS // 2:
        np.testing.assert_allclose(back, y, rtol=1e-9)
    else:
        assert np.abs(back - y).max() <= np.ptp(y)
    assert Transform.from_plain(json.loads(json.dumps(made.plain()))) == made


def test_ranks_are_normal_scores_of_the_training_rows() -> None:
    y = np.random.default_rng(0).lognormal(size=(5000, 1))
    t = fitted("rank", y).forward(y)
    assert abs(t.mean()) < 0.01
    assert t.std() == pytest.approx(1.0, abs=0.02)
    few = fitted("rank", np.array([[1.0], [1.0], [2.0], [5.0]]))
    assert few.values == ((1.0, 2.0, 5.0),)
    np.testing.assert_allclose(few.scores[0], [-0.67449, 0.31864, 1.15035], atol=1e-4)  # of 1/4, 5/8 and 7/8
    np.testing.assert_allclose(few.forward(np.array([[-9.0], [1.5], [9.0]]))[:, 0], [-0.67449, -0.177926, 1.15035], atol=1e-4)
    assert undone(torch.tensor([[-9.0], [9.0]]).double(), few.knots()).tolist() == [[1.0], [5.0]]


@pytest.mark.parametrize(
    "plain",
    [
        {"use": "sqrt"},
        {"use": "rank"},
        {"use": "log", "values": [[1.0, 2.0]], "scores": [[0.0, 1.0]]},
        {"use": "rank", "values": [[1.0, 1.0]], "scores": [[0.0, 1.0]]},
        {"use": "rank", "values": [[1.0, 2.0]], "scores": [[0.0]]},
        {"use": "rank", "values": [[1.0, float("nan")]], "scores": [[0.0, 1.0]]},
    ],
)
def test_records_that_no_transform_has(plain: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="transform record"):
        Transform.from_plain(plain)


def prices(folder: Path, **options: Any) -> Task:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": random.normal(50, 10, 200), "price": random.lognormal(10, 1, 200), "new": [True, False] * 100}
    )
    frame.to_csv(folder / "houses.csv", index=False)
    return table(path=str(folder / "houses.csv"), **{"target": "price"} | options)


@pytest.mark.slow
@pytest.mark.parametrize("use", ["log", "rank"])
def test_a_served_network_answers_in_the_targets_units(tmp_path: Path, use: str) -> None:
    task = prices(tmp_path, transform=use)
    assert task.digest != prices(tmp_path).digest
    facts = Facts.from_plain(json.loads(json.dumps(task.facts.plain())))
    network = compact(example_networks(0, 2, (2, 3, 1), {"blocks", "biases"}), 0, facts)
    save(network, tmp_path / "net")
    network = load(tmp_path / "net")
    frame = pd.read_csv(tmp_path / "houses.csv")
    served = network.predict(frame)["price"].to_numpy()
    transform = Transform.from_plain(task.transform or {})
    plain = {key: value for key, value in network.record.items() if key != "transform"}
    bare = CompactNetwork(plain, network.functions)
    bare.load_state_dict(network.state_dict())
    t = bare(torch.from_numpy(network.features(frame))).detach()
    np.testing.assert_allclose(served, undone(t, transform.knots())[:, 0].numpy(), rtol=1e-9)
    if use == "rank":
        assert frame["price"].min() <= served.min() <= served.max() <= frame["price"].max()
    rows = torch.from_numpy(network.features(frame))
    np.testing.assert_allclose(export(network, rows[:3]).module()(rows)[:, 0].detach().numpy(), served, rtol=1e-6)
    onnxruntime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnxscript")
    made = torch.onnx.export(export(network, rows[:3]), (), verbose=False)
    assert made is not None
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: rows.numpy()})
    np.testing.assert_allclose(found[:, 0], served, rtol=1e-5)


def test_raw_targets_come_back(tmp_path: Path) -> None:
    task = prices(tmp_path, transform="log")
    y = torch.cat([split.y for split in task.splits], 1).double() * task.output_scale[:, None] + task.output_shift[:, None]
    frame = pd.read_csv(tmp_path / "houses.csv")
    np.testing.assert_allclose(np.sort(y[0].exp().numpy()), np.sort(frame["price"]), rtol=1e-5)


def test_refusals(tmp_path: Path) -> None:
    pd.DataFrame({"size": np.arange(-5.0, 55.0), "x": np.arange(60.0)}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ConfigError, match=r"transform 'log' of target 'size', which is <= 0 in 6 rows.*Take transform 'rank'"):
        table(path=str(tmp_path / "t.csv"), target="size", transform="log")
    with pytest.raises(ConfigError, match="transform 'rank' of a target of labels"):
        prices(tmp_path, target="new", transform="rank")
