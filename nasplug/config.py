"""The study as a person writes it: one YAML file, checked as a whole before anything runs.

Unknown keys are refused with a suggestion, and a plugin's options are checked against the plugin's own signature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from nasplug.checking import SWEEPS, check, finite, shown
from nasplug.errors import ConfigError
from nasplug.plugins import KINDS, Plugins, options_model

__all__ = [
    "SWEEPS",
    "Architecture",
    "MLflow",
    "Penalty",
    "Resources",
    "Sampler",
    "StudyConfig",
    "Sweep",
    "Train",
    "Use",
    "as_sweep",
    "from_yaml",
    "json_schema",
    "override",
    "parse",
    "read_yaml",
    "scrub",
    "to_yaml",
]

Strict = ConfigDict(extra="forbid", allow_inf_nan=False)


class Sweep(BaseModel):
    """A number that varies: exactly one of the four kinds, which are Ray Tune's own.

    ``choice`` and ``grid`` list values (any kind of value); ``uniform`` and ``log`` give ``[low, high]``, and ``points``
    says how many a grid takes from it. ``grid`` is always crossed in full; ``choice`` is drawn by the samplers that draw.
    """

    model_config = Strict
    words: ClassVar[str] = "a sweep: {choice: [...]}, {grid: [...]}, {uniform: [low, high], points: N} or {log: ..., points: N}"

    choice: list[Any] | None = Field(None, min_length=1)
    grid: list[Any] | None = Field(None, min_length=1)
    uniform: tuple[float, float] | None = None
    log: tuple[float, float] | None = None
    points: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Sweep:
        kinds = [kind for kind in SWEEPS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a sweep with {', '.join(kinds) or 'no kind'}; needed: exactly one of {', '.join(SWEEPS)}")
        bounds = self.uniform or self.log
        if bounds is None and self.points is not None:
            raise ValueError(f"points: {self.points} beside a list of values; points go with uniform or log: remove them")
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"bounds {list(bounds)}; needed: [low, high] with low < high")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"log bounds {list(self.log)}; needed: both > 0. Use uniform to reach 0")
        listed = [repr(value) for value in self.choice or self.grid or []]
        if twice := sorted({value for value in listed if listed.count(value) > 1} if len(set(listed)) < len(listed) else ()):
            raise ValueError(f"{', '.join(twice)} more than once; equal values make equal networks: list each value once")
        return self

    @property
    def ends(self) -> list[Any]:
        """All values of a list, the two ends of a range."""
        return self.choice or self.grid or list(self.uniform or self.log or ())

    @property
    def first(self) -> Any:
        """The first value, or the lower bound."""
        listed = self.choice or self.grid
        return listed[0] if listed else (self.uniform or self.log or (None,))[0]

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
            written = shown(self.model_dump(exclude_none=True))
            raise ConfigError(f"{written} in a grid; needed: points: N beside it, or sampler random, tpe or nsga2, which draw")
        if self.points == 1:
            return [low]
        shares = [i / (self.points - 1) for i in range(self.points)]
        if self.log is not None:  # the ends as written: exp(log(1e-4)) is not 1e-4
            return [low, *(low * (high / low) ** s for s in shares[1:-1]), high]
        return [low + s * (high - low) for s in shares]


Level = Annotated[float, Field(ge=0)] | Sweep
Rate = Annotated[float, Field(gt=0)] | Sweep
Whole = Annotated[int, Field(ge=1)] | Sweep
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def as_sweep(value: Any, where: str = "") -> Sweep | None:
    """``value`` as a `Sweep` if it is one (already, or as a mapping with one of its keys).

    Raises:
        ConfigError: for a mapping with one of its keys that is none, naming ``where``.
    """
    if isinstance(value, Sweep):
        return value
    if isinstance(value, Mapping) and any(key in SWEEPS for key in value):
        return check(Sweep, value, where)
    return None


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
    finetune: Annotated[int, Field(ge=0)] | Sweep = 0
    retrain: Annotated[int, Field(ge=0)] | Sweep = 0
    clip: Rate | None = None
    architecture: Architecture | None = None
    keep: Literal["last", "best"] = "last"
    dtype: Literal["float32", "float64"] = "float32"
    data_seed: Seed = 0
    compile: bool | Literal["auto"] = "auto"
    reports: int = Field(20, ge=1)


class Sampler(BaseModel):
    """Which configurations are tried. ``grid`` crosses everything; the others draw ``trials`` configurations."""

    model_config = Strict

    use: Literal["grid", "random", "tpe", "nsga2"] = "grid"
    trials: int = Field(64, ge=1)
    generation: int = Field(32, ge=1)
    seed: Seed = 0

    @model_validator(mode="after")
    def _read(self) -> Sampler:
        unread = {"grid": ("trials", "generation", "seed"), "random": ("generation",)}.get(self.use, ())
        for key in unread:
            value = getattr(self, key)
            if value != type(self).model_fields[key].default:
                raise ValueError(f"{key}: {value} is not read by sampler {self.use!r}; remove it, or take another sampler")
        if self.use == "nsga2" and self.generation < 2:
            raise ValueError(f"generation: {self.generation}; sampler 'nsga2' breeds, needed: 2 or more")
        return self


class Resources(BaseModel):
    """What a pack (one Ray Tune trial) takes, and how many networks it holds."""

    model_config = Strict

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    pack: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    retries: int = Field(2, ge=0)

    @field_validator("gpus")
    @classmethod
    def _whole_gpus(cls, gpus: float) -> float:
        if gpus > 1 and gpus % 1:
            raise ValueError(f"{gpus}; needed: a share of one GPU (0 to 1) or a whole number of them")
        return gpus


class MLflow(BaseModel):
    """Where the study is tracked, and under which name its chosen network is registered (null: not)."""

    model_config = Strict

    uri: str | None = Field(None, min_length=1)
    experiment: str | None = Field(None, min_length=1)
    register_: str | None = Field(
        None, alias="register", pattern=r"^[^/:]+$", description="a model's name without / and :, or null for no registering"
    )
    children: int = Field(12, ge=0)


class StudyConfig(BaseModel):
    """A whole study."""

    model_config = Strict

    study: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=120,
        description="a name of letters, digits, '.', '_' and '-' that begins with a letter or digit (at most 120; quoted, if "
        "it looks like a number)",
    )
    store: str = Field("runs", min_length=1, description="the path of a folder")
    task: Use
    method: Use
    penalties: list[Penalty] = []
    temperature: Use | None = None
    discretizers: list[Use] = []
    train: Train = Train()
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Seed], Field(min_length=1)] = Field(
        1, description="how many (a whole number >= 1, for the seeds 0, 1, ...), or a list of them ([0, 7, 42])"
    )
    sampler: Sampler = Sampler()
    resources: Resources = Resources()
    mlflow: MLflow | None = MLflow()

    @field_validator("store")
    @classmethod
    def _folder_path(cls, store: str) -> str:
        if "://" in store:
            raise ValueError(f"{store!r} is an address; needed: the path of a folder (mount the remote one)")
        return store

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and len(set(seeds)) < len(seeds):
            twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
            raise ValueError(f"{', '.join(map(str, twice))} more than once; equal seeds make equal networks: list each once")
        return seeds

    @property
    def folder(self) -> Path:
        """``<store>/<study>``: everything the study writes."""
        return Path(self.store).expanduser() / self.study

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
        raise ConfigError(f"{shown(raw)}; needed: a study, a mapping of keys ({', '.join(StudyConfig.model_fields)})")
    try:
        finite(raw)
    except RecursionError:
        raise ConfigError("the study contains itself (an alias inside its own anchor); write that part out") from None
    return check(StudyConfig, raw)


class _Loader(yaml.SafeLoader):
    """YAML in which a key comes once and, as in YAML 1.2, ``1e-3`` is a number and not text."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} comes twice; keep one", key.start_mark)
            seen.add(key.value)
        return node


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as the same: text that looks like ``1e-3`` in quotes."""


for one in (_Loader, _Dumper):
    one.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
    )


def to_yaml(plain: Mapping[str, Any]) -> str:
    """Plain data as YAML, in the order of its keys; `from_yaml` reads it back."""
    return yaml.dump(dict(plain), Dumper=_Dumper, sort_keys=False)


def from_yaml(text: str, where: str) -> Any:
    """Plain data from YAML.

    Raises:
        ConfigError: naming ``where`` and the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = ". Indent with spaces" if "'\\t'" in str(error.problem) else ""
        raise ConfigError(f"{where}{line}: is not valid YAML: {error.problem or error.context}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply; write it flatter") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none, ...
        raise ConfigError(f"{where}: is not valid YAML: {error}") from None


