"""Every gradient in float64 against central differences of its own forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import CENTRAL_DIFFERENCE, CENTRAL_DIFFERENCE_STEP

from cnn import kernels

Array = np.ndarray[Any, Any]


def central_difference(loss: Callable[[Array], float], at: Array) -> Array:
    """The gradient of `loss` at `at`, one element at a time."""
    gradient = np.empty(at.shape)
    for i in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[i] += CENTRAL_DIFFERENCE_STEP
        down[i] -= CENTRAL_DIFFERENCE_STEP
        gradient[i] = (loss(up) - loss(down)) / (up[i] - down[i])
    return gradient


def check(loss: Callable[[Array], float], at: Array, gradient: Array) -> None:
    np.testing.assert_allclose(gradient, central_difference(loss, at), rtol=CENTRAL_DIFFERENCE, atol=CENTRAL_DIFFERENCE)


@given(st.integers(1, 3).flatmap(conv_cases), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_convolution(case: ConvCase, seed: int) -> None:
    x, weight, g = case.reals(seed)
    o = case.options
    check(
        lambda w: float((kernels.conv_forward(x, w, **o) * g).sum()),
        weight,
        kernels.conv_kernel_gradient(x, g, weight.shape, **o),
    )
    check(
        lambda x: float((kernels.conv_forward(x, weight, **o) * g).sum()),
        x,
        kernels.conv_input_gradient(g, weight, x.shape, **o),
    )


def test_bias() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = rng.uniform(-1, 1, (2, 2, 4, 3)), rng.uniform(-1, 1, (3, 2, 2, 2)), rng.uniform(-1, 1, 3)
    g = rng.uniform(-1, 1, (2, 3, 3, 2))
    check(lambda b: float((kernels.conv_forward(x, weight, b) * g).sum()), bias, kernels.conv_bias_gradient(g))


@pytest.mark.parametrize(
    ("name", "options"),
    [("relu", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("sigmoid", {}), ("tanh", {})],
)
def test_activations(name: str, options: dict[str, float]) -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0.1, 3, (4, 5)) * rng.choice([-1, 1], (4, 5))  # away from the kink at 0
    g = rng.uniform(-1, 1, x.shape)
    forward, backward = getattr(kernels, f"{name}_forward"), getattr(kernels, f"{name}_backward")
    check(lambda x: float((forward(x, **options) * g).sum()), x, backward(g, forward(x, **options), **options))


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 2, 6, 5), (1, 2, 4, 3, 5)])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 1, "padding": 1}, {"stride": 2, "ceil_mode": True}, {"stride": 4, "padding": 1}]
)
def test_pooling(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    # All elements differ by more than the step, so no difference straddles a change of the maximum.
    x = rng.permutation(np.prod(shape)).reshape(shape) / 50
    y, argmax = kernels.max_pool_forward(x, 3, **options)
    g = rng.uniform(-1, 1, y.shape)
    check(
        lambda x: float((kernels.max_pool_forward(x, 3, **options)[0] * g).sum()),
        x,
        kernels.max_pool_backward(g, argmax, x.shape),
    )
    for count_include_pad in (True, False):
        average = {**options, "count_include_pad": count_include_pad}
        check(
            lambda x, average=average: float((kernels.avg_pool_forward(x, 3, **average) * g).sum()),  # type: ignore[misc]
            x,
            kernels.avg_pool_backward(g, x.shape, 3, **average),
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction: str) -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.uniform(-2, 2, (5, 4)), rng.integers(0, 4, 5)
    for loss in (kernels.softmax_cross_entropy, kernels.hinge):
        # With "none" the gradient is that of the sum of the losses.
        check(
            lambda s, f=loss: float(f(s, labels, reduction=reduction)[0].sum()),
            scores,  # type: ignore[misc]
            loss(scores, labels, reduction=reduction)[1],
        )
    target = rng.uniform(-2, 2, scores.shape)
    check(
        lambda y: float(kernels.mean_squared_error(y, target, reduction=reduction)[0].sum()),
        scores,
        kernels.mean_squared_error(scores, target, reduction=reduction)[1],
    )


@pytest.mark.parametrize("shape", [(7, 3), (3, 2, 5), (2, 3, 3, 2), (2, 2, 2, 2, 3)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    channels = shape[1]
    x, g = rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape)
    weight, bias = rng.uniform(0.5, 1.5, channels), rng.uniform(-1, 1, channels)

    def forward(x: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        running = np.zeros(channels), np.ones(channels)
        y, saved = kernels.batch_norm_forward(x, weight, bias, *running, training=True)
        return y, saved

    _, saved = forward(x, weight, bias)
    grad_x, grad_weight, grad_bias = kernels.batch_norm_backward(g, x, weight, saved)
    check(lambda x: float((forward(x, weight, bias)[0] * g).sum()), x, grad_x)
    check(lambda w: float((forward(x, w, bias)[0] * g).sum()), weight, grad_weight)
    check(lambda b: float((forward(x, weight, b)[0] * g).sum()), bias, grad_bias)
