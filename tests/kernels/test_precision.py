"""Precision on machines without tensor cores: checked everywhere, rounded in the reference, float32 on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import arguments, results
from numpy.testing import assert_array_equal
from refusals import check_refused

from cnn import kernels
from cnn.kernels.precision import PRECISIONS
from cnn.kernels.reference.rounding import rounded

CONVOLUTIONS = (
    "conv_forward",
    "conv_kernel_gradient",
    "conv_input_gradient",
    "conv_block_forward",
    "conv_block_backward",
)
ROUNDED = [precision for precision in PRECISIONS if precision != "float32"]


@pytest.mark.parametrize("precision", ["fp32", "TF32", None, 32])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_other_names_are_refused(name: str, precision: Any) -> None:
    words = "precision must be one of ('float32', 'tf32', 'bf16')", repr(precision)
    check_refused(name, {"precision": precision}, kernels.ShapeError, *words)


@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_cpu_computes_in_float32(name: str, precision: str) -> None:
    plain, ours = (results(name, {**arguments(name), **given}) for given in ({}, {"precision": precision}))
    for array, expected in zip(ours, plain, strict=True):
        assert_array_equal(array, expected)


@pytest.mark.parametrize("precision", ROUNDED)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_double_precision_is_never_rounded(name: str, precision: str) -> None:
    double = arguments(name, np.float64)
    plain, ours = (results(name, {**arguments(name, np.float64), **given}) for given in ({}, {"precision": precision}))
    assert all(array.dtype in (np.float64, np.int32) for array in ours)
    assert double["stride"] == 2
    for array, expected in zip(ours, plain, strict=True):
        assert_array_equal(array, expected)


# One tap, one channel: a product and nothing to add to it.
X = np.array([1 + 2**-11 + 2**-20, 3 + 2**-9, -1 - 2**-8 - 2**-16], np.float32).reshape(1, 1, 3)
FACTOR = np.array([1 + 2**-8 + 2**-12], np.float32).reshape(1, 1, 1)


@pytest.mark.parametrize("precision", ROUNDED)
def test_the_reference_rounds_both_factors(precision: str) -> None:
    x, factor = rounded(X, precision), rounded(FACTOR, precision)
    assert not np.array_equal(x, X)
    assert not np.array_equal(factor, FACTOR)
    bias = np.array([1 + 2**-20], np.float32)
    with kernels.backend("reference"):
        y = kernels.conv_forward(X, FACTOR, bias, precision=precision)
        assert_array_equal(y, (x.astype(np.float64) * factor + bias).astype(np.float32))
        assert_array_equal(kernels.conv_input_gradient(X, FACTOR, X.shape, precision=precision), x * factor)
        grad_bias = np.zeros(1, np.float32)
        g = np.full_like(X, FACTOR[0, 0, 0])
        grad_weight = kernels.conv_kernel_gradient(X, g, (1, 1, 1), precision=precision, grad_bias=grad_bias)
        assert_array_equal(grad_weight[0, 0], [np.float32((x.astype(np.float64) * factor).sum())])
        assert_array_equal(grad_bias, [g.sum()])  # of the numbers themselves


@pytest.mark.parametrize("precision", ROUNDED)
def test_the_reference_rounds_what_a_block_multiplies(precision: str) -> None:
    name = "conv_block_backward"
    given = {**arguments(name), "precision": precision}
    with kernels.backend("reference"):
        grad_x, grad_weight, grad_bias = results(name, given)
        # The same, one operation after the other.
        given = arguments(name)
        g = kernels.tanh_backward(given["grad_output"], given["y"])
        g = kernels.max_pool_backward(g, given["argmax"], (17, 6, 4, 4))
        options = {key: given[key] for key in ("stride", "padding", "groups", "mode")}
        x, weight = given["x"], given["weight"]
        expected = kernels.conv_kernel_gradient(x, g, weight.shape, **options, precision=precision)
        assert_array_equal(grad_weight, expected)
        assert_array_equal(grad_bias, kernels.conv_bias_gradient(g))
        expected = kernels.conv_input_gradient(g, weight, x.shape, **options, precision=precision)
        assert_array_equal(grad_x, kernels.sigmoid_backward(expected + given["grad_around"], x))
        # ... and not what float32 gives.
        assert not np.array_equal(grad_weight, kernels.conv_kernel_gradient(x, g, weight.shape, **options))
