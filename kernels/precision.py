"""How precise the factors of a convolution's products are, at least; sums and weights are float32 in any case.

    "float32"   as they are
    "tf32"      10 bits of mantissa: tensor cores of GPUs from compute capability 8.0 on may round them so
    "bf16"      7 bits of mantissa, likewise

Where no tensor core serves a layer, and on the CPU, float32 factors are not rounded. The reference rounds them as
tensor cores do, so that their results can be predicted. float64 is never rounded.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.options import check_choice

FLOAT32 = "float32"
PRECISIONS = (FLOAT32, "tf32", "bf16")


def check_precision(operation: str, precision: Any) -> str:
    """`precision` is one of `PRECISIONS`. Raises `ShapeError`."""
    return str(check_choice(operation, "precision", precision, PRECISIONS))
