"""Direct convolution for few source channels: thin first layers and depthwise filters.

The sum stands in `conv_phase`. With little to reduce over, there is nothing to gain from staging the source in shared
memory: a thread reads its pixels straight from the first-level cache, lanes side by side, and the weights of all its
targets from shared memory, where the block has put them once.

A block owns `filters` targets of one group and threads * pixels pixels of the batch; a thread owns every threads-th of
those pixels and holds filters x pixels sums in registers.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.intrinsics import load4
from cnn.kernels.cuda.launch import Launch

# Source channels of a group up to which this kernel is used: one step of the product kernel has 8.
THIN = 4

THREADS = 32 if SIMULATED else 128


def plan(phase: ConvPhase, images: int) -> Launch:
    """Arguments: source, weight, bias, target, images * pixels."""
    # As few passes over the source as 16 filters at a time allow, of equal size; 4 pixels let weights be used again.
    passes = -(-phase.targets // 16)
    filters, pixels = -(-phase.targets // passes), 4
    filter_tiles = -(-phase.targets // filters)
    columns = -(-images * phase.pixels // (THREADS * pixels))
    return Launch(_direct(phase, filters, pixels), (columns, phase.groups * filter_tiles), (THREADS,))


@cache
def _direct(phase: ConvPhase, filters: int, pixels: int) -> Kernel:
    vertical, horizontal = phase.vertical, phase.horizontal
    FILTERS, OWN = filters, pixels
    LINE = -(-FILTERS // 4) * 4  # weights of a tap, filled up to whole 128-bit loads
    SUMS = LINE * OWN
    FILTER_TILES = -(-phase.targets // FILTERS)
    SOURCES, TARGETS, GROUPS = phase.sources, phase.targets, phase.groups
    (H, W), (TARGET_H, TARGET_W) = phase.source_size, phase.target_size
    TARGET_PLANE = TARGET_H * TARGET_W
    PLANE, PIXELS, J = H * W, phase.pixels, horizontal.size
    TAPS, TAPS_DOWN, TAPS_RIGHT = phase.taps, vertical.taps, horizontal.taps
    WEIGHTS = SOURCES * TAPS * LINE
    SHARED = max(WEIGHTS, 1)
    SOURCE_STRIDE, TARGET_STRIDE, GROUP_STRIDE = phase.source_stride, phase.target_stride, phase.groups_stride
    KERNEL_H, KERNEL_W = phase.kernel
    R, R_STEP, S, S_STEP = vertical.tap, vertical.tap_step, horizontal.tap, horizontal.tap_step
    FLIPPED, WHOLE, BIAS = phase.flipped, phase.targets % FILTERS == 0, phase.bias
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    H_START, H_STRIDE, W_START, W_STRIDE = (
        number % 2**32 for number in (vertical.start, vertical.stride, horizontal.start, horizontal.stride)
    )
    DOWN, RIGHT = vertical.shift % 2**32, horizontal.shift % 2**32
    FIRST_H, STEP_H, FIRST_W, STEP_W = vertical.first, vertical.step, horizontal.first, horizontal.step

    @device
    def identity(x):
        return x

    activate = identity if phase.activation is None else getattr(activations, phase.activation)

    def conv_direct(source, weight, bias, target, pixels):
        weights = cuda.shared.array(SHARED, float32, alignment=ALIGNMENT)
        sums = cuda.local.array(SUMS, float32)
        top = cuda.local.array(OWN, uint32)
        left = cuda.local.array(OWN, uint32)
        base = cuda.local.array(OWN, uint32)
        row = cuda.local.array(OWN, uint32)
        values = cuda.local.array(OWN, float32)

        thread = uint32(cuda.threadIdx.x)
        group = uint32(cuda.blockIdx.y) // uint32(FILTER_TILES)
        filter_at = uint32(uint32(cuda.blockIdx.y) % uint32(FILTER_TILES) * uint32(FILTERS))
        first = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS * OWN) + thread)

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
            weights[i] = value
            i = uint32(i + uint32(THREADS))

        for o in range(OWN):
            pixel = uint32(first + uint32(o * THREADS))
            n = pixel // uint32(PIXELS)
            h = uint32(pixel % uint32(PIXELS) // uint32(J) * uint32(H_STRIDE) + uint32(H_START))
            w = uint32(pixel % uint32(J) * uint32(W_STRIDE) + uint32(W_START))
            base[o] = uint32((n * uint32(GROUPS) + group) * uint32(SOURCES * PLANE) + h * uint32(W) + w)
            # A pixel beyond the last one starts where no tap comes back into the plane.
            top[o] = h if pixel < pixels else uint32(0x40000000)
            left[o] = w
        # Not inside the loop above: newer compilers leave a loop in a loop as it is, and the sums in memory.
        for k in range(SUMS):
            sums[k] = float32(0)
        cuda.syncthreads()

        i = uint32(0)
        channel = uint32(0)
        for _c in range(SOURCES):
            down = uint32(0)
            for _a in range(TAPS_DOWN):
                for o in range(OWN):
                    row[o] = left[o] if uint32(top[o] + down) < uint32(H) else uint32(0x40000000)
                right = uint32(0)
                shift = uint32(channel + down * uint32(W))
                for _b in range(TAPS_RIGHT):
                    for o in range(OWN):
                        value = float32(0)
                        if uint32(row[o] + right) < uint32(W):
                            value = source[uint32(base[o] + shift)]
                        values[o] = value
                    for run in range(LINE // 4):
                        e, f, g, h = load4(weights, uint32(i + uint32(run * 4)))
                        for o in range(OWN):
                            sums[run * 4 * OWN + o] += e * values[o]
                            sums[(run * 4 + 1) * OWN + o] += f * values[o]
                            sums[(run * 4 + 2) * OWN + o] += g * values[o]
                            sums[(run * 4 + 3) * OWN + o] += h * values[o]
                    i = uint32(i + uint32(LINE))
                    right = uint32(right + uint32(RIGHT))
                    shift = uint32(shift + uint32(RIGHT))
                down = uint32(down + uint32(DOWN))
            channel = uint32(channel + uint32(PLANE))

        for o in range(OWN):
            pixel = uint32(first + uint32(o * THREADS))
            h = pixel % uint32(PIXELS) // uint32(J) * uint32(STEP_H) + uint32(FIRST_H)
            w = pixel % uint32(J) * uint32(STEP_W) + uint32(FIRST_W)
            plane = pixel // uint32(PIXELS) * uint32(GROUPS * TARGETS) + group * uint32(TARGETS) + filter_at
            at = uint32((plane * uint32(TARGET_H) + h) * uint32(TARGET_W) + w)
            for f in range(FILTERS):
                m = uint32(filter_at + uint32(f))
                if pixel < pixels and (WHOLE or m < uint32(TARGETS)):
                    offset = float32(0)
                    if BIAS:
                        offset = bias[uint32(group * uint32(TARGETS) + m)]
                    target[uint32(at + uint32(f * TARGET_PLANE))] = activate(sums[f * OWN + o] + offset)

    real = pointer(float32)
    return Kernel(
        "conv_direct",
        conv_direct,
        (real, real, real, real, uint32),
        THREADS,
        {"filters": FILTERS, "pixels": OWN},
    )
