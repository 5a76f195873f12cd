"""Sizes of kernels as architectures: fixed, enumerated, and scored as everything else that a search chooses."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasplug import spaces
from nasplug.errors import ConfigError
from nasplug.finetune import Frozen
from nasplug.networks import Networks, forward, sized
from nasplug.optimizers import Adam
from nasplug.plan import Pack, assemble, components, fixed_parts, kernels_of, named
from nasplug.replicas import normal
from nasplug.schedules import still
from nasplug.spaces.searches import _whole
from nasplug.stems import Convolution, Stem, drawn, parts
from nasplug.study import Study
from nasplug.testing import example_task
from nasplug.train import Search, put, train

torch.set_num_threads(1)
SEEDS = torch.tensor([5, 1, 3])
STEM = Stem(image=(2, 3, 2), layers=(Convolution(channels=3, sizes=(1, 3, 5)), Convolution(channels=2, sizes=(2, 4), pool=2)))
CHOICES = {1: ("1x1", "3x3", "5x5"), 2: ("2x2", "4x4")}
SIZED: dict[str, Any] = {
    "study": "sized",
    "task": {"use": "digits_images"},
    "method": {
        "use": "edges",
        "mode": "l1",
        "hidden": [3],
        "stem": {"image": [1, 8, 8], "layers": [{"channels": 2, "sizes": [1, 3], "pool": 4}]},
    },
    "train": {"steps": 12, "batch": 32, "lr": 0.05},
    "seeds": 2,
    "linear": False,
    "mlflow": None,
}


def study(folder: Path, **changes: Any) -> Study:
    return Study.from_dict(SIZED | {"store": str(folder)} | changes)


def soft(choices: bool = False) -> Networks:
    """Three rows with a stem that chooses, and where asked activations behind it."""
    leaves = drawn(STEM, SEEDS)
    widths = (STEM.features, 4, 1)
    nets = Networks(
        widths=widths,
        blocks={(to, to - 1): normal(SEEDS, f"{to}", (widths[to], widths[to - 1])) for to in (1, 2)},
        choices={1: torch.full((3, 1, 2), 0.5, dtype=torch.float64)} if choices else {},
        candidates=("tanh", "relu") if choices else ("tanh",),
        **parts(STEM, leaves),
    )
    nets.check()
    return nets


texts = st.tuples(*map(st.sampled_from, CHOICES.values())).map("/".join)


@given(st.lists(texts, min_size=3, max_size=3), st.lists(st.sampled_from(["tanh", "relu"]), min_size=3, max_size=3))
def test_text_says_which_sizes_there_are(sizes: list[str], behind: list[str]) -> None:
    """Each row has the kernels of the sizes that its text names, bit by bit, and is named by them again."""
    nets = soft()
    assert kernels_of(nets) == CHOICES
    made = put(nets, fixed_parts(sizes, nets))
    made.check()
    assert named(made, nets) == sizes
    assert not kernels_of(made)
    assert torch.equal(forward(made, torch.ones(12, 1).double()), forward(sized(made), torch.ones(12, 1).double()))
    for row, text in enumerate(sizes):
        for number, size in zip(CHOICES, text.split("/"), strict=True):
            assert torch.equal(made.kernels[number][row], nets.kernel_parts[number][row, CHOICES[number].index(size)])
    both = [f"{front}:{rest}" for front, rest in zip(sizes, behind, strict=True)]
    chosen = soft(choices=True)
    assert named(put(chosen, fixed_parts(both, chosen)), chosen) == both


@pytest.mark.parametrize(
    ("text", "choices", "told"),
    [
        ("3x3", False, "begins with 1 sizes of kernels, and 2 layers of the stem choose one.*5x5/4x4"),
        ("3x3/3x3", False, "'3x3' is no size of layer 2 of the stem; it has 2x2, 4x4"),
        ("3x3/2x2:tanh", False, "needed: sizes of kernels alone"),
        ("3x3/2x2", True, "joined by a colon, such as 5x5/4x4:tanh/relu"),
        ("3x3/2x2:elu", True, "'elu' is no candidate"),
    ],
)
def test_a_text_that_does_not_fit_is_refused(text: str, choices: bool, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fixed_parts([text], soft(choices))


def test_a_fixed_size_is_trained_as_a_plain_kernel_is() -> None:
    """The same first weights, data and steps as a stem that has this kernel alone; and nothing moves the shares."""
    plugins, seeds = study(Path("nowhere")).plugins, torch.tensor([4])
    method = plugins.build("method", "edges", {"mode": "l1", "hidden": [3], "stem": STEM.model_dump()}, "method")
    task = example_task(inputs=STEM.inputs).to("cpu", torch.float64)
    search = Search(task, method, (), Adam(), seeds, 12, still([0.01], 12), still([1.0], 12), ())
    first = method.relax(method.init(task, seeds), torch.ones(1).double())
    held = Search(task, method, (), Adam(), seeds, 12, search.lr, search.tau, (), fixed=fixed_parts(["3x3/2x2"], first))
    *_, report = train(held, every=12)
    assert not any(name.startswith("kernel shares") for name in held.weights(report.state.params))
    assert all(not bool(p.any()) for name, p in report.state.params.items() if name.startswith("kernel shares"))
    made = held.relax(report.state.params, torch.ones(1).double())
    plain = put(first, held.fixed)
    *_, alone = train(Search(task, Frozen(plain), (), Adam(), seeds, 12, search.lr, search.tau, ()), every=12)
    for number in CHOICES:
        torch.testing.assert_close(made.kernels[number], alone.state.params[f"kernel {number}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["l1", "annealed"])
def test_a_space_of_sizes_is_trained_and_a_search_scored_on_it(tmp_path: Path, mode: str) -> None:
    """Also where a schedule mixes activations, which are no part of an architecture then."""
    one = study(tmp_path, method=SIZED["method"] | {"mode": mode})
    space = spaces.space_of(one.config, one.plugins)
    assert space.architectures == 2
    table = spaces.enumerated(space, one.plugins, runner="serial", report=False)
    assert sorted(table.keys) == [((3,), "1x1"), ((3,), "3x3")]
    for row in table.frame.to_dict("records"):
        assert row["parameters"] <= 2 * (1 if row["architecture"] == "1x1" else 9) + 2 + 8 * 3 + 3 + 3 * 10 + 10
    one.run("serial", report=False)
    (score,) = [spaces.scored(table, spaces.found_by(one, table))]
    assert set(score.tau) == {"shares"}
    assert score.behind >= 0


MIXTURE: dict[str, Any] = {"use": "mixture", "hidden": [3], "per": "layer", "candidates": ["relu", "tanh"]}
OPERATIONS: dict[str, Any] = {"use": "operations", "hidden": [3], "operations": ["linear", "none"]}


@pytest.mark.parametrize(("method", "architectures"), [(MIXTURE, 4), (OPERATIONS, 2 * 3 + 1)])
@pytest.mark.parametrize("sampling", ["none", "straight_through", "dirichlet"])
def test_sizes_are_searched_and_fixed_with_what_is_chosen_behind_them(
    tmp_path: Path, method: dict[str, Any], architectures: int, sampling: str
) -> None:
    """By the same search: the shares of sizes are architecture, too, and every pair of both is in the table."""
    whole = method | {"stem": SIZED["method"]["stem"], "sampling": sampling}
    architect = {"lr": 0.1, "share": 0.5}
    one = study(tmp_path, method=whole, train=SIZED["train"] | {"architecture": architect}, discretizers=[{"use": "closest"}])
    table = spaces.enumerated(spaces.space_of(one.config, one.plugins), one.plugins, runner="serial", report=False)
    assert len(table.keys) == architectures
    assert {text.partition(":")[0] for _, text in table.keys} == {"1x1", "3x3"}
    one.run("serial", report=False)
    assert (one.frame["status"] == "finished").all()
    score = spaces.scored(table, spaces.found_by(one, table))
    assert set(score.tau) == {"shares"}


def test_the_architect_alone_moves_shares_of_sizes() -> None:
    plugins, seeds = study(Path("nowhere")).plugins, torch.tensor([4, 5])
    options = {"hidden": [3], "per": "layer", "candidates": ["relu", "tanh"], "stem": STEM.model_dump()}
    for parametrisation, equal in (("softmax", 0.0), ("simplex", 1 / 3)):
        method = plugins.build("method", "mixture", options | {"parametrisation": parametrisation}, "method")
        task = example_task(inputs=STEM.inputs).to("cpu", torch.float64)
        params = method.init(task, seeds)
        assert {"kernel shares 1", "kernel shares 2"} <= method.traits.architecture
        assert bool((params["kernel shares 1"] == equal).all())
        cold = method.relax(
            {name: p + 0.1 * normal(seeds, name, tuple(p.shape[1:])) for name, p in params.items()}, seeds * 0.01
        )
        if parametrisation == "softmax":  # at this temperature a tenth decides
            assert float(cold.kernel_shares[1].amax(1).min()) > 0.8


@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=3), min_size=1, max_size=3), st.floats(0.01, 0.99))
def test_the_chances_of_all_architectures_sum_to_one(shares: list[list[float]], blind: float) -> None:
    fronts = [{f"{n}x{n}": share / sum(layer) for n, share in enumerate(layer)} for layer in shares]
    sizes = ["/".join(some) for some in itertools.product(*fronts)]
    assert sum(math.exp(_whole(text, fronts, lambda rest: 0.0)) for text in sizes) == pytest.approx(1.0)
    behind = {"linear/linear": 1.0 - blind, "none/none": blind}
    texts = [*(f"{text}:linear/linear" for text in sizes), f"{sizes[0]}:none/none"]
    assert sum(math.exp(_whole(text, fronts, lambda rest: math.log(behind[rest]))) for text in texts) == pytest.approx(1.0)


def test_the_report_of_a_sweep_over_architectures_is_written(tmp_path: Path) -> None:
    """What varies between rows is a text here, which colours no dots."""
    fixed = {"choice": ["1x1", "3x3"]}
    one = study(tmp_path, fixed=fixed, seeds=1).run("serial", progress=False)
    assert "1x1" in (one.folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", [MIXTURE, OPERATIONS])
def test_a_step_that_searches_sizes_compiles_whole(tmp_path: Path, method: dict[str, Any]) -> None:
    """As the loop compiles it, in one graph: a search that falls back to single steps warns."""
    one = study(tmp_path, method=method | {"stem": SIZED["method"]["stem"], "sampling": "straight_through"})
    pack = Pack("p", {}, {}, [0, 1], [0, 0])
    search = assemble(components(one.config, pack, one.plugins), pack, one.plugins)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = [next(train(search, every=3, compiled=compiled)).state.params for compiled in (False, True)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
