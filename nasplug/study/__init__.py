"""`Study`: plan, run, discretize, track, report. The public Python API; the command line is a thin layer over it."""

from __future__ import annotations

from nasplug.study.study import Study

__all__ = ["Study"]
