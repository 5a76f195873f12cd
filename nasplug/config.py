"""The study as a person writes it: one YAML file, checked as a whole before anything runs.

Unknown keys are refused with a suggestion, and a plugin's options are checked against the plugin's own signature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nasplug.errors import ConfigError, did_you_mean
from nasplug.plugins import KINDS, Plugins, options_model, readable

__all__ = [
    "MLflow",
    "Penalty",
    "Resources",
    "Sampler",
    "StudyConfig",
    "Sweep",
    "Train",
    "Use",
    "as_sweep",
    "json_schema",
    "override",
    "parse",
    "read_yaml",
]

Strict = ConfigDict(extra="forbid", allow_inf_nan=False)


class Sweep(BaseModel):
    """A number that varies: exactly one of the four kinds, which are Ray Tune's own.

    ``choice`` and ``grid`` list values (any kind of value); ``uniform`` and ``log`` give ``[low, high]``, and ``points``
    says how many a grid takes from it. ``grid`` is always crossed in full; ``choice`` is drawn by the samplers that draw.
    """

    model_config = Strict

    choice: list[Any] | None = Field(None, min_length=1)
    grid: list[Any] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    points: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Sweep:
        kinds = [kind for kind in SWEEPS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"exactly one of {', '.join(SWEEPS)} is needed; came: {', '.join(kinds) or 'none'}")
        bounds = self.uniform or self.log
        if bounds is None and self.points is not None:
            raise ValueError("'points' goes with 'uniform' or 'log'; a list of values has its own length")
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds {list(bounds)}: the first must be below the second")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"log bounds {list(self.log)}: both must be > 0")
        return self

    @property
    def values(self) -> list[Any]:
        """What a grid enumerates.

        Raises:
            ConfigError: for ``uniform`` and ``log`` without ``points``.
        """
        if self.choice is not None:
            return self.choice
        if self.grid is not None:
            return self.grid
        low, high = self.uniform or self.log or (0.0, 0.0)
        if self.points is None:
            raise ConfigError("a grid over 'uniform' or 'log' needs 'points: N'; or take sampler random, tpe or nsga2")
        if self.points == 1:
            return [low]
        shares = [i / (self.points - 1) for i in range(self.points)]
        if self.log is not None:
            return [math.exp(math.log(low) + s * (math.log(high) - math.log(low))) for s in shares]
        return [low + s * (high - low) for s in shares]


SWEEPS = ("choice", "grid", "uniform", "log")
Number = Annotated[float, Field(allow_inf_nan=False)] | Sweep
Whole = Annotated[int, Field(ge=1)] | Sweep


def as_sweep(value: Any) -> Sweep | None:
    """``value`` as a `Sweep` if it is one (already, or as a mapping with one of its keys)."""
    if isinstance(value, Sweep):
        return value
    if isinstance(value, Mapping) and value and any(key in SWEEPS for key in value):
        return Sweep.model_validate(dict(value))
    return None


class Use(BaseModel):
    """A component by name; every other key is an option of that component."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    use: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but ``use``, as written."""
        return dict(self.model_extra or {})


class Penalty(Use):
    """A regularizer with its level (lambda) and, if wanted, a ramp that multiplies the level over the steps."""

    level: Number
    ramp: Use | None = None


class Train(BaseModel):
    """How every network is trained."""

    model_config = Strict

    steps: Whole = 1000
    batch: Annotated[int, Field(ge=1)] | Literal["full"] | Sweep = "full"
    lr: Number = 0.01
    decay: Use | None = None
    optimizer: Use = Use(use="adam")
    finetune: Annotated[int, Field(ge=0)] | Sweep = 0
    clip: Number | None = None
    dtype: Literal["float32", "float64"] = "float32"
    data_seed: int = 0
    compile: bool | Literal["auto"] = "auto"
    reports: int = Field(20, ge=1)


class Sampler(BaseModel):
    """Which configurations are tried. ``grid`` crosses everything; the others draw ``trials`` configurations."""

    model_config = Strict

    use: Literal["grid", "random", "tpe", "nsga2"] = "grid"
    trials: int = Field(64, ge=1)
    generation: int = Field(32, ge=1)
    seed: int = 0


class Resources(BaseModel):
    """What a pack (one Ray Tune trial) takes, and how many networks it holds."""

    model_config = Strict

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    pack: int | Literal["auto"] = "auto"
    device: str = "auto"
    retries: int = Field(2, ge=0)

    @model_validator(mode="after")
    def _pack_size(self) -> Resources:
        if isinstance(self.pack, int) and self.pack < 1:
            raise ValueError(f"pack: {self.pack}; a pack holds at least one network, or write 'auto'")
        return self


class MLflow(BaseModel):
    """Where the study is tracked, and under which name its chosen network is registered (null: not)."""

    model_config = Strict

    uri: str | None = None
    experiment: str | None = None
    register_: str | None = Field(None, alias="register")
    children: int = Field(12, ge=0)


