"""The second pass of the deterministic kernel gradient: every weight's sums, one for each run, added in their order.

The workspace holds, for each run, group, tile of rows and tile of columns, the sums of the tile, row by row, and behind
them the sums of its rows' bias gradients (see `conv_kernel_gradient`).
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase

ADD_THREADS = 128


@cache
def add_runs(phase: ConvPhase, rows: int, columns: int) -> Kernel:
    """Arguments: workspace, grad_weight, grad_bias, number of runs. rows, columns: of the tiles of sums."""
    ROWS, COLUMNS = rows, columns
    ROW_TILES, COLUMN_TILES = -(-phase.targets // ROWS), -(-phase.sources * phase.taps // COLUMNS)
    SOURCES, TARGETS, TAPS = phase.sources, phase.targets, phase.taps
    WEIGHTS = SOURCES * TAPS
    FILTERS = phase.groups * TARGETS
    BLOCK_SUMS = ROWS * COLUMNS + ROWS
    RUN_SUMS = phase.groups * ROW_TILES * COLUMN_TILES * BLOCK_SUMS
    FLIPPED, BIAS = phase.flipped, phase.bias

    def add(workspace, grad_weight, grad_bias, runs):
        """A thread adds up one weight's sums in the order of the runs; the first threads a bias each as well."""
        i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if i < uint32(FILTERS * WEIGHTS):
            # Neighbouring threads take neighbouring columns of the workspace: [filter][tap][channel].
            e = i % uint32(WEIGHTS)
            k = i // uint32(WEIGHTS)
            m = k % uint32(TARGETS)
            row_tile = k // uint32(TARGETS) * uint32(ROW_TILES) + m // uint32(ROWS)
            at = uint32((row_tile * uint32(COLUMN_TILES) + e // uint32(COLUMNS)) * uint32(BLOCK_SUMS))
            at = uint32(at + m % uint32(ROWS) * uint32(COLUMNS) + e % uint32(COLUMNS))
            total = float32(0)
            run = uint32(0)
            while run < runs:
                total += workspace[at]
                at = uint32(at + uint32(RUN_SUMS))
                run = uint32(run + uint32(1))
            tap = e // uint32(SOURCES)
            if FLIPPED:
                tap = uint32(uint32(TAPS - 1) - tap)
            grad_weight[uint32((k * uint32(SOURCES) + e % uint32(SOURCES)) * uint32(TAPS) + tap)] = total
        if BIAS and i < uint32(FILTERS):
            m = i % uint32(TARGETS)
            row_tile = i // uint32(TARGETS) * uint32(ROW_TILES) + m // uint32(ROWS)
            at = uint32(row_tile * uint32(COLUMN_TILES * BLOCK_SUMS) + uint32(ROWS * COLUMNS) + m % uint32(ROWS))
            total = float32(0)
            run = uint32(0)
            while run < runs:
                total += workspace[at]
                at = uint32(at + uint32(RUN_SUMS))
                run = uint32(run + uint32(1))
            grad_bias[i] = total

    real = pointer(float32)
    return Kernel("add_runs", add, (real, real, real, uint32), ADD_THREADS)
