"""What a runner is; and the one that trains packs one after another in this process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from nasplug.config import StudyConfig
from nasplug.hookspecs import Progress
from nasplug.machine import arithmetic, held_memory, pick_device
from nasplug.packs import TABLE, run_pack
from nasplug.plan import Pack
from nasplug.plugins import Plugins

__all__ = ["Runner", "SerialRunner", "Watch", "placed"]


@dataclass(frozen=True, slots=True)
class Watch:
    """What a runner tells while it runs, in the driver's process, and asks.

    Each pack ends with one word: finished, or failed and why. Of one that was ended, or waits at a rung, nothing is said.

    Attributes:
        reported, finished, failed: what is told.
        ending: whether no pack shall begin any more, and those that train shall end at their next report.
        kept: of a pack, by its name, the rows that go on after each rung so far; None where it compares its rows itself. At a
            rung that is not among them it waits (`nasplug.packs.run_pack`).
        decide: compares the rows at the next rung, if all packs are there; whether some now go on. A runner may ask it, and go
            on with them; else they come in its next run.
    """

    reported: Callable[[str, Progress], None]
    finished: Callable[[str], None]
    failed: Callable[[str, str], None]
    ending: Callable[[], bool]
    kept: Callable[[str], Sequence[Sequence[int]] | None]
    decide: Callable[[], bool]


class Runner(Protocol):
    """Runs packs until each has its results, waits at a rung, or has failed for good."""

    def check(self, study: StudyConfig) -> None:
        """Refuse, before anything is started or written, resources that this runner can never give.

        Raises:
            ConfigError: with what there is.
        """
        ...

    def start(self) -> None:
        """Get ready; may be called from another thread, before `run`, so that slow starts overlap."""
        ...

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """Run ``packs`` and tell ``watch`` of each, until it says that they shall end. A failure leaves the others' results."""
        ...

    def close(self) -> None:
        """Give back what the runner started."""
        ...


@contextmanager
def placed(study: StudyConfig, rows: int) -> Iterator[str]:
    """The device of a pack of so many rows, with the arithmetic and the share of memory that it has there.

    Raises:
        ConfigError: for a device that is not here.
    """
    takes = study.resources.of(rows)
    device = pick_device(takes.device, takes.gpus)
    with arithmetic(takes.threads, device, share=takes.gpus or 1.0, tf32=study.train.allow_tf32):
        yield device


@dataclass(frozen=True, slots=True)
class SerialRunner:
    """In this process, one pack at a time: for notebooks, debugging and small studies."""

    def check(self, study: StudyConfig) -> None:
        """See `Runner.check`."""
        pick_device(study.resources.device, study.resources.gpus)

    def start(self) -> None:
        """Nothing to start."""

    def run(self, study: StudyConfig, packs: Sequence[Pack], plugins: Plugins, watch: Watch) -> None:
        """See `Runner.run`."""
        with held_memory():
            for pack in packs:
                if watch.ending():
                    return
                self._run(study, pack, plugins, watch)

    def _run(self, study: StudyConfig, pack: Pack, plugins: Plugins, watch: Watch) -> None:
        """One pack, until it has its results, waits at a rung, failed, or shall end."""
        try:
            folder, kept = study.folder / "packs" / pack.id, watch.kept(pack.id)
            with (
                placed(study, pack.rows) as device,
                closing(run_pack(study, pack, plugins, folder, device=device, kept=kept)) as going,
            ):
                for progress in going:
                    watch.reported(pack.id, progress)
                    if watch.ending():
                        return
        except Exception as error:  # noqa: BLE001 - strangers' code runs here; its failure is reported, and packs go on
            watch.failed(pack.id, "".join(traceback.format_exception_only(error)).strip())
            return
        if (folder / TABLE).exists():
            watch.finished(pack.id)

    def close(self) -> None:
        """Nothing was started."""
