"""Where studies lie: a folder, or the local copy of what is in a bucket."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

__all__ = ["STUDY", "cache_folder", "home_of", "in_bucket", "place_of"]

STUDY = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # the name of a study, which is that of a folder
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")


def cache_folder() -> Path:
    """Where nasplug keeps what it can make again; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "nasplug"


def in_bucket(store: str) -> bool:
    """Whether a store is the address of a bucket (``s3://...``) and not a folder."""
    return ADDRESS.match(store) is not None


def place_of(store: str) -> str:
    """A store as it was written, if it may be one.

    Raises:
        ValueError: for an address that cannot be written to, or that holds a name or password.
    """
    if "://" not in store:
        return store
    if "@" in store or "?" in store:  # first: the other error shows it
        raise ValueError("an address with a name, password or option in it; credentials come from the environment")
    if re.match(r"(file|local)://(?!/)", store):  # nobody knows relative to what
        raise ValueError(f"{store!r} has no absolute path; needed: file:///path, or a folder's path, which may be relative")
    if not in_bucket(store) or "::" in store or store.startswith(("http://", "https://")):
        raise ValueError(f"{store!r} is no bucket; needed: the path of a folder, or an address such as s3://bucket/path")
    return store


def home_of(store: str) -> Path:
    """The folder of a store on this machine; of a bucket its copy in the user's cache folder, where studies work."""
    if not in_bucket(store):
        return Path(store).expanduser()
    return cache_folder() / "stores" / hashlib.sha256(store.rstrip("/").encode()).hexdigest()[:16]
