"""The best network within limits: on columns of the table, and on what is measured of a network on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nasplug import files
from nasplug.compact import CompactNetwork, digest_of
from nasplug.errors import ConfigError, NasplugError, did_you_mean
from nasplug.export import smallest_c
from nasplug.folds import candidates
from nasplug.results.choosing import front
from nasplug.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FLASH", "LATENCY", "Flash", "flash", "latency", "measured", "measures", "within"]

LATENCY, FLASH = "latency_us", "flash_bytes"  # limits that are measured and are no columns: they belong to a machine
BYTES_PER_MAC = 2  # at least: no instruction that multiplies or adds is shorter, on x86-64 and on ARM


def within(
    frame: pd.DataFrame, limits: Mapping[str, float], measures: Mapping[str, Callable[[str], float]], error: str = "valid_error"
) -> pd.Series[Any]:
    """The finished network with the smallest validation error that keeps every limit, with what was measured of it.

    Nothing is trained. Where ``flash_bytes`` is limited, networks on the front of error and ``parameters`` alone are asked: a
    network with more numbers and a larger error is no better choice.

    Args:
        frame: one row per replica.
        limits: column -> the most it may be (``edges``, ``parameters``, ``macs``, ...); or one of ``measures``.
        measures: what is measured of a replica, asked from the best one on until one keeps its limits.
        error: the column to rank by.

    Raises:
        ConfigError: for a column that is not there or holds no numbers, or limits that no network keeps.
    """
    asked = {name: most for name, most in limits.items() if name not in measures}
    measured = {name: measure for name, measure in measures.items() if name in limits}
    numbers = sorted(name for name in frame.columns if frame[name].dtype.kind in "iuf" and "." not in name)
    for name in asked:
        if name not in numbers:
            raise ConfigError(
                f"limit {name!r}: is not a column with numbers; there are: {', '.join([*measures, *numbers])}."
                + did_you_mean(name, [*measures, *numbers])
            )
    frame = candidates(frame)
    found = frame[(frame["status"] == "finished") & frame[error].notna()]
    for name, most in asked.items():
        found = found[found[name] <= most]
    if FLASH in limits:
        found = front(found, error, "parameters")
        if "macs" in found:
            found = found[BYTES_PER_MAC * found["macs"] <= limits[FLASH]]
    least: dict[str, float] = {}
    for _, row in found.sort_values([error, "valid_loss"], kind="stable").iterrows():
        told: dict[str, float] = {}
        for name, measure in measured.items():
            told[name] = measure(str(row["replica"]))
            least[name] = min(least.get(name, told[name]), told[name])
            if not told[name] <= limits[name]:
                break
        else:
            for name, value in told.items():
                row[name] = value
            return row
    kept = ", ".join(f"{name} <= {most:g}" for name, most in limits.items())
    least = {name: frame.loc[frame["status"] == "finished", name].min() for name in asked} | least
    words = ", ".join(f"{name} {value:g}" for name, value in least.items())
    raise ConfigError(f"no finished network keeps {kept}{f'; the smallest: {words}' if words else ''}. Raise a limit")


def measured(rows: pd.DataFrame, names: Sequence[str], measures: Mapping[str, Callable[[str], float]]) -> pd.DataFrame:
    """Rows of the table of replicas with a column for each name: ``latency_us``, ``flash_bytes``, measured of each row.

    Raises:
        ConfigError: for a name that is not measured.
    """
    for name in names:
        if name not in measures:
            raise ConfigError(f"{name!r} is not measured; there are: {', '.join(measures)}.{did_you_mean(name, [*measures])}")
    return rows.assign(**{name: [measures[name](str(replica)) for replica in rows["replica"]] for name in names})


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


def measures(
    folder: Path, network: Callable[[str], CompactNetwork], task_of: Callable[[str], Task], nasplug: str
) -> Mapping[str, Callable[[str], float]]:
    """What can be limited and is no column, cheapest first: ``latency_us`` and ``flash_bytes`` of a replica of a study.

    Args:
        folder: the study's.
        network: of a replica.
        task_of: a replica's task, built from its data; where it raises, rows are made up.
        nasplug: version of what writes C.
    """

    def task(replica: str) -> Task | None:
        try:
            return task_of(replica)
        except NasplugError:
            return None

    return {
        LATENCY: lambda replica: latency(network(replica)),
        FLASH: lambda replica: flash(folder, network(replica), lambda: task(replica), nasplug).bytes,
    }


@dataclass(frozen=True, slots=True)
class Flash:
    """Code and constants of a network in C.

    Attributes:
        bytes: of the smaller of the forms ``fixed`` and ``c`` that `nasplug export` would write; infinite where it writes none.
        form: which it is, or why there is none.
        compiler: what made it, and what wrote the C.
    """

    bytes: float
    form: str
    compiler: str


def flash(folder: Path, network: CompactNetwork, task_of: Callable[[], Task | None], nasplug: str) -> Flash:
    """What a network takes in C on this machine (``-Os``, without what it calls in the C library).

    Measured once: ``flash/<digest>.json`` in the study's folder keeps it, until the compiler or nasplug is another.

    Args:
        folder: the study's.
        network: whose digest is the file's name.
        task_of: the task whose test split its C must answer; None: rows are made up.
        nasplug: version of what writes the C.

    Raises:
        ConfigError: without a C compiler or ``size``.
    """
    path = folder / "flash" / f"{digest_of(network)}.json"
    made = smallest_c.maker(nasplug)
    try:
        found = Flash(**files.read_json(path))
        if found.compiler == made:
            return found
    except (files.DamageError, OSError, TypeError):
        pass
    size, form = smallest_c.measured(network, task_of())
    found = Flash(size, form, made)
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, asdict(found))
    return found
