"""The laws, and what each discretizer is for, on networks whose answer is known."""

from __future__ import annotations

from nasplug.testing import DiscretizerLaws


class TestClosest(DiscretizerLaws):
    name = "closest"
