"""The command line. Heavy packages are imported inside the commands, so that ``nasplug --help`` answers at once."""

from __future__ import annotations

from nasplug.cli.around import plugins, ui
from nasplug.cli.arriving import arrive
from nasplug.cli.comparing import compare
from nasplug.cli.enumerating import enumerate_
from nasplug.cli.group import main
from nasplug.cli.life import doctor, status, stop
from nasplug.cli.models import lineage, reproduce
from nasplug.cli.registry import history, promote, register, rollback
from nasplug.cli.studies import config, extend, front, plan, run
from nasplug.cli.syncing import sync
from nasplug.cli.tables import explain, export, look, predict

__all__ = [
    "arrive",
    "compare",
    "config",
    "doctor",
    "enumerate_",
    "explain",
    "export",
    "extend",
    "front",
    "history",
    "lineage",
    "look",
    "main",
    "plan",
    "plugins",
    "predict",
    "promote",
    "register",
    "reproduce",
    "rollback",
    "run",
    "status",
    "stop",
    "sync",
    "ui",
]
