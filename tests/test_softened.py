"""What networks of the front were before hardening: kept, and drawn beside what hardening made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb

from nasplug import Study, drawing, results
from nasplug.drawing import STRONGEST, style
from nasplug.networks import Networks
from nasplug.packs import TABLE, load_networks
from nasplug.packs.relaxed import MOST_WEIGHTS, relaxed_of
from nasplug.plan import Pack, row_of
from nasplug.report.softened import SHADES, softened


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Sixteen networks in two packs, with a choice for each neuron and weights to be cut."""
    raw: dict[str, Any] = {
        "study": "soft",
        "store": str(tmp_path_factory.mktemp("soft")),
        "task": {"use": "breast_cancer", "validation": "holdout"},
        "method": {"use": "mixture", "hidden": {"choice": [[3], [2, 2]]}, "candidates": ["tanh", "relu", "gelu"]},
        "penalties": [{"use": "l1", "level": {"log": [1e-3, 1e-1], "points": 4}}],
        "temperature": {"use": "geometric", "start": 1.0, "end": 0.1},
        "discretizers": [{"use": "argmax"}, {"use": "threshold", "tolerance": 0.05}],
        "train": {"steps": 60, "batch": 64, "lr": 0.05, "reports": 3, "finetune": 10},
        "seeds": 2,
        "linear": False,
        "mlflow": None,
    }
    return Study.from_dict(raw).run("serial", progress=False)


def test_each_network_of_the_front_has_what_it_was_before_hardening(done: Study) -> None:
    front = [str(name) for name in done.front()["replica"]]
    found = results.relaxed(done.folder, front)
    assert list(found) == sorted(front)
    assert "relaxed" not in done.frame.columns  # it stays in the packs' own tables
    for name, one in found.items():
        pack, row = row_of(name)
        nets = load_networks(done.folder / "packs" / pack)
        for layer in one["layers"]:
            shares = np.asarray(layer["shares"])
            np.testing.assert_allclose(shares.sum(-1), 1.0, atol=2e-3)
            assert layer["choices"] == shares.argmax(-1).tolist()
            assert layer["gates"] is None
            kept = nets.gates[layer["layer"]][row] > 0
            assert [bool(k) for k in layer["kept"]] == kept.tolist()
            assert nets.choices[layer["layer"]][row].argmax(-1)[kept].tolist() == np.asarray(layer["choices"])[kept].tolist()
        for block in one["blocks"]:
            before, left = np.asarray(block["before"]), np.asarray(block["kept"]) > 0
            assert before.shape == left.shape == tuple(nets.blocks[block["to"], block["from"]].shape[1:])
            assert (left == (nets.blocks[block["to"], block["from"]][row] != 0).numpy()).all()
            assert before[left].min(initial=1.0) > 0.0


def test_packs_keep_it_of_their_front_alone(done: Study) -> None:
    frame = done.frame
    for pack in ("p0000", "p0001"):
        mine = frame[frame["replica"].str.startswith(pack)]
        own = {str(name) for name in results.front(mine)["replica"]}
        assert results.relaxed(done.folder, mine["replica"].tolist()).keys() == own
        assert len(own) < len(mine)


def networks(k: int) -> Networks:
    return Networks(widths=(2, 1), blocks={(1, 0): torch.ones(k, 1, 2, dtype=torch.float64)}, candidates=("relu",))


def kept_rows(**more: Any) -> list[bool]:
    """Of four rows with edges 3, 3, 2, 1 and these scores, of which something is kept."""
    score = np.asarray(more.pop("score", [0.1, 0.1, 0.2, np.nan]))
    plan = Pack(more.pop("id", "p0000"), {}, {}, [0] * 4, more.pop("configurations", [0, 1, 2, 3]), **more)
    columns = {"edges": np.asarray([3, 3, 2, 1]), "valid_loss": np.asarray([0.5, 0.4, 0.3, np.nan])}
    nets = networks(4)
    found = relaxed_of(plan, np.arange(4), columns, nets, nets, score)
    return [text is not None for text in found["relaxed"].to_pylist()] if found else []


def test_which_rows_of_a_pack_may_stand_on_the_front() -> None:
    assert kept_rows() == [False, True, True, False]  # a tie goes to the smaller loss; what diverged is nowhere
    assert kept_rows(score=[0.1, 0.2, 0.3, 0.4]) == [True, False, True, True]
    assert kept_rows(folds=[0, 1, 2, 3]) == []  # validated on folds: never served
    assert kept_rows(id="s0000", folds=[0, 1, 2, 3]) == []
    assert kept_rows(folds=[-1] * 4, configurations=[0, 0, 1, 1]) == [True, False, True, False]  # refitted: the picked ones
    half = {"columns": {"task.rows": [1, 1, 2, 2]}}
    plan = Pack("p0000", {}, half["columns"], [0] * 4, [0, 1, 2, 3])
    columns = {"edges": np.asarray([1, 2, 1, 2]), "valid_loss": np.zeros(4)}
    found = relaxed_of(plan, np.arange(4), columns, networks(4), networks(4), np.asarray([0.1, 0.2, 0.3, 0.2]))
    assert [text is not None for text in found["relaxed"].to_pylist()] == [True, False, True, True]  # each data set its own


