"""What a person looks at: the page, the pictures and the tables of a study, and whether a linear model is as good.

Only validation scores choose, here too: test scores are shown.
"""

from __future__ import annotations

from nasplug.drawing import front_picture, network_picture
from nasplug.report.cells import html, narrow
from nasplug.report.explaining import Explained, contributions_of, explained_of, formula_of
from nasplug.report.finished import Finished
from nasplug.report.lines import LINEAR, Verdict, against_lines
from nasplug.report.mean import ENSEMBLE, ensemble_scores, ensemble_words, write_ensemble
from nasplug.report.page import import_libraries, write_report
from nasplug.report.tables import choices_table, front_table

__all__ = [
    "ENSEMBLE",
    "LINEAR",
    "Explained",
    "Finished",
    "Verdict",
    "against_lines",
    "choices_table",
    "contributions_of",
    "ensemble_scores",
    "ensemble_words",
    "explained_of",
    "formula_of",
    "front_picture",
    "front_table",
    "html",
    "import_libraries",
    "narrow",
    "network_picture",
    "write_ensemble",
    "write_report",
]
