"""What is known of a machine's pace: kept, read again, told; how it sizes packs, and that it changes no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nasplug import files
from nasplug.cli import main
from nasplug.config import parse
from nasplug.plan import Shape, calibration_of, keep_pace, measure, sizings
from nasplug.plan.calibration import Best, Calibration, keep_best
from nasplug.plugins import load_plugins
from nasplug.study import Study

SMALL: dict[str, Any] = {
    "study": "small",
    "task": {"use": "xor", "samples": 20},
    "method": {"use": "edges", "mode": "l1", "hidden": [4]},
    "penalties": [{"use": "l1", "level": 0.001}],
    "discretizers": [{"use": "threshold", "eps": 0.01}],
    "train": {"steps": 40, "lr": 0.01, "compile": False},
    "seeds": 100,
    "linear": False,
    "mlflow": None,
}
ONE = Shape("edges l1 adam float32", 17, 5, 20)
OTHER = Shape("edges l1 adam float32", 34, 10, 20)
RESOURCES = parse(SMALL).resources


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which nothing is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def study(store: Path, **changes: Any) -> Study:
    return Study.from_dict({**SMALL, "store": str(store), **changes})


def test_a_pace_is_guessed_then_scaled_then_measured() -> None:
    def pace() -> tuple[float, str]:
        return calibration_of(RESOURCES).pace(OTHER, 64, compiled=False)

    assert pace() == (float(OTHER.numbers), "guessed")
    keep_pace(RESOURCES, "cpu", ONE, 64, 3.0 * ONE.numbers, compiled=False)
    found = pace()
    assert found[1] == "scaled"
    assert found[0] == pytest.approx(3.0 * OTHER.numbers)
    assert calibration_of(RESOURCES).pace(OTHER, 64, compiled=True).source == "guessed"
    keep_pace(RESOURCES, "cpu", OTHER, 64, 500.0, compiled=False)
    assert pace() == (500.0, "measured")
    assert calibration_of(RESOURCES).pace(ONE, 64, compiled=False).nanoseconds == pytest.approx(3.0 * ONE.numbers, rel=1e-3)


def test_threads_and_devices_have_their_own_paces() -> None:
    keep_pace(RESOURCES, "cpu", ONE, 64, 100.0, compiled=False)
    assert calibration_of(RESOURCES.model_copy(update={"cpus": 2})).pace(ONE, 64, compiled=False).source == "guessed"
    assert calibration_of(RESOURCES.model_copy(update={"gpus": 1})).pace(ONE, 64, compiled=False).source == "guessed"


@pytest.mark.parametrize("content", ["", "{}", '{"shapes": 3}', "garbled"])
def test_a_damaged_file_is_made_again(cache: Path, content: str) -> None:
    keep_pace(RESOURCES, "cpu", ONE, 64, 100.0, compiled=False)
    (path,) = (cache / "nasplug/paces").iterdir()
    path.write_text(content)
    assert calibration_of(RESOURCES).pace(ONE, 64, compiled=False).source == "guessed"
    keep_pace(RESOURCES, "cpu", ONE, 64, 100.0, compiled=False)
    assert calibration_of(RESOURCES).pace(ONE, 64, compiled=False) == (100.0, "measured")


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_pace(RESOURCES, "cpu", ONE, 64, 100.0, compiled=False)
    assert calibration_of(RESOURCES).pace(ONE, 64, compiled=False).source == "guessed"


@given(
    times=st.dictionaries(st.integers(1, 5000), st.floats(1.0, 1e6), min_size=1, max_size=5),
    rows=st.integers(1, 10_000),
    gpu=st.booleans(),
)
def test_between_sizes_a_pace_lies_between_theirs(times: dict[int, float], rows: int, gpu: bool) -> None:
    plain = {str(k): ns for k, ns in times.items()}
    known = Calibration("a device", gpu, {str(ONE): {"numbers": ONE.numbers, "eager": plain}})
    pace = known.pace(ONE, rows, compiled=False).nanoseconds
    if rows >= min(times):
        assert min(times.values()) * (1 - 1e-9) <= pace <= max(times.values()) * (1 + 1e-9)
    elif gpu:
        assert pace * rows == pytest.approx(times[min(times)] * min(times)), "a smaller pack takes a GPU as long"
    else:
        assert pace == times[min(times)]
    if rows in times:
        assert pace == times[rows]


def test_packs_that_train_leave_their_pace(tmp_path: Path) -> None:
    done = study(tmp_path, train=SMALL["train"] | {"reports": 4}, resources={"pack": 50}).run("serial", report=False)
    (path,) = (tmp_path / "cache/nasplug/paces").iterdir()
    (shape,) = files.read_json(path)["shapes"].values()
    assert list(shape["eager"]) == ["50"]
    assert set(done.frame["status"]) == {"finished"}


def test_measured_sizes_make_packs_and_change_no_network(tmp_path: Path) -> None:
    """Which size is fastest is a matter of time; that plans keep to it, say so, and train the same networks is tested."""
    guessed = study(tmp_path / "a")
    packs = guessed.plan()
    assert list(sizings(guessed.config, packs, guessed.plugins)) == ["guessed from what a CPU's caches hold"]
    measure(guessed.config, packs, guessed.plugins)
    known = calibration_of(RESOURCES)
    (shape,) = known.shapes
    assert known.shapes[shape]["best"]["rows"] in {16, 64, 100}
    _, parameters, units, samples = shape.rsplit(", ", 3)
    kind = Shape(shape.rsplit(", ", 3)[0], *(int(words.split()[0]) for words in (parameters, units, samples)))
    assert str(kind) == shape
    keep_best(RESOURCES, "cpu", kind, Best(20, 123.0, 0.0))
    measured = study(tmp_path / "b")
    packs = measured.plan()
    assert max(pack.rows for pack in packs) <= 20
    (why,) = sizings(measured.config, packs, measured.plugins)
    assert why.startswith("measured on ")
    assert "20 networks, 123 ns for each of them and step" in why
    whole = study(tmp_path / "c", resources={"pack": 100}).run("serial", report=False).frame.sort_values("seed")
    split = measured.run("serial", report=False).frame.sort_values("seed")
    np.testing.assert_allclose(whole["valid_loss"], split["valid_loss"], rtol=1e-4, atol=1e-6)
    assert whole["edges"].tolist() == split["edges"].tolist()
    stopping = study(tmp_path / "d", stop={"use": "halving", "rungs": 1, "keep": 0.5}, train=SMALL["train"])
    (why,) = sizings(stopping.config, stopping.plan(), stopping.plugins)
    assert why.startswith("measured"), "which networks halving stops is no matter of packs"


def test_the_plan_says_how_it_knows_the_sizes_of_packs(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps({**SMALL, "store": str(tmp_path)}))
    load_plugins()
    said = CliRunner().invoke(main, ["plan", str(path), "--fast"])
    assert said.exit_code == 0, said.output
    assert "Pack sizes: guessed from what a CPU's caches hold. nasplug plan --measure times" in said.output
    said = CliRunner().invoke(main, ["plan", str(path), "--fast", "--measure"])
    assert said.exit_code == 0, said.output
    assert "Pack sizes: measured on " in said.output
    found = json.loads(CliRunner().invoke(main, ["plan", str(path), "--fast", "--json"]).output)
    assert [why.split()[0] for why in found["pack_sizes"]] == ["measured"]
    assert list(found["pack_sizes"].values()) == [["p0000"]]
