"""Kills, signals, hurt files, runs at once, at random moments: in the end the table is that of an undisturbed run, bit for bit.

NASPLUG_FAULT_SEEDS says how many moments of each kind are tried. A moment is one of the touches of files that a run makes, or a
time; both are drawn from the kind and the seed. What it hits differs from run to run, and what must hold does not.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml

from nasplug import files
from nasplug.packs import TABLE
from nasplug.study import Study
from tests.faults.broken_plugins import put
from tests.faults.clusters import ENVIRONMENT, head, node
from tests.faults.forking import Forks, forks
from tests.processes import PATIENCE, descendants, end, outliving

SEEDS = range(int(os.environ.get("NASPLUG_FAULT_SEEDS", "2")))
TINY: dict[str, Any] = {
    "study": "tiny",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}, "ramp": {"use": "linear"}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 40, "lr": 0.01, "finetune": 5, "reports": 4, "compile": False},
    "seeds": 2,
    "resources": {"pack": 2},
    "mlflow": None,
}
OFTEN = "import nasplug.packs.training\n\nnasplug.packs.training.CHECKPOINT_SECONDS = 0.0\n"
"""A plugin that changes no result: each report leaves a checkpoint."""
LONG = {"train": {**TINY["train"], "steps": 2000, "reports": 40}}
"""For Ray, of whose time most is that of processes that start."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    folder = tmp_path_factory.mktemp("often")
    put(folder, "nasplug-often", OFTEN)
    with forks([folder], ENVIRONMENT) as found:
        yield found


