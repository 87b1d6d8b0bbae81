"""The kernel gradient as a matrix product over overlays; the sums stand in `conv_kernel_gradient`.

Rows are filters m, columns are weights of one filter (see `conv_weights.weight_columns`), and the reduction runs over
all overlays (n, p, q). A block owns rows x columns for one long run of overlays, a thread 8 x 8 (or 4 x 4) sums in
registers. Each step brings `depth` overlays into shared memory, overlay by overlay, while the step before is
multiplied. In the end the sums go through shared memory, so that a warp adds neighbouring ones to the gradient. Blocks
of the first columns sum the bias gradient from what they have in shared memory anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_gradient_rows import row_reader
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_run_sums import run_writers
from cnn.kernels.cuda.conv_weights import weight_columns
from cnn.kernels.cuda.conv_windows import positions
from cnn.kernels.cuda.intrinsics import held, store4
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tile import add_outer, unpack, zeros


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


@cache
def overlay_sums(phase: ConvPhase, tile: Tile, deterministic: bool) -> Kernel:
    """Arguments: x, grad_output, winners, outputs, grad_weight, grad_bias, images, overlays in a run. Where
    `deterministic`, the sums of each block go to the workspace that both gradients' arguments are then.
    """
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
    SUM_LINE = COLUMNS + 4
    BUFFER = max(2 * HALF, ROWS * SUM_LINE)
    LINES = THREADS // DEPTH * 4  # rows or columns, of `DEPTH` overlays each, that the block loads at a time
    COLUMN_QUADS = -(-COLUMNS // LINES)
    COLUMN_VALUES = COLUMN_QUADS * 4
    SUMS = SIDE * SIDE
    SOURCES, TARGETS, GROUPS, ROW_TILES = phase.sources, phase.targets, phase.groups, -(-phase.targets // ROWS)
    TAPS_RIGHT = horizontal.taps
    WEIGHTS = SOURCES * phase.taps  # columns in all
    TAP_RUN = 4 if SOURCES % 4 == 0 else 1  # values that a thread loads in a row and that have one tap
    PLACES = COLUMN_VALUES // TAP_RUN
    WHOLE_COLUMNS = WEIGHTS % COLUMNS == 0 and COLUMNS % LINES == 0
    ROW_TILES_OF_ALL, COLUMN_TILES = GROUPS * ROW_TILES, -(-WEIGHTS // COLUMNS)
    TILES = ROW_TILES_OF_ALL * COLUMN_TILES
    (H, W), PIXELS = phase.source_size, phase.pixels
    PLANE = H * W
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    H_START, H_STRIDE, W_START, W_STRIDE = (
        number % 2**32 for number in (vertical.start, vertical.stride, horizontal.start, horizontal.stride)
    )
    DOWN, RIGHT = vertical.shift, horizontal.shift
    BIAS = phase.bias
    write, write_bias = run_writers(phase, ROWS, COLUMNS, deterministic)
    _, channel_of, tap_of = weight_columns(phase)
    reader = row_reader(phase, ROWS, LINES)
    plane_of, read_rows, put_rows, ROW_VALUES = reader.plane, reader.read, reader.put, reader.values
    WINNERS, OUTPUTS = (ROW_VALUES if phase.pooled else 1), (ROW_VALUES if phase.derivative else 1)
    position = positions(phase, False)

    @device
    def conv_kernel_gradient(block, arguments, shared):
        x, grad_output, winners, outputs, grad_weight, grad_bias, images, run = arguments
        # shared: two halves, of rows and then columns each
        sums = cuda.local.array(SUMS, float32)
        offset = cuda.local.array(PLACES, uint32)
        down = cuda.local.array(PLACES, uint32)
        right = cuda.local.array(PLACES, uint32)
        rows = cuda.local.array(ROW_VALUES, float32)
        winner = cuda.local.array(WINNERS, int32)
        output = cuda.local.array(OUTPUTS, float32)
        columns = cuda.local.array(COLUMN_VALUES, float32)

        thread = uint32(cuda.threadIdx.x)
        column_tile = uint32(block % uint32(COLUMN_TILES))
        row_tile = uint32(block // uint32(COLUMN_TILES) % uint32(ROW_TILES_OF_ALL))
        overlay = uint32(block // uint32(TILES) * run)  # the first of the next step
        group = row_tile // uint32(ROW_TILES)
        first_row = uint32(row_tile % uint32(ROW_TILES) * uint32(ROWS))
        first_column = uint32(column_tile * uint32(COLUMNS))
        warp, lane = thread // uint32(32), thread % uint32(32)
        row = uint32((warp % uint32(ROW_WARPS) * uint32(WARP_ROWS) + lane // uint32(WARP_COLUMNS)) * uint32(4))
        column = uint32((warp // uint32(ROW_WARPS) * uint32(WARP_COLUMNS) + lane % uint32(WARP_COLUMNS)) * uint32(4))

        # A thread loads one overlay of each step, for the rows and columns of its line.
        mine = thread % uint32(DEPTH)
        line = uint32(thread // uint32(DEPTH) * uint32(4))
        plane = held(plane_of(uint32(group * uint32(TARGETS) + first_row + line)))
        for p in range(PLACES):
            e = uint32(first_column + line + uint32(p * TAP_RUN // 4 * LINES + p * TAP_RUN % 4))
            tap = tap_of(e)
            down[p] = uint32(tap // uint32(TAPS_RIGHT) * uint32(DOWN))
            right[p] = uint32(tap % uint32(TAPS_RIGHT) * uint32(RIGHT))
            offset[p] = uint32((group * uint32(SOURCES) + channel_of(e)) * uint32(PLANE) + down[p] * uint32(W))
            offset[p] = held(uint32(offset[p] + right[p]))
            if not WHOLE_COLUMNS and (e >= uint32(WEIGHTS) or e >= uint32(first_column + uint32(COLUMNS))):
                down[p] = uint32(0x40000000)  # no column: nothing lies that far down

        left = min(run, uint32(images * uint32(PIXELS) - overlay))  # overlays that are still to be loaded
        i = j = uint32(0)  # where the overlay lies
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
                n = uint32(overlay + mine) // uint32(PIXELS)
                i, j = position(uint32(uint32(overlay + mine) % uint32(PIXELS)))
                read_rows(grad_output, winners, outputs, n, i, j, real, line, first_row, plane, rows, winner, output)
                h = uint32(i * uint32(H_STRIDE) + uint32(H_START))
                w = uint32(j * uint32(W_STRIDE) + uint32(W_START))
                at = uint32(n * uint32(GROUPS * SOURCES * PLANE) + h * uint32(W) + w)
                h = h if real else uint32(0x40000000)
                for p in range(PLACES):
                    inside = uint32(h + down[p]) < uint32(H) and uint32(w + right[p]) < uint32(W)
                    start = uint32(at + offset[p])
                    for v in range(TAP_RUN):
                        value = float32(0)
                        if inside:
                            value = x[start + uint32(v * PLANE)]
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
                if BIAS and column_tile == uint32(0) and thread < uint32(ROWS):
                    for d in range(DEPTH):
                        bias_sum += shared[uint32(full + thread) + uint32(d * A_LINE)]
            if more:
                put_rows(shared, uint32(free + mine * uint32(A_LINE) + line), line, i, j, rows, winner, output)
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
        at = uint32(row * uint32(SUM_LINE) + column)
        for r in range(SIDE):
            for c in range(0, SIDE, 4):
                place = at + uint32((r // 4 * ROW_GAP + r % 4) * SUM_LINE + c // 4 * COLUMN_GAP)
                k = r * SIDE + c
                store4(shared, place, sums[k], sums[k + 1], sums[k + 2], sums[k + 3])
        cuda.syncthreads()
        i = thread
        while i < uint32(ROWS * COLUMNS):
            m, c = uint32(i // uint32(COLUMNS)), uint32(i % uint32(COLUMNS))
            e = uint32(first_column + c)
            value = shared[uint32(m * uint32(SUM_LINE) + c)]
            write(grad_weight, block, group, first_row, m, c, channel_of(e), tap_of(e), value)
            i = uint32(i + uint32(THREADS))
        if BIAS and column_tile == uint32(0) and thread < uint32(ROWS):
            write_bias(grad_bias, block, group, first_row, thread, bias_sum)

    real = pointer(float32)
    return alone(
        "conv_kernel_gradient",
        conv_kernel_gradient,
        (real, real, pointer(int32) if phase.pooled else real, real, real, real, uint32, uint32),
        THREADS,
        {"rows": ROWS, "columns": COLUMNS, "depth": DEPTH, "side": SIDE},
        words=BUFFER,
    )
