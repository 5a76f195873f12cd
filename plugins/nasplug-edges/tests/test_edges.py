"""The laws of `nasplug.testing`, what each mode starts as and turns into, and what is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from nasplug.config import parse
from nasplug.discretize import discretize
from nasplug.errors import ConfigError
from nasplug.finetune import finetune
from nasplug.networks import Networks, forward, sizes
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.testing import SearchMethodLaws, example_task
from nasplug.train import evaluate, train
from nasplug_edges import Gated, edges

SEEDS = torch.arange(3)
ONE = torch.ones(3, dtype=torch.float64)


class TestAnnealed(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"hidden": [5]}


class TestAnnealedWithSkips(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"hidden": [4, 3], "skips": True, "activation": "tanh", "slope": 0.8}


class TestGated(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"mode": "gated", "hidden": [4, 3], "skips": True}


class TestHardConcrete(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"mode": "hard_concrete", "hidden": [4, 3], "skips": True, "start": 0.6}


class TestL1(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"mode": "l1", "hidden": [5], "bias": False}


class TestLinear(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"mode": "l1", "hidden": []}


class TestGatedBehindAStem(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {
        "mode": "gated",
        "hidden": [4],
        "stem": {"image": [1, 1, 3], "layers": [{"channels": 2, "kernel": [1, 2], "pool": [1, 2], "activation": "tanh"}]},
    }


class TestSnap(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {"mode": "snap", "hidden": [4], "every": 2}


def soft(tau: float, **options: Any) -> Networks:
    method = edges(**options)
    return method.relax(method.init(example_task(), SEEDS), ONE * tau)


def test_annealed_rows_are_mirrored() -> None:
    w = soft(1.0, hidden=[5]).blocks[1, 0]
    torch.testing.assert_close(w[:, 0:4:2], -w[:, 1:4:2])
    torch.testing.assert_close(w[:, 0::2] @ w[:, 0::2].mT, torch.eye(3).double().expand(3, 3, 3))


def test_annealed_starts_layered_and_unbiased() -> None:
    nets = soft(1.0, hidden=[4, 3], skips=True)
    assert all(bool((nets.blocks[edge] == 0).all()) == (edge[0] - edge[1] > 1) for edge in nets.blocks)
    assert all(bool((b == 0).all()) for b in nets.biases.values())


def test_annealed_slope_follows_tau() -> None:
    for tau, share in ((3.0, 0.4), (1.0, 0.4), (0.5, 0.2), (0.0, 0.0)):
        nets = soft(tau, hidden=[4], slope=0.4)
        assert nets.candidates == ("relu", "identity")
        torch.testing.assert_close(nets.choices[1][..., 1], torch.full((3, 1), share).double())


def test_gates_start_where_told_and_harden_with_tau() -> None:
    for tau, gate in ((1.0, 0.8), (0.1, 1.0), (0.0, 1.0)):
        nets = soft(tau, mode="gated", hidden=[4], start=0.8)
        torch.testing.assert_close(nets.edge_gates[1, 0], torch.full((3, 4, 3), gate).double(), atol=1e-5, rtol=0)


def test_a_logit_gates_its_own_edge() -> None:
    method = edges(mode="gated", hidden=[2, 2], skips=True)
    assert isinstance(method, Gated)
    params = method.init(example_task(), SEEDS)
    params["logits"][:, 6] = -50.0  # block (1, 0) has 2 x 3 edges and comes first
    gates = method.relax(params, ONE).edge_gates
    closed = {edge: (g < 0.5).nonzero()[:, 1:].unique(dim=0).tolist() for edge, g in gates.items() if bool((g < 0.5).any())}
    assert closed == {(2, 0): [[0, 0]]}


def test_hard_concrete_gates_are_closed_and_open_as_often_as_the_paper_says() -> None:
    """Chances of exactly 0 and 1 are ``sigmoid(-(logit - tau log(1 / 11)))`` and its mirror image (Louizos et al., 12)."""
    method = edges(mode="hard_concrete", hidden=[500], start=0.7)
    task, tau = example_task(), 2 / 3
    params = method.init(task, SEEDS)
    gates = torch.cat([g.flatten(1) for g in method.relax(params, ONE * tau, SEEDS + 7).edge_gates.values()], 1)
    logit = torch.logit(torch.tensor(0.7, dtype=torch.float64))
    above = torch.sigmoid(logit - tau * torch.log(torch.tensor(1 / 11)))
    closed, opened = (gates == 0).double().mean(1), (gates == 1).double().mean(1)
    torch.testing.assert_close(closed, (1 - above).expand(3), atol=0.03, rtol=0)
    torch.testing.assert_close(
        opened, torch.sigmoid(logit + tau * torch.log(torch.tensor(1 / 11))).expand(3), atol=0.04, rtol=0
    )
    still = method.relax(params, ONE * tau).edge_gates[1, 0]
    torch.testing.assert_close(still, torch.full_like(still, 0.5 + 1.2 * 0.2))
    again = method.relax(params, ONE * tau, SEEDS + 7).edge_gates[1, 0]
    assert torch.equal(again.flatten(1), gates[:, : again[0].numel()])


def test_a_closed_gate_of_hard_concrete_cuts_its_edge() -> None:
    method = edges(mode="hard_concrete", hidden=[2])
    params = method.init(example_task(), SEEDS)
    params["logits"][:, 0] = -3.0  # sigmoid is 0.047, stretched below 0
    nets = method.relax(params, ONE)
    assert float(nets.edge_gates[1, 0][:, 0, 0].abs().max()) == 0.0
    assert (
        sizes(nets)["edges"].tolist() == [int(sizes(method.relax(method.init(example_task(), SEEDS), ONE))["edges"][0]) - 1] * 3
    )


def test_l1_starts_as_torch_does() -> None:
    nets = soft(1.0, mode="l1", hidden=[400])
    for tensor, fan_in in ((nets.blocks[1, 0], 3), (nets.biases[1], 3), (nets.blocks[2, 1], 400), (nets.biases[2], 400)):
        assert float(tensor.abs().max()) <= fan_in**-0.5
    assert float(nets.blocks[2, 1].std()) == pytest.approx((3 * 400) ** -0.5, rel=0.05)


def test_snap_rounds_in_time_but_not_at_the_end() -> None:
    method = edges(mode="snap", hidden=[2], every=3, cut=0.25)
    params = {"block 1 0": torch.tensor([[[0.25, -0.3, 0.2]]])}
    for step in (1, 2, 4, 9):
        assert method.project(params, step, 9) is params
    for step in (3, 6):
        assert method.project(params, step, 9)["block 1 0"].tolist() == [[[1.0, 1.0, 0.0]]]


@pytest.mark.parametrize(("hidden", "count"), [(4, 14), (3, 11)])
def test_snap_has_the_edges_that_can_carry_signal(hidden: int, count: int) -> None:
    """The code it follows adds a block of hidden x hidden: 14 of 30 and 11 of 20."""
    method = edges(mode="snap", hidden=[hidden])
    task = load_plugins().build("task", "xor", {})
    assert sizes(method.relax(method.init(task, SEEDS), ONE))["edges"].tolist() == [count] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": []}, "at least one layer"),
        ({"hidden": [4, 0]}, "at least one neuron"),
        ({"activation": "identity"}, "nothing to anneal"),
        ({"slope": 1.5}, "0 <= slope <= 1"),
        ({"mode": "l1", "slope": 0.5}, "does not read it"),
        ({"every": 5}, "snap: every, cut"),
        ({"mode": "gated", "start": 1.0}, "0 < start < 1"),
        ({"mode": "hard_concrete", "start": 0.0}, "0 < start < 1"),
        ({"mode": "hard_concrete", "slope": 0.5}, "does not read it"),
        ({"mode": "snap", "skips": True}, "Leave both out"),
        ({"mode": "snap", "bias": True}, "Leave both out"),
        ({"mode": "snap", "hidden": [4, 4]}, "one hidden layer"),
        ({"mode": "snap", "every": 0}, ">= 1"),
        ({"mode": "snap", "cut": float("nan")}, "finite number > 0"),
    ],
)
def test_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        edges(**options)


def test_a_config_is_checked_against_the_signature() -> None:
    with pytest.raises(ConfigError, match="mode"):
        load_plugins().build("method", "edges", {"mode": "snapp"})


def study(task: str, hidden: int) -> dict[str, Any]:
    return {
        "study": "recipe",
        "task": {"use": task},
        "method": {"use": "edges", "hidden": [hidden]},
        "penalties": [{"use": "l1", "level": 0.016, "ramp": {"use": "linear", "since": 0.1, "until": 0.7}}],
        "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.9},
        "discretizers": [{"use": "threshold"}, {"use": "fold", "tolerance": 0.02}, {"use": "threshold"}],
        "train": {"steps": 2000, "lr": 0.01, "finetune": 400, "compile": False},
        "seeds": 24,
    }


@pytest.mark.slow
@pytest.mark.parametrize(("task", "hidden", "limit"), [("xor", 8, 6), ("xor", 4, 6), ("addition", 8, 3)])
def test_the_recipe_reaches_the_limits(task: str, hidden: int, limit: int) -> None:
    plugins = load_plugins()
    config = parse(study(task, hidden))
    pack = Pack("p", {}, {}, config.seed_list, [0] * len(config.seed_list))
    parts = components(config, pack, plugins)
    search = assemble(parts, pack, plugins)
    *_, last = train(search, every=config.train.steps)
    with torch.no_grad():
        nets = parts.method.relax(last.state.params, search.tau.at(search.steps - 1))
    hard = finetune(search, discretize(parts.task, nets, parts.discretizers)[0], parts.finetune, search.lr.at(0))
    scores = evaluate(parts.task, parts.task.test, hard, forward)
    good = scores["accuracy"] >= 0.95 if task == "xor" else scores["r2"] >= 0.999
    at_limit = sizes(hard)["edges"] == limit
    assert int(good.sum()) >= 23
    assert int((good & at_limit).sum()) >= 21
