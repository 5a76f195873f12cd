"""YAML that reads back as it was written: keys come once, ``1e-3`` is a number, a date is text; values overridden by path.

A text is bounded before anything is built from it: its length, its nesting and the nodes that its aliases stand for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from nasplug.config.checking import MOST_DEPTH, MOST_NODES, MOST_TEXT, shown
from nasplug.errors import ConfigError

__all__ = ["from_yaml", "override", "to_yaml"]

OWN = 8  # how many times longer a file may be that nasplug wrote of a study: with defaults, one value per line

TIMESTAMP = "tag:yaml.org,2002:timestamp"
EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """YAML in which a key comes once and, as in YAML 1.2, ``1e-3`` is a number and ``2024-01-01`` is text."""

    def __init__(self, text: str, most: int = MOST_NODES) -> None:
        super().__init__(text)
        self.most = most
        self.nodes = 0  # so far, with every alias written out
        self.depth = 0
        self.finished: dict[int, tuple[int, int]] = {}  # id of a node -> nodes in it, levels in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """One node, refused as soon as the whole becomes too large: before any value is built."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)
        before = self.nodes
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _beyond(f"is nested too deeply; needed: {MOST_DEPTH} levels at most. Write it flatter", mark)
        node = cast(yaml.Node, super().compose_node(parent, index))
        if alias:
            if id(node) not in self.finished:
                raise _beyond("contains itself (an alias inside its own anchor); write that part out", mark)
            nodes, levels = self.finished[id(node)]
        else:
            inside = [self.finished[id(child)][1] for child in _children(node)]
            nodes, levels = self.nodes - before + 1, 1 + max(inside, default=0)
        self.nodes = before + nodes
        self.finished[id(node)] = nodes, levels
        if self.nodes > self.most:
            raise _beyond(
                f"has more than {self.most:,} values and keys, aliases written out; needed: {self.most:,} at most. "
                "Write a range instead of a list, or fewer aliases",
                mark,
            )
        if self.depth + levels - 1 > MOST_DEPTH:
            raise _beyond(f"is nested too deeply; needed: {MOST_DEPTH} levels at most. Write it flatter", mark)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, refused where one of its keys comes twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} comes twice; keep one", key.start_mark)
            seen.add(key.value)
        return node


class _BoundError(ConfigError):
    """What a text is refused for, with its line."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _beyond(message: str, mark: Any) -> _BoundError:
    return _BoundError(message, mark.line + 1)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as the same: text that looks like ``1e-3`` in quotes, every part written out."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: what a person reads is all there."""
        return True


for one in (_Loader, _Dumper):
    one.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
        for first, resolvers in one.yaml_implicit_resolvers.items()
    }
    one.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))


def to_yaml(given: Mapping[str, Any], *, compact: bool = False) -> str:
    """Plain data as YAML, in the order of its keys; `from_yaml` reads it back. ``compact``: lists of numbers in one line."""
    return yaml.dump(dict(given), Dumper=_Dumper, sort_keys=False, default_flow_style=None if compact else False, width=100)


def from_yaml(text: str, where: str, *, own: bool = False) -> Any:
    """What YAML holds, no part of it shared with another; `nasplug.config.parse` refuses what is not plain.

    Args:
        text: YAML.
        where: it is from, to be named.
        own: whether nasplug wrote it: such a file may be longer than one that is written by hand.

    Raises:
        ConfigError: naming ``where`` and the line.
    """
    times = OWN if own else 1
    if len(text) > times * MOST_TEXT:
        raise ConfigError(
            f"{where}: has {len(text):,} characters; needed: {times * MOST_TEXT:,} at most. Write ranges instead of lists, "
            "and keep data in a file of their own"
        )
    try:
        loader = _Loader(text, times * MOST_NODES)
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except _BoundError as error:
        raise ConfigError(f"{where}, line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = ". Indent with spaces" if "'\\t'" in str(error.problem) else ""
        raise ConfigError(f"{where}{line}: is not valid YAML: {error.problem or error.context}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply; write it flatter") from None
    except Exception as error:  # a tag that its value does not fit ends in any of them: !!float '', !!bool maybe
        told = (
            " ".join(str(error).split()) if isinstance(error, yaml.YAMLError | ValueError) else "a value does not fit its tag"
        )
        raise ConfigError(f"{where}: is not valid YAML: {told}. Write plain values, without tags (!!...)") from error
    return _unshared(found)


def _unshared(found: Any) -> Any:
    """A copy in which what came by an alias is a part of its own: changing one leaves the other."""
    if isinstance(found, dict):
        return {key: _unshared(value) for key, value in found.items()}
    return [_unshared(value) for value in found] if isinstance(found, list) else found


def override(raw: dict[str, Any], text: str) -> None:
    """Set one value in place: ``train.steps=500``, ``penalties.0.level=0.01``, ``method.hidden=[8]`` (values are YAML).

    Raises:
        ConfigError: when the text is not ``path=value`` or the path does not exist that far.
    """
    path, sign, value = text.partition("=")
    keys = path.split(".")
    said = f"override {shown(text)}"
    if not sign or not all(keys):
        raise ConfigError(f"{said}; needed: path=value, for example train.steps=500 or penalties.0.level=0.01")
    if len(keys) > MOST_DEPTH:
        raise ConfigError(f"{said}: a path of {len(keys)} steps; needed: {MOST_DEPTH} at most")
    new = from_yaml(value, said)
    here: Any = raw
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not _is_position(key) or int(key) >= len(here):
                raise ConfigError(
                    f"{said}: {shown(key)} is not a position in a list of {len(here)} (the first is 0); "
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
            raise ConfigError(f"{said}: {to} holds {shown(here)}, which has no {shown(key)}; write {to}=VALUE")
        if last:
            here[index] = new
        else:
            here = here[index]


def _is_position(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10
