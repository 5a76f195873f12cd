"""The laws of a command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import click
from click.testing import CliRunner, Result

from nasplug.plugins import Plugins, load_plugins
from nasplug.testing.remedies import Kit

__all__ = ["CommandLaws"]

UNKNOWN = "--no-such-option"


class CommandLaws(Kit):
    """Laws of a `click` command that a plugin adds to ``nasplug``; nothing is run but its help."""

    name: ClassVar[str]
    """The registered name."""

    def plugins(self) -> Plugins:
        """The registry: everything installed. Override it to test a plugin that is not."""
        return load_plugins()

    def whose(self) -> str:
        """See `nasplug.testing.remedies.Kit.whose`."""
        return str(self.plugins().offer("command", self.name))

    def command(self) -> click.Command:
        """The command, made afresh."""
        made = self.plugins().offer("command", self.name).factory()
        assert isinstance(made, click.Command), f"command law: the factory returned {type(made).__name__}, no click.Command"
        return made

    def all(self) -> Iterator[tuple[list[str], click.Command]]:
        """The command and its subcommands, with the words that lead to each."""
        waiting: list[tuple[list[str], click.Command]] = [([], self.command())]
        while waiting:
            words, command = waiting.pop()
            yield words, command
            if isinstance(command, click.Group):
                context = click.Context(command)
                found = ((name, command.get_command(context, name)) for name in command.list_commands(context))
                waiting += [([*words, name], inner) for name, inner in found if inner is not None]

    def _ask(self, *words: str) -> Result:
        return CliRunner().invoke(self.command(), words)

    def test_is_a_command(self) -> None:
        """The factory returns a `click.Command`."""
        self.command()

    def test_is_documented(self) -> None:
        """The factory's docstring has a first line: `nasplug plugins` shows it."""
        summary = self.plugins().offer("command", self.name).summary
        assert summary.strip(), f"command {self.name!r}: its factory has no docstring to show"

    def test_answers_for_help(self) -> None:
        """``--help`` answers for it and every subcommand, with what it does."""
        for words, command in self.all():
            asked = " ".join([self.name, *words, "--help"])
            done = self._ask(*words, "--help")
            assert done.exit_code == 0, f"help law: `nasplug {asked}` ended with {done.exit_code}: {done.output.strip()[-300:]}"
            assert (command.help or "").strip(), f"help law: `nasplug {asked}` does not say what it does"

    def test_documents_its_options(self) -> None:
        """Every option says what it is."""
        for words, command in self.all():
            for parameter in command.params:
                silent = isinstance(parameter, click.Option) and not parameter.hidden and not (parameter.help or "").strip()
                assert not silent, f"help law: {parameter.opts[0]} of `nasplug {' '.join([self.name, *words])}` has no help"

    def test_refuses_what_it_does_not_know(self) -> None:
        """An option that it does not have ends it with status 2, before any work."""
        for words, _ in self.all():
            done = self._ask(*words, UNKNOWN)
            asked = " ".join([self.name, *words, UNKNOWN])
            assert done.exit_code == 2, f"refusal law: `nasplug {asked}` ended with {done.exit_code}, not 2"
            assert not done.exception or isinstance(done.exception, SystemExit), f"refusal law: it raised {done.exception!r}"
