"""The rows of the kernel gradient on tensor cores: the gradient of the targets, for a rectangle of overlays.

A thread reads two rows, eight apart, and two columns, four apart, of one row of overlays of each step: the four words
that a lane reads together (see `tensor`).
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda.compiler import device, float32, int32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import derivative
from cnn.kernels.cuda.conv_windows import unpooled
from cnn.kernels.cuda.tensor import NUMBERS

HEIGHT, WIDTH = 4, 8  # of a rectangle of overlays
WORDS_OF_ROWS = 8  # that a thread reads: four of each step


def row_reader(phase: ConvPhase, precision: str, whole_rows: bool) -> tuple[Any, Any]:
    """Device functions.

    fetch(grad_output, winners, outputs, at, i, j, m, pair, values, winner, output): fills the last three, local arrays;
        at: the index of the first; i, j: its overlay; m: its row; pair: whether there is a second image
    finish(values, winner, output, element): makes of what was read the gradient of the overlays; element: the first's
        place in its plane
    """
    IMAGES = NUMBERS[precision]  # of a word
    P, Q = phase.vertical.size, phase.horizontal.size
    WHOLE_P, WHOLE_Q, WHOLE_ROWS = P % HEIGHT == 0, Q % WIDTH == 0, whole_rows
    TARGETS, TARGET_W = phase.targets, phase.target_size[1]
    POOLED, DERIVED = phase.pooled, phase.derivative is not None
    SHIFT = 1 if POOLED else 0
    G_LINE, G_PLANE = Q >> SHIFT, (P >> SHIFT) * (Q >> SHIFT)
    NEXT_G = phase.groups * TARGETS * G_PLANE  # from image to image
    derive = derivative(phase.derivative)

    @device
    def fetch(grad_output, winners, outputs, at, i, j, m, pair, values, winner, output):
        # Of each step rows m and m + 8, columns j and j + 4: the four words of a lane that are read together.
        for k in range(WORDS_OF_ROWS):
            down, right, below = k // 4 * 2, k // 2 % 2 * 4, k % 2 * 8
            real = (WHOLE_P or i + uint32(down) < uint32(P)) and (WHOLE_Q or j + uint32(right) < uint32(Q))
            real = real and (WHOLE_ROWS or m + uint32(below) < uint32(TARGETS))
            for n in range(IMAGES):
                value = factor = float32(0)
                best = int32(0)
                if real and (n == 0 or pair):
                    # Constants are added in 64 bits, where they become part of the load.
                    place = at + uint32((down >> SHIFT) * G_LINE + (right >> SHIFT) + below * G_PLANE + n * NEXT_G)
                    value = grad_output[place]
                    if POOLED:
                        best = winners[place]
                    if DERIVED:
                        factor = outputs[place]
                values[k * IMAGES + n] = value
                if POOLED:
                    winner[k * IMAGES + n] = best
                if DERIVED:
                    output[k * IMAGES + n] = factor

    @device
    def finish(values, winner, output, element):
        # What was read becomes the gradient of the overlays.
        for k in range(WORDS_OF_ROWS):
            from_first = k // 4 * 2 * TARGET_W + k // 2 % 2 * 4
            for n in range(k * IMAGES, k * IMAGES + IMAGES):
                value = values[n]
                if DERIVED:
                    value = derive(value, output[n])
                if POOLED:
                    value = unpooled(value, winner[n], int32(element + int32(from_first)))
                values[n] = value

    return fetch, finish
