"""What a bucket has of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from nasplug.errors import NasplugError

__all__ = ["LIST", "List", "inside"]

LIST = "copied.json"


@dataclass(frozen=True, slots=True)
class List:
    """What is in the bucket: how often the list was written, by which copy, and each file's bytes and SHA-256."""

    serial: int = 0
    writer: str = ""
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def stamp(self) -> tuple[int, str]:
        """What tells this list from another."""
        return self.serial, self.writer

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"serial": self.serial, "writer": self.writer, "files": {name: list(each) for name, each in self.files.items()}}

    @staticmethod
    def of(plain: Mapping[str, Any]) -> List:
        """The list that `plain` was made of; whatever else raises."""
        return List(
            int(plain["serial"]),
            str(plain["writer"]),
            {str(name): (int(size), str(digest)) for name, (size, digest) in plain["files"].items()},
        )


def inside(name: str) -> PurePosixPath:
    """A file's name in a list, which a stranger may have written.

    Raises:
        NasplugError: for one that leads elsewhere, or is no name of a file.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable():
        raise NasplugError(f"{name!r} in {LIST} is no file of a study")
    return path
