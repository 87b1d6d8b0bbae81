"""Every way in which the CPU backend convolves, also where another one would be chosen, against the reference.

Small integers compare with `==`: Winograd's transforms keep them, too, since their fractions are divided out last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_conv_cpu import case_of, check_equal, passes
from tolerances import assert_close

from cnn import kernels
from cnn.kernels.cpu import conv, conv_channels, conv_images, conv_pixels, conv_pixels_plan, conv_winograd
from cnn.kernels.cpu.simd import LANES
from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.threads import set_num_threads

Array = np.ndarray[Any, Any]


@contextmanager
def forced(way: ModuleType) -> Iterator[None]:
    """Convolutions in this way instead of the cheapest."""
    chosen = conv._cheapest
    conv._cheapest = lambda *_, **__: way  # type: ignore[assignment]
    forget_choices()
    try:
        yield
    finally:
        conv._cheapest = chosen
        forget_choices()


def forget_choices() -> None:
    for choice in (conv._forward, conv._input_gradient, conv._kernel_gradient):
        choice.cache_clear()


def by_one(case: ConvCase) -> ConvCase:
    """The same with stride 1 and one group, and an output that follows from the rest."""
    o = {**case.options, "stride": (1,) * len(case.options["stride"]), "groups": 1}
    x, weight = case.x_shape, (case.weight_shape[0], case.x_shape[1], *case.weight_shape[2:])
    return ConvCase(x, weight, ConvGeometry.of("test", x, weight, **o).y_shape, o)


def geometry_of(case: ConvCase) -> ConvGeometry:
    return ConvGeometry.of("test", case.x_shape, case.weight_shape, **case.options)


@given(st.integers(1, 2).flatmap(conv_cases))
@settings(max_examples=60)
def test_channels_in_lanes(case: ConvCase) -> None:
    # Groups always take images in lanes.
    case = by_one(case) if case.options["groups"] > 1 else case
    with forced(conv_channels):
        check_equal(case)


@given(st.integers(1, 2).flatmap(lambda dimensions: conv_cases(dimensions, widest=5)))
@settings(max_examples=60)
def test_images_in_lanes(case: ConvCase) -> None:
    with forced(conv_images):
        check_equal(case)


# A vector, a little more, almost two, two, and rows that several tiles have to cover.
@pytest.mark.parametrize("width", [LANES, LANES + 1, 2 * LANES - 1, 2 * LANES, 3 * LANES, 5 * LANES + 3])
@pytest.mark.parametrize(("channels", "filters"), [(3, 8), (6, 12), (4, 16), (1, 24)])
@pytest.mark.parametrize("kernel", [1, 3])
def test_pixels_in_lanes(width: int, channels: int, filters: int, kernel: int) -> None:
    x, weight, y = (2, channels, 6, width), (filters, channels, kernel, kernel), (2, filters, 6, width)
    pad = kernel // 2
    case = case_of(x, weight, y, padding=((pad, pad), (pad, pad)), mode="convolution")
    geometry = geometry_of(case)
    arrays = case.integers(seed=width)
    with kernels.backend("reference"):
        expected = passes(case, *arrays)
    # Where pixels in lanes do not serve a pass, no one may force it to.
    serves = (
        conv_pixels_plan.waste(geometry, filters, geometry.output) < np.inf,
        conv_pixels_plan.waste(geometry, channels, geometry.input) < np.inf,
        conv_pixels_plan.gradient_waste(geometry) < np.inf,
    )
    assert serves[0]
    for number, served in enumerate(serves):
        if served:
            with forced(conv_pixels):
                assert_array_equal(one_pass(case, number, *arrays), expected[number], strict=True)


def one_pass(case: ConvCase, number: int, x: Array, weight: Array, g: Array) -> Array:
    if number == 0:
        return kernels.conv_forward(x, weight, np.arange(weight.shape[0], dtype=x.dtype), **case.options)
    if number == 1:
        return kernels.conv_input_gradient(g, weight, x.shape, **case.options)
    return kernels.conv_kernel_gradient(x, g, weight.shape, **case.options)


# Sizes that tiles of 4 x 2 cover and do not cover; channels that vectors do and do not fill.
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (8, 9), (11, 6), (16, 16)])
@pytest.mark.parametrize("channels", [(LANES, LANES), (LANES + 1, 3 * LANES - 1), (2 * LANES, LANES + 3)])
@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 0), (1, 2))])
@pytest.mark.parametrize("mode", ["cross-correlation", "convolution"])
def test_winograd(size: tuple[int, int], channels: tuple[int, int], padding: Any, mode: str) -> None:
    sources, targets = channels
    height, width = (n + 2 - before - after for n, (before, after) in zip(size, padding, strict=True))
    batch = 9
    case = case_of((batch, sources, height, width), (targets, sources, 3, 3), (batch, targets, *size))
    case = ConvCase(case.x_shape, case.weight_shape, case.y_shape, {**case.options, "padding": padding, "mode": mode})
    assert conv._forward(geometry_of(case), None)[0] is conv_winograd
    check_equal(case)


@pytest.mark.parametrize("channels", [16, 28, 32, 64, 113])
def test_winograd_within_the_table(channels: int) -> None:
    # 28 and 113 are the longest sums of their rows in the table, where a row allows least for what is summed.
    x, weight = (3, channels, 18, 18), (32, channels, 3, 3)
    case = case_of(x, weight, (3, 32, 18, 18), padding=((1, 1), (1, 1)))
    a, w, g = (array.astype(np.float32) for array in case.reals(channels))
    with kernels.backend("reference"):
        expected = passes(case, *(array.astype(np.float64) for array in (a, w, g)))
    lengths = channels * 9, 32 * 9, 3 * 18 * 18
    for actual, wanted, length in zip(passes(case, a, w, g), expected, lengths, strict=True):
        assert_close(actual, wanted, length=length)


CASES = {
    "images": case_of((LANES * 2 + 1, 5, 9, 8), (7, 5, 3, 3), (LANES * 2 + 1, 7, 4, 3), stride=2),
    "channels": case_of((9, 5, 9, 8), (19, 5, 3, 3), (9, 19, 4, 3), stride=2),
    "pixels": case_of((9, 8, 6, 3 * LANES), (8, 8, 5, 5), (9, 8, 6, 3 * LANES), padding=((2, 2), (2, 2))),
    "winograd": case_of((9, LANES, 9, 8), (LANES, LANES, 3, 3), (9, LANES, 7, 6)),
}
WAYS = {"images": conv_images, "channels": conv_channels, "pixels": conv_pixels, "winograd": conv_winograd}


def reals_of(case: ConvCase, seed: int) -> tuple[Array, Array, Array]:
    x, weight, g = (array.astype(np.float32) for array in case.reals(seed))
    return x, weight, g


@pytest.mark.parametrize("way", CASES)
@pytest.mark.usefixtures("threads_as_before")
def test_the_number_of_threads_does_not_change_a_bit(way: str) -> None:
    case = CASES[way]
    arrays = reals_of(case, 0)
    runs = []
    for threads in (1, 2, 3, 7):
        set_num_threads(threads)
        with forced(WAYS[way]):
            runs.append([result.tobytes() for result in passes(case, *arrays)])
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("way", CASES)
@pytest.mark.parametrize("offset", [1, 3, 4, 15])
def test_where_an_array_starts_does_not_change_a_bit(way: str, offset: int) -> None:
    # Arrays of NumPy start at multiples of 16 bytes; a view may start at any element.
    case = CASES[way]
    arrays = reals_of(case, 1)
    with forced(WAYS[way]):
        expected = passes(case, *arrays)
        moved = [np.zeros(array.size + offset, np.float32)[offset:].reshape(array.shape) for array in arrays]
        for target, array in zip(moved, arrays, strict=True):
            target[...] = array
        for actual, wanted in zip(passes(case, *moved), expected, strict=True):
            assert actual.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("way", CASES)
def test_an_image_that_is_not_a_number_spoils_no_other(way: str) -> None:
    case = CASES[way]
    x, weight, g = case.integers(2)
    with forced(WAYS[way]):
        clean = passes(case, x, weight, g)
        x[3], g[3] = np.nan, np.nan
        y, grad_x, _ = passes(case, x, weight, g)
    others = np.arange(len(x)) != 3
    assert_array_equal(y[others], clean[0][others])
    assert_array_equal(grad_x[others], clean[1][others])
    assert np.isnan(y[3]).all()
    # With stride 2 no output may have seen an element; all that were seen are spoiled.
    assert (np.isnan(grad_x[3]) | (grad_x[3] == 0)).all()


@pytest.mark.skipif(LANES != 16, reason="the choice depends on the width of a vector")
@pytest.mark.parametrize(
    ("x", "weight", "options", "forward", "input_gradient", "kernel_gradient"),
    [
        ((64, 6, 14, 14), (16, 6, 5, 5), {}, conv_images, conv_images, conv_images),
        ((1, 6, 14, 14), (16, 6, 5, 5), {}, conv_channels, conv_channels, conv_channels),
        ((128, 3, 32, 32), (32, 3, 3, 3), {"padding": 1}, conv_pixels, conv_images, conv_pixels),
        ((128, 64, 16, 16), (64, 64, 3, 3), {"padding": 1}, conv_winograd, conv_winograd, conv_winograd),
        ((128, 64, 16, 16), (64, 64, 3, 3), {"padding": 1, "stride": 2}, conv_channels, conv_images, conv_channels),
        ((128, 64, 16, 16), (64, 1, 3, 3), {"padding": 1, "groups": 64}, *(conv_images,) * 3),
    ],
)
def test_the_cheapest_way_is_chosen(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    options: dict[str, int],
    forward: ModuleType,
    input_gradient: ModuleType,
    kernel_gradient: ModuleType,
) -> None:
    geometry = ConvGeometry.of("test", x, weight, **options)
    assert conv._forward(geometry, None)[0] is forward
    assert conv._input_gradient(geometry, None)[0] is input_gradient
    assert conv._kernel_gradient(geometry, None)[0] is kernel_gradient


# The layers that the benchmarks time, at their sizes: sums of hundreds of thousands of products of -1, 0 and 1.
@pytest.mark.parametrize(
    ("batch", "channels", "filters", "size", "kernel", "padding", "stride"),
    [
        (64, 1, 6, 28, 5, 2, 1),
        (64, 6, 16, 14, 5, 0, 1),
        (64, 1, 32, 28, 3, 0, 1),
        (128, 3, 32, 32, 3, 1, 1),
        (128, 32, 64, 16, 3, 1, 1),
        (128, 128, 128, 8, 3, 1, 1),
        (128, 32, 64, 16, 3, 1, 2),
        (128, 64, 128, 8, 1, 0, 1),
        (64, 20, 50, 12, 5, 0, 1),
        (100, 6, 16, 14, 5, 0, 1),
        (7, 32, 64, 16, 3, 1, 1),
        (1, 64, 64, 16, 3, 1, 1),
    ],
)
def test_layers_at_the_sizes_of_the_benchmarks(
    batch: int, channels: int, filters: int, size: int, kernel: int, padding: int, stride: int
) -> None:
    x_shape, weight_shape = (batch, channels, size, size), (filters, channels, kernel, kernel)
    options = {"padding": padding, "stride": stride}
    y_shape = ConvGeometry.of("test", x_shape, weight_shape, **options).y_shape
    rng = np.random.default_rng(batch)
    x, weight, g = (rng.integers(-1, 2, shape).astype(np.float32) for shape in (x_shape, weight_shape, y_shape))
    some = [0, batch // 2, batch - 1]  # images are computed apart: three of them stand for all
    y = kernels.conv_forward(x, weight, **options)
    grad_x = kernels.conv_input_gradient(g, weight, x_shape, **options)
    grad_weight = kernels.conv_kernel_gradient(x, g, weight_shape, **options)
    with kernels.backend("reference"):
        assert_array_equal(y[some], kernels.conv_forward(x[some], weight, **options))
        expected = kernels.conv_input_gradient(g[some], weight, x[some].shape, **options)
        assert_array_equal(grad_x[some], expected)
        assert_array_equal(grad_weight, kernels.conv_kernel_gradient(x, g, weight_shape, **options))
