"""Every network on the front of every config, in every form: what is refused, how far answers are, bytes, microseconds.

    python benchmarks/export.py            # all configs, the quick start as it is and the others trained shortly
    python benchmarks/export.py --quick    # the quick start trained shortly, three networks

Each form answers the test split, as `nasplug export` has it. A network trained shortly is worse than its config promises, which
does not matter to what a form says of it. The quick start is trained as its config says unless ``--quick``; its chosen network
gives the bytes of flash (x86-64, ``-Os``, without what it calls in the C library). Configs that cannot be run as they stand
(they need an autoencoder that was trained before) are named. Microseconds are medians per row over networks, each over its
whole test split at once, on a machine that may do something else.

The last line is one JSON object: ``forms``, ``networks``, ``refused`` (how many, by form and reason), ``max_difference`` (by
form, of those written, in units of the output's scale), ``flash_bytes_fixed``, ``flash_bytes_float``, ``microseconds`` (by
form; ``eager`` is torch).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from nasplug import ConfigError, NasplugError, Study
from nasplug.compact import CompactNetwork
from nasplug.export import FORMS, Export, export

CONFIGS = Path(__file__).parents[1] / "configs"
SHORT = ["train.steps=50", "train.finetune=0", "train.retrain=0", "seeds=1"]
JOBS = ("swat_compress",)  # they are no studies
KEYS = ("stem", "plugin's", "terms", "rank", "nothing", "sum to more", "differs by", "worse by", "another label")
"""Words that tell reasons apart."""


def studies(folder: Path, *, quick: bool) -> Iterator[Study]:
    """Each config, trained."""
    for config in [CONFIGS / "quickstart.yaml", *([] if quick else sorted((CONFIGS / "papers").glob("*.yaml")))]:
        if config.stem in JOBS:
            continue
        whole = config.stem == "quickstart" and not quick
        try:
            study = Study.from_yaml(config, [f"store={folder}", "mlflow=null", *([] if whole else SHORT)], fast=True)
            yield study.run("serial", report=False)
        except NasplugError as error:
            print(f"{config.stem}: not run: {str(error)[:150]}", flush=True)


def exported(study: Study, most: int | None) -> Iterator[tuple[str, Export, float]]:
    """Networks of the front: name, what was said, and microseconds per row of torch."""
    chosen = str(study.best()["replica"])
    names = dict.fromkeys([chosen, *study.front("all")["replica"]])
    for name in list(names)[:most]:
        network, task = study.network(name), study.task_of(name)
        with tempfile.TemporaryDirectory() as out:
            told = export(network, study.config.study, list(FORMS.values()), Path(out), task)
        yield name, told, eager(network, task.test.samples)


@torch.no_grad()
def eager(network: CompactNetwork, rows: int) -> float:
    x = torch.randn(rows, network.record["inputs"], dtype=torch.float64)
    network(x)
    start = time.perf_counter()
    network(x)
    return 1e6 * (time.perf_counter() - start) / rows


def reason(text: str) -> str:
    return next((key for key in KEYS if key in text), text[:60])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    networks, refused, largest = 0, Counter[str](), dict.fromkeys(FORMS, 0.0)
    times: dict[str, list[float]] = defaultdict(list)
    flash: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for study in studies(Path(folder), quick=quick):
            try:
                for name, told, torches in exported(study, 3 if quick else None):
                    networks += 1
                    times["eager"].append(torches)
                    words = []
                    for form in told.forms:
                        if form.refused:
                            refused[f"{form.form}: {reason(form.refused)}"] += 1
                            words.append(f"{form.form} refused ({reason(form.refused)})")
                            continue
                        largest[form.form] = max(largest[form.form], form.difference or 0.0)
                        times[form.form].append(form.microseconds or 0.0)
                        if "flash_bytes" in form.figures:
                            flash.setdefault(form.form, form.figures["flash_bytes"])
                            words.append(f"{form.form} {form.figures['flash_bytes']} B")
                    print(f"{study.config.study} {name}: {', '.join(words)}", flush=True)
            except ConfigError as error:
                print(f"{study.config.study}: not exported: {str(error)[:150]}", flush=True)
    found = {
        "forms": list(FORMS),
        "networks": networks,
        "refused": dict(refused),
        "max_difference": {form: float(f"{value:.3g}") for form, value in largest.items()},
        "flash_bytes_fixed": flash.get("fixed"),
        "flash_bytes_float": flash.get("c"),
        "microseconds": {form: float(f"{statistics.median(values):.3g}") for form, values in times.items()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
