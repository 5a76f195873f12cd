"""The engine: what it serves, that it does what plain steps do, and that a wrong one is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.contracts import Norms, Params
from nasplug.engine import Canonical, available, canonical, engine, engine_for, fits
from nasplug.engine.sizes import sizes
from nasplug.linear import lasso
from nasplug.optimizers import SGD, Adam
from nasplug.schedules import still
from nasplug.stems import Convolution, Stem
from nasplug.tasks import Task
from nasplug.tasks.losses import Poisson
from nasplug.testing import example_task
from nasplug.train import Architect, Batches, Search, start, step, train
from nasplug_edges import edges
from nasplug_regularizers import inputs, l1, neurons, soft_count

HERE = Path(__file__).parent
TRITON = pytest.mark.skipif(not available(), reason="triton is not installed (pip install nasplug[gpu])")


def search(task: Task | None = None, **changes: Any) -> Search:
    made = (task or example_task()).to("cpu", torch.float32)
    rows, steps = 3, 12
    levels = tuple(still([0.01] * rows, steps).to("cpu", torch.float32) for _ in changes.get("penalties", ()))
    rate = still([0.02] * rows, steps).to("cpu", torch.float32)
    one = still([1.0] * rows, steps).to("cpu", torch.float32)
    method = changes.pop("method", edges(mode="l1", hidden=[4]))
    penalties, optimizer = changes.pop("penalties", ()), changes.pop("optimizer", Adam())
    return Search(made, method, penalties, optimizer, torch.arange(rows), steps, rate, one, levels, **changes)


def reason(found: Search) -> str | None:
    return fits(found, start(found).params)


def test_it_serves_layered_networks() -> None:
    for mode in ("l1", "annealed"):
        for hidden in ([4], [4, 64]):
            found = search(method=edges(mode=mode, hidden=hidden), penalties=(l1(), neurons(of="both"), inputs(adaptive=0.1)))
            assert reason(found) is None
    plan = canonical(found, start(found).params)
    assert isinstance(plan, Canonical)
    assert plan.leaves == ("block 1 0", "bias 1", "block 2 1", "bias 2", "block 3 2", "bias 3")
    assert plan.norms[0] == (Norms(1, "each", 1.0), Norms(2, "each", 1.0), Norms(3, "each", 1.0))
    assert reason(search(method=edges(mode="l1", hidden=[]))) is None


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "wide": ({"method": edges(hidden=[65])}, "65 neurons; 64 at most"),
    "deep": ({"method": edges(hidden=[4, 4, 4])}, "4 layers of weights; 3 at most"),
    "skips": ({"method": edges(hidden=[4], skips=True)}, "skip blocks"),
    "gates": ({"method": edges(mode="gated", hidden=[4])}, "gates"),
    "snap": ({"method": edges(mode="snap", hidden=[4])}, "projects"),
    "terms": ({"method": edges(hidden=[4], structure="additive")}, "sum of small ones"),
    "momentum": ({"optimizer": SGD(momentum=0.9)}, "SGD, not Adam"),
    "proximal": ({"penalties": (lasso(),)}, "Lasso is proximal"),
    "count": ({"penalties": (soft_count(of="weights"),)}, "WeightCount is no sum of norms"),
    "architect": (
        {"method": edges(mode="gated", hidden=[4]), "architect": Architect(Adam(), torch.ones(3))},
        "an architect moves",
    ),
    "monotone": ({"monotone": (1, 0)}, "monotone"),
    "activation": ({"functions": {**FUNCTIONS, "relu": torch.relu_}}, "relu is not one of nasplug's own"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_serve_is_named(name: str) -> None:
    changes, words = REFUSED[name]
    assert words in str(reason(search(**changes)))


def test_it_serves_no_other_loss_or_type() -> None:
    counts = replace(example_task(), loss=Poisson())
    assert "the loss is poisson" in str(reason(search(counts)))
    double = search()
    assert "float64" in str(reason(replace(double, task=double.task.to("cpu", torch.float64))))
    image = replace(example_task(), image=(1, 1, 3))
    stem = Stem(image=(1, 1, 3), layers=(Convolution(channels=2, kernel=1),))
    assert "stem" in str(reason(search(image, method=edges(mode="l1", hidden=[4], stem=stem))))


def test_a_cpu_has_none() -> None:
    found = search()
    assert engine_for(found, start(found).params) is None


def by_steps(
    plan: Canonical, found: Search, params: Params, moments: dict[str, Tensor], batches: Batches, first: int, until: int
) -> tuple[Tensor, Tensor]:
    """What the kernel does, by plain steps."""
    for t in range(first, until):
        levels = tuple(level.at(t) for level in found.levels)
        told = step(found, params, moments, batches.at(t).batch, found.lr.at(t), found.tau.at(t), levels, None)
    return told


def reports(found: Search, made: Any) -> list[Any]:
    return list(train(found, every=7, engine=made))


def test_the_loop_trains_through_an_engine() -> None:
    """A right engine changes no report, whatever the interval; the loop asks it once for each."""
    found = search(penalties=(l1(),), batch=4)
    plan = canonical(found, start(found).params)
    assert isinstance(plan, Canonical)
    asked = []

    def counted(*arguments: Any) -> tuple[Tensor, Tensor]:
        asked.append(arguments[-2:])
        return by_steps(*arguments)

    for one, other in zip(reports(found, engine(plan, counted)), reports(found, None), strict=True):
        assert one.step == other.step
        for name, values in other.metrics.items():
            assert torch.equal(values, one.metrics[name]), name
        for name, leaf in other.state.params.items():
            assert torch.equal(leaf, one.state.params[name]), name
        for name, leaf in other.state.moments.items():
            assert torch.equal(leaf, one.state.moments[name]), name
    assert asked == [(0, 5), (5, 7), (7, 12)]


def wrong_leaf(*arguments: Any) -> tuple[Tensor, Tensor]:
    told = by_steps(*arguments)
    arguments[2]["bias 1"].mul_(1.01)
    return told


def wrong_loss(*arguments: Any) -> tuple[Tensor, Tensor]:
    loss, penalty = by_steps(*arguments)
    return loss * 1.01, penalty


def not_finite(*arguments: Any) -> tuple[Tensor, Tensor]:
    told = by_steps(*arguments)
    arguments[2]["block 2 1"][1] = torch.nan
    return told


def refused(*arguments: Any) -> tuple[Tensor, Tensor]:
    raise RuntimeError("out of resource: shared memory")


@pytest.mark.parametrize(
    ("steps", "words"),
    [(wrong_leaf, "differ"), (wrong_loss, "differ"), (not_finite, "differ"), (refused, "out of resource: shared memory")],
)
def test_a_wrong_engine_is_found_out(steps: Any, words: str) -> None:
    """It is told, and all steps are plain ones."""
    found = search()
    plan = canonical(found, start(found).params)
    assert isinstance(plan, Canonical)
    with pytest.warns(UserWarning, match=words) as told:
        one = reports(found, engine(plan, steps))
    assert len(told) == 1
    for name, leaf in reports(found, None)[-1].state.params.items():
        assert torch.equal(leaf, one[-1].state.params[name]), name


def test_sizes() -> None:
    """Widths become powers of two; what is too large to be spread out has sides of 16 or more."""
    assert sizes((2, 4, 1), 4).padded == (2, 4, 1)
    assert (sizes((2, 4, 1), 4).chunk, sizes((2, 4, 1), 4).warps) == (4, 1)
    assert sizes((30, 32, 2), 64).padded == (32, 32, 2)
    assert sizes((64, 64, 10), 1000).padded == (64, 64, 16)
    for widths in ((1, 64, 1), (64, 3, 64), (17, 5, 33, 1)):
        for batch in (1, 7, 300):
            made = sizes(widths, batch)
            for a, b in zip(made.padded, made.padded[1:], strict=False):
                assert a * b * made.chunk <= 4096 or min(a, b, made.chunk) >= 16, (widths, batch)


def script(name: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What a script of this folder prints last, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**{key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}, **environment},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@TRITON
@pytest.mark.slow
def test_the_kernel_does_what_step_does() -> None:
    """In Triton's interpreter: all leaves, moments, losses and penalties after 20 steps; rows alone bit by bit."""
    found = script("interpreted.py", TRITON_INTERPRET="1")
    assert found.pop("row law") == 0.0
    assert {name: off for name, off in found.items() if not off <= 1e-5} == {}


@TRITON
@pytest.mark.slow
def test_the_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    """The compiler accepts less than the interpreter; no GPU is needed for it."""
    found = script("compiled_ahead.py", "breast_cancer", "everything", TRITON_CACHE_DIR=str(tmp_path))
    assert all(case["registers"] <= 255 and case["shared"] <= 227 * 1024 for case in found.values())
