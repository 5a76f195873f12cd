"""What does it cost that a worker needs no file system in common with the driver: files and tables that travel through Ray.

    python benchmarks/clusters.py [--quick]

A Ray of two workers on this machine. One sends sealed files of several sizes to a collector and brings them back, as packs do
with checkpoints and results; each is written to disk (fsync), too. Then tables of several sizes are put in Ray's object store
and taken from there. On a network its speed is the limit. The last line is one JSON object: seconds and megabytes, and
`collector_mb`, the collector's largest memory.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES = 5


def carried(collector: Any, size: int) -> tuple[float, float]:
    """On a worker: seconds to send a file of ``size`` numbers (4 bytes each), and to bring it back."""
    import torch

    from nasplug import files
    from nasplug.collecting import Courier
    from nasplug.runner.workers import _caller

    sending, fetching = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TIMES):
            courier = Courier(_caller(collector), "p0000", Path(folder) / f"{number}")
            courier.fetch([], unless="none")
            courier.folder.mkdir(exist_ok=True)
            files.write_tensors(courier.folder / "checkpoint.safetensors", {"x": torch.rand(size)}, {})
            began = time.perf_counter()
            courier.finish("none")
            sending.append(time.perf_counter() - began)
            other = Courier(_caller(collector), "p0000", Path(folder) / f"{number} back")
            began = time.perf_counter()
            other.fetch(["checkpoint.safetensors"], unless="none")
            fetching.append(time.perf_counter() - began)
    return statistics.median(sending), statistics.median(fetching)


def taken(places: list[Any]) -> float:
    """On a worker: seconds until a task is there."""
    import ray

    began = time.perf_counter()
    ray.get(places[0])
    return time.perf_counter() - began


def memory() -> float:
    """Of the process that is asked, at most, in megabytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small files and tables alone")
    given = parser.parse_args()
    import numpy as np
    import ray

    from nasplug.collecting import Collector
    from nasplug.data.datasets import from_arrays

    class Measured(Collector):
        def memory(self) -> float:
            return memory()

    figures: dict[str, Any] = {"quick": given.quick, "files": {}, "tables": {}}
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        collector = ray.remote(num_cpus=0)(Measured).remote(folder)
        carry, take = ray.remote(carried), ray.remote(taken)
        for size in (10_000, 1_000_000) if given.quick else (10_000, 1_000_000, 25_000_000):
            sent, back = ray.get(carry.remote(collector, size))
            mb = 4 * size / 1e6
            print(
                f"a file of {mb:7.2f} MB: sent and on disk in {sent:.3f} s ({mb / sent:.0f} MB/s), brought back in {back:.3f} s"
            )
            figures["files"][f"{mb:g}"] = {"sent": sent, "back": back}
        figures["collector_mb"] = ray.get(collector.memory.remote())
        print(f"the collector's memory: {figures['collector_mb']:.0f} MB at most")
    random = np.random.default_rng(0)
    for rows in (500, 20_000) if given.quick else (500, 20_000, 500_000):
        task = from_arrays(
            random.standard_normal((rows, 20)), random.standard_normal(rows), kind="regression", validation="holdout"
        )
        began = time.perf_counter()
        place = ray.put(task)
        put = time.perf_counter() - began
        got = ray.get(take.remote([place]))
        mb = sum(part.numel() * part.element_size() for split in task.splits for part in split.batch) / 1e6
        print(f"a table of {rows:,} rows and 20 columns ({mb:.1f} MB): put in {put:.3f} s, taken by a worker in {got:.3f} s")
        figures["tables"][f"{rows}"] = {"mb": mb, "put": put, "taken": got}
    ray.shutdown()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
