"""Observers that raise, hang, dawdle, write, come twice or are misspelt: each is named, and costs nobody else anything."""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nasplug import hookimpl, observers
from nasplug.errors import NasplugError, PluginError
from nasplug.events import StudyStopped, read_events
from nasplug.hookspecs import Counts, Progress
from nasplug.plugins import load_plugins
from nasplug.progress import Watcher
from nasplug.study import Study
from tests.processes import PATIENCE

TINY: dict[str, Any] = {
    "study": "tiny",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 20},
    "seeds": 4,
    "resources": {"pack": 2},
    "mlflow": None,
}
HOOKS = ("study_started", "pack_reported", "pack_finished", "study_finished")


def tiny(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**TINY, "store": str(store), **changes})


class Scribe:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.threads: set[str] = set()

    def _hear(self, hook: str, what: Any) -> None:
        self.heard.append((hook, what))
        self.threads.add(threading.current_thread().name)

    @hookimpl
    def study_started(self, study: Mapping[str, Any], counts: Counts) -> None:
        self._hear("study_started", (study["study"], counts))

    @hookimpl
    def pack_reported(self, pack: str, progress: Progress) -> None:
        assert isinstance(progress, Progress)
        assert 0.0 <= progress.progress <= 1.0
        self._hear("pack_reported", pack)

    @hookimpl
    def pack_finished(self, pack: str, folder: Path) -> None:
        assert (folder / "replicas.parquet").exists()
        self._hear("pack_finished", pack)

    @hookimpl
    def pack_failed(self, pack: str, reason: str) -> None:
        self._hear("pack_failed", (pack, reason))

    @hookimpl
    def study_finished(self, folder: Path) -> None:
        assert (folder / "best" / "network.json").exists()
        self._hear("study_finished", folder)

    @hookimpl
    def study_stopped(self, reason: str) -> None:
        self._hear("study_stopped", reason)

    @property
    def story(self) -> list[tuple[str, Any]]:
        """Without reports, of which not all are told."""
        return [told for told in self.heard if told[0] != "pack_reported"]


PACKS = [("pack_finished", f"p000{n}") for n in range(4)]


def whole(scribe: Scribe, folder: Path, done: int = 0) -> None:
    """The scribe heard a study of four packs from its beginning to its end."""
    counts = Counts(4, 8, done, 2 * done)
    assert scribe.story == [("study_started", ("tiny", counts)), *PACKS[done:], ("study_finished", folder.resolve())]


def test_an_observer_hears_a_study_in_order_in_a_thread_of_its_own(tmp_path: Path) -> None:
    scribe = Scribe()
    done = tiny(tmp_path).run("serial", observers=[scribe])
    whole(scribe, done.folder)
    assert {pack for hook, pack in scribe.heard if hook == "pack_reported"} == {f"p000{n}" for n in range(4)}
    assert scribe.threads == {observers.THREAD}
    again = Scribe()
    done.run("serial", observers=[again])
    whole(again, done.folder, done=4)
    assert done.untold == ()


class Wanderer:
    """Changes the working directory of the whole process."""

    def __init__(self, to: Path) -> None:
        self.to = to

    @hookimpl
    def study_started(self) -> None:
        os.chdir(self.to)

    @hookimpl
    def pack_finished(self) -> None:
        os.chdir(self.to.parent)


def test_one_that_changes_the_working_directory_moves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    study = tiny(Path("runs"))
    study.run("serial", observers=[Wanderer(elsewhere)])
    assert not list(elsewhere.iterdir())
    assert study.config.store == "runs"
    assert len(Study.open(here / "runs" / "tiny").frame) == 8


ERRORS = (ValueError("oh\nno http://me:hush@host"), SystemExit(3), KeyboardInterrupt(), StopIteration())


