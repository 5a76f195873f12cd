"""Deep networks made shallower: cut, searched piece by piece, joined."""

from __future__ import annotations

from nasplug_swat.compression.compress import NETWORK, PICTURE, Outcome, compress
from nasplug_swat.compression.joining import activations_at, joined
from nasplug_swat.compression.plan import Compression, planned
from nasplug_swat.compression.task import swat_piece

__all__ = [
    "NETWORK",
    "PICTURE",
    "Compression",
    "Outcome",
    "activations_at",
    "compress",
    "joined",
    "planned",
    "swat_piece",
]
