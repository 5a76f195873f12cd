"""Results of a study, read from its folder: the table of replicas, the front, the chosen network."""

from __future__ import annotations

from nasplug.results.choosing import (
    METHOD,
    allowed,
    as_good,
    choices,
    choose,
    front,
    judged,
    members,
    slack,
    standing,
    to_refit,
)
from nasplug.results.ending import Ending, ending_of, write_ending
from nasplug.results.limits import FLASH, LATENCY, Flash, flash, latency, measured, measures, within
from nasplug.results.scheduled import schedule_of
from nasplug.results.stored import (
    certificate,
    facts_of,
    known_tasks,
    network,
    pack_record,
    pack_seconds,
    plan_of,
    portioned,
    relaxed,
    write_certificate,
    write_facts,
)
from nasplug.results.table import FAILURES, cause, finished_packs, merge, read, write_failures
from nasplug.results.telling import shown_difference, shown_error
from nasplug.results.versions import VERSIONS, Version, ended, number_of, planner_of, versions
from nasplug.results.volume import leading, volume

__all__ = [
    "FAILURES",
    "FLASH",
    "LATENCY",
    "METHOD",
    "VERSIONS",
    "Ending",
    "Flash",
    "Version",
    "allowed",
    "as_good",
    "cause",
    "certificate",
    "choices",
    "choose",
    "ended",
    "ending_of",
    "facts_of",
    "finished_packs",
    "flash",
    "front",
    "judged",
    "known_tasks",
    "latency",
    "leading",
    "measured",
    "measures",
    "members",
    "merge",
    "network",
    "number_of",
    "pack_record",
    "pack_seconds",
    "plan_of",
    "planner_of",
    "portioned",
    "read",
    "relaxed",
    "schedule_of",
    "shown_difference",
    "shown_error",
    "slack",
    "standing",
    "to_refit",
    "versions",
    "volume",
    "within",
    "write_certificate",
    "write_ending",
    "write_facts",
    "write_failures",
]
