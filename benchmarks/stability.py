"""Whether the bounds on false selections hold where the truth is known: null and mixed data sets, all in shared packs.

    python benchmarks/stability.py [--quick]

Data sets of 200 samples and 20 standard normal inputs, each with a draw of its own:

- null (100): the target is noise, every selected input is false;
- sum (50): ``x0 + sin(2 x1) + x2^2 / 2 + noise``, scaled; 17 inputs are false;
- product (50): ``x0 x1 + x2 + noise``, scaled; 17 inputs are false. The noise has half of the variance.

Networks are those of a study: method `edges` (`l1`, 4 hidden neurons), three levels, 300 steps on all samples, `threshold` with
a tolerance of 2 %. Each data set is halved into 50 complementary pairs (`nasplug.data.resampling.half_samples`), so that it has
300 networks; what they keep is counted by `nasplug.stability`.

For each family and level: q, the inputs that a half sample keeps on average; and at thresholds of .6, .7, .8 and .9 the mean
number of falsely selected inputs over data sets, beside the mean of the bounds (worst case; if unimodal; if r-concave). This
mean is what a bound bounds: ``means_within_bounds`` counts families, levels, thresholds and bounds where it does. A single data
set may have more: ``false_selection_bound_held`` counts the data sets that at .8 have no more than their own worst-case bound,
at all three levels.

`--quick`: 8, 4 and 4 data sets with 20 pairs. One thread. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from nasplug.config import parse
from nasplug.data.resampling import half_samples
from nasplug.discretize import discretize
from nasplug.networks import Networks
from nasplug.plan import Pack, assemble, components
from nasplug.plugins import load_plugins
from nasplug.replicas import finite
from nasplug.stability import concave, inputs_of, unimodal, whole_pairs, worst
from nasplug.tasks import Split, Task, stack, unscaled
from nasplug.train import start, train

Array = npt.NDArray[np.float64]
SAMPLES, INPUTS, TRUE = 200, 20, 3
LEVELS = (0.07, 0.1, 0.14)
TAUS = (0.6, 0.7, 0.8, 0.9)
AT = 0.8
TOGETHER = 8  # data sets of a pack


def nothing(x: Array) -> Array:
    """No signal."""
    return np.zeros(len(x))


def added(x: Array) -> Array:
    """Three inputs, each by itself."""
    made: Array = x[:, 0] + np.sin(2.0 * x[:, 1]) + x[:, 2] ** 2 / 2.0
    return made


def multiplied(x: Array) -> Array:
    """Two that meet, and one."""
    made: Array = x[:, 0] * x[:, 1] + x[:, 2]
    return made


FAMILIES: dict[str, tuple[Callable[[Array], Array], int, int]] = {
    "null": (nothing, 0, 100),
    "sum": (added, TRUE, 50),
    "product": (multiplied, TRUE, 50),
}


def data(signal: Callable[[Array], Array], seed: Sequence[int]) -> Task:
    """One data set; all samples but one are development samples."""
    draw = np.random.default_rng(list(seed))
    x = draw.standard_normal((SAMPLES + 1, INPUTS))
    y = signal(x)
    y = y - y.mean()
    y = (y / y.std() if y.any() else y) + draw.standard_normal(len(y)) * (1.0 if y.any() else 2.0**0.5)
    inputs = torch.from_numpy((x - x.mean(0)) / x.std(0)).float().T
    target = torch.from_numpy((y - y.mean()) / y.std()).float()[None]
    whole = Split(inputs.contiguous(), target.contiguous())
    half = SAMPLES // 2
    train, valid, test = (whole.columns(torch.arange(a, b)) for a, b in ((0, half), (half, SAMPLES), (SAMPLES, SAMPLES + 1)))
    return unscaled("made", (train, valid, test))


def networks(tasks: Sequence[Task], pairs: int, steps: int) -> tuple[Networks, list[tuple[int, int, int]], Array]:
    """Hard networks of one pack, (data set, level, half sample) of each row, and whether it finished."""
    plugins = load_plugins()
    drawn = [replace(task, resamples=half_samples(task, 2 * pairs, 0)) for task in tasks]
    rows = [(at, level, half) for half in range(2 * pairs) for at in range(len(tasks)) for level in range(len(LEVELS))]
    study = parse(
        {
            "study": "made",
            "store": "unused",
            "task": {"use": "xor"},
            "method": {"use": "edges", "mode": "l1", "hidden": [4]},
            "penalties": [{"use": "l1", "level": {"grid": list(LEVELS)}}],
            "discretizers": [{"use": "threshold", "tolerance": 0.02}],
            "train": {"steps": steps, "lr": 0.02, "reports": 1, "compile": False},
            "mlflow": None,
        }
    )
    columns = {"penalties.0.level": [LEVELS[level] for _, level, _ in rows]}
    pack = Pack("p0000", {}, columns, [0] * len(rows), [0] * len(rows))
    stacked = stack(drawn, [at for at, _, _ in rows], [half for _, _, half in rows])
    parts = replace(components(study, pack, plugins), task=stacked)
    search = assemble(parts, pack, plugins)
    state = start(search)
    for report in train(search, state, every=steps):
        state = report.state
    with torch.no_grad():
        soft = search.relax(state.kept, search.tau.at(steps - 1))
        hard, _ = discretize(stacked, search.direct(soft), parts.discretizers)
    return hard, rows, finite(state.kept).numpy()


def counted(tasks: Sequence[Task], pairs: int, steps: int) -> tuple[Array, Array]:
    """How many of its networks keep each input, of each data set and level ``(D, L, I)``, and how many there are ``(D, L)``."""
    nets, rows, finished = networks(tasks, pairs, steps)
    read = inputs_of(nets).numpy()
    kept = np.zeros((len(tasks), len(LEVELS), INPUTS))
    there = np.zeros((len(tasks), len(LEVELS)))
    halves: dict[tuple[int, int], set[int]] = {}
    for (at, level, half), good in zip(rows, finished, strict=True):
        if good:
            halves.setdefault((at, level), set()).add(half)
    for row, (at, level, half) in enumerate(rows):
        if half in whole_pairs(halves.get((at, level), set())):
            kept[at, level] += read[row]
            there[at, level] += 1
    return kept, there


def limits(q: float, tau: float, pairs: int) -> tuple[float, float, float]:
    """The three bounds."""
    return worst(q, INPUTS, tau), unimodal(q, INPUTS, tau, pairs), concave(q, INPUTS, tau, pairs)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 data sets, 20 pairs")
    quick = parser.parse_args().quick
    pairs, steps = (20, 200) if quick else (50, 300)
    torch.set_num_threads(1)
    began = time.perf_counter()
    held = cells = cells_held = sets = 0
    result: dict[str, object] = {}
    print("threshold: false inputs on average (bounds: worst case, if unimodal, if r-concave)")
    for family, (signal, true, count) in FAMILIES.items():
        many = count // 12 if quick else count
        tasks = [data(signal, (len(family), n)) for n in range(many)]
        parts = [counted(tasks[at : at + TOGETHER], pairs, steps) for at in range(0, many, TOGETHER)]
        kept, there = (np.concatenate(both) for both in zip(*parts, strict=True))
        share = kept / there[..., None]  # (D, L, I)
        q = share.sum(-1)
        within = np.ones(many, dtype=bool)
        for at, level in enumerate(LEVELS):
            words = []
            for tau in TAUS:
                false = (share[:, at, true:] >= tau - 1e-9).sum(-1)
                bounds = np.array([limits(one, tau, int(n) // 2) for one, n in zip(q[:, at], there[:, at], strict=True)])
                mean, most = float(false.mean()), bounds.mean(0)
                cells, cells_held = cells + 3, cells_held + int((mean <= most + 1e-9).sum())
                words.append(f"{tau}: {mean:.2f} ({', '.join(f'{one:.2f}' for one in most)})")
                if tau == AT:
                    within &= false <= bounds[:, 0] + 1e-9
                    result[f"{family} {level}"] = {"false": round(mean, 3), "bounds": [round(float(one), 3) for one in most]}
            print(f"{family} at {level}, q = {q[:, at].mean():.2f} | {'; '.join(words)}", flush=True)
        found = (share[:, :, :true] >= AT - 1e-9).sum(-1).mean(0)
        lost = 2 * pairs - there
        print(
            f"{family}: {many} data sets; true inputs that reach {AT}: {', '.join(f'{n:.2f}' for n in found)} of {true}; "
            f"networks left out: {int(lost.sum())} of {2 * pairs * lost.size}",
            flush=True,
        )
        held, sets = held + int(within.sum()), sets + many
    result = {
        "false_selection_bound_held": f"{held} of {sets}",
        "means_within_bounds": f"{cells_held} of {cells}",
        "at": AT,
        **result,
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
