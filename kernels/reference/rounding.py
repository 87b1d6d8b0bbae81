"""Rounding as tensor cores have it: numbers of fewer bits in float32, so that products and sums can be predicted.

    tf32    8 bits of exponent, 10 of mantissa; to nearest, ties away from zero (the instruction cvt.rna.tf32.f32)
    bf16    8 bits of exponent, 7 of mantissa; to nearest, ties to even (cvt.rn.bf16x2.f32)

A tensor core multiplies such numbers exactly and adds the products up in float32. Rounding the operands and convolving
in float64 is therefore what a kernel comes to, but for the rounding of its sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Bits of a float32's mantissa that are dropped.
DROPPED = {"tf32": 13, "bf16": 16}


def rounded(x: Array, precision: str) -> Array:
    """`x`, float32, to the nearest numbers of `precision`, "tf32" or "bf16", as float32. NaN stays NaN."""
    dropped = np.uint32(DROPPED[precision])
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    half: Any = np.uint32(1) << (dropped - np.uint32(1))
    if precision == "bf16":  # half less one, and one more where what stays is odd
        half = half - np.uint32(1) + (bits >> dropped & np.uint32(1))
    result = ((bits + half) >> dropped << dropped).view(np.float32)
    return np.where(np.isfinite(x), result, x).astype(np.float32)
