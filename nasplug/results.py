"""Results of a study, read from its folder: the table of replicas, the front, the chosen network."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nasplug import files
from nasplug.activations import FUNCTIONS, Function
from nasplug.compact import CompactNetwork, compact
from nasplug.config import Choose
from nasplug.errors import ConfigError, did_you_mean, scrub
from nasplug.folds import FITTED, FOLD, OverFolds, Steady, candidates, independent, means, on_folds, paired, spread
from nasplug.packs import AGAIN, CERTIFICATE, PACK, TABLE, load_networks
from nasplug.plan import REFIT, Axis, Pack, data_key, halved, row_of, with_secrets
from nasplug.tasks import Facts, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FAILURES",
    "METHOD",
    "allowed",
    "as_good",
    "cause",
    "certificate",
    "choose",
    "facts_of",
    "finished_packs",
    "front",
    "judged",
    "members",
    "merge",
    "network",
    "pack_record",
    "plan_of",
    "read",
    "slack",
    "standing",
    "to_refit",
    "write_certificate",
    "write_facts",
    "write_failures",
]

FAILURES = "failures.parquet"
TASKS = "tasks"
METHOD = "method.use"  # a column: the method of a row
MOST_REFITTED = 64  # configurations of one data set: a front has some tens
RANK = "rank"  # a column that is made where more of a metric is better
LATENCY = "latency_us"  # a limit that is measured and is no column: it belongs to a machine
R2_SLACK = 0.01  # a regression network may lose this share of the target's variance to be called as good as the best


def merge(folder: Path) -> int:
    """Join the packs' tables into ``<folder>/replicas.parquet``, one row group per pack, and return the number of rows.

    One pack is in memory at a time; certificates stay in the packs' own tables. Columns that a pack does not have are null
    in its rows; a column that is a number in one pack and text in another (a sweep over 32 and "full") is text in all.
    Rows of refitted networks get the scores of their configuration over its folds, and whether they are picked
    (`nasplug.folds`); where selection was counted, rows get how often their inputs were kept. Networks on half samples have no
    rows here.
    """
    found = sorted(file for file in (folder / "packs").glob(f"*/{TABLE}") if not halved(file.parent.name))
    if (folder / FAILURES).exists():
        found.append(folder / FAILURES)
    if not found:
        return 0
    for file in found:
        files.verify(file)
    schemas = [pa.schema([field for field in pq.read_schema(file) if field.name != CERTIFICATE]) for file in found]
    over = _over_folds(folder, [file for file, schema in zip(found, schemas, strict=True) if FOLD in schema.names])
    steady = Steady.of(folder)
    schema = _schema([*schemas, *(more.schema for more in (over, steady) if more)])
    rows = 0
    with files.table_writer(folder / TABLE, schema) as writer:
        for file in found:
            table = files.read_table(file, lambda name: name != CERTIFICATE)
            if over and FOLD in table.column_names:
                table = over.added(table)
            table = steady.added(table) if steady else table
            for missing in schema:
                if missing.name not in table.column_names:
                    table = table.append_column(missing, pa.nulls(table.num_rows, missing.type))
            writer.write_table(table.select(schema.names).cast(schema))
            rows += table.num_rows
    return rows


def _over_folds(folder: Path, found: Sequence[Path]) -> OverFolds | None:
    """What rows on resamples, in the packs ``found``, get of one another; None without any."""
    refitted = [file for file in found if FITTED in pq.read_schema(file).names]
    samples: dict[int, float] = {}
    for file in refitted:
        plan = plan_of(folder, file.parent.name, ())
        for row, configuration in enumerate(plan.configurations):
            if configuration not in samples:
                samples[configuration] = independent(_facts_of_row(folder, plan, row))
    return OverFolds.of(found if refitted else [], samples) if found else None


def finished_packs(folder: Path) -> dict[str, int]:
    """How many networks each finished pack has; one whose table cannot be read is left out."""
    found = {}
    for file in sorted((folder / "packs").glob(f"*/{TABLE}")):
        with suppress(OSError, pa.ArrowException):
            found[file.parent.name] = int(pq.read_metadata(file).num_rows)
    return found


def _schema(found: Sequence[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(found, promote_options="permissive")
    except pa.ArrowTypeError:
        columns = []
        for name in dict.fromkeys(name for schema in found for name in schema.names):
            mine = [pa.schema([schema.field(name)]) for schema in found if name in schema.names]
            try:
                columns.append(pa.unify_schemas(mine, promote_options="permissive").field(0))
            except pa.ArrowTypeError:
                columns.append(pa.field(name, pa.string()))
        return pa.schema(columns)


def read(folder: Path, *, histories: bool = False) -> pd.DataFrame:
    """The table of replicas, one row per replica; with ``histories`` also the decimated curves (list columns).

    Certificates are left out but for their numbers; `certificate` reads one.

    Raises:
        ConfigError: when the folder holds no results.
    """
    path = folder / TABLE
    if not path.exists():
        raise ConfigError(
            f"{folder} has no {TABLE}; give the folder of a study that has run (<store>/<study>), or run it first"
        )
    try:
        frame: pd.DataFrame = files.read_table(path, lambda name: histories or not name.startswith("history_")).to_pandas()
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, "run the study again, which writes it anew") from None
    return frame


def write_failures(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row per replica whose pack failed for good: its configuration, seed, status ``failed`` and the error."""
    path = folder / FAILURES
    if rows:
        names = dict.fromkeys(name for row in rows for name in row)  # packs differ; pyarrow would read the first row's alone
        files.write_table(path, pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]))
    else:
        path.unlink(missing_ok=True)


