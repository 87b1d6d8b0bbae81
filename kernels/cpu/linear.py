"""The dense layer on register tiles, without a copy of any matrix; the formulas stand in `cnn.kernels.linear`.

    forward     a tile of 8 images x 3 filters; lanes run over channels, and are added up last
    backward    a tile of 8 filters, or images, x 2 vectors of channels, as matrix products usually are

A BLAS would bring threads of its own, which stay busy for a while after each call, on the cores of ours: small
networks trained two to three times slower with it. A thread takes a run of filters, and a run of channels on the way
back. Sums over channels come in runs of fixed size: the bits do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.cpu import activation as activations
from cnn.kernels.cpu import dropout as dropouts
from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.layout import NONE, NOTHING, flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.simd import LANES, REGISTERS, add_outer, add_products, load_tile, store, store_sums, zeros
from cnn.kernels.cpu.threads import share_signalled
from cnn.kernels.dropout import Drawn

Array = np.ndarray[Any, Any]

# Images and filters of a forward tile, rows and vectors of a backward tile. The sums fill most of the registers.
IMAGES, FILTERS = (8, 3) if REGISTERS >= 32 else (4, 2)
ROWS, COLUMNS = (8, 2) if REGISTERS >= 32 else (4, 2)

# Channels whose products are added in one go: those of a tile's images stay in a first-level cache, while those of one
# filter after the other come from the second.
RUN = 1024

# A thread costs more than it computes below about this many multiplications: some 10 us.
LEAST = 2**18


def linear_forward(
    x: Array, weight: Array, bias: Array | None, activation: str | None, out: Array, drawn: Drawn | None
) -> None:
    images, channels = x.shape
    filters = len(weight)
    biases = np.zeros(filters, np.float32) if bias is None else flat(bias)
    arrays = flat(x), flat(weight), biases, out.reshape(-1)
    sizes = images, channels, filters
    units, least = -(-filters // FILTERS), LEAST // max(images * channels * FILTERS, 1)
    relu = activation == "relu"
    share_signalled(lambda words, i, j: _forward(words, *arrays, *sizes, relu, i, j), units, least)
    if activation is not None and not relu:
        getattr(activations, f"{activation}_forward")(out, out)
    if drawn is not None:
        dropouts.dropout(out, *drawn, out)


def linear_backward(
    x: Array,
    weight: Array,
    grad_output: Array,
    activation: str | None,
    y: Array | None,
    input_activation: str | None,
    _deterministic: bool,
    grad_weight: Array,
    grad_bias: Array | None,
    grad_x: Array | None,
    _zeroed: bool,
    scale: float,
    input_scale: float,
) -> None:
    g = grad_output
    if scale != 1:
        g = np.multiply(g, np.float32(scale), out=empty(g.shape, np.float32))
    if activation is not None:
        behind, g = g, empty(g.shape, np.float32)
        getattr(activations, f"{activation}_backward")(behind, y, g)
    images, channels = x.shape
    outputs = (NOTHING if array is None else array.reshape(-1) for array in (grad_weight, grad_bias, grad_x))
    arrays = flat(x), flat(weight), flat(g), *outputs
    relu = input_activation == "relu"
    sizes = images, channels, len(weight), grad_x is not None, relu, np.float32(input_scale)
    units, least = -(-channels // LANES), LEAST // max(images * len(weight) * LANES, 1)
    share_signalled(lambda words, i, j: _backward(words, *arrays, *sizes, i, j), units, least)
    if input_activation is not None and grad_x is not None and not relu:
        getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)


@jit()
def _forward(words, x, weight, bias, y, images, channels, filters, relu, first, last):
    begin(words)
    first, last = first * FILTERS, min(last * FILTERS, filters)
    for n in range(images):
        for k in range(first, last):
            put(y, n * filters + k, get(bias, k))
    whole = channels // LANES * LANES
    x_rest, weight_rest = _rest(x, NONE, images, channels), _rest(weight, first, last, channels)
    # A tile's last filters may be none: it computes the last one again, for nothing.
    lines, rest_lines = np.empty(FILTERS, np.int64), np.empty(FILTERS, np.int64)
    sums = np.empty(IMAGES * FILTERS, np.float32)
    for c in range(0, channels, RUN):
        end, rest = min(c + RUN, whole), c + RUN > whole and whole < channels
        n = 0
        while n < images:
            count = IMAGES if images - n >= IMAGES else 1
            for k in range(first, last, FILTERS):
                for i in range(FILTERS):
                    line = min(k + i, last - 1)
                    lines[i], rest_lines[i] = line * channels, (line - first) * LANES
                if count > 1:
                    tile = zeros(IMAGES, FILTERS, LANES)
                    for e in range(c, end, LANES):
                        several = load_tile(x, n * channels + e, channels, 0, IMAGES, 1, LANES)
                        tile = add_products(tile, several, weight, e, lines, 0)
                    if rest:
                        several = load_tile(x_rest, n * LANES, LANES, 0, IMAGES, 1, LANES)
                        tile = add_products(tile, several, weight_rest, 0, rest_lines, 0)
                    store_sums(tile, sums, 0, FILTERS)
                else:
                    row = zeros(1, FILTERS, LANES)
                    for e in range(c, end, LANES):
                        image = load_tile(x, n * channels + e, 0, 0, 1, 1, LANES)
                        row = add_products(row, image, weight, e, lines, 0)
                    if rest:
                        image = load_tile(x_rest, n * LANES, 0, 0, 1, 1, LANES)
                        row = add_products(row, image, weight_rest, 0, rest_lines, 0)
                    store_sums(row, sums, 0, FILTERS)
                _add(sums, count, y, n * filters + k, filters, min(FILTERS, last - k))
            n += count
    for n in range(images if relu else 0):
        for i in range(n * filters + first, n * filters + last):
            put(y, i, np.float32(0) if get(y, i) < np.float32(0) else get(y, i))


@jit()
def _backward(
    words,
    x,
    weight,
    g,
    grad_weight,
    grad_bias,
    grad_x,
    images,
    channels,
    filters,
    needs_input_gradient,
    relu,
    scale,
    first,
    last,
):
    begin(words)
    if first == 0 and grad_bias.size > 0:
        grad_bias[:] = 0
        for n in range(images):
            for k in range(filters):
                put(grad_bias, k, get(grad_bias, k) + get(g, n * filters + k))
    first, last = first * LANES, min(last * LANES, channels)
    # One call in a loop, since every call is compiled into this function once more.
    for product in range(2 if needs_input_gradient else 1):
        if product == 0:
            b, out, rows, count, row, step = x, grad_weight, filters, images, 1, filters
        else:
            b, out, rows, count, row, step = weight, grad_x, images, filters, filters, 1
        _multiply(g, row, step, b, out, rows, count, channels, first, last)
    for n in range(images if needs_input_gradient and relu else 0):
        for i in range(n * channels + first, n * channels + last):
            put(grad_x, i, get(grad_x, i) * scale if get(x, i) > np.float32(0) else np.float32(0))


@jit(inline="always")
def _multiply(a, a_row, a_step, b, out, rows, count, width, first, last):
    """out[r, c] = sum over e < count of a[r a_row + e a_step] b[e, c], for r < rows and columns c from first to last.

    b and out are `width` wide. Columns that fill no vector are computed in copies that they do.
    """
    whole = width // LANES * LANES
    for part in range(2 if last > whole else 1):
        if part == 0:
            source, target, step, end = b, out, width, min(last, whole)
        else:
            source, target, step, first, end = (
                _rest(b, NONE, count, width),
                np.empty(rows * LANES, np.float32),
                LANES,
                0,
                LANES,
            )
        for c in range(first, end, COLUMNS * LANES):
            wide = end - c >= COLUMNS * LANES
            r = 0
            while r < rows:
                if wide and rows - r >= ROWS:
                    tile = zeros(ROWS, COLUMNS, LANES)
                    for e in range(count):
                        tile = add_outer(tile, a, r * a_row + e * a_step, a_row, source, e * step + c, LANES)
                    store(tile, target, r * step + c, step, LANES)
                    r += ROWS
                else:
                    for d in range(c, min(c + COLUMNS * LANES, end), LANES):
                        vector = zeros(1, 1, LANES)
                        for e in range(count):
                            vector = add_outer(vector, a, r * a_row + e * a_step, a_row, source, e * step + d, LANES)
                        store(vector, target, r * step + d, step, LANES)
                    r += 1
        if part == 1:
            _put_rest(target, out, rows, width)


@inner()
def _rest(matrix, first, last, columns):
    """The columns that fill no vector, of some rows, filled up with zeros."""
    whole = columns // LANES * LANES
    rest = np.empty((last - first) * LANES, np.float32)
    for r in range(last - first):
        for c in range(LANES):
            inside = whole + c < columns
            put(rest, r * LANES + c, get(matrix, (first + r) * columns + whole + c) if inside else np.float32(0))
    return rest


@jit(inline="always")
def _put_rest(rest, matrix, rows, columns):
    whole = columns // LANES * LANES
    for r in range(rows):
        for c in range(columns - whole):
            put(matrix, r * columns + whole + c, get(rest, r * LANES + c))


@jit(inline="always")
def _add(sums, rows, y, at, step, columns):
    for r in range(rows):
        for c in range(columns):
            place = at + r * step + c
            put(y, place, get(y, place) + get(sums, r * FILTERS + c))
