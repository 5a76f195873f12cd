"""The laws, both forward forms against the explicit inverse, parameter counts, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.config import parse
from nasplug.contracts import Traits
from nasplug.errors import ConfigError
from nasplug.networks import Networks, forward, sizes
from nasplug.packs import load_networks
from nasplug.plan import Pack, assemble, chunk, components, try_out
from nasplug.plugins import load_plugins
from nasplug.replicas import normal
from nasplug.study import Study
from nasplug.tasks import Task
from nasplug.testing import SearchMethodLaws, example_task
from nasplug.train import train
from nasplug_sparcs import chosen_form, materialised, recursive, sparcs

torch.set_num_threads(1)
ONE = torch.ones(2, dtype=torch.float64)
SEEDS = torch.tensor([3, 8])


class TestAuto(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {"hidden": [5]}


class TestRecursive(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {"hidden": [4, 3, 5], "form": "recursive", "activation": "tanh", "bias_input": True}


class TestMaterialised(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {"hidden": [4, 3], "form": "materialised", "activation": "sigmoid", "bias_input": True}


STEM: dict[str, Any] = {
    "image": [1, 1, 3],
    "layers": [{"channels": 3, "kernel": [1, 3], "activation": "tanh"}, {"channels": 2, "kernel": [1, 2]}],
}


class TestStem(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {"hidden": [4, 3], "form": "recursive", "bias_input": True, "stem": STEM}


class TestStemMaterialised(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {"hidden": [4], "form": "materialised", "stem": STEM}


class TestStemNormalised(SearchMethodLaws):
    name = "sparcs"
    options: ClassVar = {
        "hidden": [4],
        "stem": {**STEM, "layers": [{**layer, "norm": "batch"} for layer in STEM["layers"]]},
    }


def spectral(widths: tuple[int, ...], bias_input: bool, name: str) -> Networks:
    """Random networks in spectral space: no eigenvalue is 0."""
    method = sparcs(hidden=widths[1:-1], bias_input=bias_input, activation=name)
    params = method.init(task_of(widths), SEEDS)
    for leaf in params:
        params[leaf] = params[leaf] + 0.3 * normal(SEEDS, leaf, tuple(params[leaf].shape[1:]))
    return method.relax(params, ONE)


def task_of(widths: tuple[int, ...]) -> Task:
    class Shape:
        inputs, outputs = widths[0], widths[-1]

    return Shape()  # type: ignore[return-value]


def by_inversion(nets: Networks, x: Tensor) -> Tensor:
    """``A = Phi Lambda Phi^-1`` as one dense matrix, and (4.5) layer by layer."""
    constant = 1 in nets.biases
    widths = (nets.widths[0] + constant, *nets.widths[1:])
    starts = [sum(widths[:m]) for m in range(len(widths) + 1)]
    outputs = []
    for k in range(nets.replicas):
        phi = torch.eye(starts[-1], dtype=torch.float64)
        eigenvalues = torch.zeros(starts[-1], dtype=torch.float64)
        for layer in range(1, len(widths)):
            block = nets.blocks[layer, layer - 1][k]
            if layer == 1 and constant:
                block = torch.cat((block, nets.biases[1][k].unsqueeze(-1)), -1)
            phi[starts[layer] : starts[layer + 1], starts[layer - 1] : starts[layer]] = block
            eigenvalues[starts[layer] : starts[layer + 1]] = nets.eigenvalues[layer][k]
        a = phi @ torch.diag(eigenvalues) @ torch.linalg.inv(phi)
        own = x[k] if x.dim() == 3 else x
        values = torch.cat((own, torch.ones_like(own[:1]))) if constant else own
        for layer in range(1, len(widths)):
            z = a[starts[layer] : starts[layer + 1], : starts[layer]] @ values
            last = layer == len(widths) - 1
            values = torch.cat((values, z if last else nets.function(nets.candidates[0])(z)))
        outputs.append(values[starts[-2] :])
    return torch.stack(outputs)


def values_and_gradients(run: Any, nets: Networks, x: Tensor) -> list[Tensor]:
    leaves = nets.map(lambda t: t.detach().clone().requires_grad_())
    tensors = [*leaves.blocks.values(), *leaves.biases.values(), *leaves.eigenvalues.values()]
    out = run(leaves, x)
    weights = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), tensors)]


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=3, max_size=7).map(tuple),
    bias_input=st.booleans(),
    name=st.sampled_from(["relu", "tanh", "sigmoid"]),
    own=st.booleans(),
)
def test_three_ways_to_the_same_function(widths: tuple[int, ...], bias_input: bool, name: str, own: bool) -> None:
    nets = spectral(widths, bias_input, name)
    x = normal(torch.tensor([1, 2]), "x", (widths[0], 5))
    x = x if own else x[0]
    wanted = values_and_gradients(by_inversion, nets, x)
    scale = max(1.0, *(float(t.abs().max()) for t in wanted))
    for run in (recursive, lambda n, x: forward(materialised(n), x)):
        for found, right in zip(values_and_gradients(run, nets, x), wanted, strict=True):
            torch.testing.assert_close(found / scale, right / scale, rtol=0, atol=1e-12)


@pytest.mark.parametrize("widths", [(3, 5, 1), (2, 4, 3, 6, 2)])
def test_it_starts_as_a_perceptron(widths: tuple[int, ...]) -> None:
    method = sparcs(hidden=widths[1:-1])
    nets = method.relax(method.init(task_of(widths), SEEDS), ONE)
    found = sizes(method.direct(nets))
    assert found["neurons"].tolist() == [0, 0]
    assert found["edges"].tolist() == [widths[0] * widths[-1]] * 2


@pytest.mark.parametrize("layers", [3, 4, 7])
def test_parameters_are_counted_as_in_figure_8(layers: int) -> None:
    n = 6
    method = sparcs(hidden=[n] * (layers - 2))
    params = method.init(task_of((n,) * layers), SEEDS)
    spectral_count = sum(p[0].numel() for p in params.values())
    assert spectral_count + n == (layers - 1) * n**2 + layers * n  # the paper also counts the input's eigenvalues, here fixed
    nets = method.direct(method.relax(params, ONE))
    assert sum(w[0].numel() for w in nets.blocks.values()) == n**2 * layers * (layers - 1) // 2


def test_eigenvalues_stay_as_information() -> None:
    nets = spectral((3, 4, 2), True, "relu")
    plain = materialised(nets)
    assert plain.parts == {"blocks", "biases", "eigenvalues"}
    assert set(plain.biases) == {1, 2}


def test_the_form_is_chosen_by_size() -> None:
    assert chosen_form((100,) * 12, 1024) == "recursive"
    assert chosen_form((2, 300, 300, 1), 1000) == "materialised"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hidden": []}, "at least one hidden layer"),
        ({"hidden": [3, 0]}, "at least one neuron"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        sparcs(**options)


def test_a_step_grows_hidden_neurons() -> None:
    method, task = sparcs(hidden=[6]), example_task()
    params = {n: p.requires_grad_() for n, p in method.init(task, SEEDS).items()}
    loss = task.losses(method.forward(method.relax(params, ONE), task.train.x), task.train.y).sum()
    (gradient,) = torch.autograd.grad(loss, [params["eigenvalues"]])
    assert bool((gradient != 0).any())


def study(**changes: Any) -> Any:
    plain: dict[str, Any] = {
        "study": "s",
        "task": {"use": "addition", "samples": 60},
        "method": {"use": "sparcs", "hidden": [6, 5]},
        "penalties": [{"use": "eigenvalue", "norm": "l1", "proximal": True, "weights": [3.0, 0.8], "level": 1.0}],
        "train": {"steps": 30, "lr": 0.01},
        "seeds": 3,
    }
    return parse(plain | changes)


def trained(config: Any, compiled: bool = False) -> Any:
    plugins = load_plugins()
    pack = Pack("p", {}, {}, config.seed_list, [0] * len(config.seed_list))
    parts = components(config, pack, plugins)
    search = assemble(parts, pack, plugins)
    *_, last = train(search, every=config.train.steps, compiled=compiled)
    return parts, last


def test_a_proximal_penalty_makes_exact_zeros() -> None:
    parts, last = trained(study())
    nets = parts.method.relax(last.state.params, last.metrics["train_loss"])
    assert bool((nets.eigenvalues[1] == 0).all())  # weight 3 against steps of one learning rate
    assert bool((nets.eigenvalues[3] != 0).all())  # the output's are never touched
    assert bool((last.metrics["penalty"] >= 0).all())


def test_a_proximal_penalty_that_is_over_leaves_its_zeros_and_frees_the_rest() -> None:
    """Debiasing on the support that it found; a row whose penalty goes on, or never was, is not frozen."""
    ramp = {"use": "plateau", "rise": 0.2, "fall": 0.5}
    penalty = {"use": "eigenvalue", "norm": "l1", "proximal": True, "level": 0.2, "ramp": ramp}
    task = {"use": "xor", "samples": 60}  # a perceptron cannot: some neurons must stay
    config = study(task=task, penalties=[penalty], train={"steps": 200, "lr": 0.03, "dtype": "float64"})
    plugins = load_plugins()
    pack = Pack("p", {}, {"penalties.0.level": [0.2, 0.0, 0.2]}, config.seed_list, [0, 1, 0])
    parts = components(config, pack, plugins)
    search = assemble(parts, pack, plugins)
    history = {report.step: report.state.params["eigenvalues"].clone() for report in train(search, every=1)}
    over, end = history[100], history[200]
    for row in (0, 2):
        assert bool((over[row] == 0).any())
        assert bool(((over[row] == 0) == (end[row] == 0)).all())  # the support is what it was
        assert bool((over[row] != end[row]).any())  # and the rest went on
    assert bool((end[1] != 0).all())


def test_a_proximal_penalty_is_refused_where_nothing_holds_its_parts() -> None:
    pack = Pack("p", {}, {}, [0], [0])
    parts = components(study(), pack, load_plugins())
    search = assemble(parts, pack, load_plugins())
    try_out(parts, search, load_plugins())

    class Blind(type(parts.method)):  # type: ignore[misc]
        traits = Traits(architecture=frozenset({"eigenvalues"}))

    blind = Blind((6, 5), "relu", False, "auto", None)
    with pytest.raises(ConfigError, match=r"moves eigenvalues, which are not parameters of method 'sparcs'.*holds: none"):
        try_out(replace(parts, method=blind), replace(search, method=blind), load_plugins())


def test_penalties_on_parts_it_lacks_are_refused() -> None:
    with pytest.raises(ConfigError, match="'compactness' reads gates"):
        chunk(study(penalties=[{"use": "compactness", "level": 0.1}]), [{}], load_plugins())


@pytest.mark.slow
def test_a_proximal_step_compiles() -> None:
    (_, eager), (_, fused) = trained(study()), trained(study(), compiled=True)
    torch.testing.assert_close(fused.state.params, eager.state.params, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_study_ends_with_small_networks_that_know_their_eigenvalues(tmp_path: Path, seeds: int) -> None:
    config = study(store=str(tmp_path), seeds=seeds, mlflow=None, discretizers=[{"use": "obs", "refit": 3}])
    done = Study(config).run("serial")
    nets = load_networks(done.folder / "packs" / "p0000")
    assert set(nets.eigenvalues) == {1, 2, 3}
    assert (done.frame["layers"] <= 2).all()
    x = torch.rand(7, 2)
    assert done.network("p0000/0000")(x).shape == (7, 1)


def test_a_pack_with_a_proximal_penalty_is_its_rows_alone() -> None:
    train = {"steps": 30, "lr": 0.01, "dtype": "float64", "batch": 16}
    _, together = trained(study(train=train, seeds=[5, 0, 9]))
    for row, seed in enumerate([5, 0, 9]):
        _, alone = trained(study(train=train, seeds=[seed]))
        for name, leaf in alone.state.params.items():
            torch.testing.assert_close(together.state.params[name][row : row + 1], leaf, rtol=1e-10, atol=1e-10)
