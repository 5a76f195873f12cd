"""Batch normalisation of stems: against torch's own layer, by row, by weight, folded, resumed, exported and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasplug.compact import compact, export, load, save
from nasplug.config import parse
from nasplug.discretize import discretize
from nasplug.errors import ConfigError, ContractError
from nasplug.finetune import finetune, retrain
from nasplug.networks import Networks, alive, features, folded, forward, harden, observing, sizes, take
from nasplug.packs import load_networks, save_networks
from nasplug.packs.stored import HISTORIES, Standing, load_checkpoint, save_checkpoint
from nasplug.plan import assemble, chunk, components
from nasplug.plugins import load_plugins
from nasplug.replicas import normal, uniform
from nasplug.stems import NORMS, Convolution, Stem, drawn, observed, parts
from nasplug.train import Search, State, start, train

torch.set_num_threads(1)
SEEDS = torch.tensor([5, 1, 3])
STEM = Stem(
    image=(2, 6, 5),
    layers=(Convolution(channels=3, pool=2, norm="batch"), Convolution(channels=4, kernel=(2, 1), padding=0, norm="batch")),
)

convolutions = st.builds(
    Convolution,
    channels=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pool=st.integers(1, 2),
    activation=st.sampled_from(["relu", "tanh"]),
    norm=st.sampled_from(["batch", None]),
)


@st.composite
def stems(draw: st.DrawFn) -> Stem:
    stem = Stem(
        image=draw(st.tuples(st.integers(1, 3), st.integers(2, 8), st.integers(2, 8))),
        layers=tuple(draw(st.lists(convolutions, min_size=1, max_size=3))),
    )
    try:
        stem.check_shapes()
    except ConfigError:
        return Stem(image=stem.image, layers=(Convolution(channels=2, kernel=1, norm="batch"),))
    return stem


def networks(stem: Stem) -> Networks:
    """Random networks behind a stem whose scales, shifts and statistics are random too."""
    leaves = drawn(stem, SEEDS)
    for name, leaf in leaves.items():
        if name.startswith("kernel variance"):
            leaves[name] = uniform(SEEDS, name, tuple(leaf.shape[1:]), 0.1, 3.0)
        elif "bias" in name or "mean" in name or "scale" in name:
            leaves[name] = normal(SEEDS, name, tuple(leaf.shape[1:]))
    widths = (stem.features, 4, 2)
    return Networks(
        widths=widths,
        blocks={(to, s): normal(SEEDS, f"{to} {s}", (widths[to], widths[s])) for to, s in ((1, 0), (2, 0), (2, 1))},
        biases={layer: normal(SEEDS, f"b {layer}", (widths[layer],)) for layer in (1, 2)},
        candidates=("tanh",),
        **parts(stem, leaves),
    )


def images(stem: Stem, *leading: int, samples: int = 7) -> Tensor:
    return torch.randn(*leading, stem.inputs, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def as_module(nets: Networks, k: int) -> nn.Sequential:
    """Row k's stem from torch's own layers."""
    assert nets.stem is not None
    layers: list[nn.Module] = []
    for number, layer in enumerate(nets.stem.layers, start=1):
        kernel, bias = nets.kernels[number][k], nets.kernel_biases[number][k]
        module = nn.Conv2d(
            kernel.shape[1], kernel.shape[0], layer.window, layer.stride, layer.pad, bias=layer.norm is None
        ).double()
        module.load_state_dict({"weight": kernel} | ({} if layer.norm else {"bias": bias}))
        layers.append(module)
        if layer.norm:
            state = {"weight": nets.kernel_scales[number][k], "bias": bias, "num_batches_tracked": torch.tensor(0)}
            state |= {"running_mean": nets.kernel_means[number][k], "running_var": nets.kernel_variances[number][k]}
            layers.append(nn.BatchNorm2d(kernel.shape[0]).double())
            layers[-1].load_state_dict(state)
        layers += [{"relu": nn.ReLU(), "tanh": nn.Tanh()}[layer.activation], nn.MaxPool2d(layer.pool)]
    return nn.Sequential(*layers, nn.Flatten())


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(stem=stems(), shared=st.booleans())
def test_it_is_torchs_own_layer_in_training_and_in_use(stem: Stem, shared: bool) -> None:
    nets = networks(stem)
    nets.check()
    x = images(stem) if shared else images(stem, 3)
    close(features(folded(nets), x), features(nets, x))
    assert folded(folded(nets)) is folded(nets) or not folded(nets).kernel_scales
    outputs, seen = observing(forward, nets, x)
    for k in range(3):
        rows = (x if shared else x[k]).T.reshape(7, *stem.image)
        module = as_module(nets, k)
        close(features(nets, x)[k], module.eval()(rows).T)
        made = module.train()(rows).T
        head = replace(nets, stem=None, kernels={}, kernel_biases={}, **{part: {} for part in NORMS})
        close(outputs[k], forward(take(head, torch.tensor([k])), made)[0])
        norms = [layer for layer in module if isinstance(layer, nn.BatchNorm2d)]
        for number, layer in zip(stem.normalised, norms, strict=True):
            for part, running in (("kernel_means", layer.running_mean), ("kernel_variances", layer.running_var)):
                assert running is not None
                found = getattr(nets, part)[number][k].lerp(seen[f"{NORMS[part]} {number}"][k], 0.1)
                close(found, running)


@settings(max_examples=30, deadline=None)
@given(stem=stems())
def test_a_compact_network_has_the_norms_folded_in(stem: Stem) -> None:
    nets, x = networks(stem), images(stem)
    small = compact(nets, 1)
    assert small.stem is not None
    assert small.stem.normalised == []
    wanted = forward(nets, x)[1].T
    assert float((small(x.T.float()).detach().double() - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))
    assert small.parameter_count == int(sizes(nets)["parameters"][1])
    assert {name: int(n[1]) for name, n in sizes(folded(nets)).items()} == {name: int(n[1]) for name, n in sizes(nets).items()}


def test_weights_are_how_often_a_sample_counts() -> None:
    nets, x = networks(STEM), images(STEM)
    plain = observing(forward, nets, x)
    for weights in (torch.ones(7), torch.full((3, 7), 4.0)):
        found = observing(forward, nets, x, weights.double())
        close(found[0], plain[0])
        assert plain[1].keys() == found[1].keys()
        for name, value in plain[1].items():
            close(found[1][name], value)
    half = torch.tensor([[1.0] * 4 + [0.0] * 3, [0.0] * 3 + [2.0] * 4, [0.0] * 7], dtype=torch.float64)
    outputs, seen = observing(forward, nets, x, half)
    for k, kept in ((0, slice(0, 4)), (1, slice(3, 7))):
        alone, saw = observing(forward, take(nets, torch.tensor([k])), x[:, kept])
        close(outputs[k, :, kept], alone[0])
        for name, value in saw.items():
            close(seen[name][k], value[0])
    for part in ("kernel_means", "kernel_variances"):  # a row without a sample observes nothing
        assert torch.equal(seen[f"{NORMS[part]} 2"][2], getattr(nets, part)[2][2])


def study(method: str = "edges", **changes: Any) -> dict[str, Any]:
    """A small study of images of 2 x 2 pixels; ``method``: its name."""
    stem = {"image": [1, 2, 2], "layers": [{"channels": 2, "kernel": 2, "norm": "batch"}]}
    more = {"mode": "l1"} if method == "edges" else {}
    return {
        "study": "norms",
        "task": {"use": "iris", "validation": "holdout"},
        "method": {"use": method, "hidden": [3], "stem": stem, **more},
        "train": {"steps": 12, "finetune": 20, "lr": 0.01, "batch": 16},
        "seeds": 3,
        "mlflow": None,
        **changes,
    }


def search_of(method: Any = "edges", **changes: Any) -> Search:
    plugins = load_plugins()
    settled = parse(study(method, **changes) if isinstance(method, str) else study() | {"method": method})
    (pack,) = chunk(settled, [{}], plugins)
    return assemble(components(settled, pack, plugins), pack, plugins)


def last(search: Search, state: State | None = None, until: int | None = None) -> State:
    *_, report = train(search, state, until=until)
    return report.state


@pytest.mark.parametrize("method", ["edges", "sparcs"])
def test_a_row_is_the_same_alone_and_after_others_are_removed(method: str) -> None:
    search = search_of(method)
    search = replace(search, task=search.task.to("cpu", torch.float64))
    whole = last(search).params
    half = last(search, until=6)
    for k in range(3):
        row = torch.tensor([k])
        alone, left = last(search.take(row)).params, last(search.take(row), half.take(row)).params
        for name, leaf in whole.items():
            torch.testing.assert_close(alone[name][0], leaf[k], rtol=1e-9, atol=1e-10)
            torch.testing.assert_close(left[name][0], leaf[k], rtol=1e-9, atol=1e-10)


def test_a_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    search = search_of()
    whole, half = last(search), last(search, until=5)
    save_checkpoint(tmp_path, "mine", Standing(half, torch.arange(3).numpy(), {name: [] for name in HISTORIES}))
    again = load_checkpoint(tmp_path, "mine", "cpu", list(start(search).params))
    assert again is not None
    found = last(search, again.state)
    assert found.params.keys() == whole.params.keys()
    assert all(torch.equal(found.params[name], leaf) for name, leaf in whole.params.items())
    moved = [name for name in whole.params if observed(name)]
    assert moved == ["kernel mean 1", "kernel variance 1"]
    assert all(bool((whole.params[name] != start(search).params[name]).all()) for name in moved)


def test_statistics_are_observed_and_not_trained() -> None:
    decayed = {"steps": 12, "lr": 0.01, "optimizer": {"use": "adamw", "weight_decay": 0.5}}
    search = search_of(train=decayed)
    state = start(search)
    assert not any(observed(name.split("/", 1)[-1]) for name in state.moments)
    assert {"m/kernel scale 1", "m/kernel bias 1"} <= set(state.moments)
    found = last(search, until=1).params
    nets = search.relax(state.params, search.tau.at(0))
    _, seen = observing(search.forward, nets, *search.task.train.batch[::2])
    for name, value in seen.items():
        assert torch.equal(found[name], state.params[name].lerp(value, 0.1))


def test_other_folds_do_not_reach_a_row() -> None:
    """Neither its weights nor its statistics: of samples that it is not trained on only their places are seen."""
    search = search_of(task={"use": "iris", "validation": {"use": "folds", "folds": 3}}, seeds=1)
    split = search.task.train
    assert split.weights is not None
    held = split.weights[0] == 0
    assert bool(held.any())
    spoiled = split.x.clone()
    spoiled[..., held] = 100.0
    other = replace(search, task=replace(search.task, train=replace(split, x=spoiled)))
    before, after = last(search).params, last(other).params
    assert all(torch.equal(after[name][0], leaf[0]) for name, leaf in before.items())
    assert not torch.equal(before["kernel mean 1"][1], after["kernel mean 1"][1])


def test_one_number_has_no_variance_to_observe() -> None:
    stem = Stem(image=(1, 1, 2), layers=(Convolution(channels=2, kernel=(1, 2), padding=0, norm="batch"),))
    nets = networks(stem)
    weights = torch.eye(3, 7)
    weights[2, :2] = 1.0
    _, seen = observing(forward, nets, images(stem), weights.double())
    for name, before in (("kernel mean 1", nets.kernel_means[1]), ("kernel variance 1", nets.kernel_variances[1])):
        assert torch.equal(seen[name][:2], before[:2])
        assert bool((seen[name][2] != before[2]).all())


def test_hard_networks_keep_their_norms_until_they_are_compact(tmp_path: Path) -> None:
    search = search_of()
    soft = search.relax(last(search).params, search.tau.at(0))
    nets, _ = discretize(search.task, soft, ())
    tuned = finetune(search, nets, 20, torch.full((3,), 0.02))
    anew = retrain(search, nets, 20, torch.full((3,), 0.02))
    for other in (tuned, anew):
        assert not torch.equal(other.kernel_means[1], nets.kernel_means[1])
        assert not torch.equal(other.kernel_scales[1], nets.kernel_scales[1])
    save_networks(tmp_path, alive(harden(tuned)), "mine")
    again = load_networks(tmp_path)
    again.check()
    assert again.stem == tuned.stem
    x = search.task.test.x
    torch.testing.assert_close(forward(again, x), forward(tuned, x))


def test_channels_that_no_feature_needs_are_dropped_with_their_norms() -> None:
    nets, x = networks(STEM), images(STEM)
    reads = torch.zeros(STEM.shapes[-1])
    reads[2] = 1.0
    nets = replace(nets, blocks={e: w * reads.flatten() if e[1] == 0 else w for e, w in nets.blocks.items()})
    hard = alive(harden(nets))
    close(forward(hard, x), forward(nets, x))
    assert hard.kernel_scales[2].bool().tolist() == [[False, False, True, False]] * 3
    small = compact(nets, 0)
    assert small.stem is not None
    assert [layer.channels for layer in small.stem.layers] == [3, 1]
    assert small.parameter_count == int(sizes(nets)["parameters"][0])


def test_a_program_of_it_agrees(tmp_path: Path) -> None:
    nets, x = networks(STEM), images(STEM)
    small, rows = compact(nets, 0), x.T.float()
    save(small, tmp_path)
    assert "norm" not in (tmp_path / "network.json").read_text()
    assert torch.equal(load(tmp_path)(rows), small(rows))
    program = export(small, rows).module()
    torch.testing.assert_close(program(rows[:2]), small(rows[:2]))
    torch.testing.assert_close(small(rows).double(), forward(nets, x)[0].T, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    one = study(train={"steps": 3, "lr": 0.01, "batch": 1})
    one["method"]["stem"]["layers"] = [{"channels": 2, "kernel": 2, "padding": 0, "norm": "layer"}]
    with pytest.raises(ConfigError, match=r"stem.layers.0.norm: 'layer'; needed: .*batch"):
        search_of(method=one["method"])
    one["method"]["stem"]["layers"][0]["norm"] = "batch"
    with pytest.raises(ConfigError, match=r"stem.layers.0.norm: a batch of 1 sample and one place.*larger train.batch"):
        chunk(parse(one), [{}], load_plugins())
    nets = networks(STEM)
    for broken, told in (
        (replace(nets, kernel_means={1: nets.kernel_means[1]}), r"kernel_means of layers \[1\] for a stem with norms in"),
        (replace(nets, kernel_scales={n: t[:, :1] for n, t in nets.kernel_scales.items()}), r"kernel_scales\[1\] has shape"),
        (replace(nets, stem=None, kernels={}, kernel_biases={}), "kernels without a stem"),
    ):
        with pytest.raises(ContractError, match=told):
            broken.check()
    save(compact(nets, 0), tmp_path)
    path = tmp_path / "network.json"
    path.write_text(path.read_text().replace('"activation": "relu"', '"norm": "batch", "activation": "relu"', 1))
    with pytest.raises(ConfigError, match="does not hold a network saved by nasplug"):
        load(tmp_path)
