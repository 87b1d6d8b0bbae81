"""The forward convolution: a direct kernel for thin inputs and depthwise filters, else the implicit matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda import conv_direct, conv_product
from cnn.kernels.cuda.conv_phase import ConvPhase, check_sizes, forward_phase
from cnn.kernels.cuda.launch import aligned, aligned_result
from cnn.kernels.geometry import ConvGeometry


def conv_forward(
    x: Any, weight: Any, bias: Any | None, geometry: ConvGeometry, activation: str | None, out: Any
) -> None:
    check_sizes("conv_forward", geometry.x_shape, geometry.y_shape, geometry.weight_shape)
    with aligned_result(out) as y:
        run_phase(forward_phase(geometry, bias is not None, activation), geometry.batch, x, weight, bias, y)


def run_phase(phase: ConvPhase, images: int, source: Any, weight: Any, bias: Any | None, target: Any) -> None:
    """Launch what computes one phase of `target` from `source`."""
    source, weight = aligned(source), aligned(weight)
    bias = weight if bias is None else aligned(bias)  # an address that is never read
    pixels = np.uint32(images * phase.pixels)
    if phase.sources <= conv_direct.THIN:
        conv_direct.plan(phase, images)(source, weight, bias, target, pixels)
    else:
        plan = conv_product.plan(phase, images)
        packed = buffers.empty(max(plan.packed, 1), np.float32, like=source)
        plan.pack(weight, packed)
        plan.product(source, packed, bias, target, pixels)
