"""Every form says what the network says: random networks, every activation, words, gaps, dates, every kind of task."""

from __future__ import annotations

import ctypes
import json
import runpy
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime
import pandas as pd
import pytest
import torch
from hypothesis import given, settings

from nasplug.activations import FUNCTIONS
from nasplug.compact import CompactNetwork, compact, digest_of
from nasplug.data.columns import from_frames
from nasplug.data.transforms import TransformName
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError
from nasplug.export import asked, c, checking, compiling, export, fixed, import_graphs, program, sql
from nasplug.export.fixed import scaled_weights
from nasplug.export.forms import FORMS
from nasplug.export.program import Neuron
from nasplug.export.rows import made_up
from nasplug.networks import Networks, harden
from nasplug.records import output_names
from nasplug.study import Study
from nasplug.tasks import Task, scored
from nasplug.tasks.losses import poisson
from nasplug.testing import example_networks

from .processes import PATIENCE, outliving
from .stand_ins import records

ROWS = 120
CC = shutil.which("gcc") or shutil.which("cc")
HERE = [form for form in FORMS.values() if CC is not None or form.name not in ("c", "fixed")]


def table(seed: int = 0) -> pd.DataFrame:
    """A column of each kind, with gaps, codes, rare words and a date far from 1970 beside its spread."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 90, ROWS).astype(float)
    age[::9] = -999
    colour = random.choice(np.array(["red", "blue", 'it\'s "odd" */', None], dtype=object), ROWS, p=[0.4, 0.3, 0.2, 0.1])
    colour[:2] = "rare"
    when = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 10**6, ROWS), unit="s")
    return pd.DataFrame(
        {
            "age of\nowner": age,
            "colour": colour,
            "when": when,
            "sold": random.choice([True, False], ROWS),
            "for": random.normal(1e6, 1.0, ROWS),
            "größe": np.where(random.random(ROWS) < 0.2, np.nan, random.random(ROWS)),
        }
    )


def task_of(kind: str = "regression", transform: TransformName = "none", rows: pd.DataFrame | None = None) -> Task:
    rows = table() if rows is None else rows
    random = np.random.default_rng(1)
    answers = {
        "regression": {"price": 100.0 + 20.0 * random.random(ROWS)},
        "several": {"price": 5.0 + random.random(ROWS), "rent": 1e4 * (1 + random.random(ROWS))},
        "binary": {"label": random.choice(["no", 'it\'s "yes"'], ROWS)},
        "classes": {"label": random.choice(["a", "b", "c"], ROWS)},
    }[kind]
    return from_frames(
        rows,
        pd.DataFrame(answers),
        name="rows",
        where="rows",
        source="rows",
        missing={"age of\nowner": "indicator", "colour": "category", "größe": "median"},
        numeric="piecewise",
        bins=3,
        transform=transform,
        codes={"age of\nowner": [-999.0]},
    )


def network_of(task: Task, seed: int = 0) -> CompactNetwork:
    """A random network on a task: small weights, as networks that were trained have."""
    nets = harden(example_networks(seed, 1, (task.inputs, 4, 3, task.outputs), ("biases", "gates", "choices")))
    nets = replace(nets.map(torch.Tensor.float), blocks={edge: 0.4 * w.float() for edge, w in nets.blocks.items()})
    return compact(nets, 0, task)


def told(network: CompactNetwork, out: Path, task: Task | None = None, forms: str = "") -> dict[str, Any]:
    found = export(network, "my study", asked(forms) if forms else HERE, out, task)
    return {form.form: form for form in found.forms}


@pytest.mark.parametrize(
    ("kind", "transform"),
    [
        ("regression", "none"),
        ("several", "none"),
        ("several", "log"),
        ("regression", "rank"),
        ("binary", "none"),
        ("classes", "none"),
    ],
)
def test_forms_answer_raw_rows_as_the_network_does(kind: str, transform: TransformName, tmp_path: Path) -> None:
    task = task_of(kind, transform)
    found = told(network_of(task), tmp_path, task)
    for name, form in found.items():
        if name == "formula" and transform == "rank":
            assert "rank" in form.refused
            continue
        assert not form.refused, form
        assert form.difference <= (1e-5 if FORMS[name].exact else 0.01)
        assert form.error is not None
        assert all((tmp_path / file).exists() for file in form.files)


def every_activation() -> Networks:
    """Each of ours once, in one layer, squares of small numbers."""
    names = tuple(FUNCTIONS)
    nets = harden(example_networks(3, 1, (3, len(names), 2), ("biases",)))
    nets = nets.map(torch.Tensor.float)
    nets.blocks[1, 0][:, names.index("square")] *= 0.2
    nets.biases[1][:, names.index("square")] *= 0.2
    return replace(nets, choices={1: torch.eye(len(names)).unsqueeze(0)}, candidates=names)


def test_every_activation_is_in_every_form(tmp_path: Path) -> None:
    network = compact(every_activation(), 0)
    assert set(network.names) == set(FUNCTIONS)
    for form in told(network, tmp_path).values():
        assert not form.refused, form
        assert form.error is None  # no task, no score
        assert set(form.figures) <= {"flash_bytes", "ram_bytes"}


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_c_is_refused_without_a_compiler_and_where_its_test_vectors_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, honest = network_of(task_of("binary")), FORMS["c"]

    def wrong(network: Any, name: str) -> dict[str, str]:
        return {
            file: text.replace("answers[at][o])", "answers[at][o] - 1)") for file, text in honest.write(network, name).items()
        }

    def mislabelled(network: Any, name: str) -> dict[str, str]:
        return {
            file: text.replace("return y[0] > 0.5f", "return y[0] < 0.5f") for file, text in honest.write(network, name).items()
        }

    for write, word in ((wrong, "answers differ"), (mislabelled, "another label")):
        assert word in export(network, "n", [replace(honest, write=write)], tmp_path).forms[0].refused
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no gcc or cc" in told(network, tmp_path, forms="c")["c"].refused


def test_forms_that_stand_beside_the_chosen_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run before it is written; those of an earlier network go, and so does what cannot be written now."""
    task = task_of("binary")
    network, rows = network_of(task), table()[:9]
    wanted = network.predict(rows)[output_names(network.record)[0]]
    checking.alone(network, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"network.py", "network.onnx", "graph.pt2", "export.json"}
    graph = torch.export.load(tmp_path / "graph.pt2").module()
    with torch.no_grad():
        np.testing.assert_allclose(graph(torch.from_numpy(network.features(rows)))[:, 0], wanted, atol=1e-6)
    checked = {form["form"]: form for form in json.loads((tmp_path / "export.json").read_text())["forms"]}
    assert set(checked) == {"python", "onnx", "pt2"}
    assert all(form["difference"] < 1e-5 and not form["refused"] for form in checked.values())
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    monkeypatch.setattr(checking, "LARGE", 3)
    checking.alone(network_of(task, 1), tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"graph.pt2", "export.json"}
    checking.alone(network, tmp_path, graphs=False)
    assert not list(tmp_path.iterdir())


