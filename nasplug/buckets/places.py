"""One folder of a bucket: bytes in and out, with the errors of any file system as ours."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from nasplug.errors import ConfigError, NasplugError, cause

__all__ = ["Bucket", "opened"]

RENAMING = frozenset({"file", "local", "sftp", "ssh"})  # where a file that is being written can be read; renaming is whole


def opened(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there. Nothing is connected to.

    Raises:
        ConfigError: for a kind that is unknown, or whose package is not installed.
    """
    import fsspec
    from fsspec.registry import known_implementations

    kind = address.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = str(known_implementations.get(kind, {}).get("class", "")).partition(".")[0]
        remedy = f"pip install {package}" if package and package != "fsspec" else str(error)
        raise ConfigError(f"store: {address} needs {package or 'a package'}: {remedy}") from None
    except Exception as error:  # noqa: BLE001 - a stranger's file system
        raise ConfigError(f"store: {address} cannot be opened: {cause(error)}") from None
    return system, str(path).rstrip("/")


class Bucket:
    """A folder of a file system that fsspec knows.

    Attributes:
        address: as it was written.
        system: of fsspec.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.system, self._root = opened(address)
        kinds = self.system.protocol
        self._renames = bool(RENAMING & set([kinds] if isinstance(kinds, str) else kinds))

    def ask(self, method: str, *arguments: Any, **named: Any) -> Any:
        """A call of the file system; whatever it raises but `FileNotFoundError` is a `NasplugError`."""
        try:
            return getattr(self.system, method)(*arguments, **named)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's file system
            raise NasplugError(f"{self.address}: {method} failed with {cause(error)}") from None

    def place(self, name: str) -> str:
        """The path of a file, as the file system knows it."""
        return f"{self._root}/{name}"

    def read(self, name: str) -> bytes:
        """All of a file.

        Raises:
            FileNotFoundError: where there is none.
            NasplugError: where it cannot be read.
        """
        self.system.invalidate_cache()
        return bytes(self.ask("cat_file", self.place(name)))

    def write(self, name: str, source: Path | bytes) -> None:
        """A file that is there whole, or as it was before.

        Raises:
            NasplugError: where it cannot be written.
        """
        folder, _, last = self.place(name).rpartition("/")
        to = f"{folder}/.{last}.tmp" if self._renames else f"{folder}/{last}"
        write = ("pipe_file", to, source) if isinstance(source, bytes) else ("put_file", str(source), to)
        try:
            self.ask(*write)
        except FileNotFoundError:  # no such folder, where there are folders
            self.ask("makedirs", folder, exist_ok=True)
            self.ask(*write)
        if self._renames:
            self.ask("mv", to, f"{folder}/{last}")

    def remove(self, name: str) -> None:
        """A file is no longer there; one that cannot be removed stays."""
        with suppress(NasplugError, FileNotFoundError):
            self.ask("rm_file", self.place(name))
