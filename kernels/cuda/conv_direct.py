"""Direct convolution, for few source channels or few targets: thin first layers, depthwise filters, small networks.

The sum stands in `conv_phase`. A thread owns a square of 2 x 2 pixels of one image, for up to `filters` targets of a
group, and holds their sums in registers. It walks down the rows of the source that they meet: the values of a row are
read once, from the first-level cache, and serve both rows of pixels and all taps. The weights of all of the block's
targets lie in shared memory, where the block has put them once.

A block owns `filters` targets of one group and `squares` squares of the batch. Where these are too few to fill a GPU,
the block's warps divide the source channels between them, and add their sums up in the end.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import derivative, square_writer
from cnn.kernels.cuda.conv_windows import unpooled
from cnn.kernels.cuda.intrinsics import load2, load4
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.geometry import Phase

# Source channels of a group up to which nothing else will do: one step of the product kernel has 8.
THIN = 4

# Targets up to which a thread keeps all sums of its square in registers, so that the source is read once.
FEW = 16

# Weights, of 4 bytes, in the shared memory of a block.
MOST_WEIGHTS = 5120

THREADS = 32 if SIMULATED else 128

MOST_PARTS = 2 if SIMULATED else 8

# Threads that give each of 132 multiprocessors four warps; with fewer, warps divide the channels.
FULL_GRID = 8 if SIMULATED else 132 * 128


def serves(phase: ConvPhase) -> bool:
    """Whether this kernel is the one for a phase: it has little to reduce over, or few sums to keep."""
    if _filters(phase) == 0 or (phase.source_pooled and not _walks(phase)):
        return False
    return phase.sources <= THIN or (_walks(phase) and phase.targets <= min(_filters(phase), FEW))


def plan(phase: ConvPhase, images: int, threads: int | None = None) -> Launch:
    """Arguments as `conv_product.plan`, with the weights as they are.

    threads: of a block, where warps divide the channels (see `is_small`); otherwise there is a warp for each of up to
    `MOST_PARTS` channels.
    """
    down, right = _squares(phase)
    filters, own = _filters(phase), THREADS
    if is_small(phase, images):
        filters, own = min(filters, FEW // 2), 32
        threads = threads or own * min(phase.sources, MOST_PARTS)
    else:
        threads = THREADS
    blocks = -(-images * down * right // own) * phase.groups * -(-phase.targets // filters)
    return Launch(_direct(phase, filters, own, threads), (blocks,), (threads,))


def is_small(phase: ConvPhase, images: int) -> bool:
    """Whether there is too little for a large GPU, unless warps divide the channels."""
    down, right = _squares(phase)
    return phase.sources > 1 and images * down * right * -(-phase.targets // FEW) * phase.groups < FULL_GRID


def _filters(phase: ConvPhase) -> int:
    """Targets of a thread: as few passes over the source as `FEW` at a time allow, of equal size. 0 where not even the
    weights of four fit.
    """
    most = min(FEW, MOST_WEIGHTS // max(phase.sources * phase.taps, 1) // 4 * 4)
    return -(-phase.targets // -(-phase.targets // most)) if most else 0


def _squares(phase: ConvPhase) -> tuple[int, int]:
    return -(-phase.vertical.size // 2), -(-phase.horizontal.size // 2)


def _walks(phase: ConvPhase) -> bool:
    """Whether neighbouring pixels meet the same values of the source, one tap apart."""
    return all(axis.stride == 1 and abs(axis.shift) == 1 for axis in (phase.vertical, phase.horizontal))


@cache
def _direct(phase: ConvPhase, filters: int, squares: int, threads: int) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    FILTERS, SQUARES, THREADS = filters, squares, threads
    LINE = -(-FILTERS // 4) * 4  # weights of a tap, filled up to whole 128-bit loads
    SUMS = LINE * 4
    FILTER_TILES = -(-phase.targets // FILTERS)
    SOURCES, TARGETS, GROUPS = phase.sources, phase.targets, phase.groups
    PARTS = THREADS // SQUARES
    SHARES = min(PARTS, SOURCES)  # parts that get any channel
    DOWN_SQUARES, RIGHT_SQUARES = _squares(phase)
    PLANE_SQUARES = DOWN_SQUARES * RIGHT_SQUARES
    TAPS, TAPS_DOWN, TAPS_RIGHT = phase.taps, vertical.taps, horizontal.taps
    WEIGHTS = SOURCES * TAPS * LINE
    SHARED = max(WEIGHTS, (SHARES - 1) * SUMS * SQUARES, 1)
    SOURCE_STRIDE, TARGET_STRIDE, GROUP_STRIDE = phase.source_stride, phase.target_stride, phase.groups_stride
    KERNEL_H, KERNEL_W = phase.kernel
    FLIPPED, WHOLE, BIAS = phase.flipped, phase.targets % FILTERS == 0, phase.bias
    # Down and to the right in the source, whichever way the taps go. Positions before it wrap around to huge ones: one
    # comparison tests both ends.
    (LOW_H, DOWN, R, R_STEP), (LOW_W, RIGHT, S, S_STEP) = _ascending(vertical), _ascending(horizontal)
    H_STRIDE, W_STRIDE = vertical.stride, horizontal.stride
    H, W = phase.source_size
    POOLED, DERIVED, WALKS = phase.source_pooled, phase.derivative is not None, _walks(phase)
    PLANE = (H // 2) * (W // 2) if POOLED else H * W
    # What the two pixels of a row meet: where it is the same values, one tap apart, they are read once.
    ROW = TAPS_RIGHT + 1 if WALKS else 2 * TAPS_RIGHT
    VALUES, BELOW = max(2 * ROW, 1), max(ROW, 1)
    APART = 1 if WALKS else TAPS_RIGHT
    # A row is read by pairs of its columns, each at a multiple of 8 bytes; or of windows, which lie on such pairs.
    PAIRED, ODD_W = WALKS and W % 2 == 0, LOW_W % 2
    PAIRS = max((ODD_W + ROW + 1) // 2, 1)  # a phase without a tap reads none
    derive, write = derivative(phase.derivative), square_writer(phase)

    @device
    def load_row(source, winners, outputs, start, left, h, fresh, gradients, winner, values):
        """values[0 .. ROW - 1]: what the pixels meet in row h of the source, from position left on."""
        # Positions are signed, since a row may begin before the array: constants then become part of the load.
        if POOLED:
            if fresh:
                row = uint32(h >> uint32(1))
                column = uint32(int32(left - uint32(ODD_W)) >> int32(1))
                at = int32(start + row * uint32(W // 2) + column)
                there = column if row < uint32(H // 2) else uint32(0x40000000)
                for t in range(PAIRS):
                    gradients[t] = float32(0)
                    winner[t] = int32(0)
                    if uint32(there + uint32(t)) < uint32(W // 2):
                        gradient = source[at + t]
                        if DERIVED:
                            gradient = derive(gradient, outputs[at + t])
                        gradients[t] = gradient
                        winner[t] = winners[at + t]
            element = int32(h * uint32(W) + left)
            for c in range(ROW):
                t = (ODD_W + c) // 2
                values[c] = unpooled(gradients[t], int32(winner[t] - element), int32(c))
        else:
            at = int32(start + h * uint32(W) + left)
            there = left if h < uint32(H) else uint32(0x40000000)
            if PAIRED:
                for t in range(PAIRS):
                    c = 2 * t - ODD_W
                    a = b = float32(0)
                    if uint32(there + uint32(2 * t) - uint32(ODD_W)) < uint32(W):
                        a, b = load2(source, at + c)
                        if DERIVED:
                            d, e = load2(outputs, at + c)
                            a, b = derive(a, d), derive(b, e)
                    if c >= 0:
                        values[c] = a
                    if c + 1 < ROW:
                        values[c + 1] = b
            else:
                for c in range(ROW):
                    offset = c if WALKS else c // TAPS_RIGHT * W_STRIDE + c % TAPS_RIGHT * RIGHT
                    value = float32(0)
                    if uint32(there + uint32(offset)) < uint32(W):
                        value = source[at + offset]
                        if DERIVED:
                            value = derive(value, outputs[at + offset])
                    values[c] = value

    @device
    def conv_direct(block, arguments, shared):
        source, winners, outputs, weight, bias, inputs, target, places, images = arguments
        # shared: weights, and in the end sums of the parts
        sums = cuda.local.array(SUMS, float32)
        values = cuda.local.array(VALUES, float32)  # of two rows, from the tap that is multiplied on
        below = cuda.local.array(BELOW, float32)
        gradients = cuda.local.array(PAIRS, float32)
        winner = cuda.local.array(PAIRS, int32)

        thread = uint32(cuda.threadIdx.x)
        part, own = thread // uint32(SQUARES), thread % uint32(SQUARES)
        tile = uint32(block % uint32(GROUPS * FILTER_TILES))
        group = tile // uint32(FILTER_TILES)
        filter_at = uint32(tile % uint32(FILTER_TILES) * uint32(FILTERS))

        i = thread
        while i < uint32(WEIGHTS):  # [channel][tap][filter]
            f = i % uint32(LINE)
            m = uint32(filter_at + f)
            tap = i // uint32(LINE) % uint32(TAPS)
            r = uint32(R) + tap // uint32(TAPS_RIGHT) * uint32(R_STEP)
            s = uint32(S) + tap % uint32(TAPS_RIGHT) * uint32(S_STEP)
            if FLIPPED:
                r = uint32(KERNEL_H - 1) - r
                s = uint32(KERNEL_W - 1) - s
            value = float32(0)
            if f < uint32(FILTERS) and m < uint32(TARGETS):
                at = group * uint32(GROUP_STRIDE) + m * uint32(TARGET_STRIDE)
                at += i // uint32(LINE * TAPS) * uint32(SOURCE_STRIDE)
                value = weight[uint32(at + r * uint32(KERNEL_W) + s)]
            shared[i] = value
            i = uint32(i + uint32(THREADS))

        square = uint32(block // uint32(GROUPS * FILTER_TILES) * uint32(SQUARES) + own)
        n = square // uint32(PLANE_SQUARES)
        down = square % uint32(PLANE_SQUARES) // uint32(RIGHT_SQUARES)
        right = square % uint32(RIGHT_SQUARES)
        real = n < images
        # A square beyond the last one starts where no tap comes back into the plane.
        top = uint32(down * uint32(2 * H_STRIDE) + uint32(LOW_H)) if real else uint32(0x40000000)
        left = uint32(right * uint32(2 * W_STRIDE) + uint32(LOW_W))
        # Not inside a loop above: newer compilers leave a loop in a loop as it is, and the sums in memory.
        for k in range(SUMS):
            sums[k] = float32(0)
        cuda.syncthreads()

        channel = part
        while channel < uint32(SOURCES):
            start = uint32(((n * uint32(GROUPS) + group) * uint32(SOURCES) + channel) * uint32(PLANE))
            at = uint32(channel * uint32(TAPS * LINE))
            h = top
            if WALKS:
                load_row(source, winners, outputs, start, left, h, True, gradients, winner, below)
            for _a in range(TAPS_DOWN):
                if not WALKS:
                    load_row(source, winners, outputs, start, left, h, True, gradients, winner, below)
                for c in range(ROW):
                    values[c] = below[c]
                next_row = uint32(h + uint32(H_STRIDE))
                fresh = (next_row & uint32(1)) == uint32(0)
                load_row(source, winners, outputs, start, left, next_row, fresh, gradients, winner, below)
                for c in range(ROW):
                    values[ROW + c] = below[c]
                for _b in range(TAPS_RIGHT):
                    for run in range(LINE // 4):
                        weights = load4(shared, at)
                        at = uint32(at + uint32(4))
                        for q in range(4):
                            if run * 4 + q < FILTERS:
                                for o in range(4):
                                    sums[(run * 4 + q) * 4 + o] += weights[q] * values[o // 2 * ROW + o % 2 * APART]
                    # The next tap's values move up: not every compiler unrolls this loop, and values[_b] would then be
                    # in memory.
                    for c in range(2 * ROW - 1):
                        values[c] = values[c + 1]
                h = uint32(h + uint32(DOWN))
            channel = uint32(channel + uint32(PARTS))

        if SHARES > 1:
            cuda.syncthreads()
            if part > uint32(0) and part < uint32(SHARES):
                at = uint32((part - uint32(1)) * uint32(SUMS * SQUARES) + own)
                for k in range(SUMS):
                    shared[at + uint32(k * SQUARES)] = sums[k]
            cuda.syncthreads()
            at = own
            for _part in range(SHARES - 1):
                for k in range(SUMS):
                    sums[k] += shared[at + uint32(k * SQUARES)]
                at = uint32(at + uint32(SUMS * SQUARES))
        if part == uint32(0) and real:
            for f in range(FILTERS):
                m = uint32(filter_at + uint32(f))
                if WHOLE or m < uint32(TARGETS):
                    m = uint32(group * uint32(TARGETS) + m)
                    shift = float32(0)
                    if BIAS:
                        shift = bias[m]
                    plane = uint32(n * uint32(GROUPS * TARGETS) + m)
                    write(target, places, inputs, sums, f * 4, shift, plane, down, right)

    real, whole = pointer(float32), pointer(int32)
    return alone(
        "conv_direct",
        conv_direct,
        (real, whole if POOLED else real, *(real,) * 5, whole if phase.pooled else real, uint32),
        THREADS,
        {"filters": FILTERS, "squares": SQUARES},
        words=SHARED,
    )


def _ascending(axis: Phase) -> tuple[int, int, int, int]:
    """Position that pixel 0 meets first of the source, distance of the next ones, and their taps: first and step."""
    if axis.shift >= 0:
        return axis.start % 2**32, axis.shift, axis.tap, axis.tap_step
    last = axis.taps - 1
    return (
        (axis.start + last * axis.shift) % 2**32,
        -axis.shift,
        (axis.tap + last * axis.tap_step) % 2**32,
        -axis.tap_step % 2**32,
    )