def cause(frame: pd.DataFrame) -> str:
    """Why a network diverged, of those that were looked into (`nasplug.causes`); empty where none was."""
    if "error" not in frame:
        return ""
    told = frame.loc[frame["status"] == "diverged", "error"].dropna()
    return str(told.iloc[0]) if len(told) else ""


def front(frame: pd.DataFrame, error: str = "valid_error", size: str = "edges") -> pd.DataFrame:
    """The Pareto front: finished networks for which no other is both smaller and better; smallest first.

    Ties in error and size are settled by the smaller validation loss. Only validation scores are read. Of resampled networks
    those that were refitted and picked stand there, with the scores of their configurations (`nasplug.folds`).
    """
    frame = candidates(frame)
    finished = frame[(frame["status"] == "finished") & frame[error].notna()]
    ordered = finished.sort_values([size, error, "valid_loss"], kind="stable")
    best = ordered[error].cummin().shift(fill_value=float("inf"))
    return ordered[ordered[error] < best].reset_index(drop=True)


def judged(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose) -> tuple[pd.DataFrame, str]:
    """The table, and its column to rank networks by (less is better): that of ``choose.by`` on the validation samples.

    Of a metric of which more is better it is a new column, ``rank = 1 - metric``.
    """
    column = f"valid_{rule.by}"
    if rule.by in ("error", "loss"):
        return frame, column
    finished = frame[frame["status"] == "finished"]
    if finished.empty or column not in frame or rule.by not in facts_of(str(finished.iloc[0]["replica"])).higher:
        return frame, column
    return frame.assign(**{RANK: 1.0 - frame[column]}), RANK


def standing(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose) -> pd.DataFrame:
    """The front by the score that chooses, without the column that `judged` may make."""
    return front(*judged(frame, facts_of, rule)).drop(columns=RANK, errors="ignore")


def slack(facts: Facts, best_error: float) -> float:
    """How much larger than the best the validation error of a chosen network may be.

    Labels: one standard error (Breiman's rule) of the best share of wrong labels, with one wrong and one right label added
    so that a best of 0 does not pretend to be certain. Regression: 1 % of the target's variance (R2 loses .01).
    """
    if facts.kind == "regression":
        return R2_SLACK * facts.variance
    n = facts.samples["valid"]
    return facts.standard_error((best_error * n + 1.0) / (n + 2.0), "valid")


