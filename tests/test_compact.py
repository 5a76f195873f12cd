"""The export law: one row, physically small, computes what the row computed, here and without nasplug."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nasplug.compact import CompactNetwork, compact, export, load, save
from nasplug.errors import ConfigError
from nasplug.networks import Edge, Networks, alive, forward, harden, sizes, take
from nasplug.replicas import normal, uniform
from nasplug.tasks import LOSSES, Kind, Task
from nasplug.testing import example_networks, example_task

from .stand_ins import inputs, records

few = settings(max_examples=25, deadline=None)


def row(nets: Networks, k: int, x: Tensor) -> Tensor:
    """What row k computes when it is hard, samples as rows: ``x (N, I)`` -> ``(N, O)`` in float64."""
    one = harden(take(nets, torch.tensor([k]))).map(torch.Tensor.double)
    return forward(one, x.T.double())[0].T


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == torch.float64
    size = max(1.0, float(wanted.abs().max()))  # float32 of sums: relative to what is summed
    assert torch.allclose(found.double(), wanted.double(), rtol=1e-5, atol=1e-5 * size)


def networks_of(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Networks]:
    """One of each kind that has gone wrong somewhere: each with 2 rows, 3 inputs and 2 outputs, hard."""
    whole = harden(example_networks(seed, 2, (3, 4, 4, 2), ("biases", "gates", "edge_gates", "choices"), dtype=dtype))
    dense = harden(example_networks(seed, 2, (3, 4, 4, 2), ("biases", "gates"), skips=False, dtype=dtype))

    def gated(nets: Networks, gates: dict[int, float]) -> Networks:
        return replace(nets, gates={layer: torch.full_like(g, gates.get(layer, 1.0)) for layer, g in nets.gates.items()})

    def without(nets: Networks, *edges: Edge) -> Networks:
        return replace(
            nets, edge_gates={edge: torch.full((2, *nets.blocks[edge].shape[1:]), 0.0, dtype=dtype) for edge in edges}
        )

    return {
        "mixed activations and skips": replace(
            gated(whole, {}), choices={1: torch.eye(3, dtype=dtype)[[2, 0, 2, 1]].expand(2, 4, 3), 2: whole.choices[2]}
        ),
        "dense": gated(dense, {}),
        "a dead layer that skips pass": gated(whole, {1: 0.0}),
        "no hidden neurons but a skip": gated(whole, {1: 0.0, 2: 0.0}),
        "no hidden neurons and no path": gated(dense, {2: 0.0}),
        "no inputs": without(gated(whole, {}), (1, 0), (2, 0), (3, 0)),
        "no biases": replace(gated(whole, {}), biases={}),
        "no hidden layers": Networks(
            widths=(3, 2),
            blocks={(1, 0): normal(torch.arange(2), "w", (2, 3)).to(dtype)},
            biases={1: normal(torch.arange(2), "b", (2,)).to(dtype)},
        ),
        "constants": replace(without(gated(dense, {}), (1, 0)), candidates=("softplus",)),
    }


KINDS = sorted(networks_of())


# The same function, and small.


@few
@given(nets=records(), wide=st.booleans())
def test_a_row_is_the_same_function(nets: Networks, wide: bool) -> None:
    nets = nets if wide else nets.map(torch.Tensor.float)
    x = inputs(nets).T.float()
    for k in range(nets.replicas):
        close(compact(nets, k)(x).detach(), row(nets, k, x))


@few
@given(nets=records(hard=True))
def test_a_row_is_as_small_as_it_counts(nets: Networks) -> None:
    counts = sizes(nets)
    clean = alive(nets)
    for k in range(nets.replicas):
        small = compact(nets, k)
        record = small.record
        assert record["sizes"] == {name: int(count[k]) for name, count in counts.items() if name != "macs"}
        assert small.parameter_count == int(counts["parameters"][k])
        assert sum(small.widths[1:-1]) == int(counts["neurons"][k])
        assert len(record["kept_inputs"]) == small.widths[0] == int(counts["inputs"][k])
        assert small.widths[-1] == nets.widths[-1]
        weights = {name: p for name, p in small.named_parameters() if name.startswith("weight")}
        assert sum(int((w != 0).sum()) for w in weights.values()) == int(counts["edges"][k])
        assert all((w != 0).any() for w in weights.values())
        hidden = [g[k].sum().item() for g in clean.gates.values()]
        assert small.widths[1:-1] == [int(h) for h in hidden if h]
        for layer, groups in zip(small.widths[1:-1], small.activations, strict=True):
            assert sum(count for _, count in groups) == layer
            assert len({name for name, _ in groups}) == len(groups)  # each function is called once per layer


@few
@given(nets=records(hard=True), task=st.booleans())
def test_the_record_is_plain_data(nets: Networks, task: bool) -> None:
    record = compact(nets, 0).record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["inputs"] == nets.widths[0]
    assert len(record["features"]) == nets.widths[0]
    assert len(record["targets"]) == nets.widths[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    nets = networks_of()[kind]
    nets.check()
    x = normal(torch.arange(7), "x", (3,)).float()
    for k in range(2):
        for samples in (0, 1, 2, 7):
            small = compact(nets, k)
            found = small(x[:samples]).detach()
            assert found.shape == (samples, 2)
            if samples:
                close(found, row(nets, k, x[:samples]))


def test_kinds_are_what_they_say() -> None:
    found = {kind: compact(nets, 0) for kind, nets in networks_of().items()}
    assert len(found["a dead layer that skips pass"].widths) == 3
    assert found["no hidden neurons but a skip"].widths[1:-1] == []
    assert len(found["no hidden neurons but a skip"].edges) == 1
    for kind in ("no hidden neurons and no path", "no inputs", "constants"):
        assert (found[kind].widths, found[kind].edges) == ([0, 2], []), kind
    assert len(found["mixed activations and skips"].activations[0]) > 1
    assert len(found["mixed activations and skips"].edges) > 2


def test_weights_too_small_for_float32_are_gone() -> None:
    """A penalty in float64 leaves weights of 1e-60: the module and its record agree that there is nothing."""
    nets = Networks(
        widths=(1, 2, 1),
        blocks={
            (1, 0): torch.tensor([[[1.0], [1e-60]]], dtype=torch.float64),
            (2, 1): torch.tensor([[[1.0, 1.0]]], dtype=torch.float64),
        },
        biases={1: torch.tensor([[0.5, 0.5]], dtype=torch.float64)},
    )
    small = compact(nets, 0)
    assert small.widths == [1, 1, 1]
    assert small.record["sizes"] == {"edges": 2, "neurons": 1, "layers": 1, "inputs": 1, "parameters": 4}
    assert small.parameter_count == 4
    x = torch.tensor([[1.0], [-2.0]])
    close(small(x).detach(), row(nets, 0, x))


def test_soft_gates_are_rounded_first() -> None:
    nets = example_networks(k=1, widths=(2, 3, 1), parts=("gates",))
    soft = replace(nets, gates={1: torch.tensor([[0.5, 0.49, 1.0]], dtype=torch.float64)})
    assert compact(soft, 0).widths == [2, 2, 1]


def test_a_broken_row_does_not_reach_the_others() -> None:
    nets = networks_of()["dense"]
    spoiled = nets.map(lambda t: torch.cat([t[:1], torch.full_like(t[1:], torch.nan)]))
    x = normal(torch.arange(4), "x", (3,)).float()
    assert torch.equal(compact(spoiled, 0)(x), compact(nets, 0)(x))


def test_it_changes_nothing_it_is_given() -> None:
    nets = networks_of()["dense"]
    before = nets.map(torch.clone)
    compact(nets, 0)
    for edge, w in nets.blocks.items():
        assert torch.equal(w, before.blocks[edge])
    small = compact(nets, 0)
    with torch.no_grad():
        for p in small.parameters():
            p.zero_()
    for edge, w in nets.blocks.items():
        assert torch.equal(w, before.blocks[edge])


def test_it_is_a_module_like_any_other() -> None:
    small = compact(networks_of()["dense"], 0)
    assert not small.training
    assert all(p.requires_grad for p in small.parameters())
    x = normal(torch.arange(4), "x", (3,)).float()
    small(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())


# With a task.


NAMED = {str(loss): loss for loss in LOSSES.values()}


def raw_task(kind: Kind, loss: str | None = None) -> tuple[Task, Tensor]:
    """A task whose features and targets were scaled, and raw features ``(N, I)``."""
    task = example_task(kind)
    ones = {"output_shift": task.output_shift, "output_scale": task.output_scale}
    if kind == "regression":
        ones = {"output_shift": torch.tensor([-40.0]).double(), "output_scale": torch.tensor([12.5]).double()}
    task = replace(
        task,
        input_shift=torch.tensor([10.0, -3.0, 0.5]).double(),
        input_scale=torch.tensor([4.0, 0.25, 1.0]).double(),
        features=("age", "height", "dose"),
        loss=NAMED[loss] if loss else task.loss,
        **ones,
    )
    return task, task.valid.x.T * task.input_scale + task.input_shift


@pytest.mark.parametrize(
    ("kind", "loss", "link"),
    [
        ("regression", "mse", lambda z: z * 12.5 - 40.0),
        ("binary", "logistic", torch.sigmoid),
        ("binary", "mse", lambda z: z),
        ("classes", "cross_entropy", lambda z: z.softmax(1)),
    ],
)
@pytest.mark.parametrize("skips", [True, False])
def test_with_a_task_it_takes_raw_features(kind: Kind, loss: str, link: Callable[[Tensor], Tensor], skips: bool) -> None:
    task, raw = raw_task(kind, loss)
    nets = harden(example_networks(3, 3, (3, 4, task.outputs), ("biases", "gates", "edge_gates", "choices"), skips=skips))
    nets.edge_gates[1, 0][0, :, 1] = 0.0  # type: ignore[index]
    if skips:
        nets.edge_gates[2, 0][0, :, 1] = 0.0  # type: ignore[index]
    for k in range(3):
        small = compact(nets, k, task)
        close(small(raw.float()).detach(), link(row(nets, k, task.valid.x.T)))
        assert small.record["features"] == ["age", "height", "dose"]
        assert small.record["targets"] == list(task.targets)
    assert 1 not in compact(nets, 0, task).record["kept_inputs"]


# Files.


@few
@given(nets=records(hard=True))
def test_saved_and_loaded_it_is_the_same(nets: Networks, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("network") / "new"
    small = compact(nets, 0)
    save(small, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["network.json", "weights.safetensors"]
    again = load(folder)
    x = inputs(nets).T.float()
    assert torch.equal(again(x), small(x))
    assert again.record == small.record
    assert not again.training
    save(again, folder)
    assert torch.equal(load(folder)(x), small(x))


@pytest.mark.parametrize("kind", ["regression", "binary", "classes"])
def test_a_task_is_saved_with_it(kind: Kind, tmp_path: Path) -> None:
    task, raw = raw_task(kind)
    small = compact(example_networks(0, 1, (3, 4, task.outputs), ("biases",)), 0, task)
    save(small, tmp_path)
    assert torch.equal(load(tmp_path)(raw.float()), small(raw.float()))


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "network.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps(change(record)))

    return edit


def exchanged(folder: Path) -> None:
    save(compact(networks_of()["no hidden layers"], 0), folder / "other")
    (folder / "other" / "weights.safetensors").replace(folder / "weights.safetensors")


BROKEN: dict[str, Callable[[Path], Any]] = {
    "no folder": shutil.rmtree,
    "no record": lambda folder: (folder / "network.json").unlink(),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "half a record": lambda folder: (folder / "network.json").write_text('{"format": "nasplug.netw'),
    "a record that is no text": lambda folder: (folder / "network.json").write_bytes(b"\xff\xfe\x00\x80"),
    "a record that is a folder": lambda folder: [(folder / "network.json").unlink(), (folder / "network.json").mkdir()],
    "half of the weights": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-8]
    ),
    "weights that are none": lambda folder: (folder / "weights.safetensors").write_bytes(b"PK\x03\x04 not safetensors"),
    "empty weights": lambda folder: (folder / "weights.safetensors").write_bytes(b""),
    "another network's weights": exchanged,
    "another format": edited(lambda record: record | {"format": "nasplug.network/2"}),
    "no format": edited(lambda record: {name: value for name, value in record.items() if name != "format"}),
    "a list": edited(lambda record: [record]),
    "null": edited(lambda record: None),
    "no widths": edited(lambda record: {name: value for name, value in record.items() if name != "widths"}),
    "no link": edited(lambda record: {name: value for name, value in record.items() if name != "link"}),
    "an unknown link": edited(lambda record: record | {"link": "probit"}),
    "widths of another network": edited(lambda record: record | {"widths": [1, *record["widths"][1:]]}),
    "widths that are no numbers": edited(lambda record: record | {"widths": ["3", None, {}]}),
    "an unknown activation": edited(lambda record: record | {"activations": [[["exec", n]] for n in record["widths"][1:-1]]}),
    "activations that do not fill a layer": edited(lambda record: record | {"activations": [[["relu", 1]], [["relu", 1]]]}),
    "too few activations": edited(lambda record: record | {"activations": record["activations"][:1]}),
    "blocks that are none": edited(lambda record: record | {"blocks": [[1]]}),
    "a block from nowhere": edited(lambda record: record | {"blocks": [*record["blocks"], [9, 0]]}),
}


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_folder_that_holds_no_network_is_refused(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    save(compact(networks_of()["dense"], 0), folder)
    BROKEN[how](folder)
    with pytest.raises(ConfigError):
        load(folder)


def test_another_format_is_named() -> None:
    with pytest.raises(ConfigError, match=r"format 'nasplug.network/9'; this version reads 'nasplug.network/1'"):
        CompactNetwork({"format": "nasplug.network/9"})


# Elsewhere.


def rounds() -> list[tuple[str, CompactNetwork, Tensor]]:
    """Each kind of network, bare, and one of each task: name, module and 7 rows to feed."""
    x = normal(torch.arange(7), "x", (3,)).float()
    found = [(kind, compact(nets, 0), x) for kind, nets in networks_of().items()]
    for kind in ("regression", "binary", "classes"):
        task, raw = raw_task(kind)  # type: ignore[arg-type]
        nets = example_networks(1, 1, (3, 4, task.outputs), ("biases", "gates", "choices"))
        found.append((kind, compact(nets, 0, task), raw[:7].float()))
    return found


WITHOUT_NASPLUG = """
import sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nasplug":
            raise ImportError("nasplug is not installed here")

