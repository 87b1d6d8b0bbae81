"""The kernel gradient: the correlation of the input with the output gradient, summed over every overlay.

    grad_weight[g, m, c, r, s] = sum over n, p, q of grad_output[n, g, m, p, q] * x[n, g, c, h(p) + r dh, w(q) + s dw]
    grad_bias[g, m]            = sum over n, p, q of grad_output[n, g, m, p, q]

As a matrix product: rows are filters m, columns are weights of one filter (tap outside, channel inside), and the
reduction runs over all overlays (n, p, q). A block owns rows x columns of it for one long run of overlays, a thread
8 x 8 (or 4 x 4) sums in registers. Each step brings `depth` overlays into shared memory, overlay by overlay, while the
step before is multiplied. At the end of its run a block adds its sums to the shared weights with atomics; there are as
many runs as fill a GPU. Blocks of the first columns sum the bias gradient from what they have in shared memory anyway.

deterministic=True: every block writes its sums to a workspace instead, and a second kernel adds them run by run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase, check_sizes, forward_phase
from cnn.kernels.cuda.conv_run_sums import ADD_THREADS, add_runs
from cnn.kernels.cuda.intrinsics import atomic_add, held, store4
from cnn.kernels.cuda.launch import Launch, aligned
from cnn.kernels.cuda.tile import add_outer, unpack, zeros
from cnn.kernels.geometry import ConvGeometry

# Blocks that give each of 132 multiprocessors four; more runs would only add atomics.
FULL_GRID = 528

# Overlays in a run, at least: the sums of a block must be worth the atomics that add them.
SHORTEST_RUN = 64


@dataclass(frozen=True)
class Tile:
    """rows x columns of a block, depth of a step, and side of a thread's square of sums."""

    rows: int
    columns: int
    depth: int
    side: int

    @property
    def threads(self) -> int:
        return self.rows * self.columns // self.side**2


@dataclass(frozen=True)
class Plan:
    """gradient: arguments x, grad_output, grad_weight, grad_bias, overlays, length of a run. With a workspace in place
    of both gradients where `deterministic`; add: arguments workspace, grad_weight, grad_bias, runs.
    """

    gradient: Launch
    run: int
    runs: int
    workspace: int  # elements, 0 where atomics are used
    add: Launch | None


def conv_kernel_gradient(
    x: Any, grad_output: Any, geometry: ConvGeometry, deterministic: bool, out: Any, grad_bias: Any = None
) -> None:
    check_sizes("conv_kernel_gradient", geometry.x_shape, geometry.y_shape, geometry.weight_shape)
    phase = forward_phase(geometry, grad_bias is not None, None)
    plan_ = plan(phase, geometry.batch, deterministic)
    x, grad_output = aligned(x), aligned(grad_output)
    bias = out if grad_bias is None else grad_bias  # an address that is never used
    overlays = np.uint32(geometry.batch * phase.pixels)
    if plan_.add is None:
        out.fill(0)
        if grad_bias is not None:
            grad_bias.fill(0)
        plan_.gradient(x, grad_output, out, bias, overlays, np.uint32(plan_.run))
    else:
        workspace = buffers.empty(max(plan_.workspace, 1), np.float32, like=x)
        plan_.gradient(x, grad_output, workspace, workspace, overlays, np.uint32(plan_.run))
        plan_.add(workspace, out, bias, np.uint32(plan_.runs))


