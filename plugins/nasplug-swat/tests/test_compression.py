"""A deep network becomes a shallower one: what is written, that it is the joined function, that it goes on, what is refused."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nasplug import Study
from nasplug.cli import main
from nasplug.compact import CompactNetwork, compact
from nasplug.compact import load as load_network
from nasplug.compact import save as save_network
from nasplug.config import from_yaml, to_yaml
from nasplug.config.checking import check
from nasplug.errors import ConfigError, NasplugError
from nasplug.files import LOCK
from nasplug.networks import Networks
from nasplug.plugins import load_plugins
from nasplug.tracking import served
from nasplug_swat.autoencoder import SIZES, Sampling, Space, draw, fresh, load, read, save
from nasplug_swat.compression import Compression, compress, planned

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
    assert {p.name for p in job.folder.iterdir()} == {
        LOCK,
        "begun.json",
        "compression.json",
        "compression.png",
        "network",
        "piece-1",
        "piece-2",
    }
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
    x = torch.rand(5, 2, dtype=torch.float64) * 20.0 - 10.0
    found = served(uri, "models:/smaller-nets/1")
    assert isinstance(found, CompactNetwork)
    torch.testing.assert_close(outputs(found, x), outputs(done.network, x))
    assert compress(job, runner="serial").record["registered"] == "models:/smaller-nets/1"  # the same network once


def test_it_goes_on_where_it_stopped(raw: dict[str, Any]) -> None:
    job = check(Compression, raw)
    first = compress(job, runner="serial")
    table = job.folder / "piece-1" / "packs" / "p0000" / "replicas.parquet"
    before = table.stat().st_mtime_ns
    (job.folder / "compression.json").unlink()
    second = compress(job, runner="serial")
    assert table.stat().st_mtime_ns == before
    assert first.record == second.record
    (job.folder / "piece-2" / "packs" / "p0000" / "replicas.parquet").unlink()  # stopped in the second piece
    (job.folder / "piece-2" / "replicas.parquet").unlink()
    third = compress(job, runner="serial")
    assert third.record == first.record
    with pytest.raises(ConfigError, match=r"begun with something else \(different: search\).*name: ..."):
        compress(check(Compression, raw | {"search": raw["search"] | {"seeds": 1}}), runner="serial")
    save_network(compact(deep(5), 0), Path(job.network))  # another network in the same folder
    with pytest.raises(ConfigError, match="the network in that folder"):
        compress(job, runner="serial")


def test_a_search_begins_with_the_piece_itself(raw: dict[str, Any]) -> None:
    """With as many hidden layers, no decoder and no training, the pieces are the network."""
    search = raw["search"] | {"method": raw["search"]["method"] | {"mode": "direct", "spread": 0.0}, "seeds": 1}
    search["train"] = {"steps": 1, "lr": 1e-9, "finetune": 0}
    job = check(Compression, raw | {"depth": 2, "points": {"train": 100, "test": 50, "reach": 1.5}, "search": search})
    record = compress(job, runner="serial").record
    assert min(record["pieces_r2"]) > 0.999
    assert record["polished"]["r2"] > 0.999


def test_several_cuts_and_a_network_with_a_link(raw: dict[str, Any], tmp_path: Path) -> None:
    iris = load_plugins().build("task", "iris", {})
    space = Space(width=4, deepest=6, inputs=4, outputs=3)
    source = compact(draw(space, 6, torch.tensor([2]), DENSE), 0, iris)
    save_network(source, tmp_path / "iris")
    search = raw["search"] | {"method": raw["search"]["method"] | {"mode": "direct", "spread": 0.0}, "seeds": 1}
    search["train"] = {"steps": 1, "lr": 1e-9, "finetune": 0}
    given = {"network": str(tmp_path / "iris"), "cuts": [2, 4], "depth": [1, 1, 2], "search": search}
    done = compress(check(Compression, raw | given), runner="serial")
    assert set(done.record["polished"]["r2_between"]) == {"2", "4"}
    x = iris.train.x.T * iris.input_scale + iris.input_shift
    found, wanted = outputs(done.network, x), outputs(source, x)
    torch.testing.assert_close(found.sum(1), torch.ones(len(x), dtype=found.dtype))
    assert float((found - wanted).abs().max()) < 0.05


def test_a_skip_block_beside_a_cut_is_no_hindrance(raw: dict[str, Any], tmp_path: Path) -> None:
    nets = deep()
    skipping = Networks(nets.widths, dict(nets.blocks) | {(5, 3): torch.ones(1, 4, 4)}, nets.biases, candidates=("tanh",))
    save_network(compact(skipping, 0), tmp_path / "skip")
    job = check(Compression, raw | {"network": str(tmp_path / "skip"), "begin": "open"})
    assert compress(job, runner="serial").record["before"]["hidden_layers"] == 5
    passing = Networks(nets.widths, dict(nets.blocks) | {(4, 2): torch.ones(1, 4, 4)}, nets.biases, candidates=("tanh",))
    save_network(compact(passing, 0), tmp_path / "passing")
    with pytest.raises(ConfigError, match="which pass one of them by"):
        planned(check(Compression, raw | {"network": str(tmp_path / "passing"), "begin": "open"}))


def test_autoencoders_may_vary_and_the_one_of_each_piece_is_told(raw: dict[str, Any], tmp_path: Path) -> None:
    files = {"choice": ["ends-7x64", str(tmp_path / "ends.safetensors")]}
    search = raw["search"] | {"method": {"autoencoder": files, "sharpness": None}, "seeds": 1}
    record = compress(check(Compression, raw | {"search": search, "begin": "open"}), runner="serial").record
    known = {read(tmp_path / "ends.safetensors").digest, load("ends-7x64").digest}
    assert set(record["autoencoders"]) <= known


def test_a_registry_that_does_not_answer_is_told_before_anything_runs(raw: dict[str, Any]) -> None:
    job = check(Compression, raw | {"register": "x", "uri": "sqlite:////proc/nowhere/mlflow.db"})
    with pytest.raises(NasplugError, match=r"MLflow at sqlite:.* failed"):
        compress(job, runner="serial")
    assert not job.folder.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"network": "nowhere"}, "does not hold a network"),
        ({"cuts": [6]}, "hidden layers of the network, 1 to 5"),
        ({"cuts": [3, 2]}, "in order"),
        ({"cuts": [1]}, "a hidden layer at least in each piece"),
        ({"cuts": [2, 3]}, "a hidden layer at least in each piece"),
        ({"depth": [1, 1, 1]}, "one number, or one per piece"),
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


def test_the_command_says_what_came_out(raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("nasplug_swat.commands"), "LINE_SECONDS", 0.0)
    (tmp_path / "job.yaml").write_text(to_yaml(raw))
    command = ["swat", "compress", str(tmp_path / "job.yaml"), "--runner", "serial"]
    done = CliRunner().invoke(main, [*command, "search.train.steps=10", "polish.steps=0"])
    assert done.exit_code == 0, done.output
    assert "5 hidden layers, " in done.output
    assert "pack p0000: 100 % of 2 networks" in done.output
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


@pytest.mark.slow
def test_the_papers_nine_layers_become_five(tmp_path: Path) -> None:
    """Figure 11: both agree with the original to R2 0.99 or more."""
    study = Study.from_yaml(CONFIG.parent / "swat_deep.yaml", [f"store={tmp_path}", "mlflow=null"]).run("serial")
    assert study.best()["test_r2"] > 0.99
    given = from_yaml(CONFIG.read_text(), str(CONFIG)) | {"store": str(tmp_path), "network": str(study.folder / "best")}
    record = compress(check(Compression, given), runner="serial").record
    assert (record["before"]["hidden_layers"], record["after"]["hidden_layers"]) == (9, 5)
    assert record["polished"]["r2"] >= 0.99
    assert record["polished"]["r2_between"]["5"] >= 0.99
    assert record["after"]["parameters"] < 0.6 * record["before"]["parameters"]
