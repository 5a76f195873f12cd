"""The journal of a sampled study: its trials in a file that Optuna's own tools open.

    optuna-dashboard runs/houses/optuna.journal

Nothing that nasplug does reads it: the configurations of a study are in its plans, their outcomes in its table. It is written
anew by each run, from the first generation on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasplug.sampling.samplers import unwarned

if TYPE_CHECKING:
    import optuna

__all__ = ["JOURNAL", "Journal"]

JOURNAL = "optuna.journal"


class Journal:
    """Trials, written as they are told.

    Attributes:
        path: of the file, which is made anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._study: optuna.Study | None = None
        path.unlink(missing_ok=True)

    def add(self, study: optuna.Study, trials: Sequence[optuna.trial.FrozenTrial], names: Sequence[str]) -> None:
        """Trials of ``study`` that were told, whose objectives have these ``names``."""
        import optuna
        from optuna.storages import JournalStorage

        if self._study is None:
            self._study = optuna.create_study(
                study_name=self.path.parent.name, directions=study.directions, storage=JournalStorage(_lines(self.path))
            )
            with unwarned():
                self._study.set_metric_names(list(names))
        self._study.add_trials(trials)


def _lines(path: Path) -> Any:
    """Optuna's journal without its calls of fsync, one per number: results do not depend on the file."""
    from optuna.storages.journal import JournalFileBackend

    class Lines(JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with path.open("ab") as file:
                file.write(b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs))

    return Lines(str(path))
