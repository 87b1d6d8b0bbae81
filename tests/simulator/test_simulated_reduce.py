"""Sums over warps, blocks and rows in the simulator, whose warps are Python threads that wait for each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import integers

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import shuffle
from cnn.kernels.cuda.launch import launch
from cnn.kernels.cuda.reduce import block_sum, warp_max, warp_sum
from cnn.kernels.cuda.row_sums import row_sums


def reductions(x: Any, y: Any) -> None:
    i = uint32(cuda.threadIdx.x)
    y[i] = warp_sum(x[i])
    y[uint32(i + uint32(64))] = warp_max(x[i])
    y[uint32(i + uint32(128))] = block_sum(x[i]) + block_sum(float32(1))
    y[uint32(i + uint32(192))] = shuffle(x[i], uint32(31) - (i & uint32(31)))


def test_warps_and_blocks() -> None:
    x, y = integers(64), np.full((4, 2, 32), np.nan, np.float32)
    launch(Kernel("reductions", reductions, (pointer(float32),) * 2, 64), (1,), (64,), x, y)
    warps = x.reshape(2, 32)
    assert_array_equal(y[0], np.broadcast_to(warps.sum(axis=1, keepdims=True), (2, 32)))
    assert_array_equal(y[1], np.broadcast_to(warps.max(axis=1, keepdims=True), (2, 32)))
    assert_array_equal(y[2], np.full((2, 32), x.sum() + 64))
    assert_array_equal(y[3], warps[:, ::-1])


@pytest.mark.parametrize("length", [0, 1, 127, 128, 129, 300])
def test_rows(length: int) -> None:
    x, sums = integers(2, length), np.full(2, np.nan, np.float32)
    row_sums(x, sums)
    assert_array_equal(sums, x.sum(axis=1))
