"""What the command line prints: the plan before a study, the front and the chosen network after it."""

from __future__ import annotations

from nasplug.summary.outlook import about, print_plan
from nasplug.summary.told import (
    named,
    print_contributions,
    print_explained,
    print_look,
    print_plugins,
    print_some,
    print_summary,
    print_within,
    registered,
)

__all__ = [
    "about",
    "named",
    "print_contributions",
    "print_explained",
    "print_look",
    "print_plan",
    "print_plugins",
    "print_some",
    "print_summary",
    "print_within",
    "registered",
]
