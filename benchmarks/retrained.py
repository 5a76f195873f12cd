"""What is a choice of activation worth on new samples, and once networks train with it alone?

    python benchmarks/retrained.py [--quick]

One hidden layer of 8, five candidates for its activation, one random teacher per network, noise 0.1. Each search mixes the
candidates, then each way of choosing takes one. It is judged by the squared error on 1,000 new samples, over that of the best
of the five candidates there, which only an oracle knows: the geometric mean over teachers, with 90 % bounds (a bootstrap over
teachers). Three columns:

- `shared`: the weights of the search, as the choice leaves them;
- `tuned`: the same after `TUNE` more steps with that candidate alone;
- `alone`: trained with that candidate alone, from fresh weights, in as many steps as the search.

Ways: argmax; closest (argmin Q); argmin L (training loss with shared weights); ranked (validation loss with shared weights);
random (the mean over all five); train all (each of the five is trained alone, and the validation loss chooses: five times the
steps). `closest, proven` are the teachers whose certificate proves the choice, `closest, not proven` all others.

Teachers have one of the five activations (`among`), or another one (`other`); 64 training samples, or 256. One thread;
the last line is one JSON object: {setting: {search: {way: {column: [ratio, low, high]}}}}.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from bounds import ratio
from certificate import HIDDEN, INPUTS, PACK, POOL, SEARCHED
from torch import Tensor

from nasplug.activations import FUNCTIONS
from nasplug.networks import Networks, forward, harden
from nasplug.optimizers import Adam, exponentiated
from nasplug.replicas import normal, uniform
from nasplug.schedules import constant, track
from nasplug.tasks import Split, Task, unscaled
from nasplug.train import Architect, Search, State, evaluate, start, train
from nasplug_mixture import USUAL, Certificate, certificates, mixture

CANDIDATES = USUAL[:SEARCHED]
OTHERS = tuple(name for name in POOL if name not in CANDIDATES)
SETTINGS = {f"{whose}, {n} samples": (whose, n) for whose in ("among", "other") for n in (64, 256)}
SEARCHES = ("Adam, one gradient", "DARTS", "GAEA")
WAYS = ("argmax", "closest", "argmin L", "ranked", "random", "train all", "closest, proven", "closest, not proven")
COLUMNS = ("shared", "tuned", "alone")
VALID, NEW = 64, 1_000
STEPS, TUNE = 2_000, 500


def teachers(seeds: Tensor, whose: str, samples: int) -> Task:
    """One data set per row: ``y (K, 1, N)`` of variance 1 and noise 0.1."""
    pool = CANDIDATES if whose == "among" else OTHERS
    kind = (uniform(seeds, "kind", (1,)) * len(pool)).long()[:, 0]
    weight = normal(seeds, "teacher", (HIDDEN, INPUTS)) * (1.5 / INPUTS**0.5)
    out = normal(seeds, "readout", (1, HIDDEN)) / HIDDEN**0.5
    centre = scale = None
    splits = []
    for name, count in (("train", samples), ("valid", VALID), ("new", NEW)):
        x = normal(torch.tensor([0]), f"{name} x", (INPUTS, count))[0]
        z = weight @ x  # (K, H, N)
        every = torch.stack([out @ FUNCTIONS[one](z) for one in pool], 1)  # (K, pool, 1, N)
        clean = every.gather(1, kind[:, None, None, None].expand(-1, 1, 1, count))[:, 0]
        centre = clean.mean(-1, keepdim=True) if centre is None else centre
        scale = (clean - centre).std(-1, keepdim=True) if scale is None else scale
        y = (clean - centre) / scale + 0.1 * normal(seeds, f"{name} noise", (1, count))
        splits.append(Split(x.expand(len(seeds), -1, -1).float(), y.float()))
    return unscaled("teachers", (splits[0], splits[1], splits[2]))


def search_of(name: str, task: Task, seeds: Tensor, steps: int) -> Search:
    """A search of one pack."""
    k = len(seeds)
    how = "simplex" if name == "GAEA" else "softmax"
    method = mixture(hidden=[HIDDEN], candidates=CANDIDATES, per="layer", parametrisation=how)
    architects = {
        "DARTS": Architect(Adam(beta1=0.5), torch.full((k,), 0.03), 0.5),
        "GAEA": Architect(exponentiated(), torch.full((k,), 0.1), 0.5),
    }
    one, rate = (track([constant()], [0] * k, [value] * k, steps).to("cpu", torch.float32) for value in (1.0, 0.01))
    return Search(task, method, (), Adam(), seeds, steps, rate, one, (), architect=architects.get(name))


def ended(search: Search, begun: State | None = None) -> Networks:
    """The networks at the end of training."""
    *_, report = train(search, begun, every=search.steps)
    return search.relax(report.state.params, torch.ones(len(search.seeds)))


def alone(search: Search, candidate: int, params: Mapping[str, Tensor] | None, steps: int) -> Networks:
    """All rows with one candidate, from their fresh weights, or from those of a search, by a fresh optimizer."""
    k = len(search.seeds)
    choice = torch.zeros(k, 1, SEARCHED)
    choice[..., candidate] = 1.0
    fixed = replace(search, fixed=((1, choice),), architect=None, steps=steps)
    begun = start(fixed)
    return ended(fixed, begun if params is None else replace(begun, params={n: p.clone() for n, p in params.items()}))


def with_each(nets: Networks) -> list[Networks]:
    """The mixture's weights with each candidate."""
    shape = nets.choices[1].shape
    return [replace(nets, choices={1: torch.eye(SEARCHED)[i].expand(shape)}) for i in range(SEARCHED)]


