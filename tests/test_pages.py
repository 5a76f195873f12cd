"""The report in a browser: at the width of a desk and of a telephone, on paper, in the dark, by keyboard, heard, and sorted."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasplug import Study
from nasplug.report.compared import write_comparison
from nasplug.report.comparing import compare

from .browser import CHROMIUM, Browser, browsing

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: pages are not looked at in a browser")

NAMES = ["収入 (万円)", "<script>alert(1)</script>", "ärger & Größe", "long_" + "x" * 60]
ONE_AXIS = """
[...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].map((head) => [Number(head.tagName[1]), head.textContent.trim()])
"""
INK = """
(() => {
  const shade = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = shade(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = words.nextNode(); node; node = words.nextNode()) {
    const parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest("script, style")) continue;
    const style = getComputedStyle(parent);
    const ink = shade(parent.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(parent))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found[node.textContent.trim().slice(0, 40)] = ratio;
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with names in several scripts, and columns enough for a wide table."""
    folder = tmp_path_factory.mktemp("pages")
    random = np.random.default_rng(0)
    x = random.normal(size=(160, len(NAMES)))
    frame = pd.DataFrame(x, columns=pd.Index(NAMES))
    frame["答え"] = np.where(x[:, 0] - x[:, 1] + 0.3 * random.normal(size=160) > 0, "はい", "いいえ")
    frame.to_csv(folder / "table.csv", index=False)
    raw = {
        "study": "pages",
        "store": str(folder / "runs"),
        "task": {"use": "table", "path": str(folder / "table.csv"), "target": "答え", "validation": "holdout"},
        "method": {"use": "edges", "mode": "annealed", "hidden": [4]},
        "penalties": [{"use": "l1", "level": {"log": [1e-4, 1e-1], "points": 4}}],
        "temperature": {"use": "geometric", "start": 1.0, "end": 0.05},
        "discretizers": [{"use": "threshold", "tolerance": 0.02}],
        "train": {"steps": 60, "lr": {"choice": [0.01, 0.05]}, "finetune": 10, "reports": 4},
        "seeds": 2,
        "mlflow": None,
    }
    return Study.from_dict(raw).run("serial").folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_only_boxes_scroll_sideways(page: Path, browser: Browser, width: int) -> None:
    browser.open(page, width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
    loose = "[...document.querySelectorAll('table')].filter((one) => !one.closest('.wide')).length"
    assert browser.run(loose) == 0
    wide = "[...document.querySelectorAll('.wide, .picture, pre')].filter((box) => box.scrollWidth > box.clientWidth)"
    if width < 600:
        assert browser.run(f"{wide}.length") > 3
    assert browser.run(f"{wide}.every((box) => box.tabIndex === 0)")


def test_what_a_screen_reader_is_told(page: Path, browser: Browser) -> None:
    browser.open(page)
    assert browser.run("document.documentElement.lang") == "en"
    heads = browser.run(ONE_AXIS)
    assert [level for level, _ in heads].count(1) == 1
    assert all(b - a <= 1 for (a, _), (b, _) in pairwise(heads))
    heard = browser.heard()
    roles = [role for role, _ in heard]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1, landmark
    pictures = [name for role, name in heard if role in ("image", "img")]
    assert len(pictures) == browser.run("document.querySelectorAll('svg, img').length")
    assert all(len(name) > 40 for name in pictures)
    assert any("収入" in name for name in pictures)
    assert all(name for role, name in heard if role in ("table", "button", "link", "columnheader", "rowheader"))
    assert browser.run(
        "[...document.querySelectorAll('[tabindex=\"0\"]')].every((one) => one.ariaLabel || one.ariaLabelledByElements)"
    )
    assert browser.run("[...document.querySelectorAll('th')].every((one) => one.scope)")
    assert browser.run("[...document.querySelectorAll('table')].every((one) => one.caption)")
    ids = browser.run("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    targets = browser.run("[...document.querySelectorAll('a')].map((one) => one.getAttribute('href').slice(1))")
    assert set(targets) <= set(ids)


def test_the_keyboard_is_enough(page: Path, browser: Browser) -> None:
    browser.open(page)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.textContent") == "Skip to the contents"
    shown = "(() => { const box = document.activeElement.getBoundingClientRect(); return box.left >= 0 && box.width > 0; })()"
    assert browser.run(shown)
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.run("document.querySelector('th button').focus()")
    browser.press("Tab", 9)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.tagName") == "BUTTON"


def test_tables_are_sorted(page: Path, browser: Browser) -> None:
    browser.open(page)
    column = (
        "[...document.querySelector('#front-table').closest('table').tBodies[0].rows].map((row) => row.cells[{}].innerText)"
    )
    head = "document.querySelector('#front-table').closest('table').tHead.rows[0].cells[{}]"
    errors = [float(text.partition(" ")[0]) for text in browser.run(column.format(4))]
    assert errors == sorted(errors, reverse=True)  # a front
    for said, wanted in (("ascending", sorted(errors)), ("descending", sorted(errors, reverse=True))):
        browser.run(head.format(4) + ".querySelector('button').click()")
        assert browser.run(head.format(4) + ".getAttribute('aria-sort')") == said
        assert [float(text.partition(" ")[0]) for text in browser.run(column.format(4))] == wanted
    browser.run(head.format(0) + ".querySelector('button').click()")
    assert browser.run(head.format(4) + ".getAttribute('aria-sort')") is None
    browser.open(page, script=False)
    assert browser.run(column.format(4))[0].startswith(f"{errors[0]:.2f}")
    assert browser.complaints() == []


@pytest.mark.parametrize("dark", [False, True])
def test_all_text_has_contrast(page: Path, browser: Browser, dark: bool) -> None:
    browser.open(page, dark=dark)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run(INK) == {}


def test_the_page_on_paper(page: Path, browser: Browser, tmp_path: Path) -> None:
    browser.open(page)
    browser.paper(tmp_path / "page.pdf")
    pdf = (tmp_path / "page.pdf").read_bytes()
    parts = [pdf, *(_inflated(part) for part in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL))]
    pages = sum(len(re.findall(rb"/Type\s*/Page\b", part)) for part in parts)
    assert 3 <= pages <= 14
    (size,) = {tuple(map(float, box.split())) for part in parts for box in re.findall(rb"/MediaBox\s*\[([^]]*)\]", part)}
    assert [round(end) for end in size] == [0, 0, 595, 842]  # A4
    browser.ask("Emulation.setEmulatedMedia", media="print")
    shown = "[...document.querySelectorAll('nav, .skip')].filter((one) => one.offsetParent !== null).length"
    assert browser.run(shown) == 0
    browser.ask(
        "Emulation.setDeviceMetricsOverride", width=688, height=1000, deviceScaleFactor=1, mobile=False
    )  # between margins
    assert browser.run("document.documentElement.scrollWidth") <= 688
    cut = "[...document.querySelectorAll('.wide, .picture, pre')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
    assert browser.run(f"{cut}.map((one) => one.textContent.slice(0, 60))") == []


def _inflated(part: bytes) -> bytes:
    try:
        return zlib.decompress(part.strip(b"\r\n"))
    except zlib.error:
        return b""


def test_a_comparison_is_a_page_of_the_same_kind(page: Path, browser: Browser, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "copy")
    found = compare([Study.open(page.parent), Study.open(tmp_path / "copy")])
    write_comparison(found, tmp_path / "both.html")
    for width, dark in ((1280, False), (390, True)):
        browser.open(tmp_path / "both.html", width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(INK) == {}
    assert browser.complaints() == []
    assert all(name for role, name in browser.heard() if role in ("image", "img", "table"))
