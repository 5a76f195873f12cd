"""An engine for canonical networks: it makes the steps between two reports in one kernel, weights and moments on the chip.

Training stays `nasplug.train.train`; the engine takes `nasplug.train.step`'s place where it fits (`fits`), after a pack's first
steps have shown that both do the same.
"""

from __future__ import annotations

from nasplug.engine.fitting import Canonical, canonical, fits
from nasplug.engine.running import TOLERANCE, available, engine, engine_for

__all__ = ["TOLERANCE", "Canonical", "available", "canonical", "engine", "engine_for", "fits"]
