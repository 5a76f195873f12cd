"""What a running study looks like: a live view in a terminal, one line in a notebook, plain lines elsewhere.

An observer of the public hooks.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich import progress as bars
from rich.live import Live
from rich.table import Table

from nasplug.console import console
from nasplug.hookspecs import Counts, Progress, hookimpl
from nasplug.notebook import Line, in_notebook

__all__ = ["Watcher", "entered", "watching"]

LINE_SECONDS = 5.0
REFRESH_SECONDS = 0.25  # of a notebook's line


class Watcher:
    """Follows the packs of one study. Use as a context manager and pass it to ``Study.run(observers=[...])``.

    It shows what it is told: failed packs stand beside those that are done, and their networks count as settled.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.counts = Counts(0, 0)
        self.console = console(stream or sys.stderr)
        self.began = time.monotonic()
        self.said = self.began
        self._now: dict[str, Progress] = {}
        self._done: dict[str, int] = {}  # pack -> networks
        self._failed: dict[str, int] = {}  # likewise; an average pack's, where it failed before its first report
        self._resumed = 0
        self._soft = math.inf  # the best soft validation error so far
        self._best: tuple[float, int] | None = None  # hard networks: validation error, edges
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
        self.counts = counts
        for path in sorted((folder / "packs").glob("*/replicas.parquet")):
            self._read(path.parent.name, path.parent)
        self._resumed = sum(self._done.values())
        self._say(force=True)

    @hookimpl
    def pack_reported(self, pack: str, progress: Progress) -> None:
        """An interval of a pack."""
        self._now[pack] = progress
        self._soft = min(self._soft, error) if (error := progress.best_valid_error) >= 0 else self._soft
        self._say()

    @hookimpl
    def pack_finished(self, pack: str, folder: Path) -> None:
        """A pack is complete."""
        self._now.pop(pack, None)
        self._read(pack, folder)
        self._say(force=True)

    @hookimpl
    def pack_failed(self, pack: str, reason: str) -> None:
        """A pack has failed; why is said once."""
        last = self._now.pop(pack, None)
        self._failed[pack] = last.networks if last else round(self.counts.networks / max(self.counts.packs, 1))
        self.console.print(f"pack {pack} failed: {reason}", highlight=False, markup=False, soft_wrap=True)
        self._say(force=True)

    def _read(self, pack: str, folder: Path) -> None:
        import pyarrow.parquet as pq

        path = folder / "replicas.parquet"
        if not path.exists():
            return
        names = ["status", "valid_error", "edges"]
        if not set(names) <= set(pq.read_schema(path).names):  # refitted networks: scored on what they were trained on
            self._done[pack] = int(pq.read_metadata(path).num_rows)
            return
        table = pq.read_table(path, columns=names).to_pydict()
        self._done[pack] = len(table["status"])
        for status, error, edges in zip(table["status"], table["valid_error"], table["edges"], strict=True):
            if status == "finished" and (self._best is None or (error, edges) < self._best):
                self._best = (error, edges)

    @property
    def share(self) -> float:
        """How much of the study is done, in [0, 1]; a pack counts by its networks."""
        running = sum(now.progress * now.networks for now in self._now.values())
        settled = sum(self._done.values()) + sum(self._failed.values())
        return min(1.0, (settled + running) / max(self.counts.networks, 1))

    def _figures(self) -> dict[str, str]:
        seconds = time.monotonic() - self.began
        share, networks = self.share, max(self.counts.networks, sum(self._done.values()))
        earned = share * networks - self._resumed
        left = (1.0 - share) * networks * seconds / earned if earned > 0.01 * networks else math.nan
        diverged = sum(now.diverged for now in self._now.values())
        failed = f", {len(self._failed)} failed" if self._failed else ""
        figures = {
            "packs": f"{len(self._done)}/{max(self.counts.packs, len(self._done))} done{failed}, {len(self._now)} running",
            "networks": f"{sum(self._done.values())}/{networks}",
            "networks/s": f"{earned / seconds:.1f}" if seconds > 0 else "-",
            "best hard error": "-" if self._best is None else f"{self._best[0]:.4g} with {self._best[1]} edges",
            "best soft error": "-" if math.isinf(self._soft) else f"{self._soft:.4g}",
            "ETA": "-" if math.isnan(left) else f"{left:.0f} s",
        }
        if diverged:
            figures["diverged"] = str(diverged)
        return figures

    def _view(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        self._bar.update(self._task, completed=self.share)
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
            line = f"[{now - self.began:6.1f} s] {100 * self.share:5.1f} % | {figures}"
            if self._line is not None:
                self._line.show(line)
            else:
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)


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
