"""A gated operation: what it computes, that it is exact in float32, what is left of it, its certificate and its exports."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.compact import compact
from nasplug.config import parse
from nasplug.errors import ConfigError
from nasplug.explain import formula
from nasplug.export import FORMS, export
from nasplug.finetune import Fresh, refit
from nasplug.networks import Networks, alive, decided, forward, harden, sizes
from nasplug.packs import load_networks
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.replicas import normal
from nasplug.study import Study
from nasplug.tasks import Task
from nasplug.testing import example_task
from nasplug.tracing import again
from nasplug.train import compile_step, start, step
from nasplug_mixture import operations
from nasplug_mixture.sites import Ways, certificates

SEEDS = torch.arange(3)
ONE = torch.ones(3, dtype=torch.float64)


def gated(scale: float = 1.0, **options: object) -> tuple[Networks, dict[str, Tensor], Task]:
    """Soft networks with a gated operation on each edge, its weights so large, beside none."""
    task = example_task()
    method = operations(**{"hidden": [4], "operations": ["gated", "none"], **options})  # type: ignore[arg-type]
    params = {name: scale * p if name.startswith("gated") else p for name, p in method.init(task, SEEDS).items()}
    return method.relax(params, ONE), params, task


def alone(nets: Networks, *places: int) -> Networks:
    """Of each edge the operation at this place."""
    return alive(harden(decided(nets, [torch.full((nets.replicas,), place) for place in places])))


def by_hand(params: dict[str, Tensor], edge: str, a: Tensor) -> Tensor:
    both = params[f"gated {edge}"] @ a + params[f"gated bias {edge}"].unsqueeze(-1)
    u, v = both.chunk(2, 1)
    return u * torch.sigmoid(v)


def test_alone_it_is_the_product() -> None:
    nets, params, task = gated(activation="tanh")
    one = alone(nets, 0, 1, 0)  # edges 1-0, 2-0, 2-1
    h = torch.tanh(by_hand(params, "1 0", task.train.x) + params["bias 1"].unsqueeze(-1))
    wanted = by_hand(params, "2 1", h) + params["bias 2"].unsqueeze(-1)
    torch.testing.assert_close(forward(one, task.train.x), wanted)
    found = {name: int(values[0]) for name, values in sizes(one).items()}
    assert found["neurons"] == 4 + 4 * 4 + 4 * 1
    assert found["parameters"] == 2 * 4 * (3 + 1) + 6 * 4 + 4 + 2 * (4 + 1) + 6 + 1  # weights and biases, constants
    small = compact(one, 0)
    assert small.record["widths"] == [3, 8, 8, 4, 2, 2, 1]
    assert small.parameter_count == small.record["sizes"]["parameters"]
    low = compact(alone(nets, 1, 0, 1), 0)
    assert low.record["widths"] == [3, 2, 2, 1]  # and nothing of the layers that were not chosen


@settings(max_examples=20, deadline=None)
@given(size=st.sampled_from([0.1, 1.0, 10.0, 100.0]), seed=st.integers(0, 10**6))
def test_in_float32_it_rounds_no_more_than_sums_of_such_numbers_do(size: float, seed: int) -> None:
    """Two squares are subtracted: of numbers up to 100 the product is right to a few times their last digit."""
    nets, params, _ = gated(size, hidden=[3], bias=True)
    x = normal(SEEDS[:1] + seed, "x", (3, 64))[0]
    one = alone(nets, 1, 0, 1)
    exact = by_hand(params, "2 0", x) + params["bias 2"].unsqueeze(-1)
    single = one.map(lambda t: t.float())
    both = params["gated 2 0"].abs() @ x.abs() + params["gated bias 2 0"].abs().unsqueeze(-1)  # what the sums are made of
    away = (forward(single, x.float()).double() - exact).abs() / (1.0 + both.amax(1, keepdim=True))
    assert float(away.max()) < 1e-6 * max(1.0, size / 4.0)


def test_training_moves_its_weights_and_none_of_its_constants() -> None:
    nets, _, task = gated()
    one = alone(nets, 0, 1, 0)
    tuned = refit(task, one, 30, 0.01)
    for edge, w in tuned.blocks.items():
        assert torch.equal(w, one.blocks[edge]) == (edge in nets.constants or not bool((w != 0).any()))
    fresh = retrained(task, one)
    assert all(torch.equal(fresh.blocks[edge], one.blocks[edge]) for edge in nets.constants)


def retrained(task: Task, nets: Networks) -> Networks:
    method = Fresh(nets)
    return method.relax({n: p.double() for n, p in method.init(task, SEEDS).items()}, ONE)


def test_its_certificate_keeps_the_identity() -> None:
    """``L = Q - (1 - a) C + R`` at each edge into the output, and what Q and L are, by hand."""
    nets, _, task = gated(hidden=[3], operations=["linear", "gated", "none"])
    f_a = forward(nets, task.train.x)
    rest = (task.train.y - f_a).square().mean((1, 2)) / 2
    for site, found in certificates(nets, task):
        assert isinstance(site, Ways)
        a = site.shares(nets)
        for place in range(a.shape[-1]):
            f = forward(site.alone(nets, place), task.train.x)
            torch.testing.assert_close(found.q[:, 0, place], (f - f_a).square().mean((1, 2)) / 2)
            if site.linear:
                loss = (f - task.train.y).square().mean((1, 2)) / 2
                identity = found.q[:, 0, place] - (1 - a[:, 0, place]) * found.c[:, 0, place] + rest
                torch.testing.assert_close(identity, loss)


@pytest.mark.slow
def test_every_form_says_the_same(tmp_path: Path) -> None:
    nets, _, task = gated(activation="tanh")
    network = compact(alone(nets, 0, 1, 0), 0)
    forms = [form for form in FORMS.values() if shutil.which("cc") or form.name not in ("c", "fixed")]
    for form in export(network, "gated", forms, tmp_path).forms:
        assert not form.refused, form
    x = task.train.x.T[:1]
    (told,) = formula(network).sympy().values()
    value = told.subs({symbol: float(x[0, int(symbol.name[1:])]) for symbol in told.free_symbols})
    assert float(value) == pytest.approx(float(network(x).detach()[0, 0]), abs=1e-5)


def test_a_study_chooses_it_keeps_it_and_makes_it_again(tmp_path: Path) -> None:
    study = parse(
        {
            "study": "s",
            "store": str(tmp_path),
            "task": {"use": "mixture_teacher", "samples": 80},
            "method": {"use": "operations", "hidden": [3], "operations": ["gated", "none"], "activation": "tanh"},
            "discretizers": [{"use": "closest"}],
            "train": {"steps": 30, "lr": 0.01, "finetune": 20},
            "seeds": 2,
            "linear": False,
            "mlflow": None,
        }
    )
    done = Study(study).run("serial", report=False)
    assert (done.frame["status"] == "finished").all()
    whole = json.loads((done.folder / "best" / "certificate.json").read_text())
    assert set(whole["candidates"]) == {"gated", "none"}
    nets = load_networks(done.folder / "packs" / "p0000")
    assert len(nets.constants) == 6
    told, _ = again(done.lineage(), done.network(), done.plugins)
    assert told.reproduced, told


def test_monotone_networks_have_no_gates(tmp_path: Path) -> None:
    raw = {"study": "s", "store": str(tmp_path), "task": {"use": "diabetes", "validation": "holdout"}, "monotone": {"bmi": 1}}
    raw |= {"train": {"steps": 5}, "discretizers": [{"use": "closest"}], "mlflow": None}
    method = {"use": "operations", "hidden": [3], "operations": ["linear", "gated"], "activation": "tanh"}
    with pytest.raises(ConfigError, match="square"):
        Study(parse(raw | {"method": method})).plan()


@pytest.mark.slow
def test_a_step_compiles(tmp_path: Path) -> None:
    """In one graph, as the loop compiles it."""
    config = parse(
        {
            "study": "s",
            "store": str(tmp_path),
            "task": {"use": "iris", "validation": "holdout"},
            "method": {"use": "operations", "hidden": [3], "operations": ["linear", "gated"], "between": "next"},
            "train": {"steps": 2},
        }
    )
    pack, plugins = Pack("p", {}, {}, [0, 1], [0, 0]), load_plugins()
    search = assemble(components(config, pack, plugins), pack, plugins)
    wanted, found = start(search), start(search)
    data = (search.task.train.x, search.task.train.y)
    advance = compile_step()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what a step that cannot be compiled ends in
        for state, move in ((wanted, step), (found, advance)):
            move(search, state.params, state.moments, data, search.lr.at(0), search.tau.at(0), (), None)
    for name, leaf in wanted.params.items():
        torch.testing.assert_close(found.params[name], leaf, rtol=1e-4, atol=1e-5)
