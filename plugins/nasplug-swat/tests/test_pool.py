"""Learning from trained networks: what is read and held back, how it is drawn, exact trainings, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from nasplug import Study
from nasplug.cli import main
from nasplug.config.checking import check
from nasplug.errors import ConfigError
from nasplug.files import read_table, read_tensors, write_table, write_tensors
from nasplug.networks import Networks, forward, take
from nasplug_swat.autoencoder import (
    PAPER,
    Pool,
    Space,
    Trained,
    Training,
    draw,
    fresh,
    gather,
    latents,
    load,
    losses,
    pack,
    pad,
    read,
    scores,
    train,
)

torch.set_num_threads(1)
FUNCTIONS = ["Booth", "Matyas", "Sphere"]
STUDY: dict[str, Any] = {
    "study": "some",
    "task": {"use": "cornn", "function": {"choice": FUNCTIONS}, "train": 40, "test": 10},
    "method": {"use": "swat", "mode": "direct", "depth": {"choice": [1, 2]}},
    "train": {"steps": 4, "batch": "full", "lr": 0.01},
    "seeds": 4,
    "mlflow": None,
}
TINY: dict[str, Any] = {
    "size": "tiny",
    "steps": 6,
    "batch": 4,
    "probes": 8,
    "every": 2,
    "warmup": 1,
    "validate_on": 8,
    "test_on": 8,
}


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three functions, two depths and four seeds: 24 networks of the paper's space."""
    store = tmp_path_factory.mktemp("studies")
    return Study.from_dict(STUDY | {"store": str(store)}).run("serial").folder


def learn(folder: Path, **options: Any) -> Training:
    return Training.model_validate(TINY | {"networks": {"folders": (str(folder),), **options}})


def rows_of(folder: Path) -> list[tuple[str, Networks]]:
    """Function and network of each row of a study, read by other means than the pool's."""
    found = []
    study = Study.open(folder)
    frame = study.frame
    for where in sorted((folder / "packs").iterdir()):
        nets = pad(study.networks(where.name), PAPER)
        for name, function in zip(frame["replica"], frame["task.function"], strict=True):
            if name.startswith(f"{where.name}/"):
                found.append((function, take(nets, torch.tensor([int(name.split("/")[1])]))))
    return found


# what is read, and what is held back


def test_networks_are_grouped_by_depth_and_those_of_excluded_rows_are_held_back(some: Path) -> None:
    learned, held = gather(Trained(folders=(str(some),), exclude={"task.function": ("Booth",)}), PAPER)
    assert learned.counts == {"1": 8, "2": 8}
    assert held.counts == {"1": 4, "2": 4}
    assert learned.ends(2) == [(2, 1)]
    assert learned.ends(3) == []
    every = rows_of(some)
    for pool, functions in ((learned, {"Matyas", "Sphere"}), (held, {"Booth"})):
        for depth in (1, 2):
            nets = pool.networks[depth, 2, 1]
            wanted = {net.biases[1].sum().item() for function, net in every if function in functions and net.depth == depth + 1}
            assert {row.sum().item() for row in nets.biases[1]} == wanted


def test_only_reads_a_part_and_without_exclude_every_tenth_is_held_back(some: Path) -> None:
    trained = Trained(folders=(str(some),), only={"method.depth": (2,), "task.function": ("Booth", "Matyas", "Sphere")})
    learned, held = gather(trained, PAPER)
    assert learned.counts == {"2": 11}
    assert held.counts == {"2": 1}
    learned, held = gather(Trained(folders=(str(some),), only={"seed": (0,)}), PAPER)
    assert learned.counts == {"1": 3, "2": 3}
    assert held.counts == {}


