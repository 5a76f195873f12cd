"""Plain data against pydantic models, refused in our words: what came, what is needed, what to do; all problems at once.

pydantic would read ``"8"`` as 8 and ``true`` as 1. Here a value is converted only where nothing is guessed: 2.0 where a whole
number is needed, a list where a tuple is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from nasplug.errors import ConfigError, did_you_mean

__all__ = [
    "MOST_DEPTH",
    "MOST_NODES",
    "MOST_TEXT",
    "SWEEPS",
    "check",
    "in_words",
    "keys_of",
    "large",
    "members",
    "plain",
    "shown",
]

SWEEPS = ("choice", "grid", "uniform", "log")
"""The keys that make a mapping a sweep."""

MOST_TEXT = 2**18  # characters: a study is a page; longer lists belong into a data file
MOST_NODES = 30_000  # values and keys, aliases written out
MOST_DEPTH = 40  # levels of a study: what plugins take as options included

SEQUENCES = (list, tuple, set, frozenset, Sequence)
PLAIN: Mapping[Any, tuple[str, str]] = {  # type -> one of them, several of them
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "values true or false"),
    str: ("text", "texts"),
    NoneType: ("null", "nulls"),
}
BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
Steps = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


def check(model: type[Model], given: Mapping[Any, Any], where: str = "", *, swept: bool = False) -> Model:
    """``given`` as a ``model``.

    Args:
        model: what is accepted. A class attribute ``words`` says it to a person; else its keys do.
        given: plain data.
        where: the place in the study that ``given`` is from, to be named.
        swept: whether these values may also be written as sweeps (which are settled before they come here).

    Raises:
        ConfigError: for unknown keys, missing ones, wrong types and values out of range.
    """
    try:
        made = model.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError("\n".join(_refusals(error, model, where, swept))) from None
    if lines := [_refused(model, path, came, where, swept) for path, came in _guessed(given, made)]:
        raise ConfigError("\n".join(lines))
    return made


def plain(given: Any, path: Steps = ()) -> Any:
    """A copy of plain data, no part of it shared with another: mappings and lists of text, finite numbers, true, false, null.

    Raises:
        ConfigError: with the place, for NaN and infinities, text that no file or path can hold, anything that is not plain.
    """
    if len(path) > MOST_DEPTH:
        raise ConfigError(
            f"{_dotted('', path[:3])}...: is nested too deeply, or contains itself; needed: {MOST_DEPTH} levels at most"
        )
    if isinstance(given, Mapping):
        return {_text(key, path) if isinstance(key, str) else key: plain(value, (*path, key)) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [plain(value, (*path, position)) for position, value in enumerate(given)]
    if isinstance(given, str):
        return _text(given, path)
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, int):
        if abs(given) > sys.float_info.max:  # its digits alone may be more than Python writes
            raise ConfigError(f"{_dotted('', path)}: a number of {given.bit_length()} bits; needed: a finite number")
        return given
    if isinstance(given, float):
        if not math.isfinite(given):
            raise ConfigError(f"{_dotted('', path)}: {given}; needed: a finite number")
        return given
    raise ConfigError(
        f"{_dotted('', path)}: {shown(given)} is a {type(given).__name__}; needed: text, a number, true, false, null, a list "
        "or a mapping. Write it as one of them, without a tag (!!...)"
    )


def large(given: Any) -> str:
    """Why plain data are too much for a study, in words; empty where they are not."""
    nodes, characters, waiting = 0, 0, [given]
    while waiting:
        here = waiting.pop()
        nodes += 1
        if isinstance(here, Mapping):
            waiting += [*here, *here.values()]
        elif isinstance(here, list | tuple):
            waiting += here
        elif isinstance(here, str):
            characters += len(here)
        if nodes > 2 * MOST_NODES:
            return f"more than {2 * MOST_NODES:,} values and keys"
        if characters > 2 * MOST_TEXT:
            return f"more than {2 * MOST_TEXT:,} characters"
    return ""


def _text(text: str, path: Steps) -> str:
    """``text``, if a file can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{_dotted('', path)}: {ascii(text)[:80]} is not text in UTF-8; correct it") from None
    if "\0" in text:
        raise ConfigError(f"{_dotted('', path)}: {shown(text)} has a NUL character; remove it")
    return text


def shown(value: Any) -> str:
    """A value as a person wrote it, cut where it is long."""
    try:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        text = f"a value ({type(value).__name__}) with a number of thousands of digits"
    return text if len(text) <= 80 else text[:77] + "..."


def in_words(hint: Any) -> str:
    """What a type accepts, as a person says it; empty where we have no words for it."""
    if isinstance(hint, FieldInfo):
        return hint.description or _bounded(in_words(hint.annotation), hint.metadata)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _bounded(in_words(args[0]), args[1:])
    if origin in (Union, UnionType):
        every = list(dict.fromkeys(in_words(arg) for arg in args))
        return "" if "" in every else _either(every)
    if origin is Literal:
        return _either([shown(arg) for arg in args])
    if hint in PLAIN:
        return PLAIN[hint][0]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return str(getattr(hint, "words", "a mapping of " + ", ".join(keys_of(hint))))
    if origin is tuple and Ellipsis not in args:
        return f"a list of {len(args)}: " + ", ".join(in_words(arg) or "a value" for arg in args)
    if origin in SEQUENCES:
        inner = in_words(args[0])
        for one, several in PLAIN.values():
            inner = inner.replace(one, several, 1)
        return f"a list of {inner or 'values'}"
    return "a mapping" if origin in (dict, Mapping) or hint is dict else ""


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a model as they are written."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _either(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"


