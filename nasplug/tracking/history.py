"""Who moved which alias of a registered model, when and why: kept in the registry itself, one tag per event.

An event is a tag ``nasplug.history.000007`` of the registered model, JSON with the digest of the event before it. The tag
``nasplug.history`` says how many there are and the digest of the last one. So an event that was changed or is gone shows. The
digests tell damage and careless hands, not an enemy: who can write tags can write all of them anew.

The order of writes makes kills heal: the event, then the alias, then the count. Whoever comes next completes an event that is
not counted yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from nasplug.errors import NasplugError, scrub
from nasplug.tracking.ledger import user
from nasplug.tracking.schema import alone

__all__ = ["CHALLENGER", "CHAMPION", "Event", "History", "held", "move", "read_history"]

CHAMPION, CHALLENGER = "champion", "challenger"
HEAD = "nasplug.history"
CLAIM = "nasplug.claim."
MOST_WHY = 1500  # characters: a tag of a registered model holds 5,000
MOST_TAG = 5000
PATIENCE = 15.0  # seconds that a claim of somebody else is waited for; one that stays as long was left by a crash
PAUSE = 0.1
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
Act = Literal["registered", "promoted", "rolled back", "renewed"]


class Event(BaseModel):
    """One move of an alias.

    Attributes:
        number: from 1 on.
        at: when, UTC, ISO 8601.
        who: the user, as that machine calls him.
        act: what was done: a study registered a version; somebody promoted one, or rolled back; one that lost its model was
            replaced by the same network.
        alias: which was moved.
        before: the version that bore it, empty where none did.
        version: that bears it now.
        digest: of the network.
        why: in words.
        figures: what it was decided by.
        forced: whether it was moved against the gate.
        previous: SHA-256 of the event before, hexadecimal; empty for the first.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    at: str
    who: str
    act: Act
    alias: str
    before: str
    version: str
    digest: str = ""
    why: str = ""
    figures: dict[str, Any] = {}
    forced: bool = False
    previous: str = ""

    @field_validator("at")
    @classmethod
    def _moment(cls, at: str) -> str:
        if datetime.fromisoformat(at).tzinfo is None:
            raise ValueError("a time without its zone")
        return at


@dataclass(frozen=True, slots=True)
class History:
    """What a registered model says of itself.

    Attributes:
        aliases: alias -> version, now.
        events: all that can be read, in order.
        trouble: what is wrong with them, one sentence each.
        head: events that were counted, and the digest of the last of them.
        pending: the event that was written and not counted: its writer was stopped.
    """

    aliases: Mapping[str, str]
    events: Sequence[Event]
    trouble: Sequence[str]
    head: tuple[int, str]
    pending: Event | None = None

    @property
    def champion(self) -> str:
        """The version that bears ``champion`` now; empty where none does."""
        return self.aliases.get(CHAMPION, "")

    @property
    def champions(self) -> list[str]:
        """The champions that a rollback goes through, the present one last: what was rolled back is not among them."""
        found: list[str] = []
        for event in self.events:
            if event.alias != CHAMPION:
                continue
            if event.act == "rolled back" and event.version in found:
                del found[found.index(event.version) + 1 :]
            elif event.act == "renewed" and found:
                found[-1] = event.version
            else:
                found += [one for one in (event.before, event.version) if one and one != (found[-1] if found else "")]
        return found if not self.champion or found[-1:] == [self.champion] else [*found, self.champion]

    def at(self, moment: datetime) -> tuple[str, Event | None]:
        """The champion at a moment, and the event that made it so: None for one that was there before the first event."""
        known = [event for event in self.events if event.alias == CHAMPION]
        past = [event for event in known if datetime.fromisoformat(event.at) <= moment]
        if past:
            return past[-1].version, past[-1]
        return (known[0].before if known else self.champion), None


def read_history(client: Any, name: str) -> History:
    """The history of a registered model, checked.

    Raises:
        MlflowException: for a model that is not there.
    """
    model = client.get_registered_model(name)
    tags = dict(model.tags)
    aliases = {str(alias): str(version) for alias, version in model.aliases.items()}
    trouble: list[str] = []
    head = (0, "")
    try:
        told = json.loads(tags.get(HEAD, '{"events": 0, "digest": ""}'))
        head = int(told["events"]), str(told["digest"])
        if head[0] < 0:
            raise ValueError("fewer events than none")
    except (ValueError, LookupError, TypeError, OverflowError):
        trouble.append(f"the tag {HEAD} cannot be read")
    events: list[Event] = []
    pending = None
    last, after = "", 0
    for number in _numbers(tags):
        trouble += _missing(after + 1, number - 1)
        if number > after + 1:
            last = ""
        after, text = number, tags[_key(number)]
        try:
            event = Event.model_validate_json(text)
        except ValidationError:
            event = None
        if event is None or event.number != number:
            trouble.append(f"event {number} cannot be read")
            last = ""
            continue
        if last != event.previous and (last or number == 1):
            trouble.append(f"event {number} does not follow from event {number - 1}: one of them was changed")
        last = _digest(text)
        if number > head[0]:
            pending = event
        events.append(event)
    trouble += _missing(after + 1, head[0])
    if head[0] and _digest(tags.get(_key(head[0]), "")) != head[1]:
        trouble.append(f"event {head[0]}, the last one, is not the one that was written")
    return History(aliases, events, tuple(dict.fromkeys(trouble)), head, pending)


