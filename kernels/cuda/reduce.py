"""Sums and maxima over the 32 lanes of a warp, and sums over a block, without atomics: the same bits in every run.

A butterfly: at distance 16, 8, ... 1 each lane takes in what its partner holds. All lanes end with the same bits, since
both partners add the same two numbers. Where many values are to be added up, `scattered_sums` halves them on the way
instead: each lane ends with some of the sums. Blocks are one-dimensional and hold whole warps, all of which come along.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import cuda, device, float32, uint32
from cnn.kernels.cuda.intrinsics import shuffle

WARP = 32


@device
def warp_sum(value):
    lane = uint32(cuda.threadIdx.x) & uint32(31)
    distance = uint32(16)
    while distance > uint32(0):
        value += shuffle(value, lane ^ distance)
        distance >>= uint32(1)
    return value


@device
def warp_max(value):
    """Of numbers; NaN may be passed over."""
    lane = uint32(cuda.threadIdx.x) & uint32(31)
    distance = uint32(16)
    while distance > uint32(0):
        value = max(value, shuffle(value, lane ^ distance))
        distance >>= uint32(1)
    return value


@device
def block_sum(value):
    """Of float32 values; in every thread."""
    sums = cuda.shared.array(32, float32)
    thread = uint32(cuda.threadIdx.x)
    lane = thread & uint32(31)
    value = warp_sum(value)
    cuda.syncthreads()  # a second call may find the same array, in the simulator always
    if lane == uint32(0):
        sums[thread >> uint32(5)] = value
    cuda.syncthreads()
    return warp_sum(sums[lane] if lane < uint32(cuda.blockDim.x) >> uint32(5) else float32(0))


@cache
def scattered_sums(count: int, lanes: int) -> Any:
    """The device function (values, lane): the sums of `count` values over groups of `lanes` lanes, scattered over them.

    Both are powers of two. Lane number j of a group is left with sums j * count / lanes and following, in values[0] and
    following. At each distance a lane gives away the half that its partner keeps: count shuffles in all, where summing
    each value by itself takes count * log2(lanes).
    """
    if lanes == 1:

        @device
        def held(_values, _lane):
            return None

        return held

    HALF, DISTANCE = count // 2, lanes // 2
    add_up_the_rest = scattered_sums(HALF, DISTANCE)

    @device
    def add_up(values, lane):
        upper = lane & uint32(DISTANCE) != uint32(0)
        for k in range(HALF):
            low, high = values[k], values[k + HALF]
            values[k] = (high if upper else low) + shuffle(low if upper else high, lane ^ uint32(DISTANCE))
        add_up_the_rest(values, lane)

    return add_up
