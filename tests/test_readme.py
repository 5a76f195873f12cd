"""What the README and its pages show works as it is printed."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest
import torch
import yaml

from nasplug.config import parse
from nasplug.data.recipe import TableFacts, recipe
from nasplug.plugins import Plugins
from nasplug.testing import RegularizerLaws, example_networks

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
PLUGINS = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins").glob("*/**/*.md"))}
MOST_LINES = 180  # of a front door
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]+))?\)")


def blocks(language: str) -> list[str]:
    texts = (PAGES | PLUGINS).values()
    return [block for text in texts for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)]


def test_the_front_door_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


def anchors(page: Path) -> set[str]:
    """What a link may name in a page: its headings as GitHub writes them, small letters and hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*PAGES, *PLUGINS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link, anchor in LINK.findall((PAGES | PLUGINS)[path]):
        if "://" in link:
            continue
        page = path.parent / link if link else path
        assert page.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(page), f"{path.name} links to {link}#{anchor}; there are {sorted(anchors(page))}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_page_of_a_plugin_can_be_reached_from_its_readme(path: Path) -> None:
    readme = next(page for page in PLUGINS if page.name == "README.md" and page.parent in path.parents)
    assert path == readme or f"]({path.relative_to(readme.parent)}" in PLUGINS[readme], f"link to {path} in {readme}"


def test_every_page_can_be_reached_from_the_front_door() -> None:
    assert {f"docs/{path.name}" for path in PAGES if path.parent.name == "docs"} <= set(re.findall(r"\]\(([^)#]+)", README))


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"\b[A-Z]+_(?:TABLE|MAP|HERE)\b", README)


def test_the_plugin_card_is_a_plugin() -> None:
    card = next(block for block in blocks("python") if "register_regularizers" in block)
    module = types.ModuleType("nasplug_balance")
    exec(compile(card, "page", "exec"), module.__dict__)  # noqa: S102 - our own pages
    plugins = Plugins()
    plugins.add(module, "balance", "nasplug-balance", "1.0")
    for widths in ((4, 3, 2), (4, 1, 1), (1, 1)):
        value = plugins.build("regularizer", "balance", {"share": 0.5})(example_networks(0, 3, widths))
        assert value.shape == (3,)
        assert bool((value >= 0).all() & torch.isfinite(value).all())


def test_the_card_of_a_loss_and_a_metric_is_a_plugin() -> None:
    card = next(block for block in blocks("python") if "register_metrics" in block)
    module = types.ModuleType("nasplug_own")
    exec(compile(card, "page", "exec"), module.__dict__)  # noqa: S102 - our own pages
    plugins = Plugins()
    plugins.add(module, "own", "nasplug-own", "1.0")
    outputs, y = torch.tensor([[[0.0, 3.0, 40.0]], [[1.0, 2.0, 30.0]]]), torch.tensor([[0.0, 2.5, 30.0]])
    found = plugins.build("loss", "log_cosh", {})(outputs, y)
    torch.testing.assert_close(found, torch.log(torch.cosh((outputs - y)[:, 0].double())).float())
    assert plugins.build("metric", "within", {})(outputs, y).tolist() == pytest.approx([2 / 3, 2 / 3])


def test_the_study_of_a_table_is_the_one_that_look_writes() -> None:
    card = next(block for block in blocks("yaml") if "my.yaml" in block)
    facts = TableFacts(path="houses.csv", target="price", kind="regression", rows=1000, numbers=5, categories=0)
    assert parse(yaml.safe_load(card)) == parse(recipe(facts))


def test_the_kit_card_is_a_kit() -> None:
    card = next(block for block in blocks("python") if "RegularizerLaws" in block)
    found: dict[str, type] = {}
    exec(compile(card, "page", "exec"), found)  # noqa: S102 - our own pages
    kit = found["TestBalance"]
    assert issubclass(kit, RegularizerLaws)
    assert kit.name == "balance"  # type: ignore[attr-defined]
    assert kit.options == {"share": 0.5}  # type: ignore[attr-defined]


def test_the_study_is_a_study() -> None:
    studies = [study for study in map(yaml.safe_load, blocks("yaml")) if "study" in study]
    assert studies
    for study in studies:
        parse(study)
