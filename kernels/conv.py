"""Convolution: y[n, k, p] = bias[k] + sum over c, r of weight[k, c, r] * x[n, c, p * stride + r * dilation - padding].

p and r run over one index per spatial dimension; with groups, c runs over the channels of the filter's group; with
mode="convolution" the filter is rotated by 180 degrees first. The three passes are the three uses of that sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnn.kernels.buffers import filled
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape, check_written
from cnn.kernels.errors import ShapeError
from cnn.kernels.geometry import CROSS_CORRELATION, ConvGeometry
from cnn.kernels.options import check_choice, check_flag
from cnn.kernels.precision import FLOAT32, check_precision

ACTIVATIONS = (None, "relu", "sigmoid", "tanh")


def conv_forward(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = CROSS_CORRELATION,
    activation: str | None = None,
    precision: str = FLOAT32,
    out: Any = None,
) -> Any:
    """Convolve x (N, C, *spatial) with weight (K, C/groups, *kernel), add bias (K,), apply the activation.

    stride, dilation: an int or one int per dimension. padding: an int, one int or one (before, after) pair per
    dimension, "valid", or "same" (output size = ceil(input / stride), the odd one after). mode: "cross-correlation" or
    "convolution". activation: None, "relu", "sigmoid" or "tanh". precision: the least that the factors of the products
    may have, "float32", "tf32" or "bf16" (see `cnn.kernels.precision`). out: overwritten with the result, never read.

    Returns y (N, K, *output) of the dtype of x, float32 or float64. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "conv_forward"
    check_arrays(operation, optional=("bias", "out"), x=x, weight=weight, bias=bias, out=out)
    geometry = ConvGeometry.of(
        operation,
        x.shape,
        weight.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        mode=mode,
    )
    if bias is not None:
        check_shape(operation, "bias", bias, (geometry.filters,))
    check_choice(operation, "activation", activation, ACTIVATIONS)
    check_precision(operation, precision)
    module = backend_module(operation, "conv", x, geometry.dimensions)
    return filled(
        operation,
        out,
        geometry.y_shape,
        x.dtype,
        (x, weight, bias),
        lambda y: module.conv_forward(x, weight, bias, geometry, activation, precision, y),
    )


def conv_kernel_gradient(
    x: Any,
    grad_output: Any,
    weight_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = CROSS_CORRELATION,
    deterministic: bool = False,
    precision: str = FLOAT32,
    out: Any = None,
    grad_bias: Any = None,
) -> Any:
    """Gradient of the shared weights: the correlation of x with grad_output, summed over every overlay.

    x (N, C, *spatial), grad_output (N, K, *output); options as in `conv_forward`. deterministic: the same bits in every
    run, which the CPU backends give in any case. grad_bias: a contiguous array (K,), overwritten with the gradient of
    the bias, which a GPU sums up in the same pass, of what was not rounded. Returns grad_weight of `weight_shape`
    (K, C/groups, *kernel). Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "conv_kernel_gradient"
    optional = ("out", "grad_bias")
    check_arrays(operation, optional=optional, x=x, grad_output=grad_output, out=out, grad_bias=grad_bias)
    check_flag(operation, "deterministic", deterministic)
    check_precision(operation, precision)
    geometry = ConvGeometry.of(
        operation,
        x.shape,
        weight_shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        mode=mode,
    )
    check_shape(operation, "grad_output", grad_output, geometry.y_shape)
    if grad_bias is not None:
        check_shape(operation, "grad_bias", grad_bias, (geometry.filters,))
        check_written(operation, "grad_bias", grad_bias, x, grad_output, out)
        if not grad_bias.flags.c_contiguous:
            raise ShapeError(f"{operation}: grad_bias must be contiguous")
    module = backend_module(operation, "conv", x, geometry.dimensions)
    return filled(
        operation,
        out,
        geometry.weight_shape,
        x.dtype,
        (x, grad_output),
        lambda grad_weight: module.conv_kernel_gradient(
            x, grad_output, geometry, deterministic, precision, grad_weight, grad_bias
        ),
    )


def conv_input_gradient(
    grad_output: Any,
    weight: Any,
    input_shape: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = CROSS_CORRELATION,
    precision: str = FLOAT32,
    out: Any = None,
) -> Any:
    """Gradient of the input: the full convolution of grad_output with the rotated filter.

    grad_output (N, K, *output), weight (K, C/groups, *kernel); options as in `conv_forward`. Returns grad_x of
    `input_shape` (N, C, *spatial). Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "conv_input_gradient"
    check_arrays(operation, optional=("out",), grad_output=grad_output, weight=weight, out=out)
    check_precision(operation, precision)
    geometry = ConvGeometry.of(
        operation,
        input_shape,
        weight.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        mode=mode,
    )
    check_shape(operation, "grad_output", grad_output, geometry.y_shape)
    module = backend_module(operation, "conv", grad_output, geometry.dimensions)
    return filled(
        operation,
        out,
        geometry.x_shape,
        grad_output.dtype,
        (grad_output, weight),
        lambda grad_x: module.conv_input_gradient(grad_output, weight, geometry, precision, grad_x),
    )


def conv_bias_gradient(grad_output: Any) -> Any:
    """Gradient of the bias: grad_output (N, K, *output) summed over images and pixels, (K,).

    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "conv_bias_gradient"
    check_arrays(operation, grad_output=grad_output)
    if not 3 <= grad_output.ndim <= 5:
        raise ShapeError(
            f"{operation}: grad_output must be (N, K, *output) with 1 to 3 spatial dimensions, got {grad_output.shape}"
        )
    module = backend_module(operation, "conv", grad_output, grad_output.ndim - 2)
    return filled(
        operation,
        None,
        (grad_output.shape[1],),
        grad_output.dtype,
        (grad_output,),
        lambda grad_bias: module.conv_bias_gradient(grad_output, grad_bias),
    )
