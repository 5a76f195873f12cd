"""The house map in the README is the house: every module on its floor, imports go down, heavy packages have one door each."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "nasplug"
MODULES = {path.name: [path] for path in HOUSE.glob("*.py") if path.name != "__init__.py"}
MODULES |= {f"{path.parent.name}/": sorted(path.parent.rglob("*.py")) for path in HOUSE.glob("*/__init__.py")}
"""Name on the map -> files: a package is one module with rooms."""

DOORS = {"ray": "runner/", "mlflow": "tracking/", "pytest": "testing/"}
"""Heavy packages, and the one module that may import each."""

LINE = re.compile(r"^\s*(\d+)\s+(\w+(?:\.py|/))\s+(\* )?\s*(\S.*)$")


@dataclass(frozen=True)
class Place:
    """A module's floor, and whether a plugin may import it (a star on the map)."""

    floor: int
    public: bool


def house_map(text: str) -> dict[str, Place]:
    """Module -> its place, from the first fenced block after the words "house map"."""
    block = re.search(r"house map.*?^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert block is not None, "the README has no fenced block after the words 'house map'"
    floors: dict[str, Place] = {}
    for line in block[1].splitlines():
        found = LINE.match(line)
        assert found is not None, f"not '<floor> <module>.py [*] words' or '<floor> <package>/ [*] words': {line!r}"
        assert found[2] not in floors, f"{found[2]} is on the map twice"
        floors[found[2]] = Place(int(found[1]), found[3] is not None)
    return floors


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything imported anywhere, also for type checkers only; ``from a import b`` gives ``a.b``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where things live"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported(node)


def imports(path: Path) -> set[str]:
    return set(imported(ast.parse(path.read_text(encoding="utf-8"))))


def ours(name: str) -> str | None:
    """The module of nasplug that a dotted name is in."""
    parts = name.split(".")
    if parts[0] != "nasplug" or len(parts) == 1:
        return None
    return next((f"{parts[1]}{end}" for end in (".py", "/") if f"{parts[1]}{end}" in MODULES), None)


PLACES = house_map((ROOT / "README.md").read_text(encoding="utf-8"))
FLOORS = {name: place.floor for name, place in PLACES.items()}
PUBLIC = {re.sub(r"(\.py|/)$", "", name) for name, place in PLACES.items() if place.public}
PLUGINS = sorted((ROOT / "plugins").glob("*/nasplug_*/**/*.py"))
ROOMS = sorted({path.parent.parent for path in (ROOT / "plugins").glob("*/nasplug_*/*/__init__.py")})
"""Packages of plugins that have rooms."""


def test_the_map_names_every_module_and_no_other() -> None:
    assert set(FLOORS) == set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_below(module: str) -> None:
    for path in MODULES[module]:
        below = {name: FLOORS[name] for full in imports(path) if (name := ours(full)) is not None}
        if module.endswith("/"):
            below.pop(module, None)  # rooms have an order of their own: the next test
        wrong = {name: floor for name, floor in below.items() if floor >= FLOORS[module]}
        assert not wrong, f"{path.relative_to(HOUSE)} is on floor {FLOORS[module]} and imports from {wrong}"


@pytest.mark.parametrize("package", sorted(name for name in MODULES if name.endswith("/")))
def test_the_rooms_of_a_package_import_in_one_direction(package: str) -> None:
    """Each room is on a floor of its own; the package's own file, which lists what is public, is on top."""
    rooms = {path.stem: path for path in MODULES[package]}
    within = f"nasplug.{package[:-1]}."
    below = {
        room: {full.removeprefix(within).split(".")[0] for full in imports(path) if full.startswith(within)}
        for room, path in rooms.items()
    }
    assert set().union(*below.values()) <= set(rooms), "a room imports from the package's own file"
    order = list(TopologicalSorter(below).static_order())  # CycleError where there is none
    assert set(order) == set(rooms)
    assert below["__init__"]


@pytest.mark.parametrize("package", sorted(DOORS))
def test_a_heavy_package_has_one_door(package: str) -> None:
    users = {
        name
        for name, paths in MODULES.items()
        if any(full.split(".")[0] == package for path in paths for full in imports(path))
    }
    assert users == {DOORS[package]}


def test_what_is_copied_into_served_models_needs_no_nasplug() -> None:
    allowed = sys.stdlib_module_names | {"numpy", "pandas"}
    assert {full.split(".")[0] for full in imports(HOUSE / "rows.py")} <= allowed


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_a_plugin_has_no_more_rights_than_a_strangers(path: Path) -> None:
    for full in imports(path):
        parts = full.split(".")
        if ours(full) is not None:
            assert parts[1] in PUBLIC, f"{full} is not of a public module ({', '.join(sorted(PUBLIC))})"
            assert not any(part.startswith("_") for part in parts[1:]), f"{full} is private"
        package = path.relative_to(ROOT / "plugins").parts[1]
        others = {p.relative_to(ROOT / "plugins").parts[1] for p in PLUGINS} - {package}
        assert parts[0] not in others, f"{full} belongs to another plugin"


@pytest.mark.parametrize("package", ROOMS, ids=lambda package: package.name)
def test_the_rooms_of_a_plugin_are_on_a_map_and_import_only_from_below(package: Path) -> None:
    """A plugin with rooms has a house map in its README; within a room imports go in one direction, too."""
    floors = {
        name: place.floor for name, place in house_map((package.parent / "README.md").read_text(encoding="utf-8")).items()
    }
    modules = {path.name: [path] for path in package.glob("*.py") if path.name != "__init__.py"}
    modules |= {f"{path.parent.name}/": sorted(path.parent.rglob("*.py")) for path in package.glob("*/__init__.py")}
    assert set(floors) == set(modules)
    for module, paths in modules.items():
        within: dict[str, set[str]] = {}
        for path in paths:
            mine = [full.split(".")[1:] for full in imports(path) if full.startswith(f"{package.name}.")]
            within[path.stem] = {parts[1] for parts in mine if f"{parts[0]}/" == module}
            others = {f"{parts[0]}{'.py' if f'{parts[0]}.py' in floors else '/'}" for parts in mine} - {module}
            wrong = {name for name in others if floors[name] >= floors[module]}
            assert not wrong, f"{path.relative_to(package)} is on floor {floors[module]} and imports from {wrong}"
        assert set().union(*within.values()) <= set(within), f"a room of {module} imports from the package's own file"
        assert set(TopologicalSorter(within).static_order()) == set(within)  # CycleError where there is none


def test_there_are_plugins_to_look_at() -> None:
    assert "nasplug_swat" in {package.name for package in ROOMS}
    assert {path.parent.name for path in PLUGINS} >= {"nasplug_discretizers", "nasplug_regularizers"}


# the reader itself

BLOCK = "# x\nThe house map\n\n```text\n 0 errors.py  * words\n12 plan.py      words * words\n13 testing/   * words\n```\n"


def test_the_reader_of_maps() -> None:
    assert house_map(BLOCK) == {"errors.py": Place(0, True), "plan.py": Place(12, False), "testing/": Place(13, True)}
    for broken, told in (
        (BLOCK.replace("house map", "plan"), "no fenced block"),
        (BLOCK.replace("12 plan", "plan"), "not '<floor>"),
        (BLOCK.replace("testing/", "testing"), "not '<floor>"),
        (BLOCK.replace("plan", "errors"), "twice"),
    ):
        with pytest.raises(AssertionError, match=told):
            house_map(broken)


def test_the_reader_of_imports() -> None:
    code = """
from typing import TYPE_CHECKING
import os.path
from nasplug.errors import ConfigError, NasplugError
if TYPE_CHECKING:
    import ray
else:
    import json
def inside():
    if True:
        from nasplug import hookspecs
"""
    assert set(imported(ast.parse(code))) == {
        "typing.TYPE_CHECKING",
        "os.path",
        "nasplug.errors.ConfigError",
        "nasplug.errors.NasplugError",
        "ray",
        "json",
        "nasplug.hookspecs",
    }
    names = ("nasplug.errors.ConfigError", "nasplug.packs", "nasplug.testing.laws.Laws", "nasplug.Networks", "os")
    assert [ours(n) for n in names] == ["errors.py", "packs/", "testing/", None, None]
