"""How far a study is, and what it looks like: a live view in a terminal, one line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from rich import progress as bars
from rich.live import Live
from rich.table import Table

from nasplug.console import console
from nasplug.hookspecs import Counts, Progress, hookimpl
from nasplug.notebook import Line, in_notebook

__all__ = ["Tally", "Watcher", "entered", "watching"]

TABLE = "replicas.parquet"  # of a pack that is finished
LINE_SECONDS = 5.0
REFRESH_SECONDS = 0.25  # of a notebook's line


class Tally:
    """Packs and networks that are done, running and failed, and the best errors so far.

    Failed packs stand beside those that are done, and their networks count as settled.

    Attributes:
        counts: what there is to do.
        running: pack -> its last report.
        done: pack -> its networks.
        failed: pack -> its networks; an average pack's, where it failed before its first report.
        resumed: networks that earlier runs had finished.
        soft: the best validation error of soft networks so far; infinite before there is one.
        best: of hard networks the smallest validation error, and the edges of the network that has it. Networks on folds count
            by their means over the folds of one configuration and seed: the luckiest fold says nothing of a network.
    """

    def __init__(self) -> None:
        self.counts = Counts(0, 0)
        self.running: dict[str, Progress] = {}
        self.done: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.resumed = 0
        self.soft = math.inf
        self.best: tuple[float, int] | None = None
        self._folds: dict[tuple[int, int], tuple[int, float, int]] = {}  # how many there are, and sums of errors and edges
        self._most = 1

    def began(self, folder: Path, counts: Counts) -> None:
        """A study that starts or goes on: what earlier runs finished is counted."""
        self.counts = counts
        for path in sorted((folder / "packs").glob(f"*/{TABLE}")):
            self._read(path.parent.name, path)
        self.resumed = sum(self.done.values())

    def reported(self, pack: str, progress: Progress) -> None:
        """An interval of a pack."""
        self.running[pack] = progress
        self.soft = min(self.soft, error) if (error := progress.best_valid_error) >= 0 else self.soft

    def finished(self, pack: str, folder: Path) -> None:
        """A pack is complete; ``folder`` is its own."""
        self.running.pop(pack, None)
        self._read(pack, folder / TABLE)

    def lost(self, pack: str) -> None:
        """A pack has failed."""
        last = self.running.pop(pack, None)
        self.failed[pack] = last.networks if last else round(self.counts.networks / max(self.counts.packs, 1))

    def _read(self, pack: str, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if pack in self.done:
            return
        names = ["status", "valid_error", "edges"]
        try:
            there = pq.read_schema(path).names
            if not set(names) <= set(there):  # refitted networks: scored on what they were trained on
                self.done[pack] = int(pq.read_metadata(path).num_rows)
                return
            folds = ["configuration", "seed", "fold"] if {"configuration", "seed", "fold"} <= set(there) else []
            rows = pq.read_table(path, columns=[*names, *folds]).to_pylist()
        except (OSError, pa.ArrowException):  # cut, or set aside: the pack runs again
            return
        self.done[pack] = len(rows)
        for row in rows:
            self._compare(row)

    def _compare(self, row: Mapping[str, Any]) -> None:
        """The best network so far, of those of which most folds are there: those of one may be in several packs."""
        error = row["valid_error"] if row["status"] == "finished" else math.inf
        folds, edges = 1, row["edges"] or 0
        if row.get("fold") is not None:
            key = (row["configuration"], row["seed"])
            before = self._folds.get(key, (0, 0.0, 0))
            folds, error, edges = before[0] + 1, before[1] + error, before[2] + edges
            self._folds[key] = folds, error, edges
        if folds > self._most:
            self._most, self.best = folds, None
        if folds == self._most and math.isfinite(error):
            found = (error / folds, round(edges / folds))
            self.best = found if self.best is None else min(self.best, found)

    @property
    def share(self) -> float:
        """How much of the study is done, in [0, 1]; a pack counts by its networks."""
        running = sum(now.progress * now.networks for now in self.running.values())
        settled = sum(self.done.values()) + sum(self.failed.values())
        return min(1.0, (settled + running) / max(self.counts.networks, 1))

    @property
    def networks(self) -> int:
        """Networks of the whole study."""
        return max(self.counts.networks, sum(self.done.values()))

    @property
    def packs(self) -> int:
        """Packs of the whole study."""
        return max(self.counts.packs, len(self.done))

    @property
    def earned(self) -> float:
        """Networks trained in this run; parts of those that still train count."""
        return self.share * self.networks - self.resumed

    def left(self, seconds: float) -> float:
        """Seconds until all is trained, at the pace of the ``seconds`` so far; NaN before a hundredth of it is."""
        pace = self.earned > 0.01 * self.networks
        return (1.0 - self.share) * self.networks * seconds / self.earned if pace else math.nan


class Watcher:
    """Follows the packs of one study. Use as a context manager and pass it to ``Study.run(observers=[...])``.

    It shows what it is told: failed packs stand beside those that are done, and their networks count as settled.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.tally = Tally()
        self.console = console(stream or sys.stderr)
        self.began = time.monotonic()
        self.said = self.began
        self._live: Live | None = None
        self._line = Line() if stream is None and in_notebook() else None
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(40), bars.TextColumn("{task.percentage:>5.1f} %"))
        self._bar = bars.Progress(*columns)
        self._task = self._bar.add_task("networks", total=1.0)

    def __enter__(self) -> Watcher:
        if self._line is not None:
            self._line.show("nasplug: planned; training begins")
        elif self.console.is_terminal:
            self._live = Live(self._view(), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @hookimpl
    def study_started(self, folder: Path, counts: Counts) -> None:
        """Count what an earlier run finished already."""
        self.tally.began(folder, counts)
        self._say(force=True)

    @hookimpl
    def pack_reported(self, pack: str, progress: Progress) -> None:
        """An interval of a pack."""
        self.tally.reported(pack, progress)
        self._say()

    @hookimpl
    def pack_finished(self, pack: str, folder: Path) -> None:
        """A pack is complete."""
        self.tally.finished(pack, folder)
        self._say(force=True)

    @hookimpl
    def pack_failed(self, pack: str, reason: str) -> None:
        """A pack has failed; why is said once."""
        self.tally.lost(pack)
        self.console.print(f"pack {pack} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
        self._say(force=True)

    def _figures(self) -> dict[str, str]:
        seconds, tally = time.monotonic() - self.began, self.tally
        left = tally.left(seconds)
        diverged = sum(now.diverged for now in tally.running.values())
        failed = f", {len(tally.failed)} failed" if tally.failed else ""
        figures = {
            "packs": f"{len(tally.done)}/{tally.packs} done{failed}, {len(tally.running)} running",
            "networks": f"{sum(tally.done.values())}/{tally.networks}",
            "networks/s": f"{tally.earned / seconds:.1f}" if seconds > 0 else "-",
            "best error": _best(tally),
            "left": "-" if math.isnan(left) else f"{left:.0f} s",
        }
        if diverged:
            figures["diverged"] = str(diverged)
        return figures

    def _view(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        self._bar.update(self._task, completed=self.tally.share)
        grid.add_row(self._bar)
        line = Table.grid(padding=(0, 2))
        figures = self._figures()
        line.add_row(*[f"[bold]{name}[/bold] {value}" for name, value in figures.items()])
        grid.add_row(line)
        return grid

    def _say(self, *, force: bool = False) -> None:
        if self._live is not None:
            self._live.update(self._view())
            return
        now = time.monotonic()
        if force or now - self.said >= (LINE_SECONDS if self._line is None else REFRESH_SECONDS):
            self.said = now
            figures = ", ".join(f"{name} {value}" for name, value in self._figures().items())
            line = f"[{now - self.began:6.1f} s] {100 * self.tally.share:5.1f} % | {figures}"
            if self._line is not None:
                self._line.show(line)
            else:
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _best(tally: Tally) -> str:
    """The best validation error: of a finished network, and before there is one of networks in training."""
    if tally.best is not None:
        return f"{tally.best[0]:.4g} with {tally.best[1]} edges"
    return "-" if math.isinf(tally.soft) else f"{tally.soft:.4g} in training"


def watching(progress: bool | None, observers: Sequence[object] = ()) -> list[Watcher]:
    """One `Watcher` if ``progress`` is wanted (None: in a notebook), and none of the ``observers`` is one."""
    wanted = in_notebook() if progress is None else progress
    return [Watcher()] if wanted and not any(isinstance(each, Watcher) for each in observers) else []


@contextmanager
def entered(watchers: Sequence[Watcher]) -> Iterator[None]:
    """All of them as context managers."""
    with ExitStack() as stack:
        for watcher in watchers:
            stack.enter_context(watcher)
        yield
