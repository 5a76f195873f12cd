"""Plain data with every sweep settled, and components from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasplug.config import StudyConfig, as_sweep, parse
from nasplug.contracts import check_component
from nasplug.errors import ConfigError
from nasplug.plugins import Plugins

__all__ = ["built", "put", "settle", "single"]


def settle(study: StudyConfig, values: Mapping[str, Any]) -> StudyConfig:
    """The study with the sweeps at ``values``' paths replaced by those values."""
    if not values:
        return study
    raw = study.plain() | {"study": "settled"}  # a folder that was moved may be called what no new study may be
    for path, value in values.items():
        put(raw, path, value)
    return parse(raw).model_copy(update={"study": study.study})


def put(raw: Any, path: str, value: Any) -> None:
    """A value into the place that a path names, in nested plain data."""
    *parents, last = path.split(".")
    for key in parents:
        raw = raw[int(key)] if isinstance(raw, list) else raw[key]
    raw[int(last) if isinstance(raw, list) else last] = value


def single(value: Any, where: str) -> Any:
    """The value of a place that takes one per pack."""
    if as_sweep(value) is not None:
        raise ConfigError(f"{where}: still varies inside a pack; this place takes one value per pack")
    return value


def built(plugins: Plugins, kind: str, name: str, options: Mapping[str, Any], where: str) -> Any:
    """A component that keeps its contract, as far as its names can say."""
    made = plugins.build(kind, name, options, where)
    offer = str(plugins.offer(kind, name))
    check_component(kind, made, offer if offer.startswith(where) else f"{where}: {offer}")
    return made
