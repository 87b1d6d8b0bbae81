"""The dense layer: y[n, k] = activation(sum over c of x[n, c] weight[k, c] + bias[k]).

Both operands lie in memory as the reduction runs, so a warp reads runs of both as they lie and makes dot products: no
staging in shared memory. There are few images and filters: a block owns 8 x 8 sums and cuts the reduction into slices,
one for each warp, so that a batch of 64 still makes some hundred blocks. A warp's lanes cut its slice further. All
parts are added in a fixed order: no atomics, nothing to clear, the same bits in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.dropout import ARGUMENTS, dropped_element, kept_element
from cnn.kernels.cuda.intrinsics import load4
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.reduce import WARP, scattered_sums

# Images and filters of a block: fewer would read x and weight more often, more leave multiprocessors without work.
EDGE = 8

# From this many channels on a lane holds all 8 x 8 sums, which halves what it reads for each; adding up 32 lanes is
# little beside the rest then.
LONG = 1024

# Warps of a block, by side: a slice is one run of channels where that many warps can share them.
MOST_SLICES = {4: 2, 8: 2} if SIMULATED else {4: 16, 8: 8}


@dataclass(frozen=True)
class Tile:
    """side: of the square of sums that a lane holds, 4 or 8. slices: of the reduction, one for each warp."""

    side: int
    slices: int

    @property
    def lanes(self) -> int:
        """That cut the reduction among them; the rest of the warp makes up 8 x 8 sums."""
        return WARP * self.side**2 // EDGE**2


@cache
def plan_linear_forward(
    images: int,
    channels: int,
    filters: int,
    bias: bool,
    activation: str | None,
    dropped: bool = False,
    tile: Tile | None = None,
) -> Launch:
    """Arguments: x, weight, bias, y, images; where y is `dropped`, too, those of `dropout.arguments`."""
    tile = tile or choose_tile(channels)
    grid = -(-images // EDGE), -(-filters // EDGE)
    return Launch(_kernel(channels, filters, bias, activation, dropped, tile), grid, (tile.slices * WARP,))


def choose_tile(channels: int) -> Tile:
    side = 8 if channels >= LONG else 4
    runs = -(-channels // (4 * Tile(side, 1).lanes))
    return Tile(side, max(min(runs, MOST_SLICES[side]), 1))


@cache
def _kernel(channels: int, filters: int, has_bias: bool, activation: str | None, dropped: bool, tile: Tile) -> Kernel:
    C, K, SIDE, SLICES, LANES = channels, filters, tile.side, tile.slices, tile.lanes
    ACROSS = EDGE // SIDE  # squares of sums side by side
    SUMS, VALUES, THREADS = SIDE * SIDE, SIDE * 4, SLICES * WARP
    HELD = SUMS // LANES  # that a lane is left with when all have added up theirs
    BLOCK = EDGE * EDGE
    PARTS = SLICES * BLOCK
    RUN = LANES * 4  # channels that a warp reads at a time
    RUNS = -(-C // RUN)
    QUADS = C % 4 == 0  # a lane reads four channels in a row; else four that lie LANES apart
    BIAS = has_bias
    add_up = scattered_sums(SUMS, LANES)
    activate = activations.FUNCTIONS[activation]
    drop = dropped_element if dropped else kept_element

    @device
    def fetch(source, at, rows, c, values):
        """values[r * 4 + v]: the lane's channel number v from c on, in row r; 0 from row `rows` on. at: of row 0, c."""
        if QUADS:
            there = rows if c < uint32(C) else uint32(0)
            for r in range(SIDE):
                e, f, g, h = float32(0), float32(0), float32(0), float32(0)
                if uint32(r) < there:
                    e, f, g, h = load4(source, at + uint32(r * C))
                values[r * 4], values[r * 4 + 1], values[r * 4 + 2], values[r * 4 + 3] = e, f, g, h
        else:
            for v in range(4):
                there = rows if uint32(c + uint32(v * LANES)) < uint32(C) else uint32(0)
                for r in range(SIDE):
                    value = float32(0)
                    if uint32(r) < there:
                        value = source[at + uint32(r * C + v * LANES)]
                    values[r * 4 + v] = value

    def linear_forward(x, weight, bias, y, images, *numbers):
        shared = cuda.shared.array(PARTS, float32, alignment=ALIGNMENT)
        sums = cuda.local.array(SUMS, float32)
        rows = cuda.local.array(VALUES, float32)
        columns = cuda.local.array(VALUES, float32)

        thread = uint32(cuda.threadIdx.x)
        slice_, lane = uint32(thread // uint32(WARP)), uint32(thread % uint32(WARP))
        square, place = uint32(lane // uint32(LANES)), uint32(lane % uint32(LANES))
        first_image = uint32(uint32(cuda.blockIdx.x) * uint32(EDGE))
        first_filter = uint32(uint32(cuda.blockIdx.y) * uint32(EDGE))
        row = uint32(square // uint32(ACROSS) * uint32(SIDE))
        column = uint32(square % uint32(ACROSS) * uint32(SIDE))
        image, filter_ = uint32(first_image + row), uint32(first_filter + column)
        # How many of the lane's rows and columns there are. Constants are added to addresses in 64 bits, where they
        # become part of the load.
        row_count = uint32(images - image) if image < images else uint32(0)
        column_count = uint32(uint32(K) - filter_) if filter_ < uint32(K) else uint32(0)

        for k in range(SUMS):
            sums[k] = float32(0)
        run = slice_
        while run < uint32(RUNS):
            c = uint32(run * uint32(RUN) + place * uint32(4 if QUADS else 1))
            fetch(x, uint32(image * uint32(C) + c), row_count, c, rows)
            fetch(weight, uint32(filter_ * uint32(C) + c), column_count, c, columns)
            for r in range(SIDE):
                for s in range(SIDE):
                    for v in range(4):
                        sums[r * SIDE + s] += rows[r * 4 + v] * columns[s * 4 + v]
            run = uint32(run + uint32(SLICES))

        add_up(sums, lane)
        for h in range(HELD):
            k = uint32(place * uint32(HELD) + uint32(h))
            at = uint32((row + k // uint32(SIDE)) * uint32(EDGE) + column + k % uint32(SIDE))
            shared[uint32(slice_ * uint32(BLOCK) + at)] = sums[h]
        cuda.syncthreads()
        k = thread
        while k < uint32(BLOCK):
            n = uint32(first_image + k // uint32(EDGE))
            m = uint32(first_filter + k % uint32(EDGE))
            if n < images and m < uint32(K):
                total = float32(0)
                for s in range(SLICES):
                    total += shared[k + uint32(s * BLOCK)]
                if BIAS:
                    total += bias[m]
                at = uint32(n * uint32(K) + m)
                y[at] = drop(activate(total), at, numbers)
            k = uint32(k + uint32(THREADS))

    parameters = *(pointer(float32),) * 4, uint32, *(ARGUMENTS if dropped else ())
    return Kernel("linear_forward", linear_forward, parameters, THREADS, {"side": SIDE, "slices": SLICES})
