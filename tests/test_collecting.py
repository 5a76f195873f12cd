"""Files of packs on their way to the driver's folder: whole or not at all, by one worker at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasplug import collecting, files
from nasplug.collecting import Collector, Courier
from nasplug.errors import NasplugError

TABLE = "replicas.parquet"


class LostError(Exception):
    """The worker is gone."""


class Way:
    """Between a courier and a collector; after so many calls the worker is gone, and so many bits of a part may be turned."""

    def __init__(self, collector: Collector, calls: int = 10**9) -> None:
        self.collector = collector
        self.left = calls
        self.calls: list[tuple[Any, ...]] = []
        self.garble = False

    def __call__(self, method: str, *arguments: Any) -> Any:
        if not self.left:
            raise LostError
        self.left -= 1
        self.calls.append((method, *arguments))
        if method == "write" and self.garble:
            *before, part, last = arguments
            arguments = (*before, part[:-1] + bytes([part[-1] ^ 1]), last)
        return getattr(self.collector, method)(*arguments)


def sealed(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    files.write_json(folder / name, {"text": text})
    return folder / name


def pairs(tmp: Path, calls: int = 10**9) -> tuple[Way, Courier]:
    way = Way(Collector(str(tmp / "packs")), calls)
    return way, Courier(way, "p0000", tmp / f"scratch{calls}")


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.text(max_size=99), min_size=1, max_size=4),
    part=st.integers(1, 400),
    calls=st.integers(1, 30),
    at=st.data(),
)
def test_a_file_is_there_whole_or_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], part: int, calls: int, at: st.DataObject
) -> None:
    tmp, before = tmp_path_factory.mktemp("way"), collecting.PART
    collecting.PART = part
    try:
        _, first = pairs(tmp)
        assert first.fetch(["checkpoint"], unless=TABLE)
        old = sealed(first.folder, "checkpoint", texts[0]).read_bytes()
        first.finish(TABLE)
        there = tmp / "packs/p0000"
        assert (there / "checkpoint").read_bytes() == old
        _, second = pairs(tmp, calls)  # goes on from there, and is lost on its way
        sent = {"checkpoint": {old}}
        try:
            assert second.fetch(["checkpoint"], unless=TABLE)
            assert (second.folder / "checkpoint").read_bytes() == old
            for number, text in enumerate(texts):
                name = at.draw(st.sampled_from(["checkpoint", "other"]))
                sent.setdefault(name, set()).add(sealed(second.folder, name, f"{number}{text}").read_bytes())
                second.finish(TABLE)
        except LostError:
            pass
        for name, contents in sent.items():
            assert not (there / name).exists() or (there / name).read_bytes() in contents
        assert (there / "checkpoint").exists()
        pairs(tmp)[1].fetch([], unless=TABLE)  # sweeps what came in part
        assert {path.name for path in there.iterdir()} <= set(sent)
    finally:
        collecting.PART = before


def test_what_was_garbled_on_its_way_is_refused(tmp_path: Path) -> None:
    way, courier = pairs(tmp_path)
    courier.fetch([], unless=TABLE)
    good = sealed(courier.folder, "pack.json", "good").read_bytes()
    courier.finish(TABLE)
    sealed(courier.folder, "pack.json", "other")
    way.garble = True
    with pytest.raises(NasplugError, match=r"p0000/pack.json did not arrive as it was sent: .*digest does not fit"):
        courier.finish(TABLE)
    assert (tmp_path / "packs/p0000/pack.json").read_bytes() == good


def test_the_table_comes_last_and_what_is_gone_is_dropped(tmp_path: Path) -> None:
    way, courier = pairs(tmp_path)
    courier.fetch([], unless=TABLE)
    sealed(courier.folder, "checkpoint", "here")
    courier.send()
    assert [call[0] for call in way.calls] == ["begin", "write"]
    courier.send()  # nothing has changed
    assert len(way.calls) == 2
    for name in (TABLE, "a.json", "z.json"):
        sealed(courier.folder, name, name)
    (courier.folder / "checkpoint").unlink()
    (courier.folder / "old.damaged").write_text("stays here")
    courier.finish(TABLE)
    assert [call[3] for call in way.calls[2:]] == ["a.json", "z.json", TABLE, "checkpoint"]
    assert sorted(path.name for path in (tmp_path / "packs/p0000").iterdir()) == ["a.json", TABLE, "z.json"]
    assert not Courier(way, "p0000", tmp_path / "again").fetch([], unless=TABLE)


def test_a_call_whose_answer_was_lost_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector was killed when it had written the last part; the one that is started anew gets the same call."""
    monkeypatch.setattr(collecting, "PART", 16)
    way, courier = pairs(tmp_path)
    courier.fetch([], unless=TABLE)
    sealed(courier.folder, TABLE, "x" * 100)
    courier.finish(TABLE)
    writes = [call[1:] for call in way.calls if call[0] == "write"]
    assert len(writes) > 2
    there, wanted = tmp_path / "packs/p0000" / TABLE, (courier.folder / TABLE).read_bytes()
    anew = Collector(str(tmp_path / "packs"))
    anew.write(*writes[-1])
    assert there.read_bytes() == wanted
    pack, worker, name, at, part, last = writes[-1]
    with pytest.raises(NasplugError, match="cannot be written"):
        anew.write(pack, worker, name, at, part[:-1] + b"?", last)
    with pytest.raises(NasplugError, match="cannot be written"):
        anew.write(*writes[-2])
    assert there.read_bytes() == wanted


def test_checkpoints_take_a_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(collecting.time, "monotonic", lambda: now[0])
    way, courier = pairs(tmp_path)
    courier.fetch([], unless=TABLE)

    def slow(*call: Any) -> Any:
        now[0] += 2.0
        return way(*call)

    courier._call = slow
    sent = []
    for step in range(90):
        sealed(courier.folder, "checkpoint", str(step))
        courier.send()
        sent.append(len(way.calls))
        now[0] += 1.0
    assert sent[-1] - 1 == 3
    courier.finish(TABLE)
    assert files.read_json(tmp_path / "packs/p0000/checkpoint") == {"text": "89"}


def test_a_worker_that_was_taken_to_be_dead_writes_no_more(tmp_path: Path) -> None:
    way, first = pairs(tmp_path)
    first.fetch([], unless=TABLE)
    sealed(first.folder, "checkpoint", "late")
    Courier(way, "p0000", tmp_path / "second").fetch([], unless=TABLE)
    with pytest.raises(NasplugError, match="another worker has taken over pack p0000"):
        first.send()
    assert not list((tmp_path / "packs/p0000").iterdir())


@pytest.mark.parametrize("names", [("../p", "x"), ("p", "../../x"), ("p", ".."), ("", "x"), ("p", "a/b")])
def test_nothing_is_written_elsewhere(tmp_path: Path, names: tuple[str, str]) -> None:
    collector = Collector(str(tmp_path / "packs"))
    with pytest.raises(NasplugError, match="is no file of a pack"):
        collector.write(names[0], "w", names[1], 0, b"", True)
    with pytest.raises(NasplugError, match="is no file of a pack"):
        collector.read(names[0], names[1], 0)


def test_the_collector_is_light() -> None:
    """It is a process of its own beside the driver."""
    code = "import sys, nasplug.collecting; print(sorted({'torch', 'pandas', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
