"""sums[r] = sum_j x[r, j]: the second pass where one block cannot hold a whole sum, in a fixed order."""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.reduce import block_sum

# A row is the partial sums of some ten to a thousand blocks.
THREADS = 128


def row_sums(x: Any, sums: Any) -> None:
    """x (R, J), sums of R elements."""
    rows, length = x.shape
    plan_row_sums(rows)(x, sums, length)


@cache
def plan_row_sums(rows: int) -> Launch:
    return Launch(
        Kernel("row_sums", _row_sums, (pointer(float32), pointer(float32), uint32), THREADS), (rows,), (THREADS,)
    )


def _row_sums(x, sums, length):
    # A block owns a row.
    row, thread = uint32(cuda.blockIdx.x), uint32(cuda.threadIdx.x)
    total = float32(0)
    j = thread
    while j < length:
        total += x[uint32(row * length + j)]
        j = uint32(j + uint32(THREADS))
    total = block_sum(total)
    if thread == uint32(0):
        sums[row] = total
