"""Who is told of a run: each observer in a thread of its own, from the log; what it does wrong is named and costs nobody else.

Everything here belongs to one run: studies in other threads, with other observers, hear nothing of it.
"""

from __future__ import annotations

import inspect
import math
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType

import pluggy

from nasplug import hookspecs
from nasplug.errors import NasplugError, PluginError, cause, did_you_mean, scrub
from nasplug.events import EVENTS, HOOKS, Event, Log, PackReported, arguments_of, hook_of
from nasplug.plugins import Plugins
from nasplug.plugins.registration import manager

__all__ = ["PATIENCE", "STOPPED_PATIENCE", "THREAD", "Audience", "Listener", "listeners", "named"]

PATIENCE = 60.0
"""Seconds that the end of a study waits for an observer, counted for all at once; it may have its own ``patience_seconds``."""
STOPPED_PATIENCE = 5.0
"""The same where a run was stopped."""
THREAD = "nasplug observer"
LONGEST = 2000  # characters of an error that are told


@dataclass(eq=False, slots=True)
class Listener:
    """One observer of one run.

    Attributes:
        observer: the object with hooks.
        manager: knows its hooks and nobody else's.
        plugin: what it is called where it is an installed plugin.
        patience: how long the end of a study waits for it, in seconds.
        told: events it was told, reports not counted.
        hook: the one it is in now.
        failure: what it did wrong, or was not told; empty so far.
    """

    observer: object
    manager: pluggy.PluginManager
    plugin: str = ""
    patience: float = field(default_factory=lambda: PATIENCE)
    told: int = field(default=0, init=False)
    hook: str = field(default="", init=False)
    failure: str = field(default="", init=False)
    _left: bool = field(default=False, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """In messages: what it is, of which distribution and version."""
        return self.plugin or named(self.observer)

    def start(self, log: Log) -> None:
        """Listen to a log in a thread, which ends with the log and keeps no process alive."""
        portions = log.follow()
        self._thread = threading.Thread(target=self._listen, args=(portions,), name=THREAD, daemon=True)
        self._thread.start()

    def leave(self, seconds: float, log: Log) -> None:
        """Wait for the thread at most so long; then say what was not told, and tell no more."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
            if self._thread.is_alive():
                self._left = True
                where = f"still in {self.hook}" if self.hook else "not told anything yet"
                self._fail(f"{self.name} is {where}; {log.count - self.told} of {log.count} events were not told to it")
        if not self.failure and log.trouble:
            self._fail(f"{self.name} was told only a part: {log.path} could not be written ({log.trouble})")

    def _listen(self, portions: Iterable[Sequence[Event]]) -> None:
        try:
            for portion in portions:
                for event in portion:
                    if self._left:
                        return
                    self.hook = hook_of(event)
                    getattr(self.manager.hook, self.hook)(**arguments_of(event))
                    self.told += not isinstance(event, PackReported)
        except BaseException as error:  # noqa: BLE001 - a stranger's code: whatever it raises ends its own thread, nothing else
            self._fail(f"{self.name} broke in {self.hook} with {_told(error)}; it hears no more of this run")

    def _fail(self, what: str) -> None:
        if self.failure:
            return
        self.failure = " ".join(str(scrub(what)).split())
        with suppress(Exception):  # there may be no standard error, or a closed one
            print(f"nasplug: {self.failure}", file=sys.stderr, flush=True)


class Audience:
    """The observers of one run, and the log that they listen to. Use as a context manager.

    At the end it waits for each of them at most its patience (`STOPPED_PATIENCE` where the run was stopped), counted for all at
    once, and says on standard error who was not told what, one line per observer.
    """

    def __init__(self, folder: Path, observers: Sequence[Listener]) -> None:
        self.log = Log(folder / EVENTS)
        self.observers = observers

    def __enter__(self) -> Audience:
        for observer in self.observers:
            observer.start(self.log)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.log.close()
        ended = time.monotonic()
        for observer in sorted(self.observers, key=lambda each: each.patience):
            seconds = observer.patience if kind is None else min(observer.patience, STOPPED_PATIENCE)
            observer.leave(seconds - (time.monotonic() - ended), self.log)

    def tell(self, event: Event) -> None:
        """Append an event to the log; returns at once, and never raises."""
        self.log.append(event)


def named(observer: object) -> str:
    """An observer in words: its class (or module), and the distribution that it comes from where one is found."""
    kind = observer if inspect.ismodule(observer) or inspect.isclass(observer) else type(observer)
    home = str(getattr(kind, "__module__", "") or getattr(kind, "__name__", ""))
    what = getattr(kind, "__qualname__", None)
    package = home.partition(".")[0]
    distribution = metadata.packages_distributions().get(package, [package])[0]  # an editable one does not list its packages
    try:
        owner = f" ({distribution} {metadata.version(distribution)})"
    except (metadata.PackageNotFoundError, ValueError):
        owner = ""
    return f"observer {f'{home}.{what}' if what else home}{owner}"


def listeners(plugins: Plugins, observers: Sequence[object], ours: Sequence[object] = ()) -> list[Listener]:
    """The observers of a run: the installed plugins that have such hooks, ours, and those that a user gives for this run alone.

    Raises:
        PluginError: for one that is given twice, or has a misspelt hook, other arguments, or no hook of an observer.
    """
    if isinstance(observers, str | bytes | Mapping) or not isinstance(observers, Sequence):
        raise PluginError(f"observers: {type(observers).__name__}; needed: a list of objects with hooks of observers")
    installed = plugins.members
    found = []
    for owner in plugins.observers:
        alone = manager()
        alone.register(installed[owner])  # was checked when it was loaded
        patience = _patience(installed[owner])
        found.append(Listener(installed[owner], alone, str(owner), PATIENCE if patience is None else patience))
    given: list[object] = []
    for observer in (*ours, *observers):
        if any(observer is other for other in given):
            raise PluginError(f"{named(observer)} is given twice; give each observer once")
        if any(observer is plugin for plugin in installed.values()):
            raise PluginError(f"{named(observer)} is an installed plugin, which hears every study; do not give it again")
        given.append(observer)
        found.append(_checked(observer))
    return found


def _checked(observer: object) -> Listener:
    """With a manager that knows this observer alone; refuses what would never be called, or fail when it is."""
    if inspect.isclass(observer):
        raise PluginError(f"{named(observer)} is a class; needed: an object of it, {observer.__name__}()")
    alone = manager()
    try:
        alone.register(observer)
        callers = alone.get_hookcallers(observer) or []
        present = [hook for hook in HOOKS if callable(getattr(observer, hook, None))]
        patience = _patience(observer)
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"{named(observer)} has a hook with other arguments: {' '.join(str(error).split())}. {_ACCEPTED}"
        ) from None
    except Exception as error:
        raise PluginError(f"{named(observer)} cannot be looked at: {_told(error)}. {_ACCEPTED}") from error
    for caller in callers:
        if caller.spec is None:
            raise PluginError(f"{named(observer)}: {caller.name} is no hook.{did_you_mean(caller.name, HOOKS)} {_ACCEPTED}")
        if caller.name not in HOOKS:
            raise PluginError(f"{named(observer)}: {caller.name} is a plugin's hook, which no run calls. {_ACCEPTED}")
        if any(inspect.iscoroutinefunction(call.function) for call in caller.get_hookimpls()):
            raise PluginError(f"{named(observer)}: {caller.name} is async, and nobody awaits it; write def {caller.name}")
    for hook in present:
        if alone.parse_hookimpl_opts(observer, hook) is None:
            raise PluginError(f"{named(observer)}: {hook} is not marked; write @nasplug.hookimpl above it")
    if not callers:
        raise PluginError(f"{named(observer)} has no hook of an observer. {_ACCEPTED}")
    if patience is None:
        raise PluginError(f"{named(observer)}: patience_seconds is no number; needed: a number of seconds, 0 or more")
    return Listener(observer, alone, patience=patience)


def _patience(observer: object) -> float | None:
    """How long an observer wants to be waited for; None where what it says is no number of seconds."""
    found = getattr(observer, "patience_seconds", PATIENCE)
    return found if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < math.inf else None


_ACCEPTED = "The hooks of an observer: " + ", ".join(
    f"{hook}({', '.join(inspect.signature(getattr(hookspecs, hook)).parameters)})" for hook in HOOKS
)


def _told(error: BaseException) -> str:
    """An error in one line, not too long a one; ours say what to do, a stranger's where it came from."""
    text = f"{type(error).__name__}: {error}" if isinstance(error, NasplugError) else cause(error)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
