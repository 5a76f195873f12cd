"""Runs a C header: compiles it, feeds rows to it, checks its test vectors, and measures what it takes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasplug.data.encoder import Array
from nasplug.errors import ConfigError
from nasplug.export.program import Program, Ran
from nasplug.records import answers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["called", "compiled", "compiler", "figures"]

SECONDS = 120  # of a compilation or run
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
SMALL = ("-Os", "-fno-asynchronous-unwind-tables", "-fno-math-errno")
CALLS = 20_000  # that are timed, at least

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "{name}.h"

int main(int count, char **words) {{
  const long rows = count > 1 ? atol(words[1]) : 0, columns = {columns}, outputs = {outputs} + 1;
  double *in = calloc((size_t)(rows * columns) + 1, sizeof(double));
  double *out = calloc((size_t)(rows * outputs) + 1, sizeof(double));
  if (!in || !out || fread(in, sizeof(double), (size_t)(rows * columns), stdin) != (size_t)(rows * columns)) return 2;
  long calls = 0;
  const clock_t start = clock();
  do {{
    for (long at = 0; at < rows; at++) {{
      const double *v = in + at * columns;
      {name}_row row;
      (void)v;
      {call}
      for (long o = 0; o + 1 < outputs; o++) out[at * outputs + o] = (double)y[o];
      out[at * outputs + outputs - 1] = (double)({label});
    }}
    calls += rows;
  }} while (calls < {calls});
  fprintf(stderr, "%.6g", 1e6 * (double)(clock() - start) / CLOCKS_PER_SEC / (double)calls);
  fwrite(out, sizeof(double), (size_t)(rows * outputs), stdout);
  return 0;
}}
"""


def compiler() -> str:
    """The C compiler of this machine.

    Raises:
        ConfigError: where there is none.
    """
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        raise ConfigError("c and fixed are compiled before they are written, and there is no gcc or cc; install one")
    return found


def called(words: list[str], folder: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program that ran to its end in a folder.

    Raises:
        ConfigError: where it cannot be started, fails, or takes too long.
    """
    name, pipe = Path(words[0]).name, subprocess.PIPE
    try:  # in a session of its own: a compiler is several processes, and all of them must end with it
        process = subprocess.Popen(words, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    except OSError as error:
        raise ConfigError(f"{name}: {str(error)[:300]}") from None
    with process:
        try:
            out, told = process.communicate(given, SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise ConfigError(f"{name} was not done after {SECONDS} s: the network is too large for one function") from None
    if process.returncode:
        raise ConfigError(f"{name} ended with {process.returncode}: {(told or out).decode(errors='replace')[:500]}")
    return subprocess.CompletedProcess(words, 0, out, told)


def compiled(folder: Path, made: Program, name: str, call: str, given: str, rows: Array, index: pd.Index[Any]) -> Ran:
    """The answers of the header ``NAME.h`` in a folder to rows of numbers ``(N, C)``; ``call``: from ``v`` to ``y``.

    ``given``: what its function for the label takes, ``y`` or ``z``; it must say the label of the answers.

    Figures: ``flash_bytes`` is code and constants of the header with ``-Os`` (without what it calls in the C library),
    ``ram_bytes`` its variables and the stack of its own function, both for this machine.

    Raises:
        ConfigError: without a compiler, where it refuses the header, and where the test vectors fail.
    """
    cc, outputs, label = compiler(), len(made.outputs), f"{name}_label({given})" if made.labels else "0"
    with tempfile.TemporaryDirectory() as temporary:
        there = Path(temporary)
        driver = DRIVER.format(name=name, columns=rows.shape[1], outputs=outputs, call=call, label=label, calls=CALLS)
        (there / "driver.c").write_text(driver, encoding="utf-8")
        here = str(folder.absolute())
        called([cc, *STRICT, "-O2", "-I", here, "driver.c", "-o", "driver", "-lm"], there)
        called([cc, *STRICT, "-O2", f"{here}/{name}_test.c", "-o", "vectors", "-lm"], there)
        called([str(there / "vectors")], there)
        done = called([str(there / "driver"), str(len(rows))], there, np.ascontiguousarray(rows, dtype=np.float64).tobytes())
        told_of = figures(folder, name, there)
    found = np.frombuffer(done.stdout, dtype=np.float64).reshape(len(rows), outputs + 1).copy()
    told = answers(made.record, found[:, :-1], index)
    if made.labels and (told["label"].to_numpy() != np.array(made.labels, dtype=object)[found[:, -1].astype(int)]).any():
        raise ConfigError(f"{name}_label says another label than the answers")
    return Ran(told, float(done.stderr or b"nan"), told_of)


def figures(folder: Path, name: str, there: Path) -> dict[str, int]:
    """What ``size`` and the compiler say of the header ``NAME.h`` in a folder, compiled in ``there``; nothing without ``size``.

    Raises:
        ConfigError: without a compiler, and where it refuses the header.
    """
    (there / "alone.c").write_text(f'#define {name.upper()}_API\n#include "{name}.h"\n', encoding="utf-8")
    options = ["-std=c99", *SMALL, "-fstack-usage", "-I", str(folder.absolute()), "-c", "alone.c", "-o", "alone.o"]
    called([compiler(), *options], there)
    if shutil.which("size") is None:
        return {}
    lines = called(["size", "alone.o"], there).stdout.decode().splitlines()
    text, data, bss = map(int, lines[1].split()[:3])
    usage = there / "alone.su"
    stacks = [int(n) for n in re.findall(r"\t(\d+)\t", usage.read_text(encoding="utf-8"))] if usage.exists() else []
    return {"flash_bytes": text + data, "ram_bytes": data + bss + max(stacks, default=0)}
