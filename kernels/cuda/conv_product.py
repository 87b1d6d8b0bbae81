"""The convolution of forward pass and input gradient as an implicit matrix product of weights and overlays.

The sum stands in `conv_phase`. Rows of the product are the target's channels of one group, columns its pixels
(n, i, j), and the reduction runs over taps outside and channels inside: an address then moves by a constant, and one
padding test serves a whole step of `depth` channels.

A block owns rows x columns of the product, a thread 8 x 8 (or 4 x 4) of them in registers, a warp 4 x 8 threads. Each
step brings `depth` channels of one tap into shared memory, while the step before is multiplied from the other half of
it. Weights come packed, tile by tile as blocks read them (`conv_pack`).

Where there are too few blocks to fill a GPU, parts of a block divide the steps between them, each with warps and shared
memory of its own: a multiprocessor then has warps enough to hide what a step waits for. In the end the first part adds
up the sums of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import writer
from cnn.kernels.cuda.conv_windows import positions
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tile import add_outer, unpack, zeros
from cnn.kernels.cuda.tile_table import Choice, choose, layer_of

# Blocks that nearly fill 132 multiprocessors twice over; that fill them; and of which most have one.
FULL_GRID, ONE_EACH, MOST = 256, 132, 100


@dataclass(frozen=True)
class Tile:
    """rows x columns of a block, depth of a step, side of a thread's square of sums, parts that divide the steps."""

    rows: int
    columns: int
    depth: int
    side: int
    parts: int = 1

    @property
    def threads(self) -> int:
        return self.parts * self.threads_of_part

    @property
    def threads_of_part(self) -> int:
        return self.rows * self.columns // self.side**2

    @property
    def words(self) -> int:
        """In shared memory: two halves of steps for each part, and in the end the sums of all but the first."""
        steps = 2 * self.depth * (self.rows + self.columns)
        return max(self.parts * steps, (self.parts - 1) * self.rows * self.columns)

    @property
    def min_blocks(self) -> int:
        """Of 128 threads a multiprocessor takes four, if the compiler is told to keep them to 128 registers: steps of 8
        do with that. Else it takes three, and a layer of 512 blocks (cifar-cnn's second) a quarter longer on an H100.
        """
        return 4 if self.threads == 128 and self.depth == 8 and self.parts == 1 else 1


def plan(phase: ConvPhase, images: int, tile: Tile) -> Launch:
    """Arguments: source, winners, outputs, packed weights, bias, inputs, target, places, images.

    See `conv_forward.arguments` for what they are. The sources are read as they are: winners and outputs stand for
    nothing.
    """
    return Launch(_product(phase, tile), (_blocks(phase, images, tile),), (tile.threads,))


def choose_tile(phases: Sequence[ConvPhase], images: int) -> Tile:
    return choose(tiles(phases, images))


def tiles(phases: Sequence[ConvPhase], images: int) -> Choice[Tile]:
    """The rule: as many rows as there are targets to fill them, wide while the grid fills a large GPU twice. Smaller
    ones leave multiprocessors with few warps, so that parts divide their steps: on an H100 that took a fifth off narrow
    tiles, and a third off those of grids that would not fill it once.

    phases: that are computed in one launch, the longest first; the others fill the gaps that it leaves.
    """
    phase = phases[0]
    # Twice the depth halves what steps cost beside their products; the widest tile has no registers for it.
    depth = 16 if phase.sources % 16 == 0 else 8
    little = Tile(16, 64, depth, 4, 4)
    narrow = Tile(32, 128, depth, 8, 2) if phase.targets <= 32 else Tile(64, 64, depth, 8, 2)
    wide = Tile(32, 256, 8, 8) if phase.targets <= 32 else Tile(64, 128, depth, 8)
    least = {wide: FULL_GRID, narrow: ONE_EACH, Tile(32, 64, depth, 8, 4): MOST, little: 0}
    if phase.targets <= 16:
        least = {replace(little, parts=1): FULL_GRID, little: 0}
    if SIMULATED:
        least = {Tile(16, 32, 4, 4, 2): 0}
    rule = next(tile for tile in least if _blocks(phase, images, tile) >= least[tile])
    possible = [rule, *least]
    if not SIMULATED:
        possible += [replace(tile, depth=8) for tile in least] + [replace(narrow, parts=1)] * (phase.targets > 16)
    return Choice("conv_product", layer_of(phase, images, len(phases)), tuple(dict.fromkeys(possible)))