def plan(phase: ConvPhase, images: int, deterministic: bool, tile: Tile | None = None) -> Plan:
    """The launches for `images` images, with the tile that `choose_tile` picks where none is given."""
    tile = tile or choose_tile(phase)
    row_tiles, column_tiles = -(-phase.targets // tile.rows), -(-phase.sources * phase.taps // tile.columns)
    tiles = phase.groups * row_tiles * column_tiles
    overlays = images * phase.pixels
    wanted = 2 if SIMULATED else max(FULL_GRID // tiles, 1)
    run = -(-max(-(-overlays // wanted), SHORTEST_RUN) // tile.depth) * tile.depth
    runs = -(-overlays // run)
    kernel = _gradient(phase, tile, deterministic)
    block_sums = tile.rows * tile.columns + tile.rows  # the bias gradient's behind the others
    weights = phase.groups * phase.targets * phase.sources * phase.taps
    return Plan(
        gradient=Launch(kernel, (runs, column_tiles, phase.groups * row_tiles), (tile.threads,)),
        run=run,
        runs=runs,
        workspace=runs * tiles * block_sums if deterministic else 0,
        add=Launch(add_runs(phase, tile.rows, tile.columns), (-(-weights // ADD_THREADS),), (ADD_THREADS,))
        if deterministic
        else None,
    )


def choose_tile(phase: ConvPhase) -> Tile:
    """The tile that costs least for all rows x columns: 4 x 4 sums a thread cost half as much again as 8 x 8 each."""
    if SIMULATED:
        return Tile(16, 32, 8, 4)
    if phase.targets <= 16:
        return Tile(16, 32, 16, 4)
    columns = phase.sources * phase.taps
    if phase.targets <= 32:
        tiles = [Tile(32, 64, 16, 8), Tile(32, 32, 16, 4)]
    else:
        tiles = [Tile(64, 96, 16, 8), Tile(64, 64, 16, 8)]
    return min(tiles, key=lambda tile: -(-columns // tile.columns) * tile.columns * (2 if tile.side == 8 else 3))


def _tap_run(sources: int, columns: int, lines: int) -> int:
    """How many of the values that a thread loads in a row belong to one tap, whichever its column is.

    Tiles and taps both begin at multiples of their common divisor.
    """
    common = math.gcd(sources, columns)
    if common % lines == 0:
        return common // lines * 4
    return 4 if sources % 4 == 0 else 1


@cache
def _gradient(phase: ConvPhase, tile: Tile, deterministic: bool) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    ROWS, COLUMNS, DEPTH, SIDE, THREADS = tile.rows, tile.columns, tile.depth, tile.side, tile.threads
    # A warp is 8 x 4 threads, or as many rows of threads as the block has.
    WARP_ROWS = min(8, ROWS // SIDE)
    WARP_COLUMNS = 32 // WARP_ROWS
    ROW_WARPS = ROWS // SIDE // WARP_ROWS
    ROW_GAP, COLUMN_GAP = ROWS * 4 // SIDE, COLUMNS * 4 // SIDE
    # Four words more than a line needs: neighbouring overlays then lie in different banks.
    A_LINE, B_LINE = ROWS + 4, COLUMNS + 4
    B_START, HALF = DEPTH * A_LINE, DEPTH * (A_LINE + B_LINE)
    BUFFER = 2 * HALF
    LINES = THREADS // DEPTH * 4  # rows or columns, of `DEPTH` overlays each, that the block loads at a time
    ROW_QUADS, COLUMN_QUADS = -(-ROWS // LINES), -(-COLUMNS // LINES)
    ROW_VALUES, COLUMN_VALUES = ROW_QUADS * 4, COLUMN_QUADS * 4
    SUMS = SIDE * SIDE
    SOURCES, TARGETS, GROUPS, ROW_TILES = phase.sources, phase.targets, phase.groups, -(-phase.targets // ROWS)
    TAPS, TAPS_RIGHT = phase.taps, horizontal.taps
    WEIGHTS = SOURCES * TAPS  # columns in all
    TAP_RUN = _tap_run(SOURCES, COLUMNS, LINES)
    PLACES = COLUMN_VALUES // TAP_RUN
    WHOLE_ROWS, WHOLE_ROW_LINES = phase.targets % ROWS == 0, ROWS % LINES == 0
    WHOLE_COLUMNS = WEIGHTS % COLUMNS == 0 and COLUMNS % LINES == 0
    (H, W), PIXELS, Q = phase.source_size, phase.pixels, horizontal.size
    PLANE = H * W
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    H_START, H_STRIDE, W_START, W_STRIDE = (
        number % 2**32 for number in (vertical.start, vertical.stride, horizontal.start, horizontal.stride)
    )
    DOWN, RIGHT = vertical.shift, horizontal.shift
    FLIPPED, BIAS, DETERMINISTIC = phase.flipped, phase.bias, deterministic
    BLOCK_SUMS = ROWS * COLUMNS + ROWS

    def conv_kernel_gradient(x, grad_output, grad_weight, grad_bias, overlays, run):
        shared = cuda.shared.array(BUFFER, float32, alignment=ALIGNMENT)  # two halves, of rows and then columns each
        sums = cuda.local.array(SUMS, float32)
        offset = cuda.local.array(PLACES, uint32)
        down = cuda.local.array(PLACES, uint32)
        right = cuda.local.array(PLACES, uint32)
        rows = cuda.local.array(ROW_VALUES, float32)
        columns = cuda.local.array(COLUMN_VALUES, float32)

        thread = uint32(cuda.threadIdx.x)
        group = uint32(cuda.blockIdx.z) // uint32(ROW_TILES)
        first_row = uint32(uint32(cuda.blockIdx.z) % uint32(ROW_TILES) * uint32(ROWS))
        first_column = uint32(uint32(cuda.blockIdx.y) * uint32(COLUMNS))
        warp, lane = thread // uint32(32), thread % uint32(32)
        row = uint32((warp % uint32(ROW_WARPS) * uint32(WARP_ROWS) + lane // uint32(WARP_COLUMNS)) * uint32(4))
        column = uint32((warp // uint32(ROW_WARPS) * uint32(WARP_COLUMNS) + lane % uint32(WARP_COLUMNS)) * uint32(4))

        # A thread loads one overlay of each step, for the rows and columns of its line.
        mine = thread % uint32(DEPTH)
        line = uint32(thread // uint32(DEPTH) * uint32(4))
        rows_at = held(uint32((group * uint32(TARGETS) + first_row + line) * uint32(PIXELS)))
        for p in range(PLACES):
            e = uint32(first_column + line + uint32(p * TAP_RUN // 4 * LINES + p * TAP_RUN % 4))
            tap = e // uint32(SOURCES)
            down[p] = uint32(tap // uint32(TAPS_RIGHT) * uint32(DOWN))
            right[p] = uint32(tap % uint32(TAPS_RIGHT) * uint32(RIGHT))
            offset[p] = uint32((group * uint32(SOURCES) + e % uint32(SOURCES)) * uint32(PLANE) + down[p] * uint32(W))
            offset[p] = held(uint32(offset[p] + right[p]))
            if not WHOLE_COLUMNS and (e >= uint32(WEIGHTS) or e >= uint32(first_column + uint32(COLUMNS))):
                down[p] = uint32(0x40000000)  # no column: nothing lies that far down

        overlay = uint32(cuda.blockIdx.x * run + mine)
        left = min(run, uint32(overlays - cuda.blockIdx.x * run))  # overlays that are still to be loaded
        bias_sum = float32(0)
        tile = zeros(SIDE, SIDE)
        free = uint32(0)  # the half that the next step goes to
        started = False
        more = True
        while more:
            more = left > uint32(0)
            if more:
                # Bring the next step into registers; the product below hides how long that takes. Constants are added
                # to addresses in 64 bits, where they become part of the load.
                real = mine < left
                n = overlay // uint32(PIXELS)
                pixel = overlay % uint32(PIXELS)
                at = uint32(n * uint32(GROUPS * TARGETS * PIXELS) + pixel + rows_at)
                for v in range(ROW_VALUES):
                    m = uint32(line + uint32(v // 4 * LINES + (0 if WHOLE_ROWS else v % 4)))
                    inside = real and (WHOLE_ROW_LINES or m < uint32(ROWS))
                    value = float32(0)
                    if inside and (WHOLE_ROWS or uint32(first_row + m) < uint32(TARGETS)):
                        value = grad_output[at + uint32((v // 4 * LINES + v % 4) * PIXELS)]
                    rows[v] = value
                h = uint32(pixel // uint32(Q) * uint32(H_STRIDE) + uint32(H_START))
                w = uint32(pixel % uint32(Q) * uint32(W_STRIDE) + uint32(W_START))
                at = uint32(n * uint32(GROUPS * SOURCES * PLANE) + h * uint32(W) + w)
                h = h if real else uint32(0x40000000)
                for p in range(PLACES):
                    inside = uint32(h + down[p]) < uint32(H) and uint32(w + right[p]) < uint32(W)
                    start = uint32(at + offset[p])
                    for v in range(TAP_RUN):
                        value = float32(0)
                        if inside:
                            value = x[start + uint32((v // 4 * LINES + v % 4) * PLANE)]
                        columns[p * TAP_RUN + v] = value
                overlay = uint32(overlay + uint32(DEPTH))
                left = uint32(left - min(left, uint32(DEPTH)))
            if started:
                full = uint32(uint32(HALF) - free)
                tile = add_outer(
                    tile,
                    shared,
                    uint32(full + row),
                    ROW_GAP,
                    A_LINE,
                    shared,
                    uint32(full + uint32(B_START) + column),
                    COLUMN_GAP,
                    B_LINE,
                    DEPTH,
                )
                if BIAS and cuda.blockIdx.y == uint32(0) and thread < uint32(ROWS):
                    for d in range(DEPTH):
                        bias_sum += shared[uint32(full + thread) + uint32(d * A_LINE)]
            if more:
                at = uint32(free + mine * uint32(A_LINE) + line)
                for q in range(ROW_QUADS):
                    if WHOLE_ROW_LINES or uint32(line + uint32(q * LINES)) < uint32(ROWS):
                        place = at + uint32(q * LINES)
                        store4(shared, place, rows[q * 4], rows[q * 4 + 1], rows[q * 4 + 2], rows[q * 4 + 3])
                at = uint32(free + uint32(B_START) + mine * uint32(B_LINE) + line)
                for q in range(COLUMN_QUADS):
                    if WHOLE_COLUMNS or uint32(line + uint32(q * LINES)) < uint32(COLUMNS):
                        place = at + uint32(q * LINES)
                        quad = columns[q * 4], columns[q * 4 + 1], columns[q * 4 + 2], columns[q * 4 + 3]
                        store4(shared, place, quad[0], quad[1], quad[2], quad[3])
            cuda.syncthreads()
            free = uint32(uint32(HALF) - free)
            started = True

        unpack(tile, sums)
        block = uint32((cuda.blockIdx.x * cuda.gridDim.z + cuda.blockIdx.z) * cuda.gridDim.y + cuda.blockIdx.y)
        for r in range(SIDE):
            m = uint32(row + uint32(r // 4 * ROW_GAP + r % 4))
            for c in range(SIDE):
                e = uint32(column + uint32(c // 4 * COLUMN_GAP + c % 4))
                if DETERMINISTIC:
                    grad_weight[uint32(block * uint32(BLOCK_SUMS) + m * uint32(COLUMNS) + e)] = sums[r * SIDE + c]
                else:
                    e = uint32(first_column + e)
                    if e < uint32(WEIGHTS) and (WHOLE_ROWS or first_row + m < uint32(TARGETS)):
                        tap = e // uint32(SOURCES)
                        if FLIPPED:
                            tap = uint32(uint32(TAPS - 1) - tap)
                        at = (group * uint32(TARGETS) + first_row + m) * uint32(SOURCES) + e % uint32(SOURCES)
                        atomic_add(grad_weight, uint32(at * uint32(TAPS) + tap), sums[r * SIDE + c])
        if BIAS and cuda.blockIdx.y == uint32(0) and thread < uint32(ROWS):
            if DETERMINISTIC:
                grad_bias[uint32(block * uint32(BLOCK_SUMS) + uint32(ROWS * COLUMNS) + thread)] = bias_sum
            elif first_row + thread < uint32(TARGETS):
                atomic_add(grad_bias, uint32(group * uint32(TARGETS) + first_row + thread), bias_sum)

    real = pointer(float32)
    return Kernel(
        "conv_kernel_gradient",
        conv_kernel_gradient,
        (real, real, real, real, uint32, uint32),
        THREADS,
        {"rows": ROWS, "columns": COLUMNS, "depth": DEPTH, "side": SIDE},
    )
