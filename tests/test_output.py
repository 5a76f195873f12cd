"""What is printed can be read: in any encoding and width, with any names, where the disk is full."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nasplug.cli import main
from nasplug.config import to_yaml
from nasplug.console import ERRORS, UNSEEN, console, data, one_line, padded, say, speak
from nasplug.drawing import draw_network, network_picture, save_png
from nasplug.errors import NasplugError
from nasplug.study import Study
from nasplug.tracking.places import talking

NAMES = ["名前のとても長い特徴量" * 3, "[/red]:smile:", "two\nlines\x1b[31m", "größe µm", "e\u0301te"]


def raw(folder: Path) -> dict[str, object]:
    return {
        "study": "output",
        "store": str(folder),
        "task": {"use": "table", "validation": "holdout", "path": str(folder / "table.csv"), "target": "y"},
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1.0e-4, 1.0e-2], "points": 3}, "ramp": {"use": "linear", "until": 0.5}}],
        "temperature": {"use": "linear", "start": 1.0, "end": {"choice": [0.0, 0.1]}, "until": 0.5},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 60, "lr": {"choice": [0.01, 0.02]}},
        "seeds": 2,
        "linear": False,
        "reach": None,
        "mlflow": None,
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study whose features have names of every kind."""
    folder = tmp_path_factory.mktemp("output")
    x = np.random.default_rng(0).normal(size=(120, len(NAMES)))
    pd.DataFrame(x, columns=NAMES).assign(y=x @ np.arange(1.0, len(NAMES) + 1)).to_csv(folder / "table.csv", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that no font has is no reason to say anything
        return Study.from_dict(raw(folder)).run("serial")


def printed(*command: str, encoding: str, patch: pytest.MonkeyPatch, columns: int | None = None) -> str:
    """What a command writes to a pipe of that encoding."""
    pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    with patch.context() as during:
        during.setattr(sys, "stdout", pipe)
        during.setenv("COLUMNS", "" if columns is None else str(columns))
        main.main(list(command), standalone_mode=False)
    pipe.seek(0)
    return pipe.read()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "latin-1", "cp437", "shift_jis"])