class StudyConfig(BaseModel):
    """A whole study."""

    model_config = Strict

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)
    store: str = "runs"
    task: Use
    method: Use
    penalties: list[Penalty] = []
    temperature: Use | None = None
    discretizers: list[Use] = []
    train: Train = Train()
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[int], Field(min_length=1)] = 1
    sampler: Sampler = Sampler()
    resources: Resources = Resources()
    mlflow: MLflow | None = MLflow()

    @property
    def folder(self) -> Path:
        """``<store>/<study>``: everything the study writes."""
        return Path(self.store) / self.study

    @property
    def seed_list(self) -> list[int]:
        """The seeds themselves: ``seeds: 8`` means 0..7."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

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
        raise ConfigError(f"a study is a mapping of keys ({', '.join(StudyConfig.model_fields)}); came: {raw!r}")
    try:
        return StudyConfig.model_validate(dict(raw))
    except ValidationError as error:
        raise _explain(error) from None


def _accepted(path: Sequence[Any]) -> Mapping[str, object]:
    """The keys that are accepted where ``path`` points, walking the models."""
    model: Any = StudyConfig
    homes: dict[str, type[BaseModel]] = {
        "train": Train,
        "sampler": Sampler,
        "resources": Resources,
        "mlflow": MLflow,
        "penalties": Penalty,
    }
    if len(path) > 1:
        model = homes.get(str(path[0]), Sweep)
        if len(path) > (3 if isinstance(path[1], int) else 2):
            model = Sweep
    return {(field.alias or name): field for name, field in model.model_fields.items()}


def _explain(error: ValidationError) -> ConfigError:
    """All problems, each once: a value that fits none of several types is one problem to a person."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    variants = {"float", "int", "bool", "str", "Sweep", "constrained-int", "list", "function-after"}
    for problem in error.errors():
        path = tuple(p for p in problem["loc"] if isinstance(p, int) or not (p in variants or "[" in str(p) or "(" in str(p)))
        groups.setdefault(path, []).append(problem)
    lines = []
    for path, problems in groups.items():
        where = ".".join(str(p) for p in path)
        kinds = {p["type"] for p in problems}
        first = problems[0]
        if kinds == {"extra_forbidden"}:
            known = _accepted(path)
            lines.append(f"{where}: unknown key; accepted here: {', '.join(known)}.{did_you_mean(str(path[-1]), known)}")
        elif kinds == {"missing"}:
            lines.append(f"{where}: is required and missing")
        else:
            said = dict.fromkeys(p["msg"].removeprefix("Value error, ") for p in problems if p["type"] != "model_type")
            lines.append(f"{where}: {'; or '.join(said) or first['msg']} (came: {first['input']!r})")
    return ConfigError("\n".join(lines))


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from a file, apply ``a.b.0.c=value`` overrides, and check it.

    Raises:
        ConfigError: when the file cannot be read, is not YAML, or does not describe a study.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a study's YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a study is a mapping of keys ({', '.join(StudyConfig.model_fields)})")
    for text in overrides:
        override(raw, text)
    return parse(raw)


def override(raw: dict[str, Any], text: str) -> None:
    """Set one value in place: ``train.steps=500``, ``penalties.0.level=0.01``, ``method.hidden=[8]`` (values are YAML).

    Raises:
        ConfigError: when the text is not ``path=value`` or the path does not exist that far.
    """
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ConfigError(f"override {text!r}: write path=value, for example train.steps=500")
    here: Any = raw
    keys = path.split(".")
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise ConfigError(f"override {text!r}: {key!r} is not a position in a list of {len(here)} (0-based)")
            index: Any = int(key)
        elif isinstance(here, dict):
            index = key
            if not last:
                here.setdefault(key, {})
                if here[key] is None:
                    here[key] = {}
        else:
            raise ConfigError(f"override {text!r}: {'.'.join(keys[:depth])} holds {here!r}, which has no {key!r}")
        if last:
            try:
                here[index] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise ConfigError(f"override {text!r}: the value is not valid YAML: {error}") from None
        else:
            here = here[index]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf of plain data with its path; a sweep is a leaf."""
    if as_sweep_quietly(value) is not None or not isinstance(value, dict | list):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    else:
        for position, inner in enumerate(value):
            yield from leaves(inner, (*path, str(position)))


def as_sweep_quietly(value: Any) -> Sweep | None:
    """`as_sweep`, with its refusal in our words."""
    try:
        return as_sweep(value)
    except ValidationError as error:
        raise readable(error, str(dict(value)), Sweep.model_fields) from None


def json_schema(plugins: Plugins) -> dict[str, Any]:
    """JSON Schema of a study for editors: with the names and options of every installed plugin."""
    schema = StudyConfig.model_json_schema(by_alias=True)
    sweep = {"$ref": "#/$defs/Sweep"}
    places = {"task": "task", "method": "method", "temperature": "schedule"}

    def options(kind: str) -> list[dict[str, Any]]:
        found = []
        for name, offer in plugins.offers(kind).items():
            model = options_model(name, offer.factory)
            body = TypeAdapter(model).json_schema()
            schema["$defs"].update(body.pop("$defs", {}))
            properties = {key: {"anyOf": [value, sweep]} for key, value in body.get("properties", {}).items()}
            found.append(
                {
                    "type": "object",
                    "title": f"{kind} {name}",
                    "description": offer.summary,
                    "properties": {"use": {"const": name}, **properties},
                    "required": ["use", *body.get("required", [])],
                    "additionalProperties": False,
                }
            )
        return found

    for kind in KINDS:
        schema["$defs"][f"any_{kind}"] = {"oneOf": options(kind)}
    for key, kind in places.items():
        target: dict[str, Any] = {"$ref": f"#/$defs/any_{kind}"}
        schema["properties"][key] = {"anyOf": [target, {"type": "null"}]} if key == "temperature" else target
    schema["properties"]["discretizers"]["items"] = {"$ref": "#/$defs/any_discretizer"}
    penalties = []
    for option in options("regularizer"):
        extra = {"level": schema["$defs"]["Penalty"]["properties"]["level"], "ramp": {"$ref": "#/$defs/any_schedule"}}
        penalties.append(option | {"properties": option["properties"] | extra, "required": [*option["required"], "level"]})
    schema["properties"]["penalties"]["items"] = {"oneOf": penalties}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
