"""The kits of commands and observers meet plugins that break each law; every kit says whose it is and what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from nasplug import hookimpl, testing
from nasplug.plugins import Plugins
from nasplug.testing import CommandLaws, ObserverLaws, RegularizerLaws
from nasplug.testing.remedies import REMEDIES, Kit


def laws(kit: type[Kit]) -> set[str]:
    return {name for name in dir(kit) if name.startswith("test_")}


def test_every_law_has_a_remedy() -> None:
    kits = [kit for name in testing.__all__ if isinstance(kit := getattr(testing, name), type) and issubclass(kit, Kit)]
    assert len(kits) == 11
    assert set().union(*map(laws, kits)) == set(REMEDIES)


def registry(**hooks: Callable[..., None]) -> Plugins:
    """One plugin with these hooks."""
    module = ModuleType("toys")
    for name, function in hooks.items():
        setattr(module, name, hookimpl(function))
    plugins = Plugins()
    plugins.add(module, "toys", "nasplug-toys", "1.2")
    return plugins


def test_a_broken_law_says_whose_it_is_and_what_to_do() -> None:
    def register_regularizers(register: Callable[..., None]) -> None:
        register("toy", lambda: print)

    found = registry(register_regularizers=register_regularizers)
    toy = type("Toy", (RegularizerLaws,), {"name": "toy", "plugins": lambda self: found})()
    with pytest.raises(AssertionError) as broken:
        toy.test_is_documented()
    assert str(broken.value).splitlines() == [
        "regularizer 'toy': its factory has no docstring to show",
        "regularizer 'toy' of plugin 'toys' (nasplug-toys 1.2). Write a docstring whose first line says what it is.",
    ]


# commands


def hello() -> click.Command:
    """Say hello."""

    @click.group(help="Say hello, in several languages.")
    def group() -> None: ...

    @group.command(help="In English.")
    @click.option("--loud", is_flag=True, help="Louder.")
    def english(loud: bool) -> None: ...

    return group


def undocumented() -> click.Command:
    return click.Command("one", help="One.")


def speechless() -> click.Command:
    """A group without words."""
    return click.Group("group", help="A group.", commands=[click.Command("silent")])


def options_without_words() -> click.Command:
    """An option without words."""
    return click.Command("one", help="One.", params=[click.Option(["--loud"])])


def greedy() -> click.Command:
    """A command that takes anything."""
    return click.Command("one", help="One.", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})


def no_command() -> int:
    """A number."""
    return 5


def command_kit(factory: Callable[[], object]) -> CommandLaws:
    found = registry(register_commands=lambda register: register("toy", factory))
    made: CommandLaws = type("Toy", (CommandLaws,), {"name": "toy", "plugins": lambda self: found})()
    return made


@pytest.mark.parametrize("law", sorted(laws(CommandLaws)))
def test_a_lawful_command_passes(law: str) -> None:
    getattr(command_kit(hello), law)()


BROKEN_COMMANDS: list[tuple[str, Callable[[], object], str]] = [
    ("test_is_a_command", no_command, "the factory returned int, no click.Command"),
    ("test_is_documented", undocumented, "no docstring"),
    ("test_answers_for_help", speechless, "`nasplug toy silent --help` does not say what it does"),
    ("test_documents_its_options", options_without_words, "--loud of `nasplug toy` has no help"),
    ("test_refuses_what_it_does_not_know", greedy, "ended with 0, not 2"),
]


@pytest.mark.parametrize(("law", "factory", "reason"), BROKEN_COMMANDS)
def test_a_broken_command_fails(law: str, factory: Callable[[], object], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason) as broken:
        getattr(command_kit(factory), law)()
    assert "command 'toy' of plugin 'toys' (nasplug-toys 1.2). " in str(broken.value)


# observers


class Quiet:
    """Reads what there is, by folder."""

    def __init__(self) -> None:
        self.sizes: dict[Path, int] = {}

    @hookimpl
    def study_started(self, study: Mapping[str, Any], folder: Path) -> None:
        self.sizes[folder] = 0

    @hookimpl
    def pack_finished(self, folder: Path) -> None:
        self.sizes[folder.parent.parent] += (folder / "replicas.parquet").stat().st_size

    @hookimpl
    def study_finished(self, folder: Path) -> None:
        assert self.sizes.pop(folder) > 0


class Misspelt:
    @hookimpl
    def study_finish(self, folder: Path) -> None: ...


class Waiting(Quiet):
    @hookimpl
    def pack_finished(self, folder: Path) -> None:
        (folder / "not-there.txt").read_text()


class Sanguine(Quiet):
    @hookimpl
    def pack_failed(self, pack: str, reason: str) -> None:
        raise KeyError(pack)


class OneStudy:
    folder: Path | None = None

    @hookimpl
    def study_started(self, folder: Path) -> None:
        self.folder = folder

    @hookimpl
    def study_finished(self, folder: Path) -> None:
        assert folder == self.folder


class Scribbler:
    @hookimpl
    def study_finished(self, folder: Path) -> None:
        (folder / "report.html").write_text("mine")


class Chatty:
    @hookimpl
    def study_finished(self, folder: Path) -> None:
        print("done")


class Slow:
    @hookimpl
    def study_finished(self, folder: Path) -> None:
        time.sleep(0.2)


def observer_kit(made: Callable[[], object], **attributes: object) -> ObserverLaws:
    nobody = registry(register_tasks=lambda register: None)
    names = {"observer": lambda self: made(), "plugins": lambda self: nobody, **attributes}
    toy: ObserverLaws = type("Toy", (ObserverLaws,), names)()
    return toy


@pytest.mark.parametrize("law", sorted(laws(ObserverLaws)))
def test_a_lawful_observer_passes(law: str) -> None:
    getattr(observer_kit(Quiet), law)()


BROKEN_OBSERVERS: list[tuple[str, Callable[[], object], str]] = [
    ("test_has_hooks_of_an_observer", Misspelt, "study_finish is no hook"),
    ("test_has_hooks_of_an_observer", object, "has no hook of an observer"),
    ("test_hears_a_study", Waiting, "it broke in pack_finished with FileNotFoundError"),
    ("test_hears_of_failures", Sanguine, "it broke in pack_failed with KeyError: 'p0000'"),
    ("test_keeps_studies_apart", OneStudy, "isolation law: it broke in study_finished with AssertionError"),
    ("test_leaves_results_alone", Scribbler, r"it changed report\.html"),
    ("test_prints_nothing_to_the_output", Chatty, r"it printed 'done\\n'"),
    ("test_is_soon_done", Slow, r"a small study took it \d+\.\d s, more than 0\.1"),
]


@pytest.mark.parametrize(("law", "made", "reason"), BROKEN_OBSERVERS)
def test_a_broken_observer_fails(law: str, made: Callable[[], object], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason) as broken:
        getattr(observer_kit(made, seconds=0.1), law)()
    assert str(broken.value).endswith(f"{REMEDIES[law]}.")


def test_every_law_has_been_seen_to_fail() -> None:
    assert {law for law, *_ in BROKEN_COMMANDS} == laws(CommandLaws)
    assert {law for law, *_ in BROKEN_OBSERVERS} == laws(ObserverLaws)


def test_an_installed_observer_is_found_by_its_name() -> None:
    plugins = registry(study_finished=lambda study, folder: None)
    toy = type("Toy", (ObserverLaws,), {"name": "toys", "plugins": lambda self: plugins})()
    toy.test_hears_a_study()
    assert toy.whose() == "plugin 'toys' (nasplug-toys 1.2)"
    with pytest.raises(AssertionError, match="no plugin 'others' is installed"):
        type("Toy", (ObserverLaws,), {"name": "others", "plugins": lambda self: plugins})().observer()
