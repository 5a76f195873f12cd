"""Images: whole, on one scale per channel, from files of the published format; and what is refused."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from nasplug import ConfigError
from nasplug.compact import compact
from nasplug.data.datasets import digits
from nasplug.data.images import CIFAR10_CLASSES, cifar10, cifar100, digits_images, from_images, mnist1d
from nasplug.networks import Networks
from nasplug.stems import Convolution, Stem, drawn, parts
from nasplug.testing import TaskLaws


class TestDigits(TaskLaws):
    name = "digits_images"


class TestMnist1d(TaskLaws):
    name = "mnist1d"
    options: ClassVar = {"samples": 300}


def pictures(count: int = 40, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    made = np.random.default_rng(0).integers(0, 256, (count, channels, 4, 5), dtype=np.uint8)
    return made, np.arange(count) % 4


def test_pixels_keep_their_places_and_channels_their_scale() -> None:
    x, y = pictures()
    x[:, 2] = 7  # a channel that says nothing is left in, and does no harm
    x = x.astype(np.float32)
    before = x.copy()
    task = from_images(x[:30], y[:30], tested=(x[30:], y[30:]))
    assert task.image == (3, 4, 5)
    assert task.features[0] == "pixel 0 (0, 0)"
    assert task.features[-1] == "pixel 2 (3, 4)"
    channels = task.train.x.reshape(3, 20, -1)
    torch.testing.assert_close(channels.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(channels.std((1, 2), correction=0), torch.tensor([1.0, 1.0, 0.0]))
    assert np.array_equal(x, before)  # what was given stays as it was
    raw = torch.from_numpy(x.reshape(40, -1).T.astype(np.float32))
    for split in (task.train, task.valid, task.test):
        back = split.x * task.input_scale.unsqueeze(1) + task.input_shift.unsqueeze(1)
        for column, label in zip(back.T, split.y, strict=True):
            (found,) = torch.nonzero((raw.T - column).abs().max(1).values < 1e-3).flatten().tolist()
            assert y[found] == int(label)


def test_digits_as_images_are_the_digits() -> None:
    whole, table = digits_images(seed=3), digits(validation="holdout", seed=3)
    assert torch.equal(whole.test.y, table.test.y)
    raw = whole.test.x * whole.input_scale.unsqueeze(1) + whole.input_shift.unsqueeze(1)
    assert whole.inputs == 64
    assert float(raw.min()) == pytest.approx(0.0, abs=1e-5)
    assert float(raw.max()) == pytest.approx(16.0, abs=1e-5)


def test_a_compact_network_takes_raw_pixels() -> None:
    task = from_images(*pictures())
    stem = Stem(image=(3, 4, 5), layers=(Convolution(channels=2, pool=2),))
    seeds = torch.tensor([1])
    leaves = {name: leaf.float() for name, leaf in drawn(stem, seeds).items()}
    nets = Networks(
        widths=(stem.features, 4),
        blocks={(1, 0): torch.linspace(-1, 1, 4 * stem.features).view(1, 4, -1)},
        **parts(stem, leaves),
    )
    raw = (task.test.x * task.input_scale.unsqueeze(1) + task.input_shift.unsqueeze(1)).T
    small = compact(nets, 0, task)
    wanted = compact(nets, 0)(task.test.x.T).softmax(1)
    torch.testing.assert_close(small(raw), wanted, rtol=1e-4, atol=1e-5)
    assert small.record["features"] == list(task.features)


def test_mnist1d_is_whole_and_leaves_randomness_alone() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    task = mnist1d(samples=500, seed=1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index]
    assert task.image == (1, 1, 40)
    assert (task.train.samples + task.valid.samples, task.test.samples) == (400, 100)
    assert task.valid.samples == pytest.approx(80, abs=5)  # each class by itself
    other = mnist1d(samples=500, seed=2)
    assert torch.equal(task.test.y, other.test.y)  # the test split is the package's
    assert not torch.equal(task.train.y, other.train.y)


def test_mnist1d_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    monkeypatch.delitem(sys.modules, "mnist1d.data", raising=False)
    with pytest.raises(ConfigError, match=r"package mnist1d is missing.*pip install 'nasplug\[mnist1d\]'"):
        mnist1d()


# CIFAR: small files of the published format


def write(path: Path, count: int, label_bytes: int, seed: int = 0) -> np.ndarray:
    """``count`` images with labels 0, 1, ... (and superclasses half of them); returns their bytes ``(count, record)``."""
    rows = np.random.default_rng(seed).integers(0, 256, (count, label_bytes + 3072), dtype=np.uint8)
    rows[:, label_bytes - 1] = np.arange(count) % 10
    rows[:, 0] = rows[:, label_bytes - 1] // label_bytes
    rows.tofile(path)
    return rows


def ten(folder: Path, batches: int = 2) -> list[np.ndarray]:
    made = [write(folder / f"data_batch_{n}.bin", 20, 1, n) for n in range(1, batches + 1)]
    return [*made, write(folder / "test_batch.bin", 30, 1, 9)]


def test_cifar10(tmp_path: Path) -> None:
    *_, tested = ten(tmp_path)
    task = cifar10(path=str(tmp_path), valid=0.25)
    assert task.image == (3, 32, 32)
    assert task.targets == CIFAR10_CLASSES
    assert (task.train.samples, task.valid.samples, task.test.samples) == (30, 10, 30)
    assert "2 of 5 training files" in task.source
    raw = task.test.x * task.input_scale.unsqueeze(1) + task.input_shift.unsqueeze(1)
    torch.testing.assert_close(raw.T, torch.from_numpy(tested[:, 1:].astype(np.float32)), atol=1e-3, rtol=0)
    assert task.test.y.tolist() == tested[:, 0].tolist()


@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100(tmp_path: Path, coarse: bool) -> None:
    write(tmp_path / "train.bin", 100, 2)
    tested = write(tmp_path / "test.bin", 20, 2, 1)
    if coarse:
        # every superclass must have images to train on
        rows = np.fromfile(tmp_path / "train.bin", dtype=np.uint8).reshape(100, -1)
        rows[:, 0] = np.arange(100) % 20
        rows.tofile(tmp_path / "train.bin")
    else:
        rows = np.tile(np.fromfile(tmp_path / "train.bin", dtype=np.uint8).reshape(100, -1), (3, 1))
        rows[:, 1] = np.arange(300) % 100
        rows.tofile(tmp_path / "train.bin")
        (tmp_path / "fine_label_names.txt").write_text("\n".join(f"kind {n}" for n in range(100)) + "\n")
    task = cifar100(path=str(tmp_path), coarse=coarse, valid=0.34)
    assert task.outputs == (20 if coarse else 100)
    assert task.targets[3] == ("3" if coarse else "kind 3")
    assert task.test.y.tolist() == tested[:, 0 if coarse else 1].tolist()


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file 'data_batch_1.bin' in .*not there.*nothing is downloaded"):
        cifar10(path=str(tmp_path / "nowhere"))
    ten(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(ConfigError, match=r"no file 'test_batch.bin'.*there is 'data_batch_1.bin'"):
        cifar10(path=str(tmp_path))
    for size in (0, 3073 * 2 - 1):
        (tmp_path / "test_batch.bin").write_bytes(bytes(size))
        with pytest.raises(ConfigError, match=rf"test_batch.bin has {size} bytes, no multiple of 3073"):
            cifar10(path=str(tmp_path))
    rows = write(tmp_path / "test_batch.bin", 5, 1)
    rows[3, 0] = 10
    rows.tofile(tmp_path / "test_batch.bin")
    with pytest.raises(ConfigError, match=r"test_batch.bin has label 10 at image 3; needed: 0 to 9"):
        cifar10(path=str(tmp_path))


def test_cifar100_is_not_cifar10(tmp_path: Path) -> None:
    write(tmp_path / "train.bin", 60, 2)
    write(tmp_path / "test.bin", 20, 2)
    rows = np.fromfile(tmp_path / "train.bin", dtype=np.uint8).reshape(60, -1)
    rows[7, 0] = 20
    rows.tofile(tmp_path / "train.bin")
    with pytest.raises(ConfigError, match=r"train.bin has label 20 at image 7; needed: 0 to 19"):
        cifar100(path=str(tmp_path))
    write(tmp_path / "train.bin", 60, 2)
    (tmp_path / "fine_label_names.txt").write_text("apple\n")
    with pytest.raises(ConfigError, match=r"fine_label_names.txt names 1 classes; needed: 100"):
        cifar100(path=str(tmp_path))


def test_images_that_cannot_be_learned_from_are_refused() -> None:
    x, y = pictures()
    with pytest.raises(ConfigError, match=r"images \(40, 60\).*needed: images \(N, channels, rows, columns\)"):
        from_images(x.reshape(40, 60), y)
    with pytest.raises(ConfigError, match=r"labels \(39,\)"):
        from_images(x, y[:39])
    with pytest.raises(ConfigError, match=r"labels .* of float64"):
        from_images(x, y.astype(float))
    with pytest.raises(ConfigError, match="label 3 of image 3; needed: 0 to 2, 3 classes"):
        from_images(x, y, classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match=r"class '4' has 0 rows, too few"):
        from_images(x, y, classes=("0", "1", "2", "3", "4"))
    with pytest.raises(ConfigError, match=r"valid=1.0; needed: a share"):
        from_images(x, y, tested=(x, y), valid=1.0)
    with pytest.raises(ConfigError, match=r"images of \(3, 4, 5\) to train and of \(1, 4, 5\) to test"):
        from_images(x, y, tested=(x[:, :1], y))
    broken = x.astype(float)
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        from_images(broken, y)
    with pytest.raises(ConfigError, match="samples=10; needed: a whole number >= 100"):
        mnist1d(samples=10)
