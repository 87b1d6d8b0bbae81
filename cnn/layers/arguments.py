"""What constructors of layers share: checks of their arguments, and how a `repr` shows them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from cnn.kernels import ShapeError


def check_size(layer: str, name: str, value: Any) -> int:
    """`value` as an int of at least 1. Raises `ShapeError` in the name of the layer."""
    try:
        size = operator.index(value)
    except TypeError:
        size = 0
    if size < 1:
        raise ShapeError(f"{layer}: {name} must be an int of at least 1, got {value!r}")
    return size


def check_sizes(layer: str, name: str, value: int | Sequence[int], dimensions: int) -> tuple[int, ...]:
    """`value`, an int or one int per dimension, as a tuple. Raises `ShapeError` in the name of the layer."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dimensions
    if len(values) != dimensions:
        raise ShapeError(f"{layer}: {name} must be an int or {dimensions} of them, got {value!r}")
    return tuple(check_size(layer, name, v) for v in values)


def shown(*required: Any, **options: tuple[Any, Any]) -> str:
    """ "1, 6, 5, padding=2": the required arguments, then each option (value, default) that is not at its default."""
    changed = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
    return ", ".join([*map(repr, required), *changed])


def brief(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    """One int where all sizes are the same."""
    return sizes[0] if len(set(sizes)) == 1 else sizes
