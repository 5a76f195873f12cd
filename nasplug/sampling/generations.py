"""Which configurations are tried: a grid at once, or Optuna asked for one generation at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nasplug.config import Sampler, StudyConfig
from nasplug.errors import ConfigError, NasplugError, PluginError, cause, did_you_mean
from nasplug.plan import Axis, axes, combinations, grid
from nasplug.plugins import Plugins
from nasplug.sampling.journal import Journal
from nasplug.sampling.samplers import Drawing

if TYPE_CHECKING:
    import optuna

__all__ = ["Generations", "Outcome", "drawing_of", "generations_of"]

Outcome = Mapping[int, Mapping[str, float]]
"""Configuration -> its objectives and constraints by column, averaged over seeds; absent where nothing finished."""


def drawing_of(sampler: Sampler, plugins: Plugins) -> Drawing | None:
    """How configurations are drawn; None for a grid.

    Raises:
        ConfigError: for a sampler that is not there, options that it does not have, or more objectives than it can have.
        PluginError: for a factory that gives something else.
    """
    if sampler.use == "grid":
        return None
    known = ("grid", *plugins.offers("sampler"))
    if sampler.use not in known and not any(clash.name == sampler.use for clash in plugins.clashes):
        told = f"sampler.use: {sampler.use!r}; needed: one of {', '.join(known)}.{did_you_mean(sampler.use, known)}"
        raise ConfigError(told + plugins.perhaps)
    made = plugins.build("sampler", sampler.use, sampler.options, "sampler")
    if not isinstance(made, Drawing):
        whose = plugins.offer("sampler", sampler.use)
        raise PluginError(f"{whose}: its factory returned {type(made).__name__}; needed: a Drawing. Tell its author")
    if made.most is not None and len(sampler.objectives) > made.most:
        raise ConfigError(
            f"sampler: {sampler.use!r} has {made.most} objective(s) at most, and there are {len(sampler.objectives)}: "
            f"{', '.join(sampler.objectives)}; write objectives: {{valid_loss: minimize}}, say, or take another sampler"
        )
    default = Sampler.model_fields["generation"].default
    if not made.guided and sampler.generation != default:
        raise ConfigError(
            f"sampler: generation: {sampler.generation} is not read by sampler {sampler.use!r}; remove it, or take another one"
        )
    try:
        drawn = made.sampler(sampler.seed, sampler.generation)
    except NasplugError:
        raise
    except Exception as error:
        raise PluginError(f"{plugins.offer('sampler', sampler.use)} broke with {cause(error)}. Tell its author") from error
    if not all(callable(getattr(drawn, name, None)) for name in ("sample_relative", "sample_independent")):
        whose = plugins.offer("sampler", sampler.use)
        raise PluginError(f"{whose} made {type(drawn).__name__}; needed: a sampler of Optuna (BaseSampler). Tell its author")
    return made


def generations_of(study: StudyConfig, plugins: Plugins) -> Generations:
    """A study's configurations, from the beginning.

    Raises:
        ConfigError, PluginError: as `drawing_of`.
    """
    share = study.stop.share if study.stop is not None and study.stop.refill else 1.0
    return Generations(study.sampler, axes(study), drawing_of(study.sampler, plugins), share)


class Generations:
    """The configurations of a study, one generation at a time; feed each generation's outcome back before the next.

    ``grid`` has one generation. The others draw ``trials`` configurations with Optuna, for the study's objectives and within
    its constraints; axes written as ``grid`` are crossed with every draw, as in Ray Tune. All of a generation are asked for
    before one is told: a sampler that minds what is pending (``tpe``, ``gp``) spreads them. With the same seed and the same
    outcomes the same configurations are proposed, which is how a study resumes.

    Args:
        sampler: the study's.
        found: what varies.
        drawing: how it is drawn; None for a grid.
        share: of its steps that a network takes on average, where halving stops some. So many more configurations are drawn:
            ``floor(trials / share)``, for the steps of ``trials`` that train to the end.

    Raises:
        PluginError: while it draws or is told, where the sampler breaks: what was trained is in the study's folder.
    """

    def __init__(self, sampler: Sampler, found: Sequence[Axis], drawing: Drawing | None = None, share: float = 1.0) -> None:
        self.sampler = sampler
        self.trials = math.floor(sampler.trials / share + 1e-9)
        self.drawing = drawing
        self.crossed = [a for a in found if sampler.use == "grid" or a.sweep.grid is not None]
        self.drawn = [a for a in found if a not in self.crossed]
        self._study: optuna.Study | None = None
        self._open: list[optuna.Trial] = []

    @property
    def guided(self) -> bool:
        """Whether outcomes decide what is drawn next."""
        return self.drawing is not None and self.drawing.guided

    @property
    def sizes(self) -> list[int]:
        """How many configurations each generation has."""
        each = combinations(self.crossed)
        if not self.drawn:
            return [each]
        step = self.sampler.generation if self.guided else self.trials
        whole, rest = divmod(self.trials, step)
        return [step * each] * whole + ([rest * each] if rest else [])

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        crossed = grid(self.crossed)
        if not self.drawn:
            yield crossed
            return
        for size in self.sizes:
            with self._named():
                self._open = [self._ask() for _ in range(size // len(crossed))]
            yield [trial.user_attrs | row for trial in self._open for row in crossed]

    def tell(self, outcome: Outcome, numbers: Sequence[int], journal: Journal | None = None) -> None:
        """The outcome of the last generation, whose configurations have these ``numbers``; a ``journal`` has it, too."""
        if not self.drawn or self._study is None:
            return
        import optuna

        each, told = combinations(self.crossed), []
        for position, trial in enumerate(self._open):
            mine = numbers[position * each : (position + 1) * each]
            found = [outcome[n] for n in mine if n in outcome]
            means = {name: sum(v[name] for v in found) / len(found) for name in found[0]} if found else {}
            with self._named():
                if not found or not all(map(math.isfinite, means.values())):
                    told.append(self._study.tell(trial, state=optuna.trial.TrialState.FAIL))
                    continue
                for name, most in self.sampler.constraints.items():
                    trial.set_constraint(name, means[name] - most)
                told.append(self._study.tell(trial, [means[name] for name in self.sampler.objectives]))
        if journal is not None:
            journal.add(self._study, told, list(self.sampler.objectives))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What breaks inside of a sampler is the sampler's."""
        try:
            yield
        except NasplugError:
            raise
        except Exception as error:
            raise PluginError(
                f"sampler {self.sampler.use!r} broke with {cause(error)}. What was trained stays in the study's folder; take "
                "another sampler, and tell its author"
            ) from error

    def _ask(self) -> optuna.Trial:
        import optuna

        if self._study is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            assert self.drawing is not None  # what is drawn is drawn by something
            sampler = self.drawing.sampler(self.sampler.seed, self.sampler.generation)
            self._study = optuna.create_study(directions=list(self.sampler.objectives.values()), sampler=sampler)
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
