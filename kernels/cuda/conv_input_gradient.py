"""The input gradient: the full convolution of the output gradient with the rotated filter, phase by phase.

Each phase (see `geometry.Phase`) is a forward convolution of the output gradient: no multiplication with an inserted
zero is made, and every element of the input gradient belongs to one phase.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda.conv_forward import Plan, calls, plan
from cnn.kernels.cuda.conv_phase import check_sizes, input_gradient_phases
from cnn.kernels.cuda.launch import aligned, aligned_result, run
from cnn.kernels.cuda.tensor import served
from cnn.kernels.cuda.tile_table import kept
from cnn.kernels.geometry import ConvGeometry


def conv_input_gradient(grad_output: Any, weight: Any, geometry: ConvGeometry, precision: str, out: Any) -> None:
    plan_ = _plan(geometry, served(precision))
    with aligned_result(out) as grad_x:
        run(calls(plan_, geometry.batch, aligned(grad_output), aligned(weight), grad_x))


@kept
def _plan(geometry: ConvGeometry, precision: str) -> Plan:
    check_sizes("conv_input_gradient", geometry.x_shape, geometry.y_shape, geometry.weight_shape)
    return plan(input_gradient_phases(geometry), geometry.batch, precision)
