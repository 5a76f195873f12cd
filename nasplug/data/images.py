"""Images to a `Task`: scikit-learn's digits, MNIST-1D, and the CIFAR files that lie on this machine.

Pixels keep their places, none is left out, and those of a channel share one scale: what a convolution needs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nasplug.data.shuffled import split_rows
from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl
from nasplug.rows import listed
from nasplug.tasks import LOSSES, Origin, Split, Task, counts

__all__ = ["cifar10", "cifar100", "digits_images", "from_images", "mnist1d"]

Pixels = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

CIFAR_IMAGE = (3, 32, 32)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUPERCLASSES = 20


def from_images(
    images: Pixels | Tensor,
    labels: Pixels | Tensor,
    *,
    classes: Sequence[str] | None = None,
    tested: tuple[Pixels, Labels] | None = None,
    name: str = "images",
    valid: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    source: str = "",
) -> Task:
    """A task of classes from images ``(N, C, H, W)`` of any numbers and labels ``(N,)``, whole numbers from 0.

    Inputs are the pixels, channel after channel, row after row: ``I = C H W``. Scale: those of a channel have mean 0 and
    standard deviation 1 together, on the training split; a constant channel is only shifted. Splits: shuffled by ``seed``,
    each class shared out by itself.

    Args:
        images: see above.
        labels: see above.
        classes: one name per class (default 0, 1, ...).
        tested: images and labels of a test split that is given; then ``test`` is not read.
        name: the task's.
        valid, test: shares of the rows.
        seed: of the splits.
        source: where the images came from, in words.

    Raises:
        ConfigError: for shapes, labels and values that cannot be learned from.
    """
    where = f"task {name!r}"
    given = [(np.asarray(images), np.asarray(labels)), *([tested] if tested else [])]
    for x, y in given:
        if x.ndim != 4 or 0 in x.shape or x.dtype.kind not in "buif" or y.shape != (len(x),) or y.dtype.kind not in "ui":
            raise ConfigError(
                f"{where}: images {x.shape} of {x.dtype}, labels {y.shape} of {y.dtype}; needed: images (N, channels, rows, "
                "columns) of numbers and as many labels, whole numbers"
            )
    x, y = given[0]
    names = tuple(classes) if classes is not None else tuple(str(c) for c in range(int(y.max()) + 1))
    for _, numbers in given:
        wrong = np.flatnonzero((numbers < 0) | (numbers >= len(names)))
        if len(wrong):
            raise ConfigError(
                f"{where}: label {numbers[wrong[0]]} of image {wrong[0]}; needed: 0 to {len(names) - 1}, {len(names)} classes"
            )
    rows = split_rows(where, y.astype(np.int64), names, valid, test if tested is None else None, seed)
    parts = [(x[index], y[index]) for index in rows] + given[1:]
    if parts[0][0].shape[1:] != parts[2][0].shape[1:]:
        raise ConfigError(f"{where}: images of {parts[0][0].shape[1:]} to train and of {parts[2][0].shape[1:]} to test")
    channels, height, width = (int(n) for n in x.shape[1:])
    shift, scale = _scale(parts[0][0])

    def split(part: tuple[Pixels, Labels]) -> Split:
        pixels = torch.from_numpy(np.array(part[0], dtype=np.float32, order="C"))  # (N, C, H, W), a copy: changed in place
        x = pixels.sub_(shift).div_(scale).flatten(1).T.contiguous()
        return Split(x, torch.from_numpy(part[1].astype(np.int64)))

    task = Task(
        name=name,
        kind="classes",
        loss=LOSSES["classes"],
        train=split(parts[0]),
        valid=split(parts[1]),
        test=split(parts[2]),
        features=tuple(f"pixel {c} ({i}, {j})" for c in range(channels) for i in range(height) for j in range(width)),
        targets=names,
        input_shift=shift.flatten().repeat_interleave(height * width),
        input_scale=scale.flatten().repeat_interleave(height * width),
        output_shift=torch.zeros(len(names)),
        output_scale=torch.ones(len(names)),
        source=f"{source or 'images'}: {sum(len(part[1]) for part in parts)} images of {channels} x {height} x {width}",
        image=(channels, height, width),
        origin=Origin.of_samples(source or name, parts),
    )
    task.check()
    return task


def _scale(train: Pixels) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, ``(C, 1, 1)``, some images at a time: 50,000 in float64 are a gigabyte."""
    some = np.array_split(train, -(-len(train) // 1024))
    count = train[:, 0].size
    mean = sum(part.sum((0, 2, 3), dtype=np.float64) for part in some) / count
    square = sum(np.square(part - mean.reshape(-1, 1, 1)).sum((0, 2, 3)) for part in some) / count
    spread = np.where(square > 0.0, np.sqrt(square), 1.0)
    shift, scale = (torch.from_numpy(values.astype(np.float32)).view(-1, 1, 1) for values in (mean, spread))
    return shift, scale


def digits_images(*, valid: float = 0.2, test: float = 0.2, seed: int = 0) -> Task:
    """Digits as images: 1,797 of 1 x 8 x 8 pixels, 10 classes; all pixels, on one scale.

    The images of ``digits``, in the same splits. Source: UCI optical recognition of handwritten digits, test part, by
    scikit-learn.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return from_images(
        data.images[:, None],
        data.target,
        name="digits_images",
        valid=valid,
        test=test,
        seed=seed,
        source="Optical recognition of handwritten digits, UCI; bundled with scikit-learn",
    )


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Python's and numpy's global generators as they were, whatever a library does to them."""
    # numpy's global state is what is put back, which the newer generators do not share
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def mnist1d(*, samples: int = 5000, valid: float = 0.2, seed: int = 0) -> Task:
    """MNIST-1D: digits as curves of 1 x 1 x 40 points, 10 classes, made by the package `mnist1d`.

    ``samples`` images by the package's own generator and its own seed 42: the first 80 % to train, the last 20 % to test, as
    published; ``valid`` is the share of the training images that is held for validation, drawn by ``seed``. Source:
    Greydanus and Kobak 2024, Scaling down deep learning with MNIST-1D.

    Raises:
        ConfigError: when the package is not installed.
    """
    where = "task 'mnist1d'"
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        raise ConfigError(
            f"{where}: the package {package} is missing, and it makes the data; pip install 'nasplug[mnist1d]'"
        ) from error
    counts(where, least=100, samples=samples)
    arguments = get_dataset_args()
    arguments.num_samples = samples
    with _own_randomness():
        made = make_dataset(arguments)
    return from_images(
        made["x"][:, None, None],
        made["y"],
        tested=(made["x_test"][:, None, None], made["y_test"]),
        classes=tuple(str(c) for c in range(10)),
        name="mnist1d",
        valid=valid,
        seed=seed,
        source="made by the package mnist1d, seed 42",
    )


def _cifar(where: str, file: Path, label_bytes: int, classes: Sequence[int]) -> tuple[Pixels, Labels]:
    """Images ``(N, 3, 32, 32)`` and labels ``(N, label_bytes)`` of one file of the binary version."""
    record = label_bytes + math.prod(CIFAR_IMAGE)
    if not file.is_file():
        beside = sorted(f.name for f in file.parent.iterdir()) if file.parent.is_dir() else []
        there = f"there is {listed(beside)}" if beside else "the folder is empty or not there"
        raise ConfigError(
            f"{where}: there is no file {file.name!r} in {str(file.parent)!r}; {there}. Unpack the binary version of the data "
            "set there: nothing is downloaded"
        )
    data = np.fromfile(file, dtype=np.uint8)
    if len(data) == 0 or len(data) % record:
        raise ConfigError(
            f"{where}: {file.name} has {len(data)} bytes, no multiple of {record} ({label_bytes} for labels and 3,072 for "
            "pixels per image); it is cut short, or of another format: the binary version is needed, not the one for Python"
        )
    rows = data.reshape(-1, record)
    labels = rows[:, :label_bytes].astype(np.int64)
    for column, count in enumerate(classes):
        wrong = np.flatnonzero(labels[:, column] >= count)
        if len(wrong):
            raise ConfigError(
                f"{where}: {file.name} has label {labels[wrong[0], column]} at image {wrong[0]}; needed: 0 to {count - 1}. "
                "It is another data set, or of another format"
            )
    return rows[:, label_bytes:].reshape(-1, *CIFAR_IMAGE), labels


def _names(where: str, file: Path, wanted: int) -> tuple[str, ...]:
    """The classes' names, one per line; numbers where the file is missing."""
    if not file.is_file():
        return tuple(str(c) for c in range(wanted))
    names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) != wanted:
        raise ConfigError(f"{where}: {file.name} names {len(names)} classes; needed: {wanted}, one per line")
    return names


def cifar10(*, path: str, valid: float = 0.1, seed: int = 0) -> Task:
    """CIFAR-10 from local files: 60,000 images of 3 x 32 x 32, 10 classes. Nothing is downloaded.

    ``path``: a folder with the binary version, ``data_batch_1.bin`` to ``data_batch_5.bin`` (as many as are there, the first
    at least) and ``test_batch.bin``; an image is a byte for the label and 3,072 for the pixels. ``valid``: share of the
    training images that is held for validation. Source: Krizhevsky 2009.

    Raises:
        ConfigError: for files that are missing, of the wrong size, or with labels above 9.
    """
    where, folder = f"task 'cifar10', {path}", Path(path).expanduser()
    batches = [folder / f"data_batch_{n}.bin" for n in range(1, 6)]
    files = [batches[0], *(file for file in batches[1:] if file.is_file())]
    parts = [_cifar(where, file, 1, (10,)) for file in files]
    images, labels = _cifar(where, folder / "test_batch.bin", 1, (10,))
    return from_images(
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts])[:, 0],
        tested=(images, labels[:, 0]),
        classes=CIFAR10_CLASSES,
        name="cifar10",
        valid=valid,
        seed=seed,
        source=f"CIFAR-10, {len(files)} of 5 training files",
    )


