"""`estimate`: the table of `conv` for GPUs that nobody here has. Estimates, never measurements.

With the emulator ptxsim: the least that a GPU's units allow for what ptxsim counted in the compiled kernels of a pass,
and that memory allows for the compulsory bytes; without latency, occupancy or cache misses. Without ptxsim, from the
machine code alone: the lower bound, stretched by the share of the hottest loop's instructions that are multiply-adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.counts import compulsory_bytes, flops
from benchmarks.errors import BenchmarkError
from benchmarks.numbers import geometric_mean, time
from benchmarks.shapes import FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT, Case
from benchmarks.tables import Table
from benchmarks.telling import tell
from cnn.kernels.precision import FLOAT32

HEADING = "ESTIMATES, NOT MEASUREMENTS: nothing here was timed on a GPU"

# Blocks of a grid that are emulated; they do alike, and stand for the rest.
BLOCKS = 8

# The target whose kernels are counted: ptxsim's GPUs differ in their units, not in the code they are given.
SM = 90

MEMORY = "dram"  # ptxsim's word


@dataclass(frozen=True)
class Gpu:
    """Of the maker's data sheets, as in ptxsim. flops: of float32, a second. bytes: of the memory, a second."""

    name: str
    sm: int
    flops: float
    bytes: float


# Multiprocessors x lanes x 2 x boost clock; NVIDIA's white papers of Hopper, Ampere, Ada and Turing.
GPUS = (
    Gpu("H100", 90, 132 * 128 * 2 * 1.755e9, 3.35e12),
    Gpu("A100", 80, 108 * 64 * 2 * 1.41e9, 2.039e12),
    Gpu("RTX4090", 89, 128 * 128 * 2 * 2.52e9, 1.008e12),
    Gpu("T4", 75, 40 * 64 * 2 * 1.59e9, 0.32e12),
)


@dataclass(frozen=True)
class Estimate:
    """Of one pass on one GPU, in seconds. seconds: None where nothing is known but the bound."""

    case: Case
    purpose: str
    gpu: str
    lower_bound: float
    seconds: float | None
    bound_by: str = ""


def lower_bound(case: Case, purpose: str, gpu: Gpu) -> float:
    """Seconds for the arithmetic, or to move each number that takes part once, whichever is longer."""
    return max(flops(case) / gpu.flops, compulsory_bytes(case, purpose) / gpu.bytes)


def check(what: str = "estimates") -> None:
    """Raises `BenchmarkError` where not even code can be generated."""
    if find_spec("numba_cuda") is None:
        raise BenchmarkError(f"{what} are of compiled CUDA kernels: pip install 'numba-cnn[cu13]' (no GPU is needed)")


def is_emulated() -> bool:
    """Whether ptxsim can be imported."""
    return find_spec("ptxsim") is not None


def estimates(cases: Sequence[Case], precision: str = FLOAT32) -> Iterator[Estimate]:
    emulated = is_emulated()
    if not emulated:
        tell("ptxsim is not on PYTHONPATH: estimates from the machine code alone")
    for case in cases:
        tell(f"{case.name} {case.shape}")
        for purpose in case.passes:
            yield from (counted if emulated else _from_code)(case, purpose, precision)


def tables(found: Sequence[Estimate]) -> list[Table]:
    lines: dict[tuple[str, str], list[str]] = {}
    for each in found:
        line = lines.setdefault((each.case.name, each.purpose), [each.case.name, each.purpose])
        if each.seconds is None:
            line += ["-", time(each.lower_bound), "-", ""]
        else:
            ratio = each.seconds / each.lower_bound
            line += [time(each.seconds), time(each.lower_bound), f"{ratio:.2f}", each.bound_by]
    columns = ["layer", "pass"]
    for gpu in GPUS:
        columns += [f"{gpu.name} ESTIMATE", "lower bound", "ratio", "bound by"]
    means = [
        f"{gpu.name} {geometric_mean(ratios):.2f}"
        for gpu in GPUS
        if (ratios := [e.seconds / e.lower_bound for e in found if e.gpu == gpu.name and e.seconds is not None])
    ]
    notes = [
        f"{HEADING}. They are optimistic: latency, occupancy and cache misses are left out, and real GPUs take longer.",
        "lower bound: of 2 N K P Q C R S operations and of the compulsory bytes at the peaks of the data sheets: "
        + ", ".join(f"{gpu.name} {gpu.flops / 1e12:.1f} TFLOP/s and {gpu.bytes / 1e12:.2f} TB/s" for gpu in GPUS)
        + f". Kernels compiled for sm_{SM}.",
    ]
    if means:
        notes.append(f"Geometric means of estimate / lower bound: {', '.join(means)}.")
    return [Table(HEADING, tuple(columns), list(lines.values()), tuple(notes))]


def counted(case: Case, purpose: str, precision: str = FLOAT32) -> Iterator[Estimate]:
    """With ptxsim: an estimate for each GPU."""
    from cnn.kernels.cuda.codegen.estimate import run

    reports = [run(*call, blocks=BLOCKS, check=False) for call in calls(case, purpose, precision)]
    for gpu in GPUS:
        # A few blocks stand for the grid, and what they share would be counted anew for each: not so the memory's part.
        parts = [dict(report.estimate(gpu.name).terms) for report in reports]
        for terms in parts:
            del terms[MEMORY]
        longest = max(parts, key=lambda terms: max(terms.values()))
        units, memory = sum(max(terms.values()) for terms in parts), compulsory_bytes(case, purpose) / gpu.bytes
        bound_by = MEMORY if memory > units else max(longest, key=lambda unit: longest[unit])
        yield Estimate(case, purpose, gpu.name, lower_bound(case, purpose, gpu), max(units, memory), bound_by)


def _from_code(case: Case, purpose: str, precision: str) -> Iterator[Estimate]:
    from cnn.kernels.cuda.codegen.machine_code import read_code
    from cnn.kernels.cuda.compiler import compile_kernel

    codes = [read_code(compile_kernel(launch.kernel, SM), True) for launch, _ in calls(case, purpose, precision)]
    shares = [code.ffma_share for code in codes if code.ffma_share]
    for gpu in GPUS:
        bound = lower_bound(case, purpose, gpu)
        arithmetic = flops(case) / gpu.flops / min(shares) if shares else None
        seconds = None if arithmetic is None else max(bound, arithmetic)
        by = "" if seconds is None else (MEMORY if seconds == bound else "issue")
        yield Estimate(case, purpose, gpu.name, bound, seconds, by)


def calls(case: Case, purpose: str, precision: str = FLOAT32) -> list[Any]:
    """The launches of a pass with their arguments, in order."""
    from cnn.kernels.cuda.codegen import estimate

    geometry = case.geometry
    x, y, weight, bias = (
        np.ones(shape, np.float32)
        for shape in (geometry.x_shape, geometry.y_shape, geometry.weight_shape, geometry.filters)
    )
    if purpose == FORWARD:
        return estimate.forward_calls(geometry, x, weight, bias if case.bias else None, y, precision)
    if purpose == INPUT_GRADIENT:
        return estimate.input_gradient_calls(geometry, y, weight, x, precision)
    assert purpose == KERNEL_GRADIENT
    return estimate.kernel_gradient_calls(geometry, x, y, weight, bias, False, precision)
