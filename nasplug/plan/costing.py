"""What a study will cost on this machine, told before it starts: networks, packs, a range of seconds, memory.

Paces come from `nasplug.plan.calibration`: measured for these networks, scaled from others on this device, or guessed. The
range is as wide as the worst of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nasplug.config import StudyConfig
from nasplug.plan.calibration import Calibration, calibration_of
from nasplug.plan.compiling import worth_compiling
from nasplug.plan.measuring import Kind, kinds
from nasplug.plan.reach import beyond
from nasplug.plan.refits import MOST_REFITTED, most_halves
from nasplug.plan.sizing import places, shape_and_leaves
from nasplug.plan.stopping import across, share_of_steps
from nasplug.plan.varying import Axis, Pack, inside
from nasplug.plugins import Plugins

__all__ = ["Cost", "cost_of", "few_words", "longest_first"]

RANGES = {"measured": (0.7, 1.6), "scaled": (0.5, 2.5), "guessed": (0.4, 4.0)}
"""By how much seconds of steps may be less or more, by how their pace is known."""
SOURCES = {
    "measured": "from paces measured here",
    "scaled": "from paces of other networks here",
    "guessed": "guessed, as nothing has run here yet",
}
STEP_SECONDS = 6e-4  # that a step takes at least, however few networks a pack has: some hundred calls of torch
PACK_SECONDS = 0.5  # of a pack beside its steps: it is built, discretized, scored and written
COMPILE_SECONDS = 12.0  # of a worker's first compiled pack
AROUND = (6.0, 30.0)  # of a study beside its packs: processes start, the report and MLflow are written
WORKER_BYTES = 500 * 2**20  # of a process with torch
MOST_KINDS = 40  # kinds of packs that are looked at; the others are taken to be like them
FEW = 16  # networks of a pack, below which its steps take as long as those of twice as many
MANY = 4  # packs of few networks that are worth a word


@dataclass(frozen=True, slots=True)
class Cost:
    """What there is to do, and what it takes here.

    Attributes:
        networks, packs: that are trained, but for refits and half samples.
        together: how many packs run at once.
        seconds: low and high, of the whole study, where nothing else runs.
        bytes: of memory, of all packs that run at once.
        source: how the paces are known: measured, scaled or guessed, the worst of them.
    """

    networks: int
    packs: int
    together: int
    seconds: tuple[float, float]
    bytes: int
    source: str

    def __str__(self) -> str:
        """``Cost here: 576 networks in 10 packs, 2 at once: about 20 s to 2 min ... Memory: about 1.1 GB.``"""
        low, high = (_duration(end) for end in self.seconds)
        about = f"about {low}" if low == high else f"about {low} to {high}"
        size = f"{self.networks:,} networks in {self.packs:,} pack{'s' if self.packs > 1 else ''}, {self.together} at once"
        return (
            f"Cost here: {size}: {about} if nothing else runs on this machine ({SOURCES[self.source]}). Memory: about "
            f"{self.bytes / 2**30:.1f} GB."
        )

    def against(self, budget: str, seconds: float) -> str:
        """What a study's ``budget`` of so many seconds leaves out, in words; empty where it is enough."""
        low, high = self.seconds
        if seconds >= high:
            return ""
        told = "the estimate; networks will" if seconds < low else "the high end of the estimate; networks may"
        return f"Warning: budget: {budget} is less than {told} be left untrained. Take a larger budget, or fewer networks."

    def plain(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"seconds": [round(end, 1) for end in self.seconds]}


def cost_of(
    study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, *, later: int = 0, together: int | None = None
) -> Cost | None:
    """What packs cost that have not been trained; None without any.

    Of refits, half samples and stronger levels the low end has the fewest that there may be, the high end the most.

    Args:
        study: as written, with its sweeps.
        packs: of the study.
        plugins: where names are looked up.
        later: networks of generations that are not planned yet.
        together: how many packs run at once; as many as there are CPUs for, if it is not given.
    """
    if not packs:
        return None
    known = calibration_of(study.resources)
    low = high = 0.0
    own: list[float] = [0.0, 0.0]
    rows, biggest, compiled, sources = 0, 0, False, set()
    found = list(kinds(study, packs, plugins, most=MOST_KINDS))
    waiting = {pack.id for pack in across(study, packs)}
    share = sum(pack.rows for pack in packs) / sum(kind.rows * kind.each for kind in found)
    for kind in found:
        stages = 1 + (study.stop.rungs if study.stop is not None and kind.pack.id in waiting else 0)
        each, size, source, fast = _of_kind(kind, known, stages)
        ends = [share * sum(end) for end in zip(*each, strict=True)]
        low, high = low + ends[0], high + ends[1]
        biggest, compiled = max(biggest, size), compiled or fast
        sources.add(source)
        if not kind.pack.linear:
            own, rows = [a + b for a, b in zip(own, ends, strict=True)], rows + round(share * kind.rows)
    networks = sum(pack.rows for pack in packs)
    if rows:
        least, most = _more(study, packs, rows, later)
        low, high = low + own[0] / rows * least, high + own[1] / rows * most
    together = min(together or places(study), len(packs))
    around = [end + (COMPILE_SECONDS if compiled else 0.0) for end in AROUND]
    return Cost(
        networks + later,
        len(packs) + (round(later * len(packs) / networks) if later else 0),
        together,
        (low / together + around[0], high / together + around[1]),
        together * (biggest + WORKER_BYTES),
        max(sources, key=list(RANGES).index),
    )


