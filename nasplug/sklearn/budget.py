"""Keeping to a time limit: steps are shortened by measured speed before anything is trained, and late packs are left out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nasplug.config import StudyConfig
from nasplug.errors import ConfigError
from nasplug.machine import arithmetic
from nasplug.plan import Pack, assemble, components, study_of
from nasplug.plugins import Plugins
from nasplug.runner import SerialRunner, Watch
from nasplug.train import start, train

__all__ = ["LEAST_STEPS", "InTime", "affordable"]

LEAST_STEPS = 20
TRIED = 5  # steps that are timed, after as many to warm up
LINES = 0.3  # of the limit that linear networks may take
FINETUNE = 1.3  # of a search with fine-tuning and cuts to its steps
REFIT = 2.0  # of a search with refits to one without: they have few networks, but as many steps
FILES = 0.2  # of the limit: planning, files, rounds of stronger levels


@dataclass(slots=True)
class InTime:
    """`SerialRunner`, which after a moment leaves out packs that the study can do without.

    Those are the packs that begin after it, if some have finished; refits are always made, as nothing is served without.

    Attributes:
        until: the moment, by `time.perf_counter`; None: there is none.
        lines: whether packs of linear networks are trained.
    """

    until: float | None = None
    lines: bool = True
    _done: bool = False

    def check(self, study: StudyConfig) -> None:
        """See `nasplug.runner.Runner.check`."""
        SerialRunner().check(study)

    def start(self) -> None:
        """Nothing to start."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """See `nasplug.runner.Runner.run`."""

        def finished(pack: str) -> None:
            self._done = True
            watch.finished(pack)

        for pack in packs:
            late = self.until is not None and time.perf_counter() > self.until and self._done
            if not pack.refitted and (late or (pack.linear and not self.lines)):
                watch.failed(pack.id, "left out: the time limit")
            else:
                SerialRunner().run(study, [pack], plugins, replace(watch, finished=finished))

    def close(self) -> None:
        """Nothing was started."""


def affordable(study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, seconds: float, most: int) -> tuple[int, bool]:
    """Steps that fit into ``seconds``, at most ``most``, and whether linear networks fit beside them.

    A few steps of the first pack of each kind are timed. Other packs are taken to cost as much per network and step;
    `FINETUNE`, `REFIT` (of folds) and `FILES` stand for the rest.

    Raises:
        ConfigError: when `LEAST_STEPS` steps would take longer.
    """
    if most < 2 * TRIED:
        return most, True
    own, lines = ([pack for pack in packs if pack.linear is linear] for linear in (False, True))
    rows = sum(pack.rows for pack in own)
    each = _step(study, own[0], plugins) * max(1.0, rows / own[0].rows) * FINETUNE * (REFIT if own[0].folds else 1.0)
    left, wanted = seconds * (1.0 - FILES), bool(lines)
    if wanted:
        steps = int(next(iter(lines[0].columns.get("train.steps", [lines[0].values.get("train.steps", 1)]))))
        cost = _step(study, lines[0], plugins) * steps * sum(pack.rows for pack in lines) / lines[0].rows
        wanted = cost < LINES * seconds
        left -= cost if wanted else 0.0
    steps = int(left / each)
    if steps < LEAST_STEPS:
        raise ConfigError(
            f"time_limit: {max(left, 0.0):.2g} seconds are left for training, and {LEAST_STEPS} steps of {rows} networks take "
            f"{LEAST_STEPS * each:.2g} here; raise it, or take fewer levels, seeds or folds"
        )
    return min(steps, most), wanted


def _step(study: StudyConfig, pack: Pack, plugins: Plugins) -> float:
    """Seconds of one training step of a pack."""
    own = study_of(study, pack)
    with arithmetic(1):
        search = assemble(components(own, pack, plugins), pack, plugins)
        reports = train(search, start(search), every=TRIED)
        next(reports)
        began = time.perf_counter()
        next(reports)
        return (time.perf_counter() - began) / TRIED