EXTREMES = """
#include "net_fixed.h"
int main(void) {
  unsigned random = 1;
  int32_t z[2], sum = 0;
  for (int at = 0; at < 200000; at++) {
    int16_t x[3];
    for (int i = 0; i < 3; i++) {
      random = random * 1664525u + 1013904223u;
      x[i] = random % 1000 < 200 ? -32768 : random % 1000 < 400 ? 32767 : (int16_t)(random >> 16);
    }
    net_fixed(x, z);
    sum ^= z[0] ^ z[1];
  }
  return sum == 12345;
}
"""


@pytest.mark.skipif(CC is None, reason="no C compiler")
@pytest.mark.parametrize("activation", ["relu", "tanh", "sin"])
def test_what_no_answer_reads_in_whole_numbers_is_left_out(activation: str, tmp_path: Path) -> None:
    """A neuron whose weights are all rounded to 0, and what it alone reads: a compiler refuses what nothing uses."""
    nets = example_networks(0, 1, (3, 2, 1, 2), ("biases", "gates"))
    blocks = {edge: w.float() for edge, w in nets.blocks.items()}
    blocks[2, 1] = torch.full_like(blocks[2, 1], 0.5)
    blocks[3, 2] = torch.full_like(blocks[3, 2], 1e-7)
    nets = replace(nets.map(torch.Tensor.float), blocks=blocks, choices={}, candidates=(activation,))
    text = fixed.written(program(compact(harden(nets), 0), "net"))["net_fixed.h"]
    assert "h2_0" not in text
    form = told(compact(harden(nets), 0), tmp_path, forms="fixed")["fixed"]
    assert not form.refused, form.refused


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_no_reading_makes_whole_numbers_overflow(tmp_path: Path) -> None:
    for file, text in fixed.written(program(compact(every_activation(), 0), "net")).items():
        (tmp_path / file).write_text(text)
    (tmp_path / "extremes.c").write_text(EXTREMES)
    words = [str(CC), "-fsanitize=undefined", "-fno-sanitize-recover=all", "extremes.c", "-o", "extremes", "-lm"]
    made = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip("the compiler has no sanitizer of undefined behaviour")
    subprocess.run([str(tmp_path / "extremes")], check=True)


