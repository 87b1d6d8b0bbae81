"""The way back through maxima of 2 x 2 windows side by side, the usual ones; see `pool`.

A thread owns a square of 2 x 2 elements of the input, which no other window meets: it reads a window's gradient, and
what decides where it goes, once for all four.
"""

from __future__ import annotations

from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, int32, pointer, uint32
from cnn.kernels.cuda.conv_result import derivative
from cnn.kernels.cuda.intrinsics import store2
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.geometry import PoolGeometry

THREADS = 128


def serves(geometry: PoolGeometry) -> bool:
    return geometry.window == geometry.stride == (2, 2) and geometry.padding == ((0, 0), (0, 0))


def plan(geometry: PoolGeometry, activation: str | None) -> Launch:
    """Arguments: grad_output, argmax, y, grad_x, planes."""
    down, right = (-(-size // 2) for size in geometry.input)
    threads = geometry.batch * geometry.channels * down * right
    kernel = _gradient(geometry.input, geometry.output, activation)
    return Launch(kernel, (-(-threads // THREADS),), (THREADS,))


@cache
def _gradient(size: tuple[int, int], windows: tuple[int, int], activation: str | None) -> Kernel:
    (HEIGHT, WIDTH), (WINDOWS_DOWN, WINDOWS_RIGHT) = size, windows
    DOWN, RIGHT = -(-HEIGHT // 2), -(-WIDTH // 2)
    EVEN, DERIVED = HEIGHT % 2 == WIDTH % 2 == 0, activation is not None
    derive = derivative(activation)

    def max_pool_squares(grad_output, argmax, y, grad_x, planes):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i >= uint32(planes * uint32(DOWN * RIGHT)):
            return
        row = uint32(i // uint32(RIGHT))
        n = uint32(row // uint32(DOWN))
        p, q = uint32(row - n * uint32(DOWN)), uint32(i - row * uint32(RIGHT))
        gradient, winner = float32(0), int32(-1)
        if p < uint32(WINDOWS_DOWN) and q < uint32(WINDOWS_RIGHT):  # a last odd row or column has no window
            at = uint32((n * uint32(WINDOWS_DOWN) + p) * uint32(WINDOWS_RIGHT) + q)
            gradient, winner = derive(grad_output[at], y[at] if DERIVED else float32(0)), argmax[at]
        h, w = uint32(p * uint32(2)), uint32(q * uint32(2))
        first = uint32(h * uint32(WIDTH) + w)
        place = uint32(uint32(winner) - first)  # of the maximum, counted from the square's first element
        a = gradient if place == uint32(0) else float32(0)
        b = gradient if place == uint32(1) else float32(0)
        c = gradient if place == uint32(WIDTH) else float32(0)
        d = gradient if place == uint32(WIDTH + 1) else float32(0)
        start = uint32(n * uint32(HEIGHT * WIDTH) + first)
        if EVEN:
            store2(grad_x, start, a, b)
            store2(grad_x, uint32(start + uint32(WIDTH)), c, d)
        else:
            beside, below = uint32(w + uint32(1)) < uint32(WIDTH), uint32(h + uint32(1)) < uint32(HEIGHT)
            grad_x[start] = a
            if beside:
                grad_x[uint32(start + uint32(1))] = b
            if below:
                grad_x[uint32(start + uint32(WIDTH))] = c
            if beside and below:
                grad_x[uint32(start + uint32(WIDTH + 1))] = d

    real, whole = pointer(float32), pointer(int32)
    return Kernel("max_pool_squares", max_pool_squares, (real, whole, real, real, uint32), THREADS)
