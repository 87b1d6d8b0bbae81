"""Convolution against numbers worked out elsewhere: textbooks, published articles, other libraries' tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")


def float32(values: object, *shape: int) -> np.ndarray:
    array = np.array(values, np.float32)
    return array.reshape(shape) if shape else array


# Width 5, height 4; x = 1..20, weight = 1..4, after NNlib.jl's test/conv.jl, and derived again by hand.
X = float32(range(1, 21), 1, 1, 4, 5)
WEIGHT = float32(range(1, 5), 1, 1, 2, 2)


def test_plain_two_dimensions() -> None:
    y = kernels.conv_forward(X, WEIGHT)
    assert_array_equal(y[0, 0], [[51, 61, 71, 81], [101, 111, 121, 131], [151, 161, 171, 181]])
    assert_array_equal(kernels.conv_kernel_gradient(X, y, WEIGHT.shape)[0, 0], [[12590, 13982], [19550, 20942]])
    assert_array_equal(
        kernels.conv_input_gradient(y, WEIGHT, X.shape)[0, 0],
        [
            [51, 163, 193, 223, 162],
            [254, 700, 800, 900, 586],
            [454, 1200, 1300, 1400, 886],
            [453, 1087, 1157, 1227, 724],
        ],
    )


def test_true_convolution_with_stride_2() -> None:
    options = {"mode": "convolution", "stride": 2}
    y = kernels.conv_forward(X, WEIGHT, **options)
    assert_array_equal(y[0, 0], [[29, 49], [129, 149]])
    assert_array_equal(kernels.conv_kernel_gradient(X, y, WEIGHT.shape, **options)[0, 0], [[5668, 5312], [3888, 3532]])
    assert_array_equal(
        kernels.conv_input_gradient(y, WEIGHT, X.shape, **options)[0, 0],
        [[116, 87, 196, 147, 0], [58, 29, 98, 49, 0], [516, 387, 596, 447, 0], [258, 129, 298, 149, 0]],
    )


def test_one_dimension_shares_two_weights_over_two_overlays() -> None:
    x, weight = float32([1, 2, 3], 1, 1, 3), float32([0.3, 0.5], 1, 1, 2)
    deltas = float32([-0.1, 0.2], 1, 1, 2)
    assert_close(kernels.conv_forward(x, weight)[0, 0], [1.3, 2.1], length=2)
    # The overlays [1, 2] and [2, 3], weighted with their deltas: -0.1 * [1, 2] + 0.2 * [2, 3].
    assert_close(kernels.conv_kernel_gradient(x, deltas, weight.shape)[0, 0], [0.3, 0.4], length=2)
    assert_close(kernels.conv_bias_gradient(deltas), [0.1], length=2)
    assert_close(kernels.conv_input_gradient(deltas, weight, x.shape)[0, 0], [-0.03, 0.01, 0.1], length=2)


# The published example of two layers of true convolution, printed with two decimals.
IMAGE = float32(
    [[0.7, -0.3, -0.7, 0.5], [0.9, -0.5, -0.2, 0.9], [-0.1, 0.8, -0.3, -0.5], [0, 0.2, -0.1, 0.6]], 1, 1, 4, 4
)
FIRST_FILTER = float32([[0.1, -0.3], [-0.5, 0.7]], 1, 1, 2, 2)
SECOND_FILTER = float32([[-0.5, 0.1], [0.3, 0.9]], 1, 1, 2, 2)
HIDDEN = [[0.32, 0.27, -0.59], [0.99, -0.52, -0.55], [-0.45, 0.64, 0.13]]
OUTPUT = [[0.73, 0.29], [0.37, -0.63]]
DELTAS = float32([[-0.07, 0.15], [-0.09, 0.02]], 1, 1, 2, 2)
TWO_DECIMALS = 0.0051  # half a unit of the second decimal, and the rounding of float32

# What the text goes on with, as printed.
PUBLISHED_KERNEL_GRADIENT = [[0.17, 0.02], [-0.05, 0.13]]
PUBLISHED_CENTRE_OF_INPUT_DELTA = -0.13
# The derivatives, by finite differences of the two layers above.
KERNEL_GRADIENT = [[-0.101, -0.094], [-0.072, -0.081]]
INPUT_DELTA = [[-0.063, 0.114, 0.045], [-0.088, 0.041, -0.069], [-0.009, 0.047, -0.010]]
THREE_DECIMALS = 0.00051


def hidden() -> np.ndarray:
    """The first layer's output, rounded to two decimals, as the text goes on with it."""
    return float32(HIDDEN, 1, 1, 3, 3)


def test_two_layers_forward_as_published() -> None:
    y = kernels.conv_forward(IMAGE, FIRST_FILTER, mode="convolution")
    np.testing.assert_allclose(y[0, 0], HIDDEN, rtol=0, atol=TWO_DECIMALS)
    y = kernels.conv_forward(y, SECOND_FILTER, mode="convolution")
    np.testing.assert_allclose(y[0, 0], OUTPUT, rtol=0, atol=TWO_DECIMALS)


