"""The one table of tolerances: how far two correct computations of the same numbers may be apart.

Most of what this library computes is a sum of `length` products of numbers in [-1, 1]. Each addition rounds its partial
sum by at most u = eps / 2 of its size; partial sums of such terms grow like sqrt(k) / 3, and their rounding errors add
up like a random walk to u * length / 4. The table allows eps * length, eight times that: enough for any order of
summation and for fused or unfused multiply-adds on both sides, and far below one missing term (about 1/3), an operand
rounded to bfloat16 or TF32, or a float32 intermediate in a float64 result. The first row serves single operations
and elementary functions, too: 4 eps, since an exp or a tanh may be off by 2 units in the last place.

Data for a comparison is therefore drawn from [-1, 1]. On small integers there is no tolerance: they compare with `==`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Longest sum the row serves: tolerance, absolute and relative at once.
TOLERANCES: dict[str, dict[int, float]] = {
    "float32": {4: 4.8e-7, 16: 1.9e-6, 64: 7.6e-6, 256: 3.1e-5, 1024: 1.2e-4, 4096: 4.9e-4},
    "float64": {4: 8.9e-16, 16: 3.6e-15, 64: 1.4e-14, 256: 5.7e-14, 1024: 2.3e-13, 4096: 9.1e-13},
}

# A central difference with step h in float64 is off by h^2 / 6 times the third derivative, and by eps / h times the
# value from cancellation. At h = 1e-5 both lie near 1e-10 for the losses here, which are sums of up to some hundred
# terms; 1e-8 leaves room for those, and is far below what a wrong formula gives.
CENTRAL_DIFFERENCE_STEP = 1e-5
CENTRAL_DIFFERENCE = 1e-8


def tolerance(dtype: Any, length: int) -> float:
    """The tolerance for sums of `length` terms computed in `dtype`."""
    rows = TOLERANCES[np.dtype(dtype).name]
    return rows[min(row for row in rows if row >= length)]


def assert_close(actual: Any, expected: Any, *, length: int) -> None:
    """`actual`, sums of `length` terms, has the shape of `expected` and its values within the table's tolerance.

    Integers and truth values have no tolerance.
    """
    actual = np.asarray(actual)
    assert actual.shape == np.shape(expected)
    allowed = tolerance(actual.dtype, length) if actual.dtype.kind == "f" else 0
    np.testing.assert_allclose(actual, expected, rtol=allowed, atol=allowed)
