"""The study as a person writes it: one YAML file, checked as a whole before anything runs.

Unknown keys are refused with a suggestion, and a plugin's options are checked against the plugin's own signature.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nasplug.config.checking import SWEEPS, check, large, plain, shown
from nasplug.config.durations import DURATION_WORDS, seconds_of
from nasplug.config.levels import LevelPath
from nasplug.config.limits import (
    MOST_GENERATION,
    MOST_NETWORKS,
    MOST_OBJECTIVES,
    MOST_PARTS,
    MOST_REPORTS,
    MOST_STEPS,
    MOST_SUBSAMPLES,
    MOST_TRIALS,
)
from nasplug.config.population import Population
from nasplug.config.stopping import Plateau, Stop
from nasplug.config.sweeps import Strict, Sweep
from nasplug.config.where import MLflow, Resources
from nasplug.errors import ConfigError
from nasplug.places import STUDY, home_of, place_of

__all__ = [
    "Architecture",
    "Choose",
    "Penalty",
    "Plateau",
    "Sampler",
    "Stability",
    "Stop",
    "StudyConfig",
    "Train",
    "Use",
    "parse",
]


Level = Annotated[float, Field(ge=0)] | Sweep
Rate = Annotated[float, Field(gt=0)] | Sweep
Whole = Annotated[int, Field(ge=1, le=MOST_STEPS)] | Sweep
Steps = Annotated[int, Field(ge=0, le=MOST_STEPS)] | Sweep
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Use(BaseModel):
    """A component by name; every other key is an option of that component."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    words: ClassVar[str] = "{use: NAME, OPTION: VALUE, ...}"

    use: str = Field(description="the name of a component (`nasplug plugins` lists them)")

    @model_validator(mode="before")
    @classmethod
    def _one_component(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "use" not in given and any(key in SWEEPS for key in given):
            raise ValueError(
                f"{shown(dict(given))} is a sweep over components; needed: {cls.words}. "
                "Sweep the options of one component, and make a study for each of the others"
            )
        return given

    @property
    def options(self) -> dict[str, Any]:
        """Everything but ``use``, as written."""
        return dict(self.model_extra or {})


class Penalty(Use):
    """A regularizer with its level (lambda) and, if wanted, a ramp that multiplies the level over the steps."""

    words: ClassVar[str] = "{use: NAME, level: NUMBER, OPTION: VALUE, ...}"

    level: Level
    ramp: Use | None = None


class Architecture(BaseModel):
    """Who moves the architecture, where that is not ``train.optimizer``.

    ``share`` of the training samples are held for its gradient (bilevel search; 0: one gradient for all, single-level);
    ``order: 2`` looks one weight step ahead (DARTS). The validation split stays for choosing.
    """

    model_config = Strict
    words: ClassVar[str] = "{optimizer: {use: NAME}, lr: NUMBER, share: 0 <= NUMBER < 1, order: 1 or 2}"

    optimizer: Use = Use(use="adam")
    lr: Rate
    share: float = Field(0.0, ge=0, lt=1)
    order: Literal[1, 2] = 1

    @model_validator(mode="after")
    def _read(self) -> Architecture:
        if self.order == 2 and self.share == 0:
            raise ValueError("order: 2 without held samples; it looks ahead from other samples: add share: 0.5, say")
        return self


class Train(BaseModel):
    """How every network is trained."""

    model_config = Strict

    steps: Whole = 1000
    batch: Annotated[int, Field(ge=1)] | Literal["full"] | Sweep = "full"
    lr: Rate = 0.01
    decay: Use | None = None
    optimizer: Use = Use(use="adam")
    finetune: Steps = 0
    retrain: Steps = 0
    clip: Rate | None = None
    architecture: Architecture | None = None
    path: LevelPath | None = None
    population: Population | None = None
    keep: Literal["last", "best"] = "last"
    dtype: Literal["float32", "float64"] = "float32"
    allow_tf32: bool = False
    data_seed: Seed = 0
    compile: bool | Literal["auto"] = "auto"
    reports: int = Field(20, ge=1, le=MOST_REPORTS)

    @model_validator(mode="after")
    def _digits(self) -> Train:
        if self.allow_tf32 and self.dtype == "float64":
            raise ValueError("allow_tf32: true with dtype: float64; TF32 is a way of float32 alone: remove one of the two")
        return self


class Sampler(Use):
    """Which configurations are tried. ``grid`` crosses everything; the others draw ``trials`` configurations.

    ``objectives``: columns of the table of replicas, and which way is better. ``constraints``: the largest values allowed in
    columns; configurations beyond them are worse than any that keep to them.
    """

    words: ClassVar[str] = "{use: NAME, trials: NUMBER, OPTION: VALUE, ...}"
    measured: ClassVar[tuple[str, ...]] = ("flash_bytes",)
    """What a sampler may go by that is no column: it is measured of finished networks, where it is wanted."""

    use: str = Field("grid", description="grid, or the name of a sampler (`nasplug plugins` lists them)")
    trials: int = Field(64, ge=1, le=MOST_TRIALS)
    generation: int = Field(32, ge=1, le=MOST_GENERATION)
    seed: Seed = 0
    objectives: dict[str, Literal["minimize", "maximize"]] = Field(
        {"valid_loss": "minimize", "edges": "minimize"},
        min_length=1,
        max_length=MOST_OBJECTIVES,
        description="a mapping of columns to minimize or maximize ({valid_error: minimize, parameters: minimize})",
    )
    constraints: dict[str, float] = Field(
        {}, max_length=MOST_OBJECTIVES, description="a mapping of columns to their largest values ({edges: 50})"
    )

    @model_validator(mode="after")
    def _read(self) -> Sampler:
        for key in ("trials", "generation", "seed", "objectives", "constraints") if self.use == "grid" else ():
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"{key}: {value} is not read by sampler {self.use!r}; remove it, or take another sampler")
        if self.use == "grid" and self.options:
            raise ValueError(f"{next(iter(self.options))} is not read by sampler 'grid'; remove it, or take another sampler")
        for key in (*self.objectives, *self.constraints):
            if key.startswith("test_"):
                raise ValueError(f"{key}: a search by test scores selects on them; needed: another column (valid_...)")
        return self


