"""Output sizes and padding, against numbers by hand and against counting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from pool_cases import PoolCase, pool_cases

from cnn.kernels import ConvGeometry, PoolGeometry


def conv(size: int, kernel: int, **options: Any) -> ConvGeometry:
    return ConvGeometry.of("test", (2, 3, size), (4, 3, kernel), **options)


def pool(size: int, window: int, **options: Any) -> PoolGeometry:
    return PoolGeometry.of("test", (2, 3, size), window, **options)


@pytest.mark.parametrize(
    ("size", "kernel", "options", "output"),
    [
        (28, 5, {}, 24),  # LeNet-5's first layer without padding, and with it
        (28, 5, {"padding": 2}, 28),
        (224, 7, {"stride": 2, "padding": 3}, 112),  # ResNet's first layer
        (227, 11, {"stride": 4}, 55),  # AlexNet's first layer
        (7, 3, {"dilation": 3}, 1),  # the filter reaches over 7 elements
        (8, 3, {"dilation": 3}, 2),
        (5, 2, {"stride": 3}, 2),  # overlays at 0 and 3
        (4, 2, {"stride": 3}, 1),  # one element left over
        (3, 2, {"padding": [(0, 1)]}, 3),
        (3, 2, {"padding": [(1, 0)]}, 3),
        (1, 1, {"padding": 4, "stride": 4}, 3),
        (28, 5, {"padding": "valid"}, 24),
    ],
)
def test_conv_output_by_hand(size: int, kernel: int, options: dict[str, Any], output: int) -> None:
    assert conv(size, kernel, **options).y_shape == (2, 4, output)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 2, 1, 1, (0, 1)),  # the odd one after
        (5, 4, 1, 1, (1, 2)),
        (5, 3, 1, 2, (2, 2)),
        (5, 2, 1, 3, (1, 2)),
        (5, 3, 2, 1, (1, 1)),  # 3 outputs reach over 7
        (6, 3, 2, 1, (0, 1)),  # 3 outputs reach over 7
        (7, 3, 3, 1, (1, 1)),  # 3 outputs reach over 9
        (8, 1, 3, 1, (0, 0)),  # 3 outputs reach over 7: none is needed
        (4, 2, 4, 1, (0, 0)),
        (13, 6, 5, 1, (1, 2)),  # TensorFlow's example: 3 outputs of 6 at stride 5 reach over 16
        (1, 5, 1, 1, (2, 2)),
    ],
)
def test_same_by_hand(size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]) -> None:
    geometry = conv(size, kernel, stride=stride, dilation=dilation, padding="same")
    assert geometry.padding == (padding,)
    assert geometry.output == (-(-size // stride),)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=200)
def test_same_is_the_least_padding_that_gives_its_size(size: int, kernel: int, stride: int, dilation: int) -> None:
    geometry = conv(size, kernel, stride=stride, dilation=dilation, padding="same")
    ((before, after),) = geometry.padding
    assert geometry.output == (-(-size // stride),)
    assert after - before in (0, 1)
    if before + after:
        # With one element less the last overlay would not fit.
        less = size + before + after - 1 - dilation * (kernel - 1) - 1
        assert less // stride + 1 < geometry.output[0]


@pytest.mark.parametrize(
    ("size", "window", "options", "output"),
    [
        (28, 2, {}, 14),
        (5, 2, {}, 2),
        (5, 2, {"ceil_mode": True}, 3),
        (4, 3, {"stride": 2, "ceil_mode": True}, 2),
        (112, 3, {"stride": 2, "padding": 1}, 56),  # ResNet's pooling
        (55, 3, {"stride": 2}, 27),  # AlexNet's
        (2, 2, {"padding": 1, "ceil_mode": True}, 2),
        (2, 1, {"stride": 2, "ceil_mode": True}, 1),  # the second window would start beyond the input
        (2, 3, {"stride": 3, "padding": 1, "ceil_mode": True}, 1),  # the second would start in the trailing padding
        (3, 2, {"padding": [(0, 1)]}, 2),
        (4, 3, {"stride": 4, "padding": [(0, 2)]}, 1),
        (2, 3, {"stride": 2, "ceil_mode": True}, 1),  # one window, larger than the input
        (5, 3, {"stride": 2, "padding": "same"}, 3),
        (5, 2, {"padding": "same"}, 3),
        (5, 2, {"padding": "valid"}, 2),
    ],
)
def test_pool_output_by_hand(size: int, window: int, options: dict[str, Any], output: int) -> None:
    assert pool(size, window, **options).y_shape == (2, 3, output)


@given(st.integers(1, 3).flatmap(conv_cases))
@settings(max_examples=200)
def test_conv_output_of_drawn_cases(case: ConvCase) -> None:
    # The cases draw the output first and derive the input from it.
    geometry = ConvGeometry.of("test", case.x_shape, case.weight_shape, **case.options)
    assert geometry.y_shape == case.y_shape
    assert (geometry.x_shape, geometry.weight_shape) == (case.x_shape, case.weight_shape)


@pytest.mark.parametrize("ceil_mode", [False, True])
@given(data=st.data(), dimensions=st.integers(1, 3))
@settings(max_examples=200)
def test_pool_output_of_drawn_cases(ceil_mode: bool, data: st.DataObject, dimensions: int) -> None:
    case: PoolCase = data.draw(pool_cases(dimensions, ceil_mode))
    geometry = PoolGeometry.of("test", case.x_shape, **case.options)
    assert geometry.y_shape == case.y_shape
    assert geometry.x_shape == case.x_shape


@pytest.mark.parametrize("integer", [int, np.int64, np.uint8])
@pytest.mark.parametrize("sequence", [list, tuple])
def test_options_in_every_form(integer: Any, sequence: Any) -> None:
    x, weight = (2, 4, 9, 8), (6, 2, 3, 2)
    two, ones = integer(2), sequence([integer(1), integer(1)])
    written_out = ConvGeometry.of("test", x, weight, stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(2, 2), groups=2)
    assert ConvGeometry.of("test", x, weight, stride=two, padding=ones, dilation=two, groups=two) == written_out
    pairs = sequence([ones, ones])
    assert ConvGeometry.of("test", x, weight, stride=[two, two], padding=pairs, dilation=two, groups=2) == written_out
    assert ConvGeometry.of("test", list(x), list(weight), stride=2, padding=1, dilation=2, groups=2) == written_out
    written_out_pool = PoolGeometry.of("test", x, (2, 2), stride=(2, 2), padding=((1, 1), (1, 1)))
    assert PoolGeometry.of("test", list(x), two, padding=ones) == written_out_pool
    assert PoolGeometry.of("test", x, sequence([two, two]), stride=two, padding=integer(1)) == written_out_pool


def test_a_geometry_is_a_value() -> None:
    first, second = conv(9, 3, stride=2), conv(9, 3, stride=[2])
    assert first == second
    assert hash(first) == hash(second)
    assert first != conv(9, 3, stride=2, mode="convolution")
    with pytest.raises(AttributeError):
        first.batch = 3  # type: ignore[misc]
    assert hash(pool(9, 3)) == hash(pool(9, (3,), stride=3))


def test_a_plane_that_32_bits_cannot_index_is_refused() -> None:
    largest = 2**31 - 1
    assert conv(largest, 1).output == (largest,)
    with pytest.raises(ValueError, match=rf"{largest + 1} elements, more than {largest}"):
        conv(largest, 1, padding=[(0, 1)])
    with pytest.raises(ValueError, match=r"2147483648 elements"):
        PoolGeometry.of("test", (1, 1, 2**16, 2**15), 2)
