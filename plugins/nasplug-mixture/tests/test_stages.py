"""Stages: what is dropped, that it stays so in any search, pack and resume, and that no discretizer takes it back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.config import parse
from nasplug.contracts import Params, Traits
from nasplug.errors import ConfigError, ContractError
from nasplug.networks import Networks, shares
from nasplug.packs.stored import HISTORIES, Standing, load_checkpoint, save_checkpoint
from nasplug.plan import Pack, assemble, chunk, components
from nasplug.plugins import load_plugins
from nasplug.results import certificate as stored
from nasplug.stems import Convolution, Stem
from nasplug.study import Study
from nasplug.testing import SearchMethodLaws, example_networks, example_score, example_task
from nasplug.train import Report, Search, start, train
from nasplug_mixture import certificate, closest, least, mixture, operations, ranked
from nasplug_mixture.dirichlet import drawn
from nasplug_mixture.simplex import points
from nasplug_mixture.stages import dropped

torch.set_num_threads(1)

ADAM = {"optimizer": {"use": "adam", "beta1": 0.5}, "lr": 0.05}
GAEA = {"optimizer": {"use": "exponentiated"}, "lr": 0.5}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "together": ({}, None),
    "darts": ({}, ADAM | {"share": 0.5}),
    "darts, second order": ({}, ADAM | {"share": 0.5, "order": 2}),
    "gaea": ({"parametrisation": "simplex"}, GAEA | {"share": 0.5}),
    "gumbel": ({"sampling": "gumbel"}, ADAM),
    "straight through": ({"sampling": "straight_through", "parametrisation": "simplex"}, GAEA),
    "drnas": ({"sampling": "dirichlet"}, ADAM | {"share": 0.5}),
}
METHODS: dict[str, dict[str, Any]] = {
    "mixture": {"use": "mixture", "hidden": [4], "candidates": ["relu", "tanh", "sigmoid", "sin"]},
    "operations": {
        "use": "operations",
        "hidden": [4],
        "operations": ["linear", "gated", "rank_1", "none"],
        "widths": [1, 2, 3],
    },
}
STEPS, FIRST, SECOND = 20, 8, 14
STAGES = [[0.4, 3], [0.7, 2]]


class TestStagedMixture(SearchMethodLaws):
    name = "mixture"
    options: ClassVar = {
        "hidden": [4, 3],
        "candidates": ["relu", "tanh", "sigmoid"],
        "stages": [[0.4, 2], [0.7, 1]],
        "stem": {"image": [1, 1, 3], "layers": [{"channels": 2, "sizes": [[1, 1], [1, 3]]}]},
    }


class TestStagedOperations(SearchMethodLaws):
    name = "operations"
    options: ClassVar = {"hidden": [4, 4], "widths": [2, 3], "sampling": "dirichlet", "stages": [[0.5, 2]]}


def study(way: str, method: str = "mixture", stages: Any = STAGES, **changes: Any) -> Any:
    options, architecture = WAYS[way]
    train = {"steps": STEPS, "lr": 0.01, "dtype": "float64", "architecture": architecture, "reports": STEPS}
    plain = {
        "study": "s",
        "task": {"use": "mixture_teacher", "samples": 80},
        "method": METHODS[method] | options | ({"stages": stages} if stages else {}),
        "discretizers": [{"use": "closest"}],
        "train": train | changes.pop("train", {}),
        "seeds": [4, 1],
        "mlflow": None,
    }
    return parse(plain | changes)


def made(config: Any) -> Search:
    plugins = load_plugins()
    pack = Pack("p", {}, {}, config.seed_list, [0] * len(config.seed_list))
    return assemble(components(config, pack, plugins), pack, plugins)


def sites(nets: Networks) -> dict[int, Tensor]:
    """The shares of each site."""
    return dict(enumerate(shares(nets))) if nets.alternatives else dict(nets.choices)


@given(st.lists(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 3.0]), min_size=4, max_size=4), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_largest_stay_and_on_a_tie_the_first(rows: list[list[float]]) -> None:
    leaf = torch.tensor(rows).unsqueeze(1)
    params: Params = {"choice": leaf, "kept choice": torch.ones_like(leaf)}
    for step, keep in ((FIRST, 3), (SECOND, 2)):
        assert dropped(params, ["choice"], ((0.4, 3), (0.7, 2)), step - 1, STEPS, simplex=False) is params
        params = dropped(params, ["choice"], ((0.4, 3), (0.7, 2)), step, STEPS, simplex=False)
        assert torch.equal(params["choice"], leaf)
        for row, left in zip(rows, params["kept choice"].squeeze(1).tolist(), strict=True):
            stay = sorted(range(4), key=lambda at: (-row[at], at))[:keep]
            assert left == [float(at in stay) for at in range(4)]


def test_sizes_of_kernels_are_dropped_too() -> None:
    stem = Stem(image=(1, 1, 3), layers=(Convolution(channels=2, sizes=((1, 1), (1, 3))),))
    method = mixture(hidden=[4], candidates=["relu", "tanh", "sin"], stages=[[0.5, 1]], stem=stem)
    params = method.init(example_task(), torch.arange(2))
    params["kernel shares 1"][1, 1] = 2.0
    nets = method.relax(method.project(params, 1, 2), torch.ones(2))
    assert nets.kernel_shares[1].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert nets.choices[1][0, 0].tolist() == [1.0, 0.0, 0.0]


def test_what_was_dropped_does_not_come_back() -> None:
    params: Params = {"choice": torch.tensor([[5.0, 1.0, 2.0]]), "kept choice": torch.tensor([[0.0, 1.0, 1.0]])}
    assert dropped(params, ["choice"], ((0.5, 2),), 1, 2, simplex=False)["kept choice"].tolist() == [[0.0, 1.0, 1.0]]
    found = dropped({**params, "choice": torch.tensor([[0.6, 0.1, 0.3]])}, ["choice"], ((0.5, 1),), 1, 2, simplex=True)
    assert found["choice"].tolist() == [[0.0, 0.0, 1.0]]


@pytest.mark.parametrize("sampling", ["none", "gumbel", "straight_through", "dirichlet"])
@pytest.mark.parametrize("parametrisation", ["softmax", "simplex"])
def test_shares_are_those_of_a_search_among_what_is_left(parametrisation: Any, sampling: Any) -> None:
    if sampling == "dirichlet" and parametrisation == "simplex":
        return
    leaf = torch.tensor([[[0.1, 0.5, 0.15, 0.25]], [[0.4, 0.3, 0.2, 0.1]]]).double()
    left = torch.tensor([[[True, False, True, True]], [[False, True, False, False]]])
    tau = torch.tensor([0.7, 0.3]).double()
    for noise in (None, torch.tensor([3, 5])):
        some = leaf.clone().requires_grad_()
        found = points(some, "test", tau, noise, parametrisation, sampling, left)
        assert bool((found[~left] == 0).all())
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 1).double())
        assert found[1].tolist() == [[0.0, 1.0, 0.0, 0.0]]
        (slope,) = torch.autograd.grad((found * leaf).sum(), some)
        assert bool(torch.isfinite(slope).all())
        assert bool((slope[~left] == 0).all())
        if noise is None:
            fewer = leaf[:1, :, [0, 2, 3]]
            fewer = fewer / fewer.sum() if parametrisation == "simplex" else fewer
            torch.testing.assert_close(found[:1, :, [0, 2, 3]], points(fewer, "test", tau[:1], None, parametrisation, sampling))


def test_draws_among_what_is_left_have_the_moments_of_their_distribution() -> None:
    shape = torch.tensor([0.5, 1.0, 4.0, 2.0]).double()
    left = torch.tensor([True, True, False, True])
    p = drawn(shape.expand(1, 20_000, 4), torch.tensor([3]), "test", left.expand(1, 20_000, 4))
    total = shape[left].sum()
    mean = torch.where(left, shape / total, 0.0)
    torch.testing.assert_close(p.mean((0, 1)), mean, atol=0.005, rtol=0)
    torch.testing.assert_close(p.var((0, 1)), mean * (1 - mean) / (total + 1), atol=0.005, rtol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", METHODS)
def test_a_search_goes_on_among_fewer(method: str, way: str) -> None:
    """Before the first stage nothing differs from a search without any; after each, so many candidates are left at a site."""
    search = made(study(way, method))
    plain = train(made(study(way, method, stages=[])), every=1)
    before: dict[int, Tensor] = {}
    for report in train(search, every=1):
        found = sites(search.relax(report.state.params, search.tau.at(0)))
        if report.step < FIRST:
            wanted = next(plain).state.params
            rounding = 1e-12 if search.traits.simplex else 0.0  # of points that are divided by their sum, which is 1
            for name, leaf in wanted.items():
                torch.testing.assert_close(report.state.params[name], leaf, rtol=rounding, atol=rounding)
        keep = 4 if report.step < FIRST else 3 if report.step < SECOND else 2
        for site, share in found.items():
            some = share > 0
            assert bool((some.sum(-1) == min(keep, share.shape[-1])).all()), (report.step, site)
            torch.testing.assert_close(share.sum(-1), torch.ones_like(share.sum(-1)))
            assert bool((share[~before.get(site, torch.ones_like(some))] == 0).all())
            if report.step in (FIRST, SECOND):
                before[site] = some
    assert bool(report.healthy.all())
    drawn_nets = search.relax(report.state.params, search.tau.at(0), search.seeds if search.traits.stochastic else None)
    for site, share in sites(drawn_nets).items():
        assert bool((share[~before[site]] == 0).all())


@pytest.mark.parametrize("way", ["gaea", "drnas"])
@pytest.mark.parametrize("method", METHODS)
def test_a_pack_is_its_rows(method: str, way: str) -> None:
    def ended(seeds: list[int]) -> Params:
        *_, last = train(made(study(way, method, seeds=seeds)), every=STEPS)
        return last.state.params

    together = ended([4, 1, 9])
    differ = any(not torch.equal(leaf[0], leaf[1]) for name, leaf in together.items() if name.startswith("kept"))
    assert differ, "these rows drop the same candidates, so nothing is tried here"
    for row, seed in enumerate([4, 1, 9]):
        for name, leaf in ended([seed]).items():
            torch.testing.assert_close(together[name][row : row + 1], leaf, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_resume_from_a_checkpoint_is_bit_equal(method: str, tmp_path: Path) -> None:
    search = made(study("drnas", method, train={"batch": 16, "keep": "best"}))
    reports = {report.step: report for report in train(search, every=1)}
    for stop in (FIRST - 1, FIRST, SECOND + 2):
        now = Standing(reports[stop].state, np.arange(2), {name: [] for name in ("step", *HISTORIES)})
        save_checkpoint(tmp_path, "mine", now)
        found = load_checkpoint(tmp_path, "mine", "cpu", list(start(search).params))
        assert found is not None
        *_, again = train(search, found.state, every=1)
        for part in ("params", "moments", "best"):
            mine, wanted = (getattr(report.state, part) for report in (again, reports[STEPS]))
            assert mine.keys() == wanted.keys()
            assert not [name for name in mine if not torch.equal(mine[name], wanted[name])], (stop, part)


def test_the_best_iterate_is_one_of_the_last_stage() -> None:
    """A stage costs something at first, so an earlier iterate has a smaller loss; but it is not among what is left."""
    search = made(study("together", stages=[[0.95, 1]], train={"keep": "best"}))
    *_, last = train(search, every=1)
    assert bool((search.relax(last.state.kept, search.tau.at(0)).choices[1].amax(-1) == 1.0).all())
    *_, plain = train(made(study("together", stages=[], train={"keep": "best"})), every=1)
    assert bool((last.state.best["/objective"] > plain.state.best["/objective"]).any())


def example(kept: list[bool]) -> tuple[Networks, Any, Tensor]:
    """Networks of one mixed layer of four candidates, those that are not kept with a share of 0."""
    left = torch.tensor(kept)
    nets = example_networks(3, 2, (3, 4, 1), parts=("biases", "choices"), skips=False)
    names = ("tanh", "relu", "identity", "sigmoid")
    share = torch.where(left, torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), 0.0)
    return (
        replace(
            nets,
            candidates=names,
            choices={1: (share / share.sum()).expand(2, 1, 4)},
            kept={1: left.double().expand(2, 1, 4)},
        ),
        example_score((3, 4, 1)),
        left,
    )


@pytest.mark.parametrize("discretizer", [closest(), least(), ranked(), ranked(most=1)])
def test_no_discretizer_takes_back_what_was_dropped(discretizer: Any) -> None:
    everything = example([True] * 4)
    for place in range(4):
        nets, score, left = example([place != other for other in range(4)])
        hard, told = discretizer.certified(nets, score)
        assert not bool(hard.choices[1][..., ~left].any())
        for one in told:
            (site,) = one["sites"]
            gone = [name for name, is_left in zip(nets.candidates, left, strict=True) if not is_left]
            assert site["dropped"] == gone
            assert site["shares"][place] == 0.0
            assert gone[0] not in (site["largest"], site["closest"], site["least_loss"])
            assert f"dropped them: {gone[0]}" in site["verdict"]
    (site,) = discretizer.certified(*everything[:2])[1][0]["sites"]
    assert "dropped" not in site


@given(st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_a_certificate_of_what_is_left_is_that_without_the_others(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(5, 2, 12, generator=generator).double()
    y = torch.randn(2, 12, generator=generator).double()
    left = torch.rand(5, generator=generator) > 0.4
    left[int(torch.randint(5, (), generator=generator))] = True
    a = torch.where(left, torch.rand(5, generator=generator).double() + 0.05, 0.0)
    some, alone = certificate(f, a, y, left=left), certificate(f[left], a[left], y)
    names = torch.arange(5)[left]
    for chosen in ("largest", "closest", "best"):
        assert int(getattr(some, chosen)) == int(names[int(getattr(alone, chosen))])
    for number in ("least", "margin", "gap", "residual"):
        torch.testing.assert_close(getattr(some, number), getattr(alone, number))
    for fact in ("condition6", "label_free", "sure"):
        assert bool(getattr(some, fact)) == bool(getattr(alone, fact)), fact


def test_fold_leaves_nothing_of_what_was_dropped() -> None:
    """It may choose the identity, which the search had dropped or did not have, and its networks are hard."""
    nets, score, _ = example([True, True, False, True])
    folded = load_plugins().build("discretizer", "fold", {}, "d")(closest()(nets, score), score)
    assert not folded.kept
    assert torch.equal(closest()(folded, score).choices[1], folded.choices[1])


@pytest.mark.parametrize(("method", "use"), [("mixture", "ranked"), ("operations", "closest"), ("operations", "least")])
def test_a_study_ends_among_what_is_left(method: str, use: str, tmp_path: Path) -> None:
    """With fine-tuning and training from fresh weights behind it."""
    config = study(
        "drnas",
        method,
        store=str(tmp_path),
        discretizers=[{"use": use}],
        penalties=[{"use": "concentrations", "level": 1e-3}],
        train={"finetune": 5, "retrain": 5},
        linear=False,
    )
    whole = Study(config)
    whole.fast = True
    frame = whole.run("serial", report=False).frame
    assert (frame["status"] == "finished").all()
    for replica in frame["replica"]:
        found = stored(config.folder, replica)
        assert found is not None
        for site in found["sites"]:
            gone = site.get("dropped", [])
            assert len(site["shares"]) - len(gone) <= 2
            assert sum(share == 0 for share in site["shares"]) == len(gone)
            assert site["closest"] not in gone


@pytest.mark.parametrize(
    "stages", [[[0.0, 2]], [[1.0, 2]], [[0.5, 4]], [[0.5, 0]], [[0.6, 3], [0.4, 2]], [[0.4, 2], [0.6, 3]], [[0.5, 2], [0.5, 1]]]
)
@pytest.mark.parametrize("method", [mixture, operations])
def test_stages_that_cannot_be_are_refused(method: Any, stages: Any) -> None:
    with pytest.raises(ConfigError, match="needed: pairs of a share of the steps and how many candidates stay"):
        method(stages=stages, **({"candidates": ["relu", "tanh", "elu", "sin"]} if method is mixture else {}))


def test_a_path_of_levels_and_stages_are_refused() -> None:
    level = {"use": "l1", "level": {"grid": [1e-3, 1e-2]}}
    config = study("together", penalties=[level], train={"path": {"over": "penalties.0.level", "steps": 5}})
    with pytest.raises(ConfigError, match="changes its parameters by the number of the step"):
        chunk(config, [{"penalties.0.level": 1e-3}], load_plugins())


def test_what_no_gradient_moves_is_not_architecture() -> None:
    with pytest.raises(ContractError, match="in architecture, which is trained"):
        Traits(architecture=frozenset({"a"}), untrained=frozenset({"a"}))


@pytest.mark.slow
def test_a_staged_search_compiles_once() -> None:
    from torch._dynamo.utils import counters

    search = made(study("together", train={"steps": 10}, stages=[[0.5, 2]]))
    found: list[Report] = [list(train(search, every=2))[-1]]
    before = counters["stats"]["unique_graphs"]
    found += list(train(search, every=2, compiled=True))[-1:]
    assert counters["stats"]["unique_graphs"] == before + 1
    for name, leaf in found[0].state.params.items():
        torch.testing.assert_close(found[1].state.params[name], leaf, rtol=1e-6, atol=1e-8)