def allowed(best: pd.Series[Any], facts: Facts, rule: Choose) -> float:
    """How much larger than the best the validation error of a chosen network may be, ``best`` being the best one's row.

    ``one_standard_error``: that of the best over its folds; of a hold-out `slack`. ``within``: what was asked for, of a
    regression's error as a share of the target's variance. ``best``: nothing. Where another score than the error ranks, of a
    hold-out a hundredth of the way from the trivial network's score to the best.
    """
    column = f"valid_{rule.by}"
    if rule.rule == "one_standard_error":
        if best.get(FOLD) == REFIT:
            return float(best[f"{column}_se"])
        if rule.by == "error":
            return slack(facts, float(best[column]))
        return R2_SLACK * abs(facts.trivial.get(column, 0.0) - float(best[column]))
    return (rule.within or 0.0) * (facts.variance if facts.kind == "regression" and rule.by == "error" else 1.0)


def choose(frame: pd.DataFrame, facts_of: Callable[[str], Facts], rule: Choose = Choose()) -> pd.Series[Any]:  # noqa: B008
    """The network to serve: the smallest on the front whose validation error is within what is `allowed` above the best.

    On resamples one standard error is also that of the difference to the best, fold by fold (`nasplug.folds.paired`): what is
    worse in each fold is worse, however much folds differ.

    Args:
        frame: one row per replica.
        facts_of: what a replica was trained on; that of the best one sets what is allowed.
        rule: which is chosen.

    Raises:
        ConfigError: when no network finished, or those that did were not refitted yet.
    """
    frame, error = judged(frame, facts_of, rule)
    on_front = front(frame, error)
    if on_front.empty and not on_folds(frame).empty:
        raise ConfigError(
            "the networks of this study are validated on folds, not yet refitted: none was trained on all development samples, "
            "to be chosen. Run the study again, which goes on there"
        )
    if on_front.empty:
        raise ConfigError(
            "no network of this study finished with finite scores; see the column 'status' of its table, "
            "and try a smaller learning rate"
        )
    best = on_front.iloc[int(on_front[error].argmin())]
    return as_good(on_front, best, frame, error, facts_of(str(best["replica"])), rule).iloc[0].drop(RANK, errors="ignore")


def as_good(
    rows: pd.DataFrame, best: pd.Series[Any], frame: pd.DataFrame, error: str, facts: Facts, rule: Choose
) -> pd.DataFrame:
    """Those of ``rows`` that `choose` takes for as good as the ``best`` of ``frame``, ranked by the column ``error``."""
    good = rows[rows[error] <= float(best[error]) + allowed(best, facts, rule)]
    if rule.rule == "one_standard_error" and best.get(FOLD) == REFIT:
        worse = paired(frame, error, int(best["configuration"]), independent(facts))
        near = worse.index[worse["mean"] <= worse["se"]]
        good = good[good["configuration"].isin(near)]
    return good


def members(frame: pd.DataFrame, most: int) -> list[str]:
    """The networks whose mean is served as one: the ``most`` with the smallest validation loss, best first.

    Where networks are resampled, those that were refitted are taken, by the loss of their configuration over its folds. Members
    of the front alone would be worse: its small networks are there for their size. Choosing members one by one for the loss of
    the mean (Caruana et al. 2004) was no better on three small tables, four splits each: test error .0055 of 0.5393 better,
    and .0066 worse, .0070 better.
    """
    rows = frame[(frame["status"] == "finished") & frame["valid_loss"].notna()]
    if FOLD in rows:
        rows = rows[rows[FOLD].isna() | (rows[FOLD] == REFIT)]
    order = ["valid_loss", *([FITTED] if FITTED in rows else []), "parameters"]
    return [str(name) for name in rows.sort_values(order, kind="stable")["replica"].head(most)]