def read_yaml(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study from a file, apply ``a.b.0.c=value`` overrides, and check it.

    Raises:
        ConfigError: when the file cannot be read, is not YAML, or does not describe a study.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the path of a study's YAML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8; give the path of a study's YAML file") from None
    raw = from_yaml(text, str(path))
    if not isinstance(raw, dict):
        keys = ", ".join(StudyConfig.model_fields)
        raise ConfigError(f"{path}: holds {shown(raw)}; needed: a study, a mapping of keys ({keys})")
    for text in overrides:
        override(raw, text)
    return parse(raw)


def override(raw: dict[str, Any], text: str) -> None:
    """Set one value in place: ``train.steps=500``, ``penalties.0.level=0.01``, ``method.hidden=[8]`` (values are YAML).

    Raises:
        ConfigError: when the text is not ``path=value`` or the path does not exist that far.
    """
    path, sign, value = text.partition("=")
    keys = path.split(".")
    if not sign or not all(keys):
        raise ConfigError(f"override {text!r}; needed: path=value, for example train.steps=500 or penalties.0.level=0.01")
    new = from_yaml(value, f"override {text!r}")
    here: Any = raw
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not key.isdigit() or int(key) >= len(here):
                raise ConfigError(
                    f"override {text!r}: {key!r} is not a position in a list of {len(here)} (the first is 0); "
                    f"to change how long it is, write the whole list: {'.'.join(keys[:depth])}=[...]"
                )
            index: Any = int(key)
        elif isinstance(here, dict):
            index = key
            if not last:
                here.setdefault(key, {})
                if here[key] is None:
                    here[key] = {}
        else:
            to = ".".join(keys[:depth])
            raise ConfigError(f"override {text!r}: {to} holds {shown(here)}, which has no {key!r}; write {to}=VALUE")
        if last:
            here[index] = new
        else:
            here = here[index]


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf of plain data with its path; a sweep is a leaf."""
    if as_sweep(value, ".".join(path)) is not None or not isinstance(value, dict | list):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    else:
        for position, inner in enumerate(value):
            yield from leaves(inner, (*path, str(position)))


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

    for kind in (kind for kind in KINDS if kind != "command"):  # no part of a study
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


def scrub(value: Any) -> Any:
    """Plain data or text without user names, passwords and keys in its URIs."""
    if isinstance(value, str):
        return _SECRET.sub(r"\1***", _USERINFO.sub(r"\1", value))
    if isinstance(value, Mapping):
        return {key: scrub(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(inner) for inner in value]
    return value


_USERINFO = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"]*@")
_SECRET = re.compile(r"([?&](?:[^=&\s]*(?:password|passwd|token|secret|key|sig|signature))=)[^&\s'\"]+", re.IGNORECASE)
