"""The group of commands: errors as one message and a status, signals, commands that plugins offer."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from nasplug.console import alone, say, speak
from nasplug.errors import ConfigError, NasplugError, PluginError, cause, scrub
from nasplug.places import in_bucket

__all__ = [
    "config_argument",
    "fast_option",
    "json_option",
    "limits_of",
    "limits_option",
    "main",
    "network_place",
    "ours",
    "overrides_argument",
    "place",
]

OFFER = "nasplug.offer"  # in a context: whose command runs
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
P = ParamSpec("P")
R = TypeVar("R")

config_argument = click.argument("config", type=Path)
overrides_argument = click.argument("overrides", nargs=-1)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
limits_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    help="COLUMN=NUMBER: the largest value allowed. latency_us and flash_bytes are measured.",
)
fast_option = click.option("--fast", is_flag=True, help="Skip trials of method, penalties and discretizers on two networks.")


def _refusing(command: Callable[P, R]) -> Callable[P, R]:
    """Print errors of nasplug as one message without secrets; status 2 for a refused study or option, 1 for a failure."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            say(f"Error: {scrub(str(error))}", error=True)
            sys.exit(2)
        except NasplugError as error:
            say(f"Error: {scrub(str(error))}", error=True)
            sys.exit(1)
        except KeyboardInterrupt:
            say("Stopped. What finished is kept; run the same command again to go on.", error=True)
            sys.exit(130)

    return run


def limits_of(given: Sequence[str]) -> dict[str, float]:
    """``COLUMN=NUMBER``, several times, as a mapping.

    Raises:
        ConfigError: for anything else.
    """
    found = {}
    for text in given:
        name, _, most = text.partition("=")
        try:
            found[name] = float(most)
        except ValueError:
            raise ConfigError(f"--limit {text}; needed: COLUMN=NUMBER, for example parameters=30") from None
    return found


def ours(command: Callable[P, R]) -> Callable[P, R]:
    """A command of nasplug: only what it prints itself goes to standard output."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with alone():
            return command(*args, **kwargs)

    return run


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP stop a command as Ctrl-C does, with the same status."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _left_behind() -> bool:
    """Whether an observer still runs although the study no longer waits for it."""
    observers = sys.modules.get("nasplug.observers")
    return observers is not None and any(thread.name == observers.THREAD for thread in threading.enumerate())


def _unwritten(error: OSError) -> str:
    """What a system says of a file or an output, in one line."""
    if error.errno not in FULL:
        return cause(error)
    where = error.filename or "standard output, or a file of this command,"
    return f"{where} cannot be written: {error.strerror}. Make room, or write it elsewhere; what was written whole is kept"


def _let_go() -> None:
    """Standard output to nowhere: what is left in it would be tried again, and fail again, when this process ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Place(click.ParamType[Path]):
    """A folder; of an address of a bucket the folder here, brought to what the bucket has."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """See `click.ParamType`."""
        if not (isinstance(value, str) and in_bucket(value)):
            return Path(value)
        from nasplug.buckets import fetched

        return fetched(value)


class _Network(_Place):
    """What a network is named by: where that is a study in a bucket, its folder here."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType`."""
        bucket = isinstance(value, str) and in_bucket(value) and not value.startswith(("http://", "https://"))
        return str(super().convert(value, param, ctx)) if bucket else value


place, network_place = _Place(), _Network()


SECTIONS: Sequence[tuple[str, Sequence[str]]] = (
    ("From a table to networks", ("look", "plan", "run", "status", "stop", "extend")),
    ("What came out", ("front", "explain", "predict", "export", "compare", "ui")),
    ("Registered models, and where they came from", ("register", "promote", "rollback", "history", "lineage", "reproduce")),
    ("Around it", ("plugins", "config", "enumerate", "sync", "doctor")),
)
"""What `nasplug --help` lists, by what one wants to do."""


class _Commands(click.Group):
    """The commands of nasplug. For any other name the plugins are loaded, as one of them may offer it."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in the order in which one needs them; below each heading, what they do."""
        listed = {name for _, names in SECTIONS for name in names}
        rest = [name for name, one in sorted(self.commands.items()) if not one.hidden and name not in listed]
        for heading, names in [*SECTIONS, *([("More", rest)] if rest else [])]:
            room = formatter.width - 6 - max(map(len, names))
            rows = [(name, self.commands[name].get_short_help_str(room)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Look among nasplug's own first, so that these start without loading plugins."""
        found = super().get_command(context, name)
        if found is not None:
            return found
        with alone():
            return _of_plugins(context, name)

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Whatever is printed, the output's encoding takes it; no observer left behind is waited for.

        An output that cannot be written ends a command with one line and status 1; a pipe that its reader has closed with
        status 1 alone (click sees to that), as other programs do.
        """
        speak()
        try:
            return super().main(args, *more, **named)
        except OSError as error:
            if args is None:
                _let_go()
            with suppress(OSError):  # standard error may be full, too
                say(f"Error: {_unwritten(error)}", error=True)
            sys.exit(1)
        except SystemExit as end:
            if args is None and _left_behind():  # this process is ours
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else end.code is not None)
            raise
        finally:
            if args is None:
                gc.freeze()  # this process ends: it need not look through all that was ever imported once more

    def invoke(self, context: click.Context) -> Any:
        """Plugins' commands refuse as ours do, and where they break they are named."""
        with _signals():
            return _refusing(self._invoke)(context)

    def _invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (NasplugError, click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if OFFER not in context.meta or (isinstance(error, OSError) and error.errno in (errno.EPIPE, *FULL)):
                raise
            raise PluginError(f"{context.meta[OFFER]} broke with {cause(error)}. Tell its author") from error


@_refusing
def _of_plugins(context: click.Context, name: str) -> click.Command | None:
    from nasplug.plugins import load_plugins

    plugins = load_plugins()
    if name not in plugins.offers("command") and not plugins.perhaps and not any(c.name == name for c in plugins.clashes):
        return None  # click says that there is none, and what may have been meant
    offer = plugins.offer("command", name)
    context.meta[OFFER] = str(offer)
    try:
        command = offer.factory()
    except Exception as error:
        raise PluginError(f"{offer} broke with {cause(error)}. Tell its author") from error
    if not isinstance(command, click.Command):
        raise PluginError(f"{offer}: its factory returned {type(command).__name__}; needed: a click.Command. Tell its author")
    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nasplug")
def main() -> None:
    """Find small neural networks by gradient descent, thousands at a time.

    A study is one YAML file. `nasplug plan` shows what it would do, `nasplug run` does it, `nasplug front` shows what came
    out, `nasplug ui` opens MLflow on it. Plugins may add commands; `nasplug plugins` lists them.
    """