def test_two_layers_backward_are_derivatives_where_the_text_is_not() -> None:
    kernel_gradient = kernels.conv_kernel_gradient(hidden(), DELTAS, SECOND_FILTER.shape, mode="convolution")[0, 0]
    np.testing.assert_allclose(kernel_gradient, KERNEL_GRADIENT, rtol=0, atol=THREE_DECIMALS)
    input_delta = kernels.conv_input_gradient(DELTAS, SECOND_FILTER, (1, 1, 3, 3), mode="convolution")[0, 0]
    np.testing.assert_allclose(input_delta, INPUT_DELTA, rtol=0, atol=THREE_DECIMALS)


def test_what_the_published_gradients_are() -> None:
    # The kernel gradient in print is the true convolution of the input with the deltas ...
    published = kernels.conv_forward(hidden(), DELTAS, mode="convolution")[0, 0]
    np.testing.assert_allclose(published, PUBLISHED_KERNEL_GRADIENT, rtol=0, atol=TWO_DECIMALS)
    # ... where the derivative is their correlation, rotated: not even the rotation of the published one.
    for turned in (published, np.rot90(published, 2)):
        assert np.abs(turned - KERNEL_GRADIENT).max() > 0.1
    # The input delta in print is a full convolution where the derivative is a full correlation; its centre is a slip.
    full = kernels.conv_forward(DELTAS, SECOND_FILTER, padding=1, mode="convolution")[0, 0]
    assert full[1, 1] == pytest.approx(-0.037, abs=THREE_DECIMALS)
    assert abs(full[1, 1] - PUBLISHED_CENTRE_OF_INPUT_DELTA) > 0.09


def test_symbolic_two_dimensional_case_with_sigmoid_and_squared_error() -> None:
    # 3x3 input a, itself a sigmoid, 2x2 filter, sigmoid, halved squared error; every index written out.
    rng = np.random.default_rng(7)
    z, w, target = rng.uniform(-1, 1, (3, 3)), rng.uniform(-1, 1, (2, 2)), rng.uniform(0, 1, (2, 2))
    bias = 0.3
    a = 1 / (1 + np.exp(-z))
    net = [[sum(w[r, s] * a[p + r, q + s] for r in (0, 1) for s in (0, 1)) + bias for q in (0, 1)] for p in (0, 1)]
    s = 1 / (1 + np.exp(-np.array(net)))
    delta = (s - target) * s * (1 - s)
    kernel_gradient = [
        [sum(delta[p, q] * a[p + r, q + c] for p in (0, 1) for q in (0, 1)) for c in (0, 1)] for r in (0, 1)
    ]
    # delta, zero-padded by one, correlated with the rotated filter, times the derivative of the input's sigmoid.
    padded = np.pad(delta, 1)
    back = [[(padded[i : i + 2, j : j + 2] * w[::-1, ::-1]).sum() for j in range(3)] for i in range(3)]
    input_delta = np.array(back) * a * (1 - a)

    x, weight = float32(a, 1, 1, 3, 3), float32(w, 1, 1, 2, 2)
    y = kernels.conv_forward(x, weight, float32([bias]), activation="sigmoid")
    assert_close(y[0, 0], s, length=5)
    grad_output = kernels.sigmoid_backward(y - float32(target), y)
    assert_close(grad_output[0, 0], delta, length=5)
    assert_close(kernels.conv_kernel_gradient(x, grad_output, weight.shape)[0, 0], kernel_gradient, length=9)
    assert_close(kernels.conv_bias_gradient(grad_output), [delta.sum()], length=9)
    grad_x = kernels.conv_input_gradient(grad_output, weight, x.shape)
    assert_close(kernels.sigmoid_backward(grad_x, x)[0, 0], input_delta, length=9)


@pytest.mark.parametrize(("padding", "overlays"), [(0, 4), (((0, 1), (0, 1)), 9), (1, 16)])
def test_weights_are_shared_over_all_overlays(padding: object, overlays: int) -> None:
    # A 2x2 filter on a 3x3 input: 4 weights however many overlays; 4 of them cover the input alone, where separate
    # filters would have 4 * 4 = 16 weights, and a dense layer from 9 inputs to 4 outputs 9 * 4 = 36.
    x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    y = kernels.conv_forward(x, weight, padding=padding)
    assert y.size == overlays
    grad_weight = kernels.conv_kernel_gradient(x, np.ones_like(y), weight.shape, padding=padding)
    assert grad_weight.shape == (1, 1, 2, 2)
    # Each weight meets one input element per overlay, padding aside.
    taps_on_the_input = {4: [[4, 4], [4, 4]], 9: [[9, 6], [6, 4]], 16: [[9, 9], [9, 9]]}
    assert_array_equal(grad_weight[0, 0], taps_on_the_input[overlays])
