"""What becomes of the sums of a run of overlays (see `conv_kernel_gradient`): atomics add them to the shared weights,
or they go to a workspace, and a second pass adds every weight's sums, one for each run, in their order.

The workspace holds, for each run, group, tile of rows and tile of columns, the sums of the tile, row by row, and behind
them, in as many rows more as that takes, the sums of its rows' bias gradients. For columns see
`conv_weights.weight_columns`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_weights import place_of_weight, weight_columns
from cnn.kernels.cuda.intrinsics import atomic_add

ADD_THREADS = 128


def rows_of_workspace(rows: int, columns: int) -> int:
    """For a tile of rows x columns: how many rows of `columns` numbers."""
    return rows + -(-rows // columns)


def run_writers(phase: ConvPhase, rows: int, columns: int, deterministic: bool) -> tuple[Any, Any]:
    """Device functions that write a sum of a tile of rows x columns, the last ones of which may be none.

    write(grad_weight, tile, group, first_row, row, column, channel, tap, value): row, column: in the tile, whose rows
        begin at first_row of the group. Neighbouring lanes are to have neighbouring columns
    write_bias(grad_bias, tile, group, first_row, row, value)

    The phase is that of a forward pass: filters are counted over all groups.
    """
    ROWS, COLUMNS, DETERMINISTIC = rows, columns, deterministic
    SOURCES, TARGETS = phase.sources, phase.targets
    WHOLE_ROWS = TARGETS % ROWS == 0
    TILE_ROWS = rows_of_workspace(rows, columns)
    place = place_of_weight(phase)

    @device
    def write(grad_weight, tile, group, first_row, row, column, channel, tap, value):
        m = uint32(first_row + row)
        if channel < uint32(SOURCES) and (WHOLE_ROWS or m < uint32(TARGETS)):
            if DETERMINISTIC:
                grad_weight[uint32(tile * uint32(TILE_ROWS * COLUMNS) + row * uint32(COLUMNS) + column)] = value
            else:
                k = uint32(group * uint32(TARGETS) + m)
                atomic_add(grad_weight, place(uint32(0), k, channel, tap), value)

    @device
    def write_bias(grad_bias, tile, group, first_row, row, value):
        if DETERMINISTIC:
            grad_bias[uint32((tile * uint32(TILE_ROWS) + uint32(ROWS)) * uint32(COLUMNS) + row)] = value
        elif WHOLE_ROWS or first_row + row < uint32(TARGETS):
            atomic_add(grad_bias, uint32(group * uint32(TARGETS) + first_row + row), value)

    return write, write_bias


@cache
def add_runs(phase: ConvPhase, rows: int, columns: int) -> Kernel:
    """Arguments: workspace, grad_weight, grad_bias, number of runs. rows, columns: of the tiles of sums."""
    ROWS, COLUMNS = rows, columns
    ROW_TILES, COLUMN_TILES = -(-phase.targets // ROWS), -(-phase.sources * phase.taps // COLUMNS)
    TARGETS, WEIGHTS = phase.targets, phase.sources * phase.taps
    FILTERS = phase.groups * TARGETS
    TILE_ROWS = rows_of_workspace(rows, columns)
    RUN_SUMS = phase.groups * ROW_TILES * COLUMN_TILES * TILE_ROWS * COLUMNS
    BIAS, place = phase.bias, place_of_weight(phase)
    _, channel_of, tap_of = weight_columns(phase)

    def add(workspace, grad_weight, grad_bias, runs):
        """A thread adds up one weight's sums in the order of the runs; the first threads a bias each as well."""
        i = uint32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if i < uint32(FILTERS * WEIGHTS):
            # Neighbouring threads take neighbouring columns of the workspace.
            e = i % uint32(WEIGHTS)
            k = i // uint32(WEIGHTS)
            m = k % uint32(TARGETS)
            row_tile = k // uint32(TARGETS) * uint32(ROW_TILES) + m // uint32(ROWS)
            row = (row_tile * uint32(COLUMN_TILES) + e // uint32(COLUMNS)) * uint32(TILE_ROWS) + m % uint32(ROWS)
            at = uint32(row * uint32(COLUMNS) + e % uint32(COLUMNS))
            total = float32(0)
            run = uint32(0)
            while run < runs:
                total += workspace[at]
                at = uint32(at + uint32(RUN_SUMS))
                run = uint32(run + uint32(1))
            grad_weight[place(uint32(0), k, channel_of(e), tap_of(e))] = total
        if BIAS and i < uint32(FILTERS):
            m = i % uint32(TARGETS)
            row_tile = i // uint32(TARGETS) * uint32(ROW_TILES) + m // uint32(ROWS)
            row = row_tile * uint32(COLUMN_TILES * TILE_ROWS) + uint32(ROWS)
            at = uint32(row * uint32(COLUMNS) + m % uint32(ROWS))
            total = float32(0)
            run = uint32(0)
            while run < runs:
                total += workspace[at]
                at = uint32(at + uint32(RUN_SUMS))
                run = uint32(run + uint32(1))
            grad_bias[i] = total

    real = pointer(float32)
    return Kernel("add_runs", add, (real, real, real, uint32), ADD_THREADS)
