"""Gradient of the bias: grad_bias[k] = sum over n, p of grad_output[n, k, p], without atomics."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda.channels import THREADS, parts, place
from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, contiguous
from cnn.kernels.cuda.reduce import block_sum
from cnn.kernels.cuda.row_sums import row_sums


def conv_bias_gradient(grad_output: Any, out: Any) -> None:
    images, filters, *output = grad_output.shape
    count = images * math.prod(output)
    number, length = parts(count)
    launch = plan_conv_bias_gradient(images, filters, math.prod(output))
    if number == 1:
        launch(contiguous(grad_output), out, count, length)
    else:
        sums = buffers.empty((filters, number), np.float32, like=out)
        launch(contiguous(grad_output), sums, count, length)
        row_sums(sums, out)


@cache
def plan_conv_bias_gradient(images: int, filters: int, pixels: int) -> Launch:
    """pixels: of one image and filter."""
    number, _ = parts(images * pixels)
    return Launch(_kernel(filters, pixels), (filters, number), (THREADS,))


@cache
def _kernel(filters: int, pixels: int) -> Kernel:
    at = place(filters, pixels)

    def conv_bias_gradient(grad_output, sums, count, length):
        # A block owns a part of a filter's pixels.
        thread = uint32(cuda.threadIdx.x)
        k, part = uint32(cuda.blockIdx.x), uint32(cuda.blockIdx.y)
        e = uint32(part * length + thread)
        end = uint32(min(uint32((part + uint32(1)) * length), count))
        total = float32(0)
        while e < end:
            total += grad_output[at(k, e)]
            e = uint32(e + uint32(THREADS))
        total = block_sum(total)
        if thread == uint32(0):
            sums[uint32(k * uint32(cuda.gridDim.y) + part)] = total

    parameters = pointer(float32), pointer(float32), uint32, uint32
    return Kernel("conv_bias_gradient", conv_bias_gradient, parameters, THREADS)
