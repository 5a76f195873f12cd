"""Moving the alias ``champion`` by hand: through the gate, against it with a reason, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nasplug.activations import FUNCTIONS, Function
from nasplug.errors import ConfigError, NasplugError
from nasplug.tracking.evidence import evidence_of
from nasplug.tracking.gate import Condition, decide
from nasplug.tracking.history import CHAMPION, History, held, move, read_history
from nasplug.tracking.models import probed
from nasplug.tracking.places import database_of, talking
from nasplug.tracking.policy import Network, Policy, conditions_of
from nasplug.tracking.registry import DIGEST, GATE, PREVIOUS, PROMOTED, WHY
from nasplug.tracking.serving import MODELS, served

__all__ = ["Outcome", "history_of", "promote", "rollback"]

TOLD = "`nasplug history` shows every move that was made; run the same command again"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a version.

    Attributes:
        name: of the registered model.
        version: the one that was to be champion.
        before: the champion before; empty where there was none.
        promoted: whether it is champion now.
        forced: whether against the gate.
        why: in words.
        conditions: all that was judged.
    """

    name: str
    version: str
    before: str
    promoted: bool
    forced: bool
    why: str
    conditions: Sequence[Condition] = ()


@contextmanager
def _registry(uri: str, name: str) -> Iterator[Any]:
    """A client of a registry that has this model.

    Raises:
        ConfigError: for a store or a name that is not there.
        NasplugError: for a registry that does not answer.
    """
    database = database_of(uri)
    if database is not None and not database.exists():
        raise ConfigError(f"{database} is not there; give another store (--store)")
    if not name.strip():
        raise ConfigError(f"model {name!r}; needed: the name of a registered model")
    with talking(uri, retries=1, seconds=30, told=TOLD):
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        with probed(uri):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            try:
                client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                known = ", ".join(sorted(m.name for m in client.search_registered_models(max_results=50))) or "none"
                raise ConfigError(f"no model {name!r} is registered there; there are: {known}") from None
        yield client


def _version(client: Any, name: str, number: str) -> Any:
    """A version of a model.

    Raises:
        ConfigError: for one that is not there.
    """
    from mlflow.exceptions import MlflowException

    try:
        if not number.isdecimal() or len(number) > 18:  # MLflow's own numbers are of 64 bits
            raise ConfigError(f"version {number!r}; needed: a number")
        return client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        there = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
        raise ConfigError(f"{name!r} has no version {number}; there are: {', '.join(map(str, there)) or 'none'}") from None


def promote(
    uri: str,
    name: str,
    version: str,
    policy: Policy = Policy(),  # noqa: B008 - frozen by use
    *,
    force: bool = False,
    why: str = "",
    functions: Mapping[str, Function] = FUNCTIONS,
) -> Outcome:
    """Make a version champion, if the gate and a policy let it through; ``force`` moves it against them, with a reason.

    Args:
        uri: of the store.
        name: of the registered model.
        version: its number.
        policy: limits.
        force: move it whatever was found.
        why: a reason, which the history keeps; needed with ``force``.
        functions: what activations mean, where a policy measures the network.

    Raises:
        ConfigError: for a model or version that is not there, or ``force`` without a reason.
        NasplugError: where MLflow does not answer, or somebody else moved the alias meanwhile.
    """
    if force and not why.strip():
        raise ConfigError("--force without --why TEXT; needed: the reason, which the history keeps")
    with _registry(uri, name) as client:
        was = read_history(client, name)
        record = _version(client, name, version)
        version = str(record.version)
        if was.champion == version:
            return Outcome(name, version, version, True, False, f"version {version} is champion already")
        mine = evidence_of(client, uri, record)
        other = evidence_of(client, uri, client.get_model_version(name, was.champion)) if was.champion else None
        decision = decide(mine, other, f"version {was.champion}", policy.level)
        tags = {**_run_tags(client, record), **record.tags}
    limits = conditions_of(policy, mine, tags, _loader(uri, name, version, functions))
    conditions = (*decision.conditions, *limits)
    failed = [one for one in limits if not one.passed]
    reasons = [*([] if decision.passes else [decision.why])]
    reasons += [f"{one.name}: {one.figure}, needed: {one.limit}" for one in failed]
    if reasons and not force:
        return Outcome(name, version, was.champion, False, False, "; ".join(reasons), conditions)
    forced = bool(reasons)
    words = ". ".join(filter(None, (why.strip(), f"Against the gate: {'; '.join(reasons)}" if forced else decision.why)))
    with _registry(uri, name) as client, held(client, uri, name) as now:
        _same(was, now, name)
        figures = {**decision.figures, **{one.name: one.figure for one in limits}}
        event = {"act": "promoted", "alias": CHAMPION, "version": version, "why": words, "figures": figures}
        move(client, name, now, {**event, "digest": record.tags.get(DIGEST, ""), "forced": forced})
        told = {GATE: CHAMPION, WHY: words, PROMOTED: "true", **({PREVIOUS: was.champion} if was.champion else {})}
        for key, value in told.items():
            client.set_model_version_tag(name, version, key, value[:4000])
    return Outcome(name, version, was.champion, True, forced, words, conditions)


