"""Operations on edges: the laws, what they are while mixed, what is chosen, and what is left of them."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.compact import compact, load, save
from nasplug.config import parse
from nasplug.discretize import discretize
from nasplug.errors import ConfigError, ContractError
from nasplug.finetune import refit
from nasplug.networks import Networks, alive, decided, forward, harden, shares, sizes, take
from nasplug.plugins import load_plugins
from nasplug.replicas import normal
from nasplug.study import Study
from nasplug.tasks import Task
from nasplug.testing import SearchMethodLaws, example_task
from nasplug.train import ValidationLoss
from nasplug_mixture import certify, closest, least, operations
from nasplug_mixture.sites import certificates, ways
from nasplug_mixture.tuples import tuples

torch.set_num_threads(1)
SEEDS = torch.arange(5)
ONE = torch.ones(5, dtype=torch.float64)


class TestOperations(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {"hidden": [5, 5]}


class TestBehindAStem(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {
        "hidden": [4, 4],
        "sampling": "dirichlet",
        "stem": {"image": [1, 1, 3], "layers": [{"channels": 2, "sizes": [[1, 1], [1, 3]]}]},
    }


class TestOnTheSimplexStraightThrough(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {
        "hidden": [4, 4],
        "operations": ["residual", "rank_1", "linear"],
        "between": "next",
        "activation": "tanh",
        "parametrisation": "simplex",
        "sampling": "straight_through",
        "bias": False,
    }


class TestGated(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {"hidden": [4, 3], "operations": ["linear", "gated", "none"], "activation": "tanh"}


class TestWidths(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {"hidden": [5, 4], "operations": ["linear", "none"], "widths": [1, 3]}


def leaves(method: Any, task: Task, sharp: float = 1.0, seeds: Tensor = SEEDS) -> dict[str, Tensor]:
    params: dict[str, Tensor] = method.init(task, seeds)
    for name, p in params.items():
        if name.startswith("operation"):
            params[name] = sharp * normal(seeds, name, tuple(p.shape[1:]))
    return params


def by_hand(method: Any, params: dict[str, Tensor], task: Task, x: Tensor) -> Tensor:
    """The formula of the docstring, one edge after the other."""
    depth = len(method.hidden) + 1
    values = [x]
    for to in range(1, depth + 1):
        z = params[f"bias {to}"].unsqueeze(-1)
        for source in range(to):
            offered = method._offered(to, source, task.inputs, task.outputs)
            share = torch.softmax(params[f"operation {to} {source}"], -1)
            for at, name in enumerate(offered):
                p, a = share[:, at, None, None], values[source]
                if name == "linear":
                    z = z + p * (params[f"linear {to} {source}"] @ a)
                elif name == "residual":
                    z = z + p * a
                elif name == "gated":
                    both = params[f"gated {to} {source}"] @ a + params[f"gated bias {to} {source}"].unsqueeze(-1)
                    half = both.shape[1] // 2
                    z = z + p * both[:, :half] * torch.sigmoid(both[:, half:])
                elif name.startswith("rank_"):
                    z = z + p * (params[f"{name} up {to} {source}"] @ (params[f"{name} down {to} {source}"] @ a))
        values.append(torch.relu(z) if to < depth else z)
    return values[-1]


@pytest.mark.parametrize("kind", ["regression", "classes"])
def test_it_is_the_formula(kind: Any) -> None:
    task = example_task(kind)
    method = operations(hidden=[5, 4, 5], operations=["none", "rank_1", "gated", "linear", "rank_2", "residual"])
    params = leaves(method, task)
    nets = method.relax(params, ONE)
    nets.check()
    torch.testing.assert_close(forward(nets, task.train.x), by_hand(method, params, task, task.train.x))
    torch.testing.assert_close(forward(alive(nets), task.train.x), forward(nets, task.train.x))
    for share in shares(nets):
        torch.testing.assert_close(share.sum(1), ONE)


def test_neurons_have_the_shares_of_the_widths_that_have_them() -> None:
    task = example_task()
    method = operations(hidden=[5, 2], operations=["linear", "none"], widths=[2, 4])
    params = method.init(task, SEEDS)
    assert sorted(name for name in params if name.startswith("width")) == ["width 1"]  # the second layer is 2 wide
    params["width 1"] = torch.log(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)).expand(5, -1)
    nets = method.relax(params, ONE)
    torch.testing.assert_close(nets.gates[1], torch.tensor([[1.0, 1.0, 0.8, 0.8, 0.3]], dtype=torch.float64).expand(5, -1))
    assert harden(nets).gates[1].tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0]] * 5  # the median, 4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_the_width_that_stays_is_one_to_choose_from(logits: list[float]) -> None:
    task = example_task()
    method = operations(hidden=[6], operations=["linear", "none"], widths=[1, 4], between="all")
    params = method.init(task, SEEDS) | {"width 1": torch.tensor([logits], dtype=torch.float64).expand(5, -1)}
    width = int(harden(method.relax(params, ONE)).gates[1][0].sum())
    share = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0)
    below = {1: 0.0, 4: float(share[0]), 6: float(share[:2].sum())}
    assert width in below
    assert below[width] <= 0.5 + 1e-12


def one_way(names: list[str], hidden: list[int], **options: Any) -> tuple[Networks, Task]:
    """Hard networks with these operations on the edges, in their order."""
    task = example_task()
    method = operations(hidden=hidden, **options)
    nets = method.relax(leaves(method, task), ONE)
    found = method.skeleton(task.inputs, task.outputs).ways.values()  # type: ignore[attr-defined]
    index = [torch.full((5,), list(ways).index(name)) for name, ways in zip(names, found, strict=True)]
    return alive(harden(decided(nets, index))), task


def test_an_edge_that_nothing_fits_is_none() -> None:
    """Rank 2 is not below the 2 neurons in the middle: between layers 1 and 2, and 2 and 3, there is nothing."""
    task = example_task("classes")
    method = operations(hidden=[4, 2, 4], operations=["rank_2", "none"])
    nets = method.relax(method.init(task, SEEDS), ONE)
    nets.check()
    assert [(site.to, site.source) for site in ways(nets)] == [(1, 0), (3, 0), (3, 1), (4, 0), (4, 1), (4, 3)]
    hard = alive(harden(closest()(nets, ValidationLoss(task))))
    outputs = compact(hard, 0)(task.valid.x.T.float()).T
    torch.testing.assert_close(outputs, forward(hard, task.valid.x)[0], atol=1e-5, rtol=1e-5)


def test_numbers_are_counted_and_a_residual_has_none() -> None:
    """Edges 1-0, 2-0, 2-1, 3-0, 3-1, 3-2 of 3 inputs, 4 and 4 neurons, 1 output."""
    names = ["linear", "none", "residual", "none", "none", "linear"]
    nets, _ = one_way(names, [4, 4])
    found = {name: int(values[0]) for name, values in sizes(nets).items()}
    assert found == {"edges": 12 + 4 + 4, "neurons": 8, "layers": 2, "inputs": 3, "parameters": 12 + 4 + 4 + 4 + 1, "macs": 16}
    small = compact(nets, 0)
    assert small.record["widths"] == [3, 4, 4, 1]
    assert small.record["passes"] == [[2, 1, [0, 1, 2, 3]]]
    assert small.parameter_count == small.record["sizes"]["parameters"] == 25
    assert sorted(small.state_dict()) == sorted(
        [f"{end}_{what}" for end in ("input", "output") for what in ("shift", "scale")]
        + ["kept", "weight_1_0", "weight_3_2", "bias_1", "bias_2", "bias_3"]
    )
    low, _ = one_way(["rank_2", "none", "linear", "none", "none", "linear"], [4, 4])
    assert int(sizes(low)["edges"][0]) == 2 * 3 + 4 * 2 + 16 + 4
    assert compact(low, 0).record["activations"][0] == [["identity", 2]]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.floats(0.0, 0.9))
def test_what_is_left_is_the_same_function(tmp_path_factory: pytest.TempPathFactory, seed: int, cut: float) -> None:
    """Also where neurons on both sides of a residual were cut; compact, saved and loaded."""
    task = example_task()
    method = operations(hidden=[4, 4, 4], activation="tanh")
    nets = method.relax(leaves(method, task, 3.0, SEEDS + seed), ONE)
    gates = {
        layer: g * (normal(SEEDS + seed, f"cut {layer}", tuple(g.shape[1:])) > cut - 0.5) for layer, g in nets.gates.items()
    }
    hard = alive(harden(replace(nets, gates=gates)))
    again = alive(harden(hard))
    for k in range(2):
        small = compact(hard, k)
        outputs = small(task.valid.x.T.float()).T
        torch.testing.assert_close(outputs, forward(hard, task.valid.x)[k], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(forward(again, task.valid.x)[k], forward(hard, task.valid.x)[k])
        assert small.parameter_count <= small.record["sizes"]["parameters"]
        folder = tmp_path_factory.mktemp("network")
        save(small, folder)
        assert torch.equal(load(folder)(task.valid.x.T.float()).T, outputs)


def test_a_record_that_passes_on_what_is_not_there_is_refused(tmp_path: Path) -> None:
    nets, _ = one_way(["linear", "none", "residual", "none", "none", "linear"], [4, 4])
    small = compact(nets, 0)
    for passes in (
        [[2, 1, [0, 1, 2]]],
        [[2, 1, [0, 1, 2, 4]]],
        [[2, 1, [0, 0, 1, 2]]],
        [[1, 0, [0, 1, 2, -1]]],
        [[1, 2, [0] * 4]],
    ):
        with pytest.raises(ConfigError, match="network record"):
            type(small)({**small.record, "passes": passes})


def test_finetuning_leaves_a_residual_as_it_is() -> None:
    nets, task = one_way(["linear", "none", "residual", "none", "none", "linear"], [4, 4])
    tuned = refit(task, nets, 20, 0.01)
    (layer,) = tuned.passes
    for edge, w in tuned.blocks.items():
        assert torch.equal(w, nets.blocks[edge]) == (layer in edge or not bool((w != 0).any()))
    assert compact(tuned, 0).record["passes"] == compact(nets, 0).record["passes"]


def test_what_no_longer_passes_on_as_it_is_is_not_saved_as_such() -> None:
    nets, _ = one_way(["linear", "none", "residual", "none", "none", "linear"], [4, 4])
    (layer,) = nets.passes
    for edge in (edge for edge in nets.blocks if layer in edge):
        turned = nets.blocks[edge].flip(1)
        changed = replace(nets, blocks={**nets.blocks, edge: turned}, edge_gates={})
        with pytest.raises(ContractError, match="no identity any more"):
            compact(changed, 0)


def test_an_operation_with_a_share_of_0_is_judged_by_what_it_does() -> None:
    """And not as `none`: what the search has dropped may still have the least loss."""
    task = example_task()
    method = operations(hidden=[4, 4], operations=["linear", "residual", "none"], parametrisation="simplex")
    params = method.init(task, SEEDS)
    name, group = "operation 2 1", 2

    def with_shares(*values: float) -> Networks:
        return method.relax({**params, name: torch.tensor(values).double().expand(5, -1)}, ONE)

    nets = with_shares(0.0, 0.5, 0.5)
    (found,) = [some for site, some in certificates(nets, task) if site == ways(nets)[group]]
    for place, shares_ in enumerate(torch.eye(3).tolist()):
        f = forward(with_shares(*shares_), task.train.x)
        away = (f - forward(nets, task.train.x)).square().mean((1, 2)) / 2
        torch.testing.assert_close(found.q[:, 0, place], away)
    index: list[Tensor | None] = [None] * len(nets.alternatives)
    index[group] = torch.zeros(5, dtype=torch.long)
    assert torch.equal(forward(decided(nets, index), task.train.x), forward(with_shares(1.0, 0.0, 0.0), task.train.x))
    cut = replace(
        nets, edge_gates={edge: torch.zeros_like(gate) for edge, gate in nets.edge_gates.items()}, alternatives=(((1, 0),),)
    )
    assert not bool(decided(cut).edge_gates[1, 0].any())


@pytest.mark.parametrize("name", ["l1", "neurons", "soft_count"])
def test_penalties_see_the_share_of_linear_alone(name: str) -> None:
    task, penalty = example_task(), load_plugins().build("regularizer", name, {})
    method = operations(hidden=[4, 4], parametrisation="simplex")
    params = method.init(task, SEEDS)

    def value(*values: float) -> Tensor:
        """With these shares of linear, rank 2, residual and none between the hidden layers."""
        nets = method.relax({**params, "operation 2 1": torch.tensor(values).double().expand(5, -1)}, ONE)
        found: Tensor = penalty(nets)
        return found

    none = value(0.0, 0.0, 0.0, 1.0)
    assert torch.equal(value(0.0, 1.0, 0.0, 0.0), none)
    assert torch.equal(value(0.0, 0.0, 1.0, 0.0), none)
    assert bool((value(1.0, 0.0, 0.0, 0.0) > none).all())


def losses(nets: Networks, task: Task, group: int) -> tuple[Tensor, Tensor]:
    """Of each operation of an edge alone, by hand: the distance to the mixture and the loss, ``(K, A)``."""
    f_a, found = forward(nets, task.train.x), []
    for place in range(len(nets.alternatives[group])):
        index: list[Tensor | None] = [None] * len(nets.alternatives)
        index[group] = torch.full((nets.replicas,), place)
        f = forward(decided(nets, index), task.train.x)
        found.append(torch.stack([(f - f_a).square().mean((1, 2)) / 2, (f - task.train.y).square().mean((1, 2)) / 2]))
    return torch.stack(found, -1).unbind(0)  # type: ignore[return-value]


def test_closest_and_least_are_what_they_say() -> None:
    task = example_task()
    method = operations(hidden=[4, 4])
    nets = method.relax(leaves(method, task), ONE)
    score = ValidationLoss(task)
    near, low, found = closest()(nets, score), least()(nets, score), certify(nets, score)
    for group in range(len(nets.alternatives)):
        q, loss = losses(nets, task, group)
        if group < 3:  # those into the output are decided together
            assert shares(near)[group].argmax(1).tolist() == q.argmin(1).tolist()
        assert shares(low)[group].argmax(1).tolist() == loss.argmin(1).tolist()
        sites = [one["sites"][group] for one in found]
        torch.testing.assert_close(torch.tensor([site["Q"] for site in sites]).double(), q, rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(torch.tensor([site["L"] for site in sites]).double(), loss, rtol=1e-5, atol=1e-9)
        assert {(site["layer"], site["from"]) for site in sites} == {[(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)][group]}
        assert {site["scope"] for site in sites} == {"theorem" if group > 2 else "heuristic"}
    for hard in (near, low):
        assert all(bool(((s == 0) | (s == 1)).all()) for s in shares(hard))
        again = closest()(hard, score)
        assert all(torch.equal(a, b) for a, b in zip(shares(again), shares(hard), strict=True))
    for k in range(5):
        alone = closest()(take(nets, torch.tensor([k])), score)
        assert all(torch.equal(a[0], b[k]) for a, b in zip(shares(alone), shares(near), strict=True))
    broken = replace(nets, edge_gates={e: g.index_fill(0, torch.tensor([1]), torch.nan) for e, g in nets.edge_gates.items()})
    beside, _ = discretize(task, broken, [closest()])
    whole, _ = discretize(task, nets, [closest()])
    for edge, w in whole.blocks.items():
        assert torch.equal(beside.blocks[edge][[0, 2, 3, 4]], w[[0, 2, 3, 4]])


@pytest.mark.parametrize("noise", [0.0, 1e-3, 1.0])
def test_edges_into_the_output_are_decided_together(noise: float) -> None:
    """The closest tuple against all of them, by hand; proven where the mixture meets the targets, and never wrong."""
    task = example_task()
    method = operations(hidden=[4, 4], operations=["linear", "none", "residual"])
    params = leaves(method, task)
    params["operation 3 1"][2] = torch.tensor([0.0, 1e5])  # hard already
    nets = method.relax(params, ONE)
    f_a = forward(nets, task.train.x)
    y = f_a + noise * normal(SEEDS, "noise", tuple(f_a.shape[1:]))
    own = replace(task, train=replace(task.train, x=task.train.x.expand(5, -1, -1), y=y))
    found = tuples(nets, own)
    assert found is not None
    groups, every = [edge.group for edge in found.edges], list(itertools.product(range(2), repeat=3))
    q, loss = torch.empty(5, 8).double(), torch.empty(5, 8).double()
    for at, one in enumerate(every):
        index: list[Tensor | None] = [None] * len(nets.alternatives)
        for group, place in zip(groups, one, strict=True):
            index[group] = torch.full((5,), place)
        f = forward(decided(nets, index), task.train.x)
        q[:, at], loss[:, at] = (f - f_a).square().mean((1, 2)) / 2, (f - y).square().mean((1, 2)) / 2
    torch.testing.assert_close(found.certificate.q, q)
    q[2] += torch.tensor([math.inf if one[1] == 0 else 0.0 for one in every])
    assert found.chosen.tolist() == [list(every[at]) for at in q.argmin(1).tolist()]
    taken = loss.gather(1, q.argmin(1, keepdim=True)).squeeze(1)
    assert bool((taken <= loss.amin(1) * (1 + 1e-9))[found.proven].all())
    assert int(found.proven.sum()) >= (4 if noise == 0.0 else 0)
    score = ValidationLoss(own)
    near = shares(closest()(nets, score))
    assert [[int(near[g][k].argmax()) for g in groups] for k in range(5)] == found.chosen.tolist()
    told = certify(nets, score)
    assert [one["tuple_proven"] for one in told] == found.proven.int().tolist()
    assert all(one["into_output"]["edges"] == [[3, 0], [3, 1], [3, 2]] for one in told)


def study(store: Path, method: dict[str, Any] | None = None, **changes: Any) -> Any:
    plain: dict[str, Any] = {
        "study": "s",
        "store": str(store),
        "task": {"use": "mixture_teacher", "samples": 80},
        "method": {"use": "operations", "hidden": [4, 4], **(method or {})},
        "temperature": {"use": "linear", "start": 1.0, "end": 0.3},
        "discretizers": [{"use": "closest"}],
        "train": {"steps": 30, "lr": 0.01, "finetune": 10, "architecture": {"optimizer": {"use": "adam"}, "lr": 0.05}},
        "seeds": 3,
        "linear": False,
        "mlflow": None,
    }
    return parse(plain | changes)


GAEA = {"steps": 30, "lr": 0.01, "architecture": {"optimizer": {"use": "exponentiated"}, "lr": 0.1, "share": 0.5}}


@pytest.mark.parametrize("how", ["softmax", "exponentiated"])
def test_a_study_searches_hardens_and_is_reproduced(how: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {}
    if how == "exponentiated":
        more = {"method": {"parametrisation": "simplex", "widths": [2]}, "temperature": None, "train": GAEA}
    done = Study(study(tmp_path, **more)).run("serial", report=False)
    frame = done.frame
    assert (frame["status"] == "finished").all()
    assert (frame["certificate_sites_mixed"] == 6).all()
    assert (
        (frame["history_entropy"].map(lambda values: values[-1] < values[0] + 1e-9)).all()
        if "history_entropy" in frame
        else True
    )
    whole = json.loads((done.folder / "best" / "certificate.json").read_text())
    assert set(whole["candidates"]) == {"linear", "rank_2", "residual", "none"}
    record = json.loads((done.folder / "best" / "network.json").read_text())
    assert record["sizes"]["parameters"] == done.network().parameter_count
    name = str(frame["replica"].iloc[1])
    from nasplug.tracing import again

    told, _ = again(done.lineage(name), done.network(name), done.plugins)
    assert told.reproduced, told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hidden": []}, "at least one hidden layer"),
        ({"operations": ["linear"]}, "two or more"),
        ({"operations": ["linear", "none", "linear"]}, "linear more than once"),
        ({"operations": ["linear", "rank_0"]}, "'rank_0' is none"),
        ({"operations": ["linear", "conv"]}, "'conv' is none"),
        ({"operations": ["residual", "none"]}, "no edge could learn"),
        ({"between": "next"}, "cut networks in two"),
        ({"widths": [4, 2]}, "ascending whole numbers"),
        ({"widths": [0, 2]}, "ascending whole numbers"),
        ({"widths": [16]}, "below the width of at least one"),
    ],
)
def test_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        operations(**options)


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ({"hidden": [4, 5]}, {}, "residual needs two hidden layers of equal width"),
        ({"operations": ["linear", "rank_9", "none"]}, {}, "rank_9 fits no edge, as it has to be below"),
        ({"hidden": [4], "operations": ["linear", "rank_4"], "between": "next"}, {}, "rank_4 fits no edge"),
        ({"activation": "rleu"}, {}, "rleu"),
        ({}, {"discretizers": [{"use": "threshold"}, {"use": "closest"}]}, "operations are still mixed"),
        ({}, {"discretizers": [{"use": "ranked"}]}, "these networks choose operations"),
        ({"parametrisation": "simplex"}, {}, "points of the simplex"),
        (
            {"operations": ["rank_1", "residual", "none"]},
            {},
            "no one of rank_1, residual, none leads over the edges of the output",
        ),
        ({"operations": ["rank_1", "residual"], "between": "next"}, {}, "leads over the edges of the output"),
    ],
)
def test_a_plan_refuses(method: dict[str, Any], changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ContractError), match=words):
        Study(study(tmp_path, method, **changes)).plan()
