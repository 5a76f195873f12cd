"""Stems: against torch's own modules, as part of the record, pruned, compacted, trained and refused."""

from __future__ import annotations

import io
import warnings
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
from nasplug.drawing import draw_network, network_picture, strengths
from nasplug.errors import ConfigError, ContractError
from nasplug.finetune import Fresh, Frozen, finetune
from nasplug.networks import Networks, alive, features, forward, harden, sizes, take
from nasplug.packs import load_networks, save_networks
from nasplug.plan import assemble, chunk, components
from nasplug.plugins import load_plugins
from nasplug.replicas import normal
from nasplug.stems import Convolution, Stem, drawn, entrance, parts
from nasplug.study import Study
from nasplug.testing import example_networks, example_task
from nasplug.train import compile_step, evaluate, start, step

torch.set_num_threads(1)
SEEDS = torch.tensor([5, 1, 3])
PLAIN = Stem(image=(2, 6, 5), layers=(Convolution(channels=3, pool=2), Convolution(channels=4, kernel=(2, 1), padding=0)))

pairs = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
convolutions = st.builds(
    Convolution,
    channels=st.integers(1, 3),
    kernel=pairs,
    stride=pairs,
    padding=st.one_of(st.none(), st.integers(0, 2)),
    pool=pairs,
    activation=st.sampled_from(["relu", "tanh", "sin"]),
)


@st.composite
def stems(draw: st.DrawFn) -> Stem:
    image = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    stem = Stem(image=image, layers=tuple(draw(st.lists(convolutions, min_size=1, max_size=3))))
    try:
        stem.check_shapes()
    except ConfigError:
        return Stem(image=image, layers=(Convolution(channels=2, kernel=1),))
    return stem


def networks(stem: Stem, hidden: int = 4, outputs: int = 2) -> Networks:
    """Random networks with one hidden layer and a skip behind the stem."""
    leaves = drawn(stem, SEEDS)
    widths = (stem.features, hidden, outputs)
    return Networks(
        widths=widths,
        blocks={(to, s): normal(SEEDS, f"{to} {s}", (widths[to], widths[s])) for to, s in ((1, 0), (2, 0), (2, 1))},
        biases={layer: normal(SEEDS, f"b {layer}", (widths[layer],)) for layer in (1, 2)},
        candidates=("tanh",),
        **parts(stem, leaves),
    )


