"""The dense layer through cuBLAS, with bias and activation in one launch behind it.

The formulas stand in `cnn.kernels.linear`.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda import bias as biases
from cnn.kernels.cuda.launch import matmul


def linear_forward(x: Any, weight: Any, bias: Any | None, activation: str | None, out: Any) -> None:
    matmul(x, weight.T, out)
    if bias is not None:
        biases.add_bias(out, bias, activation)
    elif activation is not None:
        getattr(activations, f"{activation}_forward")(out, out)


def linear_backward(
    x: Any,
    weight: Any,
    grad_output: Any,
    activation: str | None,
    y: Any | None,
    input_activation: str | None,
    _deterministic: bool,
    grad_weight: Any,
    grad_bias: Any | None,
    grad_x: Any | None,
    _zeroed: bool,
) -> None:
    g = grad_output if activation is None else empty(grad_output.shape, grad_output.dtype, like=grad_output)
    if grad_bias is not None:
        biases.bias_backward(grad_output, y, activation, g, grad_bias)
    elif activation is not None:
        getattr(activations, f"{activation}_backward")(grad_output, y, g)
    matmul(g.T, x, grad_weight)
    if grad_x is not None:
        matmul(g, weight, grad_x)
        if input_activation is not None:
            getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)