def rollback(uri: str, name: str, why: str = "") -> Outcome:
    """Give the alias back to the champion before, by the history; again: to the one before that.

    Versions that were deleted are passed over.

    Raises:
        ConfigError: where there was none, or all versions that were champion before were deleted.
        NasplugError: where MLflow does not answer, or somebody else moved the alias meanwhile.
    """
    with _registry(uri, name) as client, held(client, uri, name) as now:
        line = now.champions
        if len(line) < 2:
            raise ConfigError(f"{name!r} has had no champion before; nasplug promote {name} --to VERSION makes one champion")
        gone: list[str] = []
        for back in reversed([number for number in line[:-1] if number != now.champion]):
            try:
                record = _version(client, name, back)
                break
            except ConfigError:
                gone.append(back)
        else:
            raise ConfigError(
                f"every champion before version {now.champion} of {name!r} was deleted (version {', '.join(gone)}); "
                f"nasplug promote {name} --to VERSION makes another one champion"
            )
        words = why.strip() or f"rolled back from version {now.champion}"
        if gone:
            words += f"; version {', '.join(gone)} was deleted"
        event = {"act": "rolled back", "alias": CHAMPION, "version": back, "why": words}
        move(client, name, now, {**event, "digest": record.tags.get(DIGEST, "")})
        return Outcome(name, back, now.champion, True, False, words)


def history_of(uri: str, name: str) -> History:
    """The history of a registered model.

    Raises:
        ConfigError: for a store or model that is not there.
        NasplugError: where MLflow does not answer.
    """
    with _registry(uri, name) as client:
        return read_history(client, name)


def _same(was: History, now: History, name: str) -> None:
    """Refuse to move what somebody else moved meanwhile.

    Raises:
        NasplugError: naming who, when the history says it.
    """
    if was.champion == now.champion and was.head == now.head:
        return
    last = next((one for one in reversed(now.events) if one.alias == CHAMPION), None)
    by = f" by {last.who} at {last.at}" if last is not None and last.version == now.champion else ""
    raise NasplugError(
        f"{name}: another promotion came first{by}: version {now.champion or 'none'} is champion now. Nothing was moved; "
        "the same command again compares with that one"
    )


def _run_tags(client: Any, record: Any) -> dict[str, str]:
    """Tags of the run of a version; none where it was deleted, or there never was one."""
    from mlflow.exceptions import MlflowException

    if not record.run_id:
        return {}
    try:
        return dict(client.get_run(record.run_id).data.tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def _loader(uri: str, name: str, version: str, functions: Mapping[str, Function]) -> Callable[[], Network]:
    """Loads a version's network once."""
    there: list[Network] = []

    def load() -> Network:
        if not there:
            there.append(served(uri, f"{MODELS}{name}/{version}", functions))
        return there[0]

    return load
