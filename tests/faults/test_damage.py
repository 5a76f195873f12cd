"""Files of a study that were cut, garbled or lost a bit: named, set aside and made again, or refused; never another result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nasplug import packs
from nasplug.compact import load
from nasplug.config import StudyConfig
from nasplug.errors import ConfigError, NasplugError
from nasplug.files import locked
from nasplug.hookspecs import Progress
from nasplug.plan import Pack
from nasplug.plugins import Plugins
from nasplug.runner import SerialRunner, Watch
from nasplug.study import Study

TINY: dict[str, Any] = {
    "study": "tiny",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
    "penalties": [{"use": "l1", "level": {"choice": [0.001, 0.01]}, "ramp": {"use": "linear"}}],
    "temperature": {"use": "linear", "start": 1.0, "end": 0.0, "until": 0.5},
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 40, "lr": 0.01, "finetune": 5, "reports": 4},
    "seeds": 2,
    "resources": {"pack": 2},
    "mlflow": None,
}


class Stop(SerialRunner):
    """As Ctrl-C, in the middle of the second pack."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        def reported(pack: str, progress: Progress) -> None:
            watch.reported(pack, progress)
            if pack == "p0001" and progress.step >= 20:
                raise KeyboardInterrupt

        SerialRunner.run(self, study, packs, plugins, replace(watch, reported=reported))


def tiny(store: Path) -> Study:
    return Study.from_dict({**TINY, "store": str(store)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("finished")
    return tiny(store).run("serial").folder


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pack is done, and of the other a checkpoint is there."""
    store = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs.training, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            tiny(store).run(Stop())
    folder = store / "tiny"
    assert (folder / "packs/p0001/checkpoint.safetensors").exists()
    return folder


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Bit for bit."""
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def flipped(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["replicas.parquet", "networks.safetensors", "pack.json"])
@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "missing"])
def test_a_damaged_pack_runs_again(
    name: str, how: str, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(finished, tmp_path)
    path = folder / "packs" / "p0001" / name
    content = path.read_bytes()
    if how == "flipped":
        flipped(path, 0.6)
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else b"")
    if how == "missing":
        path.unlink()
    done = tiny(tmp_path).run("serial")
    same(done.frame, Study.open(finished).frame)
    assert done.network("p0001/0001").record == Study.open(finished).network("p0001/0001").record
    if (how, name) != ("missing", "replicas.parquet"):  # a pack without its table is one that has not finished
        assert f"p0001/{name} cannot be read" in caplog.text
        assert "the pack runs again" in caplog.text
    assert "p0000" not in caplog.text
    assert path.with_name(f"{name}.damaged").exists() == (how != "missing")


@pytest.mark.parametrize("at", [0.0, 0.01, 0.2, 0.5, 0.9, 1.0])
def test_a_flipped_bit_in_a_checkpoint_is_no_result(
    at: float, finished: Path, interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(interrupted, tmp_path)
    flipped(folder / "packs/p0001/checkpoint.safetensors", at)
    same(tiny(tmp_path).run("serial").frame, Study.open(finished).frame)
    assert "checkpoint.safetensors cannot be read" in caplog.text
    assert "its steps are done again" in caplog.text
    assert (folder / "packs/p0001/checkpoint.safetensors.damaged").exists()
    assert json.loads((folder / "packs/p0001/pack.json").read_text())["seconds"]["resumed_at"] == 0


def test_a_good_checkpoint_is_gone_on_from(finished: Path, interrupted: Path, tmp_path: Path) -> None:
    folder = copied(interrupted, tmp_path)
    same(tiny(tmp_path).run("serial").frame, Study.open(finished).frame)
    assert json.loads((folder / "packs/p0001/pack.json").read_text())["seconds"]["resumed_at"] >= 20


@pytest.mark.parametrize("hurt", [False, True])
def test_a_pack_that_ended_just_before_it_was_tidy_does_not_run_again(
    hurt: bool, finished: Path, interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(finished, tmp_path)
    left = folder / "packs/p0001/checkpoint.safetensors"
    shutil.copy(interrupted / "packs/p0001/checkpoint.safetensors", left)
    if hurt:
        flipped(left, 0.5)
    written = (folder / "packs/p0001/replicas.parquet").stat().st_mtime_ns
    same(tiny(tmp_path).run("serial").frame, Study.open(finished).frame)
    assert (folder / "packs/p0001/replicas.parquet").stat().st_mtime_ns == written
    assert not left.exists()
    assert not caplog.text


def test_files_of_another_pack_are_not_taken(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = copied(finished, tmp_path)
    shutil.copy(folder / "packs/p0000/networks.safetensors", folder / "packs/p0001/networks.safetensors")
    same(tiny(tmp_path).run("serial").frame, Study.open(finished).frame)
    assert "networks.safetensors cannot be read: it belongs to another pack" in caplog.text


def test_one_run_at_a_time(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path)
    with locked(folder, "study 'tiny'"):
        with pytest.raises(ConfigError, match=r"study 'tiny' is running already \(process \d+ on .*wait until it ends"):
            tiny(tmp_path).run("serial")
        assert len(Study.open(folder).front()) > 0  # readers are never kept waiting
    tiny(tmp_path).run("serial")


HURT: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: 2 * len(content) // 3],
    "empty": lambda content: b"",
    "garbled": lambda content: bytes((7 * byte + 13) % 256 for byte in content),
    "early bit": lambda content: _with_bit(content, len(content) // 50),
    "late bit": lambda content: _with_bit(content, len(content) - 20),
}


def _with_bit(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("how", HURT)
@pytest.mark.parametrize("which", ["finished", "interrupted"])
def test_no_damage_of_any_file_becomes_another_result(
    which: str, how: str, finished: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each file of the folder in turn: refused in words, or made again bit-equal. Looking never changes anything."""
    folder: Path = request.getfixturevalue(which)
    wanted, network = Study.open(finished).frame, Study.open(finished).network().record
    told: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == ".lock" or path.suffix in (".png", ".csv", ".html") or "p0000" in path.parts:
            continue
        place = tmp_path / path.relative_to(folder).as_posix().replace("/", "_")
        place.mkdir()
        copy = copied(folder, place)
        hurt = copy / path.relative_to(folder)
        hurt.write_bytes(HURT[how](path.read_bytes()))
        try:
            seen = Study.open(copy)
            frame = seen.frame.set_index("replica")
            same(frame, wanted.set_index("replica").loc[frame.index])  # an interrupted one has fewer
            seen.network()
        except NasplugError as error:
            told.append(f"{hurt.name}: {error}")
        done = tiny(place).run("serial")
        same(done.frame, wanted)
        assert done.network().record == network
        assert load(copy / "best").record == network
    assert any("study.yaml cannot be read" in line for line in told)
