"""How long a packed training step takes on the device that is here, for packs of 64 to 65,536 networks.

    PYTHONPATH=. python3 benchmarks/gpu.py [--quick] [--seconds S] [--device cpu] [--workloads ...] [--modes ...] [--sizes ...]
    PYTHONPATH=. python3 benchmarks/gpu.py --study [--quick] [--networks N]

Modes: eager, compiled, captured (a CUDA graph, as the training loop replays it), both, engine (`nasplug.engine`); to compare
with, `torch.func.vmap` and one `nn.Module` alone; and eager packs on this machine's CPU. `--study` runs a whole study of
100,000 XOR networks instead.

A step is forward, loss, L1 penalty, backward and Adam in float32. Before anything is timed, each program is compared with
float64 on the CPU over its first steps, and a wrong one ends the run with status 1. Of each pack the first and the last
networks are compared: a network's result does not depend on the others. What does not fit in memory or in the time given is
skipped and named. The last line is one JSON object.

It needs torch and what `nasplug.train` imports (`benchmarks/README.md`), no installed nasplug and no plugin; pydantic may be
missing. `--study` needs all that nasplug does, and says what is missing.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from absent import stand_in, stand_ins
from torch import Tensor

stand_in("pydantic")

from modes import MODES, OURS, PROGRAMS, Advance, UnservedError  # noqa: E402
from workloads import WORKLOADS, Workload, search  # noqa: E402

from nasplug.machine import arithmetic  # noqa: E402
from nasplug.train import State, start  # noqa: E402

SIZES = (64, 512, 4096, 16384, 65536)
QUICK_SIZES = (64, 512)
SECONDS, QUICK_SECONDS = 200.0, 45.0

CHECKED_STEPS = 5
CAPTURED_STEPS = 8  # the first few of them are not replayed yet
CHECKED_ROWS = 4  # at either end of a pack
TOLERANCE = 1e-3  # of how far the parameters moved; float32 gives 1e-6 to 1e-4, a wrong leaf or row 0.1 and more
TF32_TOLERANCE = 0.1  # its products have 10 bits; what they cost is what is reported

ROUND_SECONDS = 0.1
MOST_STEPS = 100_000  # in a round
MOST_SHARE = 0.2  # of the time given, for one program
CPU_SIZE, CPU_SECONDS = 512, 8.0  # of the packs on the CPU that a GPU is compared with
NEEDED = (
    "pydantic", "pluggy", "yaml", "numpy", "pandas", "pyarrow", "safetensors", "sklearn", "matplotlib", "optuna", "rich",
    "click", "nasplug_edges", "nasplug_regularizers", "nasplug_discretizers",
)  # fmt: skip

FIRST_COMPILATION = 15.0  # seconds, before any was timed

H100 = "H100 SXM, 3.35 TB/s"
H100_BANDWIDTH = 3.35e12  # bytes per second
H100_ARITHMETIC = 67e12  # float32 operations per second
STATE_BYTES = 4 * 6  # per parameter and step: weight and two moments, read and written once


@dataclass(frozen=True)
class Program:
    """What is timed: a workload in one mode for one size of pack."""

    work: Workload
    mode: str
    k: int

    def __str__(self) -> str:
        return f"{self.work.name}, {self.mode}, K = {self.k}"


@dataclass
class Figures:
    """What was found, each ``{workload: {mode: {K: value}}}``."""

    ns: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    deviation: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    peak: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    compile_seconds: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    skipped: dict[str, dict[str, dict[int, str]]] = field(default_factory=dict)


def put(table: dict[str, dict[str, dict[int, Any]]], program: Program, value: float | str) -> None:
    rounded = value if isinstance(value, str) else float(f"{value:.4g}")
    table.setdefault(program.work.name, {}).setdefault(program.mode, {})[program.k] = rounded


def packed(work: Workload, seeds: Tensor, dtype: torch.dtype, mode: str) -> tuple[State, Advance]:
    """Where the networks of these seeds begin, and what makes steps of all of them."""
    plan = search(work, seeds, dtype)
    state = start(plan)
    return state, PROGRAMS[mode](work, plan, state)


def deviation(program: Program, state: State, once: Advance) -> float:
    """How far the first steps are from float64 on the CPU: the worst of the losses (relative) and of the leaves.

    Of a leaf it is the mean distance in units of the mean way that its numbers went. A mean, since a gradient that is 0 but for
    rounding may send one number the other way: Adam's first steps are of one length, however small the gradient.
    """
    k = program.k
    rows = torch.tensor(sorted({*range(min(k, CHECKED_ROWS)), *range(max(0, k - CHECKED_ROWS), k)}))
    steps = CAPTURED_STEPS if "captured" in program.mode else CHECKED_STEPS
    true_state, true_once = packed(program.work, rows, torch.float64, "eager")
    begun = {name: p.clone() for name, p in true_state.params.items()}
    found = []
    for _ in range(steps):
        loss, true_loss = once().cpu()[rows].double(), true_once()
        found.append(((loss - true_loss) / true_loss).abs().max())
    for name, true in true_state.params.items():
        off, moved = (state.params[name].cpu()[rows].double() - true).abs(), (true - begun[name]).abs()
        found.append(off.mean() / moved.mean())
    return float(torch.stack(found).max())  # NaN if one of them is


def compare(program: Program, state: State, once: Advance) -> float:
    """`deviation`, and the end of the run where it is too large."""
    off = deviation(program, state, once)
    tf32 = torch.get_float32_matmul_precision() != "highest"
    most = TF32_TOLERANCE if tf32 else TOLERANCE
    if not off <= most:
        raise SystemExit(
            f"{program}: after {CHECKED_STEPS} steps the networks are {off:.2g} from float64 on the CPU, in units of the way "
            f"that they went; at most {most:g} is {'TF32' if tf32 else 'float32'}. Nothing is timed that is wrong"
        )
    return off


def nanoseconds(program: Program, once: Advance, device: torch.device, rounds: int) -> float:
    """Per network and step: the median of some rounds, each of many steps and waited for."""

    def took(steps: int) -> float:
        synchronize(device)
        began = time.perf_counter()
        once(steps)
        synchronize(device)
        return (time.perf_counter() - began) / steps

    steps, each = 1, took(1)
    while 2 * steps * each < ROUND_SECONDS and steps < MOST_STEPS:  # a launch has a cost of its own, which one step shows alone
        steps = min(max(2 * steps, int(ROUND_SECONDS / each)), MOST_STEPS)
        each = took(steps)
    return 1e9 * statistics.median(took(steps) for _ in range(rounds)) / program.k


def synchronize(device: torch.device) -> None:
    """A GPU works behind the back of Python: wait for it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parameters(work: Workload) -> int:
    """Of one network."""
    state, _ = packed(work, torch.zeros(1, dtype=torch.long), torch.float32, "eager")
    return sum(p[0].numel() for p in state.params.values())


