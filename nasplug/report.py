"""What a person looks at."""
from __future__ import annotations
from typing import Any
def write_report(study: Any, seconds: float) -> None:
    pass