def _blocks(phase: ConvPhase, images: int, tile: Tile) -> int:
    return -(-images * phase.pixels // tile.columns) * phase.groups * -(-phase.targets // tile.rows)


def _steps(phase: ConvPhase, tile: Tile) -> int:
    return phase.taps * -(-phase.sources // tile.depth)


@cache
def _product(phase: ConvPhase, tile: Tile) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    ROWS, COLUMNS, DEPTH, SIDE = tile.rows, tile.columns, tile.depth, tile.side
    PARTS, THREADS = tile.parts, tile.threads_of_part
    # A warp is 4 x 8 threads, or as many rows of threads as the block has.
    WARP_ROWS = min(4, ROWS // SIDE)
    WARP_COLUMNS = 32 // WARP_ROWS
    ROW_WARPS = ROWS // SIDE // WARP_ROWS
    ROW_GAP, COLUMN_GAP = ROWS * 4 // SIDE, COLUMNS * 4 // SIDE
    OWN = COLUMNS // THREADS  # pixels whose source a thread loads
    QUADS = -(-DEPTH * ROWS // 4 // THREADS)  # 128-bit loads of weights of a thread
    TILE_WEIGHTS = DEPTH * ROWS
    STEPS, CHUNKS = _steps(phase, tile), -(-phase.sources // DEPTH)
    PART_STEPS = -(-STEPS // PARTS)
    SUMS, RUNS = SIDE * SIDE, SIDE // 4
    HALF = DEPTH * (ROWS + COLUMNS)
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
    DOWN, RIGHT, TAPS_RIGHT = vertical.shift % 2**32, horizontal.shift % 2**32, max(horizontal.taps, 1)
    BIAS = phase.bias
    position, write = positions(phase, phase.pooled), writer(phase)

    @device
    def conv_product(block, arguments, shared):
        source, _winners, _outputs, weights, bias, inputs, target, places, images = arguments
        # shared: two halves, of weights and then source each
        sums = cuda.local.array(SUMS, float32)
        top = cuda.local.array(OWN, uint32)
        left = cuda.local.array(OWN, uint32)
        base = cuda.local.array(OWN, uint32)
        values = cuda.local.array(OWN_VALUES, float32)
        quads = cuda.local.array(QUAD_VALUES, float32)

        pixels = uint32(images * uint32(PIXELS))
        part = uint32(uint32(cuda.threadIdx.x) // uint32(THREADS)) if PARTS > 1 else uint32(0)
        thread = uint32(uint32(cuda.threadIdx.x) - part * uint32(THREADS))
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
        first_step = uint32(part * uint32(PART_STEPS))
        steps = uint32(STEPS)  # of this part
        if PARTS > 1:
            steps = min(uint32(PART_STEPS), uint32(uint32(STEPS) - min(first_step, uint32(STEPS))))
        quad = uint32(thread * uint32(4))
        weight_at = uint32((rows_of_tile * uint32(STEPS) + first_step) * uint32(TILE_WEIGHTS) + quad)

        tile = zeros(SIDE, SIDE)
        chunk = uint32(first_step % uint32(CHUNKS))
        tap_right = uint32(first_step // uint32(CHUNKS) % uint32(TAPS_RIGHT))
        down = uint32(first_step // uint32(CHUNKS * TAPS_RIGHT) * uint32(DOWN))  # of the tap, in rows of the source
        right = uint32(tap_right * uint32(RIGHT))
        mine = uint32(part * uint32(2 * HALF))
        free = uint32(0)  # the half that the next step goes to
        step = uint32(0)
        while step <= uint32(PART_STEPS):
            if step < steps:
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
            if step > uint32(0) and step <= steps:
                full = uint32(mine + uint32(HALF) - free)
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
            if step < steps:
                at = uint32(mine + free + uint32(DEPTH * ROWS) + thread)
                for o in range(OWN):
                    for k in range(DEPTH):
                        shared[at + uint32(k * COLUMNS + o * THREADS)] = values[o * DEPTH + k]
                for q in range(QUADS):
                    if uint32(quad + uint32(q * THREADS * 4)) < uint32(TILE_WEIGHTS):
                        at = uint32(mine + free + quad) + uint32(q * THREADS * 4)
                        store4(shared, at, quads[q * 4], quads[q * 4 + 1], quads[q * 4 + 2], quads[q * 4 + 3])
            cuda.syncthreads()
            free = uint32(uint32(HALF) - free)
            step = uint32(step + uint32(1))

        unpack(tile, sums)
        if PARTS > 1:
            if part > uint32(0):
                at = uint32((part - uint32(1)) * uint32(SUMS * THREADS) + quad)
                for k in range(0, SUMS, 4):
                    store4(shared, at + uint32(k * THREADS), sums[k], sums[k + 1], sums[k + 2], sums[k + 3])
            cuda.syncthreads()
            if part == uint32(0):
                at = quad
                for _part in range(PARTS - 1):
                    for k in range(0, SUMS, 4):
                        e, f, g, h = load4(shared, at + uint32(k * THREADS))
                        sums[k] += e
                        sums[k + 1] += f
                        sums[k + 2] += g
                        sums[k + 3] += h
                    at = uint32(at + uint32(SUMS * THREADS))
        if part == uint32(0):
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
        tile.threads,
        {"rows": ROWS, "columns": COLUMNS, "depth": DEPTH, "side": SIDE, "parts": PARTS},
        tile.min_blocks,
        tile.words,
    )
