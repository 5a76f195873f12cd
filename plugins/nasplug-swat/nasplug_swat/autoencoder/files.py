"""Autoencoders as files: one safetensors file per autoencoder, and those that come with the package."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nasplug.errors import ConfigError
from nasplug.files import beside
from nasplug_swat.autoencoder.model import Autoencoder, Size, made
from nasplug_swat.autoencoder.sampling import Sampling
from nasplug_swat.autoencoder.space import Space

__all__ = ["load", "read", "save", "shipped"]

FORMAT = "nasplug.swat/1"
USUAL = "paper-7x64"


def save(autoencoder: Autoencoder, path: Path) -> None:
    """Write one safetensors file, whole or not at all: weights in float32, and as metadata all that is needed to use them."""
    told = {
        "format": FORMAT,
        "space": autoencoder.space.model_dump_json(),
        "size": autoencoder.size.model_dump_json(),
        "sampling": autoencoder.sampling.model_dump_json(),
        "digest": autoencoder.digest,
        "nasplug-swat": metadata.version("nasplug-swat"),
        "about": json.dumps(dict(autoencoder.about)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: w.detach().cpu().float().contiguous().clone() for name, w in autoencoder.weights.items()}
    with beside(path, durable=True) as there:
        save_file(weights, there, metadata=told)


def read(path: Path) -> Autoencoder:
    """The autoencoder in a file that `save` wrote.

    Raises:
        ConfigError: for a file that is missing, broken, of another format, or whose weights are not the ones it was saved with.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read as an autoencoder ({error}); give a file that training wrote") from error
    if told.get("format") != FORMAT:
        raise ConfigError(f"{path}: format {told.get('format')!r}; needed: {FORMAT!r}. Give a file that training wrote")
    try:
        space, size = Space.model_validate_json(told["space"]), Size.model_validate_json(told["size"])
        sampling, about = Sampling.model_validate_json(told["sampling"]), json.loads(told["about"])
    except (LookupError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path}: its description is broken ({error}); give a file that training wrote") from error
    found = made(weights, space, size, sampling, about)
    if found.digest != told.get("digest"):
        raise ConfigError(f"{path}: its weights are not the ones it was saved with (digest {found.digest[:12]}); get it anew")
    return found


@lru_cache(maxsize=8)
def _cached(path: Path, changed: int) -> Autoencoder:
    return read(path)


def shipped() -> dict[str, Path]:
    """The files that come with the package, by name; `USUAL` is the paper's space with a latent as large as 7 x 64."""
    folder = Path(str(resources.files("nasplug_swat") / "trained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def load(name: str | None, where: str = "swat") -> Autoencoder:
    """The autoencoder of that name that comes along (None: `USUAL`), or at that path; read once while its file does not change.

    Raises:
        ConfigError: as `read`.
    """
    file = shipped().get(name or USUAL, Path(name or USUAL).expanduser())
    try:
        return _cached(file, file.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(
            f"{where}: autoencoder {file}: {error.strerror}; give the path of a file that training wrote, or the name of one "
            f"that comes along: {', '.join(shipped())}"
        ) from None