def limit_ns(work: Workload) -> float:
    """Nanoseconds in which an H100's memory gives and takes a network's weights and moments once."""
    return 1e9 * STATE_BYTES * parameters(work) / H100_BANDWIDTH


def arithmetic_ns(work: Workload) -> float:
    """Nanoseconds of an H100's float32 arithmetic: a layer's product, and of its backward pass both, the first layer's one."""
    layers = enumerate(zip(work.widths, work.widths[1:], strict=False))
    operations = sum((6 if number else 4) * work.samples * source * to for number, (source, to) in layers)
    return 1e9 * operations / H100_ARITHMETIC


def least_ns(work: Workload) -> float:
    """No step is shorter, if weights and moments go through the memory of an H100."""
    return max(limit_ns(work), arithmetic_ns(work))


def held_bytes(program: Program) -> int:
    """What an eager step holds at most: measured on a CPU it is 77 to 99 % of this."""
    work = program.work
    copies = 10 if work.mixture else 4  # of the activations: sums, values of each candidate, their products, gradients
    return 4 * program.k * (8 * parameters(work) + copies * work.samples * sum(work.widths[1:]))


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes free and in all."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def compiling_seconds(figures: Figures) -> float:
    """The longest so far."""
    before = [s for modes in figures.compile_seconds.values() for sizes in modes.values() for s in sizes.values()]
    return max(before, default=FIRST_COMPILATION)


