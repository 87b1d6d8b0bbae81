"""Checks of options that are not arrays: each raises `ShapeError` in the name of the operation, with the value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.kernels.errors import ShapeError


def check_number(operation: str, name: str, value: Any, least: float = -math.inf) -> float:
    """`value` as a Python float; it must be a real number of at least `least`."""
    real = isinstance(value, int | float | np.integer | np.floating)
    if not real or (least == -math.inf and value != value):
        raise ShapeError(f"{operation}: {name} must be a number, got {value!r}")
    if not value >= least:  # true for NaN, too
        raise ShapeError(f"{operation}: {name} must be at least {least:g}, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ShapeError(f"{operation}: {name} must fit a float, got {value!r}") from None


def check_count(operation: str, name: str, value: Any, most: int) -> int:
    """`value` as a Python int; it must be a whole number from 0 to `most`."""
    if not isinstance(value, int | np.integer) or not 0 <= value <= most:
        raise ShapeError(f"{operation}: {name} must be a whole number from 0 to {most}, got {value!r}")
    return int(value)


def check_choice(operation: str, name: str, value: Any, choices: Sequence[str | None]) -> Any:
    """`value` is one of `choices`."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ShapeError(f"{operation}: {name} must be one of {tuple(choices)}, got {value!r}")
    return value


def check_flag(operation: str, name: str, value: Any) -> bool:
    """`value` as a bool; 0 and 1 will do."""
    if value is True or value is False:  # by far the most, and asked of every layer for every batch
        return bool(value)
    if not isinstance(value, int | np.bool_ | np.integer) or value not in (0, 1):
        raise ShapeError(f"{operation}: {name} must be True or False, got {value!r}")
    return bool(value)
