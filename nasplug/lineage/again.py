"""One network trained again, alone or with its population, from its lineage; what is equal, and what is different and why.

A row depends on its own numbers alone, but the last bits of float32 do not: BLAS and vector units sum in an order that depends
on how many rows there are and on how a row's numbers lie in memory. So the row stands among copies of itself, at a place that
is the same to both (`stand_in`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from nasplug import files
from nasplug.compact import CompactNetwork, compact, digest_of
from nasplug.config import StudyConfig, parse
from nasplug.errors import ConfigError, NasplugError
from nasplug.identity import digest_of as digest_of_plain
from nasplug.identity import makers
from nasplug.lineage.record import scores_of
from nasplug.machine import arithmetic, environment, pick_device
from nasplug.packs import TABLE, load_networks, run_pack
from nasplug.plan import Pack, build_task, forget_tasks, settle, study_of, task_facts
from nasplug.plugins import Plugins
from nasplug.tasks import Facts, Origin

__all__ = ["TOLERANCE", "Difference", "Reproduction", "again", "apart", "stand_in"]

TOLERANCE = 1e-4
"""By how much a weight (of size 1 or more: relative to it) or a score may differ in a network that is said to be reproduced."""
LANES = 16  # float32 in the widest register, and in a line of the cache
BUILT = ("inputs", "features", "kept_inputs", "widths", "activations", "blocks", "link", "targets", "stem", "structure")
"""What of a network's record is its architecture."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not now as it was then.

    Attributes:
        cause: data, package, plugin, python, device, threads or processor.
        what: of these.
        then, now: in words.
    """

    cause: str
    what: str
    then: str
    now: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A network that was trained again.

    Attributes:
        replica: its name.
        reproduced: whether architecture, weights and scores are equal, or within ``tolerance``.
        architecture: whether it has the same neurons, activations, inputs and blocks. Where the network's own files are gone,
            it is known alone if all is equal, and else False.
        equal: whether all weights are equal, bit by bit.
        largest: the largest difference of a weight, relative to weights above 1; None where there are none to compare.
        tolerance: what is allowed of weights and scores.
        scores: name -> then and now, of each score and size that there was.
        scores_equal: whether all of them are equal, bit by bit.
        differences: of data, code and machine, whatever came of them.
        digest: of the network that came out.
        rows: how many rows were trained: copies of the one, or its population among copies.
        seconds: that it took.
    """

    replica: str
    reproduced: bool
    architecture: bool
    equal: bool
    largest: float | None
    tolerance: float
    scores: Mapping[str, tuple[float, float | None]]
    scores_equal: bool
    differences: tuple[Difference, ...]
    digest: str
    rows: int
    seconds: float

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def stand_in(rows: int, row: int, count: int = 1) -> tuple[int, int]:
    """How many copies stand in for a pack of ``rows``, and which of them for ``row``: at most 47 and the 16th.

    Of ``count`` rows from ``row`` on, which stand for themselves, so many more, and the place of the first. Rows before and
    behind are left out by `LANES` at a time, so that registers, cache lines and tiles of matrix products lie as they did, and
    so do the ends of the pack.
    """
    before, behind, least = row % LANES, rows - row, LANES + count - 1
    return before + (behind if behind < LANES + least else least + (behind - least) % LANES), before


def again(
    record: Mapping[str, Any], network: CompactNetwork | None, plugins: Plugins, data: str | None = None
) -> tuple[Reproduction, CompactNetwork]:
    """Train the network of a lineage again; what came of it, and the new network.

    Args:
        record: its lineage.
        network: as it left; None where its files are gone: then digests alone are compared.
        plugins: where names are looked up.
        data: where its file lies now.

    Raises:
        ConfigError: for a plugin that is not installed, data that are not there, or a secret that no file keeps.
    """
    began = time.perf_counter()
    if members := record.get("members"):
        names = ", ".join(str(member["replica"]["name"]) for member in members)
        raise ConfigError(f"it is an ensemble; reproduce its members, which are {names}")
    study, plan = _study(record), _plan(record, data)
    if data is not None:
        study = _moved(study, plan, data)
    _installed(record)
    forget_tasks()
    settled = settle(study_of(study, plan), plan.values)
    facts = _facts(settle(study, plan.task(0)), plugins, str(record["data"]["task"]["name"]))
    device = _device(study, str(record["training"]["device"]))
    trained = record["pack"].get("path", record["pack"])  # of a path all networks up to its own are trained again
    population = record["pack"].get("population", {"first": trained["row"], "row": 0, "rows": 1})
    first, own, whole = int(population["first"]), int(population["row"]), int(trained["rows"])
    rows, at = stand_in(whole, first, int(population["rows"]))
    with arithmetic(study.resources.threads, device, tf32=study.train.allow_tf32):
        here = environment(device)
    found = list(_differences(record, facts, here, makers(settled, plugins)))
    made, row = _train(study, _among(plan, rows, at), at + own, plugins, device, facts)
    if digest_of(made) != record["network"]["digest"] and not found and rows < whole:
        rows, at = whole, first  # nothing else explains it
        made, row = _train(study, _among(plan, rows, at), at + own, plugins, device, facts)
    found += _origins(record["plugins"].get("owners", {}), json.loads(row["owners"]))
    told = _compared(record, network, made, row)
    return replace(told, differences=tuple(found), rows=rows, seconds=time.perf_counter() - began), made