def stepping_seconds(program: Program, figures: Figures, rounds: int) -> float:
    """By what the same workload took so far; its first program is taken for quick."""
    times = figures.ns.get(program.work.name, {})
    known = times.get(program.mode, {}) | times.get("eager", {})  # eager times are the longer ones
    nearest = min(known, key=lambda k: abs(k - program.k), default=None)
    once = 0.0 if nearest is None else 1e-9 * program.k * known[nearest]
    return (CHECKED_STEPS + 1) * once + rounds * max(ROUND_SECONDS, once)


def reason_to_skip(program: Program, figures: Figures, device: torch.device, rounds: int, seconds: float, left: float) -> str:
    """Why not to try it, or nothing. A GPU's allocator refuses by itself; without memory a process on the CPU is killed."""
    free, needed = memory(device)[0], held_bytes(program)
    if device.type == "cpu" and needed > free / 2:  # the other half is for whoever else works here
        return f"memory: about {needed / 2**30:.1f} GiB, more than half of the {free / 2**30:.1f} that are free"
    expected = stepping_seconds(program, figures, rounds)
    if expected > MOST_SHARE * seconds:
        return f"time: its steps take about {expected:.0f} s, more than one program's share of {seconds:.0f} s"
    if program.mode == "engine" or "compiled" in program.mode:
        expected += compiling_seconds(figures)
    if expected > left:
        return f"time: about {expected:.0f} s, and {max(left, 0.0):.0f} of {seconds:.0f} s are left"
    return ""


def run(program: Program, figures: Figures, device: torch.device, rounds: int) -> str:
    """Compare and time one program; why that was not possible, or nothing."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        began = time.perf_counter()
        state, once = packed(program.work, torch.arange(program.k, device=device), torch.float32, program.mode)
        with warnings.catch_warnings():
            # Else eager steps would go by that name.
            warnings.filterwarnings("error", message="torch cannot compile|steps cannot be captured")
            off = compare(program, state, once)
        if program.mode == "engine" or "compiled" in program.mode:
            put(figures.compile_seconds, program, time.perf_counter() - began)
        ns = nanoseconds(program, once, device, rounds)
    except torch.OutOfMemoryError:
        return f"memory: the device has not enough of its {memory(device)[1] / 2**30:.1f} GiB"
    except (UnservedError, UserWarning) as reason:
        return str(reason)
    put(figures.deviation, program, off)
    put(figures.ns, program, ns)
    if device.type == "cuda":
        put(figures.peak, program, torch.cuda.max_memory_allocated(device))
    return ""


def programs(works: Sequence[Workload], modes: Sequence[str], sizes: Sequence[int]) -> Iterator[Program]:
    """Eager first: it is quick and tells how long the rest takes. Then the others, large packs first: they matter most."""
    for mode in sorted(modes, key=MODES.index):
        for k in [1] if mode == "alone" else sorted(sizes, reverse=mode != "eager"):
            for work in works:
                yield Program(work, mode, k)


def name_of(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, one thread"


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [work.name for work in WORKLOADS]
    parser.add_argument("--study", action="store_true", help="a whole study of XOR networks with its report instead")
    parser.add_argument("--networks", type=int, help="of the study; 100,000, quick 2,000")
    parser.add_argument("--tf32", action="store_true", help="products of a GPU with 10 bits (`train.allow_tf32`)")
    parser.add_argument("--quick", action="store_true", help="two sizes, under a minute also on a busy CPU")
    parser.add_argument("--seconds", type=float, help=f"what the run may take; {SECONDS:g}, quick {QUICK_SECONDS:g}")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: the GPU where there is one")
    parser.add_argument("--workloads", nargs="+", choices=names, default=names)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--sizes", nargs="+", type=int, help=f"networks in a pack; {SIZES}, quick {QUICK_SIZES}")
    given = parser.parse_args(arguments)
    given.seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    given.sizes = given.sizes or (QUICK_SIZES if given.quick else SIZES)
    if min(given.sizes) < 1:
        parser.error(f"--sizes {min(given.sizes)}: a pack has one network at least")
    return given


def measure(given: argparse.Namespace, device: torch.device, began: float) -> Figures:
    """All programs that there is time and memory for."""
    figures, rounds = Figures(), 3 if given.quick else 5
    works = [work for work in WORKLOADS if work.name in given.workloads]
    for work in works:
        program = Program(work, "eager", min(given.sizes))
        off = compare(program, *packed(work, torch.arange(program.k, device=device), torch.float32, "eager"))
        print(f"{program}: {off:.1e} from float64", flush=True)
    for program in programs(works, given.modes, given.sizes):
        left = given.seconds - (time.perf_counter() - began)
        why = reason_to_skip(program, figures, device, rounds, given.seconds, left) or run(program, figures, device, rounds)
        if why:
            put(figures.skipped, program, why)
            print(f"{program}: skipped ({why})", flush=True)
            continue
        ns = figures.ns[program.work.name][program.mode][program.k]
        share = least_ns(program.work) / ns
        print(f"{program}: {ns:.4g} ns per network and step, {100 * share:.2g} % of the limit of an H100", flush=True)
    return figures


def beside(given: argparse.Namespace, began: float) -> dict[str, float]:
    """Eager packs on this machine's CPU, one thread: nanoseconds per network and step, as far as there is time."""
    cpu, figures, found = torch.device("cpu"), Figures(), {}
    for work in WORKLOADS:
        program = Program(work, "eager", CPU_SIZE)
        there_is_time = given.seconds - (time.perf_counter() - began) > CPU_SECONDS
        if work.name in given.workloads and there_is_time and not run(program, figures, cpu, 1):
            found[work.name] = figures.ns[work.name]["eager"][CPU_SIZE]
            print(f"{program}, on the CPU: {found[work.name]:.4g} ns per network and step", flush=True)
    return found


