"""Convolution against its definition, and its gradients as the adjoints of the two linear maps that it is.

For every x, weight and g of the right shapes  <conv(x, weight), g> = <x, input gradient> = <weight, kernel gradient>.
On small integers stored in float32 no sum is ever rounded, so all of it holds with `==`.
"""

from __future__ import annotations

import numpy as np
import pytest
from conv_cases import ConvCase, conv_by_definition, conv_cases, inner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

SEEDS = st.integers(0, 2**32 - 1)


def check_against_definition(case: ConvCase, seed: int) -> None:
    x, weight, _ = case.integers(seed)
    bias = np.arange(case.weight_shape[0], dtype=np.float32)
    expected = conv_by_definition(case, x, weight)
    assert_array_equal(kernels.conv_forward(x, weight, **case.options), expected)
    expected = expected + bias.reshape(-1, *(1,) * (x.ndim - 2))
    assert_array_equal(kernels.conv_forward(x, weight, bias, **case.options), expected)
    expected = np.maximum(expected, 0)
    assert_array_equal(kernels.conv_forward(x, weight, bias, activation="relu", **case.options), expected)


def check_adjoints(case: ConvCase, seed: int) -> None:
    x, weight, g = case.integers(seed)
    y = kernels.conv_forward(x, weight, **case.options)
    assert y.shape == case.y_shape
    assert y.dtype == np.float32
    grad_x = kernels.conv_input_gradient(g, weight, x.shape, **case.options)
    grad_weight = kernels.conv_kernel_gradient(x, g, weight.shape, **case.options)
    assert grad_x.shape == case.x_shape
    assert grad_weight.shape == case.weight_shape
    assert inner(y, g) == inner(x, grad_x) == inner(weight, grad_weight)
    # The bias is added to every output of its filter.
    assert_array_equal(kernels.conv_bias_gradient(g), g.sum(axis=(0, *range(2, g.ndim))))


@pytest.mark.usefixtures("backend")
@given(conv_cases(1), SEEDS)
@settings(max_examples=100)
def test_definition_in_one_dimension(case: ConvCase, seed: int) -> None:
    check_against_definition(case, seed)


@pytest.mark.usefixtures("backend")
@given(conv_cases(2), SEEDS)
@settings(max_examples=100)
def test_definition_in_two_dimensions(case: ConvCase, seed: int) -> None:
    check_against_definition(case, seed)


@given(conv_cases(3), SEEDS)
@settings(max_examples=60)
def test_definition_in_three_dimensions(case: ConvCase, seed: int) -> None:
    check_against_definition(case, seed)


@pytest.mark.usefixtures("backend")
@given(conv_cases(1), SEEDS)
@settings(max_examples=150)
def test_adjoints_in_one_dimension(case: ConvCase, seed: int) -> None:
    check_adjoints(case, seed)


@pytest.mark.usefixtures("backend")
@given(conv_cases(2), SEEDS)
@settings(max_examples=150)
def test_adjoints_in_two_dimensions(case: ConvCase, seed: int) -> None:
    check_adjoints(case, seed)


@given(conv_cases(3), SEEDS)
@settings(max_examples=100)
def test_adjoints_in_three_dimensions(case: ConvCase, seed: int) -> None:
    check_adjoints(case, seed)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_activation_is_applied_to_the_result(activation: str, groups: int) -> None:
    rng = np.random.default_rng(groups)
    x = rng.integers(-2, 3, (3, 4, 5, 6)).astype(np.float32)
    weight = rng.integers(-2, 3, (8, 4 // groups, 3, 2)).astype(np.float32)
    bias = rng.integers(-2, 3, 8).astype(np.float32)
    plain = kernels.conv_forward(x, weight, bias, groups=groups, padding=1)
    activated = kernels.conv_forward(x, weight, bias, groups=groups, padding=1, activation=activation)
    expected = getattr(kernels, f"{activation}_forward")(plain)
    assert len(np.unique(expected)) > 1
    assert_close(activated, expected, length=1)
