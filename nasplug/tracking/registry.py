"""A child run's model as a version of a registered model, and what the gate makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nasplug.errors import NasplugError
from nasplug.tracking.evidence import ensure_evidence, evidence_of
from nasplug.tracking.gate import LEVEL, Decision, decide
from nasplug.tracking.history import CHALLENGER, CHAMPION, History, held, move, read_history
from nasplug.tracking.models import ensure_registered, new_version

__all__ = ["DIGEST", "GATE", "WHY", "Promote", "Registered", "judge", "register"]

Promote = Literal["if-better", "challenger", "never"]
STATES = ("nasplug.front", "nasplug.chosen", "nasplug.complete")  # tags that say how a run stands, not where it came from
PROMOTED = "nasplug.promoted"  # tag of a version that has had the alias
PREVIOUS = "nasplug.previous_champion"
DIGEST = "nasplug.digest"  # tag: what a network is, wherever it came from
GATE, WHY = "nasplug.gate", "nasplug.gate.why"  # tags: which alias a version got when it was registered, and why
TRIES = 100  # each one that fails is a move of somebody else: so many may register at once
MOST_WHY = 4000


class Registered(NamedTuple):
    """A version, ``models:/<name>/<version>``, and the alias that it bore when this was written: empty where it bore none."""

    name: str
    version: str
    alias: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that is to be decided about.

    Attributes:
        name: of the registered model.
        version: its number.
        digest: of its network.
        twins: versions of the same network, itself among them.
        promote: what the study wants.
    """

    name: str
    version: str
    digest: str
    twins: frozenset[str]
    promote: Promote


def register(
    client: Any,
    uri: str,
    name: str,
    child: Any,
    scores: Mapping[str, str],
    description: str,
    evidence: Callable[[Path], object],
    promote: Promote = "if-better",
) -> Registered:
    """What a child run logged, as a version, and the alias that the gate gives it (`nasplug.tracking.gate`).

    A version with the same content is kept, whichever run made it, and moves no alias: what was decided of a network once is
    decided. If the model of a version was lost, the same network takes its place, and its alias. ``scores`` are tags of a new
    version, beside its lineage. ``evidence`` writes ``test.parquet`` into a folder, for a model that has none.
    """
    ensure_registered(client, name)
    digest = str(child.data.tags[DIGEST])
    same = client.search_model_versions(f"name = '{name}' AND tags.`{DIGEST}` = '{digest}'")
    ours = sorted((v for v in same if _has_model(client, v)), key=lambda v: (GATE not in v.tags, int(v.version)))
    if ours:
        version = str(ours[0].version)
    else:
        lineage = {key: value for key, value in child.data.tags.items() if key.startswith("nasplug.") and key not in STATES}
        model, tags = child.outputs.model_outputs[0].model_id, {**lineage, **scores}
        version = new_version(client, uri, name, model, child.info.run_id, tags, description)
    ensure_evidence(client, client.get_model_version(name, version), evidence)
    twins = frozenset({version, *(str(v.version) for v in same)})
    told = {key: value for v in same for key, value in v.tags.items() if key in (GATE, WHY, PROMOTED)}
    _settle(client, uri, Candidate(name, version, digest, twins, promote), told)
    _drop_doubles(client, name, version)
    aliases = read_history(client, name).aliases
    return Registered(name, version, next((alias for alias in (CHAMPION, CHALLENGER) if aliases.get(alias) == version), ""))


def _settle(client: Any, uri: str, one: Candidate, told: Mapping[str, str]) -> None:
    """Give a version its alias, unless that was done before; ``told``: tags of its twins.

    The tags come last: without them, this is done again.
    """
    name, version = one.name, one.version
    for _ in range(TRIES):
        was = read_history(client, name)
        known = [event for event in was.events if event.digest == one.digest]
        if known or GATE in told or PROMOTED in told:
            lost = was.champion if was.champion in one.twins - {version} else ""
            if lost:
                why = f"the model of version {lost} was lost; version {version} is the same network"
                with held(client, uri, name) as now:
                    if _moved(was, now):
                        continue
                    move(client, name, now, _event(one, "renewed", CHAMPION, why, {}))
            had = known[-1] if known else None
            words = {GATE: had.alias, WHY: had.why} if had is not None else {GATE: CHAMPION, WHY: "it was champion before"}
            tags = {**words, **told, **({PROMOTED: "true"} if lost or (had and had.alias == CHAMPION) else {})}
            _tag_version(client, name, version, tags)
            return
        if one.promote == "never":
            _tag_version(client, name, version, {GATE: "none", WHY: "the study says promote: never"})
            return
        champion = was.champion
        if one.promote == "challenger":
            decision = Decision(False, "the study says promote: challenger")
        else:
            decision = judge(client, uri, name, version, champion)
        alias = CHAMPION if decision.passes else CHALLENGER
        with held(client, uri, name) as now:
            if _moved(was, now):
                continue
            move(client, name, now, _event(one, "registered", alias, decision.why, decision.figures))
        tags = {GATE: alias, WHY: decision.why}
        if decision.passes:
            tags |= {PROMOTED: "true", **({PREVIOUS: champion} if champion else {})}
        _tag_version(client, name, version, tags)
        return
    raise NasplugError(f"the aliases of {name!r} are moved by others all the time; version {version} has none yet")


def _drop_doubles(client: Any, name: str, version: str) -> None:
    """Delete versions of the same logged model that a request made although its answer never came."""
    kept = client.get_model_version(name, version)
    digest = kept.tags.get(DIGEST, "")
    for one in client.search_model_versions(f"name = '{name}' AND tags.`{DIGEST}` = '{digest}'"):
        if str(one.version) != version and one.source == kept.source and GATE not in one.tags:
            client.delete_model_version(name, str(one.version))


def judge(client: Any, uri: str, name: str, version: str, champion: str, level: float = LEVEL) -> Decision:
    """A version against the champion; ``champion``: its version, empty where there is none."""
    candidate = evidence_of(client, uri, client.get_model_version(name, version))
    other = evidence_of(client, uri, client.get_model_version(name, champion)) if champion else None
    return decide(candidate, other, f"version {champion}", level)


def _moved(was: History, now: History) -> bool:
    """Whether an alias was moved since."""
    return (was.aliases, was.head) != (now.aliases, now.head)


def _event(one: Candidate, act: str, alias: str, why: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "act": act,
        "alias": alias,
        "version": one.version,
        "digest": one.digest,
        "why": why,
        "figures": dict(figures),
    }


def _tag_version(client: Any, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value[:MOST_WHY])


def _has_model(client: Any, version: Any) -> bool:
    """Whether a version's model is still there: one of a half-written run was deleted with it."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_logged_model(str(version.source).removeprefix("models:/"))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True
