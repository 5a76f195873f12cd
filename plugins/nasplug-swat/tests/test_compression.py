"""A deep network becomes a shallower one: what is written, that it is the joined function, that it goes on, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nasplug.checking import check
from nasplug.cli import main
from nasplug.compact import CompactNetwork, compact
from nasplug.compact import load as load_network
from nasplug.compact import save as save_network
from nasplug.config import from_yaml, to_yaml
from nasplug.errors import ConfigError
from nasplug.networks import Networks
from nasplug.plugins import load_plugins
from nasplug_swat.autoencoder import SIZES, fresh, read, save
from nasplug_swat.compression import Compression, compress, planned
from nasplug_swat.representation import Space
from nasplug_swat.sampling import Sampling, draw

torch.set_num_threads(1)
CONFIG = Path(__file__).parents[3] / "configs" / "papers" / "swat_compress.yaml"
DENSE = Sampling(weights=1.5, biases=0.5, sparsity=(0.0,), keep=1.0)


def deep(depth: int = 5, width: int = 4) -> Networks:
    return draw(Space(width=width, deepest=depth), depth, torch.tensor([1]), DENSE)


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """A compression of a network of 5 hidden layers, cut at the third."""
    booth = load_plugins().build("task", "cornn", {"function": "Booth", "train": 60, "test": 20})
    save_network(compact(deep(), 0, booth), tmp_path / "deep")
    space = Space(width=4, deepest=3, inputs=4, outputs=4, vary=True)
    save(fresh(space, SIZES["tiny"], Sampling()), tmp_path / "ends.safetensors")
    return {
        "name": "smaller",
        "store": str(tmp_path / "runs"),
        "network": str(tmp_path / "deep"),
        "cuts": [3],
        "depth": 1,
        "points": {"train": 200, "test": 50},
        "search": {
            "method": {"autoencoder": str(tmp_path / "ends.safetensors"), "sharpness": None},
            "temperature": {"use": "linear", "start": 1.0, "end": 0.01},
            "train": {"steps": 40, "lr": 0.03, "finetune": 40},
            "seeds": 2,
        },
        "polish": {"steps": 30, "lr": 0.003},
    }


def outputs(network: CompactNetwork, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(x)


@pytest.mark.parametrize("begin", ["encoding", "open"])
def test_a_deep_network_becomes_a_shallower_one(raw: dict[str, Any], begin: str) -> None:
    job = check(Compression, raw | {"begin": begin})
    told: list[str] = []
    done = compress(job, runner="serial", say=told.append)
    record = json.loads((job.folder / "compression.json").read_text())
    assert record == json.loads(json.dumps(done.record))
    assert record["before"]["hidden_layers"] == 5
    assert record["after"]["hidden_layers"] <= 3  # less, where a piece is left without neurons
    assert record["after"]["parameters"] < record["before"]["parameters"]
    assert record["polished"]["r2"] >= record["joined"]["r2"] - 0.05  # polish keeps what validation says is better
    assert set(record["joined"]["r2_between"]) == {"3"}
    assert len(record["pieces_r2"]) == len(record["replicas"]) == 2
    assert len(told) == 4
    assert sorted(p.name for p in job.folder.iterdir()) == [
        "compression.json",
        "compression.png",
        "network",
        "piece-1",
        "piece-2",
    ]
    again, source = load_network(job.folder / "network"), load_network(Path(job.network))
    # raw features in, units of the target out, as the network it was made from
    assert again.record["targets"] == source.record["targets"]
    assert again.record["features"] == source.record["features"]
    x = torch.rand(400, 2) * 20.0 - 10.0  # Booth's domain
    found, wanted = outputs(again, x), outputs(source, x)
    torch.testing.assert_close(found, outputs(done.network, x))
    r2 = 1.0 - (found - wanted).square().mean() / wanted.var(correction=0)
    assert abs(float(r2) - record["polished"]["r2"]) < 0.15


def test_the_result_is_registered_with_its_lineage(raw: dict[str, Any], tmp_path: Path) -> None:
    import mlflow.pytorch
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    job = check(Compression, raw | {"register": "smaller-nets", "uri": uri, "begin": "open"})
    done = compress(job, runner="serial")
    assert done.record["registered"] == "models:/smaller-nets/1"
    client = MlflowClient(uri, uri)
    version = client.get_model_version("smaller-nets", "1")
    assert version.tags["nasplug.made_from"] == done.record["network_digest"]
    assert version.tags["nasplug.method.autoencoder"] == read(tmp_path / "ends.safetensors").digest
    run = client.get_run(version.run_id)
    assert run.data.metrics["r2"] == pytest.approx(done.record["polished"]["r2"])
    assert {file.path for file in client.list_artifacts(version.run_id)} == {"compression.json", "compression.png"}
    mlflow.set_tracking_uri(uri)
    try:
        served = mlflow.pytorch.load_model("models:/smaller-nets/1")
    finally:
        mlflow.set_tracking_uri(None)
    x = torch.rand(5, 2) * 20.0 - 10.0
    torch.testing.assert_close(outputs(served, x), outputs(done.network, x))
    assert compress(job, runner="serial").record["registered"] == "models:/smaller-nets/1"  # the same network once


def test_it_goes_on_where_it_stopped(raw: dict[str, Any]) -> None:
    job = check(Compression, raw)
    first = compress(job, runner="serial")
    table = job.folder / "piece-1" / "packs" / "p0000" / "replicas.parquet"
    before = table.stat().st_mtime_ns
    (job.folder / "compression.json").unlink()
    second = compress(job, runner="serial")
    assert table.stat().st_mtime_ns == before
    assert {k: v for k, v in first.record.items() if k != "seconds"} == {
        k: v for k, v in second.record.items() if k != "seconds"
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"network": "nowhere"}, "does not hold a network"),
        ({"cuts": [6]}, "hidden layers of the network, 1 to 5"),
        ({"cuts": [3, 2]}, "in order"),
        ({"cuts": [1]}, "a hidden layer at least in each piece"),
        ({"cuts": [2, 3]}, "a hidden layer at least in each piece"),
        ({"depth": [1, 1, 1]}, "one number, or one a piece"),
        ({"depth": 9}, "1 to 3 hidden layers"),
        ({"search": {"task": {"use": "xor"}}}, "search: task is set by the compression"),
        ({"search": {"method": {"depth": 2}}}, "search.method: depth"),
        ({"search": {"method": "swat"}}, "search.method: swat"),
        ({"search": {}}, "4 outputs; needed: 2 inputs"),
        ({"search": {"steps": 3}}, "steps"),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(raw: dict[str, Any], change: dict[str, Any], told: str) -> None:
    job = check(Compression, raw | change)
    with pytest.raises(ConfigError, match=told):
        planned(job)
    assert not job.folder.exists()


def test_a_network_with_other_activations_is_told(raw: dict[str, Any], tmp_path: Path) -> None:
    sines = draw(Space(width=4, deepest=5, candidates=("sin",)), 5, torch.tensor([1]), DENSE)
    save_network(compact(sines, 0), tmp_path / "sines")
    with pytest.raises(ConfigError, match="activations sin"):
        planned(check(Compression, raw | {"network": str(tmp_path / "sines")}))


def test_the_command_says_what_came_out(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(to_yaml(raw))
    command = ["swat", "compress", str(tmp_path / "job.yaml"), "--runner", "serial"]
    done = CliRunner().invoke(main, [*command, "search.train.steps=10", "polish.steps=0"])
    assert done.exit_code == 0, done.output
    assert "5 hidden layers, " in done.output
    assert "R2 when polished: outputs" in done.output
    assert str(Path(raw["store"]) / "smaller" / "network") in done.output
    refused = CliRunner().invoke(main, [*command, "cuts=[9]"])
    assert refused.exit_code == 2
    assert "1 to 5, in order" in refused.output


def test_the_papers_compression_plans(tmp_path: Path) -> None:
    save_network(compact(deep(9, 7), 0), tmp_path / "deep")
    given = from_yaml(CONFIG.read_text(), str(CONFIG)) | {"store": str(tmp_path / "runs"), "network": str(tmp_path / "deep")}
    first, second = planned(check(Compression, given))
    assert (first.task.inputs, first.task.outputs, second.task.inputs, second.task.outputs) == (2, 7, 7, 1)
