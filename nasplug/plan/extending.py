"""What is added to a study that has run: what may be, which configurations it has already, and the packs of the rest."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasplug.config import StudyConfig, Sweep, as_sweep
from nasplug.config.checking import shown
from nasplug.errors import ConfigError, scrub
from nasplug.identity import decisive
from nasplug.plan.packing import chunk
from nasplug.plan.varying import LOSS, TASK, Pack
from nasplug.plugins import Plugins

__all__ = ["Numbers", "added", "lacking", "rest", "value_at"]

DIGITS = 10
"""To so many digits two values are one: a range that is written longer has the same points, but for a rounding."""
SEEDS, TRIALS = "seeds", "sampler.trials"


# -- what may be added -------------------------------------------------------------------------------------------------


def added(old: StudyConfig, new: StudyConfig, *, guided: bool) -> list[str]:
    """What ``new`` adds to ``old``, in words; nothing where both would train the same networks.

    Args:
        old: the study that has run.
        new: with more seeds, more values of what varies, or more trials of its sampler.
        guided: whether the sampler learns from outcomes (`nasplug.sampling.Drawing`).

    Raises:
        ConfigError: for all else that is different, with what to do.
    """
    drawn = new.sampler.use != "grid"
    words: dict[str, str] = {}
    refused: list[str] = []
    for path, before, after in _differences(decisive(old), decisive(new)):
        told = f"{path}: {shown(before)}, now {shown(after)}"
        if path == SEEDS:
            more, why = _seeds(old, new)
        elif new.train.path is not None and path == new.train.path.over:
            more, why = "", "each level of train.path begins where the one before has ended"
        elif path == TRIALS and drawn:
            count = new.sampler.trials - old.sampler.trials
            more, why = (f"{count} more", "") if count > 0 else ("", "trials that were made are kept")
        else:
            more, why = _values(path, as_sweep(before), as_sweep(after), before, drawn=drawn)
        if more:
            words[path] = f"{path}: {more}"
        else:
            refused.append(told + (f" ({why})" if why else ""))
    if refused:
        raise ConfigError(
            f"the study cannot be extended to this; different: {'; '.join(refused)}. Seeds, values of what varies and trials "
            "can be added. For all else make a new study: give it another name (study: ...) and run it"
        )
    if words and new.train.population is not None:
        raise ConfigError(
            "the study cannot be extended: its networks copied others of their population (train.population), so results would "
            "depend on when they were added. Make a new study: give it another name (study: ...)"
        )
    if words and new.stop is not None:
        raise ConfigError(
            "the study cannot be extended: its networks were stopped early by comparing them with the others that there were "
            "(stop:), so results would depend on when they were added. Make a new study: give it another name (study: ...)"
        )
    if guided and (others := sorted(words.keys() - {TRIALS})):
        raise ConfigError(
            f"the study cannot be extended by {', '.join(others)}: sampler {new.sampler.use!r} drew from the results that it "
            "had, and with these it would have had others. Add trials (sampler.trials), or make a new study: give it another "
            "name (study: ...)"
        )
    return list(words.values())


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Places that are not equal; a sweep is one place, and so is what became one."""
    if old == new:
        return
    if as_sweep(old) is None and as_sweep(new) is None:
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            for key in [*old, *(key for key in new if key not in old)]:
                yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
            return
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and path != SEEDS:
            for at, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from _differences(one, other, f"{path}.{at}")
            return
    yield path, old, new


def _seeds(old: StudyConfig, new: StudyConfig) -> tuple[str, str]:
    before, after = old.seed_list, new.seed_list
    if after[: len(before)] != before:
        return "", "write the seeds that there are first, and the others behind them"
    return f"{len(after) - len(before)} more", ""


