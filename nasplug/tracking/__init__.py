"""MLflow, as an observer of the public hooks. The only module that imports mlflow, and only when a study is tracked.

What a study leaves there: one parent run (config, plugins, data, results), a child run for each network of the front with
its curves and its model, a child run for each pack that failed, and a registered version of the chosen network.
Only the driver writes, and always through a client that is told its URI: the caller's own MLflow state stays as it was.
"""

from __future__ import annotations

from nasplug.tracking.gate import Condition
from nasplug.tracking.history import Event, History
from nasplug.tracking.ledger import STATE_FILE, untold
from nasplug.tracking.lineages import mark_reproduced, traced
from nasplug.tracking.models import Entry, publish, publish_files, reach
from nasplug.tracking.page import page_of, serve
from nasplug.tracking.places import database_of, default_uri, store_of
from nasplug.tracking.policy import Policy, read_policy
from nasplug.tracking.promoting import Outcome, history_of, promote, rollback
from nasplug.tracking.records import spread
from nasplug.tracking.runs import end_killed
from nasplug.tracking.schema import state_of
from nasplug.tracking.serving import MODELS, served
from nasplug.tracking.standing import Standing, standing
from nasplug.tracking.tracker import Registered, Tracker

__all__ = [
    "MODELS",
    "STATE_FILE",
    "Condition",
    "Entry",
    "Event",
    "History",
    "Outcome",
    "Policy",
    "Registered",
    "Standing",
    "Tracker",
    "database_of",
    "default_uri",
    "end_killed",
    "history_of",
    "mark_reproduced",
    "page_of",
    "promote",
    "publish",
    "publish_files",
    "reach",
    "read_policy",
    "rollback",
    "serve",
    "served",
    "spread",
    "standing",
    "state_of",
    "store_of",
    "traced",
    "untold",
]
