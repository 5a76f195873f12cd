"""Broken configs, overrides and paths: each is planned or refused in our words, at once and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import fuzzing


def judge(found: dict[str, Any], count: int) -> None:
    assert not found["wrong"], "\n\n".join(found["wrong"][:3])
    assert not found["slow"], "\n\n".join(found["slow"][:3])
    assert len(found["unworded"]) <= count // 500, "\n\n".join(found["unworded"])  # the boundary is a net, not the floor
    assert found["refused"] + found["planned"] == count
    assert found["planned"] > count // 50  # some are broken so little that they are good
    assert found["megabytes"] < 300.0


def test_a_hundred_broken_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    judge(fuzzing.run(100, 0, tmp_path), 100)


@pytest.mark.slow
def test_two_thousand_broken_studies(tmp_path: Path) -> None:
    command = [sys.executable, fuzzing.__file__, "2000", "1000", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    judge(json.loads(done.stdout.splitlines()[-1]), 2000)
