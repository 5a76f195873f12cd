"""`Origin`: which raw data a task was made of, and which of their rows train, validate and test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from nasplug.errors import scrub

__all__ = ["PARTS", "Origin", "digest_of_arrays"]

PARTS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Origin:
    """The raw data behind a task. It says nothing of encoder, scales and transforms: these are `Task.digest`'s.

    Attributes:
        where: path of the file, or name of the data, without secrets.
        digest: SHA-256 of the raw data as they were read, names and values, hexadecimal.
        rows: of the raw data.
        splits: ``train``, ``valid`` and ``test`` -> a digest of which raw rows these are. Two tasks with one digest of a split
            have the same samples there, in whatever order, however each encodes them.
    """

    where: str
    digest: str
    rows: int
    splits: Mapping[str, str]

    @classmethod
    def of_rows(cls, where: str, digest: str, rows: int, parts: Sequence[npt.NDArray[np.int64]]) -> Origin:
        """Of a table: ``parts`` are the places of the raw rows that train, validate and test."""
        splits = {
            name: hashlib.sha256(f"rows of {digest} ".encode() + np.sort(part).astype("<i8").tobytes()).hexdigest()
            for name, part in zip(PARTS, parts, strict=True)
        }
        return cls(str(scrub(where)), digest, rows, splits)

    @classmethod
    def of_samples(cls, where: str, parts: Sequence[Sequence[npt.NDArray[Any] | Tensor]]) -> Origin:
        """Of data that are no table: ``parts`` are the arrays of each split, in the user's units, samples first.

        The digest of a split is that of its values in their order, so it does not depend on the other splits.
        """
        splits = {name: digest_of_arrays(part) for name, part in zip(PARTS, parts, strict=True)}
        whole = hashlib.sha256(" ".join(splits.values()).encode()).hexdigest()
        return cls(str(scrub(where)), whole, sum(len(part[0]) for part in parts), splits)

    def plain(self) -> dict[str, Any]:
        """Plain data, from which `from_plain` makes the same."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Origin:
        """What `plain` gave.

        Raises:
            ValueError, TypeError, LookupError: for anything else.
        """
        where, digest, rows, splits = (plain[name] for name in ("where", "digest", "rows", "splits"))
        return cls(str(where), str(digest), int(rows), {name: str(splits[name]) for name in PARTS})


def digest_of_arrays(arrays: Sequence[npt.NDArray[Any] | Tensor]) -> str:
    """SHA-256 of types, shapes and values, hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        values = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
        found.update(f"{values.dtype.str} {values.shape} ".encode())
        found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()