def _values(path: str, old: Sweep | None, new: Sweep | None, value: Any, *, drawn: bool) -> tuple[str, str]:
    """How many values a place has more, in words; or nothing, and why it cannot have these."""
    if new is None or (old is None and (value is None or path.startswith((TASK, LOSS)))):
        return "", ""
    if drawn and (new.grid is None or (old is not None and old.grid is None)):
        return "", "what is drawn is drawn from what it was drawn from" if old is not None else "write {grid: [...]}"
    there = {_key(one) for one in (old.values if old is not None else [value])}
    now = {_key(one) for one in new.values}
    if lost := len(there - now):
        if old is not None and old.points and (new.uniform or new.log) == (old.uniform or old.log):
            return "", f"{lost} of the {old.points} points are not among them; points: {2 * old.points - 1} keeps all"
        return "", f"{lost} of the {len(there)} values that there are are not among them"
    more = len(now - there)
    return (f"{more} value{'s' if more > 1 else ''} more" if more else "the same values"), ""


# -- what is there -----------------------------------------------------------------------------------------------------


def _same(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {str(key): _same(inner) for key, inner in value.items()}
    return [_same(inner) for inner in value] if isinstance(value, list | tuple) else value


def _key(value: Any) -> str:
    return json.dumps(_same(scrub(value)), sort_keys=True)


def value_at(plain: Any, path: str) -> Any:
    """What plain data have at a dotted path."""
    for step in path.split("."):
        plain = plain[int(step)] if isinstance(plain, list) else plain[step]
    return plain


class Numbers:
    """The numbers of configurations: those that packs have already, in the order of the numbers, and new ones behind them.

    A configuration may be drawn twice: each time it is the next of its numbers.

    Attributes:
        next: the first number that nothing has.
    """

    def __init__(self, packs: Sequence[Pack]) -> None:
        self.next = 1 + max((number for pack in packs for number in pack.configurations), default=-1)
        known: dict[int, str] = {}
        for pack in packs:
            if not pack.linear and not pack.fitted:
                for row, number in enumerate(pack.configurations):
                    if number not in known:
                        own = {path: column[row] for path, column in pack.columns.items()}
                        known[number] = _key({**pack.values, **own})
        self._free: dict[str, deque[int]] = {}
        for number in sorted(known):
            self._free.setdefault(known[number], deque()).append(number)

    def some(self, configurations: Sequence[Mapping[str, Any]]) -> bool:
        """Whether there are packs for one of these, whose number was not given yet."""
        return any(self._free.get(_key(configuration)) for configuration in configurations)

    def of(self, configurations: Sequence[Mapping[str, Any]]) -> list[int]:
        """The numbers of these, each of which is given once."""
        found = []
        for configuration in configurations:
            free = self._free.get(_key(configuration))
            if free:
                found.append(free.popleft())
            else:
                found.append(self.next)
                self.next += 1
        return found


# -- what is lacking ---------------------------------------------------------------------------------------------------


def lacking(seeds: Sequence[int], numbers: Sequence[int], there: Sequence[Pack]) -> dict[tuple[int, ...], list[int]]:
    """Seeds that configurations lack in the packs that are ``there``, and the places in ``numbers`` of those that lack them."""
    have: dict[int, set[int]] = {}
    for pack in there:
        for number, seed in zip(pack.configurations, pack.seeds, strict=True):
            have.setdefault(number, set()).add(seed)
    found: dict[tuple[int, ...], list[int]] = {}
    for place, number in enumerate(numbers):
        if missing := tuple(seed for seed in seeds if seed not in have.get(number, ())):
            found.setdefault(missing, []).append(place)
    return found


def rest(
    study: StudyConfig,
    configurations: Sequence[Mapping[str, Any]],
    numbers: Sequence[int],
    there: Sequence[Pack],
    plugins: Plugins,
    *,
    letter: str = "p",
    first_pack: int = 0,
    folds: Sequence[int] = (),
) -> list[Pack]:
    """The packs of configurations and seeds that packs which are ``there`` do not have (`nasplug.plan.chunk` makes them)."""
    packs: list[Pack] = []
    for seeds, places in lacking(study.seed_list, numbers, there).items():
        packs += chunk(
            study.model_copy(update={"seeds": list(seeds)}),
            [configurations[place] for place in places],
            plugins,
            letter=letter,
            first_pack=first_pack + len(packs),
            numbers=[numbers[place] for place in places],
            folds=folds,
            fast=True,
        )
    return packs
