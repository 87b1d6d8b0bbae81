"""The rows of the kernel gradient's product: the gradient of the targets, for the overlays of a step.

A thread reads one overlay for a few quads of rows, four filters in a row each. What it reads stays in registers while
the step before is multiplied, and then goes to shared memory. Where the targets were pooled, the gradient of an overlay
is that of its window's maximum, if it stood there: overlays are taken row by row nevertheless, since reading the input
window by window would cost more than reading each of these gradients four times, from the first-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnn.kernels.cuda.compiler import device, float32, int32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import derivative
from cnn.kernels.cuda.conv_windows import unpooled
from cnn.kernels.cuda.intrinsics import store4


@dataclass(frozen=True)
class RowReader:
    """Device functions, and how many values a thread reads of a step.

    plane(channel) -> the index of a channel's plane in the first image, channels counted over all groups
    read(grad_output, winners, outputs, n, i, j, real, line, first_row, plane, rows, winner, output): fills the last
        three, local arrays, for overlay (n, i, j), if it is real, and the rows from first_row + line on
    put(shared, at, line, i, j, rows, winner, output): to the overlay's line of shared memory, which begins at `at`
    """

    plane: Any
    read: Any
    put: Any
    values: int


def row_reader(phase: ConvPhase, rows: int, lines: int) -> RowReader:
    """rows: of the tile. lines: how many of them the block reads at a time."""
    ROWS, LINES = rows, lines
    QUADS = -(-ROWS // LINES)
    TARGETS, CHANNELS = phase.targets, phase.groups * phase.targets
    WHOLE_ROWS, WHOLE_LINES = phase.targets % ROWS == 0, ROWS % LINES == 0
    WIDTH = phase.target_size[1]  # of the plane in which winners are counted
    POOLED, DERIVED = phase.pooled, phase.derivative is not None
    SHIFT = 1 if POOLED else 0
    ACROSS = phase.horizontal.size >> SHIFT
    PLANE = (phase.vertical.size >> SHIFT) * ACROSS
    VALUES = QUADS * 4
    derive = derivative(phase.derivative)

    @device
    def plane_of(channel):
        return uint32(channel * uint32(PLANE))

    @device
    def read(grad_output, winners, outputs, n, i, j, real, line, first_row, plane, rows, winner, output):
        at = uint32(n * uint32(CHANNELS * PLANE) + plane)
        at = uint32(at + (i >> uint32(SHIFT)) * uint32(ACROSS) + (j >> uint32(SHIFT)))
        for v in range(VALUES):
            m = uint32(line + uint32(v // 4 * LINES + (0 if WHOLE_ROWS else v % 4)))
            inside = real and (WHOLE_LINES or m < uint32(ROWS))
            value = factor = float32(0)
            best = int32(0)
            if inside and (WHOLE_ROWS or uint32(first_row + m) < uint32(TARGETS)):
                # Constants are added to addresses in 64 bits, where they become part of the load.
                value = grad_output[at + uint32((v // 4 * LINES + v % 4) * PLANE)]
                if POOLED:
                    best = winners[at + uint32((v // 4 * LINES + v % 4) * PLANE)]
                if DERIVED:
                    factor = outputs[at + uint32((v // 4 * LINES + v % 4) * PLANE)]
            rows[v] = value
            if POOLED:
                winner[v] = best
            if DERIVED:
                output[v] = factor

    @device
    def one(v, element, rows, winner, output):
        value = rows[v]
        if DERIVED:
            value = derive(value, output[v])
        if POOLED:
            value = unpooled(value, winner[v], element)
        return value

    @device
    def put(shared, at, line, i, j, rows, winner, output):
        element = int32(i * uint32(WIDTH) + j)
        for q in range(QUADS):
            if WHOLE_LINES or uint32(line + uint32(q * LINES)) < uint32(ROWS):
                a, b = one(q * 4, element, rows, winner, output), one(q * 4 + 1, element, rows, winner, output)
                c, d = one(q * 4 + 2, element, rows, winner, output), one(q * 4 + 3, element, rows, winner, output)
                store4(shared, at + uint32(q * LINES), a, b, c, d)

    return RowReader(plane_of, read, put, VALUES)
