"""The samplers that come with nasplug: Optuna's, by name.

A sampler is registered as a factory of a `Drawing` (`nasplug.hookspecs.register_samplers`); a stranger's may be of any class of
`optuna.samplers.BaseSampler`. Heavy imports wait until the first configuration is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasplug.errors import ConfigError
from nasplug.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

__all__ = ["Drawing", "register_samplers", "unwarned"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How configurations are drawn.

    Attributes:
        sampler: from ``sampler.seed`` and ``sampler.generation`` (how many configurations are asked for before the outcome of
            any of them is told) a sampler of Optuna.
        guided: whether outcomes decide what is drawn next. What is not guided is asked for all trials at once.
        most: how many objectives it can have; None: any number.
    """

    sampler: Callable[[int, int], BaseSampler]
    guided: bool = True
    most: int | None = None


def random() -> Drawing:
    """Independent draws."""

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)

    return Drawing(make, guided=False)


def qmc(*, scramble: bool = True) -> Drawing:
    """A Sobol' sequence, which fills the space more evenly than independent draws; choices are drawn independently.

    ``scramble``: Owen's scrambling, by the seed.
    """

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import QMCSampler

        with unwarned():
            return QMCSampler(scramble=scramble, seed=seed, warn_independent_sampling=False, warn_asynchronous_seeding=False)

    return Drawing(make, guided=False)


def tpe(*, startup: int = 10) -> Drawing:
    """Tree-structured Parzen estimators; the first ``startup`` draws are random.

    Source: Bergstra et al. 2011; Watanabe 2023, arXiv:2304.11127. Multivariate, and aware of what is pending.
    """
    _at_least("startup", startup, 0)

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, n_startup_trials=startup)

    return Drawing(make)


def gp(*, startup: int = 10) -> Drawing:
    """A Gaussian process with expected (hypervolume) improvement; the first ``startup`` draws are random.

    For some hundred configurations: a draw takes about a tenth of a second, and more with each that was told.
    """
    _at_least("startup", startup, 0)

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed, n_startup_trials=startup)

    return Drawing(make)


def nsga2(*, crossover: float = 0.9) -> Drawing:
    """NSGA-II (Deb et al. 2002): populations of ``sampler.generation`` configurations; ``crossover`` is a probability."""
    _probability("crossover", crossover)

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed, population_size=_population("nsga2", generation), crossover_prob=crossover)

    return Drawing(make)


def nsga3(*, crossover: float = 0.9) -> Drawing:
    """NSGA-III (Deb and Jain 2014), for three objectives and more: as `nsga2`."""
    _probability("crossover", crossover)

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import NSGAIIISampler

        with unwarned():
            return NSGAIIISampler(seed=seed, population_size=_population("nsga3", generation), crossover_prob=crossover)

    return Drawing(make)


def cmaes() -> Drawing:
    """CMA-ES (Hansen 2016), for one objective, numbers alone; choices are drawn independently. Needs ``pip install cmaes``."""

    def make(seed: int, generation: int) -> BaseSampler:
        from optuna.samplers import CmaEsSampler

        try:
            import cmaes  # noqa: F401 - Optuna asks for it late
        except ImportError:
            raise ConfigError("sampler: 'cmaes' needs the package of that name: pip install cmaes") from None
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)

    return Drawing(make, most=1)


@contextmanager
def unwarned() -> Iterator[None]:
    """Optuna warns of each use of what it calls experimental, for years."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name}: {value}; needed: a whole number >= {least}")


def _probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}: {value}; needed: a number from 0 to 1")


def _population(name: str, generation: int) -> int:
    if generation < 2:
        raise ConfigError(f"generation: {generation}; sampler {name!r} combines configurations; needed: 2 or more")
    return generation


@hookimpl
def register_samplers(register: Register) -> None:
    """The samplers of Optuna; ``grid`` is no sampler of Optuna's, and is always there."""
    for name, factory in (
        ("random", random),
        ("qmc", qmc),
        ("tpe", tpe),
        ("gp", gp),
        ("nsga2", nsga2),
        ("nsga3", nsga3),
        ("cmaes", cmaes),
    ):
        register(name, factory)