def test_those_that_raise_are_named_in_a_line_each_and_hear_no_more(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[str] = []

    def angry(hook: str, error: BaseException) -> object:
        class Angry:
            @hookimpl(specname=hook)
            def any(self) -> None:
                calls.append(f"{hook} with {type(error).__name__}")
                raise error

        return Angry()

    pairs = [(HOOKS[0], error) for error in ERRORS] + [(hook, ERRORS[0]) for hook in HOOKS[1:]]
    before, after = Scribe(), Scribe()
    done = tiny(tmp_path).run("serial", observers=[before, *(angry(*pair) for pair in pairs), after])
    assert set(done.frame["status"]) == {"finished"}
    whole(before, done.folder)
    whole(after, done.folder)
    lines = capfd.readouterr().err.splitlines()
    assert {f"nasplug: {line}" for line in done.untold} == set(lines)
    assert len(lines) == len(calls) == len(pairs)  # each was called once and never again
    for hook, error in pairs:
        (line,) = (line for line in lines if f"<locals>.Angry broke in {hook} with {type(error).__name__}" in line)
        assert "test_observers.py:" in line
        assert "hush" not in line


def test_an_error_that_cannot_be_told_is_named_all_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class UntellableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Angry:
        @hookimpl
        def pack_finished(self) -> None:
            raise UntellableError

    tiny(tmp_path).run("serial", observers=[Angry()])
    (line,) = capfd.readouterr().err.splitlines()
    assert "Angry broke in pack_finished with " in line
    assert "UntellableError" in line


def test_an_installed_plugin_that_raises_is_named_with_its_version(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Watching:
        @hookimpl
        def pack_finished(self) -> None:
            raise ValueError("oh no")

    plugins = load_plugins.__wrapped__()
    plugins.add(Watching(), "watching", "nasplug-watching", "1.2.3")
    scribe = Scribe()
    done = Study(tiny(tmp_path).config, plugins).run("serial", observers=[scribe])
    whole(scribe, done.folder)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(
        "nasplug: plugin 'watching' (nasplug-watching 1.2.3) broke in pack_finished with ValueError: oh no ("
    )


def test_those_that_hang_are_left_behind_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "PATIENCE", 3 * PATIENCE)
    free = threading.Event()

    def hanging(hook: str) -> object:
        class Hanging:
            patience_seconds = 2.0

            @hookimpl(specname=hook)
            def any(self) -> None:
                free.wait()

        return Hanging()

    scribe = Scribe()
    began = time.monotonic()
    done = tiny(tmp_path).run("serial", observers=[*map(hanging, HOOKS), scribe])
    assert time.monotonic() - began < 2 * PATIENCE
    free.set()
    whole(scribe, done.folder)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(HOOKS)
    for hook, missed in {"study_started": 6, "pack_reported": 5, "pack_finished": 5, "study_finished": 1}.items():
        assert any(line.endswith(f"Hanging is still in {hook}; {missed} of 6 events were not told to it") for line in lines)


def test_one_that_is_slow_delays_itself_alone_and_misses_nothing_but_reports(tmp_path: Path) -> None:
    class Slow(Scribe):
        def _hear(self, hook: str, what: Any) -> None:
            time.sleep(0.3)
            if hook == "study_finished":
                assert over.wait(PATIENCE)  # meanwhile the others are told
            super()._hear(hook, what)

    over = threading.Event()

    class Soon:
        @hookimpl
        def study_finished(self) -> None:
            over.set()

    slow = Slow()
    done = tiny(tmp_path, train={"steps": 200, "reports": 100}).run("serial", observers=[slow, Soon()])
    whole(slow, done.folder)
    assert done.untold == ()


def test_one_that_writes_into_the_folder_locks_nothing(tmp_path: Path) -> None:
    class Writing:
        @hookimpl
        def study_started(self, folder: Path) -> None:
            (folder / "mine.txt").write_text("mine")
            (folder / "events.jsonl").unlink()
            (folder / "events.jsonl").write_text("mine too")
            raise ValueError("and then broken")

    scribe = Scribe()
    done = tiny(tmp_path).run("serial", observers=[Writing(), scribe])
    whole(scribe, done.folder)
    assert tiny(tmp_path).run("serial").untold == ()


def test_what_one_does_to_its_arguments_is_not_seen_by_another(tmp_path: Path) -> None:
    class Greedy:
        @hookimpl
        def study_started(self, study: dict[str, Any]) -> None:
            study.clear()

    scribe = Scribe()
    done = tiny(tmp_path).run("serial", observers=[Greedy(), scribe])
    whole(scribe, done.folder)


def test_failed_packs_are_told_and_shown_as_failed(tmp_path: Path) -> None:
    study = tiny(tmp_path)
    (study.folder / "packs").mkdir(parents=True)
    (study.folder / "packs" / "p0001").write_text("a file where the pack's folder should be")
    scribe = Scribe()
    with (tmp_path / "shown").open("w") as stream, Watcher(stream) as watcher:
        study.run("serial", observers=[scribe, watcher])
    failures = [what for hook, what in scribe.heard if hook == "pack_failed"]
    assert [pack for pack, _ in failures] == ["p0001"]
    assert "\n" not in failures[0][1]
    shown = (tmp_path / "shown").read_text()
    assert f"pack p0001 failed: {failures[0][1]}" in shown
    last = shown.splitlines()[-1]
    assert "100.0 %" in last
    assert "packs 3/4 done, 1 failed, 0 running" in last
    assert "networks 6/8" in last


def test_a_study_without_a_finished_network_is_told_as_stopped(tmp_path: Path) -> None:
    study = tiny(tmp_path)
    (study.folder / "packs").mkdir(parents=True)
    for n in range(4):
        (study.folder / "packs" / f"p000{n}").write_text("")
    scribe = Scribe()
    with pytest.raises(NasplugError, match="no network finished"):
        study.run("serial", observers=[scribe])
    assert scribe.story[-1][0] == "study_stopped"
    assert str(scribe.story[-1][1]).startswith("no network finished")
    last = read_events(study.folder / "events.jsonl")[-1]
    assert isinstance(last, StudyStopped)
    for n in range(4):
        (study.folder / "packs" / f"p000{n}").unlink()
    again = Scribe()
    whole_study = study.run("serial", observers=[again])
    whole(again, whole_study.folder)
    assert set(whole_study.frame["status"]) == {"finished"}


def test_two_studies_in_two_threads_hear_nothing_of_each_other(tmp_path: Path) -> None:
    meet = threading.Barrier(2, timeout=PATIENCE)

    class Meeting(Scribe):
        """Both studies run when either hears of its first pack."""

        @hookimpl
        def study_started(self, study: Mapping[str, Any], counts: Counts) -> None:
            super().study_started(study, counts)
            meet.wait()

    scribes = {name: Meeting() for name in ("one", "other")}
    done: dict[str, Study] = {}

    def run(name: str) -> None:
        done[name] = tiny(tmp_path / name).run("serial", observers=[scribes[name]])

    threads = [threading.Thread(target=run, args=(name,)) for name in scribes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name, scribe in scribes.items():
        whole(scribe, done[name].folder)
        assert done[name].untold == ()
    assert {*load_plugins().manager.get_plugins()}.isdisjoint(scribes.values())


class Deaf:
    def pack_finnished(self) -> None: ...


class Unmarked:
    def pack_finished(self) -> None: ...


class Half:
    @hookimpl
    def study_started(self) -> None: ...

    def study_finished(self) -> None: ...


class Misspelt:
    @hookimpl
    def pack_finnished(self, pack: str) -> None: ...


class OldArguments:
    @hookimpl
    def pack_reported(self, pack: str, metrics: Mapping[str, float]) -> None: ...


class Registering:
    @hookimpl
    def register_tasks(self, register: Any) -> None: ...


class Async:
    @hookimpl
    async def pack_finished(self) -> None: ...


class Impatient(Scribe):
    patience_seconds = "long"


class Unreadable(Scribe):
    def __getattr__(self, name: str) -> None:
        raise ValueError("do not look")


SCRIBE = Scribe()
INSTALLED = types.ModuleType("watching")
INSTALLED.study_finished = hookimpl(lambda: None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([SCRIBE, Scribe(), SCRIBE], r"Scribe is given twice; give each observer once"),
        ([INSTALLED], r"observer watching is an installed plugin, which hears every study"),
        ([Deaf()], r"Deaf has no hook of an observer\. The hooks of an observer: study_started\(study, folder, counts\), "),
        ([None], r"NoneType has no hook of an observer"),
        ([Unmarked()], r"Unmarked: pack_finished is not marked; write @nasplug\.hookimpl above it"),
        ([Half()], r"Half: study_finished is not marked"),
        ([Misspelt()], r"Misspelt: pack_finnished is no hook\. Did you mean 'pack_finished'\? The hooks of an observer: "),
        ([OldArguments()], r"OldArguments has a hook with other arguments: .*metrics.*pack_reported\(pack, progress\)"),
        ([Registering()], r"Registering: register_tasks is a plugin's hook, which no run calls"),
        ([Async()], r"Async: pack_finished is async, and nobody awaits it"),
        ([Scribe], r"Scribe is a class; needed: an object of it, Scribe\(\)"),
        ([Impatient()], r"Impatient: patience_seconds is no number; needed: a number of seconds"),
        ([Unreadable()], r"Unreadable cannot be looked at: ValueError: do not look"),
        (SCRIBE, r"observers: Scribe; needed: a list"),
        ("scribe", r"observers: str; needed: a list"),
    ],
)
def test_what_would_never_be_called_is_refused_before_anything_runs(tmp_path: Path, given: Any, told: str) -> None:
    plugins = load_plugins.__wrapped__()
    plugins.add(INSTALLED, "watching", "nasplug-watching", "1.2.3")
    with pytest.raises(PluginError, match=told):
        Study(tiny(tmp_path).config, plugins).run("serial", observers=given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_under_ray_as_under_serial(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Angry:
        @hookimpl
        def pack_reported(self) -> None:
            raise ValueError("oh no")

    study = tiny(tmp_path)
    (study.folder / "packs").mkdir(parents=True)
    (study.folder / "packs" / "p0001").write_text("a file where the pack's folder should be")
    scribe = Scribe()
    done = study.run("ray", observers=[Angry(), scribe])
    assert done.frame["status"].value_counts().to_dict() == {"finished": 6, "failed": 2}
    assert {what for hook, what in scribe.heard if hook == "pack_finished"} == {"p0000", "p0002", "p0003"}
    ((failed, reason),) = (what for hook, what in scribe.heard if hook == "pack_failed")
    assert failed == "p0001"
    assert "p0001" in reason
    assert (scribe.story[0][0], scribe.story[-1][0]) == ("study_started", "study_finished")
    told = [line for line in capfd.readouterr().err.splitlines() if "oh no" in line]
    assert len(told) == 1


def test_a_closed_standard_error_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Angry:
        @hookimpl
        def study_started(self) -> None:
            monkeypatch.setattr(sys, "stderr", None)
            raise ValueError("oh no")

    done = tiny(tmp_path).run("serial", observers=[Angry()])
    assert len(done.untold) == 1