def _bounded(words: str, metadata: Sequence[Any]) -> str:
    """``a whole number >= 1 and < 10``."""
    flat = [inner for m in metadata for inner in (m.metadata if isinstance(m, FieldInfo) else [m])]
    bounds = " and ".join(f"{sign} {getattr(m, name)}" for m in flat for name, sign in BOUNDS.items() if hasattr(m, name))
    filled = " (not empty)" if any(getattr(m, "min_length", 0) for m in flat) else ""
    filled += "".join(f" ({m.max_length} at most)" for m in flat if getattr(m, "max_length", None))
    bare = words.removesuffix(" or null")
    return bare + (f" {bounds}" if bounds else "") + filled + words[len(bare) :]


def members(hint: Any) -> Iterator[Any]:
    """The types of a union, or the one type."""
    if isinstance(hint, FieldInfo):
        yield from members(hint.annotation)
    elif get_origin(hint) is Annotated:
        yield from members(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for arg in get_args(hint):
            yield from members(arg)
    else:
        yield hint


def _into(hint: Any, step: str | int) -> Any:
    """The type one step further in; None where there is no such place (pydantic names the members of a union as steps)."""
    for member in members(hint):
        origin, args = get_origin(member), get_args(member)
        if isinstance(member, type) and issubclass(member, BaseModel):
            if step in keys_of(member):
                return keys_of(member)[str(step)]
        elif isinstance(step, int) and origin in SEQUENCES:
            return args[step] if origin is tuple and Ellipsis not in args and step < len(args) else args[0]
        elif origin in (dict, Mapping) and "[" not in str(step):
            return args[1]
    return None


def _place(model: type[BaseModel], steps: Sequence[str | int], *, last: bool) -> tuple[Steps, Any]:
    """A path without the unions' names, and the type there; ``last``: the last step is a place though the model has none."""
    path: list[str | int] = []
    hint: Any = model
    for position, step in enumerate(steps):
        inner = _into(hint, step)
        if inner is not None:
            path.append(step)
            hint = inner
        elif last and position == len(steps) - 1:
            path.append(step)
    return tuple(path), hint


def _dotted(where: str, path: Steps) -> str:
    return ".".join([where, *map(str, path)] if where else map(str, path)) or "the study"


def _refusals(error: ValidationError, model: type[BaseModel], where: str, swept: bool) -> list[str]:
    """One line per place: a value that fits none of several types is one problem to a person."""
    found: dict[Steps, list[Any]] = {}
    for problem in error.errors():
        path, _ = _place(model, problem["loc"], last=problem["type"] in ("extra_forbidden", "invalid_key"))
        found.setdefault(path, []).append(problem)
    lines = []
    for path, problems in found.items():
        if any(other[: len(path)] == path and len(other) > len(path) for other in found):
            continue  # what is wrong inside says more
        first = problems[0]
        said = [p["msg"].removeprefix("Value error, ") for p in problems if p["type"] == "value_error"]
        at = _dotted(where, path)
        if first["type"] == "extra_forbidden":
            _, hint = _place(model, path[:-1], last=False)
            known = [key for m in members(hint) if isinstance(m, type) and issubclass(m, BaseModel) for key in keys_of(m)]
            meant = did_you_mean(str(path[-1]), known) or " Remove it or correct it"
            lines.append(f"{at}: unknown key; accepted here: {', '.join(known) or 'no keys'}.{meant}")
        elif first["type"] == "invalid_key":
            lines.append(f"{at}: the key {shown(path[-1])} is not text; needed: one of {', '.join(keys_of(model))}")
        elif first["type"] == "missing":
            lines.append(f"{at}: is missing; needed: {in_words(_place(model, path, last=False)[1]) or 'a value'}")
        elif said:
            lines.append(f"{at}: {said[0]}")
        else:
            lines.append(_refused(model, path, first["input"], where, swept, first["msg"]))
    return lines


def _refused(model: type[BaseModel], path: Steps, came: Any, where: str, swept: bool, otherwise: str = "") -> str:
    """``train.steps: 'x'; needed: a whole number >= 1 ...``."""
    at = _dotted(where, path)
    words = in_words(_place(model, path, last=False)[1]) or otherwise
    if swept:
        keys = isinstance(came, Mapping) and any(key in SWEEPS for key in came)
        alone = (
            f". A sweep has one of the keys {', '.join(SWEEPS)}, its value a list, and no other key but points" if keys else ""
        )
        return f"{at}: {shown(came)}; needed: {words}, or a sweep of such values ({{choice: [...]}}){alone}"
    if isinstance(came, Mapping) and any(key in SWEEPS for key in came):
        return f"{at}: {shown(came)} is a sweep, and this cannot be swept; give one value: {words}"
    return f"{at}: {shown(came)}; needed: {words}"


def _guessed(given: Any, made: Any, path: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Where text became a number, a number true or false, and so on."""
    if isinstance(given, Mapping) and isinstance(made, BaseModel | Mapping):
        names = (
            {field.alias or name: name for name, field in type(made).model_fields.items()}
            if isinstance(made, BaseModel)
            else {}
        )
        for key, value in given.items():
            if isinstance(made, Mapping):
                yield from _guessed(value, made.get(key), (*path, key))
            elif key in names:
                yield from _guessed(value, getattr(made, names[key]), (*path, key))
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple):
        for position, (value, result) in enumerate(zip(given, made, strict=True)):
            yield from _guessed(value, result, (*path, position))
    elif None not in (_sort(given), _sort(made)) and _sort(given) != _sort(made):
        yield path, given


def _sort(value: Any) -> str | None:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else None