@dataclass(frozen=True)
class Desk:
    """Where a study is run again and again."""

    program: Forks
    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "runs" / "tiny"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def start(self, *command: object, touch: int = 0, number: int = 0, log: str = "log") -> int:
        words = command or ("run", self.home / "study.yaml", "--runner", "serial", "--quiet")
        return self.program.start(*words, log=self.home / log, store=self.home / "runs", touch=touch, number=number)

    def ended(self, pid: int) -> int:
        status = self.program.ended(pid, 3 * PATIENCE)
        if status is None:
            os.kill(pid, signal.SIGKILL)
        assert status is not None, self.log
        return status

    def finish(self) -> None:
        assert self.ended(self.start()) == 0, self.log

    @property
    def files(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*")}


def desk(program: Forks, home: Path, **changes: Any) -> Desk:
    (home / "study.yaml").write_text(yaml.safe_dump({**TINY, **changes, "store": str(home / "runs")}))
    return Desk(program, home)


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: what it left, how often it touched files, how long it took."""

    desk: Desk
    frame: pd.DataFrame
    best: Any
    touches: int
    seconds: float


@pytest.fixture(scope="module")
def whole(program: Forks, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    desk(program, tmp_path_factory.mktemp("warm")).finish()
    return undisturbed(desk(program, tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def long(program: Forks, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return undisturbed(desk(program, tmp_path_factory.mktemp("long"), **LONG))


def undisturbed(here: Desk) -> Whole:
    began = time.monotonic()
    here.finish()
    took = time.monotonic() - began
    done = Study.open(here.folder)
    return Whole(here, done.frame, done.network().record, int(here.log.split()[-1]), took)


def same(here: Desk, whole: Whole) -> None:
    """The table and the chosen network, bit for bit."""
    done = Study.open(here.folder)
    pd.testing.assert_frame_equal(done.frame, whole.frame, check_exact=True)
    assert done.network().record == whole.best
    assert "Traceback" not in here.log, here.log


def disturbed(here: Desk, whole: Whole, draw: random.Random, note: Callable[[str, object], None]) -> None:
    """A run that gets a signal at a random moment."""
    number = draw.choice(SIGNALS)
    if draw.random() < 0.7:
        touch = draw.randint(1, whole.touches)
        status = here.ended(here.start(touch=touch, number=number))
        moment = f"touch {touch}"
    else:
        pid, seconds = here.start(), draw.uniform(0, whole.seconds)
        time.sleep(seconds)
        os.kill(pid, number)
        status = here.ended(pid)
        moment = f"{seconds:.2f} s"
    # before a command has begun SIGTERM ends its process at once, as any other
    assert status in ((-9, 0) if number == signal.SIGKILL else (130, -number, 0)), (number, moment, here.log)
    note("moment", f"{number.name} {moment}: {status}")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_stopped_at_any_moment_goes_on(
    seed: int, program: Forks, whole: Whole, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """By SIGKILL, SIGTERM or SIGINT, up to three times."""
    draw, here = random.Random(f"stopped {seed}"), desk(program, tmp_path)
    for _ in range(draw.randint(1, 3)):
        disturbed(here, whole, draw, record_property)
    earned = {path: path.stat().st_mtime_ns for path in here.folder.glob(f"packs/*/{TABLE}")}
    here.finish()
    same(here, whole)
    assert here.files == whole.desk.files
    assert earned == {path: path.stat().st_mtime_ns for path in earned}


def hurt(path: Path, draw: random.Random) -> str:
    """A file loses its end, all, a bit, a part, or itself."""
    content, how = bytearray(path.read_bytes()), draw.choice(["cut", "empty", "bit", "garbled", "gone"])
    if how == "gone":
        path.unlink()
        return how
    if how == "cut":
        del content[draw.randrange(len(content) + 1) :]
    elif how == "empty":
        content.clear()
    elif content:
        at = draw.randrange(len(content))
        end = at + 1 if how == "bit" else draw.randint(at + 1, len(content))
        content[at:end] = bytes(byte ^ (1 << draw.randrange(8)) for byte in content[at:end])
    path.write_bytes(content)
    return how


def unlucky(here: Desk, draw: random.Random) -> str:
    """Hurt one of the files that results hang on; pictures and tables for people are made, and never read."""
    there = [path for path in sorted(here.folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    read = [path for path in there if path.suffix not in (".png", ".csv", ".html")]
    if not read:
        return "nothing"
    path = draw.choice(read)
    try:
        return f"{path.relative_to(here.folder)} {hurt(path, draw)}"
    except FileNotFoundError:  # a run has renamed or removed it meanwhile
        return "nothing"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_file_that_is_hurt_at_any_moment_is_made_again(
    when: str, seed: int, program: Forks, whole: Whole, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Between two runs, of which the first was finished or stopped; or while one runs."""
    draw, here = random.Random(f"hurt {when} {seed}"), desk(program, tmp_path)
    lost = []
    if when == "before":
        if draw.random() < 0.5:
            shutil.copytree(whole.desk.folder, here.folder)
        else:
            disturbed(here, whole, draw, record_property)
        for _ in range(draw.randint(1, 2)):
            lost.append(unlucky(here, draw))
    else:
        pid = here.start()
        for _ in range(draw.randint(1, 3)):
            time.sleep(draw.uniform(0, whole.seconds / 2))
            lost.append(unlucky(here, draw))
        status = here.ended(pid)
        record_property("status", status)
        assert status in (0, 1, 2), here.log  # 1 and 2: with words, and no traceback
    record_property("hurt", lost)
    status = here.ended(here.start())
    if status:  # whether the folder is this study's own cannot be known
        assert any(what.startswith("study.yaml ") for what in lost), here.log
        assert re.search(r"is not a study's folder|study\.yaml cannot be read", here.log.splitlines()[-3]), here.log
        shutil.rmtree(here.folder)
        here.finish()
    same(here, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_of_runs_at_once_one_runs_and_the_others_are_told(
    seed: int, program: Forks, whole: Whole, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Three begin at random moments, one of them may be killed; and somebody looks meanwhile."""
    draw, here = random.Random(f"at once {seed}"), desk(program, tmp_path)
    looks: list[tuple[object, ...]] = [("front", here.folder), ("status", tmp_path / "runs"), ("front", here.folder, "--json")]
    moments: list[tuple[float, tuple[object, ...]]] = [(draw.uniform(0, whole.seconds), ()) for _ in range(3)]
    moments += [(draw.uniform(0, 2 * whole.seconds), look) for look in looks]
    running: list[tuple[int, bool, str]] = []
    began = time.monotonic()
    for number, (moment, command) in enumerate(sorted(moments, key=lambda each: each[0])):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        running.append((here.start(*command, log=f"log{number}"), not command, f"log{number}"))
    killed = draw.choice([pid for pid, runs, _ in running if runs]) if draw.random() < 0.3 else 0
    if killed:
        time.sleep(draw.uniform(0, whole.seconds / 2))
        os.kill(killed, signal.SIGKILL)
    for pid, runs, log in running:
        status, said = here.ended(pid), (tmp_path / log).read_text()
        assert "Traceback" not in said, said
        if runs:
            assert status in (0, 2) or (status == -9 and pid == killed), said
            assert ("is running already" in said) == (status == 2), said
        record_property("status", status)
    here_files = here.files
    (tmp_path / "log").touch()
    here.finish()
    same(here, whole)
    assert here.files == whole.desk.files
    assert killed or here_files == whole.desk.files


# -- Ray ---------------------------------------------------------------------------------------------------------------


WORKERS = ("ImplicitFunc", "Collector")  # the name that Ray gives to a function trainable, and ours
SHARED = ("worker", "driver", "collector", "node", "SIGTERM", "SIGINT")  # of which a cluster outlives
OWN = ("raylet", "gcs_server")  # of a Ray that the driver started
ALWAYS = ("worker", "driver", "node")  # of the others a seed is tried where seeds are asked for
ASKED = "NASPLUG_FAULT_SEEDS" in os.environ
VICTIMS = [(who, seed) for who in (*SHARED, *OWN) for seed in (SEEDS if ASKED else range(who in ALWAYS))]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, str]]:
    """The address and the process of a head, and the path of Python for its workers."""
    folder = tmp_path_factory.mktemp("often")
    put(folder, "nasplug-often", OFTEN)
    path = os.pathsep.join([str(folder), *sys.path])
    with head(PYTHONPATH=path) as (address, pid):
        yield address, pid, path


def reports(here: Desk) -> bool:
    with suppress(FileNotFoundError):
        return b"pack_reported" in (here.folder / "events.jsonl").read_bytes()
    return False


def strike(who: str, driver: int, beside: Sequence[int], draw: random.Random) -> str:
    """Kill one of the processes of a run, or send a signal to its driver; what was hit."""
    if who in ("SIGTERM", "SIGINT", "driver"):
        os.kill(driver, getattr(signal, who, signal.SIGKILL))
        return who
    if who == "node":
        end(beside[1])
        return who
    words = {"worker": "ImplicitFunc", "collector": "Collector"}.get(who, f"/{who} ")
    there = {process: line for pid in beside for process, line in descendants(pid, words).items()}
    if not there:
        return "nobody"
    process = draw.choice(sorted(there, key=lambda each: each.pid))
    with suppress(psutil.NoSuchProcess):
        process.kill()
    return Path(there[process].split()[0]).name


@pytest.mark.slow
@pytest.mark.parametrize(("who", "seed"), VICTIMS)
def test_whoever_is_killed_under_ray_the_table_is_the_same(
    who: str,
    seed: int,
    program: Forks,
    long: Whole,
    cluster: tuple[str, int, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A worker, the collector, a node, the driver; the raylet and the head of a Ray that the driver started itself."""
    draw, here = random.Random(f"{who} {seed}"), desk(program, tmp_path, **LONG)
    address, pid, path = cluster
    run: list[object] = ["run", here.home / "study.yaml", "--quiet"]
    with ExitStack() as others:
        beside = []
        if who in SHARED:
            run += ["--address", address]
            beside = [pid]
        if who == "node":
            beside.append(others.enter_context(node(address, PYTHONPATH=path)))
        driver = here.start(*run)
        soon = draw.random() < 0.25 and seed > 0
        until = time.monotonic() + PATIENCE
        while not (soon or reports(here)):
            assert time.monotonic() < until, here.log
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 8.0 if soon else long.seconds / 2))
        hit = strike(who, driver, beside or [driver], draw)
        status = here.ended(driver)
        record_property("moment", f"{'soon' if soon else 'training'} {hit}: {status}")
        if who in ("worker", "collector", "node"):
            assert status == 0, here.log
        elif who in SHARED:
            number = getattr(signal, who, signal.SIGKILL)
            assert status in ((-9, 0) if number == signal.SIGKILL else (130, -number, 0)), here.log
        else:
            assert status in (0, 1), here.log
        assert not outliving(descendants(pid, *WORKERS))
    begun = [path.parent for path in here.folder.glob("packs/*/checkpoint.safetensors") if not (path.parent / TABLE).exists()]
    here.finish()
    same(here, long)
    assert all(files.read_json(pack / "pack.json")["seconds"]["resumed_at"] > 0 for pack in begun)
    assert {name for name in here.files if name.partition("/")[0] != "ray"} == long.desk.files
