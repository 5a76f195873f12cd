"""Where a network came from: its record beside it wherever it leaves, the record told, and the network trained again."""

from __future__ import annotations

from nasplug.lineage.record import FILE, FORMAT, check, digest, lineage_of, read, write

__all__ = ["FILE", "FORMAT", "check", "digest", "lineage_of", "read", "write"]