def test_any_encoding(done: Study, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    text = printed("front", str(done.folder), encoding=encoding, patch=monkeypatch)
    best = str(done.best()["replica"])
    (row,) = [line for line in text.splitlines() if best in line and ("▶" in line or ">" in line)]
    assert row.count(best) == 1
    assert "\x1b" not in text
    assert "[/red]:smile:" in text  # brackets and colons are a name's own
    assert ("名前" in text) == (encoding in ("utf-8", "shift_jis"))
    assert ("µ" in text) == (encoding in ("utf-8", "latin-1", "cp1252", "cp437"))
    for command in (["plan", str(done.folder / "study.yaml")], ["config", "show", str(done.folder / "study.yaml")]):
        assert "penalties" in printed(*command, encoding=encoding, patch=monkeypatch)


@pytest.mark.parametrize("columns", [1, 40, 60, 80, 100, None])
def test_any_width(done: Study, monkeypatch: pytest.MonkeyPatch, columns: int | None) -> None:
    text = printed("front", str(done.folder), encoding="utf-8", patch=monkeypatch, columns=columns)
    best, width = str(done.best()["replica"]), 160 if columns is None else max(columns, 40)
    table = [line for line in text.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
    picture = [line for line in text.splitlines() if "│" in line or "█" in line]
    assert max(map(cell_len, table + picture)) <= width
    assert "…" not in "".join(table)
    (row,) = [line for line in table if "▶" in line]
    assert best in row  # whole, to be copied
    heading = next(line for line in table if "replica" in line)
    assert "edges" in heading
    assert "valid error" in heading
    assert ("seed" in heading) == (width > 80)
    assert ("neurons" in heading) == (width > 100) == ("no room for" not in " ".join(text.split()))


@pytest.mark.parametrize("columns", [40, 80])
def test_a_plan_is_cut_nowhere(done: Study, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    text = printed("plan", str(done.folder / "study.yaml"), encoding="utf-8", patch=monkeypatch, columns=columns)
    assert max(cell_len(line) for line in text.splitlines() if line.startswith("│")) <= columns
    assert "…" not in text


def test_a_process_with_an_ascii_pipe(done: Study) -> None:
    env = os.environ | {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "COLUMNS": "80",
    }
    command = [sys.executable, "-m", "nasplug", "front", str(done.folder)]
    answer = subprocess.run(command, env=env, capture_output=True, check=True)
    text = answer.stdout.decode("ascii")
    assert not answer.stderr
    assert max(len(line) for line in text.splitlines() if line.startswith(("|", "+"))) <= 80
    assert any(str(done.best()["replica"]) in line and ">" in line for line in text.splitlines())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_every_command_says_in_one_line_that_its_output_is_full(
    done: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, file, table = str(done.folder), str(done.folder / "study.yaml"), str(done.folder.parent / "table.csv")
    commands = [
        ["--help"],
        ["--version"],
        ["plugins"],
        ["config", "show", file],
        ["config", "schema"],
        ["config", "validate", file],
    ]
    commands += [["plan", file], ["run", file, "--runner", "serial", "--quiet"], ["front", folder]]
    commands += [["extend", folder, "--runner", "serial", "--quiet"]]
    commands += [["look", table], ["predict", folder, table], ["explain", folder]]
    commands += [["export", folder, "--to", "python", "--out", str(tmp_path)], ["lineage", folder], ["reproduce", folder]]
    shutil.copytree(done.folder, tmp_path / "other")
    commands += [
        ["compare", folder, str(tmp_path / "other")],
        ["status", folder],
        ["doctor", str(done.folder.parent)],
        ["sync", folder],
    ]
    store = ["--store", str(done.folder.parent)]
    commands += [["register", folder, "--name", "full"], ["promote", "full", "--to", "1", *store], ["history", "full", *store]]
    search = {"use": "mixture", "per": "layer", "hidden": [2], "candidates": ["tanh", "relu"]}
    space = {"study": "space", "task": {"use": "xor", "samples": 8}, "method": search, "train": {"steps": 2}, "mlflow": None}
    (tmp_path / "space.yaml").write_text(json.dumps(space | {"discretizers": [{"use": "argmax"}]}), encoding="utf-8")
    commands += [["enumerate", str(tmp_path / "space.yaml"), "--plan"]]
    apart = {"ui", "stop", "rollback", "arrive"}  # they need a server, a study that runs, two champions, a study that was sent
    assert {command[0] for command in commands} >= set(main.commands) - apart
    for command in commands:
        full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115  (closing it fails, too)
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main.main(command)
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
        told = capsys.readouterr().err.splitlines()
        assert ended.value.code == 1, command
        assert [line for line in told if not line.startswith("Read: ")] == [told[-1]], command
        assert "cannot be written: No space left on device" in told[-1]


def test_a_closed_pipe_and_a_full_one_end_a_process_in_silence_or_one_line(done: Study) -> None:
    command = [sys.executable, "-m", "nasplug", "config", "show", str(done.folder / "study.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (1, b"")
    with open("/dev/full", "wb") as full:
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1


def test_control_characters_reach_no_page_and_no_terminal(done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a name or a label holds is written out: ESC starts commands of terminals, and no XML may have it."""
    page, network = (done.folder / "report.html").read_text(encoding="utf-8"), done.network()
    assert "\\x1b[31m" in page
    for text in (page, network._repr_html_(), repr(network)):
        assert not UNSEEN.search(text)
    for terminal, told in ((True, "a\\x1b[31m,1\n"), (False, "a\x1b[31m,1\n")):  # piped data stay what they are
        stream = io.StringIO()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stdout", stream)
        data("a\x1b[31m,1\n")
        assert stream.getvalue() == told


def test_errors_are_in_the_streams_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", pipe)
    with pytest.raises(SystemExit) as ended:
        main.main(["plan", "größe.yaml"], standalone_mode=False)
    assert ended.value.code == 2
    pipe.seek(0)
    assert pipe.read().startswith("Error: gro?e.yaml: cannot be read")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_is_too_much_for_an_encoding(text: str) -> None:
    speak()
    for encoding in ("ascii", "cp1252", "cp437", "shift_jis"):
        assert isinstance(text.encode(encoding, ERRORS), bytes)
    assert "\n" not in one_line(text)
    assert "\x1b" not in one_line(text)


@given(st.text(), st.integers(1, 40))
def test_padded_text_has_its_cells(text: str, cells: int) -> None:
    assert cell_len(padded(text, cells)) == cells
    assert cell_len(padded(text, cells, right=True)) == cells


def test_a_stand_in_is_as_wide_as_what_it_stands_for() -> None:
    for text in ("▶ ◆ ○ ─│└ █▌ ⠿⡀ 5.2 ± 0.1 · λ² →", "größe", "名前"):
        assert len(text.encode("ascii", ERRORS)) == cell_len(text)


def test_say_writes_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("out")
    say("wrong", error=True, end="")
    assert capsys.readouterr() == ("out\n", "wrong")


def test_the_width_of_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("", 160), ("wide", 160), ("100", 100), ("0", 40), ("3", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        assert console(io.StringIO()).width == width


def test_pictures_of_names_that_no_font_has_are_silent(done: Study, tmp_path: Path) -> None:
    network = done.network(str(done.front().iloc[-1]["replica"]))
    assert any("名前" in name for name in network.first_names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_png(draw_network(network), tmp_path / "network.png")
    lines = network_picture(network, columns=60).splitlines()
    bars = [line for line in lines if "█" in line]
    assert len({cell_len(line.partition("█")[0]) for line in bars}) == 1  # bars begin in one column
    assert max(map(cell_len, bars)) <= 60


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_same_command_heals_it(done: Study, tmp_path: Path) -> None:
    """No file may be larger than 40 kB: pictures and the report are."""
    (tmp_path / "table.csv").write_bytes((done.folder.parent / "table.csv").read_bytes())
    (tmp_path / "study.yaml").write_text(to_yaml(raw(tmp_path)), encoding="utf-8")
    command = f"{sys.executable} -m nasplug run {tmp_path / 'study.yaml'} --runner serial --quiet"
    full = subprocess.run(["bash", "-c", f"ulimit -f 40; {command}"], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert "cannot be written" in full.stderr
    assert full.stderr.endswith("File too large); mend that and run the same command again\n")
    healed = subprocess.run(command.split(), capture_output=True, text=True, check=True)
    assert "Error" not in healed.stderr
    assert (tmp_path / "output" / "report.html").stat().st_size > 40 * 1024


def test_a_database_on_a_full_disk_is_told_without_its_sql(tmp_path: Path) -> None:
    """SQLite itself says it, of a database that may not have more pages."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'small.db'}")

    def fill() -> None:
        with talking("sqlite:///small.db", retries=0, seconds=1, told="Then sync"), engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 2")
            connection.exec_driver_sql("CREATE TABLE large (value TEXT)")
            connection.exec_driver_sql("INSERT INTO large VALUES (?)", ("x" * 100_000,))

    with pytest.raises(NasplugError, match=r"database or disk is full; make room on its disk\. Then sync") as ended:
        fill()
    assert "INSERT" not in str(ended.value)
