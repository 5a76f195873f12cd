"""What a person looks at: the page, the pictures and the tables of a study, and a linear baseline to hold its network against.

Only validation scores choose, here too: test scores are shown.
"""

from __future__ import annotations

from nasplug.drawing import front_picture, network_picture
from nasplug.report.finished import Finished
from nasplug.report.linear import Baseline, Fit, baseline, compare
from nasplug.report.page import import_libraries, write_report
from nasplug.report.tables import choices_table, front_table

__all__ = [
    "Baseline",
    "Finished",
    "Fit",
    "baseline",
    "choices_table",
    "compare",
    "front_picture",
    "front_table",
    "import_libraries",
    "network_picture",
    "write_report",
]
