"""Tensor cores, emulated: the instructions against NumPy, then convolutions against the reference and its rounding.

The emulator adds exact products in float64 and rounds once for each instruction. A GPU may differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import in_reference, integers, uniform

from cnn import kernels
from cnn.kernels import ConvGeometry
from cnn.kernels.reference.rounding import rounded
from cnn.kernels.suites import SUITES

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import conv_forward, conv_tensor, conv_tensor_pack, conv_tensor_tile, rounding, tensor
from cnn.kernels.cuda.codegen import estimate
from cnn.kernels.cuda.compiler import ALIGNMENT, Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase, forward_phase, input_gradient_phases
from cnn.kernels.cuda.launch import Call, Launch
from cnn.kernels.cuda.tile import unpack, zeros

Array = np.ndarray[Any, Any]

PRECISIONS = ("tf32", "bf16")
REAL = pointer(float32)

# Of results against float64: what a number of a precision is off by, once for each operand; and what float32 sums of
# exact products are off by.
EXACT = {"tf32": 1e-3, "bf16": 1e-2}
SUMS = 1e-6


def relative_error(actual: Array, expected: Array) -> float:
    """In the Frobenius norm."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def run(launch: Launch, *arguments: Any) -> None:
    # A finding of the memory, initialisation and race checks raises.
    report = estimate.run(launch, arguments, check=True, warp_order="reverse")
    assert not report.errors


# ---------------------------------------------------------------------------------------------------- instructions


@cache
def one_step(precision: str, wide: bool) -> Launch:
    """a (32 rows, 16 words) times b (32 columns, 16 words) -> y (32, 32), by one warp."""
    NUMBERS = tensor.NUMBERS[precision]
    PAIRED, WIDE = NUMBERS == 2, wide
    B, LINE = 32 * tensor.WORDS, 8 * 20
    SIZE = 32 * tensor.WORDS + 4 * LINE
    word_of, address = tensor.row_and_word, tensor.address
    tf32, bf16x2 = rounding.tf32, rounding.bf16x2
    words = tensor.SIDE_BY_SIDE if wide else (0, 4, 8, 12)
    multiply = tensor.product(2, tuple(LINE * eight for eight in range(4)), precision, words)

    def step(a, b, y):
        shared = cuda.shared.array(SIZE, float32, alignment=ALIGNMENT)
        sums = cuda.local.array(64, float32)
        lane = uint32(cuda.threadIdx.x)
        g, t = lane // uint32(4), lane % uint32(4)
        for k in range(16):
            place = uint32(lane + uint32(k * 32))
            row, word = word_of(place)
            at = uint32((row * uint32(16) + word) * uint32(NUMBERS))
            shared[place] = bf16x2(a[at], a[at + uint32(1)]) if PAIRED else tf32(a[at])
            at = uint32((lane * uint32(16) + uint32(k)) * uint32(NUMBERS))
            value = bf16x2(b[at], b[at + uint32(1)]) if PAIRED else tf32(b[at])
            # Words that a lane reads together, or four apart, are the same ones: 4 t .. 4 t + 3.
            place = k if WIDE else k // 4 + k % 4 * 4
            shared[uint32(B) + lane * uint32(20) + uint32(place)] = value
        cuda.syncthreads()
        rows_at = address(shared, uint32(lane * uint32(4)))
        columns_at = address(shared, uint32(uint32(B) + g * uint32(20) + t * uint32(4 if WIDE else 1)))
        tile = multiply(zeros(4, 16), shared, rows_at, columns_at)
        unpack(tile, sums)
        for r in range(4):
            for eight in range(4):
                for c in range(2):
                    at = uint32((uint32(r * 8) + g) * uint32(32) + uint32(eight * 8) + t * uint32(2) + uint32(c))
                    y[at] = sums[(r * 4 + eight) * 2 + c]

    return Launch(Kernel("step", step, (REAL, REAL, REAL), 32), (1,), (32,))


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_is_a_matrix_product(precision: str, wide: bool) -> None:
    length = 16 * tensor.NUMBERS[precision]
    a, b, y = integers(32, length), integers(32, length, seed=1), np.full((32, 32), np.nan, np.float32)
    run(one_step(precision, wide), a, b, y)
    assert_array_equal(y, a @ b.T)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_multiplies_rounded_numbers(precision: str) -> None:
    length = 16 * tensor.NUMBERS[precision]
    a, b, y = uniform(32, length), uniform(32, length, seed=1), np.full((32, 32), np.nan, np.float32)
    run(one_step(precision, True), a, b, y)
    near = [rounded(array, precision).astype(np.float64) for array in (a, b)]
    assert relative_error(y, near[0] @ near[1].T) < SUMS < relative_error(y, a.astype(np.float64) @ b.T)