def choices(
    frame: pd.DataFrame,
    places: Sequence[str],
    facts_of: Callable[[str], Facts],
    rule: Choose = Choose(),  # noqa: B008
) -> pd.DataFrame:
    """The network to serve for each data set and loss, one row for each; ``places`` of the study tell them apart.

    Errors of different data sets, or losses, cannot be compared, so each has its own front. One without a finished network has
    no row.
    """
    import pandas as pd

    groups = [part for _, part in frame.groupby(list(places), sort=False, dropna=False)] if places else [frame]
    chosen = [choose(part, facts_of, rule) for part in groups if not front(*judged(part, facts_of, rule)).empty]
    return pd.DataFrame(chosen).reset_index(drop=True)


def to_refit(frame: pd.DataFrame, places: Sequence[str], error: str = "valid_error", size: str = "edges") -> list[int]:
    """The configurations to train on all development samples: those on the front of mean error and mean size over folds.

    Whatever the rule, the chosen one is on that front. The linear networks' own front is refitted too, to be held against it.
    Each data set has a front of its own, as in `choices`; of a long one
    `MOST_REFITTED` configurations are taken, evenly over it.
    """
    rows = on_folds(frame)
    if rows.empty:
        return []
    scores = means(frame, list({error, "valid_loss", size})).groupby("configuration").mean()
    names = [*places, *([METHOD] if METHOD in rows else [])]
    scores = scores.join(rows.groupby("configuration")[names].first()).assign(status="finished").reset_index()
    groups = [part for _, part in scores.groupby(list(places), sort=False, dropna=False)] if places else [scores]
    groups += [part[part[METHOD] == "linear"] for part in groups if METHOD in part]
    fronts = [[int(c) for c in front(part, error, size)["configuration"]] for part in groups]
    return sorted({c for one in fronts for c in spread(one, MOST_REFITTED)})


def within(
    frame: pd.DataFrame, limits: Mapping[str, float], latency_of: Callable[[str], float], error: str = "valid_error"
) -> pd.Series[Any]:
    """The finished network with the smallest validation error that keeps every limit; nothing is trained.

    Args:
        frame: one row per replica.
        limits: column -> the most it may be (``edges``, ``parameters``, ``neurons``, ...); ``latency_us`` is measured.
        latency_of: microseconds of a replica, asked from the best one on until one keeps the limit.
        error: the column to rank by.

    Raises:
        ConfigError: for a column that is not there or holds no numbers, or limits that no network keeps.
    """
    asked = {name: most for name, most in limits.items() if name != LATENCY}
    numbers = sorted(name for name in frame.columns if frame[name].dtype.kind in "iuf" and "." not in name)
    for name in asked:
        if name not in numbers:
            raise ConfigError(
                f"limit {name!r}: is not a column with numbers; there are: {LATENCY}, {', '.join(numbers)}."
                + did_you_mean(name, [LATENCY, *numbers])
            )
    frame = candidates(frame)
    found = frame[(frame["status"] == "finished") & frame[error].notna()]
    for name, most in asked.items():
        found = found[found[name] <= most]
    for _, row in found.sort_values([error, "valid_loss"], kind="stable").iterrows():
        if LATENCY not in limits or latency_of(str(row["replica"])) <= limits[LATENCY]:
            return row
    kept = ", ".join(f"{name} <= {most:g}" for name, most in limits.items())
    least = ", ".join(f"{name} {frame.loc[frame['status'] == 'finished', name].min():g}" for name in asked)
    raise ConfigError(f"no finished network keeps {kept}{f'; the smallest: {least}' if least else ''}. Raise a limit")


def latency(network: CompactNetwork, samples: int = 1) -> float:
    """Microseconds that a call with ``samples`` rows takes on one thread of this CPU: the median of 30 after warming up."""
    x = torch.zeros(samples, network.record["inputs"], dtype=torch.float64)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = []
            for _ in range(40):
                began = time.perf_counter()
                network(x)
                times.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return 1e6 * statistics.median(times[10:])


