"""The convolution of forward pass and input gradient as an implicit matrix product of weights and overlays.

The sum stands in `conv_phase`. Rows of the product are the target's channels of one group, columns its pixels
(n, i, j), and the reduction runs over taps outside and channels inside: an address then moves by a constant, and one
padding test serves a whole step of `depth` channels.

A block owns rows x columns of the product, a thread 8 x 8 (or 4 x 4) of them in registers, a warp 4 x 8 threads. Each
step brings `depth` channels of one tap into shared memory, while the step before is multiplied from the other half of
it. Weights come packed, tile by tile as blocks read them (`conv_pack`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import writer
from cnn.kernels.cuda.conv_windows import positions
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tile import add_outer, unpack, zeros
from cnn.kernels.cuda.tile_table import Choice, choose, layer_of

# Blocks that nearly fill 132 multiprocessors twice over; with fewer, half as wide tiles make more of them.
FULL_GRID = 256

# With fewer blocks than multiprocessors, quarters of them, whose threads have a quarter of the sums: so few warps could
# not hide what a step waits for.
FEW_BLOCKS = 132


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

    @property
    def min_blocks(self) -> int:
        """Of 128 threads a multiprocessor takes four, if the compiler is told to keep them to 128 registers: steps of 8
        do with that. Else it takes three, and a layer of 512 blocks (cifar-cnn's second) a quarter longer on an H100.
        """
        return 4 if self.threads == 128 and self.depth == 8 else 1


def plan(phase: ConvPhase, images: int, tile: Tile) -> Launch:
    """Arguments: source, winners, outputs, packed weights, bias, inputs, target, places, images.

    See `conv_forward.arguments` for what they are. The sources are read as they are: winners and outputs stand for
    nothing.
    """
    return Launch(_product(phase, tile), (_blocks(phase, images, tile),), (tile.threads,))


def choose_tile(phase: ConvPhase, images: int) -> Tile:
    return choose(tiles(phase, images))


def tiles(phase: ConvPhase, images: int) -> Choice[Tile]:
    """The rule: as many rows as there are targets to fill them, wide while the grid fills a large GPU twice, and small
    where it would not fill one once.
    """
    # Twice the depth halves what steps cost beside their products; the widest tile has no registers for it.
    depth = 16 if phase.sources % 16 == 0 else 8
    if SIMULATED:
        wide = narrow = Tile(16, 32, 4, 4)
    elif phase.targets <= 16:
        wide = narrow = Tile(16, 64, 8, 4)
    elif phase.targets <= 32:
        wide, narrow = Tile(32, 256, 8, 8), Tile(32, 128, depth, 8)
    else:
        wide, narrow = Tile(64, 128, depth, 8), Tile(64, 64, depth, 8)
    small = narrow if SIMULATED else Tile(16, 64, depth, 4)
    rule = wide
    if _blocks(phase, images, wide) < FULL_GRID:
        rule = narrow if _blocks(phase, images, narrow) >= FEW_BLOCKS else small
    others = (replace(tile, depth=deep) for tile in (wide, narrow, small) for deep in (8, depth))
    return Choice("conv_product", layer_of(phase, images), tuple(dict.fromkeys((rule, *others))))


def _blocks(phase: ConvPhase, images: int, tile: Tile) -> int:
    return -(-images * phase.pixels // tile.columns) * phase.groups * -(-phase.targets // tile.rows)


def _steps(phase: ConvPhase, tile: Tile) -> int:
    return phase.taps * -(-phase.sources // tile.depth)


@cache
def _product(phase: ConvPhase, tile: Tile) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    ROWS, COLUMNS, DEPTH, SIDE, THREADS = tile.rows, tile.columns, tile.depth, tile.side, tile.threads
    # A warp is 4 x 8 threads, or as many rows of threads as the block has.
    WARP_ROWS = min(4, ROWS // SIDE)
    WARP_COLUMNS = 32 // WARP_ROWS
    ROW_WARPS = ROWS // SIDE // WARP_ROWS
    ROW_GAP, COLUMN_GAP = ROWS * 4 // SIDE, COLUMNS * 4 // SIDE
    OWN = COLUMNS // THREADS  # pixels whose source a thread loads
    QUADS = -(-DEPTH * ROWS // 4 // THREADS)  # 128-bit loads of weights of a thread
    TILE_WEIGHTS = DEPTH * ROWS
    STEPS, CHUNKS = _steps(phase, tile), -(-phase.sources // DEPTH)
    SUMS, RUNS = SIDE * SIDE, SIDE // 4
    HALF = DEPTH * (ROWS + COLUMNS)
    BUFFER = 2 * HALF
    OWN_VALUES, QUAD_VALUES = OWN * DEPTH, QUADS * 4
    WHOLE_CHUNKS, WHOLE_ROWS = phase.sources % DEPTH == 0, phase.targets % ROWS == 0
    SOURCES, TARGETS, GROUPS, ROW_TILES = phase.sources, phase.targets, phase.groups, -(-phase.targets // ROWS)
    ALL_ROW_TILES = GROUPS * ROW_TILES
    PIXELS, (H, W) = phase.pixels, phase.source_size
    PLANE = H * W
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    H_START, H_STRIDE, W_START, W_STRIDE = (
        number % 2**32 for number in (vertical.start, vertical.stride, horizontal.start, horizontal.stride)
    )
    DOWN, RIGHT, TAPS_RIGHT = vertical.shift % 2**32, horizontal.shift % 2**32, horizontal.taps
    BIAS = phase.bias
    position, write = positions(phase, phase.pooled), writer(phase)

    @device
    def conv_product(block, arguments):
        source, _winners, _outputs, weights, bias, inputs, target, places, images = arguments
        shared = cuda.shared.array(BUFFER, float32, alignment=ALIGNMENT)  # two halves, of weights and then source each
        sums = cuda.local.array(SUMS, float32)
        top = cuda.local.array(OWN, uint32)
        left = cuda.local.array(OWN, uint32)
        base = cuda.local.array(OWN, uint32)
        values = cuda.local.array(OWN_VALUES, float32)
        quads = cuda.local.array(QUAD_VALUES, float32)

        pixels = uint32(images * uint32(PIXELS))
        thread = uint32(cuda.threadIdx.x)
        rows_of_tile = uint32(block % uint32(ALL_ROW_TILES))
        group = rows_of_tile // uint32(ROW_TILES)
        row_tile = rows_of_tile % uint32(ROW_TILES)
        column_tile = uint32(block // uint32(ALL_ROW_TILES) * uint32(COLUMNS))
        warp, lane = thread // uint32(32), thread % uint32(32)
        row = (warp % uint32(ROW_WARPS) * uint32(WARP_ROWS) + lane // uint32(WARP_COLUMNS)) * uint32(4)
        column = (warp // uint32(ROW_WARPS) * uint32(WARP_COLUMNS) + lane % uint32(WARP_COLUMNS)) * uint32(4)

        for o in range(OWN):
            pixel = column_tile + thread + uint32(o * THREADS)
            n = pixel // uint32(PIXELS)
            i, j = position(uint32(pixel % uint32(PIXELS)))
            base[o] = ((n * uint32(GROUPS) + group) * uint32(SOURCES)) * uint32(PLANE)
            # A pixel beyond the last one starts where no tap comes back into the plane.
            top[o] = i * uint32(H_STRIDE) + uint32(H_START) if pixel < pixels else uint32(0x40000000)
            left[o] = j * uint32(W_STRIDE) + uint32(W_START)
        quad = uint32(thread * uint32(4))
        weight_at = uint32(rows_of_tile * uint32(STEPS * TILE_WEIGHTS) + quad)

        tile = zeros(SIDE, SIDE)
        chunk = uint32(0)
        tap_right = uint32(0)
        down = uint32(0)  # of the tap, in rows of the source
        right = uint32(0)
        free = uint32(0)  # the half that the next step goes to
        step = uint32(0)
        while step <= uint32(STEPS):
            if step < uint32(STEPS):
                # Bring the next step into registers; the product below hides how long that takes.
                for o in range(OWN):
                    h, w = uint32(top[o] + down), uint32(left[o] + right)
                    inside = h < uint32(H) and w < uint32(W)
                    at = uint32(base[o] + h * uint32(W) + w + chunk * uint32(DEPTH * PLANE))
                    for k in range(DEPTH):
                        value = float32(0)
                        if inside and (WHOLE_CHUNKS or chunk * uint32(DEPTH) + uint32(k) < uint32(SOURCES)):
                            value = source[at + uint32(k * PLANE)]
                        values[o * DEPTH + k] = value
                for q in range(QUADS):
                    if uint32(quad + uint32(q * THREADS * 4)) < uint32(TILE_WEIGHTS):
                        e, f, g, h = load4(weights, weight_at + uint32(q * THREADS * 4))
                        quads[q * 4] = e
                        quads[q * 4 + 1] = f
                        quads[q * 4 + 2] = g
                        quads[q * 4 + 3] = h
                weight_at = uint32(weight_at + uint32(TILE_WEIGHTS))
                chunk = uint32(chunk + uint32(1))
                if chunk == uint32(CHUNKS):
                    chunk = uint32(0)
                    tap_right = uint32(tap_right + uint32(1))
                    right = uint32(right + uint32(RIGHT))
                    if tap_right == uint32(TAPS_RIGHT):
                        tap_right = uint32(0)
                        right = uint32(0)
                        down = uint32(down + uint32(DOWN))
            if step > uint32(0):
                full = uint32(uint32(HALF) - free)
                tile = add_outer(
                    tile,
                    shared,
                    uint32(full + row),
                    ROW_GAP,
                    ROWS,
                    shared,
                    uint32(full + uint32(DEPTH * ROWS) + column),
                    COLUMN_GAP,
                    COLUMNS,
                    DEPTH,
                )
            if step < uint32(STEPS):
                at = uint32(free + uint32(DEPTH * ROWS) + thread)
                for o in range(OWN):
                    for k in range(DEPTH):
                        shared[at + uint32(k * COLUMNS + o * THREADS)] = values[o * DEPTH + k]
                for q in range(QUADS):
                    if uint32(quad + uint32(q * THREADS * 4)) < uint32(TILE_WEIGHTS):
                        at = uint32(free + quad) + uint32(q * THREADS * 4)
                        store4(shared, at, quads[q * 4], quads[q * 4 + 1], quads[q * 4 + 2], quads[q * 4 + 3])
            cuda.syncthreads()
            free = uint32(uint32(HALF) - free)
            step = uint32(step + uint32(1))

        unpack(tile, sums)
        for run in range(RUNS):
            for r in range(4):
                m = row_tile * uint32(ROWS) + row + uint32(run * ROW_GAP + r)
                if WHOLE_ROWS or m < uint32(TARGETS):
                    channel = uint32(group * uint32(TARGETS) + m)
                    shift = float32(0)
                    if BIAS:
                        shift = bias[channel]
                    for side in range(RUNS):
                        first = uint32(column_tile + column + uint32(side * COLUMN_GAP))
                        e = (run * 4 + r) * SIDE + side * 4
                        write(target, places, inputs, sums, e, shift, channel, first, pixels)

    real = pointer(float32)
    return alone(
        "conv_product",
        conv_product,
        (*(real,) * 7, pointer(int32) if phase.pooled else real, uint32),
        THREADS,
        {"rows": ROWS, "columns": COLUMNS, "depth": DEPTH, "side": SIDE},
        tile.min_blocks,
    )
