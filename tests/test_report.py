"""The report of a small real study: its files, its numbers, its pictures, its verdict."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from rich.console import Console
from torch import Tensor

from nasplug import activations, drawing, report, results, schedules
from nasplug.cli import main
from nasplug.compact import CompactNetwork, compact
from nasplug.config import Sweep, Use, parse
from nasplug.contracts import Certifying, Discretizer, Params, Regularizer, Score, SearchMethod
from nasplug.data import datasets
from nasplug.drawing import fonts as font_room
from nasplug.drawing import style
from nasplug.files import read_json
from nasplug.hookspecs import hookimpl
from nasplug.networks import Edge, Networks
from nasplug.plan import Axis
from nasplug.plugins import Plugins
from nasplug.replicas import uniform
from nasplug.report.cooling import temperature_of
from nasplug.report.parts import snippets
from nasplug.report.tables import thinned
from nasplug.report.words import facts_words
from nasplug.study import Study
from nasplug.summary import print_summary
from nasplug.tasks import Task

NASTY = "<script>alert(1)</script>"
FEATURES = [NASTY, "price ($)", "useless & long " + "x" * 40]
PNG = b"\x89PNG\r\n\x1a\n"


# -- a study -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain(SearchMethod):
    """Dense layers and one skip block, nothing to relax."""

    hidden: int

    def init(self, task: Task, seeds: Tensor) -> Params:
        shapes = {"1_0": (self.hidden, task.inputs), "2_1": (task.outputs, self.hidden), "2_0": (task.outputs, task.inputs)}
        return {name: uniform(seeds, name, shape, -0.7, 0.7) for name, shape in shapes.items()} | {
            "bias": uniform(seeds, "bias", (task.outputs,), -0.1, 0.1)
        }

    def relax(self, params: Params, tau: Tensor, noise: Any = None) -> Networks:
        blocks: dict[Edge, Tensor] = {(1, 0): params["1_0"], (2, 1): params["2_1"], (2, 0): params["2_0"]}
        widths = (params["1_0"].shape[2], params["1_0"].shape[1], params["2_0"].shape[1])
        return Networks(widths=widths, blocks=blocks, biases={2: params["bias"]})


class Size(Regularizer):
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks) -> Tensor:
        return torch.stack([w.abs().sum((1, 2)) for w in nets.blocks.values()]).sum(0)


class Cut(Discretizer):
    needs: ClassVar[frozenset[str]] = frozenset({"blocks"})

    def __call__(self, nets: Networks, score: Score) -> Networks:
        return replace(nets, edge_gates={edge: (w.abs() > 0.1).to(w.dtype) for edge, w in nets.blocks.items()})


class Sure(Cut, Certifying):
    """Cuts, and is certain."""

    def certified(self, nets: Networks, score: Score) -> tuple[Networks, list[dict[str, Any]]]:
        sites = [{"layer": 1, "margins": [0.25, -1.0], "passes": True, "by": {"relu": 0.5}}]
        return self(nets, score), [{"verdict": f"certain <{k}>", "gap": k / 8, "sites": sites} for k in range(nets.replicas)]


class Offers:
    @hookimpl
    def register_search_methods(self, register: Any) -> None:
        def plain(*, hidden: int = 3) -> Plain:
            return Plain(hidden)

        register("plain", plain)

    @hookimpl
    def register_regularizers(self, register: Any) -> None:
        register("size", Size)

    @hookimpl
    def register_discretizers(self, register: Any) -> None:
        register("cut", Cut)
        register("sure", Sure)


def plugins() -> Plugins:
    found = Plugins()
    for module in (activations, datasets, schedules):
        found.add(module, module.__name__, "nasplug", "0.1.0")
    found.add(Offers(), "offers", "report-tests", "9.8.7")
    return found


def study(folder: Path, target: str = "label", discretizer: str = "cut", retrain: int = 0, parts: Sequence[int] = ()) -> Study:
    """32 networks in 2 packs on 200 samples of 3 features, of which the third says nothing; or on the first of them, swept."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3))
    frame = pd.DataFrame(x, columns=FEATURES)
    score = x[:, 0] - 0.5 * x[:, 1] ** 2 + 0.3 * random.normal(size=200)
    frame["label"] = np.where(score > 0, "yes & <b>", "no")
    frame["amount"] = score
    path = folder / "data.csv"
    frame.to_csv(path, index=False)
    files = [str(folder / f"first {rows}.csv") for rows in parts]
    for file, rows in zip(files, parts, strict=True):
        frame[:rows].to_csv(file, index=False)
    where = {"choice": files} if files else str(path)
    raw = {
        "study": f"small-{target}",
        "store": str(folder),
        "task": {"use": "table", "validation": "holdout", "path": where, "target": target, "features": FEATURES},
        "method": {"use": "plain", "hidden": {"choice": [2, 4]}},
        "penalties": [{"use": "size", "level": {"log": [1e-4, 1.0], "points": 8}}],
        "discretizers": [{"use": discretizer}],
        "train": {"steps": 40, "lr": 0.05, "finetune": 5, "retrain": retrain, "reports": 4},
        "seeds": 2,
        "linear": False,
        "reach": None,
        "mlflow": None,
    }
    return Study(parse(raw), plugins()).run("serial")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def amounts(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("amounts"), "amount")


