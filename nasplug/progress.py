"""What a running study looks like: a live view in a terminal, plain lines elsewhere. An observer of the public hooks."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from nasplug.hookspecs import hookimpl

__all__ = ["Watcher"]

LINE_SECONDS = 5.0


class Watcher:
    """Follows the packs of one study. Use as a context manager and pass it to ``Study.run(observers=[...])``."""

    def __init__(self, networks: int, packs: int, stream: TextIO | None = None) -> None:
        self.networks = networks
        self.packs = packs
        self.console = Console(file=stream or sys.stderr)
        self.began = time.monotonic()
        self.said = self.began
        self._now: dict[str, Mapping[str, float]] = {}
        self._done: dict[str, int] = {}  # pack -> networks
        self._resumed = 0
        self._soft = math.inf  # the best soft validation error so far
        self._best: tuple[float, int] | None = None  # hard networks: validation error, edges
        self._live: Live | None = None
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.percentage:>5.1f} %"))
        self._task = self._bar.add_task("networks", total=1.0)

    def __enter__(self) -> Watcher:
        if self.console.is_terminal:
            self._live = Live(self._view(), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @hookimpl
    def study_started(self, study: Mapping[str, object], folder: Path) -> None:
        """Count what an earlier run finished already."""
        for path in sorted((folder / "packs").glob("*/replicas.parquet")):
            self._read(path.parent.name, path.parent)
        self._resumed = sum(self._done.values())
        self._say(force=True)

    @hookimpl
    def pack_reported(self, pack: str, metrics: Mapping[str, float]) -> None:
        """An interval of a pack."""
        self._now[pack] = metrics
        self._soft = min(self._soft, error) if (error := metrics.get("best_valid_error", math.nan)) >= 0 else self._soft
        self._say()

    @hookimpl
    def pack_finished(self, pack: str, folder: Path) -> None:
        """A pack is complete."""
        self._now.pop(pack, None)
        self._read(pack, folder)
        self._say(force=True)

    def _read(self, pack: str, folder: Path) -> None:
        import pyarrow.parquet as pq

        path = folder / "replicas.parquet"
        if not path.exists():
            return
        table = pq.read_table(path, columns=["status", "valid_error", "edges"]).to_pydict()
        self._done[pack] = len(table["status"])
        for status, error, edges in zip(table["status"], table["valid_error"], table["edges"], strict=True):
            if status == "finished" and (self._best is None or (error, edges) < self._best):
                self._best = (error, edges)

    @property
    def share(self) -> float:
        """How much of the study is done, in [0, 1]; a pack counts by its networks."""
        running = sum(m.get("progress", 0.0) * m.get("networks", 0.0) for m in self._now.values())
        return min(1.0, (sum(self._done.values()) + running) / max(self.networks, 1))

    def _figures(self) -> dict[str, str]:
        seconds = time.monotonic() - self.began
        share = self.share
        earned = share * self.networks - self._resumed
        left = (1.0 - share) * self.networks * seconds / earned if earned > 0.01 * self.networks else math.nan
        diverged = sum(m.get("diverged", 0.0) for m in self._now.values())
        figures = {
            "packs": f"{len(self._done)}/{self.packs} done, {len(self._now)} running",
            "networks": f"{sum(self._done.values())}/{self.networks}",
            "networks/s": f"{earned / seconds:.1f}" if seconds > 0 else "-",
            "best hard error": "-" if self._best is None else f"{self._best[0]:.4g} with {self._best[1]} edges",
            "best soft error": "-" if math.isinf(self._soft) else f"{self._soft:.4g}",
            "ETA": "-" if math.isnan(left) else f"{left:.0f} s",
        }
        if diverged:
            figures["diverged"] = f"{diverged:.0f}"
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
        if force or now - self.said >= LINE_SECONDS:
            self.said = now
            figures = ", ".join(f"{name} {value}" for name, value in self._figures().items())
            self.console.print(
                f"[{now - self.began:6.1f} s] {100 * self.share:5.1f} % | {figures}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
