"""Max pooling of 2 x 2 windows side by side, both ways, inside the convolution kernels.

Forward, `conv_product` counts pixels window by window, pixel = window * 4 + place, with the places of a window row by
row: the four sums in a row that a thread holds in registers are then one window, and it writes their maximum. Backward,
an element's gradient is that of its window's maximum if it stood there, and else zero. Elements that no window covers
have no pixel.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda.compiler import device, float32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.geometry import PoolGeometry


def is_fused(pool: PoolGeometry) -> bool:
    """Whether these are the windows that are pooled here."""
    return pool.dimensions == 2 and pool.window == (2, 2)


def positions(phase: ConvPhase, by_windows: bool) -> Any:
    """The device function from a pixel's number in its plane to its row and column, (i, j)."""
    COLUMNS = phase.horizontal.size
    WINDOWS = COLUMNS // 2  # in a row

    @device
    def of_pixel(pixel):
        return uint32(pixel // uint32(COLUMNS)), uint32(pixel % uint32(COLUMNS))

    @device
    def of_place(pixel):
        window = uint32(pixel >> uint32(2))
        i = uint32(uint32(window // uint32(WINDOWS) << uint32(1)) + (pixel >> uint32(1) & uint32(1)))
        return i, uint32(uint32(window % uint32(WINDOWS) << uint32(1)) + (pixel & uint32(1)))

    return of_place if by_windows else of_pixel


@device
def wins(candidate, value):
    """Over the greatest value before it: the first of equals stays, and NaN, the first one, beats numbers."""
    return candidate > value or (candidate != candidate and value == value)


@device
def first_maximum(a, b, c, d):
    """The maximum of a window, and its place."""
    value, place = a, uint32(0)
    if wins(b, value):
        value, place = b, uint32(1)
    if wins(c, value):
        value, place = c, uint32(2)
    if wins(d, value):
        value, place = d, uint32(3)
    return value, place


@device
def unpooled(gradient, winner, element):
    """The gradient of an element of a window; both by their flat index in the plane."""
    return gradient if winner == element else float32(0)
