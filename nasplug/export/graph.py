"""The form ``pt2``: the network as a graph of torch, which loads without nasplug and takes encoded features."""

from __future__ import annotations

import io
import time
from pathlib import Path

import torch

from nasplug import compact
from nasplug.compact import CompactNetwork
from nasplug.ensemble import Ensemble
from nasplug.errors import ConfigError
from nasplug.export.program import Ran
from nasplug.records import answers

__all__ = ["run", "written"]


def written(network: CompactNetwork | Ensemble, name: str) -> dict[str, bytes]:
    """The file, by its name.

    Raises:
        ConfigError: for functions that `torch.export` cannot trace.
    """
    into = io.BytesIO()
    try:
        torch.export.save(compact.export(network, torch.zeros(3, network.record["inputs"], dtype=torch.float64)), into)
    except RuntimeError as error:
        raise ConfigError(f"pt2: torch.export cannot trace it: {str(error)[:300]}") from None
    return {f"{name}.pt2": into.getvalue()}


def run(folder: Path, network: CompactNetwork | Ensemble, name: str, features: torch.Tensor) -> Ran:
    """The answers of the file itself to features ``(N, I)``."""
    module = torch.export.load(folder / f"{name}.pt2").module()
    with torch.no_grad():
        module(features[:1])
        start = time.perf_counter()
        outputs = module(features)
        seconds = time.perf_counter() - start
    first = network if isinstance(network, CompactNetwork) else next(iter(network.members))
    assert isinstance(first, CompactNetwork)  # for the type checker
    return Ran(answers(first.record, outputs.double().numpy()), 1e6 * seconds / len(features))
