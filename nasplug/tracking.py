"""MLflow, as an observer of the public hooks."""
from __future__ import annotations
from typing import Any
class Tracker:
    def __init__(self, config: Any, plugins: Any) -> None:
        pass
