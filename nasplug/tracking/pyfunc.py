"""A network where nasplug is not: rows of a data frame in, named answers out. Torch, numpy, pandas and MLflow are enough.

This file is copied as it is into each logged model, as ``model.py`` (MLflow's "models from code": nothing is unpickled).
Beside it lie ``graph.pt2``, ``rows.py`` (a copy of `nasplug.rows`, which reads rows in training, too) and ``served.json``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

GRAPH, ROWS, SERVED = "graph.pt2", "rows.py", "served.json"


class Network(PythonModel):
    """A data frame, or pixels ``(N, I)``, to a data frame of answers, one row each, with the same index."""

    def load_context(self, context: Any) -> None:
        """Read the files that lie beside this one. ``model_config={"only": "label"}`` asks for one answer alone.

        Raises:
            MlflowException: for one that is not as it was written.
        """
        folder = Path(__file__).parent
        self.only = str((context.model_config or {}).get("only", ""))
        self.told = json.loads((folder / SERVED).read_text(encoding="utf-8"))
        for name, digest in self.told["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise MlflowException(f"{folder / name} is not the file that was logged; fetch or log the model anew")
        self.rows = _module(folder / ROWS, self.told["files"][ROWS])
        columns = self.told["columns"]  # None: it takes pixels
        self.rules = None if columns is None else [self.rows.Rule(**column) for column in columns]
        self.graph = torch.export.load(folder / GRAPH).module()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Named answers, the same as `nasplug.compact.CompactNetwork.predict` gives, or the one that was asked for.

        Raises:
            MlflowException: for a column that is missing or a value that cannot be read; a server answers with status 400.
        """
        index = None
        if self.rules is not None:
            index = model_input.index
            try:
                features = self.rows.features(self.rules, model_input, "input", set(self.told["read"]))
            except self.rows.RowsError as error:
                raise MlflowException.invalid_parameter_value(str(error)) from None
        else:
            features = np.asarray(model_input, dtype=np.float64)
        outputs = np.empty((0, self.told["outputs"]))
        if len(features):
            with torch.no_grad():
                outputs = self.graph(torch.from_numpy(features)).double().numpy()
        found = self.rows.answers(self.told["targets"], self.told["link"], outputs, index)
        if self.only and self.only not in found:
            raise MlflowException.invalid_parameter_value(f"only={self.only!r}; needed: one of {list(found)}")
        return found[self.only] if self.only else found


def _module(path: Path, digest: str) -> Any:
    """A Python file as a module of its own: its name holds its digest, so two models of different versions do not meet."""
    name = f"nasplug_rows_{digest[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # for the type checker
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: its dataclasses look for it
        spec.loader.exec_module(module)
    return sys.modules[name]


set_model(Network())
