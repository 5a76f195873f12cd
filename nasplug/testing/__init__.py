"""Conformance kits: the laws that every plugin keeps, first-party and strangers' alike, as test classes to inherit.

    from nasplug.testing import RegularizerLaws

    class TestMine(RegularizerLaws):
        name = "mine"                  # as registered
        options = {"sharpness": 3.0}   # as in a config

One class per set of options; regularizers and discretizers may set ``widths`` (skeletons that fit), methods ``task_options``.
Observers and commands have kits too: `ObserverLaws` (``name`` is the plugin's) and `CommandLaws`.
pytest collects the laws through the subclass. A law is a plain method that raises `AssertionError` with the reason; nothing
needs a fixture. Laws that start a process are marked ``slow``: register that marker in your own pytest configuration.
Everything is in float64, where a pack and its rows alone agree to 1e-10.
"""

from __future__ import annotations

from nasplug.testing.activations import ActivationLaws
from nasplug.testing.commands import CommandLaws
from nasplug.testing.discretizers import DiscretizerLaws
from nasplug.testing.examples import example_networks, example_score, example_task
from nasplug.testing.laws import Laws, fingerprint
from nasplug.testing.methods import SearchMethodLaws
from nasplug.testing.observers import ObserverLaws
from nasplug.testing.regularizers import RegularizerLaws
from nasplug.testing.schedules import ScheduleLaws
from nasplug.testing.scoring import LossLaws, MetricLaws
from nasplug.testing.tasks import TaskLaws

__all__ = [
    "ActivationLaws",
    "CommandLaws",
    "DiscretizerLaws",
    "Laws",
    "LossLaws",
    "MetricLaws",
    "ObserverLaws",
    "RegularizerLaws",
    "ScheduleLaws",
    "SearchMethodLaws",
    "TaskLaws",
    "example_networks",
    "example_score",
    "example_task",
    "fingerprint",
]