def images(stem: Stem, *leading: int, samples: int = 5) -> Tensor:
    return torch.randn(*leading, stem.inputs, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def as_module(nets: Networks, k: int) -> nn.Sequential:
    """Row k's stem from torch's own layers."""
    assert nets.stem is not None
    layers: list[nn.Module] = []
    kinds = {"relu": nn.ReLU(), "tanh": nn.Tanh()}
    for number, layer in enumerate(nets.stem.layers, start=1):
        kernel, bias = nets.kernels[number][k], nets.kernel_biases[number][k]
        module = nn.Conv2d(kernel.shape[1], kernel.shape[0], layer.window, layer.stride, layer.pad).double()
        module.load_state_dict({"weight": kernel, "bias": bias})
        layers += [module, kinds.get(layer.activation, nn.Identity()), nn.MaxPool2d(layer.pool)]
    return nn.Sequential(*layers, nn.Flatten())


@settings(max_examples=60, deadline=None)
@given(stem=stems(), shared=st.booleans())
def test_a_stem_is_what_torchs_layers_make(stem: Stem, shared: bool) -> None:
    stem = stem.model_copy(
        update={
            "layers": tuple(c if c.activation != "sin" else c.model_copy(update={"activation": "tanh"}) for c in stem.layers)
        }
    )
    nets = networks(stem)
    nets.check()
    x = images(stem) if shared else images(stem, 3)
    found = features(nets, x)
    assert found.shape == (3, stem.features, 5)
    for k in range(3):
        own = x if shared else x[k]
        wanted = as_module(nets, k)(own.T.reshape(5, *stem.image))
        torch.testing.assert_close(found[k], wanted.T, rtol=1e-10, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(stem=stems())
def test_shapes_are_those_of_the_layers(stem: Stem) -> None:
    nets = networks(stem)
    a = images(stem).T.reshape(5, *stem.image)
    taken, places = 0, []
    for module in as_module(nets, 0)[:-1]:
        a = module(a)
        taken += a[0].numel() * isinstance(module, nn.Conv2d)
        places += [a[0, 0].numel()] if isinstance(module, nn.Conv2d) else []
    assert stem.places == places
    assert tuple(a.shape[1:]) == stem.shapes[-1]
    assert nets.activations == taken + 6
    assert len(stem.names) == stem.features == nets.widths[0]


def test_a_row_alone_is_the_row_in_its_pack() -> None:
    nets, x = networks(PLAIN), images(PLAIN)
    for k in range(3):
        alone = forward(take(nets, torch.tensor([k])), x)
        torch.testing.assert_close(alone[0], forward(nets, x)[k], rtol=1e-12, atol=1e-12)


def test_a_broken_row_leaves_the_others_alone() -> None:
    nets, x = networks(PLAIN), images(PLAIN)
    broken = replace(nets, kernels={**nets.kernels, 1: nets.kernels[1].clone()})
    broken.kernels[1][1] = torch.nan
    for index in (0, 2):
        assert torch.equal(forward(broken, x)[index], forward(nets, x)[index])
    assert bool(forward(broken, x)[1].isnan().all())


def one_channel(nets: Networks) -> Networks:
    """The head reads channel 2 of the last layer alone, whose kernel reads channels 0 and 1."""
    assert nets.stem is not None
    reads = torch.zeros(nets.stem.shapes[-1])
    reads[2] = 1.0
    kernels = {**nets.kernels, 2: nets.kernels[2].clone()}
    kernels[2][:, 2, 2] = 0.0
    blocks = {e: w * reads.flatten() if e[1] == 0 else w for e, w in nets.blocks.items()}
    return replace(nets, kernels=kernels, blocks=blocks)


def test_channels_that_no_feature_needs_are_dropped() -> None:
    nets, x = one_channel(networks(PLAIN)), images(PLAIN)
    hard = alive(harden(nets))
    torch.testing.assert_close(forward(hard, x), forward(nets, x), rtol=1e-12, atol=1e-12)
    assert hard.kernels[2].flatten(2).any(2).tolist() == [[False, False, True, False]] * 3
    assert hard.kernel_biases[1].bool().tolist() == [[True, True, False]] * 3
    for one, other in ((hard.kernels, alive(hard).kernels), (hard.kernel_biases, alive(hard).kernel_biases)):
        assert all(torch.equal(one[n], other[n]) for n in (1, 2))
    # edges, head's biases, two kernels of 2 x 3 x 3 with biases, one of 2 x 2 x 1 with its bias
    assert sizes(nets)["parameters"].tolist() == (sizes(nets)["edges"] + 6 + 2 * 19 + 5).tolist()
    first, second = PLAIN.places
    assert sizes(nets)["macs"].tolist() == (sizes(nets)["edges"] + 2 * 18 * first + 4 * second).tolist()
    assert sizes(nets)["inputs"].tolist() == [60] * 3


def test_a_channel_that_is_off_brings_no_nan() -> None:
    nets = one_channel(networks(PLAIN))
    nets.kernels[2][:, 0] = torch.nan
    assert bool(torch.isfinite(forward(alive(nets), images(PLAIN))).all())


def test_a_network_that_reads_nothing_has_no_stem() -> None:
    nets = networks(PLAIN)
    silent = replace(nets, blocks={e: torch.zeros_like(w) for e, w in nets.blocks.items()})
    assert sizes(silent)["inputs"].tolist() == [0] * 3
    small = compact(silent, 0)
    assert "stem" not in small.record
    torch.testing.assert_close(small(torch.ones(2, 60)), silent.biases[2][0].double().expand(2, 2))


@pytest.mark.parametrize("whole", [True, False])
def test_a_compact_network_has_the_channels_it_needs(tmp_path: Path, whole: bool) -> None:
    nets, x = networks(PLAIN), images(PLAIN)
    nets = nets if whole else one_channel(nets)
    small = compact(nets, 1)
    assert small.stem is not None
    assert [layer.channels for layer in small.stem.layers] == ([3, 4] if whole else [2, 1])
    assert small.parameter_count == int(sizes(nets)["parameters"][1])
    rows = x.T.float()
    torch.testing.assert_close(small(rows).double(), forward(nets, x)[1].T, rtol=1e-4, atol=1e-5)
    save(small, tmp_path)
    again = load(tmp_path)
    assert torch.equal(again(rows), small(rows))
    program = export(small, rows)
    torch.testing.assert_close(program.module()(rows[:1]), small(rows[:1]))
    assert small.first_names[0] == "channel 0 (0, 0)"
    assert "channel 0 (0, 0)" in repr(small)


def test_a_layer_that_reads_no_channel_is_kept_as_one() -> None:
    nets, x = networks(PLAIN), images(PLAIN)
    deaf = replace(nets, kernels={**nets.kernels, 2: torch.zeros_like(nets.kernels[2])})
    small = compact(deaf, 0)
    assert small.stem is not None
    assert [layer.channels for layer in small.stem.layers] == [1, 4]
    torch.testing.assert_close(small(x.T.float()).double(), forward(deaf, x)[0].T, rtol=1e-4, atol=1e-5)


def test_a_broken_stem_in_a_saved_network_is_refused(tmp_path: Path) -> None:
    save(compact(networks(PLAIN), 0), tmp_path)
    path = tmp_path / "network.json"
    good = path.read_text()
    for old, new in (('"channels": 3', '"channels": 5'), ('"image"', '"picture"'), ('"channels": 3', '"channels": -3')):
        assert old in good
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(ConfigError, match="does not hold a network saved by nasplug"):
            load(tmp_path)


def test_packs_keep_their_stems(tmp_path: Path) -> None:
    nets = alive(harden(networks(PLAIN)))
    save_networks(tmp_path, nets, "mine")
    again = load_networks(tmp_path)
    again.check()
    assert again.stem == PLAIN
    x = images(PLAIN)
    torch.testing.assert_close(forward(again, x), forward(nets, x), rtol=1e-12, atol=1e-12)


def study(**changes: Any) -> dict[str, Any]:
    """A small study of images of 1 x 3 pixels."""
    return {
        "study": "stems",
        "task": {"use": "iris", "validation": "holdout"},
        "method": {
            "use": "edges",
            "mode": "l1",
            "hidden": [3],
            "stem": {"image": [1, 2, 2], "layers": [{"channels": 2, "kernel": 2}]},
            **changes,
        },
        "train": {"steps": 5, "finetune": 20, "lr": 0.01},
        "seeds": 3,
        "mlflow": None,
    }


def search_of(**changes: Any) -> Any:
    plugins = load_plugins()
    settled = parse(study(**changes))
    (pack,) = chunk(settled, [{}], plugins)
    return assemble(components(settled, pack, plugins), pack, plugins)


def test_fine_tuning_trains_the_kernels() -> None:
    search = search_of()
    nets, _ = discretize(search.task, search.method.relax(start(search).params, search.tau.at(0)), ())
    tuned = finetune(search, nets, 50, torch.full((3,), 0.02))
    assert not torch.equal(tuned.kernels[1], nets.kernels[1])
    after = evaluate(search.task, search.task.valid, tuned, forward)["loss"]
    before = evaluate(search.task, search.task.valid, nets, forward)["loss"]
    assert bool((after < before).all())


def test_from_scratch_draws_the_kernels_anew() -> None:
    search = search_of()
    nets, _ = discretize(search.task, search.method.relax(start(search).params, search.tau.at(0)), ())
    nets = replace(nets, kernels={1: nets.kernels[1] * (torch.arange(nets.kernels[1].shape[1]) > 0).view(1, -1, 1, 1, 1)})
    fresh = Fresh(nets).init(search.task, search.seeds)
    assert not torch.equal(fresh["kernel 1"], nets.kernels[1])
    assert bool((fresh["kernel 1"][:, 0] == 0).all())  # a channel that is gone stays gone
    assert bool((fresh["kernel bias 1"][:, 0] == 0).all())
    assert bool((fresh["kernel 1"][:, 1:] != 0).all())


@pytest.mark.slow
@pytest.mark.parametrize("layer", [{"kernel": 2}, {"kernel": 2, "norm": "batch"}, {"sizes": [1, 3]}])
def test_a_step_with_a_stem_compiles_whole(layer: dict[str, Any]) -> None:
    """As the loop compiles it, in one graph."""
    search = search_of(stem={"image": [1, 2, 2], "layers": [{"channels": 2, **layer}]})
    wanted, found = start(search), start(search)
    data = (search.task.train.x, search.task.train.y)
    advance = compile_step()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what a step that cannot be compiled ends in
        for state, move in ((wanted, step), (found, advance)):
            for _ in range(2):
                move(search, state.params, state.moments, data, search.lr.at(0), search.tau.at(0), (), None)
    for name, leaf in wanted.params.items():
        torch.testing.assert_close(found.params[name], leaf, rtol=1e-4, atol=1e-5)


def test_scores_do_not_depend_on_how_many_samples_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = example_task("classes", inputs=60, samples=23)
    nets = networks(PLAIN, outputs=3)
    wanted = evaluate(task, task.valid, nets, forward, constant=True)
    monkeypatch.setattr("nasplug.train.scoring.MOST_FLOATS", 5 * nets.activations)
    held: list[int] = []

    def seen(part: Networks, x: torch.Tensor) -> torch.Tensor:
        held.append(x.shape[-1])
        return forward(part, x)

    found = evaluate(task, task.valid, nets, seen, constant=True)
    assert max(held) == 5
    assert found.pop("constant").equal(wanted.pop("constant"))
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, rtol=1e-10, atol=1e-12)


# what is refused

REFUSED = [
    ({"image": [1, 8, 8], "layers": []}, r"stem.layers: \[\]; needed: a list .*\(not empty\)"),
    ({"image": [1, 8], "layers": [{"channels": 2}]}, "stem.image"),
    ({"image": [1, 2, 2], "layers": [{"channels": 0}]}, r"stem.layers.0.channels: 0; needed: a whole number >= 1"),
    ({"image": [1, 2, 2], "layers": [{"channel": 2}]}, r"stem.layers.0.channel: unknown key.*Did you mean 'channels'"),
    ({"image": [1, 2, 2], "layers": [{"channels": "two"}]}, "stem.layers.0.channels: 'two'"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "kernel": [3]}]}, "stem.layers.0.kernel"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "kernel": 5, "padding": 0}]}, "layer 1 with kernel 5.*not fit on 2 x 2"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "pool": 2}, {"channels": 2, "pool": 2}]}, "layer 2.*pool 2.*on 1 x 1 pix"),
    (
        {"image": [1, 2, 2], "layers": [{"channels": 2, "sizes": [3, 1]}]},
        r"sizes \[3, 1\]: needed: ascending, all odd or all even",
    ),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "sizes": [1, 2]}]}, r"all odd or all even"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "sizes": [1, 3], "kernel": 5}]}, "leave kernel out"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "sizes": [1, 3], "padding": 0}]}, "leave padding out"),
    ({"image": [1, 2, 2], "layers": [{"channels": 2, "sizes": [1, 3], "norm": "batch"}]}, "sizes beside norm"),
    ({"image": [1, 3, 3], "layers": [{"channels": 2}]}, r"image \[1, 3, 3\].*9 numbers; task 'iris' has 4 inputs"),
    ({"layers": [{"channels": 2}]}, "stem.image: is missing"),
    ([{"channels": 2}], "needed: a mapping of image .* and layers"),
]


