"""Forms in which a network leaves nasplug: each is run on rows before it is written."""

from __future__ import annotations

from nasplug.export import smallest_c
from nasplug.export.checking import FAR_OFF, MOST, SLACK, Export, Exported, alone, asked, export, import_graphs
from nasplug.export.forms import FORMS, Form
from nasplug.export.program import Program, program

__all__ = [
    "FAR_OFF",
    "FORMS",
    "MOST",
    "SLACK",
    "Export",
    "Exported",
    "Form",
    "Program",
    "alone",
    "asked",
    "export",
    "import_graphs",
    "program",
    "smallest_c",
]
