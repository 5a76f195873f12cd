"""What the README shows works as it is printed."""

from __future__ import annotations

import re
import types
from pathlib import Path

import torch
import yaml

from nasplug.config import parse
from nasplug.plugins import Plugins
from nasplug.testing import RegularizerLaws, example_networks

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"\b[A-Z]+_(?:TABLE|MAP|HERE)\b", README)


def test_the_plugin_card_is_a_plugin() -> None:
    card = next(block for block in blocks("python") if "register_regularizers" in block)
    module = types.ModuleType("nasplug_balance")
    exec(compile(card, "README.md", "exec"), module.__dict__)  # noqa: S102 - our own README
    plugins = Plugins()
    plugins.add(module, "balance", "nasplug-balance", "1.0")
    value = plugins.build("regularizer", "balance", {"share": 0.5})(example_networks(0, 3, (4, 3, 2)))
    assert value.shape == (3,)
    assert bool((value >= 0).all() & torch.isfinite(value).all())


def test_the_kit_card_is_a_kit() -> None:
    card = next(block for block in blocks("python") if "RegularizerLaws" in block)
    found: dict[str, type] = {}
    exec(compile(card, "README.md", "exec"), found)  # noqa: S102 - our own README
    kit = found["TestBalance"]
    assert issubclass(kit, RegularizerLaws)
    assert kit.name == "balance"  # type: ignore[attr-defined]
    assert kit.options == {"share": 0.5}  # type: ignore[attr-defined]


def test_the_study_is_a_study() -> None:
    for block in blocks("yaml"):
        parse(yaml.safe_load(block))
