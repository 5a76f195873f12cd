"""Every architecture of a small space, trained; searches on that space scored by exact regret and rank.

>>> space = space_of(study.config, study.plugins)  # doctest: +SKIP
>>> table = enumerated(space, study.plugins, runner="serial")  # doctest: +SKIP
>>> scored(table, found_by(study, table)).regret  # doctest: +SKIP
"""

from __future__ import annotations

from nasplug.spaces.scoring import Bounded, Found, Scored, baselines, scored
from nasplug.spaces.searches import found_by
from nasplug.spaces.space import MOST, Part, Space, space_of
from nasplug.spaces.table import TABLE, Key, Table, enumerated, table_of
from nasplug.spaces.telling import PICTURE, best_grid, plain, scores_grid, space_words, write_scores

__all__ = [
    "MOST",
    "PICTURE",
    "TABLE",
    "Bounded",
    "Found",
    "Key",
    "Part",
    "Scored",
    "Space",
    "Table",
    "baselines",
    "best_grid",
    "enumerated",
    "found_by",
    "plain",
    "scored",
    "scores_grid",
    "space_of",
    "space_words",
    "table_of",
    "write_scores",
]