# -- what is trained ---------------------------------------------------------------------------------------------------


def _study(record: Mapping[str, Any]) -> StudyConfig:
    """The study as it was, which compiles its steps if they were compiled then, and stops no row.

    Raises:
        ConfigError: for a config that this nasplug does not take, or that held a secret.
    """
    plain = json.loads(json.dumps(record["study"]["config"]))
    if "***" in json.dumps([plain["task"], plain["method"]]):
        raise ConfigError("the study's config held a secret, which no file keeps: run the study with its own YAML file instead")
    plain |= {"mlflow": None, "stop": None}  # it went on to the end: what others did to stop early is theirs
    plain["train"] |= {"compile": bool(record["training"]["compiled"])}
    return parse(plain)


def _plan(record: Mapping[str, Any], data: str | None) -> Pack:
    """The pack of the one row, or of its population. Its data are compared, not asked for: where they changed, that is told."""
    try:
        plan = replace(Pack(**record["pack"]["plan"]), data={})
    except (TypeError, LookupError) as error:
        raise ConfigError(f"this nasplug cannot read the plan in the lineage: {error}; use the version that wrote it") from None
    if data is None:
        return plan
    path = "task.path"
    values = {**plan.values, path: data} if path in plan.values else plan.values
    columns = {**plan.columns, path: [data] * plan.rows} if path in plan.columns else plan.columns
    return replace(plan, values=values, columns=columns)


def _among(plan: Pack, rows: int, at: int) -> Pack:
    """The row of the plan, or its population, from row ``at`` on; the other ``rows`` are copies of it, and copy nobody."""
    own = range(plan.rows) if plan.groups else [0]
    pack = plan.some([*[0] * at, *own, *[0] * (rows - at - len(own))])
    if not plan.groups:
        return pack
    return replace(pack, groups=[-1 if at <= row < at + len(own) else row for row in range(rows)])


def _moved(study: StudyConfig, plan: Pack, data: str) -> StudyConfig:
    """The study with its file elsewhere.

    Raises:
        ConfigError: where the task reads no file.
    """
    if "path" not in study.task.options:
        raise ConfigError(f"--data {data}: the task {study.task.use!r} reads no file; leave out --data")
    if "task.path" in plan.values or "task.path" in plan.columns:
        return study
    plain = study.plain()
    plain["task"]["path"] = data
    return parse(plain)


def _installed(record: Mapping[str, Any]) -> None:
    """Refuse what is not installed.

    Raises:
        ConfigError: naming all of it.
    """
    missing = []
    for distribution, version in record["plugins"].get("made_by", {}).items():
        try:
            metadata.version(distribution)
        except metadata.PackageNotFoundError:
            missing.append(f"{distribution} {str(version).partition(',')[0]}")
    if missing:
        raise ConfigError(f"it was made by {', '.join(missing)}, which is not installed; install that first")


def _device(study: StudyConfig, then: str) -> str:
    """The device that it was trained on, or the CPU where there is none of that kind."""
    try:
        return pick_device("cpu" if then == "cpu" else study.resources.device, study.resources.gpus)
    except ConfigError:
        return "cpu"


def _train(
    study: StudyConfig, pack: Pack, at: int, plugins: Plugins, device: str, facts: Facts
) -> tuple[CompactNetwork, dict[str, Any]]:
    """The network of one row of a pack, and its row of the table."""
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there) / pack.id
        try:
            with arithmetic(study.resources.threads, device, tf32=study.train.allow_tf32):
                for _ in run_pack(study, pack, plugins, folder, device=device):
                    pass
        except NasplugError as error:
            raise ConfigError(f"it cannot be trained again: {error}") from None
        table = files.read_table(folder / TABLE, lambda name: not name.startswith("history_"))
        row: dict[str, Any] = table.slice(at, 1).to_pylist()[0]
        return compact(load_networks(folder, plugins.functions), at, facts), row


def _facts(settled: StudyConfig, plugins: Plugins, name: str) -> Facts:
    """What is known of the data now; a table is called as it was, whatever its file is called now."""
    facts = task_facts(settled, plugins)
    return facts if facts.name == name else replace(build_task(settled, plugins), name=name).facts