def studied(given: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The figures of a whole study, from start to report, in a process of its own.

    Raises:
        SystemExit: naming what is not installed.
    """
    if missing := [name for name in NEEDED if name in stand_ins() or importlib.util.find_spec(name) is None]:
        raise SystemExit(
            f"--study runs a whole study, and {', '.join(missing)} cannot be imported; pip install . and the plugins "
            "(README.md). Without --study, nothing of this is needed"
        )
    import scale

    networks = given.networks or (2_000 if given.quick else 100_000)
    steps = 100 if given.quick else 1500
    figures = scale.study(networks, steps, runner="serial", device=device.type, allow_tf32=given.tf32)
    whole = {"seconds_100k": figures["seconds"]} if device.type == "cuda" and figures["networks"] == 100_000 else {}
    return {"device": name_of(device), "torch": torch.__version__, "quick": given.quick, "tf32": given.tf32, **figures, **whole}


def main(arguments: Sequence[str] | None = None) -> None:
    began = time.perf_counter()
    given = options(arguments)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if given.device == "auto" else given.device)
    print(f"{name_of(device)}, torch {torch.__version__}", flush=True)
    if given.study:
        print(json.dumps(studied(given, device)))
        return
    with arithmetic(threads=1, device=device.type, tf32=given.tf32):  # as packs compute
        figures = measure(given, device, began)
        cpu = beside(given, began) if device.type == "cuda" else {}
    works = [work for work in WORKLOADS if work.name in given.workloads]
    limits, least = ({work.name: of(work) for work in works} for of in (limit_ns, least_ns))
    ours = {name: [ns for mode in OURS for ns in modes.get(mode, {}).values()] for name, modes in figures.ns.items()}
    shares = {
        name: {mode: {k: float(f"{least[name] / ns:.4g}") for k, ns in sizes.items()} for mode, sizes in modes.items()}
        for name, modes in figures.ns.items()
    }
    found = {
        "device": name_of(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "quick": given.quick,
        "tf32": given.tf32,
        "ns_per_network_step": figures.ns,
        "limit": {
            "device": H100,
            "ns": {name: round(ns, 3) for name, ns in limits.items()},
            "arithmetic_ns": {work.name: round(arithmetic_ns(work), 3) for work in works},
            "fraction": shares,
        },
        "best_ns": {name: min(found) for name, found in ours.items() if found},
        "cpu_ns": cpu,
        "memory_bytes": memory(device)[1],
        "peak_bytes": figures.peak if device.type == "cuda" else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "from_float64": figures.deviation,
        "compile_seconds": figures.compile_seconds,
        "skipped": figures.skipped,
        "seconds": round(time.perf_counter() - began, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
