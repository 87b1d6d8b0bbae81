"""Pooling on a GPU: the layers of the built-in models, drawn geometries, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, on_device, to_device, to_host, uniform
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.gpu

# lenet5 twice, mnist-cnn, cifar-cnn twice, and what resnet8 averages.
LAYERS = [
    ((64, 6, 28, 28), 2),
    ((64, 16, 10, 10), 2),
    ((128, 64, 24, 24), 2),
    ((128, 32, 32, 32), 2),
    ((128, 64, 16, 16), 2),
    ((128, 64, 8, 8), 8),
]


@pytest.mark.parametrize(("shape", "window"), LAYERS)
def test_layers_of_the_models(shape: tuple[int, ...], window: int) -> None:
    x = integers(*shape)
    y, argmax = check_parity("max_pool_forward", {"x": x, "window": window})
    g = integers(*y.shape, seed=1)
    check_parity("max_pool_backward", {"grad_output": g, "argmax": argmax, "input_shape": shape, "window": window})
    check_parity("avg_pool_forward", {"x": x, "window": window}, length=256)
    check_parity("avg_pool_backward", {"grad_output": g, "input_shape": shape, "window": window}, length=4)


@st.composite
def poolings(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape of an input, and options with which a window fits."""
    inputs, windows, strides, paddings = [], [], [], []
    for _ in range(draw(st.integers(1, 2))):
        window = draw(st.integers(1, 9))
        before, after = draw(st.integers(0, window - 1)), draw(st.integers(0, window - 1))
        inputs.append(draw(st.integers(max(1, window - before - after), 20)))
        windows.append(window)
        strides.append(draw(st.integers(1, 5)))
        paddings.append((before, after))
    options = {"window": tuple(windows), "stride": tuple(strides), "padding": tuple(paddings)}
    shape = (draw(st.integers(0, 3)), draw(st.integers(1, 3)), *inputs)
    return shape, {**options, "ceil_mode": draw(st.booleans())}


@given(poolings(), st.booleans())
@settings(max_examples=8)
def test_drawn_geometries(case: tuple[tuple[int, ...], dict[str, Any]], count_include_pad: bool) -> None:
    shape, options = case
    x = integers(*shape)
    y, argmax = check_parity("max_pool_forward", {"x": x, **options})
    backward = {"grad_output": integers(*y.shape, seed=1), "argmax": argmax, "input_shape": shape}
    (grad,) = check_parity("max_pool_backward", {**backward, **options})
    assert_array_equal(on_device("max_pool_backward", backward)[0], grad)  # without the windows
    options["count_include_pad"] = count_include_pad
    check_parity("avg_pool_forward", {"x": x, **options}, length=256)
    del backward["argmax"]
    check_parity("avg_pool_backward", {**backward, **options}, length=256)


def test_ties_nan_and_infinity() -> None:
    x = np.array([1, np.nan, np.nan, 3, -np.inf, -np.inf, 5, np.inf, np.inf, 0.0, -0.0, 0.0], np.float32)
    _, argmax = check_parity("max_pool_forward", {"x": x.reshape(1, 1, 12), "window": 3})
    assert_array_equal(argmax[0, 0], [1, 3, 7, 9])


@pytest.mark.parametrize("wrong", [-1, 16, 2**31 - 1, -(2**31)])
def test_argmax_outside_the_plane_adds_to_nothing(wrong: int) -> None:
    # The host raises an error; here the values are never read back, and never an address.
    argmax = np.array([[[[0, wrong], [8, 15]]]], np.int32)
    grad_output = np.array([[[[1, 2], [3, 4]]]], np.float32)
    for windows in ({}, {"window": 2}):
        backward = {"grad_output": grad_output, "argmax": argmax, "input_shape": (1, 1, 4, 4), **windows}
        (grad,) = on_device("max_pool_backward", backward)
        assert_array_equal(grad.ravel()[[0, 8, 15]], [1, 3, 4])
        assert grad.sum() == 8


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[..., ::-1], np.s_[1:, :, 1:, 1:]])
def test_inputs_in_any_layout(view: Any) -> None:
    x = uniform(3, 4, 9, 9)
    with kernels.backend("cuda"):
        y, argmax = kernels.max_pool_forward(to_device(x)[view], 3, stride=2)
        average = kernels.avg_pool_forward(to_device(x)[view], 3, stride=2)
        grad = kernels.max_pool_backward(y[:, ::-1], argmax[:, ::-1], x[view].shape, window=3, stride=2)
    expected_y, expected_argmax = in_reference("max_pool_forward", {"x": x[view], "window": 3, "stride": 2})
    assert_array_equal(to_host(y), expected_y)
    assert_array_equal(to_host(argmax), expected_argmax)
    expected_average = in_reference("avg_pool_forward", {"x": x[view], "window": 3, "stride": 2})[0]
    assert_close(to_host(average), expected_average, length=16)
    backward = {"grad_output": expected_y[:, ::-1], "argmax": expected_argmax[:, ::-1], "input_shape": x[view].shape}
    assert_close(to_host(grad), in_reference("max_pool_backward", backward)[0], length=16)
