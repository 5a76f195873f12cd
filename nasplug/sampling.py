"""Which configurations are tried: a grid at once, or Optuna asked for one generation at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasplug.config import Sampler
from nasplug.plan import Axis, combinations, grid

if TYPE_CHECKING:
    import optuna

__all__ = ["Generations"]

Outcome = Mapping[int, tuple[float, float]]
"""Configuration -> its two objectives, validation loss and edges, averaged over seeds; absent where nothing finished."""


class Generations:
    """The configurations of a study, one generation at a time; feed each generation's outcome back before the next.

    ``grid`` has one generation. ``random``, ``tpe`` and ``nsga2`` draw ``trials`` configurations with Optuna (two
    objectives: validation loss and edges, both small); axes written as ``grid`` are crossed with every draw, as in Ray Tune.
    With the same seed and the same outcomes the same configurations are proposed, which is how a study resumes.
    """

    def __init__(self, sampler: Sampler, found: Sequence[Axis]) -> None:
        self.sampler = sampler
        self.crossed = [a for a in found if sampler.use == "grid" or a.sweep.grid is not None]
        self.drawn = [a for a in found if a not in self.crossed]
        self._study: optuna.Study | None = None
        self._open: list[optuna.Trial] = []

    @property
    def sizes(self) -> list[int]:
        """How many configurations each generation has."""
        each = combinations(self.crossed)
        if not self.drawn:
            return [each]
        step = self.sampler.trials if self.sampler.use == "random" else self.sampler.generation
        whole, rest = divmod(self.sampler.trials, step)
        return [step * each] * whole + ([rest * each] if rest else [])

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        crossed = grid(self.crossed)
        if not self.drawn:
            yield crossed
            return
        for size in self.sizes:
            self._open = [self._ask() for _ in range(size // len(crossed))]
            yield [trial.user_attrs | row for trial in self._open for row in crossed]

    def tell(self, outcome: Outcome, first: int) -> None:
        """The outcome of the last generation, whose first configuration has the number ``first``."""
        if not self.drawn or self._study is None:
            return
        import optuna

        each = combinations(self.crossed)
        for position, trial in enumerate(self._open):
            numbers = range(first + position * each, first + (position + 1) * each)
            values = [outcome[n] for n in numbers if n in outcome]
            if not values:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, [sum(v[i] for v in values) / len(values) for i in (0, 1)])

    def _ask(self) -> optuna.Trial:
        import optuna

        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            seed = self.sampler.seed
            sampler: optuna.samplers.BaseSampler
            if self.sampler.use == "random":
                sampler = optuna.samplers.RandomSampler(seed=seed)
            elif self.sampler.use == "tpe":
                sampler = optuna.samplers.TPESampler(seed=seed)
            else:
                sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=self.sampler.generation)
            self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        trial = self._study.ask()
        for axis in self.drawn:
            sweep = axis.sweep
            if sweep.choice is not None:
                index = trial.suggest_categorical(axis.path, list(range(len(sweep.choice))))
                trial.set_user_attr(axis.path, sweep.choice[index])
            else:
                low, high = sweep.uniform or sweep.log or (0.0, 0.0)
                trial.set_user_attr(axis.path, trial.suggest_float(axis.path, low, high, log=sweep.log is not None))
        return trial
