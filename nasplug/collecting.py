"""The files of packs that train elsewhere, brought to the study's folder: each whole, or not at all.

The driver's folder is the only truth. Beside it a `Collector` receives files in parts, and writes a file when it is whole and
its digest fits (`nasplug.files`). A worker trains in a scratch folder of its own; its `Courier` asks where to go on, and sends
what has changed there. Neither knows what lies between them: a courier is given a function that calls the collector's methods.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasplug import files
from nasplug.errors import NasplugError

__all__ = ["ENDING", "RUNGS", "Collector", "Courier", "tell_rungs"]

ENDING = ".ending"  # a file beside the packs' folder: they shall end
RUNGS = "ray/rungs.json"  # likewise, in the folder of Ray Tune: which of their rows go on after rungs
POLLS = (0.1, 1.0)  # seconds between two looks at it, at first and at most
PART = 8 * 2**20  # bytes that travel at once: all that a courier or the collector holds of a file
SHARE = 0.05  # of a worker's time that sending checkpoints may take, but for the first


def tell_rungs(folder: Path, kept: Mapping[str, Sequence[Sequence[int]] | None], crowded: bool) -> None:
    """Write for packs that train elsewhere what `Collector.rungs` tells them; ``folder``: of the study."""
    compared = {pack: rows for pack, rows in kept.items() if rows is not None}
    if compared:
        (folder / RUNGS).parent.mkdir(exist_ok=True)
        files.write_json(folder / RUNGS, {"kept": compared, "crowded": crowded}, indent=None)


class Collector:
    """Writes what couriers bring below ``folder``, in one folder per pack; reads what they ask for.

    A pack has one worker at a time. Where a second one has begun with it, because the first was taken to be dead, the first is
    refused from then on.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._workers: dict[str, str] = {}

    def begin(self, pack: str, worker: str) -> dict[str, int]:
        """The pack is this worker's from now on.

        Returns:
            The names and sizes (bytes) of the files of the pack that are there.
        """
        home = self._at(pack)
        home.mkdir(parents=True, exist_ok=True)
        self._workers[pack] = worker
        files.sweep(home)  # what an earlier worker sent in part
        return {path.name: path.stat().st_size for path in home.iterdir() if path.is_file()}

    def read(self, pack: str, name: str, at: int) -> bytes:
        """A part of a file, from the byte ``at`` on."""
        with self._at(pack, name).open("rb") as file:
            file.seek(at)
            return file.read(PART)

    def write(self, pack: str, worker: str, name: str, at: int, part: bytes, last: bool) -> None:
        """A part of a file, from the byte ``at`` on; with the last one the file takes its place.

        Raises:
            NasplugError: where another worker has the pack, the file is not what was sealed, or cannot be written.
        """
        self._check(pack, worker)
        path = self._at(pack, name)
        there = path.with_name(f".{name}.{worker}.tmp")
        try:
            with there.open("r+b" if at else "wb") as file:
                file.seek(at)
                file.write(part)
        except FileNotFoundError as error:
            if last and _ends_with(path, at, part):
                return  # this call was made before, and the answer to it was lost with the collector
            raise files.unwritten(path, error) from None
        except OSError as error:
            raise files.unwritten(path, error) from None
        if last:
            try:
                files.verify(there)
            except files.DamageError as error:
                raise NasplugError(f"{path} did not arrive as it was sent: {error.reason}") from None
            files.put(there, path)

    def drop(self, pack: str, worker: str, name: str) -> None:
        """A file of the pack is no longer needed."""
        self._check(pack, worker)
        self._at(pack, name).unlink(missing_ok=True)

    def ending(self) -> bool:
        """Whether packs shall end."""
        return (self._folder.parent / ENDING).exists()

    def rungs(self, pack: str) -> tuple[list[list[int]] | None, bool]:
        """A pack's rows that go on after each rung so far, and whether others need the worker of one that waits at a rung.

        None of a pack that compares its rows itself.
        """
        path = self._folder.parent / RUNGS
        if not path.exists():
            return None, True
        told = files.read_json(path)
        return told["kept"].get(pack), bool(told["crowded"])

    def _check(self, pack: str, worker: str) -> None:
        """A collector that was started anew takes the first worker that comes with a pack."""
        if self._workers.setdefault(pack, worker) != worker:
            raise NasplugError(f"another worker has taken over pack {pack}")

    def _at(self, *names: str) -> Path:
        if any(Path(name).name != name or name in ("", ".", "..") for name in names):
            raise NasplugError(f"{'/'.join(names)!r} is no file of a pack")
        return self._folder.joinpath(*names)


