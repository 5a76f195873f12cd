"""What the runs of a search found, read from the folder of its study: one run per seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nasplug import files, results
from nasplug.errors import ConfigError
from nasplug.folds import candidates
from nasplug.networks import Networks, forward, take
from nasplug.packs import SHARES
from nasplug.packs import TABLE as PACK_TABLE
from nasplug.plan import Edges, edges_of, fixed_parts, kernels_of, named, row_of
from nasplug.spaces.edges import constant, wirings
from nasplug.spaces.scoring import Found
from nasplug.spaces.space import Skeletons, widths_of
from nasplug.spaces.table import Array, Key, Table
from nasplug.study import Study
from nasplug.train import evaluate, put

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["found_by"]


def found_by(study: Study, table: Table) -> Found:
    """What a search chose: of each seed the network that its study would choose among those of the seed, by validation.

    Raises:
        ConfigError: where it was made of other data, or chose nothing of the table.
    """
    name = study.config.study
    frame = candidates(study.frame)
    frame = frame[(frame["status"] == "finished") & (frame[results.METHOD] == study.config.method.use)]
    if frame.empty:
        raise ConfigError(f"{study.folder}: none of its networks has finished; run it first")
    facts = study.facts_of(str(frame.iloc[0]["replica"]))
    if facts.digest != table.data or len({study.facts_of(str(one)).digest for one in _one_per_pack(frame)}) > 1:
        raise ConfigError(
            f"{study.folder}: its networks were trained on other data than those of {table.space.folder} (digests "
            f"{facts.digest[:12]} and {table.data[:12]}); needed: the same task, with the same splits"
        )
    ranked, column = results.judged(frame, study.facts_of, study.config.choose)
    places = {key: at for at, key in enumerate(table.keys)}
    chosen: list[int] = []
    outside: list[str] = []
    orders: dict[str, list[Array]] = {}
    shapes = Skeletons(study.config, study.plugins)
    for _, rows in ranked.groupby("seed"):
        replica = str(rows.sort_values([column, "valid_loss"], kind="stable").iloc[0]["replica"])
        pack, row = row_of(replica)
        nets = take(study.networks(pack), torch.tensor([row]))
        soft = shapes.of(results.plan_of(study.folder, pack, study.axes).values)
        key: Key = (widths_of(soft), named(nets, soft)[0])
        if key not in places:
            outside.append(f"{'x'.join(map(str, key[0]))} {key[1]}")
            continue
        chosen.append(places[key])
        for order, values in _orders(study, replica, nets, soft, table).items():
            orders.setdefault(order, []).append(values)
    if not chosen:
        raise ConfigError(
            f"{study.folder}: chose {outside[0]!r}, which is no architecture of {table.space.folder}; those are like "
            f"{'x'.join(map(str, table.keys[0][0]))} {table.keys[0][1]!r}"
        )
    return Found(name, chosen, {o: np.stack(v) for o, v in orders.items()}, len(frame), tuple(_words(study, table, outside)))


def _one_per_pack(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame.groupby(frame["replica"].map(lambda one: row_of(one)[0]))["replica"].first()]


def _words(study: Study, table: Table, outside: Sequence[str]) -> list[str]:
    """What is not as in the table."""
    told = []
    if study.config.train.steps != table.steps:
        told.append(f"trained for {study.config.train.steps} steps, the table's networks for {table.steps:,}")
    if outside:
        told.append(f"{len(outside)} runs are left out, as they chose what is not in the table: {', '.join(outside[:3])}")
    return told


def _orders(study: Study, replica: str, nets: Networks, soft: Networks, table: Table) -> dict[str, Array]:
    """What a network's search says of each architecture of its widths, more is better, NaN elsewhere: by each of its orders."""
    texts = [text if widths == widths_of(soft) else None for widths, text in table.keys]
    if sum(text is not None for text in texts) < 2:
        return {}
    kernels, edges = list(kernels_of(soft).values()), edges_of(soft)
    if not (kernels or edges or soft.choices):
        return {}
    sizes = [(len(soft.candidates), soft.choices[layer].shape[1]) for layer in sorted(soft.choices)]
    sizes = [(len(names), 1) for _, names in edges] if edges else sizes
    found = {}
    shares = _shares(study, replica, [*((len(one), 1) for one in kernels), *sizes])
    if shares is not None:
        first, behind = shares[: len(kernels)], shares[len(kernels) :]
        chance = _of_operations(edges, behind) if edges else partial(_chance, candidates=nets.candidates, shares=behind)
        fronts = [dict(zip(names, site, strict=True)) for names, (site,) in zip(kernels, first, strict=True)]
        found["shares"] = np.array([np.nan if text is None else _whole(text, fronts, chance) for text in texts])
    train = study.config.train
    kept = not (kernels or edges or train.finetune or train.retrain)
    if kept and all(len(layer) == 1 for layer in shares or ()):
        found["shared weights"] = _shared(study, replica, nets, texts)
    return found


