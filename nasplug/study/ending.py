"""What is said of a study that ended early, or without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nasplug import results
from nasplug.config import StudyConfig
from nasplug.study.plateau import Judge

__all__ = ["early", "nothing_finished"]


def early(
    study: StudyConfig, judge: Judge | None, networks: int, untrained: int, late: Sequence[str], *, guided: bool
) -> results.Ending:
    """A sweep that the ``judge`` has ended, or else the budget.

    Args:
        study: its config.
        judge: of its plateau, if it has one.
        networks, untrained: all of them, and those without a result.
        late: packs that had finished and are not counted.
        guided: whether generations were judged.
    """
    kept = f" ({', '.join(late)} had finished, and {'are' if len(late) > 1 else 'is'} kept aside)" if late else ""
    if judge is None or judge.at is None:
        by, why, how = "budget", f"The budget of {study.budget_words} is spent", "a larger budget (budget=...)"
    else:
        kind, last = "generation" if guided else "pack", judge.rule.patience
        span = f"{last} {kind}s" if last > 1 else kind
        moved = f"over the last {span} its volume rose by {judge.rose:.2g}, less than {judge.rule.tolerance:g}"
        by, why, how = "plateau", f"The front no longer moved ({moved})", "plateau=null"
    left = f"{untrained:,} of {networks:,} networks were not trained{kept}"
    return results.Ending(by, networks, untrained, f"{why}, and {left}: the same command with {how} goes on where it stopped")


def nothing_finished(failed: Mapping[str, str], folder: Path, ending: results.Ending | None) -> str:
    """Why no network can be chosen, and what to do; ``failed``: the packs that failed, and why."""
    if failed:
        pack, error = min(failed.items())
        where = f" (Ray's whole story: {folder}/ray/tune/*/error.txt)" if (folder / "ray").exists() else ""
        return f"no network finished: {len(failed)} packs failed, {pack} with: {error}{where}; repair that and run again"
    if ending is not None:
        return f"no network finished. {ending.words}"
    frame = results.read(folder)
    if (frame["status"] == "finished").any():
        return "no configuration has a network that finished in each fold, and one that was refitted; take more seeds"
    reason = results.cause(frame) or "try a smaller learning rate or clip gradients"
    return f"no network finished with finite scores: all diverged; {reason}"
