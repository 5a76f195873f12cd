"""Where a network came from: its record beside it wherever it leaves, the record told, and the network trained again."""

from __future__ import annotations

from nasplug.lineage.page import page
from nasplug.lineage.record import FILE, FORMAT, check, digest, lineage_of, mean_of, read, write
from nasplug.lineage.telling import Stage, mermaid, stages, text

__all__ = [
    "FILE",
    "FORMAT",
    "Stage",
    "check",
    "digest",
    "lineage_of",
    "mean_of",
    "mermaid",
    "page",
    "read",
    "stages",
    "text",
    "write",
]