def pack_record(folder: Path, pack: str) -> dict[str, Any]:
    """What a finished pack was and how long it took, as it wrote it: ``pack``, ``seconds``, ``device``, ``torch``.

    Raises:
        ConfigError: for a pack that has not finished, or whose record is damaged.
    """
    path = folder / "packs" / pack / PACK
    if not path.exists():
        raise ConfigError(f"{path} is not there: {pack!r} is not a pack of this study, or has not finished")
    try:
        return files.read_json(path)
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, AGAIN) from None


def plan_of(folder: Path, pack: str, found: Sequence[Axis]) -> Pack:
    """A finished pack as it was planned; ``found`` are the axes of its study, which know the secrets that no file holds.

    Raises:
        ConfigError: as `pack_record`.
    """
    return with_secrets(Pack(**pack_record(folder, pack)["pack"]), found)


def facts_of(folder: Path, replica: str) -> Facts:
    """What is known of the task that a replica was trained on, from the study's folder alone.

    Raises:
        ConfigError: for a name that is not a replica of this study, a pack that has not finished, or a damaged record.
    """
    pack, row = row_of(replica)
    plan = plan_of(folder, pack, ())
    if row >= plan.rows:
        raise ConfigError(f"{replica!r} is not a replica of {folder}; pack {pack} has {plan.rows} networks")
    return _facts_of_row(folder, plan, row)


def _facts_of_row(folder: Path, plan: Pack, row: int) -> Facts:
    return _facts(folder / TASKS / f"{plan.data[data_key(plan.task(row))]}.json")


@lru_cache(maxsize=64)
def _facts(path: Path) -> Facts:
    try:
        return Facts.from_plain(files.read_json(path))
    except files.DamageError as error:
        raise files.DamageError(path, error.reason, "run the study again, which writes it anew") from None


def write_facts(folder: Path, facts: Iterable[Facts]) -> None:
    """``tasks/<digest>.json`` for each task of the study, where it is not there whole."""
    for one in facts:
        path = folder / TASKS / f"{one.digest}.json"
        try:
            files.verify(path)
        except files.DamageError:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, scrub(one.plain()))


def certificate(folder: Path, replica: str) -> dict[str, Any] | None:
    """What a discretizer certified of a replica (`nasplug.contracts.Certifying`); None where none did."""
    path = folder / "packs" / row_of(replica)[0] / TABLE
    rows = files.read_table(path, [CERTIFICATE], [("replica", "=", replica)])
    if not rows.column_names:
        return None
    (text,) = rows[CERTIFICATE].to_pylist()
    found: dict[str, Any] = json.loads(text)
    return found


def write_certificate(folder: Path, replica: str, to: Path) -> None:
    """``certificate.json`` in the folder ``to``, where the replica has one; one of another network that was there goes."""
    found = certificate(folder, replica)
    if found is not None:
        files.write_json(to / "certificate.json", found)
    else:
        (to / "certificate.json").unlink(missing_ok=True)


def network(
    folder: Path, replica: str, task: Task | Facts | None = None, functions: Mapping[str, Function] = FUNCTIONS
) -> CompactNetwork:
    """A replica's hard network as a small module (with ``task``: on raw features, in the target's units).

    ``functions``: what activations mean; those of plugins are in `nasplug.plugins.Plugins.functions`.

    Raises:
        ConfigError: for a name that is not a replica of this study.
    """
    pack, row = row_of(replica)
    if not (folder / "packs" / pack).is_dir():
        raise ConfigError(f"{replica!r} is not a replica of {folder}; names look like p0000/0012 (column 'replica')")
    nets = load_networks(folder / "packs" / pack, functions)
    if row >= nets.replicas:
        raise ConfigError(f"{replica!r}: pack {pack} has {nets.replicas} networks, 0000 to {nets.replicas - 1:04d}")
    return compact(nets, row, task)
