"""For every test of the repository, the plugins' included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

# A machine that others use too draws examples slowly now and then; that says nothing about the law.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

SLOW_LAWS = ("test_rebuild_in_a_fresh_process", "test_export_law_in_other_runtimes")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As packs compute; a second thread makes small steps slower."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Laws that start a process or export are slow here; the kit itself leaves strangers' marks alone."""
    for item in items:
        if item.name.partition("[")[0] in SLOW_LAWS:
            item.add_marker(pytest.mark.slow)
