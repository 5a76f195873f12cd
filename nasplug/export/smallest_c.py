"""How few bytes a network takes in C: of its forms ``fixed`` and ``c``, the smaller one that may be written."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nasplug.errors import ConfigError
from nasplug.export.checking import asked, export
from nasplug.export.compiling import called, compiler, figures
from nasplug.export.forms import FORMS, Network

if TYPE_CHECKING:
    from nasplug.tasks import Task

__all__ = ["maker", "measured"]

NAME = "network"
FILES = {"fixed": f"{NAME}_fixed", "c": NAME}  # form -> its header


def maker(nasplug: str) -> str:
    """The C compiler in words, and the version of nasplug.

    Raises:
        ConfigError: where there is no compiler, or no ``size``.
    """
    with tempfile.TemporaryDirectory() as there:
        told = called([compiler(), "--version"], Path(there)).stdout.decode(errors="replace")
    return f"{told.partition(chr(10))[0]}; nasplug {nasplug}"


def measured(network: Network, task: Task | None) -> tuple[float, str]:
    """Bytes of code and constants, and the form. Only the smaller one answers the task's test split, if it may be written.

    Without one: infinity, and the reasons.

    Raises:
        ConfigError: where there is no compiler, or no ``size``.
    """
    sizes: dict[str, int] = {}
    refused = []
    for form, header in FILES.items():
        with tempfile.TemporaryDirectory() as temporary:
            there = Path(temporary)
            try:
                for file, content in FORMS[form].write(network, NAME).items():
                    (there / file).write_bytes(content if isinstance(content, bytes) else content.encode())
            except ConfigError as error:
                refused.append(str(error))
                continue
            found = figures(there, header, there)
            if "flash_bytes" not in found:
                raise ConfigError(
                    "flash_bytes is what the program size says of compiled C, and there is none; install binutils"
                )
            sizes[form] = found["flash_bytes"]
    for form in sorted(sizes, key=sizes.__getitem__):
        with tempfile.TemporaryDirectory() as temporary:
            (told,) = export(network, NAME, asked(form), Path(temporary), task).forms
        if not told.refused:
            return sizes[form], form
        refused.append(told.refused)
    return math.inf, "; ".join(refused)