sys.meta_path.insert(0, Blocked())
import torch

for path in sorted(Path(sys.argv[1]).glob("*.pt2")):
    module = torch.export.load(path).module()
    x, wanted = torch.load(path.with_suffix(".pt"), weights_only=True)
    for samples in (1, 2, 7):
        found = module(x[:samples])
        assert found.shape == (samples, wanted.shape[1]), path.name
        assert torch.allclose(found, wanted[:samples], rtol=1e-6, atol=1e-6), path.name
    print(path.stem)
assert "nasplug" not in sys.modules
"""


@pytest.mark.slow
def test_exported_it_runs_without_nasplug(tmp_path: Path) -> None:
    """`torch.export`: 1, 2 and 7 rows here, and from the file in a process in which nasplug cannot be imported."""
    names = []
    for number, (name, small, x) in enumerate(rounds()):
        program = export(small, x)
        wanted = small(x).detach()
        for samples in (1, 2, 7):
            close(program.module()(x[:samples]).detach(), wanted[:samples])
        names.append(f"{number:02d} {name}")
        torch.export.save(program, tmp_path / f"{names[-1]}.pt2")
        torch.save((x, wanted), tmp_path / f"{names[-1]}.pt")
    other = subprocess.run([sys.executable, "-c", WITHOUT_NASPLUG, str(tmp_path)], capture_output=True, text=True, check=False)
    assert other.returncode == 0, other.stderr
    assert other.stdout.splitlines() == names


@pytest.mark.slow
def test_onnx_runtime_agrees() -> None:
    import onnxruntime

    for name, small, x in rounds():
        made = torch.onnx.export(export(small, x), (), verbose=False)
        assert made is not None
        session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
        feed = [node.name for node in session.get_inputs()]
        for samples in (1, 2, 7):
            (found,) = session.run(None, dict.fromkeys(feed, x[:samples].numpy()))
            assert found.shape == (samples, small.widths[-1]), name
            close(torch.from_numpy(found), small(x[:samples]).detach())


def test_random_numbers_stay_out_of_it() -> None:
    """The same row gives the same files, whatever ran before."""
    nets = networks_of()["dense"]
    before = {name: t.clone() for name, t in compact(nets, 0).state_dict().items()}
    uniform(torch.arange(2), "elsewhere", (3,))
    torch.manual_seed(7)
    for name, tensor in compact(nets, 0).state_dict().items():
        assert torch.equal(tensor, before[name])
