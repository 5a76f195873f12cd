"""What a mapping among the options means: a sweep, or a value. Where it could be both, nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from nasplug.config import StudyConfig, Use, as_sweep, leaves
from nasplug.config.checking import members, shown
from nasplug.errors import ConfigError
from nasplug.plugins import Plugins, options_model

__all__ = ["unambiguous"]


def unambiguous(study: StudyConfig, plugins: Plugins) -> None:
    """Refuse a mapping that reads as a sweep at an option that takes mappings, and takes this one as it is.

    A list of values (``choice``, ``grid``) that are themselves values of the option is a sweep: so any mapping can be written.

    Raises:
        ConfigError: with both ways to write it.
    """
    for where, kind, use in _components(study):
        fields = options_model(use.use, plugins.offer(kind, use.use, where).factory).model_fields
        for name, value in use.options.items():
            if name in fields and _both(fields[name], value, (where, name)):
                raise ConfigError(
                    f"{where}.{name}: {shown(value)} is a sweep as it is written, and {kind} {use.use!r} also takes such a "
                    f"mapping as a value here. For the value write {{choice: [{shown(value)}]}}; for a sweep list whole "
                    "values, {choice: [VALUE, VALUE]}"
                )


def _components(study: StudyConfig) -> Iterator[tuple[str, str, Use]]:
    """Place, plugin kind and component, of all that have options."""
    yield "task", "task", study.task
    yield "method", "method", study.method
    if study.loss is not None:
        yield "loss", "loss", study.loss
    for i, metric in enumerate(study.metrics):
        yield f"metrics.{i}", "metric", metric
    for i, penalty in enumerate(study.penalties):
        yield f"penalties.{i}", "regularizer", penalty
        if penalty.ramp is not None:
            yield f"penalties.{i}.ramp", "schedule", penalty.ramp
    for i, discretizer in enumerate(study.discretizers):
        yield f"discretizers.{i}", "discretizer", discretizer
    for where, schedule in (("temperature", study.temperature), ("train.decay", study.train.decay)):
        if schedule is not None:
            yield where, "schedule", schedule


def _both(field: FieldInfo, value: Any, path: tuple[str, ...]) -> bool:
    """Whether an option takes a value as it is, though there is a sweep in it."""
    if all(as_sweep(leaf) is None for _, leaf in leaves(value, path)) or not any(map(_is_mapping, members(field))):
        return False
    option = TypeAdapter[Any](field.annotation or Any)
    whole = as_sweep(value)
    listed = None if whole is None else whole.choice or whole.grid
    if listed is not None and all(_takes(option, each) for each in listed):
        return False
    return _takes(option, value)


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping | BaseModel)


def _takes(option: TypeAdapter[Any], value: Any) -> bool:
    try:
        option.validate_python(value)
    except ValidationError:
        return False
    return True
