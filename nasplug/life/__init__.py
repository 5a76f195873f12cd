"""The life of studies, seen from any process: how they stand, stopping one, what of a machine is in their way."""

from __future__ import annotations

from nasplug.life.doctor import Finding, examine
from nasplug.life.standing import Standing, standing, standings, stop

__all__ = ["Finding", "Standing", "examine", "standing", "standings", "stop"]
