"""Compiles the engine's kernel for a GPU that need not be here; one line of JSON with what the assembler says of each case.

python tests/compiled_ahead.py [sm, 90 by default]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import triton
from interpreted import CASES, PENALTIES, Case, begun, made
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nasplug.engine import Canonical, canonical
from nasplug.engine.kernel import many_steps
from nasplug.engine.launching import compiled_in
from nasplug.tasks import CrossEntropy
from nasplug.train import Batches
from nasplug_regularizers import l1

COUNTS = {"steps", "rows", "batch", "x_row", "y_row", "weights_row"}
NUMBERS = {"delta", "smooth", "limit"}
SM = 90  # Hopper
AHEAD = {
    "xor": Case(hidden=(4,), samples=4, penalties=(l1(),)),
    "breast_cancer": Case(inputs=30, hidden=(32,), outputs=2, samples=64, penalties=(l1(),)),
    "two layers of 32": Case(inputs=32, hidden=(32, 32), outputs=1, samples=64, penalties=(l1(),)),
    "one layer of 64": Case(inputs=64, hidden=(64,), outputs=10, samples=64, loss=CrossEntropy(), penalties=(l1(),)),
    "two layers of 64": Case(inputs=64, hidden=(64, 64), outputs=10, samples=64, loss=CrossEntropy(), penalties=(l1(),)),
    "everything": replace(CASES["zeros"], hidden=(3, 3), clip=1.0, weights="own", batch=3, penalties=PENALTIES[1:]),
}


def compiled(case: Case) -> dict[str, Any]:
    """Registers, bytes of the stack (what was spilled is there), bytes of shared memory and warps of a case."""
    search = made(case)
    plan = canonical(search, begun(case, search).params)
    assert isinstance(plan, Canonical), plan
    fixed, warps = compiled_in(plan, search, Batches(search.task.train, search.batch, 0))
    types = {
        name: "constexpr" if name in fixed else "i32" if name in COUNTS else "fp32" if name in NUMBERS else "*fp32"
        for name in many_steps.arg_names
    } | {"order": "*i32"}
    options = {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": True}
    made_ = triton.compile(ASTSource(many_steps, types, constexprs=fixed), target=GPUTarget("cuda", SM, 32), options=options)
    found = {"warps": warps, "shared": made_.metadata.shared}
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made_.asm["cubin"])
        file.flush()
        told = subprocess.run([str(tool), "-res-usage", file.name], capture_output=True, text=True, check=False)
    for name, number in re.findall(r"\b(REG|STACK):(\d+)", told.stdout + told.stderr):
        found[{"REG": "registers", "STACK": "stack"}[name]] = int(number)
    return found


if __name__ == "__main__":
    print(json.dumps({name: compiled(AHEAD[name]) for name in sys.argv[1:] or AHEAD}))
