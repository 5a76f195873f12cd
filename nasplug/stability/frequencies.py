"""From packs on half samples to frequencies: the table, the columns of networks, and what is said of the chosen one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import torch

from nasplug import files, results
from nasplug.config import Stability, StudyConfig
from nasplug.errors import ConfigError
from nasplug.folds import LEAST, RECORD, candidates
from nasplug.packs import TABLE, load_networks
from nasplug.plan import Axis, Pack, halves, row_of
from nasplug.plugins import Plugins
from nasplug.stability.bounds import concave, unimodal, worst
from nasplug.stability.counting import Tally, finished_halves, inputs_of, tally, whole_pairs
from nasplug.stability.levels import wanted
from nasplug.tasks import Facts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FREQUENCIES", "count", "frequencies", "read", "stable", "words"]

FREQUENCIES, CSV = "stability.parquet", "stability.csv"
KINDS = ("input", "pair", "activation", "depth")
LISTED = 4  # inputs that are named in a sentence
EPS = 1e-9

Run = Callable[[str, Callable[[], list[Pack]]], list[Pack]]


class Trained(Protocol):
    """What is read of a study that has run its sweep."""

    config: StudyConfig
    plugins: Plugins

    @property
    def folder(self) -> Path: ...

    @property
    def axes(self) -> list[Axis]: ...

    @property
    def frame(self) -> pd.DataFrame: ...

    def facts_of(self, replica: str) -> Facts: ...


def count(study: Trained, done: Sequence[Pack], run: Run, closed: Callable[[str], bool]) -> int:
    """Train on half samples what is not trained yet, count, and write ``stability.parquet``, ``.csv`` and ``.json``.

    Without ``stability:`` what an earlier run wrote of it is removed; its packs stay.

    Args:
        study: one whose sweep and refits are done.
        done: its packs so far; what is run is added to them.
        run: plans packs under a name (or as they were planned before), and runs them.
        closed: whether no packs shall be planned under a name any more.

    Returns:
        Networks on half samples that are wanted, and for which no pack was planned.
    """
    given, frame = study.config.counted, study.frame
    if given is None or not (candidates(frame)["status"] == "finished").any():
        _remove(study.folder, FREQUENCIES, CSV, RECORD)
        return 0
    rule = study.config.choose
    chosen = results.choose(frame, study.facts_of, rule)
    numbers = wanted(results.standing(frame, study.facts_of, rule), frame, chosen, study.axes, given.levels)
    have: dict[int, int] = {}
    _learn(have, done)
    rounds = 0
    while missing := {c: have.get(c, 0) for c in numbers if have.get(c, 0) < given.subsamples}:
        if closed(f"halves-{rounds}"):
            break
        plan = partial(halves, study.config, missing, given.subsamples, list(done), study.plugins)
        _learn(have, run(f"halves-{rounds}", plan))
        rounds += 1
    found = _counted(study, [pack for pack in done if pack.halved], set(numbers), given)
    _write(study, frame, chosen, found, given)
    return sum(given.subsamples - there for there in missing.values())


def _learn(have: dict[int, int], packs: Sequence[Pack]) -> None:
    """Add to ``have`` how many half samples configurations have been trained on in these packs."""
    for pack in packs:
        if pack.halved:
            for number, half in zip(pack.configurations, pack.folds, strict=True):
                have[number] = max(have.get(number, 0), half + 1)


def _counted(study: Trained, packs: Sequence[Pack], numbers: set[int], given: Stability) -> dict[int, Tally]:
    """Each configuration's counts over its whole pairs of finished networks, among as many half samples as are asked for."""
    there = [pack for pack in packs if (study.folder / "packs" / pack.id / TABLE).exists()]
    finished: dict[int, set[int]] = {}
    for pack in there:
        table = files.read_table(study.folder / "packs" / pack.id / TABLE, ["configuration", "fold", "status"]).to_pydict()
        for number, folds in finished_halves(table["configuration"], table["fold"], table["status"]).items():
            finished.setdefault(number, set()).update(fold for fold in folds if fold < given.subsamples)
    whole = {number: whole_pairs(folds) for number, folds in finished.items() if number in numbers}
    found: dict[int, Tally] = {}
    for pack in there:
        rows: dict[int, list[int]] = {}
        for row, (number, fold) in enumerate(zip(pack.configurations, pack.folds, strict=True)):
            if fold in whole.get(number, set()):
                rows.setdefault(number, []).append(row)
        if rows:
            nets = load_networks(study.folder / "packs" / pack.id, study.plugins.functions)
            for number, mine in rows.items():
                one = tally(nets, torch.tensor(mine, dtype=torch.long))
                found[number] = found[number] + one if number in found else one
    return found