def test_networks_that_did_not_end_well_are_left_out(some: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    folder = tmp_path / "some"
    shutil.copytree(some, folder)
    frame = read_table(folder / "replicas.parquet").to_pandas()
    broken = frame["replica"][frame["method.depth"] == 1].iloc[3]
    frame.loc[frame["replica"] == frame["replica"].iloc[0], "status"] = "diverged"
    write_table(folder / "replicas.parquet", pa.Table.from_pandas(frame))
    where, row = broken.split("/")
    file = folder / "packs" / where / "networks.safetensors"
    tensors, metadata = read_tensors(file)
    tensors["biases/1"][int(row), 0] = float("nan")
    write_tensors(file, tensors, metadata)
    learned, _ = gather(Trained(folders=(str(folder),), exclude={"task.function": ("Sphere",)}), PAPER)
    assert sum(learned.counts.values()) == 16 - 2
    assert all(bool(torch.isfinite(b).all()) for nets in learned.networks.values() for b in nets.biases.values())


def test_the_digest_tells_what_is_learned_from(some: Path) -> None:
    def digest(**options: Any) -> str:
        return gather(Trained(folders=(str(some),), **options), PAPER)[0].digest

    assert digest() == digest(share=1.0, noise=0.1)
    assert digest() != digest(only={"seed": (0, 1, 2)})


# how it is drawn


def test_drawn_networks_are_the_same_functions_in_other_writings(some: Path) -> None:
    pool, _ = gather(Trained(folders=(str(some),)), PAPER)
    x = torch.rand(2, 16) * 2.0 - 1.0
    nets = pool.draw(PAPER, 2, torch.arange(40))
    assert nets is not None
    known = forward(pool.networks[2, 2, 1], x)
    gaps = (forward(nets, x).unsqueeze(1) - known).square().mean((2, 3))  # (drawn, known)
    assert float(gaps.min(1).values.max()) < 1e-10
    assert len(set(gaps.argmin(1).tolist())) > 5
    z = latents(load(None), pack(nets, PAPER))
    same = gaps.argmin(1) == gaps.argmin(1)[0]
    assert int(same.sum()) > 1
    assert float((z[same][1:] - z[same][:1]).abs().max()) > 0.1  # another order is another point
    assert pool.draw(PAPER, 3, torch.arange(2)) is None


def test_a_drawn_row_depends_on_its_seed_alone_and_noise_leaves_zeros(some: Path) -> None:
    pool, _ = gather(Trained(folders=(str(some),)), PAPER)
    whole, alone = pool.draw(PAPER, 2, torch.arange(8)), pool.draw(PAPER, 2, torch.tensor([5]))
    noisy = pool.draw(PAPER, 2, torch.arange(8), 0.1)
    assert whole is not None
    assert alone is not None
    assert noisy is not None
    for edge, w in whole.blocks.items():
        assert torch.equal(w[5:6], alone.blocks[edge])
        assert torch.equal(noisy.blocks[edge] == 0, w == 0)
        moved = (noisy.blocks[edge] - w)[w != 0]
        assert 0.05 < float(moved.std()) < 0.2
    assert torch.equal(noisy.choices[1], whole.choices[1])
    assert torch.equal(noisy.gates[2], whole.gates[2])


@pytest.mark.parametrize(("share", "batch", "rows"), [(0.5, 6, 3), (1.0, 4, 4), (0.29, 100, 29), (0.1, 30, 3)])
def test_any_part_of_a_batch_has_the_share(share: float, batch: int, rows: int) -> None:
    found = Trained(folders=("x",), share=share).rows(batch)
    assert int(found.sum()) == rows
    parts = found.float().cumsum(0) - share * torch.arange(1, batch + 1)
    assert bool((parts <= 1e-4).all())
    assert bool((parts > -1.0 - 1e-4).all())


def test_a_batch_holds_both_kinds(some: Path) -> None:
    """Rows of random networks are what they were without trained ones; where a depth has no trained network all are random."""
    training = learn(some, share=0.5)
    model = fresh(training.space, training.dimensions, training.sampling)
    pool, _ = gather(Trained(folders=(str(some),)), PAPER)
    first = losses(model, training, 3, pool=pool)
    assert torch.equal(losses(model, training, 3), first)  # it reads the same networks
    assert not torch.equal(losses(model, training, 4, pool=pool), first)
    assert not torch.equal(losses(model, Training.model_validate(TINY), 3), first)
    assert torch.equal(losses(model, training, 3, pool=Pool({})), losses(model, Training.model_validate(TINY), 3))


def test_networks_of_their_own_ends_are_drawn_where_ends_vary(some: Path) -> None:
    space = Space(inputs=3, outputs=2, vary=True)
    pool, _ = gather(Trained(folders=(str(some),)), space)
    assert pool.draw(space.at(3, 1), 2, torch.arange(2)) is None
    nets = pool.draw(space.at(2, 1), 2, torch.arange(2))
    assert nets is not None
    assert nets.widths == (2, 7, 7, 1)
    found = scores(fresh(space, Training(size="tiny").dimensions, Training().sampling), 40, pool=pool)
    assert {depth for depth, _ in found} == {1, 2}
    assert all(len(errors) == 40 for errors in found.values())


# training


def test_it_learns_from_them_and_tells_on_those_held_back(some: Path, tmp_path: Path) -> None:
    training = learn(some, share=1.0, exclude={"task.function": ("Booth",)}).model_copy(
        update={"steps": 80, "batch": 16, "every": 40, "lr": 3e-3}
    )
    reports = list(train(training, tmp_path))
    assert len(reports[0].trained) == 4
    assert reports[-1].trained[1] < reports[0].trained[1]
    assert reports[0].trained[3] != reports[0].trained[3]  # no network of depth 4: nan
    about = read(tmp_path / "autoencoder.safetensors").about
    assert set(about["trained"]) == {f"{depth}->{decoder}" for depth in (1, 2) for decoder in (1, 2, 3, 4)}
    assert about["trained"]["2->2"]["median"] < 0.8 * about["trained_before"]["2->2"]["median"]
    learned, _ = gather(Trained(folders=(str(some),), exclude={"task.function": ("Booth",)}), PAPER)
    assert about["networks"]["digest"] == learned.digest
    assert about["networks"]["learned"] == {"1": 8, "2": 8}
    assert about["training"]["networks"]["exclude"] == {"task.function": ["Booth"]}
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert float(rows[-1]["trained_median_2"]) == pytest.approx(reports[-1].trained[1], rel=1e-4)
    assert list(train(training, tmp_path)) == []


def test_an_interrupted_training_ends_as_one_that_was_not(some: Path, tmp_path: Path) -> None:
    training = learn(some, share=0.5, noise=0.05).model_copy(update={"checkpoint_seconds": 1e-9})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    list(train(training, whole))
    for number, _ in enumerate(train(training, broken)):
        if number == 1:
            break
    assert (broken / "checkpoint.safetensors").exists()
    assert len(list(train(training, broken))) < 3
    one, other = (read(folder / "autoencoder.safetensors") for folder in (whole, broken))
    assert one.digest == other.digest


def test_other_networks_are_another_training(some: Path, tmp_path: Path) -> None:
    store = tmp_path / "copy"
    shutil.copytree(some, store)
    training = learn(store)
    list(train(training, tmp_path / "one"))
    other = STUDY | {"store": str(tmp_path), "study": "copy", "train": {"steps": 5, "batch": "full", "lr": 0.01}}
    shutil.rmtree(store)
    Study.from_dict(other).run("serial")
    with pytest.raises(ConfigError, match="on other trained networks"):
        list(train(training, tmp_path / "one"))


def test_a_training_without_them_is_the_training_it_was() -> None:
    """The settings of a training on random networks alone, and so its identity, do not name what they do not have."""
    assert "networks" not in Training().plain
    assert Training().identity() == "b82d36ba63e437e71182d1afe96af453cb8e9ba962812d7ba695bf94dd5f0601"


def test_start_takes_the_name_of_an_autoencoder_that_comes_along(some: Path, tmp_path: Path) -> None:
    settings = TINY | {"start": "paper-7x64", "size": "small", "steps": 1, "every": 1, "lr": 1e-12, "batch": 2}
    list(train(Training.model_validate(settings), tmp_path))
    done, shipped = read(tmp_path / "autoencoder.safetensors"), load("paper-7x64")
    assert all(torch.allclose(w, shipped.weights[name], atol=1e-8) for name, w in done.weights.items())
    assert not any(w.requires_grad for w in shipped.weights.values())


def test_the_command_tells_what_was_learned_from(some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"name": "prior", **TINY, "networks": {"folders": [str(some)], "exclude": {"task.function": ["Booth"]}}}
    Path("job.yaml").write_text(json.dumps(settings))
    done = CliRunner().invoke(main, ["swat", "train-autoencoder", "job.yaml"])
    assert done.exit_code == 0, done.output
    assert "trained 0." in done.stderr
    file = "runs/prior/autoencoder.safetensors"
    shown = CliRunner().invoke(main, ["swat", "show", file]).stdout
    assert "8 of depth 1, 8 of depth 2; held back: 4 of depth 1, 4 of depth 2" in shown
    assert shown.count("the same on those held back") == 2
    assert json.loads(CliRunner().invoke(main, ["swat", "show", file, "--json"]).stdout)["trained"]


# what is refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"exclude": {"task.functoin": ("Booth",)}}, "Did you mean 'task.function'"),
        ({"exclude": {"task.function": ("Boothe",)}}, "no network has 'Boothe'; there are: Booth, Matyas, Sphere. Did you"),
        ({"only": {"method.depth": (3,)}}, "no network has 3; there are: 1, 2"),
        ({"exclude": {"task.function": ("Booth", "Matyas", "Sphere")}}, "of 24 networks of .* none is left .*24 are held back"),
        ({"only": {"method.depth": (1,)}, "exclude": {"method.depth": (1,)}}, "none is left"),
    ],
)
def test_filters_that_cannot_be_are_told(some: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        gather(Trained(folders=(str(some),), **options), PAPER)


def test_folders_and_networks_that_do_not_fit_are_told(some: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a study's folder"):
        list(train(learn(tmp_path), tmp_path / "training"))
    assert not (tmp_path / "training").exists()
    with pytest.raises(ConfigError, match=r"pack p0\d+: a network does not fit: its hidden layers have \[7\] neurons"):
        gather(Trained(folders=(str(some),)), Space(width=5))
    learned, _ = gather(Trained(folders=(str(some),), only={"method.depth": (1,)}), Space(deepest=1))
    assert learned.counts == {"1": 11}


@pytest.mark.parametrize(
    ("networks", "told"),
    [
        ({"folders": []}, "networks.folders"),
        ({"folders": ["x"], "share": 0}, "networks.share: 0; needed: a number > 0 and <= 1"),
        ({"folders": ["x"], "share": 0.1}, "of a batch of 4 is no network"),
        ({"folders": ["x"], "noise": -1.0}, "networks.noise"),
        ({"folders": ["x"], "exclude": {"seed": 1}}, "networks.exclude.seed"),
        ({"folders": ["x"], "exclude": {"seed": [True]}}, "networks.exclude.seed"),
        ({"folders": ["x"], "excludes": {}}, "unknown key"),
        ({}, "networks.folders: is missing"),
    ],
)
def test_settings_that_cannot_be_are_told(networks: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(Training, TINY | {"networks": networks})


def test_networks_are_drawn_like_random_ones(some: Path) -> None:
    """Same skeleton and types: a batch of both is one program."""
    pool, _ = gather(Trained(folders=(str(some),)), PAPER)
    mine, random = pool.draw(PAPER, 1, torch.arange(2)), draw(PAPER, 1, torch.arange(2))
    assert mine is not None
    assert (mine.widths, mine.candidates) == (random.widths, random.candidates)
    for part in ("blocks", "biases", "gates", "choices"):
        for key, tensor in getattr(random, part).items():
            assert getattr(mine, part)[key].shape == tensor.shape
            assert getattr(mine, part)[key].dtype == tensor.dtype
