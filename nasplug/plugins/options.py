"""A factory's keyword-only parameters as the options that a config may give it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from nasplug.plugins.defects import DefectError

__all__ = ["options_model"]

PLAIN = "numbers, text, true or false, lists, mappings, literals or pydantic models of these"


def options_model(name: str, factory: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of a factory's keyword-only parameters: the options a config may give it.

    Raises:
        DefectError: for a factory with positional or untyped parameters, or with types or defaults that no config can hold:
            its options could not be named, checked or described.
    """
    called = getattr(factory, "__name__", "")
    called = called if called.isidentifier() else "factory"
    try:
        parameters = inspect.signature(factory).parameters.values()
        hints = get_type_hints(factory, include_extras=True) if parameters else {}
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError) as error:
        raise DefectError(
            f"the parameters of the factory of {name!r} cannot be read: {type(error).__name__}: {error}",
            f"write def {called}(*, OPTION: TYPE = DEFAULT), with types that its module imports",
        ) from error
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name not in hints:
            raise DefectError(
                f"the factory of {name!r} has the parameter {parameter.name!r}, which is not keyword-only and annotated",
                f"write def {called}(*, {parameter.name}: TYPE = DEFAULT)",
            )
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        _check(name, parameter.name, hints[parameter.name], default)
        fields[parameter.name] = (hints[parameter.name], default)
    config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)
    try:
        return create_model(f"{name}_options", __config__=config, **fields)
    except (PydanticUserError, NameError, TypeError, ValueError) as error:  # a name that pydantic keeps for itself
        raise DefectError(
            f"the options {', '.join(fields)} of {name!r} cannot all be options: {_first_line(error)}", "rename that one"
        ) from error


def _check(name: str, option: str, hint: Any, default: Any) -> None:
    """Refuse an option that a YAML file cannot hold, or an editor be told about."""
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticUserError, TypeError) as error:
        raise DefectError(
            f"option {option!r} of {name!r} has the type {_shown(hint)}, which no config can hold (it has no JSON schema)",
            f"write {PLAIN}",
        ) from error
    if default is ...:
        return
    try:
        json.dumps(to_jsonable_python(default), allow_nan=False)
    except (PydanticSerializationError, ValueError) as error:
        raise DefectError(
            f"option {option!r} of {name!r} has the default {default!r}, which no config can hold", f"write {PLAIN}, or None"
        ) from error
    try:
        adapter.validate_python(default)
    except ValidationError as error:
        with_none = f" ({_shown(hint)} | None)" if default is None else ""
        raise DefectError(
            f"option {option!r} of {name!r} has the default {default!r}, which does not fit its type {_shown(hint)}",
            f"correct one of the two{with_none}",
        ) from error


def _shown(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and hint.__module__ == "builtins" else inspect.formatannotation(hint)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