# -- the table ---------------------------------------------------------------------------------------------------------


def frequencies(found: Tally, columns: Sequence[str], candidates: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One mapping per item: what it is, how often it was kept and what that is worth.

    ``bound`` is `nasplug.stability.bounds.worst` at ``tau = frequency``, for inputs and pairs that more than half of the
    networks keep: at most so many falsely selected ones are expected among all that are kept as often. Pairs that no network
    keeps are left out.

    Args:
        found: the counts of one configuration.
        columns: names of the inputs.
        candidates: names of the activations.
    """
    paired = [] if found.pairs is None else found.pairs.triu(1).nonzero().tolist()
    paired.sort(key=lambda at: (-int(found.pairs[at[0], at[1]]), at))  # type: ignore[index]
    p = len(columns)
    lists: list[tuple[str, list[tuple[str, str, int]], int]] = [
        ("input", [(name, "", int(n)) for name, n in zip(columns, found.inputs, strict=True)], p),
        ("pair", [(columns[i], columns[j], int(found.pairs[i, j])) for i, j in paired], p * (p - 1) // 2),  # type: ignore[index]
        ("depth", [(str(layers), "", int(n)) for layers, n in enumerate(found.depths)], len(found.depths)),
    ]
    if found.activations is not None:
        names = [(name, "", int(n)) for name, n in zip(candidates, found.activations, strict=True)]
        lists.append(("activation", names, len(names)))
    for kind, items, possible in lists:
        selected = sum(n for *_, n in items) / max(found.networks, 1)
        for item, other, kept in items:
            share = kept / max(found.networks, 1)
            row: dict[str, Any] = {"kind": kind, "item": item, "other": other or None, "kept": kept, "networks": found.networks}
            row |= {"frequency": share, "selected": selected, "items": possible}
            bounded = kind in ("input", "pair") and share > 0.5
            pairs = found.networks // 2
            row["bound"] = worst(selected, possible, share) if bounded else math.nan
            row["bound_unimodal"] = unimodal(selected, possible, share, pairs) if bounded else math.nan
            row["bound_concave"] = concave(selected, possible, share, pairs) if bounded else math.nan
            yield row


def _table(study: Trained, frame: pd.DataFrame, found: dict[int, Tally]) -> pd.DataFrame:
    """All configurations' items, with what the configuration has in the places that vary."""
    import pandas as pd

    places = [axis.path for axis in study.axes if axis.path in frame]
    places = [name for name in (results.METHOD, *places, "linear.level", "linear.debiased") if name in frame]
    rows: list[dict[str, Any]] = []
    for number, one in sorted(found.items()):
        first = frame[frame["configuration"] == number].iloc[0]
        replica = str(first["replica"])
        facts = study.facts_of(replica)
        nets = load_networks(study.folder / "packs" / row_of(replica)[0], study.plugins.functions)
        own = {"configuration": number} | {name: first[name] for name in places}
        rows += [own | row for row in frequencies(one, facts.columns, nets.candidates)]
    return pd.DataFrame(rows)


def _write(study: Trained, frame: pd.DataFrame, chosen: pd.Series[Any], found: dict[int, Tally], given: Stability) -> None:
    if found:
        table = _table(study, frame, found)
        files.write_table(study.folder / FREQUENCIES, pa.Table.from_pandas(table, preserve_index=False))
        files.write_csv(study.folder / CSV, table)
    else:  # no complementary pair finished
        _remove(study.folder, FREQUENCIES, CSV)
    record = {
        "sentence": _sentence(study, chosen, found, given),
        "subsamples": given.subsamples,
        "threshold": given.threshold,
        "configurations": sorted(found),
        "networks": _of_networks(study, frame, found, given.threshold),
    }
    files.write_json(study.folder / RECORD, record)


def _remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _of_networks(
    study: Trained, frame: pd.DataFrame, found: dict[int, Tally], threshold: float
) -> dict[str, tuple[float, int]]:
    """Replica -> the smallest frequency of an input that it reads (1 without any), and how many it reads are stable."""
    rows = candidates(frame)
    rows = rows[(rows["status"] == "finished") & rows["configuration"].isin(list(found))]
    columns: dict[str, tuple[float, int]] = {}
    for pack, mine in rows.groupby(rows["replica"].map(lambda name: row_of(name)[0])):
        read = inputs_of(load_networks(study.folder / "packs" / str(pack), study.plugins.functions))
        for name, number in zip(mine["replica"], mine["configuration"], strict=True):
            shares = (found[number].inputs.double() / found[number].networks)[read[row_of(name)[1]]]
            least = float(shares.min()) if len(shares) else 1.0
            columns[str(name)] = least, int((shares >= threshold - EPS).sum())
    return columns


# -- what is said ------------------------------------------------------------------------------------------------------


def _sentence(study: Trained, chosen: pd.Series[Any], found: dict[int, Tally], given: Stability) -> str:
    """How often the chosen network's inputs were kept, and how many falsely selected ones are expected at the threshold."""
    one = found.get(int(chosen["configuration"]))
    if one is None:
        return "How often its inputs are selected is not known: no complementary pair of its configuration's networks finished."
    replica = str(chosen["replica"])
    names = study.facts_of(replica).columns
    read = inputs_of(load_networks(study.folder / "packs" / row_of(replica)[0], study.plugins.functions))[row_of(replica)[1]]
    kept = sorted(((int(one.inputs[at]), names[at]) for at in read.nonzero().flatten().tolist()), key=lambda pair: -pair[0])
    out_of = f"of {one.networks} half samples"
    if not kept:
        told = "It reads no input"
    elif len(kept) <= LISTED:
        counts = [str(n) for n, _ in kept]
        told = f"{_listed([name for _, name in kept])} {'were' if len(kept) > 1 else 'was'} kept in {_listed(counts)} {out_of}"
    else:
        told = f"Its {len(kept)} inputs were kept in {kept[-1][0]} ({kept[-1][1]}) to {kept[0][0]} {out_of}"
    if (lost := given.subsamples - one.networks) > 0:
        told += f" ({lost} of {given.subsamples} are left out: they, or their complements, did not finish)"
    q, p, tau = float(one.inputs.sum()) / one.networks, len(names), given.threshold
    selected = int((one.inputs >= (tau - EPS) * one.networks).sum())
    most, less = worst(q, p, tau), unimodal(q, p, tau, one.networks // 2)
    assumed = f" ({less:.2g} if frequencies are unimodal)" if less < most - EPS else ""
    source = "(Shah and Samworth 2013, for this configuration)"
    if most >= selected:
        bound = f"with a bound of {most:.2g}{assumed} on falsely selected ones, which says little {source}"
    else:
        bound = f"of which at most {most:.2g} falsely selected ones{assumed} are expected {source}"
    return f"{told}; {selected} of {p} inputs reach {tau:g}, {bound}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def read(folder: Path) -> pd.DataFrame:
    """The table that `count` wrote.

    Raises:
        ConfigError: where there is none.
    """
    path = folder / FREQUENCIES
    if not path.exists():
        raise ConfigError(f"{folder} has no {FREQUENCIES}; write stability: true in the study and run it again")
    found: pd.DataFrame = files.read_table(path).to_pandas()
    return found


def words(folder: Path) -> str:
    """What is said of the chosen network; empty where nothing was counted."""
    path = folder / RECORD
    return str(files.read_json(path)["sentence"]) if path.exists() else ""


def stable(frame: pd.DataFrame, share: float) -> pd.DataFrame:
    """The table without networks that read an input which less than ``share`` of the half samples keep, or were not counted.

    Raises:
        ConfigError: for a study that did not count, or no such network.
    """
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"stable: {share:g}; needed: a share of the half samples, 0 to 1")
    if LEAST in frame and not frame[LEAST].notna().any():
        raise ConfigError(
            "stable: no complementary pair of half samples has networks that finished; run the study again, which tries packs "
            "that failed once more"
        )
    if LEAST not in frame:
        raise ConfigError(
            "stable: this study has not counted how often inputs are selected; write stability: true and run it again, which "
            "trains nothing else again"
        )
    steady = frame[LEAST] >= share - EPS
    if not steady.any():
        raise ConfigError(
            f"stable: no network of the front has only inputs that {share:g} of the half samples keep; the steadiest one's "
            f"reach {frame[LEAST].max():g}. Take less"
        )
    aside = ~frame.index.isin(candidates(frame).index)  # rows on folds stay: scores are compared by them
    return frame[steady | aside]