def test_the_page_shows_shares_and_weights_beside_what_was_made_of_them(done: Study) -> None:
    text = (done.folder / "report.html").read_text(encoding="utf-8")
    part = text.split('<h2 id="soft">')[1].split("</section>")[0]
    chosen = str(done.best()["replica"])
    assert f"{chosen} (chosen): shares of activations before hardening" in part
    for words in ('<th scope="col">hardened to</th>', '<th scope="col">tanh</th>', "layer 1, neuron 1", "least decided"):
        assert words in part, words
    assert re.search(r'<td class="s\d+ kept">0\.\d\d</td>|<td class="s10 kept">1\.00</td>', part)
    picture = re.search(r'aria-label="(Heat maps of the chosen[^"]*)"', part)
    assert picture is not None
    one = results.relaxed(done.folder, [chosen])[chosen]
    left = sum(int(np.sum(block["kept"])) for block in one["blocks"])
    assert f"beside the {left:,} of {one['weights']:,} weights that were kept" in picture[1]


def test_what_is_not_shown_is_said(done: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = str(done.best()["replica"])
    front, frame = done.front("all"), done.frame
    own = results.relaxed(done.folder, frame["replica"].tolist())
    strange = frame[~frame["replica"].isin(list(own))].head(1)
    mixed = pd.concat([front, strange], ignore_index=True)
    found = softened(done, mixed, chosen, ())
    assert any(strange.iloc[0]["replica"] in words and "was not kept" in words for words in found.missing)
    assert softened(done, strange, str(strange.iloc[0]["replica"]), ()).numbers is None
    large = {chosen: own[chosen] | {"blocks": [], "weights": 10 * MOST_WEIGHTS}}
    monkeypatch.setattr(results, "relaxed", lambda folder, names: large)
    assert any("100,000 weights" in words for words in softened(done, front, chosen, ()).missing)
    whole = [block | {"kept": np.ones_like(block["kept"]).tolist()} for block in own[chosen]["blocks"]]
    monkeypatch.setattr(results, "relaxed", lambda folder, names: {chosen: own[chosen] | {"blocks": whole}})
    found = softened(done, front, chosen, ())
    assert found.picture is None
    assert "Hardening cut no weight of the chosen network." in found.missing


def test_a_map_of_gates_and_of_a_choice_that_a_layer_shares() -> None:
    from nasplug.report.softened import _shares

    shared = {"layer": 1, "shares": [[0.9, 0.1]], "gates": None, "choices": [0], "kept": [1, 0, 1]}
    grid = _shares("p0000/0001", {"candidates": ["relu", "identity"], "layers": [shared]}, marked=False)
    assert grid is not None
    assert grid.rows == [(False, ["layer 1, all 3", "0.90", "0.10", "relu"])]
    assert grid.looks == [["", "s9 kept", "s1", ""]]
    gated = {"layer": 1, "shares": None, "gates": [0.75, 0.0], "choices": None, "kept": [1, 0]}
    grid = _shares("p0000/0001", {"candidates": ["relu"], "layers": [gated]}, marked=True)
    assert grid is not None
    assert list(grid.headings) == ["neuron", "gate", "hardened to"]
    assert [cells for _, cells in grid.rows] == [
        ["layer 1, neuron 1", "0.75", "kept"],
        ["layer 1, neuron 2", "0.00", "removed"],
    ]
    assert _shares("p0000/0001", {"candidates": ["relu"], "layers": []}, marked=True) is None


def _light(colour: np.ndarray) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.asarray([0.2126, 0.7152, 0.0722]))


def test_numbers_on_coloured_cells_have_contrast(done: Study) -> None:
    text = (done.folder / "report.html").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in re.findall(r":root \{(.*?)\}", text, re.DOTALL)]
    shades = re.findall(r"\.s(\d+) \{ background: rgb\((\d+) (\d+) (\d+) / ([\d.]+)\)", text)
    assert [int(number) for number, *_ in shades] == list(range(1, SHADES + 1))
    assert float(shades[-1][-1]) == STRONGEST
    assert len(themes) == 2
    for theme in themes:
        for _, *blue, opacity in shades:
            over, paper = np.asarray([int(part) / 255 for part in blue]), np.asarray(to_rgb(theme["paper"]))
            np.testing.assert_allclose(over, to_rgb(style.POSITIVE), atol=1e-6)
            cell = float(opacity) * over + (1 - float(opacity)) * paper
            low, high = sorted((_light(cell), _light(np.asarray(to_rgb(theme["ink"])))))
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_only_some_blocks_are_drawn_and_that_is_said(tmp_path: Path) -> None:
    blocks = [{"to": n + 1, "from": n, "before": [[0.5, 0.0]], "kept": [[int(n > 1), 0]]} for n in range(6)]
    figure = drawing.draw_magnitudes(blocks, ["a", "b"], 6)
    assert figure is not None
    assert len(figure.axes) == 8
    text = drawing.svg(figure, "soft", "six blocks")
    assert "2 more blocks are not drawn" in text
    assert "layer 2 → layer 3" in text  # where nothing was kept, others go first
    assert "inputs → layer 1" not in text
    assert drawing.draw_magnitudes([], [], 1) is None
    drawing.save_png(figure, tmp_path / "soft.png")
    assert (tmp_path / "soft.png").stat().st_size > 1000
    assert TABLE.endswith(".parquet")
