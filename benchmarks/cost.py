"""How far off is what `nasplug plan` says that a study will cost here?

    python benchmarks/cost.py [CONFIG ...]

Each study runs in a fresh process, one pack at a time, with nothing known of the machine at first. Its CPU seconds stand beside
what was told before it (guessed), its wall time beside what is told after it (measured: paces are wall times). The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIGS = ("quickstart", "papers/edges_xor", "papers/theory", "papers/sparcs_digits")
HERE = Path(__file__).resolve().parent.parent / "configs"


def told(file: Path, store: str) -> dict[str, Any]:
    """What is told of a study, one pack at a time."""
    from nasplug import Study
    from nasplug.plan import cost_of

    study = Study.from_yaml(file, [f"store={store}"])
    later = sum(study.generations.sizes[1:]) * len(study.config.seed_list)
    found = cost_of(study.config, study.plan(), study.plugins, later=later, together=1)
    assert found is not None  # it has packs
    return found.plain()


def ran(file: Path, store: str) -> tuple[float, float]:
    """CPU and wall seconds of a study, its start and report included."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "nasplug", "run", str(file), f"store={store}", "--runner", "serial", "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    files = parser.parse_args().configs or [HERE / f"{name}.yaml" for name in CONFIGS]
    found: dict[str, Any] = {}
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            guessed = told(file, folder)
            cpu, wall = ran(file, folder)
            measured = told(file, folder)
        found[file.stem] = {"guessed": guessed, "measured": measured, "cpu_seconds": cpu, "wall_seconds": wall}
        ends = [" to ".join(f"{end:.0f}" for end in one["seconds"]) for one in (guessed, measured)]
        print(
            f"{file.stem}: {guessed['networks']:,} networks; {ends[0]} s {guessed['source']}, {cpu:.0f} CPU seconds; "
            f"{ends[1]} s {measured['source']}, {wall:.0f} seconds",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
