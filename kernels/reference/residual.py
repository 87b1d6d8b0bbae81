"""The sums of a residual layer; the formulas stand in `cnn.kernels.residual`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.reference import activation as activations

Array = np.ndarray[Any, Any]


def residual_forward(body: Array, around: Array, activation: str | None, y: Array) -> None:
    np.add(body, around, out=y)
    if activation is not None:
        getattr(activations, f"{activation}_forward")(y, y)


def residual_backward(
    grad_body: Array, grad_around: Array, input_activation: str | None, x: Array | None, grad_x: Array
) -> None:
    np.add(grad_body, grad_around, out=grad_x)
    if input_activation is not None:
        getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)
