"""Where every array that `cnn.kernels` returns or works in comes from.

One door, so that a test can make fresh memory NaN and see an element that no kernel wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cnn.kernels.dispatch import check_shape, check_written


def empty(shape: tuple[int, ...] | int, dtype: Any) -> np.ndarray[Any, Any]:
    """An uninitialised C-contiguous array."""
    return np.empty(shape, dtype)


def filled(
    operation: str,
    out: Any,
    shape: tuple[int, ...],
    dtype: Any,
    inputs: tuple[Any, ...],
    fill: Callable[[Any], None],
) -> Any:
    """The result of `fill(array)` in `out`, or in a fresh array where `out` is None.

    `out` may be strided: it is then filled through a contiguous array. Checked before anything is written.
    """
    if out is None:
        result = empty(shape, dtype)
        fill(result)
        return result
    check_shape(operation, "out", out, shape)
    check_written(operation, "out", out, *inputs)
    if out.flags.c_contiguous:
        fill(out)
    else:
        result = empty(shape, dtype)
        fill(result)
        out[...] = result
    return out
