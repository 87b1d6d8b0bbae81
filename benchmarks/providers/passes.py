"""A pass as a call of `cnn.kernels`, on arrays of either device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.shapes import FORWARD, KERNEL_GRADIENT, Case
from benchmarks.verify import Data
from cnn import kernels


def pass_of(
    case: Case, purpose: str, data: Data, *, precision: str = "float32", deterministic: bool = False
) -> Callable[[], Any]:
    """deterministic: of the kernel gradient."""
    options = {**case.options, "precision": precision}
    if purpose == FORWARD:
        return lambda: kernels.conv_forward(data.x, data.weight, data.bias, **options)
    if purpose == KERNEL_GRADIENT:
        options["deterministic"] = deterministic
        return lambda: kernels.conv_kernel_gradient(data.x, data.grad_output, data.weight.shape, **options)
    return lambda: kernels.conv_input_gradient(data.grad_output, data.weight, data.x.shape, **options)