def page(of: Study) -> str:
    return (of.folder / "report.html").read_text(encoding="utf-8")


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_run_writes_the_files(labels: Study) -> None:
    for name in ("front.png", "network.png"):
        data = (labels.folder / name).read_bytes()
        assert data.startswith(PNG)
        assert len(data) > 5000
    written = pd.read_csv(labels.folder / "front.csv")
    assert written["replica"].tolist() == labels.front()["replica"].tolist()
    np.testing.assert_allclose(written["valid_error"], labels.front()["valid_error"])


def test_the_page_is_one_file_without_network_and_with_one_script(labels: Study) -> None:
    text = page(labels)
    for target in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert target.startswith(("#", "data:")), target
    assert "default-src 'none'" in text
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "url(http" not in text
    assert "prefers-color-scheme: dark" in text


def test_the_page_escapes_names(labels: Study) -> None:
    text = page(labels)
    assert text.lower().count("<script") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>" not in text


def test_pictures_in_the_page_are_well_formed_and_have_their_own_ids(labels: Study) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page(labels), flags=re.DOTALL)
    assert len(pictures) == 8
    ids: list[str] = []
    for picture in pictures:
        root = ElementTree.fromstring(picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
        ids += [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert "var(--ink)" in picture
        assert drawing.INK not in picture
    assert not {one for one in ids if ids.count(one) > 1}


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", text, flags=re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>([^<]*)", row) for row in rows]


def test_the_table_of_the_front_has_the_numbers(labels: Study) -> None:
    found = cells(page(labels))
    task = labels.task
    for _, row in labels.front().iterrows():
        e, n = row["test_error"], task.test.samples
        wanted = [str(row["edges"]), str(row["neurons"]), str(row["inputs"]), str(row["parameters"])]
        line = next(c for c in found if c and c[-1].strip() == row["replica"])
        assert line[:4] == wanted
        assert line[5] == f"{100 * e:.2f} ± {100 * (e * (1 - e) / n) ** 0.5:.2f}"
        assert f"{row['penalties.0.level']:.3g}" in line
        assert str(row["method.hidden"]) in line


