"""A store in a bucket: copied while a study runs, fetched elsewhere, one run at a time; no training is lost with it."""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from nasplug import hookimpl
from nasplug.buckets import opened, running
from nasplug.buckets.copies import Copy
from nasplug.buckets.lists import List
from nasplug.cli import main
from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, NasplugError
from nasplug.places import home_of
from nasplug.plan import Pack
from nasplug.plugins import Plugins
from nasplug.runner import SerialRunner, Watch
from nasplug.study import Study

CONFIG = {
    "study": "sums",
    "task": {"use": "xor"},
    "method": {"use": "edges", "mode": "l1", "hidden": [3]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}}],
    "train": {"steps": 20, "lr": 0.01, "reports": 2, "finetune": 0, "compile": False},
    "resources": {"pack": 2},
    "seeds": 2,
    "linear": False,
    "reach": None,
    "mlflow": None,
}


class Unsteady(MemoryFileSystem):
    """A file system whose calls fail now and then."""

    protocol = "unsteady"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    share = 0.0
    draws = random.Random(0)

    def _perhaps(self) -> None:
        if self.draws.random() < self.share:
            raise TimeoutError("no answer")

    def pipe_file(self, path: str, value: bytes, **named: Any) -> None:
        self._perhaps()
        super().pipe_file(path, value, **named)
        self._perhaps()  # written, and not said so

    def put_file(self, lpath: str, rpath: str, **named: Any) -> None:
        self._perhaps()
        super().put_file(lpath, rpath, **named)

    def cat_file(self, path: str, **named: Any) -> bytes:
        self._perhaps()
        return bytes(super().cat_file(path, **named))


