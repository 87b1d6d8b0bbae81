"""Sizes as callers give them: shapes, strides, windows, padding. Read into tuples of ints, and held to their rules.

Everything here raises `ShapeError` in the name of the operation, with the values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from cnn.kernels.errors import ShapeError

# The padded plane of one image and channel is indexed with 32 bits on a GPU; beyond that a call is refused.
LARGEST_PLANE = 2**31 - 1

Pairs = tuple[tuple[int, int], ...]


def _is_plain(sizes: Any) -> bool:
    """Whether it is a tuple of Python ints, nothing more: what the shapes of arrays are."""
    if type(sizes) is not tuple:
        return False
    for size in sizes:  # noqa: SIM110 - `all` of so few takes twice as long
        if type(size) is not int:
            return False
    return True


def read_shape(operation: str, name: str, shape: Sequence[int]) -> tuple[int, ...]:
    if _is_plain(shape):
        return shape  # type: ignore[return-value]
    try:
        return tuple(operator.index(size) for size in shape)
    except TypeError:
        raise ShapeError(f"{operation}: the shape of {name} must be a sequence of ints, got {shape!r}") from None


def check_not_negative(operation: str, name: str, shape: tuple[int, ...]) -> None:
    if shape and min(shape) < 0:
        raise ShapeError(f"{operation}: the shape of {name} must not have negative sizes, got {shape}")


def spatial_dimensions(operation: str, x_shape: tuple[int, ...]) -> int:
    dimensions = len(x_shape) - 2
    if not 1 <= dimensions <= 3:
        raise ShapeError(f"{operation}: x must be (N, C, L), (N, C, H, W) or (N, C, D, H, W), got shape {x_shape}")
    return dimensions


def freeze(option: Any) -> Any:
    """Lists become tuples, so that options can be keys of a cache."""
    if type(option) is int or _is_plain(option):  # by far the most
        return option
    if isinstance(option, list | tuple):
        return tuple(freeze(item) for item in option)
    return option if isinstance(option, str) or option is None else _index(option)


def _index(value: Any) -> Any:
    """A Python int where `value` is an integer (NumPy's included), else its text, which no rule accepts."""
    try:
        return operator.index(value)
    except TypeError:
        return repr(value)


def read_integers(operation: str, name: str, value: Any, dimensions: int, least: int) -> tuple[int, ...]:
    value = freeze(value)
    values = value if isinstance(value, tuple) else (value,) * dimensions
    if len(values) != dimensions or not all(isinstance(v, int) and v >= least for v in values):
        each = "an int" if dimensions == 1 else f"an int or {dimensions} ints"
        raise ShapeError(f"{operation}: {name} must be {each} of at least {least}, got {value}")
    return values


def read_padding(
    operation: str, padding: Any, input_: tuple[int, ...], extents: tuple[int, ...], strides: tuple[int, ...]
) -> Pairs:
    """Padding as one (before, after) pair per dimension.

    "same" gives ceil(input / stride) outputs, with the odd element of padding after.
    """
    dimensions = len(input_)
    if padding == "valid":
        return ((0, 0),) * dimensions
    if padding == "same":
        totals = [
            max((-(-size // step) - 1) * step + extent - size, 0)
            for size, extent, step in zip(input_, extents, strides, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)
    items = padding if isinstance(padding, tuple) else (padding,) * dimensions
    pairs = tuple(item if isinstance(item, tuple) else (item, item) for item in items)
    if len(pairs) != dimensions or not all(
        len(pair) == 2 and all(isinstance(v, int) and v >= 0 for v in pair) for pair in pairs
    ):
        raise ShapeError(
            f"{operation}: padding must be an int, an int or (before, after) pair for each of {dimensions} dimensions, "
            f'"valid" or "same", none negative, got {padding!r}'
        )
    return pairs


def within(sizes: tuple[int, ...], input_: Sequence[int], padding: Pairs) -> tuple[int, ...]:
    """Strides or windows, none beyond the padded input: what lies there is the same for all of them.

    So neither memory nor an index of 64 bits has to be large enough for a number that changes nothing.
    """
    padded = [size + before + after for size, (before, after) in zip(input_, padding, strict=True)]
    return tuple(min(size, max(limit, 1)) for size, limit in zip(sizes, padded, strict=True))


def check_plane(operation: str, input_: tuple[int, ...], padding: Pairs) -> None:
    plane = math.prod(size + before + after for size, (before, after) in zip(input_, padding, strict=True))
    if plane > LARGEST_PLANE:
        raise ShapeError(
            f"{operation}: the padded plane of one channel has {plane} elements, more than {LARGEST_PLANE} "
            f"(input {input_}, padding {padding})"
        )