def test_each_data_set_has_its_own_standard_error(tmp_path: Path) -> None:
    done = study(tmp_path, parts=[200, 60])
    each = done.choices()
    n = {name: done.task_of(name).test.samples for name in (*each["replica"], *done.front()["replica"])}
    assert set(n.values()) == {40, 12}
    console = Console(width=250, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in (report.front_table(done), report.choices_table(done)):
        console.print(table)
    said = console.export_text().splitlines()
    text = page(done)
    assert "test samples of its data set" in text
    listed = [c for c in cells(text) if c and c[-1].strip() in n]
    assert len(listed) == len(done.front()) + len(each)
    errors = {row["replica"]: row["test_error"] for frame in (each, done.front()) for _, row in frame.iterrows()}
    for line in listed:
        e = errors[line[-1].strip()]
        assert line[5] == f"{100 * e:.2f} ± {100 * (e * (1 - e) / n[line[-1].strip()]) ** 0.5:.2f}"
        assert any(line[-1].strip() in row and line[5] in row for row in said)


def test_the_chosen_network_is_marked_once(labels: Study) -> None:
    text = page(labels)
    marked = re.findall(r'<tr class="chosen">(.*?)</tr>', text, flags=re.DOTALL)
    assert str(labels.best()["replica"]) in marked[0]
    assert f"reads {labels.best()['inputs']} of 3 inputs" in text


def test_the_page_says_what_the_study_was_and_what_made_it(labels: Study) -> None:
    text = page(labels)
    assert "<dt>networks</dt><dd>32 in 2 packs</dd>" in text
    assert "<dt>finished</dt><dd>32</dd>" in text
    assert "networks per second" in text
    assert "plain (report-tests 9.8.7)" in text
    assert labels.task.digest in text
    assert "data.csv: 200 rows" in text
    assert "5 steps of fine-tuning" in text
    assert "hidden:" in text  # the config as YAML


def test_a_resumed_run_counts_what_it_made(labels: Study) -> None:
    after = max(file.stat().st_mtime for file in labels.folder.glob("packs/*/replicas.parquet")) + 5.0
    facts = dict(facts_words(labels, labels.task, labels.frame, 3.0, after))
    assert facts["made in this run"].startswith("0 of 32")
    assert "networks per second" not in facts
    later = dict(facts_words(labels, labels.task, labels.frame, None, None))
    assert "time of this run" not in later


def test_what_did_not_finish_is_told(labels: Study, tmp_path: Path) -> None:
    class Ill:
        config, folder, axes, task = labels.config, labels.folder, labels.axes, labels.task
        task_of, facts_of, choices = labels.task_of, labels.facts_of, labels.choices
        network = labels.network

        @property
        def frame(self) -> pd.DataFrame:
            frame = labels.frame
            front = set(labels.front()["replica"])
            other = [i for i, name in enumerate(frame["replica"]) if name not in front]
            frame.loc[other[0], "status"] = "diverged"
            frame.loc[other[0], "valid_error"] = np.nan
            failed = {"replica": "p0009/0000", "configuration": 7, "seed": 1, "status": "failed", "error": "no <memory>"}
            return pd.concat([frame, pd.DataFrame([failed])], ignore_index=True)

    before = page(labels)
    try:
        report.write_report(Ill(), time.time() - 1.0)
        text = page(labels)
    finally:
        (labels.folder / "report.html").write_text(before, encoding="utf-8")
    assert "1 diverged" in text
    assert "1 failed" in text
    assert "no &lt;memory&gt;" in text
    assert "p0009/0000" in text
    assert f"<td>{int(labels.best()['edges'])}</td>" in text  # counts stay whole numbers beside missing ones


def test_the_page_has_the_commands_that_come_next(labels: Study) -> None:
    found = re.search(r'<pre[^>]*aria-label="Commands">(.*?)</pre>', page(labels), flags=re.DOTALL)
    assert found is not None
    told = [shlex.split(line) for line in found[1].splitlines()]
    assert [words[1] for words in told] == ["predict", "explain", "export", "lineage"]
    assert all(words[1] in main.commands and words[2] == str(labels.folder) for words in told)


def test_the_snippets_run(labels: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(labels.folder)
    name = str(labels.best()["replica"])
    for _, code in snippets(labels.folder, labels.network(), name):
        exec(compile(code, "snippet", "exec"), {})  # noqa: S102
    said = capsys.readouterr().out
    assert said.count("tensor(") == 2


def test_regression(amounts: Study) -> None:
    text = page(amounts)
    best = amounts.best()
    assert f"R² is {best['test_r2']:.4f}" in text
    assert "no linear networks" in text
    assert "% wrong" not in text
    assert f"<td>{best['test_error']:.4g}</td>" in text


# -- the terminal ------------------------------------------------------------------------------------------------------


def test_the_table_for_a_terminal(labels: Study) -> None:
    console = Console(width=180, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.front_table(labels))
    lines = console.export_text().splitlines()
    (marked,) = [line for line in lines if "▶" in line and "chosen" not in line]
    best = labels.best()
    assert str(best["replica"]) in marked
    assert f"{100 * best['valid_error']:.2f} ±" in marked
    assert sum("p000" in line for line in lines) == len(labels.front())


def test_a_long_front_is_thinned_for_a_terminal() -> None:
    front = pd.DataFrame({"replica": [f"p0000/{i:04d}" for i in range(100)]})
    shown = thinned(front, "p0000/0037", 30)
    assert len(shown) <= 30
    assert {"p0000/0000", "p0000/0037", "p0000/0099"} <= set(shown["replica"])


def test_the_picture_of_the_front_fits_and_marks_the_chosen(labels: Study, amounts: Study) -> None:
    for of in (labels, amounts):
        picture = drawing.front_picture(of.frame, str(of.best()["replica"]))
        lines = picture.splitlines()
        assert len(lines) <= 18
        assert max(map(len, lines)) <= 72
        assert "".join(lines[:-1]).count("◆") == 1


def test_the_picture_of_the_front_of_one_and_of_none() -> None:
    one = pd.DataFrame(
        {
            "replica": ["p0000/0000"],
            "status": "finished",
            "edges": 0,
            "valid_error": 0.0,
            "valid_loss": 1.0,
            "valid_accuracy": 1.0,
        }
    )
    assert "◆" in drawing.front_picture(one, "p0000/0000")
    assert drawing.front_picture(one.assign(status="diverged")) == "no network finished"


# -- a network ---------------------------------------------------------------------------------------------------------


def network(
    widths: Sequence[int], blocks: dict[Edge, Sequence[Sequence[float]] | Tensor], candidates: tuple[str, ...] = ("relu",)
) -> CompactNetwork:
    nets = Networks(
        widths=tuple(widths),
        blocks={edge: torch.as_tensor(w, dtype=torch.float32).unsqueeze(0) for edge, w in blocks.items()},
        candidates=candidates,
    )
    return compact(nets, 0)


def drawn(of: CompactNetwork, tmp_path: Path) -> str:
    """The picture as SVG; that the PNG is one too is checked on the way."""
    figure = drawing.draw_network(of)
    drawing.save_png(figure, tmp_path / "network.png")
    data = (tmp_path / "network.png").read_bytes()
    assert data.startswith(PNG)
    assert len(data) > 2000
    text = drawing.svg(figure, "network")
    assert text.startswith("<svg")
    return text


def test_strength_is_the_sum_over_paths() -> None:
    net = network((3, 2, 1), {(1, 0): [[2, -1, 0], [0, 3, 0]], (2, 1): [[1, -2]], (2, 0): [[0.5, 0, -0.25]]})
    found = {s.feature: (s.value, s.sign) for s in drawing.strengths(net)}
    assert found == {"x1": (1 + 6, "-"), "x0": (2 + 0.5, "+"), "x2": (0.25, "-")}
    assert [s.feature for s in drawing.strengths(net)] == ["x1", "x0", "x2"]


def test_a_sign_is_only_told_where_it_holds() -> None:
    both = network((1, 2, 1), {(1, 0): [[1], [-1]], (2, 1): [[1, 1]]})
    assert [s.sign for s in drawing.strengths(both)] == ["±"]
    wave = network((1, 1, 1), {(1, 0): [[1]], (2, 1): [[1]]}, ("sin",))
    assert [s.sign for s in drawing.strengths(wave)] == ["±"]
    two = network((1, 2), {(1, 0): [[1], [1]]})
    assert [s.sign for s in drawing.strengths(two)] == [""]


def test_a_network_with_a_skip_edge(tmp_path: Path) -> None:
    net = network((2, 2, 1), {(1, 0): [[1, 2], [0, -3]], (2, 1): [[1, -2]], (2, 0): [[0.5, 0]]}, ("tanh",))
    text = drawn(net, tmp_path)
    assert text.count("tanh") == 2
    assert "+0.50" in text  # few edges have their weight written on them
    assert "\u22123.00" in text
    assert "skip edges: features ─▶ output" in drawing.network_picture(net)


def test_a_network_without_hidden_neurons(tmp_path: Path) -> None:
    net = network((3, 1), {(1, 0): [[1, 0, -2]]})
    text = drawn(net, tmp_path)
    assert ">x0<" in text
    assert ">x1<" not in text
    assert "2 of 3 features ─▶ y0" in drawing.network_picture(net)


def test_a_network_that_is_a_constant(tmp_path: Path) -> None:
    net = network((3, 1), {(1, 0): [[0, 0, 0]]})
    assert "the output is constant" in drawn(net, tmp_path)
    assert "the output is constant" in drawing.network_picture(net)


def test_a_hundred_inputs_are_a_heat_map_and_five_survivors_a_drawing(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(3, 100, generator=generator)
    text = drawn(network((100, 3, 1), {(1, 0): dense, (2, 1): [[1.0, -1.0, 2.0]]}), tmp_path)
    assert "<image" in text
    assert "inputs → layer 1 (relu)" in text
    few = torch.zeros(3, 100)
    few[:, ::20] = dense[:, ::20]
    net = network((100, 3, 1), {(1, 0): few, (2, 1): [[1.0, -1.0, 2.0]]})
    text = drawn(net, tmp_path)
    assert "<image" not in text
    assert ">x80<" in text
    assert "5 of 100 features" in drawing.network_picture(net)
    assert "and 76 weaker ones" in drawing.network_picture(network((100, 3, 1), {(1, 0): dense, (2, 1): [[1.0, -1.0, 2.0]]}))


def test_bars_are_as_long_as_the_strength() -> None:
    lines = drawing.network_picture(network((2, 1), {(1, 0): [[4, -1]]})).splitlines()
    first, second = (next(line for line in lines if line.lstrip().startswith(name)) for name in ("x0", "x1"))
    assert first.count("█") == pytest.approx(4 * second.count("█"), abs=4)
    assert " + " in first
    assert " - " in second


def test_many_dots_are_pixels() -> None:
    random = np.random.default_rng(0)
    n = 5000
    frame = pd.DataFrame(
        {
            "replica": [f"p0000/{i:04d}" for i in range(n)],
            "status": "finished",
            "edges": random.integers(1, 5000, n),
            "valid_error": random.random(n),
            "valid_loss": random.random(n),
            "level": 10 ** random.uniform(-5, 0, n),
        }
    )
    front = results.front(frame)
    text = drawing.svg(drawing.draw_front(frame, front, str(front["replica"].iloc[0]), colour=("level", "level")), "front")
    assert len(text) < 2_000_000
    assert "<image" in text


def test_a_dense_network_is_a_heat_map(tmp_path: Path) -> None:
    net = network((14, 12, 1), {(1, 0): torch.ones(12, 14), (2, 1): torch.ones(1, 12)})  # 27 nodes, 180 edges
    text = drawn(net, tmp_path)
    assert "inputs → layer 1" in text
    assert "14 x 12" in text


def test_error_and_size_along_a_penalty() -> None:
    levels = np.repeat([0.1, 1.0, 10.0], 5)
    frame = pd.DataFrame({"status": "finished", "level": levels, "edges": 50.0 - levels, "valid_error": levels / 100})
    frame.loc[0, "status"] = "diverged"
    along = drawing.path_of(frame, "level")
    assert along["edges", "middle"].tolist() == [49.9, 49.0, 40.0]
    figure = drawing.draw_path(frame, along, 1.0)
    assert figure is not None
    assert "penalty level" in drawing.svg(figure, "path", 'what "it" <shows>')
    assert drawing.draw_path(frame, along.head(2), None) is None


def ratio(one: str, other: str) -> float:
    """Contrast of two colours, by the formula of WCAG 2."""

    def light(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_inks_have_contrast(labels: Study) -> None:
    """Text and lines 4.5:1 on a white page and on a dark one, with the page's own colours; scales of numbers 3:1 on both."""
    text = page(labels)
    bright, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", text, re.DOTALL))
    for colours in (bright, dark):
        for ink in ("ink", "muted", "positive", "negative", "chosen"):
            for ground in ("paper", "shade", "mark"):
                assert ratio(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        for share in np.linspace(0, 1, 21):
            assert ratio(to_hex(style.scale()(share)), colours["paper"]) >= 3.0
    for ink, name in style.THEME.items():
        assert bright[name.removeprefix("--")] == ink


def test_letters_that_no_font_has_are_stood_in_for_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(font_room, "_having", lambda letter: None)
    with style.styled():
        figure = style.new_figure(3, 2)
        title = figure.add_subplot().set_title("収入 of x")
    assert "収入 of x" in drawing.svg(figure, "one")  # as text: the reader's browser has a font
    drawing.save_png(figure, tmp_path / "one.png")
    assert title.get_text() == "?? of x"
    assert "2 letters" in caplog.text
    assert len(recwarn) == 0


def test_a_font_may_have_any_name_and_one_of_boxes_has_no_letters() -> None:
    """matplotlib reads a bare name as a pattern, in which a hyphen has a meaning; its own last resort draws boxes."""
    assert font_room._letters("Last Resort High-Efficiency")
    assert "Last Resort High-Efficiency" not in font_room._others()
    assert font_room._having("\U000e0001") is None  # a letter that nothing can show


def test_the_temperature_of_the_chosen_network(labels: Study) -> None:
    row = pd.Series({"method.use": "edges", "temperature.start": 2.0})

    class Cooled:
        config = labels.config.model_copy(update={"temperature": Use(use="geometric", start=9.0, end=0.5)})
        axes: ClassVar = [Axis("temperature.start", Sweep(choice=[1.0, 2.0]), row=True)]

    found = temperature_of(Cooled(), row)  # type: ignore[arg-type]
    assert found is not None
    assert len(found) == labels.config.train.steps
    np.testing.assert_allclose(found[[0, -1]], [2.0, 0.5])
    assert temperature_of(Cooled(), pd.Series({"method.use": "linear"})) is None  # type: ignore[arg-type]
    assert temperature_of(labels, row) is None
    history = pd.DataFrame({"replica": ["p"], "edges": [3], "history_step": [[1, 2]], "history_train_loss": [[0.5, 0.25]]})
    figure = drawing.draw_curves(history, "p", found)
    assert figure is not None
    assert "temperature of the chosen" in drawing.svg(figure, "curves")


@pytest.mark.parametrize("colour", [None, ("level", "level"), ("level", "all alike")])
def test_linear_networks_are_triangles_whatever_colours_the_others(colour: tuple[str, str] | None) -> None:
    frame = pd.DataFrame(
        {
            "replica": ["a", "b", "c"],
            "status": "finished",
            "edges": [1, 2, 3],
            "valid_error": [0.3, 0.2, 0.1],
            "level": [np.nan, 0.1, 0.1 if colour == ("level", "all alike") else 0.2],
            "method.use": ["linear", "edges", "edges"],
        }
    )
    told = "a linear network"
    (axes, *_) = drawing.draw_front(frame, frame, "c", colour=colour).axes
    assert told in axes.get_legend_handles_labels()[1]
    (axes, *_) = drawing.draw_front(frame[1:], frame[1:], "c", colour=colour).axes
    assert told not in axes.get_legend_handles_labels()[1]


# -- linear networks ---------------------------------------------------------------------------------------------------


def rows(*found: tuple[str, str, int, float]) -> pd.DataFrame:
    """Networks: replica, method, edges and validation error."""
    frame = pd.DataFrame(found, columns=["replica", "method.use", "edges", "valid_error"])
    same = {"status": "finished", "valid_loss": 0.1, "test_error": 0.25}
    return frame.assign(parameters=frame["edges"] + 1, inputs=frame["edges"], **same)


@pytest.mark.parametrize(
    ("found", "as_good", "line", "said"),
    [
        ([("l0000/0000", "linear", 3, 0.1), ("p0000/0000", "plain", 9, 0.09)], True, "l0000/0000", "the chosen network is one"),
        (
            [("p0000/0000", "plain", 3, 0.1), ("l0000/0000", "linear", 9, 0.09)],
            True,
            "l0000/0000",
            "but larger: the linear network l0000/0000",
        ),
        (
            [("p0000/0000", "plain", 3, 0.1), ("l0000/0000", "linear", 9, 0.4)],
            False,
            "l0000/0000",
            "No linear model is as good",
        ),
        ([("p0000/0000", "plain", 3, 0.1)], None, None, "no linear networks"),
    ],
)
def test_the_verdict_on_linear_networks(
    labels: Study, found: list[tuple[str, str, int, float]], as_good: bool | None, line: str | None, said: str
) -> None:
    frame, facts = rows(*found), labels.task.facts
    verdict = report.against_lines(frame, results.choose(frame, lambda name: facts), lambda name: facts)
    assert verdict.as_good == as_good
    assert (None if verdict.line is None else verdict.line["replica"]) == line
    assert said in verdict.sentence


def test_a_linear_model_with_fewer_parameters_is_not_called_larger(labels: Study) -> None:
    frame, facts = rows(("p0000/0000", "plain", 3, 0.1), ("l0000/0000", "linear", 9, 0.09)), labels.task.facts
    frame["parameters"] = [12, 10]  # edges that leave an image's convolutions have weights of their own
    verdict = report.against_lines(frame, results.choose(frame, lambda name: facts), lambda name: facts)
    assert verdict.sentence.startswith("A linear model is as good: the linear network l0000/0000 has 10 parameters")


def test_linear_json_and_the_page_say_the_same(labels: Study) -> None:
    written = json.loads((labels.folder / "linear.json").read_text())
    assert written["sentence"] in page(labels)
    assert written["as_good"] is None  # this study has none
    assert written["chosen"]["edges"] == labels.best()["edges"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_the_table_is_read_once_at_the_end_and_once_to_show_it(labels: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    times, read = [], results.read

    def counted(folder: Path, **options: bool) -> pd.DataFrame:
        times.append(folder)
        return read(folder, **options)

    monkeypatch.setattr(results, "read", counted)
    labels.snapshot()._conclude({}, None, 1.0, report=True)
    assert len(times) == 1
    print_summary(labels)
    assert len(times) == 2
    assert labels.snapshot().frame.equals(labels.frame)


# -- imports -----------------------------------------------------------------------------------------------------------


def test_importing_the_report_imports_no_plotting() -> None:
    code = "import sys, nasplug.report; print(sorted({'matplotlib', 'pandas', 'sklearn', 'jinja2'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_a_certificate_is_columns_a_file_and_a_part_of_the_report(tmp_path: Path) -> None:
    done = study(tmp_path, discretizer="sure")
    frame = done.frame
    assert "certificate" not in frame.columns  # its text is read one at a time
    assert frame["certificate_gap"].tolist() == [
        row / 8 for _, pack in frame.groupby("method.hidden") for row in range(len(pack))
    ]
    name = str(done.best()["replica"])
    row = int(name.partition("/")[2])
    found = results.certificate(done.folder, name)
    assert found is not None
    assert (found["verdict"], found["gap"]) == (f"certain <{row}>", row / 8)
    assert read_json(done.folder / "best" / "certificate.json") == found
    page = (done.folder / "report.html").read_text()
    assert f"certain &lt;{row}&gt;" in page
    for text in ("What is certain about its choices", "0.25, -1", "<td>yes</td>", "relu 0.5", '<th scope="row">gap</th>'):
        assert text in page
    other = study(tmp_path, "amount").folder
    assert results.certificate(other, name) is None
    results.write_certificate(other, name, done.folder / "best")
    assert not (done.folder / "best" / "certificate.json").exists()  # it was another network's


def test_both_scores_of_an_architecture_that_was_trained_from_scratch_are_told(tmp_path: Path) -> None:
    done = study(tmp_path, "amount", retrain=40)
    frame = done.frame
    for part in ("train", "valid", "test"):
        assert {f"inherited_{part}_error", f"retrained_{part}_error", f"{part}_error"} <= set(frame.columns)
    kept = frame[["inherited_valid_loss", "retrained_valid_loss"]].min(axis=1)
    assert np.allclose(frame["valid_loss"], kept)
    assert (frame["inherited_valid_loss"] < frame["retrained_valid_loss"]).any()
    assert (frame["inherited_valid_loss"] > frame["retrained_valid_loss"]).any()
    page = (done.folder / "report.html").read_text()
    assert '<th scope="col">from scratch</th>' in page
    assert "also trained from scratch (train.retrain)" in page