class Choose(BaseModel):
    """Which network of the front is served: the smallest that is as good as the best, by a score on the validation samples.

    ``by``: ``error``, ``loss``, or one of the study's metrics; the front is one of this score and size.

    ``one_standard_error``: its error is at most one standard error above the best (of folds, if there are some).
    ``within``: at most so much above: a share of wrong labels, or of the target's variance. ``best``: the best itself.
    """

    model_config = Strict
    words: ClassVar[str] = "{rule: one_standard_error}, {rule: best} or {rule: within, within: NUMBER}"

    by: str = Field("error", min_length=1, description="error, loss, r2 or accuracy, or the name of one of the study's metrics")
    rule: Literal["one_standard_error", "best", "within"] = "one_standard_error"
    within: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _read(self) -> Choose:
        if self.rule == "within" and self.within is None:
            raise ValueError("rule 'within' without its number; needed: within: 0.02, say")
        if self.rule != "within" and self.within is not None:
            raise ValueError(f"within: {self.within} is not read by rule {self.rule!r}; remove it, or write rule: within")
        return self


class Stability(BaseModel):
    """How often inputs, pairs of inputs, activations and depths are kept, over half samples (`nasplug.stability`).

    ``subsamples``: how many half samples, in complementary pairs. ``threshold``: an input that is kept in this share of them is
    called stable. ``levels``: how many configurations of the front are counted, and how many of the chosen one's levels.
    """

    model_config = Strict
    words: ClassVar[str] = "{subsamples: NUMBER, threshold: NUMBER, levels: NUMBER}"

    subsamples: int = Field(
        100, ge=2, le=MOST_SUBSAMPLES, multiple_of=2, description=f"an even number >= 2 and <= {MOST_SUBSAMPLES}"
    )
    threshold: float = Field(0.8, gt=0.5, le=1)
    levels: int = Field(8, ge=1, le=MOST_PARTS)