# -- what is compared --------------------------------------------------------------------------------------------------


def _compared(
    record: Mapping[str, Any], then: CompactNetwork | None, now: CompactNetwork, row: Mapping[str, Any]
) -> Reproduction:
    """Then and now, without what may have caused a difference."""
    digest = digest_of(now)
    equal = digest == record["network"]["digest"]
    architecture, largest = equal, 0.0 if equal else None
    if then is not None and not equal:
        shapes = ({key: value for key, value in one.record.items() if key in BUILT} for one in (then, now))
        architecture = next(shapes) == next(shapes)
        if architecture:
            news = now.state_dict()
            largest = max(apart(tensor, news[name]) for name, tensor in then.state_dict().items())
            equal = largest == 0.0
    before, after = (_flat(scores) for scores in (record["scores"], scores_of(row)))
    scores = {name: (value, after.get(name)) for name, value in before.items()}
    close = all(new is not None and abs(new - old) <= TOLERANCE * max(1.0, abs(old)) for old, new in scores.values())
    return Reproduction(
        replica=str(record["replica"]["name"]),
        reproduced=architecture and largest is not None and largest <= TOLERANCE and close,
        architecture=architecture,
        equal=equal,
        largest=largest,
        tolerance=TOLERANCE,
        scores=scores,
        scores_equal=all(old == new for old, new in scores.values()),
        differences=(),
        digest=digest,
        rows=0,
        seconds=0.0,
    )


def apart(then: torch.Tensor, now: torch.Tensor) -> float:
    """The largest difference of two tensors of one shape, relative to what is above 1; infinite where one is not finite."""
    if then.shape != now.shape:
        return float("inf")
    if not then.numel():
        return 0.0
    then, now = then.double(), now.double()  # the places of inputs are whole numbers
    apart = (then - now).abs() / then.abs().clamp(min=1.0)
    return float(torch.nan_to_num(apart, nan=float("inf")).max())


def _flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """Scores and sizes by one name each; without what is of all folds together."""
    stages = {stage: values for stage, values in scores.items() if stage != "over folds"}
    return {f"{stage} {name}": float(value) for stage, values in stages.items() for name, value in values.items()}


def _differences(
    record: Mapping[str, Any], facts: Facts, here: Mapping[str, Any], made_by: Mapping[str, str]
) -> Iterator[Difference]:
    """What is not as it was, by cause."""
    yield from _of_data(record["data"], facts)
    there = record["training"]["environment"]
    for name, now in here["packages"].items():
        then = there.get("packages", {}).get(name)
        if then not in (None, now):
            yield Difference("package", name, then, now)
    before = record["plugins"].get("made_by", {})
    for name in sorted(before.keys() | made_by.keys()) if before else ():
        if before.get(name) != made_by.get(name):
            yield Difference("plugin", name, before.get(name, "not used"), made_by.get(name, "not used"))
    for cause, name in (
        ("python", "python"),
        ("device", "device"),
        ("threads", "threads"),
        ("processor", "cpu"),
        ("processor", "instructions"),
        ("device", "cuda"),
        ("device", "tf32"),
    ):
        if name in there and there[name] != here[name]:
            yield Difference(cause, name, str(there[name]), str(here[name]))


def _of_data(data: Mapping[str, Any], facts: Facts) -> Iterator[Difference]:
    """The raw data; if these are equal the rows of the splits; if those are equal what was made of them."""
    then = None if data.get("origin") is None else Origin.from_plain(data["origin"])
    now = facts.origin
    if then is not None and now is not None and then.digest != now.digest:
        yield Difference("data", "raw data", f"{then.digest}, {then.rows} rows", f"{now.digest}, {now.rows} rows")
        return
    if then is not None and now is not None:
        changed = [part for part in then.splits if then.splits[part] != now.splits[part]]
        yield from (Difference("data", f"rows of the {part} split", then.splits[part], now.splits[part]) for part in changed)
        if changed:
            return
    encoder = None if facts.encoder is None else digest_of_plain(facts.encoder)
    before = (data.get("encoder") or {}).get("digest")
    if before != encoder:
        yield Difference("data", "encoder", str(before), str(encoder))
    elif data["task"]["digest"] != facts.digest:
        what = "all of it" if then is None else "scales, weights, loss or names"
        yield Difference("data", what, data["task"]["digest"], facts.digest)


def _origins(then: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Difference]:
    """What the method was made of (an autoencoder)."""
    for name in sorted(then.keys() | now.keys()):
        if name.startswith("method.") and then.get(name) != now.get(name):
            yield Difference("plugin", name.removeprefix("method."), then.get(name, "none"), now.get(name, "none"))
