"""Sizes of kernels to choose from: the mixture is one convolution, one size stays, and the compact network has it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nasplug import files
from nasplug.compact import compact, export, load, save
from nasplug.discretize import discretize
from nasplug.drawing import network_picture
from nasplug.finetune import Fresh, refit
from nasplug.networks import Networks, alive, features, forward, harden, join, sizes, take
from nasplug.packs import load_networks, save_networks
from nasplug.replicas import normal
from nasplug.stems import Convolution, Stem, drawn, parts
from nasplug.study import Study
from nasplug.testing import SearchMethodLaws, example_task

torch.set_num_threads(1)
SEEDS = torch.tensor([5, 1, 3])
STEM = Stem(image=(2, 3, 2), layers=(Convolution(channels=3, sizes=(1, 3, 5), pool=1), Convolution(channels=2, sizes=(2, 4))))


class TestSearch(SearchMethodLaws):
    name = "edges"
    options: ClassVar = {
        "mode": "l1",
        "hidden": [3],
        "stem": {"image": [1, 1, 3], "layers": [{"channels": 2, "sizes": [[1, 1], [1, 3]], "activation": "tanh"}]},
    }


def networks(sharp: float = 1.0) -> tuple[Networks, dict[str, Tensor]]:
    """Random networks with a hidden layer behind the stem, their shares so far apart."""
    leaves = drawn(STEM, SEEDS)
    for name in leaves:
        if "shares" in name:
            leaves[name] = sharp * normal(SEEDS, name, tuple(leaves[name].shape[1:]))
    widths = (STEM.features, 4, 1)
    nets = Networks(
        widths=widths,
        blocks={(to, to - 1): normal(SEEDS, f"{to}", (widths[to], widths[to - 1])) for to in (1, 2)},
        biases={layer: normal(SEEDS, f"b {layer}", (widths[layer],)) for layer in (1, 2)},
        candidates=("tanh",),
        **parts(STEM, leaves),
    )
    nets.check()
    return nets, leaves


def images(samples: int = 5) -> Tensor:
    return normal(torch.tensor([9]), "images", (STEM.inputs, samples))[0]


def test_a_mixture_of_sizes_is_the_sum_of_their_convolutions() -> None:
    nets, leaves = networks()
    x = images()
    for k in range(3):
        a = x.T.reshape(-1, *STEM.image)
        for number, layer in enumerate(STEM.layers, start=1):
            share = torch.softmax(leaves[f"kernel shares {number}"][k], 0)
            total: Any = nets.kernel_biases[number][k, :, None, None]
            for at, size in enumerate(layer.sizes or ()):
                assert isinstance(size, int)
                edge = (layer.window[0] - size) // 2
                kernel = leaves[f"kernel {number}"][k, at]
                kernel = kernel[..., edge : edge + size, edge : edge + size]
                assert bool((kernel != 0).all())
                total = total + share[at] * F.conv2d(a, kernel, padding=layer.pad[0] - edge)
            a = torch.relu(total)
        torch.testing.assert_close(features(nets, x)[k].T, a.flatten(1))


def test_rows_choose_for_themselves_and_keep_one_size_alone(tmp_path: Path) -> None:
    nets, leaves = networks(3.0)
    x = images()
    hard = alive(harden(nets))
    for k in range(3):
        small = compact(hard, k)
        assert small.stem is not None
        for number, layer in enumerate(small.stem.layers, start=1):
            chosen = int(leaves[f"kernel shares {number}"][k].argmax())
            assert layer.sizes is None
            assert layer.kernel == (STEM.layers[number - 1].sizes or ())[chosen]
            assert small.get_parameter(f"kernel_{number}").shape[-1] == layer.kernel
        outputs = small(x.T.float()).T
        torch.testing.assert_close(outputs, forward(hard, x)[k], atol=1e-5, rtol=1e-5)
        save(small, tmp_path / str(k))
        assert torch.equal(load(tmp_path / str(k))(x.T.float()).T, outputs)
        graph = export(small, x.T.float()).module()
        torch.testing.assert_close(graph(x.T.float()).T, outputs)
        assert small.parameter_count == int(sizes(hard)["parameters"][k])
        torch.testing.assert_close(forward(alive(harden(take(nets, torch.tensor([k])))), x)[0], forward(hard, x)[k])
    save_networks(tmp_path, hard, "id")
    assert torch.equal(forward(load_networks(tmp_path), x), forward(hard, x))
    assert torch.equal(join([take(nets, torch.tensor([0])), take(nets, torch.tensor([1, 2]))]).kernels[1], nets.kernels[1])


def test_no_training_makes_a_kernel_larger_than_it_chose_to_be() -> None:
    task = example_task(inputs=STEM.inputs)
    nets, _ = networks(3.0)
    hard, _ = discretize(task, nets, [])
    tuned = refit(task, hard, 20, 0.01)
    fresh = Fresh(hard)
    anew = fresh.relax({name: 1.0 + p.double() for name, p in fresh.init(task, SEEDS).items()}, torch.ones(3))
    for number, kernel in hard.kernels.items():
        assert not torch.equal(tuned.kernels[number], kernel)
        for found in (tuned.kernels[number], anew.kernels[number]):
            assert torch.equal(found != 0, kernel != 0)


def test_norms_come_before_sizes() -> None:
    sized, normed = {"channels": 2, "sizes": [1, 3]}, {"channels": 2, "norm": "batch"}
    assert Stem.model_validate({"image": [1, 4, 4], "layers": [normed, sized]}).normalised == [1]
    with pytest.raises(ValueError, match=r"layers.2.norm behind layers.1.sizes, of whose mixture"):
        Stem.model_validate({"image": [1, 4, 4], "layers": [normed, sized, normed]})


@pytest.mark.parametrize(
    ("name", "value"),
    [("constants", "[1, 2]"), ("passes", "7"), ("widths", "null"), ("stem", STEM.settled().model_dump_json())],
)
def test_a_file_of_networks_that_does_not_fit_itself_is_named(name: str, value: str, tmp_path: Path) -> None:
    nets, _ = discretize(example_task(inputs=STEM.inputs), networks()[0], [])
    small = Networks(widths=(2, 2), blocks={(1, 0): nets.blocks[2, 1][:, :, :2].expand(-1, 2, -1)}, candidates=("tanh",))
    save_networks(tmp_path, small, "mine")
    path = tmp_path / "networks.safetensors"
    tensors, metadata = files.read_tensors(path)
    files.write_tensors(path, tensors, metadata | {name: value})
    with pytest.raises(files.DamageError, match=r"networks.safetensors cannot be read: .*; run the study again"):
        load_networks(tmp_path)


@pytest.mark.parametrize("method", ["edges", "sparcs"])
def test_a_study_chooses_sizes(method: str, tmp_path: Path) -> None:
    raw: dict[str, Any] = {
        "study": "sizes",
        "store": str(tmp_path),
        "task": {"use": "digits_images"},
        "method": {
            "use": method,
            "hidden": [4],
            "stem": {"image": [1, 8, 8], "layers": [{"channels": 2, "sizes": [1, 3, 5], "pool": 4}]},
            **({"mode": "l1"} if method == "edges" else {}),
        },
        "train": {"steps": 20, "batch": 32, "lr": 0.05, "finetune": 5},
        "seeds": 3,
        "linear": False,
        "mlflow": None,
    }
    done = Study.from_dict(raw).run("serial", report=False)
    assert (done.frame["status"] == "finished").all()
    stem = done.network().stem
    assert stem is not None
    size = stem.layers[0].kernel
    assert size in (1, 3, 5)
    assert f"1 x 8 x 8 ─▶ {stem.layers[0].channels} x 2 x 2 (kernels {size} x {size}) ─▶" in network_picture(done.network())
    assert stem.layers[0].sizes is None