def _numbers(tags: Mapping[str, str]) -> list[int]:
    """Numbers of the events that are there, in order."""
    ends = (key.rpartition(".")[2] for key in tags if key.startswith(f"{HEAD}."))
    return sorted(number for number in (int(end) for end in ends if end.isdecimal()) if _key(number) in tags)


def _missing(first: int, last: int) -> list[str]:
    """Events that are not there, in words: however many they are, one sentence."""
    if last < first:
        return []
    return [f"event {first} is missing" if last == first else f"events {first} to {last} are missing"]


def move(client: Any, name: str, was: History, event: Mapping[str, Any]) -> History:
    """Write an event down and move its alias; to be called by who has `held` the model and read ``was`` since.

    Of ``champion`` the version before becomes ``challenger``.

    Args:
        client: of MLflow.
        name: of the registered model.
        was: its history.
        event: fields of `Event` but those that are filled in here: number, time, user, version before, digest before.
    """
    number = max([was.head[0], *(one.number for one in was.events)]) + 1
    before = client.get_registered_model(name).tags.get(_key(number - 1), "") if number > 1 else ""
    full = Event(
        **event,
        number=number,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        who=user(),
        before=was.aliases.get(event["alias"], ""),
        previous=_digest(before) if before else "",
    )
    client.set_registered_model_tag(name, _key(number), _text(full))
    _complete(client, name, full)
    return read_history(client, name)


def _complete(client: Any, name: str, event: Event) -> None:
    """The alias as an event has it, and the event counted."""
    if event.act == "renewed":
        pass
    elif event.alias == CHAMPION and event.before not in ("", event.version):
        client.set_registered_model_alias(name, CHALLENGER, event.before)
    elif event.alias == CHAMPION and dict(client.get_registered_model(name).aliases).get(CHALLENGER) == event.version:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_registered_model_alias(name, event.alias, event.version)
    _count(client, name, event)


def _count(client: Any, name: str, event: Event) -> None:
    text = client.get_registered_model(name).tags[_key(event.number)]
    client.set_registered_model_tag(name, HEAD, json.dumps({"events": event.number, "digest": _digest(text)}))


@contextmanager
def held(client: Any, uri: str, name: str) -> Iterator[History]:
    """A registered model whose aliases no other nasplug moves meanwhile; its history, in which a killed move is completed.

    On an sqlite file a lock beside it is held. On every store each contender writes a claim, a tag of its own, and goes on only
    if it then sees no other; of two that see each other the one with the larger key withdraws and waits. A claim that stays for
    `PATIENCE` seconds was left by a process that was killed, and is removed. Who sets aliases without nasplug is not kept out.

    Raises:
        NasplugError: where others hold it for too long.
    """
    from mlflow.exceptions import MlflowException

    with alone(uri):
        mine = f"{CLAIM}{secrets.token_hex(8)}"
        try:
            _claim(client, name, mine)
            found = read_history(client, name)
            if found.pending is not None:
                try:
                    _complete(client, name, found.pending)
                except MlflowException as error:
                    if error.error_code not in GONE:
                        raise
                    _count(client, name, found.pending)  # its version was deleted since
                found = read_history(client, name)
            yield found
        finally:
            with suppress(MlflowException):
                _withdraw(client, name, mine)


def _claim(client: Any, name: str, mine: str) -> None:
    since: dict[str, float] = {}
    began = time.monotonic()
    written = False
    while True:
        others = {key: str(text) for key, text in client.get_registered_model(name).tags.items() if key.startswith(CLAIM)}
        others.pop(mine, None)
        if not others and written:
            return
        now = time.monotonic()
        for key in others:
            if now - since.setdefault(key, now) > PATIENCE:
                _withdraw(client, name, key)
        if now - began > 3 * PATIENCE:
            whom = str(scrub(next(iter(others.values()), "somebody")))
            raise NasplugError(
                f"{name!r} is being changed by another process ({whom}); nothing was moved: run the command again"
            )
        if written and any(key < mine for key in others):
            _withdraw(client, name, mine)
            written = False
        elif not written and not others:
            client.set_registered_model_tag(name, mine, f"{user()}, process {os.getpid()}")
            written = True
            continue
        time.sleep(PAUSE)


def _withdraw(client: Any, name: str, key: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model_tag(name, key)
    except MlflowException as error:
        if error.error_code not in GONE:
            raise


def _key(number: int) -> str:
    return f"{HEAD}.{number:06d}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(event: Event) -> str:
    """The event as a tag; what is too long for one is cut in its words."""
    shown = event.model_copy(update={"why": str(scrub(event.why))[:MOST_WHY]})
    text = shown.model_dump_json()
    if len(text.encode()) > MOST_TAG - 100:
        text = shown.model_copy(update={"figures": {}, "why": shown.why[:500]}).model_dump_json()
    return text
