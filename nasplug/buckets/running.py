"""A run of a study whose store is a bucket: one at a time, copied while it goes on. Training never waits for it."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasplug import files
from nasplug.buckets.copies import FINISHED, Copy
from nasplug.buckets.places import opened
from nasplug.errors import ConfigError, NasplugError, cause, scrub
from nasplug.places import STUDY, home_of, in_bucket, place_of

__all__ = ["Run", "copied", "copying", "fetched"]

CLAIM, STUDY_FILE = "claim.json", "study.yaml"
OWN = frozenset({"mlflow.json"})  # stays where it is if the bucket has none: what a database of this machine was told
BOOT = Path("/proc/sys/kernel/random/boot_id")  # two machines may have one name
LOOK_SECONDS = 2.0  # between two looks for packs that have finished
SHARE = 0.05  # of the time that copying may take while a study runs
CLAIM_SECONDS, STALE_SECONDS = 30.0, 180.0  # how often a run says that it lives, and after how long it is taken to be dead
SETTLE_SECONDS = 0.5  # in which another run that begins now is seen
TRIES, PAUSE_SECONDS = 4, 1.0  # at the end of a study; each pause is twice as long as the one before
WAIT_SECONDS = 60.0  # at the end, for a copy that is under way


class Run:
    """One process that runs a study.

    Attributes:
        copy: of the study.
        trouble: why the bucket does not have all of it; empty if it has.
    """

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.trouble = ""
        self._token = secrets.token_hex(8)
        self._stop, self._over = threading.Event(), threading.Event()

    def claim(self) -> None:
        """Say in the bucket that this process runs the study.

        Two that begin within the same half second on two machines may both be let in; nothing in a bucket is a lock.

        Raises:
            ConfigError: where another one has said so and is not known to be dead, or the bucket cannot be read or written.
        """
        try:
            self._refuse_others()
            try:
                self._say()
                time.sleep(SETTLE_SECONDS)
                self._refuse_others()
            except BaseException:
                self.release()
                raise
        except NasplugError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                f"store: {error}; needed: a bucket that can be read and written, for results would be lost"
            ) from None

    def _say(self) -> None:
        here = {"process": os.getpid(), "host": socket.gethostname(), "boot": _boot()}
        who = {"token": self._token, "at": time.time()} | here
        self.copy.bucket.write(CLAIM, json.dumps(who).encode())

    def _refuse_others(self) -> None:
        try:
            found = json.loads(self.copy.bucket.read(CLAIM))
            token, process = found["token"], int(found["process"])
            host = "".join(filter(str.isprintable, str(found["host"])))
            age = time.time() - float(found["at"])
            dead = (host, found.get("boot")) == (socket.gethostname(), _boot()) and not _alive(process)
        except (FileNotFoundError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            return
        address = self.copy.bucket.address
        if token != self._token and age < STALE_SECONDS and not dead:
            raise ConfigError(
                f"{address} is running already (process {process} on {host}, heard of {max(age, 0):.0f} s ago); wait until it "
                f"ends, or stop it there. If that machine is gone, the study is free {STALE_SECONDS:.0f} s after that"
            )

    def release(self) -> None:
        """The study is free for others."""
        with suppress(NasplugError, FileNotFoundError, ValueError, LookupError, TypeError):
            if json.loads(self.copy.bucket.read(CLAIM))["token"] == self._token:
                self.copy.bucket.remove(CLAIM)

    def _live(self) -> None:
        """Say that this process lives, in a thread of its own: a copy may take longer than others wait."""
        while not self._over.wait(CLAIM_SECONDS):
            with suppress(NasplugError, OSError):  # the next time comes soon
                self._say()

    def _follow(self) -> None:
        """Copy each pack that has finished, in a thread."""
        seen: set[str] = set()
        due, pause = 0.0, PAUSE_SECONDS
        while not self._stop.wait(LOOK_SECONDS):
            now = time.monotonic()
            try:
                packs = {path.parent.name for path in (self.copy.folder / "packs").glob("*/*.parquet") if path.name in FINISHED}
                if packs != seen and now >= due:
                    self.copy.push()
                    self.trouble = ""
                    seen, pause = packs, PAUSE_SECONDS
                    ended = time.monotonic()
                    due = ended + (ended - now) / SHARE
            except (NasplugError, OSError) as error:  # the end of the study says so, if it is still the case
                self.trouble = str(error)
                due, pause = time.monotonic() + pause, min(2 * pause, WAIT_SECONDS)

    def finish(self, *, patient: bool) -> None:
        """Copy the rest; where that fails, say why and how it is done later. Never raises."""
        for attempt in range(TRIES if patient else 1):
            if attempt:
                time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                self.copy.push()
                self.trouble = ""
                return
            except (NasplugError, OSError) as error:
                self.trouble = " ".join(str(scrub(str(error))).split())
        self._warn()

    def _warn(self) -> None:
        address = self.copy.bucket.address
        print(
            f"nasplug: {address} does not have all of the study ({self.trouble}); it is safe in {self.copy.folder}. "
            f"Later: nasplug sync {address}",
            file=sys.stderr,
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """A run of the study: claimed, fetched, copied while it runs and at its end, and free again.

        Raises:
            ConfigError: as `claim`.
        """
        self.claim()
        thread = threading.Thread(target=self._follow, name="nasplug bucket", daemon=True)
        living = threading.Thread(target=self._live, name="nasplug claim", daemon=True)
        living.start()
        patient = False
        try:
            self.copy.pull()
            thread.start()
            yield
            patient = True
        except Exception:
            patient = True  # results are there, or a reason why there are none: worth copying; Ctrl-C is not kept waiting
            raise
        finally:
            self._stop.set()
            if thread.ident is not None:
                thread.join(WAIT_SECONDS if patient else LOOK_SECONDS)
            if thread.is_alive():
                self.trouble = self.trouble or "a copy under way has not come to its end"
                self._warn()
            elif thread.ident is not None and (self.copy.folder / STUDY_FILE).exists():
                self.finish(patient=patient)
            self._over.set()
            living.join(WAIT_SECONDS if patient else LOOK_SECONDS)
            self.release()


@contextmanager
def copying(store: str, study: str, without: frozenset[str] = frozenset()) -> Iterator[Run | None]:
    """A run of a study whose store is in a bucket: all that it leaves is there at the end. A folder needs nothing (None).

    Raises:
        ConfigError: as `Run.claim`.
    """
    if not in_bucket(store):
        yield None
        return
    run = Run(Copy(store, study, without))
    with run.following():
        yield run


def copied(store: str, study: str, without: frozenset[str] = frozenset()) -> bool:
    """Copy to the bucket what it does not have of a study that ran here; whether there was something.

    Raises:
        ConfigError: where the study runs now.
        NasplugError: where that fails.
    """
    copy = Copy(store, study, without)
    with files.locked(copy.folder, f"study {study!r}"):
        return copy.push()


def fetched(address: str) -> Path:
    """The folder on this machine of a study in a bucket, or of a store there, as the bucket has it now.

    Where a process here runs the study, its folder is as it is: newer than the bucket's.

    Raises:
        ConfigError: where there is no study, or the address is none.
        NasplugError: where the bucket cannot be read.
    """
    try:
        place_of(address)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    store, _, study = address.rstrip("/").rpartition("/")
    if _fetch(store, study):
        return home_of(store) / study
    system, root = opened(address)
    try:
        names = sorted(str(found).rstrip("/").rpartition("/")[2] for found in system.ls(root, detail=False))
    except FileNotFoundError:
        names = []
    except Exception as error:  # noqa: BLE001 - a stranger's file system
        raise NasplugError(f"{address} cannot be read: {cause(error)}") from None
    if not [name for name in names if _fetch(address.rstrip("/"), name)]:
        raise ConfigError(f"{address}: no study there; give <store>/<study>, or a store with studies")
    return home_of(address)


def _fetch(store: str, study: str) -> bool:
    """Whether the study is there, and is on this machine now. A name that no study has may be a stranger's: no folder's."""
    if "://" not in store or not re.fullmatch(STUDY, study):
        return False
    copy = Copy(store, study, OWN)
    if files.holder(copy.folder) is None:
        copy.pull()
    return (copy.folder / STUDY_FILE).exists()


def _boot() -> str:
    """What tells this machine, since it was started, from others of its name; empty where the system does not say."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
