"""One pack from its plan to its results, with checkpoints: the work of one trial, whoever runs it."""

from __future__ import annotations

from nasplug.packs.population import PARENT
from nasplug.packs.relaxed import MOST_WEIGHTS
from nasplug.packs.running import run_pack
from nasplug.packs.stopping import survivors
from nasplug.packs.stored import (
    AGAIN,
    CERTIFICATE,
    CHECKPOINT,
    HISTORIES,
    NETWORKS,
    OWN,
    PACK,
    RELAXED,
    SHARES,
    TABLE,
    Scores,
    examine,
    examine_tables,
    identity_of,
    load_networks,
    load_scores,
    rung_file,
    save_networks,
)

__all__ = [
    "AGAIN",
    "CERTIFICATE",
    "CHECKPOINT",
    "HISTORIES",
    "MOST_WEIGHTS",
    "NETWORKS",
    "OWN",
    "PACK",
    "PARENT",
    "RELAXED",
    "SHARES",
    "TABLE",
    "Scores",
    "examine",
    "examine_tables",
    "identity_of",
    "load_networks",
    "load_scores",
    "run_pack",
    "rung_file",
    "save_networks",
    "survivors",
]
