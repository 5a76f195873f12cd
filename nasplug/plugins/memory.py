"""The last listing, kept beside what it was made from, so that showing it need not import every plugin.

It is one file of plain data in the user's cache folder, which may be deleted at any time. It is shown only while every file
that was imported to make it, and every folder that is searched for packages, is what it was; a listing with a broken plugin
is never kept, as what broke it may lie elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from nasplug.places import cache_folder
from nasplug.plugins.defects import ONLY, SKIP, Owner

__all__ = ["recall", "remember"]

MOST_FILES = 20_000


def _place() -> Path:
    return cache_folder() / "plugins.json"


def _stamp(path: str) -> list[int] | None:
    """When it was changed, and its size; None where it is gone."""
    try:
        found = os.stat(path or ".")
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def _setting(owners: Iterable[Owner]) -> dict[str, Any]:
    """What decides which plugins are found, and where."""
    return {
        "nasplug": metadata.version("nasplug"),
        "python": sys.version,
        "folders": [[folder, _stamp(folder)] for folder in sys.path],
        "environment": {name: os.environ.get(name) for name in (ONLY, SKIP)},
        "plugins": [[o.plugin, o.distribution, o.version] for o in owners],
    }


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def recall(owners: Iterable[Owner]) -> dict[str, Any] | None:
    """The listing that was kept for these plugins; None where there is none, or anything has changed since."""
    try:
        kept = json.loads(_place().read_text(encoding="utf-8"))
        body = kept["body"]
        good = (
            kept["sha256"] == _digest(body)
            and body["setting"] == _setting(owners)
            and all(_stamp(path) == stamp for path, stamp in body["files"].items())
        )
        return dict(body["listing"]) if good else None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None  # no file, or not one of ours: plugins are loaded, and it is written again


def _files(packages: Iterable[str]) -> dict[str, list[int] | None]:
    """Every file that is imported now (the standard library's belong to its version), and all that lies in the packages."""
    found: dict[str, list[int] | None] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] not in sys.stdlib_module_names and os.path.isabs(file):
            found[file] = _stamp(file)
    for package in packages:
        for root in getattr(sys.modules.get(package), "__path__", ()):
            for folder, folders, files in os.walk(root):
                folders[:] = [name for name in folders if name != "__pycache__"]
                found.update({path: _stamp(path) for path in (folder, *(os.path.join(folder, file) for file in files))})
                if len(found) > MOST_FILES:
                    return found
    return found


def remember(listing: Mapping[str, Any], owners: Iterable[Owner], packages: Iterable[str], since: int) -> None:
    """Keep a listing that was made from what is imported now.

    Args:
        listing: plain data.
        owners: the plugins that are installed.
        packages: the top-level packages of the plugins.
        since: nanoseconds of the clock when loading began: a file that changed later may have been read before.
    """
    files = _files(packages)
    changed = any(stamp is None or (stamp[0] >= since and not os.path.isdir(path)) for path, stamp in files.items())
    if changed or len(files) > MOST_FILES:
        return
    body = {"setting": _setting(owners), "files": files, "listing": listing}
    from nasplug.files import beside  # with torch, which the plugins have imported by now and `recall` does without

    place = _place()
    with suppress(OSError):  # no place to keep it: then the plugins are loaded every time
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside(place) as there:
            there.write_text(json.dumps({"sha256": _digest(body), "body": body}), encoding="utf-8")
