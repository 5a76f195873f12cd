"""The laws of a schedule."""

from __future__ import annotations

import math

from nasplug.contracts import Schedule
from nasplug.testing.laws import Laws

__all__ = ["ScheduleLaws"]


class ScheduleLaws(Laws):
    """Laws of a `nasplug.contracts.Schedule`."""

    kind = "schedule"

    def component(self) -> Schedule:
        """A fresh schedule."""
        made: Schedule = super().component()
        return made

    def test_values_are_finite_numbers(self) -> None:
        """A finite plain number for every progress in [0, 1], both ends included."""
        schedule = self.component()
        for step in range(101):
            value = schedule(step / 100)
            assert isinstance(value, (int, float)), f"value law: a {type(value).__name__} at progress {step / 100}"
            assert math.isfinite(value), f"value law: {value} at progress {step / 100}"

    def test_progress_is_all_it_knows(self) -> None:
        """The value depends on progress alone: not on the order, nor on what was asked before."""
        schedule = self.component()
        forwards = [schedule(step / 20) for step in range(21)]
        backwards = [schedule(step / 20) for step in reversed(range(21))][::-1]
        assert forwards == backwards, "purity law: asked backwards it says something else; it must keep no state"