fsspec.register_implementation("unsteady", Unsteady, clobber=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Pauses are short; each test has an own machine, and all buckets are empty."""
    for name, seconds in {"LOOK_SECONDS": 0.02, "SETTLE_SECONDS": 0.01, "PAUSE_SECONDS": 0.01, "SHARE": 100.0}.items():
        monkeypatch.setattr(running, name, seconds)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    Unsteady.share = 0.0
    yield
    for kind in (MemoryFileSystem, Unsteady):
        kind.store.clear()
        kind.pseudo_dirs[:] = [""]


def study(store: str, **changes: Any) -> Study:
    return Study.from_dict(CONFIG | {"store": store} | changes)


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str = "elsewhere") -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


@pytest.mark.parametrize("kind", ["memory", "file", "unsteady"])
def test_a_study_is_copied_and_read_and_resumed_elsewhere(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"{kind}://{tmp_path}/bucket/deep"
    ran = study(store).run("serial", report=False)
    assert ran.uncopied == ""
    system, root = opened(f"{store}/sums")
    there = {str(path).removeprefix(root.rstrip("/") + "/") for path in system.find(root)}
    assert {"study.yaml", "replicas.parquet", "best/network.json", "packs/p0000/networks.safetensors"} <= there
    assert not [name for name in there if name.rpartition("/")[2].startswith(".") or name == "claim.json"]
    frame, record, folder = ran.frame, ran.network().record, ran.folder
    elsewhere(monkeypatch, tmp_path)
    again = Study.open(f"{store}/sums")
    assert again.config.store == store
    assert again.folder != folder
    assert again.frame.equals(frame)
    assert again.network().record == record
    before = sorted(path.stat().st_mtime_ns for path in again.folder.glob("packs/*/replicas.parquet"))
    more = study(store, seeds=3).run("serial", report=False, extend=True).frame
    assert sorted(path.stat().st_mtime_ns for path in again.folder.glob("packs/*/replicas.parquet"))[: len(before)] == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    assert len(Study.open(f"{store}/sums").frame) == len(more) == 6


def test_a_table_is_never_there_before_its_packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever fetches between any two writes finds a study that can be read."""
    store = "unsteady://bucket"
    study(store).run("serial", report=False)
    monkeypatch.setattr(running, "LOOK_SECONDS", 100.0)  # all at the end: packs, and the table that tells of them
    seen: list[object] = []

    def written(self: Unsteady, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(tmp_path / f"reader-{len(seen)}"))
            try:
                found = Study.open(f"{store}/sums")
                for replica in found.frame["replica"]:
                    found.network(replica)
                seen.append(len(found.frame))
            except Exception as error:
                seen.append(error)

    original = Unsteady.put_file
    monkeypatch.setattr(Unsteady, "put_file", written)
    study(store, seeds=3).run("serial", report=False, extend=True)
    assert set(seen) == {4, 6}
    assert len(seen) > 5


@pytest.mark.parametrize("seed", range(4))
def test_a_bucket_that_fails_now_and_then_costs_no_training(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = "unsteady://bucket"
    whole = study(str(tmp_path / "folder")).run("serial", report=False)
    Unsteady.draws.seed(seed)

    def claimed(self: running.Run) -> None:
        claim(self)
        Unsteady.share = 0.2

    claim = running.Run.claim
    with monkeypatch.context() as patch:
        patch.setattr(running.Run, "claim", claimed)
        patch.setattr(running.Copy, "pull", lambda self: False)  # a bucket that is away at the door is refused
        ran = study(store).run("serial", report=False)
    assert ran.frame.equals(whole.frame)
    Unsteady.share = 0.0
    if ran.uncopied:
        assert "no answer" in ran.uncopied
        ran.sync()  # there may be nothing left: what failed last may have been written all the same
    assert not ran.sync()
    elsewhere(monkeypatch, tmp_path)
    assert Study.open(f"{store}/sums").frame.equals(whole.frame)


def test_a_bucket_that_is_gone_is_said_and_synced_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = "unsteady://bucket"

    def claimed(self: running.Run) -> None:
        claim(self)
        Unsteady.share = 1.0

    claim = running.Run.claim
    with monkeypatch.context() as patch:
        patch.setattr(running.Run, "claim", claimed)
        patch.setattr(running.Copy, "pull", lambda self: False)
        ran = study(store).run("serial", report=False)
    told = capsys.readouterr().err
    assert f"{store}/sums does not have all of the study" in told
    assert f"nasplug sync {store}/sums" in told
    done = CliRunner().invoke(main, ["sync", f"{store}/sums"])
    assert (done.exit_code, "not told" in done.output) == (1, True), done.output
    Unsteady.share = 0.0
    for place in ("unsteady://other", "unsteady://other/sums"):
        done = CliRunner().invoke(main, ["sync", place])
        assert (done.exit_code, f"{place}: no study there has run on this machine" in done.output) == (2, True), done.output
    for words in ("told", "nothing to tell"):
        done = CliRunner().invoke(main, ["sync", store])
        assert (done.exit_code, done.output.strip()) == (0, f"{store}/sums: {words}")
    best = ran.best()["replica"]
    elsewhere(monkeypatch, tmp_path)
    done = CliRunner().invoke(main, ["front", f"{store}/sums", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["best"]["replica"] == best
    done = CliRunner().invoke(main, ["lineage", f"{store}/sums"])
    assert (done.exit_code, best in done.output) == (0, True), done.output
    done = CliRunner().invoke(main, ["status", store, "--json"])
    assert [each["state"] for each in json.loads(done.output)] == ["finished"]
    done = CliRunner().invoke(main, ["doctor", store, "--json"])
    told = [each["what"] for each in json.loads(done.output) if each["part"] == "store"]
    assert [str(home_of(store)) in what for what in told] == [True], told


@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_ended_in_the_midst_goes_on_elsewhere(killed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped by Ctrl-C; or killed, so that the bucket has what the thread had copied, and a claim."""
    store = "memory://bucket"
    whole = study(str(tmp_path / "folder")).run("serial", report=False).frame

    @dataclass(frozen=True)
    class Ending(SerialRunner):
        def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
            super().run(study, packs[:1], plugins, watch)
            until = time.monotonic() + 20
            while killed and not Copy(store, "sums")._list().files and time.monotonic() < until:
                time.sleep(0.02)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if killed:
            patch.setattr(running.Run, "finish", lambda self, patient: None)
            patch.setattr(running.Run, "release", lambda self: None)
        with pytest.raises(KeyboardInterrupt):
            study(store).run(Ending(), report=False)
    elsewhere(monkeypatch, tmp_path)
    if killed:
        with pytest.raises(ConfigError, match="is running already"):
            study(store).run("serial", report=False)
        monkeypatch.setattr(running, "STALE_SECONDS", 0.0)
    trained: list[str] = []

    class Told:
        @hookimpl
        def pack_finished(self, pack: str, folder: Path) -> None:
            trained.append(pack)

    assert study(store).run("serial", report=False, observers=[Told()]).frame.equals(whole)
    assert trained == ["p0001"]


@pytest.mark.slow
def test_whatever_was_copied_last_the_study_goes_on_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is gone after any write to the bucket: here after every fourth, of a study and of what extends it."""
    store = "unsteady://bucket"
    moments: list[dict[str, Any]] = []

    def written(self: Unsteady, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        moments.append({name: MemoryFile(self, name, file.getvalue()) for name, file in Unsteady.store.items()})

    original = Unsteady.put_file
    monkeypatch.setattr(running, "LOOK_SECONDS", 100.0)
    with monkeypatch.context() as patch:
        patch.setattr(Unsteady, "put_file", written)
        study(store).run("serial", report=False)
        first = len(moments)
        whole = study(store, seeds=3).run("serial", report=False, extend=True).frame
    monkeypatch.setattr(running, "STALE_SECONDS", 0.0)
    assert first > 10
    for number, moment in enumerate(moments[::4]):
        Unsteady.store.clear()
        Unsteady.store.update(moment)
        elsewhere(monkeypatch, tmp_path, f"elsewhere-{number}")
        if 4 * number < first:
            study(store).run("serial", report=False)
        assert study(store, seeds=3).run("serial", report=False, extend=True).frame.equals(whole)


def test_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = "memory://bucket"
    system, root = opened(f"{store}/sums")

    def said(**changes: Any) -> None:
        who = {"token": "x", "process": os.getpid(), "host": "far", "at": time.time() - 40} | changes
        system.pipe_file(f"{root}/claim.json", json.dumps(who).encode())

    said()
    with pytest.raises(
        ConfigError, match=r"memory://bucket/sums is running already \(process \d+ on far, heard of \d+ s ago\)"
    ):
        study(store).run("serial", report=False)
    assert not home_of(store).exists()
    said(host=socket.gethostname())
    with pytest.raises(ConfigError, match="is running already"):
        study(store).run("serial", report=False)
    said(host=socket.gethostname(), process=2**22 + 1)  # no process has this number; another machine may have this name
    with pytest.raises(ConfigError, match="is running already"):
        study(store).run("serial", report=False)
    said(host=socket.gethostname(), process=2**22 + 1, boot=running._boot())
    assert study(store).run("serial", report=False).uncopied == ""
    said(host=socket.gethostname(), boot=running._boot(), process=2**80)  # damaged
    study(store).run("serial", report=False)
    said(at=time.time() - 1000)
    study(store).run("serial", report=False)
    assert not system.exists(f"{root}/claim.json")


def test_a_run_is_alive_while_it_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    store, push = "memory://bucket", Copy.push
    system, root = opened(f"{store}/sums")

    def claimed() -> float:
        return float(json.loads(system.cat_file(f"{root}/claim.json"))["at"])

    def slow(self: Copy) -> bool:
        began, until = claimed(), time.monotonic() + 60
        while claimed() == began:
            assert time.monotonic() < until
            time.sleep(0.01)
        return push(self)

    monkeypatch.setattr(running, "CLAIM_SECONDS", 0.02)
    monkeypatch.setattr(Copy, "push", slow)
    assert study(store).run("serial", report=False).uncopied == ""
    assert not system.exists(f"{root}/claim.json")


def test_what_another_machine_changed_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = "memory://bucket"
    study(store).run("serial", report=False)
    elsewhere(monkeypatch, tmp_path)
    study(store, seeds=3).run("serial", report=False, extend=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "here"))
    mine = Copy(store, "sums")
    (mine.folder / "mlflow.json").write_text("of a database here")
    (mine.folder / "study.yaml").write_text("of here\n")
    with pytest.raises(NasplugError, match="was changed by another machine"):
        mine.push()
    assert len(Study.open(f"{store}/sums").frame) == 6
    assert (home_of(store) / ".aside/sums-1/study.yaml").read_text() == "of here\n"
    assert (mine.folder / "mlflow.json").read_text() == "of a database here"


def test_a_process_that_ends_after_its_first_list_knows_it_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    store, note = "memory://bucket", Copy._note

    class Gone(BaseException):
        """The process is no more."""

    def noted(self: Copy, made: List, own: str) -> None:
        if made.serial:
            raise Gone
        note(self, made, own)

    with monkeypatch.context() as patch:
        patch.setattr(Copy, "_note", noted)
        patch.setattr(running, "LOOK_SECONDS", 100.0)
        with pytest.raises(Gone):
            study(store).run("serial", report=False)
    mine = Copy(store, "sums")
    assert mine._list().files
    assert not mine.pull()  # what is here is the newer
    assert mine.push()


def test_a_list_of_strangers_leads_nowhere_else(tmp_path: Path) -> None:
    store = "memory://bucket"
    system, root = opened(f"{store}/sums")

    def listing(*names: str) -> bytes:
        return json.dumps({"serial": 1, "writer": "x", "files": {name: [1, "y"] for name in names}}).encode()

    for name in ("../../x", "/x", ".", "a\0/b", "a\ud800"):
        system.pipe_file(f"{root}/copied.json", listing(name))
        with pytest.raises(NasplugError, match=r" in copied.json is no file of a study"):
            Study.open(f"{store}/sums")
    system.pipe_file(f"{root}/a", b"z")
    system.pipe_file(f"{root}/copied.json", listing("a", "a/b"))
    with pytest.raises(NasplugError, match=r"'a/b' in .* is a file and a folder"):
        Study.open(f"{store}/sums")
    for damaged in (b"[", b"[" * 100_000, b'{"serial": 1e999, "writer": "x", "files": {}}'):
        system.pipe_file(f"{root}/copied.json", damaged)
        with pytest.raises(NasplugError, match=r"copied\.json cannot be read"):
            Study.open(f"{store}/sums")


def test_folders_of_strangers_lead_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket may have names that are no folder's of a study; other studies on this machine stay as they are."""
    mine = study("memory://mine").run("serial", report=False)
    names = ["..", ".", ".aside", "a b", ""]
    monkeypatch.setattr(MemoryFileSystem, "ls", lambda self, path, detail: [f"{path}/{name}" for name in names])
    told = json.dumps({"serial": 1, "writer": "x", "files": {"x": [1, "y"]}}).encode()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda self, path: told)
    for address in ("memory://theirs", *(f"memory://theirs/{name}" for name in names)):
        with pytest.raises(ConfigError, match="no study there"):
            Study.open(address)
    assert len(mine.frame) == 4


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("nowhere://bucket", "cannot be opened: ValueError: Protocol not known"),
        ("https://server/folder", "is no bucket; needed: the path of a folder, or an address"),
        ("S3://bucket", "is no bucket"),
        ("file://runs", "has no absolute path; needed: file:///path, or a folder's path"),
        ("local://../runs", "has no absolute path"),
        ("memory://me:secret@bucket", "credentials come from the environment"),
        ("https://me:secret@server/folder", "credentials come from the environment"),
        ("memory://bucket?token=secret", "credentials come from the environment"),
    ],
)
def test_addresses_that_are_refused(store: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        study(store).check()
    with pytest.raises(ConfigError, match=told if store != "S3://bucket" else "is not a study's folder") as unread:
        Study.open(f"{store}/sums")
    assert "secret" not in f"{refused.value} {unread.value}"


def test_a_kind_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"store: s3://bucket/path needs s3fs: pip install s3fs"):
        study("s3://bucket/path").check()


def test_a_bucket_that_is_away_at_the_door() -> None:
    Unsteady.share = 1.0
    with pytest.raises(ConfigError, match=r"unsteady://bucket/sums: .*no answer.*can be read and written"):
        study("unsteady://bucket").run("serial", report=False)
    Unsteady.share = 0.0
    with pytest.raises(ConfigError, match="no study there"):
        Study.open("unsteady://bucket/other")
