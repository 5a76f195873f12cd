"""Numbers that vary: what a sweep is, and finding the sweeps in plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nasplug.config.checking import SWEEPS, check, shown
from nasplug.errors import ConfigError

__all__ = ["Strict", "Sweep", "as_sweep", "leaves"]


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
        times = Counter(repr(value) for value in self.choice or self.grid or [])
        if twice := sorted(value for value, count in times.items() if count > 1):
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
    def count(self) -> int:
        """How many values a grid enumerates, without making them.

        Raises:
            ConfigError: as `values`.
        """
        listed = self.choice or self.grid
        return len(listed) if listed is not None else self._points()

    def _points(self) -> int:
        if self.points is None:
            written = shown(self.model_dump(exclude_none=True))
            raise ConfigError(f"{written} in a grid; needed: points: N beside it, or a sampler that draws (random, tpe)")
        return self.points

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
        points = self._points()
        if points == 1:
            return [low]
        shares = [i / (points - 1) for i in range(points)]
        if self.log is not None:  # the ends as written: exp(log(1e-4)) is not 1e-4
            return [low, *(low * (high / low) ** s for s in shares[1:-1]), high]
        return [low + s * (high - low) for s in shares]


def as_sweep(value: Any, where: str = "") -> Sweep | None:
    """``value`` as a `Sweep` if it is one: already, or as a mapping of kinds with lists, ``points`` and nothing else.

    ``{tanh: 1, log: 2}`` and ``{log: 2}`` are values: what an option makes of them, its own type says.

    Raises:
        ConfigError: for a sweep that cannot be, naming ``where``.
    """
    if isinstance(value, Sweep):
        return value
    if isinstance(value, Mapping) and any(key in SWEEPS for key in value) and all(map(_of_a_sweep, value, value.values())):
        return check(Sweep, value, where)
    return None


def _of_a_sweep(key: Any, value: Any) -> bool:
    return key == "points" or (key in SWEEPS and isinstance(value, list | tuple | None))


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