def losses(task: Task, split: Split, each: list[Networks]) -> Tensor:
    """Squared errors of networks with each candidate, ``(K, A)``."""
    return torch.stack([evaluate(task, split, nets, forward)["loss"].double() for nets in each], 1)


def picked(some: Certificate, hard: Networks, valid: Tensor) -> dict[str, Tensor]:
    """The candidate that each way takes, long ``(K,)``."""
    assert some.best is not None
    return {
        "argmax": hard.choices[1].argmax(-1)[:, 0],
        "closest": some.closest[:, 0],
        "argmin L": some.best[:, 0],
        "ranked": valid.argmin(1),
    }


def over_best(new: Tensor, choice: Tensor) -> Tensor:
    """``(K,)``: the loss of the choice over that of the best."""
    return new.gather(1, choice.unsqueeze(1))[:, 0] / new.amin(1)


def measured(whose: str, samples: int, seeds: Tensor, steps: int, tune: int) -> dict[str, dict[tuple[str, str], Tensor]]:
    """Of each search, way and column the ratios of one pack, ``(K,)``; NaN where a way does not speak of a row."""
    task = teachers(seeds, whose, samples)
    found: dict[str, dict[tuple[str, str], Tensor]] = {}
    own = [alone(search_of(SEARCHES[0], task, seeds, steps), i, None, steps) for i in range(SEARCHED)]
    own_new, own_valid = losses(task, task.test, own), losses(task, task.valid, own)
    for name in SEARCHES:
        search = search_of(name, task, seeds, steps)
        *_, report = train(search, every=steps)
        params = report.state.params
        nets = search.relax(params, torch.ones(len(seeds)))
        ((_, some),) = certificates(nets, task)
        each = with_each(nets)
        tuned = [alone(search, i, params, tune) for i in range(SEARCHED)]
        choices = picked(some, harden(nets), losses(task, task.valid, each))
        assert some.sure is not None
        sure = some.sure[:, 0]
        here: dict[tuple[str, str], Tensor] = {}
        for column, new in zip(COLUMNS, (losses(task, task.test, each), losses(task, task.test, tuned), own_new), strict=True):
            for way, choice in choices.items():
                here[way, column] = over_best(new, choice)
            here["random", column] = (new / new.amin(1, keepdim=True)).log().mean(1).exp()
            here["closest, proven", column] = here["closest", column].where(sure, torch.nan)
            here["closest, not proven", column] = here["closest", column].where(~sure, torch.nan)
            if column == "alone":
                here["train all", column] = over_best(new, own_valid.argmin(1))
        found[name] = here
    return found


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few teachers and steps: to see that it runs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    began = time.perf_counter()
    count, steps, tune = (20, 60, 20) if quick else (250, STEPS, TUNE)
    figures: dict[str, Any] = {}
    for setting, (whose, samples) in SETTINGS.items():
        packs = [measured(whose, samples, part, steps, tune) for part in torch.arange(count).split(PACK)]
        for name in SEARCHES:
            print(f"{setting}; {name}", flush=True)
            for way in WAYS:
                told, kept = "", {}
                for column in COLUMNS:
                    if (way, column) not in packs[0][name]:
                        told += f"{'':28}"
                        continue
                    values = torch.cat([pack[name][way, column] for pack in packs]).numpy()
                    values = values[np.isfinite(values)]
                    if (bounds := ratio(values, np.ones(len(values)))) is not None:
                        kept[column] = [float(f"{value:.4g}") for value in bounds]
                        told += "   {} x{:.2f} [{:.2f}, {:.2f}]".format(column, *bounds)
                print(f"  {way:<20} {len(values):>4} of {count}{told}", flush=True)
                figures.setdefault(setting, {}).setdefault(name, {})[way] = kept
    figures["minutes"] = round((time.perf_counter() - began) / 60, 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
