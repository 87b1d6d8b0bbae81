"""The rounding of tensor cores: bits worked out by hand, and against other ways to the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cnn.kernels.reference.rounding import rounded

LARGEST = float(np.finfo(np.float32).max)
SMALLEST = 2.0**-126  # that is normal


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (1 + 2**-10, 1 + 2**-10),
        (1 + 2**-11, 1 + 2**-10),  # a tie: away from zero
        (-1 - 2**-11, -1 - 2**-10),
        (1 + 2**-10 + 2**-11, 1 + 2**-9),
        (1 + 2**-11 - 2**-23, 1),
        (2 - 2**-23, 2),  # carries into the exponent
        (3 * SMALLEST / 2, 3 * SMALLEST / 2),
        (2.0**-136, 2.0**-136),  # the last place of numbers below the smallest
        (2.0**-137, 2.0**-136),
        (0.0, 0.0),
        (LARGEST, np.inf),
        (-np.inf, -np.inf),
    ],
)
def test_tf32(x: float, expected: float) -> None:
    assert rounded(np.array([x], np.float32), "tf32") == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (1 + 2**-7, 1 + 2**-7),
        (1 + 2**-8, 1),  # ties: to even
        (1 + 3 * 2**-8, 1 + 2**-6),
        (-1 - 3 * 2**-8, -1 - 2**-6),
        (1 + 2**-8 + 2**-23, 1 + 2**-7),
        (1 + 2**-8 - 2**-23, 1),
        (2 - 2**-23, 2),
        (LARGEST, np.inf),
        (np.inf, np.inf),
    ],
)
def test_bf16(x: float, expected: float) -> None:
    assert rounded(np.array([x], np.float32), "bf16") == expected


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_not_a_number_stays(precision: str) -> None:
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7FFFFFFF, 0x7F800001], np.uint32)
    assert np.isnan(rounded(bits.view(np.float32), precision)).all()


def numbers(count: int) -> Any:
    rng = np.random.default_rng(0)
    return (rng.uniform(-2, 2, count) * 2.0 ** rng.integers(-100, 100, count)).astype(np.float32)


def test_tf32_in_other_words() -> None:
    x = numbers(10_000)
    mantissa, exponent = np.frexp(x.astype(np.float64))  # 0.5 <= |mantissa| < 1: eleven bits stay
    expected = np.sign(mantissa) * np.ldexp(np.floor(np.abs(mantissa) * 2**11 + 0.5), exponent - 11)
    assert_array_equal(rounded(x, "tf32"), expected)


def test_bf16_is_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    x = numbers(10_000)
    assert_array_equal(rounded(x, "bf16"), torch.from_numpy(x).bfloat16().float().numpy())


def test_arrays_keep_their_shape() -> None:
    x = np.asfortranarray(numbers(12).reshape(3, 4))
    assert_array_equal(rounded(x[:, ::2], "bf16"), rounded(x, "bf16")[:, ::2])
