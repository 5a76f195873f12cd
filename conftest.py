"""For every test of the repository, the plugins' included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

# A machine that others use too draws examples slowly now and then; that says nothing about the law.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

SLOW_LAWS = ("test_rebuild_in_a_fresh_process", "test_export_law_in_other_runtimes")
MOST_SLOW_LAWS = 1


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """As packs compute; a second thread makes small steps slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept in the user's cache folder is the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


NO_REPORT = frozenset(
    {
        "test_activations", "test_bad_input", "test_clusters", "test_compact", "test_compression", "test_costing",
        "test_damage",
        "test_discretize", "test_endings", "test_ensemble", "test_export", "test_extend", "test_folds",
        "test_gate", "test_identity",
        "test_images", "test_imbalance", "test_jobs", "test_lineage", "test_linear", "test_monotone", "test_observers",
        "test_papers", "test_paths", "test_pool", "test_replicas", "test_rounding", "test_runner",
        "test_sample_weights", "test_schema", "test_search", "test_served", "test_serving", "test_sparcs", "test_stack",
        "test_stems", "test_structure", "test_sync", "test_teacher", "test_terms", "test_tracking", "test_training",
        "test_transforms",
    }
)  # fmt: skip
"""Modules whose studies write no report (it takes seconds), but for tests marked `reports`, and shared fixtures."""


@pytest.fixture(autouse=True)
def _no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    named = request.module.__name__.rpartition(".")[2]
    if named in NO_REPORT and not request.node.get_closest_marker("reports"):
        from nasplug import Study

        monkeypatch.setitem(Study.run.__kwdefaults__, "report", False)


@pytest.fixture(params=[0, pytest.param(1, marks=pytest.mark.gpu)], ids=["cpu", "gpu"])
def gpus(request: pytest.FixtureRequest) -> int:
    """What a study's ``resources.gpus`` is: laws are tested on the CPU, and on a GPU where there is one."""
    return int(request.param)


LONGEST = (
    "test_islands", "test_endings", "test_runner", "test_budget", "test_clusters", "test_docker", "test_compression",
    "test_from_study_to_use", "test_config_fuzz", "test_portions", "test_linear", "test_sizes", "test_cli", "test_schema",
    "test_plugins", "test_gate",
)  # fmt: skip
"""Modules with a test or a fixture of half a minute and more come first: at the end one process would wait for them."""

NO_GPU = "needs a GPU of NVIDIA; there is none"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests want a GPU that is not here."""
    skipped = [each for each in terminalreporter.stats.get("skipped", []) if NO_GPU in str(each.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests need a GPU and were skipped (pytest -m gpu runs them where there is one)"
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option of ours."""
    parser.addoption("--every-law", action="store_true", help=f"run {' and '.join(SLOW_LAWS)} for every class of a file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Laws that start a process or export are slow here; the kit itself leaves strangers' marks alone.

    Most of their time is the start of Python and torch: `MOST_SLOW_LAWS` of a file's classes have them unless all are asked.
    """
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason=NO_GPU))
    seen: Counter[tuple[str, str]] = Counter()
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        law = item.name.partition("[")[0]
        if law not in SLOW_LAWS:
            kept.append(item)
            continue
        item.add_marker(pytest.mark.slow)
        seen[str(item.path), law] += 1
        enough = seen[str(item.path), law] > MOST_SLOW_LAWS and not config.getoption("--every-law")
        (left if enough else kept).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
    places = {name: place for place, name in enumerate(LONGEST)}
    items[:] = sorted(kept, key=lambda item: places.get(item.path.stem, len(places)))  # stable: else as they were