def cifar100(*, path: str, coarse: bool = False, valid: float = 0.1, seed: int = 0) -> Task:
    """CIFAR-100 from local files: 60,000 images of 3 x 32 x 32, 100 classes. Nothing is downloaded.

    ``path``: a folder with the binary version, ``train.bin`` and ``test.bin``; an image is a byte for the superclass, one for
    the class and 3,072 for the pixels. Classes are named by ``fine_label_names.txt`` (``coarse_label_names.txt``) where that is
    there. ``coarse``: the 20 superclasses instead. ``valid`` as in ``cifar10``. Source: Krizhevsky 2009.

    Raises:
        ConfigError: for files that are missing, of the wrong size, or with labels above 19 and 99.
    """
    where, folder = f"task 'cifar100', {path}", Path(path).expanduser()
    count, column = (SUPERCLASSES, 0) if coarse else (100, 1)
    images, labels = _cifar(where, folder / "train.bin", 2, (SUPERCLASSES, 100))
    tested, known = _cifar(where, folder / "test.bin", 2, (SUPERCLASSES, 100))
    return from_images(
        images,
        labels[:, column],
        tested=(tested, known[:, column]),
        classes=_names(where, folder / f"{'coarse' if coarse else 'fine'}_label_names.txt", count),
        name="cifar100",
        valid=valid,
        seed=seed,
        source=f"CIFAR-100, {'superclasses' if coarse else 'classes'}",
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """The tasks of nasplug, registered like a plugin's."""
    for factory in (digits_images, mnist1d, cifar10, cifar100):
        register(factory.__name__, factory)