@pytest.mark.parametrize("seed", range(20))
def test_sums_of_whole_numbers_never_leave_32_bits(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = 10.0 ** random.uniform(-3, 3.5)
    neuron = Neuron(
        "relu", size * random.normal(), tuple((0, at, size * random.normal()) for at in range(random.integers(1, 9)))
    )
    try:
        shift, bias, weights = scaled_weights(neuron)
    except ConfigError:
        assert sum(abs(w) for _, _, w in neuron.terms) + abs(neuron.bias) / 16 > 2**15
        return
    assert abs(bias) + sum(abs(w) * 2**15 for w in weights) < 2**31
    assert all(
        abs(w) < 2**15 and abs(w / 2.0**shift - v) <= 2.0 ** -(shift + 1)
        for w, (_, _, v) in zip(weights, neuron.terms, strict=True)
    )
    assert shift == 15 or max(weights, key=abs) != 0


def test_onnx_has_names_and_fixed_shapes_and_a_message_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of(task_of("binary"))
    assert not told(network, tmp_path, forms="onnx")["onnx"].refused
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "my_study.onnx"), strict_mode=True, data_prop=True)
    assert [value.name for value in model.graph.input] == list(table())
    assert [value.name for value in model.graph.output] == ["label", 'P(it\'s "yes")', "P(no)"]
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        sizes = value.type.tensor_type.shape.dim
        assert [size.dim_param for size in sizes] == ["rows", ""], value.name
        assert sizes[1].dim_value > 0
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert set(about) == {"nasplug.digest", "nasplug.columns", "nasplug.answers"}
    assert about["nasplug.digest"] == digest_of(network)
    assert [column["name"] for column in json.loads(about["nasplug.columns"])] == list(table())
    assert (model.producer_name, model.producer_version) == ("nasplug", metadata.version("nasplug"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'nasplug[export]'" in told(network, tmp_path, forms="onnx")["onnx"].refused


@pytest.mark.slow
@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_another_compiler_makes_c_of_the_onnx_file(tmp_path: Path) -> None:
    """That of the quick start, trained shortly: `emx-onnx-cgen` and gcc make a function of it that answers the same."""
    pytest.importorskip("emx_onnx_cgen")
    short = ["train.steps=60", "train.finetune=0", "seeds=1", "mlflow=null", f"store={tmp_path}"]
    study = Study.from_yaml(Path(__file__).parents[1] / "configs" / "quickstart.yaml", short, fast=True)
    name = str(study.run("serial", report=False).front()["replica"].iloc[-1])
    network, task = study.network(name), study.task_of(name)
    assert not export(network, "small", asked("onnx"), tmp_path, task).forms[0].refused
    words = [sys.executable, "-m", "emx_onnx_cgen", "compile", "small_numbers.onnx", "small.c"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    words = [str(CC), "-std=c99", "-O2", "-shared", "-fPIC", "small.c", "-o", "small.so", "-lm"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    raw = task.test.x * task.input_scale.view(-1, 1) + task.input_shift.view(-1, 1)
    rows = pd.DataFrame(raw.T.double().numpy(), columns=list(task.features))
    wanted = network.predict(rows)
    names = json.loads(
        {entry.key: entry.value for entry in onnx.load(tmp_path / "small_numbers.onnx").metadata_props}["nasplug.answers"]
    )
    read = [value.name for value in onnx.load(tmp_path / "small_numbers.onnx").graph.input]
    given = [np.ascontiguousarray(rows[column]) for column in read]
    found = [np.empty(len(rows)) for _ in names]
    real = ctypes.POINTER(ctypes.c_double)
    ctypes.CDLL(str(tmp_path / "small.so")).model(len(rows), *(array.ctypes.data_as(real) for array in (*given, *found)))
    for answer, column in zip(found, names, strict=True):
        np.testing.assert_allclose(answer, wanted[column], rtol=0, atol=1e-5)


def test_onnx_answers_nan_where_a_value_is_missing_that_never_was(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"a": random.normal(size=ROWS), "w": random.choice(["1", "2"], ROWS)})
    task = from_frames(rows, pd.DataFrame({"y": random.normal(size=ROWS)}), name="n", where="n", source="")
    network = network_of(task)
    assert not told(network, tmp_path, task, "onnx")["onnx"].refused
    session = onnxruntime.InferenceSession((tmp_path / "my_study.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    given = [(0.5, "1"), (0.5, "1.0"), (0.5, ""), (np.nan, "1")]
    found = session.run(
        None,
        {
            name: np.array([row[at] for row in given], dtype=kind)[:, None]
            for at, (name, kind) in enumerate((("a", float), ("w", object)))
        },
    )[0][:, 0]
    assert found[0] == found[1]
    assert np.isnan(found).tolist() == [False, False, True, True]


def test_c_has_numbers_near_the_ends_of_a_float(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sizes = {"tiny": 1e-40, "large": 1e37, "one": 1.0}
    rows = pd.DataFrame({name: size * random.normal(size=ROWS) for name, size in sizes.items()})
    target = pd.DataFrame({name: size * random.normal(size=ROWS) for name, size in (("y", 1e-42), ("z", 1e37))})
    task = from_frames(rows, target, name="n", where="n", source="", numeric="piecewise", bins=3, missing="median")
    for form in export(
        network_of(task), "n", [form for form in HERE if form.name in ("c", "fixed", "sql")], tmp_path, task
    ).forms:
        assert not form.refused, form


def test_duckdb_says_the_same() -> None:
    duckdb = pytest.importorskip("duckdb")
    for kind, transform in (("several", "log"), ("regression", "rank"), ("classes", "none")):
        network = network_of(task_of(kind, transform))
        made = program(network, "net")
        rows = made_up(made, 40)
        database = duckdb.connect()
        types = ("VARCHAR" if column.kind == "category" else "DOUBLE" for column in made.columns)
        names = [f'"{column.name}" {kind}' for column, kind in zip(made.columns, types, strict=True)]
        database.execute(f'CREATE TABLE "rows" (id INTEGER, {", ".join(names)})')
        database.executemany(f'INSERT INTO "rows" VALUES ({", ".join("?" * (1 + len(names)))})', sql.cells(made, rows))
        found = sql.answered(made, rows, database.execute(sql.written(made)["net.sql"]).fetchall(), 1.0).answers
        wanted = network.predict(rows)
        assert list(found) == list(wanted)
        for name in wanted:
            if name == "label":
                assert (found[name] == wanted[name]).all()
            else:
                assert np.allclose(found[name].astype(float), wanted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(nets=records(hard=True))
def test_random_networks_are_the_same_in_every_form(tmp_path_factory: pytest.TempPathFactory, nets: Networks) -> None:
    network = compact(nets.map(torch.Tensor.float), 0)
    found = told(network, tmp_path_factory.mktemp("any"), forms="onnx,python,sql,formula" + (",c" if CC else ""))
    size = max(1.0, float(network(torch.randn(64, network.record["inputs"]).double()).detach().abs().max()))  # float32 of sums
    for form in found.values():
        if not network.widths[0] and form.form == "onnx":
            assert "reads nothing" in form.refused
            continue
        assert form.difference is not None, form
        assert form.difference <= 1e-5 * size, form


RAW: list[dict[str, Any]] = [
    {"age of\nowner": 30, "colour": "red", "when": "2024-01-05", "sold": True, "for": 1e6, "größe": 0.5},
    {
        "age of\nowner": "-999",
        "colour": " blue ",
        "when": "2024-01-05T12:30:15.5+01:30",
        "sold": "False",
        "for": "1e6",
        "größe": None,
    },
    {"age of\nowner": None, "colour": "", "when": "2024-02-29 23:59", "sold": 0, "for": 999_999, "größe": float("nan")},
    {
        "age of\nowner": -999.0,
        "colour": "never seen",
        "when": "1999-12-31T00:00:00Z",
        "sold": 1.0,
        "for": 1_000_002,
        "größe": "0.25",
    },
]


WRONG = tuple(
    ({"when": when}, when) for when in ("2023-02-29", "2024-04-31", "2024-01-051", "2024-01-05 24:30", "2024-01-05 12:30+5")
)


def test_python_takes_rows_as_files_have_them_and_refuses_others_by_name(tmp_path: Path) -> None:
    network = network_of(task_of("binary"))
    told(network, tmp_path, forms="python")
    wanted = [network.predict(pd.DataFrame([{key: pd.NA if v == "" else v for key, v in row.items()}])) for row in RAW]
    code = f"import json, my_study; print(json.dumps([my_study.predict(row) for row in {RAW!r}]))".replace(
        "nan", "float('nan')"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    for answer, row in zip(json.loads(done.stdout), wanted, strict=True):
        assert list(answer) == list(row)
        assert answer["label"] == row["label"].iloc[0]
        assert np.allclose([*answer.values()][1:], row.iloc[0, 1:].astype(float), atol=1e-6)
    predict, row = runpy.run_path(str(tmp_path / "my_study.py"))["predict"], RAW[0]
    for zone in ("-05", "-0500", "-05:00"):
        assert predict(row | {"when": f"2024-01-05 12:30{zone}"}) == predict(row | {"when": "2024-01-05T17:30:00Z"})
    for change, word in (
        ({"when": "soon"}, "soon"),
        ({"for": None}, "gap"),
        ({"sold": 2}, "true or false"),
        (None, "colour"),
        *WRONG,
    ):
        row = {k: v for k, v in RAW[0].items() if k != "colour"} if change is None else RAW[0] | change
        code = f"import my_study; my_study.predict({row!r})"
        done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert word in done.stderr.splitlines()[-1]


WRITTEN: list[Any] = [
    *("1", "01", "1.0", "+1", "-1", "1e0", "3.", "003", ".0e1", "1_0", "nan", "inf", "?", " - ", " x y ", "x  y", "other"),
    *(1, 1.0, np.int64(2), np.float64(2), True, "true", "TRUE", False, np.bool_(True), pd.NA, None),
    *("2024-01-01T00:00Z", "2024-01-01 00:00:00.000", pd.Timestamp("2024-01-01"), "2024-01-01 00:01"),
]


def test_python_takes_words_as_other_programs_write_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = random.choice(np.array(["1", "2", "03", "True", "2024-01-01", "x y", None], dtype=object), ROWS)
    rows = pd.DataFrame({"word": words, "x": random.normal(size=ROWS)})
    target = pd.DataFrame({"y": random.normal(size=ROWS)})
    task = from_frames(rows, target, name="w", where="w", source="", missing={"word": "category"}, codes={"word": ["?", "-"]})
    network = network_of(task)
    assert not told(network, tmp_path, forms="python")["python"].refused
    predict = runpy.run_path(str(tmp_path / "my_study.py"))["predict"]
    each = [
        pd.DataFrame({"word": pd.Series([word], dtype=object), "x": 0.3}) for word in WRITTEN
    ]  # 1 and True are one in pandas
    wanted = [network.predict(one)["y"].iloc[0] for one in each]
    found = [predict({"word": word, "x": 0.3})["y"] for word in WRITTEN]
    odd = [word for word, one, other in zip(WRITTEN, found, wanted, strict=True) if abs(one - other) > 1e-5]
    assert odd == []


def test_names_that_meet_in_a_language_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = {"a": ["b c", "d"], "a b": ["c", "C", "??/", "*/", "\\"], "label": ["no", "yes"], "A": ["other", "missing"]}
    rows = pd.DataFrame({name: random.choice(list(given), ROWS) for name, given in words.items()})
    for name in ("x0", "h1_0", "id", "row", "größe", "grösse", "float", "None", "n", "n gap", "unix", "z0", "-- '"):
        rows[name] = np.where(random.random(ROWS) < 0.2, np.nan, random.normal(size=ROWS))
    target = pd.DataFrame({"y": random.choice(["is a", "is_a"], ROWS)})
    task = from_frames(rows, target, name="names", where="names", source="", missing="indicator")
    for name, form in told(network_of(task), tmp_path, task, "onnx,python,c,fixed").items():
        assert not form.refused, (name, form)
    assert "duplicate column" in told(network_of(task), tmp_path, task, "sql")["sql"].refused  # a and A are one to SQLite


def test_a_target_of_numbers_may_be_called_label(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows, target = pd.DataFrame({"x": random.normal(size=ROWS)}), pd.DataFrame({"label": random.normal(size=ROWS)})
    task = from_frames(rows, target, name="n", where="n", source="")
    for name, form in told(network_of(task), tmp_path, task, "python,sql,onnx,formula,pt2").items():
        assert not form.refused, (name, form)


def test_what_a_form_cannot_say_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'sql'"):
        asked("sqll")
    odd = compact(
        replace(every_activation(), candidates=("mine", *list(FUNCTIONS)[1:]), functions={**FUNCTIONS, "mine": torch.cos}), 0
    )
    found = told(odd, tmp_path, forms="pt2,onnx,python,c,fixed,sql")
    assert not found["pt2"].refused
    assert all("'mine' is a plugin's" in found[form].refused for form in ("onnx", "python", "c", "fixed", "sql"))
    stem = compact(harden(example_networks(0, 1, (6, 2), ("kernels", "kernel_biases", "biases"))).map(torch.Tensor.float), 0)
    pair = Ensemble({"a": network_of(task_of()), "b": network_of(task_of(), 1)})
    for network, word in ((stem, "stem"), (pair, "ensemble")):
        found = {form.form: form for form in export(network, "n", asked("pt2,python"), tmp_path / word).forms}
        assert not found["pt2"].refused, found
        assert word in found["python"].refused


def test_a_form_that_differs_is_refused_and_keeps_no_other_from_its_place(tmp_path: Path) -> None:
    task = task_of("binary")
    honest = FORMS["python"]

    def wrong(network: Any, name: str) -> dict[str, str]:
        return {file: text.replace("z0 = ", "z0 = 0.001 + ") for file, text in honest.write(network, name).items()}

    found = export(network_of(task), "n", [replace(honest, write=wrong), FORMS["sql"]], tmp_path, task)
    assert "differs by" in found.forms[0].refused
    assert found.forms[0].difference is not None
    assert export(network_of(task), "n", [honest], tmp_path, task).forms[0].files == ("n.py",)
    for text, word in (
        ("return {", "SyntaxError"),
        ("return {'label': 'no'}", "not finite"),
        ("return row['none']", "KeyError"),
    ):
        broken = replace(honest, write=lambda network, name, text=text: {"n.py": f"def predict(row):\n    {text}"})
        assert word in export(network_of(task), "n", [broken], tmp_path, task).forms[0].refused
    assert {path.name for path in tmp_path.iterdir()} == {"n.sql", "export.json"}


EVIL = [
    *(
        "*/ int main(){}",
        '"""',
        "\\",
        "x\x00y",
        "x\u202ey",
        "a\u2028b",
        "-- drop",
        "%s%d",
        "??/",
        "???/",
        "\r\n#define X",
        "${x}",
        "'",
    ),
    *(
        "\\input{x}",
        "/nasplug/3",
        "x" * 500,
        "1st",
        "max",
        "min",
        "sum",
        "GAP",
        "UNKNOWN",
        "new",
        "errno",
        "stdin",
        "int16_t",
        "exp",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "labels"), [("round", ["*/ no", '"""yes\\']), ('*/ "x\n', ["*/ no", '"""yes\\', "\u202ethird"])]
)
def test_names_and_words_never_become_code(study: str, labels: list[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({name: random.normal(size=ROWS) for name in EVIL})
    words = np.array(["a", "*/", "1e999", "'); DROP TABLE rows;--", "b\\", None], dtype=object)
    rows["kind"] = random.choice(words, ROWS)
    target = pd.DataFrame({"y": random.choice(labels, ROWS)})
    task = from_frames(rows, target, name="n", where="n", source="", missing="category", numeric="piecewise", bins=2)
    forms = "onnx,python,formula" + (",c,fixed" if CC else "")
    for form in export(network_of(task), study, asked(forms), tmp_path, task).forms:
        assert not form.refused, form
    clean = from_frames(rows.drop(columns="x\x00y"), target, name="n", where="n", source="", missing="category")
    assert not export(network_of(clean), "n", asked("sql"), tmp_path, clean).forms[0].refused


def test_sql_takes_text_as_files_have_it_and_never_reads_a_number_where_there_is_none() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "n": np.where(random.random(ROWS) < 0.2, np.nan, random.normal(size=ROWS)),
            "id": random.normal(size=ROWS),
            "b": random.choice([True, False], ROWS),
            "d": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 10**6, ROWS), unit="s"),
            "w": random.choice(np.array(["1", "2"], dtype=object), ROWS),
            "t": random.choice(np.array(["True", "False", "x"], dtype=object), ROWS),
        }
    )
    target = pd.DataFrame({"y": random.normal(size=ROWS)})
    network = network_of(from_frames(rows, target, name="n", where="n", source="", missing={"n": "median"}))
    statement, when = sql.written(program(network, "net"))["net.sql"], pd.Timestamp("2024-01-01T09:06:40Z")
    assert list(rows) == [column.name for column in program(network, "net").columns]

    def answers(cells: list[tuple[Any, ...]], names: str = '"n", "id", "b", "d", "w", "t"') -> list[float | None]:
        database = sqlite3.connect(":memory:")  # columns without a type keep what they are given
        database.execute(f'CREATE TABLE "rows" ("id_", {names})')
        database.executemany('INSERT INTO "rows" VALUES (?, ?, ?, ?, ?, ?, ?)', [(at, *row) for at, row in enumerate(cells)])
        return [row[1] for row in database.execute(statement).fetchall()]

    read = [
        ("0.5", "1e-1", "true", "1704100000", "1", "True"),
        ("", "-.5", "False", 1704100000, "2.0", "true"),
        ("nan", "+1E+2", 1, 1704100000.0, 1.0, " x "),
    ]
    meant = [(0.5, 0.1, True, when, "1", "True"), (None, -0.5, False, when, "2", "True"), (None, 100, True, when, "1", "x")]
    wanted = network.predict(pd.DataFrame(meant, columns=list(rows)))["y"]
    assert np.allclose(np.array(answers(read), dtype=float), wanted, atol=1e-5)
    odd = [
        ("soon", 1, 1, 1, "1", "x"),
        *((0.5, 1, 1, text, "1", "x") for text in ("2024-01-05", "05.01.2024", "1-2", "1e", ".", "12:30", "", None)),
    ]
    assert answers(odd) == [None] * len(odd)
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        answers([read[0]], '"number", "id", "b", "d", "w", "t"')


def test_files_that_no_export_wrote_are_never_replaced(tmp_path: Path) -> None:
    network, mine = network_of(task_of()), tmp_path / "mine.py"
    mine.write_text("mine")
    forms = export(network, "mine", asked("python,sql"), tmp_path).forms
    assert "no export wrote it" in forms[0].refused
    assert not forms[1].refused
    for name in ("n", "o", "n"):  # what was ours once stays ours
        assert not export(network, name, asked("python"), tmp_path).forms[0].refused
    assert mine.read_text() == "mine"
    assert not list(tmp_path.glob(".export-*"))
    for record in ("[]", "{}", '{"forms": 3}', "mine"):
        (tmp_path / "export.json").write_text(record)
        with pytest.raises(ConfigError, match="nothing that an export wrote"):
            export(network, "n", asked("python"), tmp_path)
        assert (tmp_path / "export.json").read_text() == record
    with pytest.raises(ConfigError, match="name another folder"):
        export(network, "n", asked("python"), mine)


@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_c_answers_nan_where_a_number_is_missing_that_never_was(tmp_path: Path) -> None:
    for file, text in c.written(program(compact(every_activation(), 0), "net")).items():
        (tmp_path / file).write_text(text)
    names = c.Header(program(compact(every_activation(), 0), "net"), "net").fields
    row = ", ".join(f".{name} = NAN" for name in names)
    body = f"net_row row = {{{row}}}; float y[2]; net(&row, y); return !(isnan(y[0]) && isnan(y[1]));"
    (tmp_path / "gap.c").write_text(f'#include "net.h"\nint main(void) {{ {body} }}\n')
    subprocess.run([str(CC), "gap.c", "-o", "gap", "-lm"], cwd=tmp_path, check=True)
    subprocess.run([str(tmp_path / "gap")], check=True)


def test_rates_far_from_one_are_compared_by_their_own_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"a": random.normal(size=ROWS), "b": random.normal(size=ROWS)})
    counts = pd.DataFrame({"n": random.poisson(np.exp(2 + rows["a"])).astype(float)})
    task = scored(from_frames(rows, counts, name="n", where="n", source=""), poisson(), {})
    network = network_of(task)
    with torch.no_grad():
        network.get_parameter(f"bias_{len(network.widths) - 1}").add_(9.0)
    for name, form in told(network, tmp_path, task, "pt2,onnx,python,sql,formula" + (",c" if CC else "")).items():
        assert not form.refused, (name, form)


def test_a_compiler_that_takes_too_long_ends_with_all_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "SECONDS", 0.5)
    with pytest.raises(ConfigError, match=r"sh was not done after 0\.5 s"):
        compiling.called(["/bin/sh", "-c", "sleep 60 & echo $! > child; wait"], tmp_path)
    child = int((tmp_path / "child").read_text())
    assert not outliving([child])


def test_what_graphs_are_made_with_is_imported_ahead() -> None:
    """In a thread that nobody waits for. Where torch moves what it has inside, the first graph imports it: a second."""
    before = set(threading.enumerate())
    import_graphs(0.0)
    for thread in set(threading.enumerate()) - before:
        assert thread.daemon
        thread.join(PATIENCE)
    assert {"torch.export._trace", "onnx", "onnxruntime"} <= set(sys.modules)


def test_exported_python_takes_names_with_accents_in_either_coding(tmp_path: Path) -> None:
    """A file of some systems, which a network has its names from, codes what keyboards write in another way."""
    random = np.random.default_rng(0)
    task = from_frames(
        pd.DataFrame({"cafe\u0301": random.random(60), "plain": random.random(60)}),
        pd.DataFrame({"y": random.random(60)}),
        name="rows",
        where="rows",
        source="rows",
    )
    told(network_of(task), tmp_path, task, "python")
    made = runpy.run_path(str(tmp_path / "my_study.py"))
    assert made["COLUMNS"][0] == "cafe\u0301"
    same = [made["predict"]({name: 0.5, "plain": 0.25}) for name in ("cafe\u0301", "caf\u00e9")]
    assert same[0] == same[1]
