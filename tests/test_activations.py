"""What an activation's name means belongs to a run: two sets of plugins in one process never see each other's."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from nasplug import compact
from nasplug.activations import FUNCTIONS
from nasplug.config import parse
from nasplug.errors import ConfigError, ContractError, PluginError
from nasplug.hookspecs import Register, hookimpl
from nasplug.networks import Networks, alive, forward, join, sizes, where
from nasplug.packs import load_networks, run_pack
from nasplug.plan import axes, chunk, grid
from nasplug.plugins import Plugins, load_plugins
from nasplug.stems import Convolution, Stem, drawn, parts
from nasplug.study import Study
from nasplug.testing import example_networks

Function = Callable[[Tensor], Tensor]


def low(z: Tensor) -> Tensor:
    return torch.exp(-z * z)


def high(z: Tensor) -> Tensor:
    return 3.0 + torch.exp(-z * z)


def with_bump(function: Function, owner: str = "bumps") -> Plugins:
    """Everything installed, and the activation ``bump``."""
    plugins = load_plugins.__wrapped__()

    @hookimpl
    def register_activations(register: Register) -> None:
        register("bump", lambda: function)

    module = ModuleType(owner)
    module.register_activations = register_activations  # type: ignore[attr-defined]
    plugins.add(module, owner, f"nasplug-{owner}", "1")
    return plugins


def config(folder: Path, name: str) -> dict[str, Any]:
    return {
        "study": name,
        "store": str(folder),
        "task": {"use": "xor", "samples": 40},
        "method": {"use": "edges", "mode": "l1", "hidden": [3], "activation": "bump"},
        "seeds": 3,
        "train": {"steps": 30, "finetune": 5, "retrain": 5, "reports": 2},
        "mlflow": None,
    }


def same(some: Mapping[Any, Tensor], others: Mapping[Any, Tensor]) -> bool:
    return all(torch.equal(some[key], others[key]) for key in some)


def test_ours_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        FUNCTIONS["relu"] = torch.tanh  # type: ignore[index]
    assert Plugins().functions is FUNCTIONS
    assert load_plugins().functions is FUNCTIONS


def test_a_run_has_the_functions_of_its_plugins() -> None:
    first, second = with_bump(low), with_bump(high)
    assert first.functions["bump"] is low
    assert second.functions["bump"] is high
    assert dict(first.functions) == {**FUNCTIONS, "bump": low}
    assert "bump" not in load_plugins().functions
    with pytest.raises(TypeError):
        first.functions["bump"] = high  # type: ignore[index]


def test_a_name_that_two_plugins_offer_means_nothing() -> None:
    plugins = with_bump(low)
    assert plugins.functions["bump"] is low

    class Other:
        @hookimpl
        def register_activations(self, register: Register) -> None:
            register("bump", lambda: high)

    plugins.add(Other(), "other", "nasplug-other", "1")
    assert "bump" not in plugins.functions
    with pytest.raises(PluginError, match="offered by nasplug-bumps 1 and nasplug-other 1"):
        plugins.offer("activation", "bump")


def test_a_name_is_one_function_as_long_as_its_plugins_live() -> None:
    class Offers:
        @hookimpl
        def register_activations(self, register: Register) -> None:
            register("bump", lambda: lambda z: z * z)

    plugins = Plugins()
    plugins.add(Offers(), "offers", "nasplug-offers", "1")
    assert plugins.functions["bump"] is plugins.functions["bump"]  # a compiled step knows it by identity


@pytest.mark.reports
def test_two_studies_with_one_name_for_two_functions(tmp_path: Path) -> None:
    functions = {"low": low, "high": high}
    studies = {
        name: Study(parse(config(tmp_path, name)), with_bump(function)).run(runner="serial")
        for name, function in functions.items()
    }
    hard = {name: study.networks("p0000") for name, study in studies.items()}
    assert not same(hard["low"].blocks, hard["high"].blocks)
    for name, study in studies.items():
        assert hard[name].function("bump") is functions[name]
        frame = study.frame.set_index("replica")
        valid = study.task.to("cpu", torch.float32).valid
        loss = study.task.losses(forward(hard[name], valid.x), valid.y)
        torch.testing.assert_close(
            loss, torch.tensor(frame["valid_loss"].to_numpy(), dtype=torch.float32), rtol=1e-4, atol=1e-6
        )
        with pytest.raises(ConfigError, match=r"'bump'.*load_plugins\(\)\.functions"):
            compact.load(study.folder / "best")
        assert "load_plugins().functions" in html.unescape((study.folder / "report.html").read_text())
        x = torch.randn(5, 2)
        mine, chosen = compact.load(study.folder / "best", study.plugins.functions), study.network()
        assert torch.equal(mine(x), chosen(x))


def test_two_packs_in_two_threads_are_what_they_are_alone(tmp_path: Path) -> None:
    def work(name: str, function: Function, to: Path) -> Networks:
        study, plugins = parse(config(tmp_path, name)), with_bump(function)
        (pack,) = chunk(study, grid(axes(study)), plugins)
        for _ in run_pack(study, pack, plugins, to):
            pass
        return load_networks(to, plugins.functions)

    functions = {"low": low, "high": high}
    alone = {name: work(name, function, tmp_path / "alone" / name) for name, function in functions.items()}
    found: dict[str, Networks] = {}
    begin = threading.Barrier(2)

    def thread(name: str) -> None:
        begin.wait(timeout=60)
        found[name] = work(name, functions[name], tmp_path / "together" / name)

    threads = [threading.Thread(target=thread, args=(name,)) for name in functions]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=120)
    for name, nets in found.items():
        assert same(nets.blocks, alone[name].blocks)
        assert same(nets.biases, alone[name].biases)
    assert set(found) == set(functions)


def bumped(function: Function) -> Networks:
    nets = example_networks(0, 3, (2, 4, 1), ("blocks", "biases"))
    return replace(nets, candidates=("bump",), functions={**FUNCTIONS, "bump": function})


def test_a_record_says_what_its_names_mean() -> None:
    x = torch.randn(2, 7, dtype=torch.float64)
    first, second = bumped(low), bumped(high)
    assert not torch.equal(forward(first, x), forward(second, x))
    torch.testing.assert_close(forward(alive(second), x), forward(second, x))  # neurons that nothing reaches put out 4
    cut = replace(second, edge_gates={(1, 0): torch.zeros(3, 4, 2).double(), (2, 1): torch.ones(3, 1, 4).double()})
    torch.testing.assert_close(forward(alive(cut), x), forward(cut, x))
    assert sizes(cut)["neurons"].tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match="activation 'bump' is not known; known: elu"):
        forward(replace(first, functions=FUNCTIONS), x)
    with pytest.raises(ConfigError, match="'bump' is not known"):
        replace(first, functions=FUNCTIONS).check()


def test_records_that_mean_different_things_are_not_joined() -> None:
    first, second = bumped(low), bumped(high)
    assert join([first, bumped(low)]).replicas == 6
    for use in (lambda: join([first, second]), lambda: where(torch.tensor([True, False, True]), first, second)):
        with pytest.raises(ContractError, match="got networks with functions"):
            use()


def test_a_stem_means_the_same() -> None:
    stem = Stem(image=(1, 2, 2), layers=(Convolution(channels=1, kernel=1, activation="bump"),))
    leaves = {name: leaf.float() for name, leaf in drawn(stem, torch.arange(2)).items()}
    nets = Networks((4, 1), {(1, 0): torch.ones(2, 1, 4)}, functions={**FUNCTIONS, "bump": high}, **parts(stem, leaves))
    x = torch.randn(4, 5)
    found = forward(nets, x)
    assert bool((found > 11.9).all())
    small = compact.compact(nets, 0)
    torch.testing.assert_close(small(x.T).T, found[0].double())
    with pytest.raises(ConfigError, match="'bump'"):
        compact.CompactNetwork(small.record)
    program = compact.export(small, x.T)
    torch.testing.assert_close(program.module()(x.T), small(x.T))


@pytest.mark.slow
@pytest.mark.filterwarnings("error:torch cannot compile")
def test_a_compiled_step_takes_the_function_of_its_run(tmp_path: Path) -> None:
    found = {}
    for name, function in (("low", low), ("high", high)):
        for compiled in (False, True):
            raw = config(tmp_path, name)
            raw["train"] = {**raw["train"], "compile": compiled}
            study, plugins = parse(raw), with_bump(function)
            (pack,) = chunk(study, grid(axes(study)), plugins)
            to = tmp_path / f"{name} {compiled}"
            for _ in run_pack(study, pack, plugins, to):
                pass
            found[name, compiled] = load_networks(to, plugins.functions).blocks[1, 0]
        torch.testing.assert_close(found[name, True], found[name, False], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found["low", True], found["high", True], rtol=1e-2)
