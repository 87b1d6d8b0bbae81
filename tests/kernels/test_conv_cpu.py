"""The CPU backend against the reference, where tiles, vectors and threads meet their ends.

On small integers no sum is rounded, so both must agree with `==`; the drawn geometries stand in test_conv_definition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

Array = np.ndarray[Any, Any]


def case_of(x: tuple[int, ...], weight: tuple[int, ...], y: tuple[int, ...], **options: Any) -> ConvCase:
    dimensions = len(x) - 2
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "mode": "cross-correlation"}
    given = {**defaults, **options}
    for name in ("stride", "dilation"):
        if isinstance(given[name], int):
            given[name] = (given[name],) * dimensions
    return ConvCase(x, weight, y, given)


def passes(case: ConvCase, x: Array, weight: Array, g: Array) -> tuple[Array, Array, Array]:
    """The three passes of one convolution."""
    bias = np.arange(weight.shape[0], dtype=x.dtype)
    y = kernels.conv_forward(x, weight, bias, **case.options)
    assert y.shape == case.y_shape
    grad_x = kernels.conv_input_gradient(g, weight, x.shape, **case.options)
    return y, grad_x, kernels.conv_kernel_gradient(x, g, weight.shape, **case.options)


def check_equal(case: ConvCase) -> None:
    arrays = case.integers(seed=sum(case.x_shape))
    with kernels.backend("reference"):
        expected = passes(case, *arrays)
    with kernels.backend("cpu"):
        for actual, wanted in zip(passes(case, *arrays), expected, strict=True):
            assert_array_equal(actual, wanted, strict=True)


@pytest.mark.parametrize("batch", [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33])
@pytest.mark.parametrize("groups", [1, 3])
def test_batches(batch: int, groups: int) -> None:
    x, weight, y = (batch, 6, 6, 5), (9, 6 // groups, 3, 2), (batch, 9, 3, 4)
    check_equal(case_of(x, weight, y, stride=(2, 1), padding=((1, 0), (0, 0)), groups=groups))


@pytest.mark.parametrize("filters", [*range(1, 10), 15, 16, 17])
@pytest.mark.parametrize("mode", ["cross-correlation", "convolution"])
def test_filters(filters: int, mode: str) -> None:
    check_equal(case_of((5, 3, 5, 6), (filters, 3, 2, 3), (5, filters, 4, 4), mode=mode))


@pytest.mark.parametrize("channels", [*range(1, 10), 15, 16, 17])
def test_channels(channels: int) -> None:
    check_equal(case_of((3, channels, 4, 5), (4, channels, 2, 2), (3, 4, 4, 5), padding=((0, 1), (1, 0))))


@pytest.mark.parametrize("group_filters", [1, 2, 7, 8, 9])
@pytest.mark.parametrize("group_channels", [1, 3])
def test_groups(group_filters: int, group_channels: int) -> None:
    x, weight = (2, 4 * group_channels, 5, 4), (4 * group_filters, group_channels, 3, 3)
    check_equal(case_of(x, weight, (2, 4 * group_filters, 5, 4), padding=((1, 1), (1, 1)), groups=4))


@pytest.mark.parametrize("channels", [1, 7, 8, 17, 33])
def test_depthwise(channels: int) -> None:
    x, weight, y = (17, channels, 6, 6), (channels, 1, 3, 3), (17, channels, 3, 3)
    check_equal(case_of(x, weight, y, stride=2, padding=((0, 1), (0, 1)), groups=channels))


@pytest.mark.parametrize("width", [*range(1, 10), 15, 16, 17])
@pytest.mark.parametrize("stride", [1, 2])
def test_output_widths(width: int, stride: int) -> None:
    check_equal(case_of((3, 2, 3, (width - 1) * stride + 3), (3, 2, 3, 3), (3, 3, 1, width), stride=stride))


@pytest.mark.parametrize("length", [*range(1, 10), 15, 16, 17, 63, 64, 65])
@pytest.mark.parametrize("batch", [0, 1, 17])
def test_lengths_in_one_dimension(length: int, batch: int) -> None:
    x, weight, y = (batch, 3, length + 2), (5, 3, 5), (batch, 5, length)
    check_equal(case_of(x, weight, y, padding=((1, 1),)))


@pytest.mark.parametrize("kernel", [(1, 1), (1, 7), (7, 1), (5, 5), (11, 11)])
@pytest.mark.parametrize("stride", [1, 4])
def test_kernel_sizes(kernel: tuple[int, int], stride: int) -> None:
    # Three overlays in each dimension.
    height, width = (2 * stride + size for size in kernel)
    check_equal(case_of((2, 2, height, width), (3, 2, *kernel), (2, 3, 3, 3), stride=stride))


@pytest.mark.parametrize("stride", [2, 3, 7])
def test_strides_that_step_over_input(stride: int) -> None:
    # Elements between the overlays: no output sees them, and their gradient is zero, not what memory held.
    case = case_of((3, 2, 2 * stride + 2, stride + 1), (3, 2, 1, 1), (3, 3, 3, 2), stride=stride)
    check_equal(case)
    x, weight, g = case.integers(0)
    grad_x = kernels.conv_input_gradient(g, weight, x.shape, **case.options)
    untouched = np.ones(x.shape, bool)
    untouched[:, :, ::stride, ::stride] = False
    assert untouched.any()
    assert (grad_x[untouched] == 0).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("stride", [2**40, 2**63, 2**70])
def test_strides_far_beyond_the_input(stride: int) -> None:
    # One output, whatever the stride: neither memory nor an index may grow with it.
    x, weight, g = (
        np.ones((2, 3, 4, 5), np.float32),
        np.ones((2, 3, 3, 2), np.float32),
        np.ones((2, 2, 1, 1), np.float32),
    )
    assert_array_equal(kernels.conv_forward(x, weight, stride=stride), np.full((2, 2, 1, 1), 18))
    grad_weight = kernels.conv_kernel_gradient(x, g, weight.shape, stride=stride)
    assert_array_equal(grad_weight, np.full(weight.shape, 2))
    grad_x = np.zeros(x.shape)
    grad_x[:, :, :3, :2] = 2
    assert_array_equal(kernels.conv_input_gradient(g, weight, x.shape, stride=stride), grad_x)
    # A filter of one element has nothing to dilate.
    assert_array_equal(kernels.conv_forward(x, weight[:, :, :1, :1], dilation=stride), np.full((2, 2, 4, 5), 3))


@pytest.mark.parametrize(
    ("padding", "output"), [(((5, 0), (0, 6)), (8, 9)), (((4, 4), (4, 4)), (11, 11)), (((0, 5), (3, 3)), (8, 9))]
)
def test_padding_beyond_the_kernel(padding: Any, output: tuple[int, int]) -> None:
    check_equal(case_of((2, 3, 5, 5), (2, 3, 3, 3), (2, 2, *output), padding=padding))


def test_padding_alone() -> None:
    # Most overlays lie wholly in the padding.
    check_equal(case_of((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 7, 9), padding=((3, 3), (4, 4))))


@given(st.integers(1, 2).flatmap(conv_cases), st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_reals_within_the_table(case: ConvCase, seed: int) -> None:
    reals = case.reals(seed)
    with kernels.backend("reference"):
        expected = passes(case, *(a.astype(np.float32).astype(np.float64) for a in reals))
    with kernels.backend("cpu"):
        actual = passes(case, *(a.astype(np.float32) for a in reals))
    batch, filters, *output = case.y_shape
    taps = int(np.prod(case.weight_shape[2:]))
    lengths = case.weight_shape[1] * taps, filters * taps, batch * int(np.prod(output))
    for result, wanted, length in zip(actual, expected, lengths, strict=True):
        assert_close(result, wanted, length=length)


@pytest.mark.parametrize(
    ("x", "weight", "padding"),
    [((33, 1, 28, 28), (6, 1, 5, 5), 2), ((17, 6, 14, 14), (16, 6, 5, 5), 0), ((20, 32, 16, 16), (64, 32, 3, 3), 1)],
)
def test_layers_of_real_networks(x: tuple[int, ...], weight: tuple[int, ...], padding: int) -> None:
    y = (x[0], weight[0], *(size + 2 * padding - weight[-1] + 1 for size in x[2:]))
    case = case_of(x, weight, y, padding=((padding,) * 2,) * 2)
    check_equal(case)
    a, w, g = (array.astype(np.float32) for array in case.reals(1))
    expected = kernels.conv_forward(*(array.astype(np.float64) for array in (a, w)), padding=padding)
    assert_close(kernels.conv_forward(a, w, padding=padding), expected, length=int(np.prod(weight[1:])))
    expected = kernels.conv_input_gradient(*(array.astype(np.float64) for array in (g, w)), x, padding=padding)
    length = int(weight[0] * np.prod(weight[2:]))
    assert_close(kernels.conv_input_gradient(g, w, x, padding=padding), expected, length=length)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("groups", [1, 2])
def test_an_image_that_is_not_a_number_spoils_no_other(groups: int) -> None:
    # Images share vectors; what an image computes must not pass through its neighbours' lanes or padding.
    case = case_of((18, 4, 6, 5), (6, 4 // groups, 3, 3), (18, 6, 6, 5), padding=((1, 1), (1, 1)), groups=groups)
    x, weight, g = case.integers(0)
    clean = passes(case, x, weight, g)
    for image in (0, 7, 15, 16, 17):
        spoiled_x, spoiled_g = x.copy(), g.copy()
        spoiled_x[image], spoiled_g[image] = np.nan, np.nan
        y, grad_x, _ = passes(case, spoiled_x, weight, spoiled_g)
        others = np.arange(18) != image
        assert_array_equal(y[others], clean[0][others])
        assert_array_equal(grad_x[others], clean[1][others])
        assert np.isnan(y[image]).all()
        assert np.isnan(grad_x[image]).all()


@pytest.mark.usefixtures("backend")
def test_a_group_that_is_not_a_number_spoils_no_other() -> None:
    case = case_of((3, 6, 5, 5), (9, 2, 3, 3), (3, 9, 3, 3), groups=3)
    x, weight, g = case.integers(1)
    clean = passes(case, x, weight, g)
    x[:, 2:4], weight[3:6], g[:, 3:6] = np.nan, np.nan, np.nan
    y, grad_x, grad_weight = passes(case, x, weight, g)
    for actual, wanted, axis, size in ((y, clean[0], 1, 3), (grad_x, clean[1], 1, 2), (grad_weight, clean[2], 0, 3)):
        kept = np.r_[0:size, 2 * size : 3 * size]
        assert_array_equal(actual.take(kept, axis), wanted.take(kept, axis))
        assert np.isnan(actual.take(range(size, 2 * size), axis)).any()