@cache
def round_all(precision: str) -> Launch:
    PAIRED = precision == "bf16"
    tf32, bf16x2 = rounding.tf32, rounding.bf16x2

    def kernel(x, y, size):
        i = uint32(cuda.grid(1))
        if i < size:
            y[i] = bf16x2(float32(0), x[i]) if PAIRED else tf32(x[i])

    return Launch(Kernel("round_all", kernel, (REAL, REAL, uint32), 128), (8,), (128,))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_numbers_are_rounded_as_in_the_reference(precision: str) -> None:
    special = np.array([0x7FC00000, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF, 0x7F800000, 0x7F7FFFFF, 0x3F801000, 0xBFFFFFFF])
    x = np.concatenate([special.astype(np.uint32).view(np.float32), uniform(1016) * 10.0 ** (np.arange(1016) % 30)])
    x = x.astype(np.float32)
    y = np.full_like(x, -1)
    run(round_all(precision), x, y, np.uint32(x.size))
    # The tensor core looks at the upper 19 bits.
    seen = (y.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    assert_array_equal(seen, rounded(x, precision))


# ---------------------------------------------------------------------------------------------------- convolutions


def phase_calls(
    phase: ConvPhase, images: int, precision: str, source: Array, weight: Array, target: Array, **others: Any
) -> list[Call]:
    """With the tiles of a whole batch."""
    tile = conv_tensor_tile.choose_tile(phase, 128, precision)
    pack, words = conv_tensor_pack.plan(phase, precision, tile.rows, conv_forward.PACK_THREADS)
    packed = np.full(words, np.nan, np.float32)
    arguments = conv_forward.arguments(images, source, packed, target, **others)
    return [(pack, (weight, packed)), (conv_tensor.plan(phase, images, precision, tile), arguments)]


def forward(geometry: ConvGeometry, precision: str, x: Array, weight: Array, bias: Array) -> Array:
    y = np.full(geometry.y_shape, np.nan, np.float32)
    phase = forward_phase(geometry, True, None)
    assert conv_tensor_tile.serves(phase, precision)
    for launch, arguments in phase_calls(phase, geometry.batch, precision, x, weight, y, bias=bias):
        run(launch, *arguments)
    return y


def input_gradient(geometry: ConvGeometry, precision: str, g: Array, weight: Array) -> Array:
    grad_x = np.full(geometry.x_shape, np.nan, np.float32)
    for phase in input_gradient_phases(geometry):
        assert conv_tensor_tile.serves(phase, precision)
        for launch, arguments in phase_calls(phase, geometry.batch, precision, g, weight, grad_x):
            run(launch, *arguments)
    return grad_x


LAYERS = {
    "32 to 32": SUITES["cifar-cnn"].convolutions[1],
    "32 to 64": SUITES["cifar-cnn"].convolutions[2],
    "64 to 64": SUITES["cifar-cnn"].convolutions[3],
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_the_cifar_network(name: str, precision: str) -> None:
    layer, geometry = LAYERS[name], LAYERS[name].conv(1)
    x, weight, bias = uniform(*geometry.x_shape), uniform(*layer.weight, seed=1), uniform(geometry.filters, seed=2)
    g, options = uniform(*geometry.y_shape, seed=3), {"padding": layer.padding}
    for written, reference in (
        (
            forward(geometry, precision, x, weight, bias),
            lambda change: kernels.conv_forward(change(x), change(weight), bias.astype(np.float64), **options),
        ),
        (
            input_gradient(geometry, precision, g, weight),
            lambda change: kernels.conv_input_gradient(change(g), change(weight), geometry.x_shape, **options),
        ),
    ):
        check(written, reference, precision)


def check(written: Array, reference: Callable[[Callable[[Array], Array]], Array], precision: str) -> None:
    """Against the reference in float64, of the numbers themselves and of the rounded ones."""
    with kernels.backend("reference"):
        exact = reference(lambda array: array.astype(np.float64))
        near = reference(lambda array: rounded(array, precision).astype(np.float64))
    assert relative_error(written, near) < SUMS < relative_error(written, exact) < EXACT[precision]


# name: (precision, x, weight, options)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "one tap": ("bf16", (3, 32, 6, 10), (32, 32, 1, 1), {}),
    "odd sizes": ("tf32", (1, 35, 13, 21), (33, 35, 3, 2), {"padding": ((2, 1), (0, 1))}),
    "more chunks": ("bf16", (1, 100, 9, 8), (70, 100, 3, 3), {"padding": 1}),
    "dilated": ("tf32", (1, 32, 12, 12), (32, 32, 3, 3), {"padding": 2, "dilation": 2}),
    "groups": ("bf16", (2, 64, 7, 7), (64, 32, 3, 3), {"padding": 1, "groups": 2}),
    "true convolution": ("tf32", (1, 32, 8, 8), (32, 32, 2, 3), {"mode": "convolution"}),
    "small images": ("tf32", (5, 32, 4, 4), (32, 32, 3, 3), {"padding": 1}),
    "one dimension": ("bf16", (2, 32, 40), (32, 32, 5), {"padding": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_geometries(case: str) -> None:
    precision, x_shape, weight_shape, options = CASES[case]
    geometry = ConvGeometry.of(case, x_shape, weight_shape, **options)
    x, weight, bias = integers(*x_shape), integers(*weight_shape, seed=1), integers(weight_shape[0], seed=2)
    g = integers(*geometry.y_shape, seed=3)
    with kernels.backend("reference"):
        y = kernels.conv_forward(x, weight, bias, **options)
        grad_x = kernels.conv_input_gradient(g, weight, x_shape, **options)
    assert_array_equal(forward(geometry, precision, x, weight, bias), y)
    assert_array_equal(input_gradient(geometry, precision, g, weight), grad_x)


def test_strides_of_the_input_gradient() -> None:
    geometry = ConvGeometry.of("strides", (1, 32, 12, 10), (32, 32, 3, 3), stride=2, padding=1)
    g, weight = integers(*geometry.y_shape), integers(32, 32, 3, 3, seed=1)
    with kernels.backend("reference"):
        expected = kernels.conv_input_gradient(g, weight, geometry.x_shape, stride=2, padding=1)
    assert_array_equal(input_gradient(geometry, "tf32", g, weight), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_activation_and_pooling(precision: str) -> None:
    x, weight, bias = np.abs(integers(2, 64, 11, 14)), integers(64, 64, 3, 3, seed=1), integers(64, seed=2)
    given = {"x": x, "weight": weight, "bias": bias, "padding": 1, "activation": "relu", "window": 2}
    y, argmax = in_reference("conv_block_forward", given)
    geometry = ConvGeometry.of("block", x.shape, weight.shape, padding=1)
    written, places = np.full(y.shape, np.nan, np.float32), np.full(y.shape, -1, np.int32)
    phase = forward_phase(geometry, True, "relu", pooled=True)
    for launch, arguments in phase_calls(phase, 2, precision, x, weight, written, bias=bias, places=places):
        run(launch, *arguments)
    assert_array_equal(written, y)
    assert_array_equal(places, argmax)


@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000])  # what a GPU makes, its negative, and a CPU's
def test_not_a_number_comes_through(bits: int) -> None:
    x, weight, bias = integers(1, 32, 8, 8), integers(32, 32, 1, 1, seed=1), integers(32, seed=2)
    x[0, 3, 4, 5] = np.uint32(bits).view(np.float32)
    for precision in PRECISIONS:
        y = forward(ConvGeometry.of("nan", x.shape, weight.shape), precision, x, weight, bias)
        where = np.isnan(y)
        assert where[0, :, 4, 5].all()
        assert where.sum() == 32


def test_few_channels_and_strides_are_left_to_other_kernels() -> None:
    def served(weight: tuple[int, ...], precision: str, **options: Any) -> bool:
        geometry = ConvGeometry.of("rule", (1, weight[1], 16, 16), weight, **options)
        return conv_tensor_tile.serves(forward_phase(geometry, False, None), precision)

    assert served((32, 16, 3, 3), "tf32")
    assert not served((32, 15, 3, 3), "tf32")
    assert served((32, 32, 3, 3), "bf16")
    assert not served((32, 31, 3, 3), "bf16")
    assert not served((31, 32, 3, 3), "tf32")
    assert not served((32, 32, 3, 3), "tf32", stride=2)
    assert not served((32, 32, 3, 3), "bf16", dilation=(100, 1), padding=100)  # no room for the margin