def _ends_with(path: Path, at: int, part: bytes) -> bool:
    """Whether a file is whole and has this part as its last, from the byte ``at`` on."""
    try:
        files.verify(path)
        with path.open("rb") as file:
            file.seek(at)
            return file.read(len(part) + 1) == part
    except (files.DamageError, OSError):
        return False


class Courier:
    """Between one worker's scratch folder of a pack and the collector.

    Attributes:
        folder: the scratch folder.
    """

    def __init__(self, call: Callable[..., Any], pack: str, folder: Path) -> None:
        """``call``: a name of the collector's methods and its arguments -> what it returned, or its error is raised."""
        self._call = call
        self._pack = pack
        self.folder = folder
        self._worker = secrets.token_hex(8)
        self._sent: dict[str, tuple[int, ...]] = {}
        self._due = 0.0

    def fetch(self, wanted: Sequence[str], unless: str) -> bool:
        """Bring the ``wanted`` files that are there to the scratch folder; False where ``unless`` is there: all is done."""
        there = self._call("begin", self._pack, self._worker)
        if unless in there:
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            if name not in there:
                continue
            with (self.folder / name).open("wb") as file:
                while file.tell() < there[name] and (part := self._call("read", self._pack, name, file.tell())):
                    file.write(part)
            self._sent[name] = _stamp(self.folder / name)
        return True

    def ending(self) -> bool:
        """Whether the pack shall end."""
        return bool(self._call("ending"))

    def rungs(self) -> list[list[int]] | None:
        """The pack's rows that go on after each rung so far; None where it compares its rows itself."""
        kept: list[list[int]] | None = self._call("rungs", self._pack)[0]
        return kept

    def next_rung(self, passed: int) -> list[list[int]] | None:
        """The same with one rung more than were ``passed``, once it is known; None where the pack shall not wait for it."""
        pause, most = POLLS
        while not self.ending():
            kept, crowded = self._call("rungs", self._pack)
            if kept is not None and len(kept) > passed:
                found: list[list[int]] = kept
                return found
            if crowded:
                break
            time.sleep(pause)
            pause = min(2 * pause, most)
        return None

    def send(self) -> None:
        """What has changed, if it is time: of all time 5 % at most is taken."""
        began = time.monotonic()
        if began < self._due or not (changed := self._changed()):
            return
        for path in changed:
            self._carry(path)
        ended = time.monotonic()
        self._due = ended + (ended - began) / SHARE

    def finish(self, last: str) -> None:
        """All that has changed, the file ``last`` after all others; and what is no longer in the scratch folder is dropped."""
        for path in sorted(self._changed(), key=lambda path: path.name == last):
            self._carry(path)
        for name in [name for name in self._sent if not (self.folder / name).exists()]:
            self._call("drop", self._pack, self._worker, name)
            del self._sent[name]

    def _changed(self) -> list[Path]:
        """What is whole and not sent; what was damaged on its way here stays here."""
        there = [path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        whole = sorted(path for path in there if files.DAMAGED not in path.name)
        return [path for path in whole if self._sent.get(path.name) != _stamp(path)]

    def _carry(self, path: Path) -> None:
        stamp = _stamp(path)
        with path.open("rb") as file:
            at, part = 0, file.read(PART)
            while True:
                following = file.read(PART)
                self._call("write", self._pack, self._worker, path.name, at, part, not following)
                if not following:
                    break
                at, part = at + len(part), following
        self._sent[path.name] = stamp


def _stamp(path: Path) -> tuple[int, ...]:
    """Tells a file from what is renamed into its place."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
