"""Errors in words."""

from __future__ import annotations

from nasplug.tasks import Facts

__all__ = ["shown_difference", "shown_error"]


def shown_error(facts: Facts, value: float) -> str:
    """A share of wrong labels in percent, a mean squared error as it is."""
    return f"{value:.4g}" if facts.kind == "regression" else f"{100 * value:.2f} %"


def shown_difference(facts: Facts, value: float) -> str:
    """A difference of errors: of shares in percentage points, of mean squared errors as it is."""
    return f"{value:.4g}" if facts.kind == "regression" else f"{100 * value:.2f} percentage points"
