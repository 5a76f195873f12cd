"""Which autoencoder a study searched with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nasplug_swat.autoencoder import load

__all__ = ["name"]


def name(method: Mapping[str, Any], folder: Path) -> None:
    """Write ``autoencoder.json``: the file as the study gives it, the digest of its weights, and its space.

    A study that sweeps autoencoders gets a list of them.
    """
    given = method.get("autoencoder")
    swept = next((given[key] for key in ("choice", "grid") if given.get(key)), None) if isinstance(given, Mapping) else None
    told = []
    for file in [given] if swept is None else swept:
        autoencoder = load(file)
        told.append({"autoencoder": file, "digest": autoencoder.digest, "space": autoencoder.space.model_dump(mode="json")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "autoencoder.json").write_text(json.dumps(told[0] if swept is None else told, indent=1) + "\n")