class StudyConfig(BaseModel):
    """A whole study."""

    model_config = Strict

    study: str = Field(
        pattern=STUDY,
        max_length=120,
        description="a name of letters, digits, '.', '_' and '-' that begins with a letter or digit (at most 120; quoted, if "
        "it looks like a number)",
    )
    store: str = Field("runs", min_length=1, description="the path of a folder, or the address of a bucket (s3://bucket/path)")
    task: Use
    method: Use
    penalties: list[Penalty] = Field([], max_length=MOST_PARTS)
    temperature: Use | None = None
    fixed: str | Sweep | None = Field(
        None,
        description="an architecture that is trained instead of searched for (tanh/2*relu+elu, linear/none,rank_2, or "
        "sizes of kernels, 3x3/5x5), a sweep over several, or null",
    )
    monotone: dict[str, Literal[-1, 1]] = {}
    loss: Use | None = None
    metrics: list[Use] = Field([], max_length=MOST_PARTS)
    discretizers: list[Use] = Field([], max_length=MOST_PARTS)
    train: Train = Train()
    seeds: Annotated[int, Field(ge=1, le=MOST_NETWORKS)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        1,
        description=f"how many (a whole number >= 1 and <= {MOST_NETWORKS}, for the seeds 0, 1, ...), or a list of them "
        "([0, 7, 42])",
    )
    sampler: Sampler = Sampler()
    stop: Stop | None = Field(None, description="a mapping of use (halving), rungs, keep (> 0 and < 1) and by, or null")
    budget: float | str | None = Field(None, description=f"{DURATION_WORDS}, or null")
    plateau: Plateau | None = Field(
        None, description="a mapping of tolerance (> 0 and < 1) and patience (a whole number >= 1), or null"
    )
    choose: Choose = Choose()
    linear: bool | Literal["auto"] = Field(
        "auto", description="true, false or auto (networks without hidden layers too, where the data are a table)"
    )
    reach: Annotated[int, Field(ge=1)] | None = Field(
        10, description="a number of parameters that networks shall come down to (a whole number >= 1), or null"
    )
    ensemble: Annotated[int, Field(ge=2, le=MOST_PARTS)] | None = Field(
        None, description=f"how many networks are served as their mean, too (a whole number >= 2 and <= {MOST_PARTS}), or null"
    )
    stability: bool | Stability = Field(
        False, description="true, false, or a mapping of subsamples (an even number), threshold (> 0.5 and <= 1) and levels"
    )
    resources: Resources = Resources()
    mlflow: MLflow | None = MLflow()

    @field_validator("store")
    @classmethod
    def _place(cls, store: str) -> str:
        return place_of(store)

    @field_validator("budget")
    @classmethod
    def _a_time(cls, budget: float | str | None) -> float | str | None:
        if budget is not None:
            seconds_of(budget)
        return budget

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
            twice = sorted(seed for seed, times in Counter(seeds).items() if times > 1)
            raise ValueError(f"{', '.join(map(str, twice))} more than once; equal seeds make equal networks: list each once")
        return seeds

    @property
    def home(self) -> Path:
        """The folder of the store on this machine (`nasplug.config.home_of`)."""
        return home_of(self.store)

    @property
    def folder(self) -> Path:
        """``<store>/<study>``: everything the study writes on this machine."""
        return self.home / self.study

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves: ``seeds: 8`` means 0..7."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def budget_seconds(self) -> float:
        """How long packs may be run, over all runs of the study; infinite where nothing is said."""
        return math.inf if self.budget is None else seconds_of(self.budget)

    @property
    def budget_words(self) -> str:
        """The budget as it was written; a number with its unit."""
        return self.budget if isinstance(self.budget, str) else f"{self.budget_seconds:g}s"

    @property
    def counted(self) -> Stability | None:
        """How selection is counted; None where it is not."""
        return (Stability() if self.stability else None) if isinstance(self.stability, bool) else self.stability

    def plain(self) -> dict[str, Any]:
        """The study as plain data (what YAML and JSON hold), nothing that is only a default of the sweep syntax in it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=False, exclude_unset=False, context=None) | {
            "penalties": [_pruned(p.model_dump(mode="json")) for p in self.penalties],
            "train": _pruned(self.train.model_dump(mode="json")),
        }


def _pruned(value: Any) -> Any:
    """Sweeps dump with all their empty alternatives; leave those out."""
    if isinstance(value, dict):
        if set(value) == {*SWEEPS, "points"}:
            return {k: v for k, v in value.items() if v is not None}
        return {k: _pruned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_pruned(v) for v in value]
    return value


def parse(raw: Mapping[str, Any]) -> StudyConfig:
    """A study from plain data.

    Raises:
        ConfigError: naming each wrong key or value, what is accepted and, where it can be guessed, what was meant.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{shown(raw)}; needed: a study, a mapping of keys ({', '.join(StudyConfig.model_fields)})")
    if much := large(raw):
        raise ConfigError(f"the study has {much}; write ranges instead of lists, and keep data in a file of their own")
    return check(StudyConfig, plain(raw))
