"""Checks that the backward passes of layers with weights have in common."""

from __future__ import annotations

from typing import Any

from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import check_shape, check_written
from cnn.kernels.errors import ShapeError
from cnn.kernels.options import check_choice


def check_activation(operation: str, activation: Any, y: Any, shape: tuple[int, ...], input_activation: Any) -> None:
    """An activation comes with its output y, of `shape`."""
    check_choice(operation, "activation", activation, ACTIVATIONS)
    check_choice(operation, "input_activation", input_activation, ACTIVATIONS)
    if (y is None) != (activation is None):
        raise ShapeError(f"{operation}: y and activation come together, got activation={activation!r}")
    if y is not None:
        check_shape(operation, "y", y, shape)


def check_gradients(
    operation: str, weight_shape: tuple[int, ...], gradients: dict[str, Any], inputs: tuple[Any, ...]
) -> None:
    """grad_weight, of `weight_shape`, and grad_bias, for its first dimension or None, can be written."""
    shapes = {"grad_weight": weight_shape, "grad_bias": weight_shape[:1]}
    others = inputs
    for name, array in gradients.items():
        if array is not None:
            check_shape(operation, name, array, shapes[name])
            check_written(operation, name, array, *others)
            others = (*others, array)
            if not array.flags.c_contiguous:
                raise ShapeError(f"{operation}: {name} must be contiguous")
