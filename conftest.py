"""For every test of the repository, the plugins' included."""

from __future__ import annotations

import pytest

SLOW_LAWS = ("test_rebuild_in_a_fresh_process", "test_export_law_in_other_runtimes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Laws that start a process or export are slow here; the kit itself leaves strangers' marks alone."""
    for item in items:
        if item.name.partition("[")[0] in SLOW_LAWS:
            item.add_marker(pytest.mark.slow)
