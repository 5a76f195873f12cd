"""Where operations are in the layers of networks: a low rank, a residual and a gate have layers of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nasplug.networks import Edge, Way

__all__ = ["Skeleton", "rank", "skeleton"]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Where the operations of networks of some widths are, in the layers of `nasplug.networks.Networks`.

    Attributes:
        widths: of all layers: an operation of low rank, and a residual one, has a layer of straight neurons of its own.
        place: layer of the method (0 the input, then ``hidden``, then the output) -> layer of the networks.
        ways: (to, from) of the method's layers -> its operations, each with its way.
        passes: layers of the networks that pass values on.
        gated: of each gated operation (to, from) of the method's layers, and its two layers: sums with gates, then squares.
    """

    widths: tuple[int, ...]
    place: tuple[int, ...]
    ways: dict[Edge, dict[str, Way]]
    passes: tuple[int, ...]
    gated: dict[Edge, tuple[int, int]]


def rank(name: str) -> int:
    """Of ``rank_R``, R."""
    return int(name.removeprefix("rank_"))


def skeleton(sides: Sequence[int], offered: Mapping[Edge, Sequence[str]]) -> Skeleton:
    """The layers of networks.

    Args:
        sides: widths of the method's layers, input and output among them.
        offered: (to, from) of the method's layers -> its operations; layer by layer.
    """
    widths, place, passes, gated = [sides[0]], [0], [], {}
    ways: dict[Edge, dict[str, Way]] = {}
    for to in range(1, len(sides)):
        between: dict[tuple[int, str], int] = {}
        entering = {source: names for (end, source), names in offered.items() if end == to}
        for source, names in entering.items():
            for name in names:
                if name == "gated":
                    gated[to, source] = (len(widths), len(widths) + 1)
                    between[source, name] = len(widths) + 1
                    widths += [2 * sides[to], 2 * sides[to]]
                elif name.startswith("rank_") or name == "residual":
                    between[source, name] = len(widths)
                    passes += [len(widths)] if name == "residual" else []
                    widths.append(sides[source] if name == "residual" else rank(name))
        place.append(len(widths))
        widths.append(sides[to])
        for source, names in entering.items():
            straight: dict[str, Way] = {"linear": (place[to], place[source]), "none": None}
            found: dict[str, Way] = {name: straight[name] if name in straight else between[source, name] for name in names}
            if {*found} - {"none"}:  # else there is no edge
                ways[to, source] = found
    return Skeleton(tuple(widths), tuple(place), ways, tuple(passes), gated)
