"""What a stranger's exception says is told in one bounded line that a terminal shows and does not obey."""

from __future__ import annotations

import pytest

from nasplug.errors import LONGEST, cause


@pytest.mark.parametrize("said", ["red \x1b[31m", "a\r\nb\x85c\u2028d", "\x07\x00\u202e\ud800 end", "long " * 100_000])
def test_a_cause_is_one_printable_line_of_bounded_length(said: str) -> None:
    told = cause(ValueError(said))
    assert told.isprintable()
    assert told.startswith("ValueError: ")
    assert len(told) <= LONGEST + 3


def test_a_cause_keeps_names_of_any_language() -> None:
    assert cause(ValueError("Größe, 尺寸")) == "ValueError: Größe, 尺寸"