def _whole(text: str, fronts: Sequence[Mapping[str, float]], behind: Callable[[str], float]) -> float:
    """The logarithm of the chance of sizes of kernels, ``fronts`` their shares by layer, and of what is ``behind`` them."""
    sizes, _, rest = text.partition(":") if fronts else ("", "", text)
    if constant(rest):  # there once, whatever sizes are drawn
        return behind(rest)
    total = sum(math.log(max(share[size], 1e-300)) for share, size in zip(fronts, sizes.split("/"), strict=False))
    return total + behind(rest) if rest else total


def _of_operations(edges: Edges, shares: Sequence[Sequence[Sequence[float]]]) -> Callable[[str], float]:
    """The logarithm of an architecture's chance if each edge's operation is drawn by its shares."""
    made = wirings(edges)
    chances = dict(zip(made.texts, made.chances([site for (site,) in shares]).tolist(), strict=True))
    return lambda text: chances.get(text, math.nan)


def _shares(study: Study, replica: str, sizes: Sequence[tuple[int, int]]) -> list[list[list[float]]] | None:
    """Shares by layer or edge, site and candidate, as they were before discretizing; None where they were not kept.

    ``sizes``: how many candidates and sites each has.
    """
    path = study.folder / "packs" / row_of(replica)[0] / PACK_TABLE
    rows = files.read_table(path, [SHARES], [("replica", "=", replica)])
    if SHARES not in rows.column_names or rows[SHARES].to_pylist()[0] is None:
        return None
    flat = iter(rows[SHARES].to_pylist()[0])
    return [[list(itertools.islice(flat, count)) for _ in range(sites)] for count, sites in sizes]


def _chance(text: str, candidates: Sequence[str], shares: list[list[list[float]]]) -> float:
    """The logarithm of the chance of an architecture where each site is drawn by its shares.

    Of a layer whose neurons choose for themselves it is that of its counts: a product of polynomials, one per neuron.
    """
    total = 0.0
    for part, sites in zip(text.split("/"), shares, strict=True):
        wanted = _counts(part, candidates, len(sites))
        chances: dict[tuple[int, ...], float] = {(0,) * len(candidates): 1.0}
        for site in sites:
            grown: dict[tuple[int, ...], float] = {}
            for counts, chance in chances.items():
                for c, share in enumerate(site):
                    if counts[c] < wanted[c]:
                        more = (*counts[:c], counts[c] + 1, *counts[c + 1 :])
                        grown[more] = grown.get(more, 0.0) + chance * share
            chances = grown
        total += float(np.log(max(chances.get(wanted, 0.0), 1e-300)))
    return total


def _counts(part: str, candidates: Sequence[str], sites: int) -> tuple[int, ...]:
    """How many neurons of a layer have each candidate."""
    found = dict.fromkeys(candidates, 0)
    for piece in part.split("+"):
        number, _, name = piece.rpartition("*")
        found[name] += int(number or 1)
    return tuple(found.values()) if "+" in part or sites == 1 else tuple(n and sites for n in found.values())


@torch.no_grad()
def _shared(study: Study, replica: str, nets: Networks, texts: Sequence[str | None]) -> Array:
    """Minus the validation loss of each architecture with the weights of the search."""
    task = study.task_of(replica).to("cpu", nets.blocks[1, 0].dtype)
    found = np.full(len(texts), np.nan)
    there = [(at, text) for at, text in enumerate(texts) if text is not None]
    for first in range(0, len(there), 64):
        some = there[first : first + 64]
        rows = take(nets, torch.zeros(len(some), dtype=torch.long))
        made = put(rows, fixed_parts([text for _, text in some], rows))
        loss: Any = evaluate(task, task.valid, made, forward, final=False)["loss"]
        found[[at for at, _ in some]] = -loss.double().numpy()
    return np.where(np.isfinite(found), found, np.where(np.isnan(found) & [t is None for t in texts], np.nan, -np.inf))
