"""Training an autoencoder: it learns, it resumes exactly, it writes whole files, it is told when it cannot."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nasplug.cli import main
from nasplug.errors import ConfigError
from nasplug.files import LOCK, locked
from nasplug_swat.autoencoder import (
    PAPER,
    SIZES,
    Sampling,
    Size,
    Space,
    Training,
    decode,
    draw,
    encode,
    fresh,
    losses,
    networks_of,
    read,
    scores,
    train,
)
from nasplug_swat.commands import TrainingJob
from nasplug_swat.job import read_job

torch.set_num_threads(1)
SMALL: dict[str, Any] = {
    "space": Space(width=4, deepest=2, inputs=1, candidates=("tanh", "leaky_relu")),
    "size": "tiny",
    "steps": 12,
    "batch": 8,
    "probes": 8,
    "every": 4,
    "warmup": 2,
    "validate_on": 16,
    "test_on": 16,
}


def test_it_learns(tmp_path: Path) -> None:
    size = {"width": 32, "layers": 1, "heads": 2, "latent": 8}  # too small to pass everything on
    training = Training(**SMALL | {"size": size, "steps": 60, "batch": 16, "every": 30, "lr": 3e-3})
    before = scores(fresh(training.space, training.dimensions, training.sampling), 64)
    assert [r.step for r in train(training, tmp_path)] == [30, 60]
    done = read(tmp_path / "autoencoder.safetensors")
    after = scores(done, 64)
    assert after[1, 2].median() < 0.8 * before[1, 2].median()
    assert after[2, 2].median() < 0.8 * before[2, 2].median()
    assert set(done.about["soft"]) == {f"{a}->{b}" for a in (1, 2) for b in (1, 2)}
    assert {p.name for p in tmp_path.iterdir()} == {LOCK, "autoencoder.safetensors", "curve.csv", "curve.png"}
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [float(row["step"]) for row in rows] == [30, 60]
    assert list(train(training, tmp_path)) == []  # done is done


def test_it_learns_one_latent_for_a_whole_network(tmp_path: Path) -> None:
    size = {"width": 32, "layers": 1, "heads": 2, "latent": 64, "tokens": "network"}
    training = Training(**SMALL | {"size": size, "steps": 80, "batch": 16, "every": 40, "lr": 3e-3, "matrix": 2.0})
    before = scores(fresh(training.space, training.dimensions, training.sampling), 128)
    list(train(training, tmp_path))
    done = read(tmp_path / "autoencoder.safetensors")
    assert done.latent_shape == (1, 64)
    after = scores(done, 128)
    assert after[1, 1].log().mean() < before[1, 1].log().mean() - 0.5
    assert after[2, 2].log().mean() < before[2, 2].log().mean() - 0.5
    told = CliRunner().invoke(main, ["swat", "show", str(tmp_path / "autoencoder.safetensors")]).output
    assert "latent 1 x 64;" in told


def test_a_latent_too_large_to_build_is_told() -> None:
    size = {"width": 1024, "latent": 4096, "tokens": "network"}
    with pytest.raises(ValueError, match="needs maps of 125,829,120 weights; needed: 100,000,000 at most"):
        Training(space=Space(width=30), size=Size.model_validate(size), batch=1)
    assert (
        Training(space=Space(width=30), size=Size.model_validate(size | {"tokens": "neurons"}), batch=1).dimensions.numbers
        == 4096
    )


def test_it_learns_networks_whose_ends_vary(tmp_path: Path) -> None:
    space = Space(width=4, deepest=2, inputs=3, outputs=2, candidates=("tanh", "leaky_relu"), vary=True)
    size = {"width": 32, "layers": 1, "heads": 2, "latent": 8}
    training = Training(**SMALL | {"space": space, "size": size, "steps": 150, "batch": 16, "every": 75, "lr": 3e-3})
    before = scores(fresh(training.space, training.dimensions, training.sampling), 128)
    list(train(training, tmp_path))
    done = read(tmp_path / "autoencoder.safetensors")
    assert done.space == space
    after = scores(done, 128)
    assert after[1, 1].log().mean() < before[1, 1].log().mean() - 0.3
    assert after[1, 2].log().mean() < before[1, 2].log().mean() - 0.3
    for ends in ((1, 1), (2, 1), (3, 2)):
        nets = draw(space.at(*ends), 1, torch.arange(4))
        made = networks_of(decode(done, encode(done, nets), 2, space.at(*ends)))
        assert made.widths == (ends[0], 4, 4, ends[1])


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path) -> None:
    training = Training(**SMALL | {"checkpoint_seconds": 1e-9})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(train(training, whole))
    for number, _ in enumerate(train(training, broken)):
        if number == 1:
            break  # after the second report: a checkpoint of step 4 is there
    assert (broken / "checkpoint.safetensors").exists()
    later = [report.step for report in train(training, broken)]
    assert later[-1] == 12
    assert len(later) < 3
    one, other = (read(folder / "autoencoder.safetensors") for folder in (whole, broken))
    assert one.digest == other.digest
    lines = [[r["step"], r["loss"], r["median_2"]] for r in csv.DictReader((whole / "curve.csv").open())]
    assert lines == [[r["step"], r["loss"], r["median_2"]] for r in csv.DictReader((broken / "curve.csv").open())]


def test_a_training_goes_on_from_anothers_result(tmp_path: Path) -> None:
    list(train(Training(**SMALL), tmp_path / "one"))
    file = tmp_path / "one" / "autoencoder.safetensors"
    again = Training(**SMALL | {"start": str(file), "steps": 4, "lr": 1e-12})
    list(train(again, tmp_path / "two"))
    first, second = read(file), read(tmp_path / "two" / "autoencoder.safetensors")
    assert all(torch.allclose(w, second.weights[name], atol=1e-8) for name, w in first.weights.items())
    with pytest.raises(ConfigError, match="needed: those of this"):
        list(train(Training(**SMALL | {"start": str(file), "size": "small"}), tmp_path / "three"))


def test_a_folder_of_another_training_is_told(tmp_path: Path) -> None:
    training = Training(**SMALL | {"checkpoint_seconds": 1e-9})
    for number, _ in enumerate(train(training, tmp_path)):
        if number == 1:
            break
    with pytest.raises(ConfigError, match="other settings"):
        list(train(training.model_copy(update={"lr": 1.0}), tmp_path))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match="remove it to start anew"):
        list(train(training, tmp_path))


def test_a_checkpoint_that_lost_a_bit_is_not_gone_on_with(tmp_path: Path) -> None:
    training = Training(**SMALL | {"checkpoint_seconds": 1e-9})
    for number, _ in enumerate(train(training, tmp_path)):
        if number == 1:
            break
    file = tmp_path / "checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"content was changed .*; remove it to start anew"):
        list(train(training, tmp_path))


def test_a_training_that_runs_is_not_run_twice(tmp_path: Path) -> None:
    with locked(tmp_path, "this training"), pytest.raises(ConfigError, match="this training is running already"):
        list(train(Training(**SMALL), tmp_path))


def test_a_step_is_a_function_of_seed_and_step() -> None:
    training = Training(**SMALL)
    model = fresh(training.space, training.dimensions, training.sampling)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = losses(model, training, 3)
        torch.manual_seed(2)
        assert torch.equal(losses(model, training, 3), first)
    assert not torch.equal(losses(model, training, 4), first)


def test_a_space_without_identity_layers_is_trained_too(tmp_path: Path) -> None:
    training = Training(**SMALL | {"space": Space(width=3, deepest=2, inputs=2, outputs=2, candidates=("tanh",))})
    assert [r.step for r in train(training, tmp_path)] == [4, 8, 12]


# the command

YAML = """
name: small
space: {width: 4, deepest: 2, inputs: 1, candidates: [tanh, leaky_relu]}
size: tiny
steps: 8
batch: 8
probes: 8
every: 4
warmup: 2
validate_on: 16
test_on: 16
"""


def ask(*command: str, status: int = 0) -> Any:
    done = CliRunner().invoke(main, ["swat", *command])
    if done.exit_code != status:
        raise AssertionError(done.output) from done.exception
    return done


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(YAML)
    return "job.yaml"


def test_the_command_trains_and_tells(job: str) -> None:
    done = ask("train-autoencoder", job, "lr=1e-3")
    assert "step 8/8" in done.stderr
    assert "runs/small/autoencoder.safetensors: use it as method:" in done.stdout
    told = json.loads(ask("show", "runs/small/autoencoder.safetensors", "--json").stdout)
    assert told["digest"] == read(Path("runs/small/autoencoder.safetensors")).digest
    assert told["training"]["lr"] == 1e-3
    assert "latent 4 x 32" in ask("show", "runs/small/autoencoder.safetensors").stdout
    assert "latent 7 x 64" in ask("show").stdout


@pytest.mark.slow
def test_an_autoencoder_is_a_registered_model(job: str) -> None:
    import mlflow

    done = ask("train-autoencoder", job, "register=spaces")
    assert "registered as models:/spaces/1" in done.stdout
    assert "registered as models:/spaces/1" in ask("train-autoencoder", job, "register=spaces").stdout  # the same one
    mlflow.set_tracking_uri(f"sqlite:///{Path('runs/mlflow.db').resolve()}")
    folder = Path(mlflow.artifacts.download_artifacts("models:/spaces/1"))
    again = read(folder / "autoencoder.safetensors")
    version = mlflow.MlflowClient().get_model_version("spaces", "1")
    assert version.tags["nasplug.digest"] == again.digest
    assert json.loads(version.tags["nasplug.swat.sampling"])["weights"] == 5.0
    assert sorted(path.name for path in folder.iterdir()) == ["autoencoder.safetensors", "curve.csv", "curve.png"]
    # Where other studies' artifacts go, and nothing in the working directory.
    assert sorted(path.name for path in Path().iterdir()) == ["job.yaml", "runs"]
    assert version.source.startswith((Path("runs").resolve() / "mlartifacts").as_uri())
    run = mlflow.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert 0.0 < run.data.metrics["soft_1_in_2_median"] < 10.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nsteps: 0", "steps: 0; needed: a whole number >= 1"),
        ("name: x\nstep: 3", "step"),
        ("name: x\nsize: huge", "size"),
        ("name: x\nspace: {candidates: [tank]}", "tank"),
        ("name: x\nspace: {width: 1000000000}", "numbers at most"),
        ("name: x\nspace: {deepest: 1000000000}", "numbers at most"),
        ("name: x\nsize: {width: 1000000000}", "size.width"),
        ("name: x\nsteps: 1000000000000", "steps"),
        ("name: x\nbatch: 1000000", "batch 1000000 of networks"),
        ("name: x\nprobes: 1000000", "fewer probes"),
        ("name: x\ntest_on: 1000000000", "test_on"),
        ("- 1", "needed: a job, a mapping of keys"),
        ("name: [", "not valid YAML"),
    ],
)
def test_what_is_no_training_is_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    done = ask("train-autoencoder", str(tmp_path / "job.yaml"), status=2)
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr
    with pytest.raises(ConfigError):
        read_job(tmp_path / "job.yaml", TrainingJob)


def test_a_registry_that_does_not_answer_is_told_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"name: x\nstore: {tmp_path}\nregister: nets\nuri: sqlite:////proc/nowhere/mlflow.db\n")
    done = ask("train-autoencoder", str(tmp_path / "job.yaml"), status=1)
    assert "MLflow at sqlite:////proc/nowhere/mlflow.db failed" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_prior_that_comes_along_is_a_training() -> None:
    job = read_job(Path(__file__).parents[1] / "configs" / "prior-7x64.yaml", TrainingJob)
    assert job.networks is not None
    assert len(job.networks.exclude["task.function"]) == 27


def test_smoothness_is_drawn(tmp_path: Path) -> None:
    done = ask("smoothness", str(tmp_path / "deep" / "plane.png"), "--neighbours", "20")
    told = json.loads(done.stdout.splitlines()[0])
    assert told["change_at_0.1"] < told["change_at_3"]
    assert (tmp_path / "deep" / "plane.png").read_bytes().startswith(b"\x89PNG")
    assert "1 to 4" in ask("smoothness", str(tmp_path / "x.png"), "--depth", "9", status=2).stderr


@pytest.mark.slow
def test_the_papers_dimensions_are_built_and_stepped_once() -> None:
    """With 2 of its 12 layers, which are all alike: in full it takes two minutes and 5 GB to say the same."""
    sizes = [SIZES["gpt2"].model_copy(update={"layers": layers}) for layers in (1, 2)]
    training = Training(size=sizes[1], batch=1, probes=4, across=0.0)
    one, model = (fresh(PAPER, size, Sampling()) for size in sizes)
    numbers = [sum(w.numel() for w in each.weights.values()) for each in (one, model)]
    assert numbers[1] + 10 * (numbers[1] - numbers[0]) > 400e6  # five transformers of 85 million
    for w in model.weights.values():
        w.requires_grad_()
    loss = losses(model, training, 0)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(w.grad is not None and bool(torch.isfinite(w.grad).all()) for w in model.weights.values())
