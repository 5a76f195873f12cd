"""The laws for each kind of search, the switch from latent to direct, starts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml

from nasplug import Study
from nasplug.compact import compact
from nasplug.compact import load as load_network
from nasplug.compact import save as save_network
from nasplug.errors import ConfigError
from nasplug.networks import alive, forward, harden, take
from nasplug.plugins import load_plugins
from nasplug.replicas import uniform
from nasplug.testing import SearchMethodLaws, example_task
from nasplug_swat.autoencoder import PAPER, SIZES, Sampling, Size, Space, arrange, draw, fresh, load, save
from nasplug_swat.commands import TrainingJob
from nasplug_swat.compression import swat_piece
from nasplug_swat.search import networks_in, swat

torch.set_num_threads(1)
TASK = ("cornn", {"function": "Booth", "train": 60, "test": 20})


class TestLatent(SearchMethodLaws):
    name = "swat"
    options: ClassVar = {"depth": 2, "begin": "normal"}
    task_options = TASK


class TestUntrainedAndAnnealed(SearchMethodLaws):
    name = "swat"
    options: ClassVar = {"depth": 1, "mode": "untrained", "sharpness": None}
    task_options = TASK


class TestLatentThenDirect(SearchMethodLaws):
    name = "swat"
    options: ClassVar = {"depth": 3, "mode": "switch", "share": 0.5}
    task_options = TASK


class TestDirect(SearchMethodLaws):
    name = "swat"
    options: ClassVar = {"depth": 4, "mode": "direct", "begin": "normal"}
    task_options = TASK


class TestFixedActivation(SearchMethodLaws):
    name = "swat"
    options: ClassVar = {"depth": 2, "activation": "tanh"}
    task_options = TASK


def booth() -> Any:
    return load_plugins().build("task", *TASK).to("cpu", torch.float32)


def test_all_modes_begin_with_the_same_networks() -> None:
    x, tau = booth().train.x, torch.full((3,), 0.1)
    made = {}
    for mode in ("latent", "direct", "switch"):
        method = swat(depth=2, mode=mode)  # type: ignore[arg-type]
        nets = method.relax({name: p.float() for name, p in method.init(booth(), torch.arange(3)).items()}, tau)
        assert all(bool((gate > 0.99).all()) for gate in nets.gates.values())
        made[mode] = forward(nets, x)
    assert torch.equal(made["latent"], made["switch"])
    apart = (made["latent"] - made["direct"]).square().mean((1, 2)) / made["direct"].square().mean((1, 2))
    assert float(apart.max()) < 0.2


def test_after_its_share_the_matrix_takes_the_latents_place() -> None:
    method, tau = swat(depth=2, mode="switch", share=0.5), torch.ones(3)
    params = {name: p.float() for name, p in method.init(booth(), torch.arange(3)).items()}
    assert set(params) == {"threshold", "latent", "matrix"}
    x = booth().train.x
    before = forward(method.relax(params, tau), x)
    same = method.project(params, 4, 10)  # type: ignore[attr-defined]
    assert "latent" in same
    after = method.project(params, 5, 10)  # type: ignore[attr-defined]
    assert set(after) == {"threshold", "matrix"}
    torch.testing.assert_close(forward(method.relax(after, tau), x), before)
    assert not method.project(after, 6, 10)["matrix"].requires_grad  # type: ignore[attr-defined]


def test_the_threshold_stays_in_its_range() -> None:
    method = swat(depth=1)
    params = method.init(booth(), torch.arange(3)) | {"threshold": torch.tensor([-1.0, 50.0, 1e6])}
    assert method.project(params, 1, 2)["threshold"].tolist() == [0.0, 50.0, 300.0]  # type: ignore[attr-defined]


def test_rounding_gates_drops_weights_below_the_threshold() -> None:
    method = swat(depth=2, mode="direct")
    params = method.init(booth(), torch.arange(3)) | {"threshold": torch.full((3,), 40.0)}  # t = 0.4
    nets = method.relax({name: p.float() for name, p in params.items()}, torch.ones(3))
    hard = harden(nets)
    for edge, w in nets.blocks.items():
        assert torch.equal(hard.edge_gates[edge] > 0, w.abs() >= 0.4)


def test_a_start_is_where_the_search_begins(tmp_path: Path) -> None:
    nets = draw(PAPER, 2, torch.tensor([3]))
    save_network(compact(nets, 0), tmp_path)
    method = swat(depth=2, start=str(tmp_path), spread=0.0)
    params = {name: p.float() for name, p in method.init(booth(), torch.arange(2)).items()}
    assert torch.equal(params["latent"][0], params["latent"][1])
    x = booth().train.x
    found, wanted = forward(method.relax(params, torch.full((2,), 0.1)), x)[:1], forward(nets, x)
    assert float((found - wanted).square().mean() / wanted.square().mean()) < 0.1
    deeper = swat(depth=3, start=str(tmp_path)).init(booth(), torch.arange(2))["latent"]
    assert not torch.equal(deeper[0], deeper[1])


def test_a_start_without_a_decoder_is_the_network_itself(tmp_path: Path) -> None:
    nets = draw(PAPER, 2, torch.tensor([3]))
    save_network(compact(nets, 0), tmp_path)
    x, tau = booth().train.x, torch.full((1,), 0.01)
    for depth in (2, 3):
        method = swat(depth=depth, mode="direct", start=str(tmp_path), spread=0.0)
        params = {name: p.float() for name, p in method.init(booth(), torch.arange(1)).items()}
        torch.testing.assert_close(forward(harden(method.relax(params, tau)), x), forward(nets, x), rtol=1e-3, atol=1e-3)
    with pytest.raises(ConfigError, match="cannot be made shallower"):
        swat(depth=1, mode="direct", start=str(tmp_path))


def test_the_study_of_warm_starts_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("booth", "ackley"):
        save_network(compact(draw(PAPER, 2, torch.tensor([3])), 0), tmp_path / "runs" / f"swat_{name}" / "best")
    packs = Study.from_yaml(Path(__file__).parents[1] / "configs" / "swat_warm.yaml").plan()
    assert sum(pack.rows for pack in packs) == 36 * 3 * 3 * 3 * 2


def test_a_piece_is_not_started_from_in_several_units_at_once(tmp_path: Path) -> None:
    save_network(compact(draw(PAPER, 3, torch.tensor([3]), Sampling(sparsity=(0.0,), keep=1.0)), 0), tmp_path / "deep")
    task = {
        "use": "swat_piece",
        "network": str(tmp_path / "deep"),
        "last": 4,
        "seed": {"choice": [0, 1]},
        "train": 40,
        "test": 9,
    }
    method = {"use": "swat", "depth": 2, "start": str(tmp_path / "deep"), "piece": [0, 4]}
    with pytest.raises(ConfigError, match="one data set per study"):
        Study.from_dict(STUDY | {"store": str(tmp_path), "task": task, "method": method}).plan()


def test_a_search_where_ends_vary_starts_from_a_piece(tmp_path: Path) -> None:
    space = Space(width=4, deepest=3, inputs=4, outputs=4, vary=True)
    file = str(tmp_path / "a.safetensors")
    save(fresh(space, SIZES["tiny"], Sampling()), tmp_path / "a.safetensors")
    deep = draw(Space(width=4, deepest=5), 5, torch.tensor([1]), Sampling(weights=1.5, keep=1.0, sparsity=(0.0,)))
    save_network(compact(deep, 0), tmp_path / "deep")
    widths = load_network(tmp_path / "deep").widths
    for piece in ((0, 3), (3, 6)):
        ends = (widths[piece[0]], widths[piece[1]])
        method = swat(depth=1, autoencoder=file, ends=ends, start=str(tmp_path / "deep"), piece=piece)
        task = swat_piece(network=str(tmp_path / "deep"), first=piece[0], last=piece[1], train=20, test=5)
        params = {name: p.float() for name, p in method.init(task.to("cpu", torch.float32), torch.arange(2)).items()}
        nets = method.relax(params, torch.ones(2))
        assert nets.widths == (ends[0], 4, ends[1])
        assert bool(torch.isfinite(forward(nets, task.train.x)).all())
    with pytest.raises(ConfigError, match=r"Write ends: \[2, 1\]"):
        swat(depth=1, autoencoder=file).accept(booth())


@pytest.mark.parametrize("mode", ["latent", "direct"])
def test_a_fixed_activation_is_every_neurons_from_the_first_step_to_the_last(tmp_path: Path, mode: str) -> None:
    method = swat(depth=2, mode=mode, activation="leaky_relu")  # type: ignore[arg-type]
    params = {name: p.float() for name, p in method.init(booth(), torch.arange(2)).items()}
    for tau in (1.0, 0.01):
        choices = method.relax(params, torch.full((2,), tau)).choices
        assert set(choices) == {1, 2}
        assert all(torch.equal(c, torch.tensor([0.0, 0.0, 1.0]).expand(2, 7, 3)) for c in choices.values())
    options = {"use": "swat", "mode": mode, "depth": 1, "activation": "sigmoid", "sharpness": None}
    done = Study.from_dict(STUDY | {"store": str(tmp_path), "method": options, "penalties": []}).run("serial")
    record = load_network(done.folder / "best").record
    assert {name for layer in record["activations"] for name, _ in layer} == {"sigmoid"}


def test_the_study_of_fixed_activations_plans() -> None:
    packs = Study.from_yaml(Path(__file__).parents[1] / "configs" / "swat_activations.yaml").plan()
    assert sum(pack.rows for pack in packs) == 18 * 2 * 4 * 3


def test_the_study_of_seeds_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configs = Path(__file__).parents[1] / "configs"
    raw = yaml.safe_load((configs / "latents.yaml").read_text(encoding="utf-8"))
    for name in ("seed-1", "seed-2"):
        training = TrainingJob.model_validate(raw | {"size": "tiny", "name": name})
        model = fresh(training.space, training.dimensions, training.sampling, training.seed)
        save(model, training.folder / "autoencoder.safetensors")
    packs = Study.from_yaml(configs / "swat_seeds.yaml").plan()
    assert sum(pack.rows for pack in packs) == 18 * 4 * 3 * 3


def test_a_network_is_searched_and_started_from_one_latent_of_it_all(tmp_path: Path) -> None:
    size = Size(width=32, layers=1, heads=2, latent=24, tokens="network")
    file = tmp_path / "whole.safetensors"
    save(fresh(PAPER, size, Sampling()), file)
    save_network(compact(draw(PAPER, 2, torch.tensor([3])), 0), tmp_path / "net")
    for more in ({}, {"begin": "normal"}, {"mode": "switch"}, {"start": str(tmp_path / "net")}, {"mode": "untrained"}):
        method = swat(autoencoder=str(file), **more)  # type: ignore[arg-type]
        params = {name: p.float() for name, p in method.init(booth(), torch.arange(3)).items()}
        assert params["latent"].shape == (3, 1, 24)
        assert method.relax(params, torch.ones(3)).widths == (2, 7, 7, 1)
    options = {"use": "swat", "autoencoder": str(file), "depth": 1}
    done = Study.from_dict(STUDY | {"store": str(tmp_path), "method": options}).run("serial")
    assert (done.frame["status"] == "finished").all()


def test_a_module_is_read_back_as_networks() -> None:
    nets = draw(PAPER, 3, torch.arange(8))
    x = uniform(torch.tensor([0]), "x", (2, 20), -1.0, 1.0)[0].float()
    for k in range(8):
        module = compact(nets, k)
        if any(to - source > 1 for to, source in module.edges) or len(module.widths) < 3:
            continue
        made = networks_in(module)
        made.check()
        torch.testing.assert_close(forward(made, x)[0].T, module(x.T).detach().float(), rtol=1e-5, atol=1e-5)
        one = alive(harden(take(nets, torch.tensor([k]))))
        torch.testing.assert_close(forward(arrange(made, PAPER), x), forward(one, x), rtol=1e-4, atol=1e-4)


STUDY: dict[str, Any] = {
    "study": "booth",
    "task": {"use": "cornn", "function": "Booth", "train": 200, "test": 100},
    "method": {"use": "swat", "mode": {"choice": ["switch", "direct"]}, "depth": 2},
    "penalties": [{"use": "l1", "level": {"choice": [1e-6, 1e-4]}}, {"use": "compactness", "level": 0.01}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.01},
    "train": {"steps": 60, "lr": 0.1, "finetune": 20},
    "seeds": 2,
    "mlflow": None,
}


def test_a_study_runs_and_names_its_autoencoder(tmp_path: Path) -> None:
    from nasplug.config import parse

    done = Study(parse(STUDY | {"store": str(tmp_path)})).run("serial")
    assert (done.frame["status"] == "finished").all()
    assert len(done.frame) == 8
    assert (done.frame["neurons"] <= 14).all()
    for owners in done.frame["owners"]:
        assert json.loads(owners)["method.autoencoder"] == load(None).digest


def test_other_tasks_are_searched_where_ends_vary(tmp_path: Path) -> None:
    method = {"use": "swat", "autoencoder": "ends-7x64", "ends": [4, 3], "depth": 1, "sharpness": None}
    iris = {"use": "iris", "validation": "holdout"}
    raw = STUDY | {"store": str(tmp_path), "study": "iris", "task": iris, "method": method, "linear": False}
    raw |= {"train": {"steps": 200, "lr": 0.03, "finetune": 100}, "penalties": [{"use": "l1", "level": 1e-3}]}
    frame = Study.from_dict(raw).run("serial").frame
    assert frame["test_accuracy"].max() > 0.85
    with pytest.raises(ConfigError, match=r"Write ends: \[4, 3\]"):
        Study.from_dict(raw | {"method": {"use": "swat", "autoencoder": "ends-7x64"}}).plan()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"depth": 5}, "1 to 4 hidden layers"),
        ({"mode": "switch", "share": 0.0}, "0 < share < 1"),
        ({"sharpness": -1.0}, "a finite number > 0"),
        ({"share": 0.5}, "does not read"),
        ({"mode": "untrained", "start": "x"}, "does not read"),
        ({"spread": 0.1}, "without a start"),
        ({"piece": [0, 2]}, "without a start"),
        ({"activation": "tahn"}, "a candidate of the autoencoder, sigmoid, tanh, leaky_relu.*Did you mean 'tanh'"),
        ({"activation": "relu"}, "a candidate of the autoencoder"),
        ({"activation": "tanh", "start": "x"}, "whose activations are its own"),
        ({"ends": [3, 1]}, "3 inputs and 1 outputs; needed: 2 inputs"),
        ({"start": "nowhere"}, "does not hold a network"),
        ({"autoencoder": "nowhere"}, "No such file"),
    ],
)
def test_what_cannot_be_is_told_when_planned(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_plugins().build("method", "swat", options, "method")


def test_a_task_of_another_shape_is_told() -> None:
    with pytest.raises(ConfigError, match="the task has 3 inputs and 1 outputs"):
        swat().accept(example_task())


def test_an_autoencoder_of_another_space_is_told(tmp_path: Path) -> None:
    save(fresh(Space(width=3, deepest=1, inputs=1), SIZES["tiny"], Sampling()), tmp_path / "a.safetensors")
    method = swat(depth=1, autoencoder=str(tmp_path / "a.safetensors"))
    with pytest.raises(ConfigError, match="this autoencoder's networks have 1 inputs"):
        method.accept(booth())


def test_latents_that_are_not_finite_stay_in_their_row() -> None:
    method = swat(depth=2)
    params = {name: p.float() for name, p in method.init(booth(), torch.arange(3)).items()}
    params["latent"][1] = torch.inf
    outputs = forward(method.relax(params, torch.ones(3)), booth().train.x)
    assert torch.isfinite(outputs).flatten(1).all(1).tolist() == [True, False, True]


@pytest.mark.parametrize("options", [{"mode": "latent"}, {"mode": "switch"}, {"mode": "direct"}, {"begin": "normal"}])
def test_no_seeds_are_no_rows(options: dict[str, Any]) -> None:
    """Planning asks for the shapes of a network without making one."""
    task = load_plugins().build("task", *TASK)
    leaves = swat(**options).init(task, torch.arange(0))
    one = swat(**options).init(task, torch.arange(1))
    assert {name: (0, *leaf.shape[1:]) for name, leaf in one.items()} == {
        name: tuple(leaf.shape) for name, leaf in leaves.items()
    }
