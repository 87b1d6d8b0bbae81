"""The rectangles of overlays of `conv_tensor_gradient`: which layers they serve, and what of each is in shared
memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_tensor_tile import SHARED, WARP_ROWS

CHANNELS = 32  # of a block

WIDTH = 8

# Taps whose sums, eight for each, a thread keeps in registers.
MOST_TAPS = 9


@dataclass(frozen=True)
class Rectangle:
    """positions: of the source that it may meet, of which each has a thread of its own."""

    height: int
    positions: int


# Twice the height halves what a rectangle costs beside its products, which counts where only 32 filters share a source.
# In bf16, two images at a time, it would take twice the registers.
LOW, TALL = Rectangle(4, 64), Rectangle(8, 128)


def serves(phase: ConvPhase) -> bool:
    """Whether there are rows, channels and taps enough to fill a tile, the taps lie near enough to each other, and
    gradients are read as they are.
    """
    wide = phase.targets >= WARP_ROWS and phase.sources >= CHANNELS // 2 and 3 <= taps_of_block(phase) <= MOST_TAPS
    near = phase.vertical.stride == phase.horizontal.stride == 1
    plain = not phase.pooled and phase.derivative is None
    return wide and near and plain and _fits(phase, LOW)


def choose_rectangle(phase: ConvPhase, rows: int, precision: str) -> Rectangle:
    """rows: of a block."""
    return TALL if rows == WARP_ROWS and precision == "tf32" and _fits(phase, TALL) else LOW


def taps_of_block(phase: ConvPhase) -> int:
    """All, or a row of them."""
    return phase.taps if phase.taps <= MOST_TAPS else phase.horizontal.taps


def area(phase: ConvPhase, rectangle: Rectangle) -> tuple[int, int]:
    """Source positions that a rectangle meets, down and right."""
    down = phase.vertical.taps if phase.taps <= MOST_TAPS else 1
    right = WIDTH + (phase.horizontal.taps - 1) * phase.horizontal.shift
    return rectangle.height + (down - 1) * phase.vertical.shift, right


def line(phase: ConvPhase, rectangle: Rectangle) -> int:
    """Words of a channel: eight channels' words then lie in different banks, four in a row."""
    positions = math.prod(area(phase, rectangle))
    return positions + (4 - positions) % 8


def rectangles(phase: ConvPhase, rectangle: Rectangle) -> int:
    """In a plane."""
    return -(-phase.vertical.size // rectangle.height) * -(-phase.horizontal.size // WIDTH)


def _fits(phase: ConvPhase, rectangle: Rectangle) -> bool:
    """Whether its source has threads, and lies in shared memory twice with the rows of a warp."""
    words = 2 * (WARP_ROWS * rectangle.height * WIDTH + CHANNELS * line(phase, rectangle))
    return math.prod(area(phase, rectangle)) <= rectangle.positions and 4 * words <= SHARED
