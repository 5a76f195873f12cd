"""The folder of a study on this machine and what the bucket has of it: copied there, fetched from there.

What is new is written first, then the list of what is there, then what replaces older files, the table last, then the list
again: whoever reads never finds a network in the table whose pack is not there.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from nasplug import files
from nasplug.buckets.lists import LIST, List, inside
from nasplug.buckets.places import Bucket
from nasplug.errors import NasplugError, cause
from nasplug.places import home_of

__all__ = ["FINISHED", "Copy"]

TABLE = "replicas.parquet"
VERSIONS = "versions.json"
RECORDS = (VERSIONS, "study.yaml", "identity.json")  # replaced in the order in which a study writes them
FINISHED = frozenset({TABLE, "surplus.parquet"})  # one of them is in the folder of each pack that is finished
HERE = frozenset({LIST, "claim.json", "checkpoint.safetensors"})  # names that are not copied
WORK = "ray"  # a folder of Ray Tune's own


class Copy:
    """The folder of one study on this machine, and what the bucket has of it.

    Args:
        store: the address of the store.
        study: its name.
        without: names of files that stay here.

    Attributes:
        bucket: the study's folder there.
        folder: of the study on this machine.
    """

    def __init__(self, store: str, study: str, without: frozenset[str] = frozenset()) -> None:
        self.bucket = Bucket(f"{store.rstrip('/')}/{study}")
        self.folder = home_of(store) / study
        self._without = HERE | without
        self._state = self.folder.parent / f".{study}.{LIST}"  # beside the folder: what the bucket is known to have
        self._own = secrets.token_hex(8)  # what this machine's copy is called, if it has no name yet
        self._stamps: dict[str, tuple[tuple[int, ...], tuple[int, str]]] = {}
        self._one = threading.Lock()

    def _list(self) -> List:
        """What the bucket says that it has.

        Raises:
            NasplugError: where it cannot be read, or is damaged.
        """
        try:
            return List.of(json.loads(self.bucket.read(LIST)))
        except FileNotFoundError:
            return List()
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            told = f"{self.bucket.address}/{LIST} cannot be read: {cause(error)}; remove it to copy all files anew"
            raise NasplugError(told) from None

    def _known(self) -> tuple[List, str]:
        """What the bucket had when this machine last fetched from it or copied to it; and the name of this machine's copy."""
        try:
            found = files.read_json(self._state)
            return List.of(found), str(found["copy"])
        except (files.DamageError, LookupError, ValueError, TypeError):
            return List(), self._own

    def _note(self, made: List, own: str) -> None:
        self._state.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self._state, made.plain() | {"copy": own}, indent=None)

    # -- to the bucket -------------------------------------------------------------------------------------------------

    def push(self) -> bool:
        """Copy what the bucket does not have, and remove there what is no longer here; whether there was something.

        Raises:
            NasplugError: where that fails. What has arrived is not sent again.
        """
        with self._one, tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".copy-") as own:
            return self._push(Path(own))

    def _push(self, aside: Path) -> bool:
        (known, own), was = self._known(), self._list()
        if was.serial and was.writer != own and was.stamp != known.stamp:
            raise NasplugError(f"{self.bucket.address} was changed by another machine; the next run here fetches that first")
        there, serial = dict(was.files), max(was.serial, known.serial)
        late = self._held(aside)  # taken first: what they tell of is in the folders that are looked at next
        early = dict(self._found())
        if not self._state.exists():  # or a process that ends after its first list would not know it for its own
            self._note(known, own)
        wanted = {name: self._digest(name, path) for name, path in early.items()}
        wanted |= {name: self._digest(None, path) for name, path in late.items()}
        told = dict(there)

        def note() -> None:
            """Tell the bucket, and ourselves, what is there so far."""
            nonlocal serial, told
            serial += 1
            made = List(serial, own, there)
            self.bucket.write(LIST, json.dumps(made.plain()).encode())
            self._note(made, own)
            told = dict(there)

        def send(sources: Mapping[str, Path]) -> None:
            for name, path in sources.items():
                if there.get(name) != wanted[name]:
                    self.bucket.write(name, path)
                    there[name] = wanted[name]

        try:
            send({name: path for name, path in (early | late).items() if name not in there and name not in (TABLE, VERSIONS)})
            if there != told:
                note()
            send(early)
            send(dict(sorted(late.items(), key=lambda each: (each[0] == TABLE, (*RECORDS, each[0]).index(each[0])))))
        except (NasplugError, OSError):
            if there != told:
                with suppress(NasplugError, OSError):
                    note()
            raise
        gone = [name for name in there if name not in wanted]
        for name in gone:
            del there[name]
        if there != told:
            note()
        for name in gone:
            self.bucket.remove(name)
        return there != was.files

    def _held(self, own: Path) -> dict[str, Path]:
        """The files of the study's folder itself, as they are now."""
        found = {}
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and self._wanted(path.name):
                with suppress(FileNotFoundError):
                    shutil.copyfile(path, own / path.name)
                    found[path.name] = own / path.name
        return found

    def _found(self) -> Iterator[tuple[str, Path]]:
        """All files in folders of the study that are copied, by name."""
        for folder in sorted(path for path in self.folder.iterdir() if path.is_dir() and path.name != WORK):
            for path in sorted(folder.rglob("*")):
                if path.is_file() and self._wanted(path.name) and (folder.name != "packs" or self._finished(path.parent)):
                    yield path.relative_to(self.folder).as_posix(), path

    def _wanted(self, name: str) -> bool:
        return not name.startswith(".") and name not in self._without

    def _finished(self, pack: Path) -> bool:
        return any((pack / name).exists() for name in FINISHED)

    def _digest(self, name: str | None, path: Path) -> tuple[int, str]:
        """Bytes and SHA-256; what has not changed since is not read again."""
        found = path.stat()
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if name is not None and name in self._stamps and self._stamps[name][0] == stamp:
            return self._stamps[name][1]
        with path.open("rb") as file:
            told = found.st_size, hashlib.file_digest(file, "sha256").hexdigest()
        if name is not None:
            self._stamps[name] = stamp, told
        return told

    # -- from the bucket -----------------------------------------------------------------------------------------------

    def pull(self) -> bool:
        """Bring the folder on this machine to what the bucket has, if another machine has written to it; whether that is so.

        What is here and was not copied yet is set aside then, as ``STUDY.aside-1``, ``-2``, ...: the bucket's is the newer.

        Raises:
            NasplugError: where the bucket cannot be read.
        """
        (known, own), there = self._known(), self._list()
        elsewhere = there.writer != own and there.stamp != known.stamp
        if not there.serial or (self.folder.is_dir() and not elsewhere):
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            files.locked(self.folder, f"study {self.bucket.address}"),
            tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".fetch-") as aside,
        ):
            made = Path(aside)
            for name, told in there.files.items():
                self._get(name, told, made / inside(name))
            self._clear(known)
            for path in made.iterdir():
                path.replace(self.folder / path.name)
            self._note(there, own)
        return True

    def _clear(self, known: List) -> None:
        """An empty folder; what the bucket never had is set aside."""
        if any(known.files.get(name) != self._digest(None, path) for name, path in self._all()):
            number = 1
            while (aside := self.folder.parent / ".aside" / f"{self.folder.name}-{number}").exists():
                number += 1
            shutil.copytree(self.folder, aside)
            print(f"nasplug: {self.bucket.address} was changed elsewhere; what was here is in {aside} now", file=sys.stderr)
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in self._without | {files.LOCK}:
                path.unlink()

    def _all(self) -> Iterator[tuple[str, Path]]:
        yield from ((path.name, path) for path in self.folder.iterdir() if path.is_file() and self._wanted(path.name))
        yield from self._found()

    def _get(self, name: str, told: tuple[int, str], to: Path) -> None:
        """A file of the bucket. One that was replaced since the list was written is taken if it is whole by its own digest."""
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            self.bucket.ask("get_file", self.bucket.place(name), str(to))
        except FileNotFoundError:
            return  # it was removed since
        except FileExistsError as error:
            raise NasplugError(f"{name!r} in {self.bucket.address}/{LIST} is a file and a folder: {cause(error)}") from None
        if not to.is_file():
            return  # a folder of this name: the study's own checks find that the file is missing
        if self._digest(None, to) != told and name.endswith((".json", ".parquet", ".safetensors", ".yaml")):
            try:
                files.verify(to)
            except files.DamageError:
                to.unlink()  # the study's own checks find that it is missing