def longest_first(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins) -> list[Pack]:
    """Packs in the order in which workers should take them, so that none is left alone with a long one at the end.

    By the high end of what each may take here; of the same length, as they came. Where there are more than 40 kinds of packs,
    those that are not looked at count as the others do on average, by their rows.
    """
    if len({(pack.rows, pack.linear, repr(pack.values)) for pack in packs}) < 2:
        return list(packs)
    known = calibration_of(study.resources)
    seconds: dict[str, float] = {}
    rows = 0
    for kind in kinds(study, packs, plugins, most=MOST_KINDS):
        seconds |= {pack.id: most for pack, (_, most) in zip(kind.packs, _of_kind(kind, known)[0], strict=True)}
        rows += kind.rows * kind.each
    each = sum(seconds.values()) / rows
    return sorted(packs, key=lambda pack: -seconds.get(pack.id, each * pack.rows))


def _of_kind(kind: Kind, known: Calibration, stages: int = 1) -> tuple[list[tuple[float, float]], int, str, bool]:
    """Seconds of its packs, low and high, each; bytes of the largest; how its pace is known; whether steps are compiled.

    ``stages``: how often each pack is built: where it waits for others at rungs, once after each.
    """
    parts, search = kind.parts, kind.search
    shape, leaves = shape_and_leaves(parts, search, kind.activations)
    pack = max(kind.packs, key=lambda one: one.rows)
    fast = worth_compiling(parts, search, leaves, kind.activations, steps=search.steps, alike=pack.alike, room=pack.room)
    pace = known.pace(shape, pack.rows, compiled=fast)
    eager = pace if not fast else known.pace(shape, pack.rows, compiled=False)
    trained = search.steps * share_of_steps(parts.study, kind.packs, search.steps)[1]
    less, more = RANGES[pace.source]
    each = []
    for one in kind.packs:
        steps = trained * max(STEP_SECONDS, 1e-9 * pace.nanoseconds * one.rows)
        after = kind.each * (parts.finetune + parts.retrain) * max(STEP_SECONDS, 1e-9 * eager.nanoseconds * one.rows)
        beside = stages * PACK_SECONDS
        each.append((less * (steps + after) + beside / 2, more * (steps + after) + 2 * beside))
    return each, 4 * shape.numbers * pack.rows, pace.source, fast


def _more(study: StudyConfig, packs: Sequence[Pack], rows: int, later: int) -> tuple[float, float]:
    """Networks like the study's own that are trained beside these, at least and at most."""
    own = [pack for pack in packs if not pack.linear]
    least = most = float(later)
    folds = len({fold for pack in own for fold in pack.folds})
    if folds:
        seeds, configurations = len(study.seed_list), len({n for pack in own for n in pack.configurations})
        least, most = least + seeds, most + seeds * min(configurations, MOST_REFITTED)
    if study.counted is not None:
        least, most = least + study.counted.subsamples, most + most_halves(study.counted)
    return least, most + (rows if beyond(study, 1) else 0)


def few_words(packs: Sequence[Pack], found: Sequence[Axis]) -> str:
    """What is said where many packs have so few networks that most of their time is not theirs; else empty.

    ``found``: what varies.
    """
    own = [pack for pack in packs if not pack.linear]
    small = sum(pack.rows < FEW for pack in own)
    if small < MANY or 2 * small < len(own):
        return ""
    between = [axis.path for axis in found if not inside(axis, own)]
    whose = f" ({', '.join(between)} {'vary' if len(between) > 1 else 'varies'} between packs)" if between else ""
    return (
        f"{small} of {len(own)} packs have fewer than {FEW} networks{whose}: a step takes as long as one of twice as many. "
        "More seeds or levels cost little there; fewer values between packs save much."
    )


def _duration(seconds: float) -> str:
    """In the unit that a person would take."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 * size else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