@pytest.mark.parametrize(("stem", "told"), REFUSED)
def test_a_stem_that_cannot_be_is_refused_when_the_study_is_planned(stem: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        search_of(stem=stem)


def test_a_stem_for_other_images_is_refused() -> None:
    task = replace(example_task(inputs=12), image=(1, 3, 4))
    task.check()
    assert entrance(None, task) == 12
    good = Stem(image=(1, 3, 4), layers=(Convolution(channels=2),))
    assert entrance(good, task) == 24
    with pytest.raises(ConfigError, match=r"image \[1, 4, 3\].*has images of \[1, 3, 4\]"):
        entrance(good.model_copy(update={"image": (1, 4, 3)}), task)
    with pytest.raises(ConfigError, match=r"images of \[1, 3, 3\].* are 9 numbers, and there are 12 inputs"):
        replace(task, image=(1, 3, 3)).check()


def test_a_record_whose_stem_does_not_fit_is_refused() -> None:
    nets = networks(PLAIN)
    for broken, told in (
        (replace(nets, kernels={1: nets.kernels[1]}), r"kernels of layers \[1\] for a stem of 2"),
        (replace(nets, kernels={**nets.kernels, 2: nets.kernels[2][:, :1]}), r"kernels\[2\] has shape .*asks for"),
        (replace(nets, stem=None), "kernels without a stem"),
        (replace(nets, stem=PLAIN.thinned([3, 5])), r"kernels\[2\] has shape"),
        (replace(nets, widths=(3, 4, 2), blocks={(1, 0): nets.blocks[1, 0][..., :3]}), "layer 0 has 3 neurons for a stem of"),
    ):
        with pytest.raises(ContractError, match=told):
            broken.check()


def test_snapping_a_stem_is_refused() -> None:
    with pytest.raises(ConfigError, match="mode 'snap' with a stem"):
        search_of(mode="snap")


def test_frozen_networks_with_a_stem_are_themselves() -> None:
    nets = example_networks(k=3)
    frozen = Frozen(nets)
    again = frozen.relax(frozen.init(example_task(), torch.arange(3)), torch.ones(3))
    assert all(torch.equal(again.kernels[n], nets.kernels[n]) for n in (1, 2))


@pytest.mark.parametrize("hidden", [2, 60])
def test_a_network_with_a_stem_is_drawn(hidden: int) -> None:
    nets = networks(PLAIN, hidden)
    few = torch.zeros(nets.widths[0])
    few[[0, 5, 9]] = 1.0
    small = compact(replace(nets, blocks={e: w * few if e[1] == 0 else w for e, w in nets.blocks.items()}), 0)
    draw_network(small).savefig(io.BytesIO())
    assert [s.feature for s in sorted(strengths(small), key=lambda s: s.place)] == small.first_names
    told = network_picture(small)
    assert "2 x 6 x 5 ─▶ 3 x 3 x 2 (kernels 3 x 3) ─▶ 3 x 2 x 2 (kernels 2 x 1) ─▶ 3 of 12 features" in told
    assert "channel 2 (0, 1)" in told


@pytest.mark.slow
@pytest.mark.reports
def test_a_study_of_images_registers_a_network_that_takes_raw_pixels(tmp_path: Path) -> None:
    import mlflow
    from sklearn.datasets import load_digits

    raw = study(hidden=[6], stem={"image": [1, 8, 8], "layers": [{"channels": 4, "pool": 2}]})
    raw |= {"task": {"use": "digits_images"}, "penalties": [{"use": "l1", "level": 0.001}], "mlflow": {"register": "reader"}}
    raw["train"] |= {"steps": 300, "lr": 0.02, "batch": 128}
    done = Study(parse(raw | {"store": str(tmp_path), "discretizers": [{"use": "threshold", "tolerance": 0.05}]})).run("serial")
    assert (done.frame["status"] == "finished").all()
    assert (done.frame["inputs"] == 64).all()
    pixels = torch.from_numpy(load_digits().data)
    right = torch.from_numpy(load_digits().target)
    best = load(done.folder / "best")
    assert best.stem is not None
    assert float((best(pixels).argmax(1) == right).double().mean()) > 0.85
    assert (done.folder / "report.html").stat().st_size > 10_000
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/reader@champion")
    said = model.predict(pixels[:5].numpy())
    assert [f"P({label})" for label in said["label"]] == [said.columns[1 + at] for at in best(pixels[:5]).argmax(1).tolist()]
    served = torch.from_numpy(said.drop(columns="label").to_numpy())
    torch.testing.assert_close(served, best(pixels[:5]).detach().double(), rtol=1e-4, atol=1e-5)
