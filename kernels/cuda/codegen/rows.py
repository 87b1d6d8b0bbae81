"""The rows of the report: one for each kernel of each layer and target."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from cnn.kernels.cuda.codegen.launches import Work, further_kernels, training_step
from cnn.kernels.cuda.codegen.machine_code import Code, read_code
from cnn.kernels.cuda.codegen.occupancy import occupancy
from cnn.kernels.cuda.compiler import TARGETS, Binary, compile_kernel
from cnn.kernels.precision import FLOAT32
from cnn.kernels.suites import SUITES

# Each process imports Numba, which takes about as long as compiling five kernels.
MOST_WORKERS = 8


@dataclass(frozen=True)
class Row:
    """layer: "SUITE.NAME". tile: the constants that tune. shared_bytes: static. shared_loads, global_loads: bits of an
    access -> how many. occupancy: a share of the warps, limited by occupancy_limit. ffma_share, hmma_share (see
    `machine_code.Code`) and atomics: None without nvdisasm, and where the PTX has neither products nor atomics.
    """

    layer: str
    purpose: str
    kernel: str
    tile: Mapping[str, int]
    sm: int
    grid: tuple[int, ...]
    threads: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    f64_instructions: int
    local_accesses: int
    shared_loads: Mapping[int, int]
    global_loads: Mapping[int, int]
    occupancy: float
    occupancy_limit: str
    ffma_share: float | None
    hmma_share: float | None
    atomics: Mapping[str, int] | None


def kernels_of(suite: str, precision: str = FLOAT32) -> list[Work]:
    """Everything of a suite that has a kernel, every kernel of a layer once."""
    network = SUITES[suite].computed_in(precision)
    works = [*training_step(network), *further_kernels(network)]
    first = {(work.layer, id(work.kernel)): work for work in reversed(works) if work.kernel is not None}
    return [work for work in works if first.get((work.layer, id(work.kernel))) is work]


def rows(
    suites: Iterable[str],
    targets: Iterable[int],
    disassembled: Iterable[int] = TARGETS,
    precision: str = FLOAT32,
) -> list[Row]:
    """Compile what is not compiled yet, in several processes, and read the code of all of it.

    disassembled: the targets whose machine code is looked at, where nvdisasm is installed. precision: one that all
    targets serve.
    """
    targets, disassembled = tuple(targets), tuple(disassembled)
    works = [(suite, number, work) for suite in suites for number, work in enumerate(kernels_of(suite, precision))]
    tasks = {id(work.kernel): (suite, precision, number, targets, disassembled) for suite, number, work in works[::-1]}
    workers = min(os.cpu_count() or 1, MOST_WORKERS, len(tasks))
    # Not forked: the parent may have threads.
    with ProcessPoolExecutor(workers, get_context("spawn")) as processes:
        compiled = dict(zip(tasks, processes.map(_compiled, tasks.values()), strict=True))
    return [
        _row(suite, work, binary, code)
        for position in range(len(targets))
        for suite, _, work in works
        for binary, code in (compiled[id(work.kernel)][position],)
    ]


def _compiled(task: tuple[str, str, int, tuple[int, ...], tuple[int, ...]]) -> list[tuple[Binary, Code]]:
    """For each target. Kernels do not travel between processes; their place in a suite does."""
    suite, precision, number, targets, disassembled = task
    os.environ["CNN_CUDA_KEEP_PTX"] = "1"
    kernel = kernels_of(suite, precision)[number].kernel
    assert kernel is not None
    binaries = [compile_kernel(kernel, sm) for sm in targets]
    return [(binary, read_code(binary, binary.sm in disassembled)) for binary in binaries]


def _row(suite: str, work: Work, binary: Binary, code: Code) -> Row:
    launch, kernel = work.launch, work.kernel
    assert launch is not None
    assert kernel is not None
    share, limit = occupancy(binary.sm, binary.registers, binary.shared_bytes + kernel.shared_bytes, launch.block[0])
    return Row(
        layer=f"{suite}.{work.layer}",
        purpose=work.purpose,
        kernel=kernel.name,
        tile=dict(kernel.tile),
        sm=binary.sm,
        grid=launch.grid,
        threads=launch.block[0],
        registers=binary.registers,
        spill_bytes=binary.spill_bytes,
        shared_bytes=binary.shared_bytes,
        f64_instructions=code.f64_instructions,
        local_accesses=code.local_accesses,
        shared_loads=code.shared_loads,
        global_loads=code.global_loads,
        occupancy=share,
        occupancy_limit=limit,
        ffma_share=code.ffma_share,
        hmma_share=code.hmma_share,
        atomics=code.atomics,
    )
