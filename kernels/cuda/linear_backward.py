"""The way back through a dense layer, all of it in one launch; with g = grad_output * activation'(y):

    grad_weight[k, c] = sum over n of g[n, k] x[n, c]        grad_bias[k] = sum over n of g[n, k]
    grad_x[n, c]      = sum over k of g[n, k] weight[k, c] * input_activation'(x[n, c])

Both are one product, out[r, c] = sum over t of a[t, r] b[t, c], with a = g, read the one way or the other, and b = x or
weight: the first blocks of the grid make grad_weight and grad_bias, the rest grad_x. A warp owns 8 rows of 128 columns,
a lane 8 x 4 sums: b comes in whole lines of memory, four terms at a time, and the 8 x 4 values of g that belong to them
are the same for all lanes. Where there are few rows and columns, the warps of a block cut the reduction into slices and
add them up in a fixed order; where there are many, they take rows of their own, and find the columns that they share in
the first-level cache. No atomics, nothing to clear, the same bits in every run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda.compiler import ALIGNMENT, SIMULATED, Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.reduce import WARP

ROWS, COLUMNS = 8, 4 * WARP  # of a warp
TERMS = 4  # of a step
SUMS, VALUES, LINES = ROWS * 4, ROWS * TERMS, TERMS * 4  # that a lane holds of out, a and b

WARPS = 2 if SIMULATED else 8  # of a block
THREADS = WARPS * WARP

# Warps that fill 132 multiprocessors, sixteen on each: up to that many, warps share reductions.
ENOUGH = 2112

# Of a slice, where the reduction can be cut: no warp shall be at it when the rest of the grid has long been done.
MOST_TERMS = 128


@cache
def plan_linear_backward(
    images: int,
    channels: int,
    filters: int,
    bias: bool,
    activation: str | None,
    input_activation: str | None,
    needs_input_gradient: bool,
    slices: int | None = None,
) -> Launch:
    """Arguments: x, weight, grad_output, y, grad_weight, grad_bias, grad_x, images, and a factor for each derivative.

    slices: of the reduction, a power of two up to WARPS; the rest of a block's warps have rows of their own.
    """
    rows = (filters, images) if needs_input_gradient else (filters,)
    warps = sum(-(-number // ROWS) for number in rows) * _column_tiles(channels)
    slices = slices or choose_slices(warps, max(filters, images))
    tiles = sum(-(-number // _block_rows(slices)) for number in rows)
    kernel = _kernel(channels, filters, bias, activation, input_activation, slices)
    return Launch(kernel, (tiles * _column_tiles(channels),), (THREADS,))


def choose_slices(warps: int, terms: int) -> int:
    """Of the reduction, of `terms` terms, where `warps` warps make up the products without any."""
    slices = WARPS
    while slices > 1 and warps * slices > ENOUGH and 2 * terms <= MOST_TERMS * slices:
        slices //= 2
    return slices


def _block_rows(slices: int) -> int:
    return ROWS * WARPS // slices


def _column_tiles(channels: int) -> int:
    """One at least: without a channel there is still a gradient of the bias."""
    return -(-max(channels, 1) // COLUMNS)


@cache
def _kernel(
    channels: int, filters: int, has_bias: bool, activation: str | None, input_activation: str | None, slices: int
) -> Kernel:
    C, K, SLICES, BLOCK_ROWS = channels, filters, slices, _block_rows(slices)
    COLUMN_TILES = _column_tiles(channels)
    WEIGHT_BLOCKS = -(-filters // BLOCK_ROWS) * COLUMN_TILES
    OWN = ROWS // SLICES  # rows of a warp after the slices are added up
    PARTS, BIAS_PARTS = (WARPS * ROWS * COLUMNS, WARPS * ROWS) if SLICES > 1 else (4, 4)
    QUADS = C % 4 == 0  # a lane has four columns in a row; else four that lie a warp apart
    NEXT, GAP = (4, 1) if QUADS else (1, WARP)
    BIAS, DERIVED = has_bias, input_activation is not None
    fetch_terms = _fetch(filters, activation, terms_are_images=True)
    fetch_rows = _fetch(filters, activation, terms_are_images=False)
    derivative = activations.DERIVATIVES[input_activation]

    def linear_backward(x, weight, grad_output, y, grad_weight, grad_bias, grad_x, images, scale, input_scale):
        parts = cuda.shared.array(PARTS, float32, alignment=ALIGNMENT)
        bias_parts = cuda.shared.array(BIAS_PARTS, float32, alignment=ALIGNMENT)
        sums = cuda.local.array(SUMS, float32)
        bias_sums = cuda.local.array(ROWS, float32)
        values = cuda.local.array(VALUES, float32)
        line = cuda.local.array(LINES, float32)

        block = uint32(cuda.blockIdx.x)
        weights = block < uint32(WEIGHT_BLOCKS)
        b, out, rows, terms = x, grad_weight, uint32(K), images
        if not weights:
            block = uint32(block - uint32(WEIGHT_BLOCKS))
            b, out, rows, terms = weight, grad_x, images, uint32(K)
        thread = uint32(cuda.threadIdx.x)
        warp, lane = uint32(thread // uint32(WARP)), uint32(thread % uint32(WARP))
        group, slice_ = uint32(warp // uint32(SLICES)), uint32(warp % uint32(SLICES))
        first_row = uint32(block // uint32(COLUMN_TILES) * uint32(BLOCK_ROWS) + group * uint32(ROWS))
        column = uint32(block % uint32(COLUMN_TILES) * uint32(COLUMNS) + lane * uint32(NEXT))
        for k in range(SUMS):
            sums[k] = float32(0)
        for r in range(ROWS):
            bias_sums[r] = float32(0)

        steps = uint32((terms + uint32(TERMS - 1)) // uint32(TERMS))
        part = uint32((steps + uint32(SLICES - 1)) // uint32(SLICES))
        step = uint32(part * slice_)
        end = uint32(min(uint32(step + part), steps))
        while step < end:
            term = uint32(step * uint32(TERMS))
            if weights:
                fetch_terms(grad_output, y, scale, first_row, term, images, values)
            else:
                fetch_rows(grad_output, y, scale, first_row, term, images, values)
            start, left = uint32(term * uint32(C) + column), uint32(terms - term)
            if QUADS:
                there = left if column < uint32(C) else uint32(0)
                for t in range(TERMS):
                    e, f, g, h = float32(0), float32(0), float32(0), float32(0)
                    if uint32(t) < there:
                        e, f, g, h = load4(b, start + uint32(t * C))
                    line[t * 4], line[t * 4 + 1], line[t * 4 + 2], line[t * 4 + 3] = e, f, g, h
            else:
                for v in range(4):
                    there = left if uint32(column + uint32(v * GAP)) < uint32(C) else uint32(0)
                    for t in range(TERMS):
                        value = float32(0)
                        if uint32(t) < there:
                            value = b[start + uint32(t * C + v * GAP)]
                        line[t * 4 + v] = value
            for r in range(ROWS):
                for v in range(4):
                    for t in range(TERMS):
                        sums[r * 4 + v] += values[r * TERMS + t] * line[t * 4 + v]
                for t in range(TERMS if BIAS else 0):
                    bias_sums[r] += values[r * TERMS + t]
            step = uint32(step + uint32(1))

        if SLICES > 1:
            for r in range(ROWS):
                at = uint32(warp * uint32(ROWS) + uint32(r))
                if BIAS and lane == uint32(0):
                    bias_parts[at] = bias_sums[r]
                at = uint32(at * uint32(COLUMNS) + lane * uint32(4))
                store4(parts, at, sums[r * 4], sums[r * 4 + 1], sums[r * 4 + 2], sums[r * 4 + 3])
            cuda.syncthreads()
            for r in range(OWN):
                bias_sums[r] = float32(0)
                for v in range(4):
                    sums[r * 4 + v] = float32(0)
                for s in range(SLICES):
                    at = uint32((group * uint32(SLICES) + uint32(s)) * uint32(ROWS) + slice_ * uint32(OWN) + uint32(r))
                    if BIAS:
                        bias_sums[r] += bias_parts[at]
                    e, f, g, h = load4(parts, uint32(at * uint32(COLUMNS) + lane * uint32(4)))
                    sums[r * 4] += e
                    sums[r * 4 + 1] += f
                    sums[r * 4 + 2] += g
                    sums[r * 4 + 3] += h

        for r in range(OWN):
            row = uint32(first_row + slice_ * uint32(OWN) + uint32(r))
            if row < rows:
                if BIAS and weights and column == uint32(0):
                    grad_bias[row] = bias_sums[r]
                at = uint32(row * uint32(C) + column)
                if QUADS:
                    if column < uint32(C):
                        e, f, g, h = sums[r * 4], sums[r * 4 + 1], sums[r * 4 + 2], sums[r * 4 + 3]
                        if DERIVED and not weights:
                            i, j, k, m = load4(x, at)
                            e, f = derivative(input_scale * e, i), derivative(input_scale * f, j)
                            g, h = derivative(input_scale * g, k), derivative(input_scale * h, m)
                        store4(out, at, e, f, g, h)
                else:
                    for v in range(4):
                        if uint32(column + uint32(v * GAP)) < uint32(C):
                            e = sums[r * 4 + v]
                            if DERIVED and not weights:
                                e = derivative(input_scale * e, x[at + uint32(v * GAP)])
                            out[at + uint32(v * GAP)] = e

    parameters = *(pointer(float32),) * 7, uint32, float32, float32
    # Two blocks on a multiprocessor leave 128 registers, too few where y is held beside g.
    blocks = 2 if activation is None else 1
    return Kernel("linear_backward", linear_backward, parameters, THREADS, {"slices": SLICES}, min_blocks=blocks)


def _fetch(filters: int, activation: str | None, *, terms_are_images: bool) -> Any:
    """The device function that brings g of 8 rows and 4 terms: values[r * 4 + t]."""
    K = filters
    IMAGES, FILTERS = (TERMS, ROWS) if terms_are_images else (ROWS, TERMS)
    IMAGE_GAP, FILTER_GAP = (1, TERMS) if terms_are_images else (TERMS, 1)  # in values
    QUADS = K % 4 == 0
    TERMS_ARE_IMAGES, ACTIVATED = terms_are_images, activation is not None
    derivative = activations.DERIVATIVES[activation]

    @device
    def fetch(grad_output, y, scale, row, term, images, values):
        image, filter_ = (term, row) if TERMS_ARE_IMAGES else (row, term)
        start = uint32(image * uint32(K) + filter_)
        left = uint32(images - image) if image < images else uint32(0)
        for f in range(0, FILTERS, 4):
            if QUADS:
                there = left if uint32(filter_ + uint32(f)) < uint32(K) else uint32(0)
                for i in range(IMAGES):
                    e, g, h, j = float32(0), float32(0), float32(0), float32(0)
                    if uint32(i) < there:
                        e, g, h, j = load4(grad_output, start + uint32(i * K + f))
                        if ACTIVATED:
                            p, q, r, s = load4(y, start + uint32(i * K + f))
                            e, g = derivative(scale * e, p), derivative(scale * g, q)
                            h, j = derivative(scale * h, r), derivative(scale * j, s)
                    to = i * IMAGE_GAP + f * FILTER_GAP
                    values[to], values[to + FILTER_GAP] = e, g
                    values[to + 2 * FILTER_GAP], values[to + 3 * FILTER_GAP] = h, j
            else:
                for v in range(4):
                    there = left if uint32(filter_ + uint32(f + v)) < uint32(K) else uint32(0)
                    for i in range(IMAGES):
                        e = float32(0)
                        if uint32(i) < there:
                            e = grad_output[start + uint32(i * K + f + v)]
                        values[i * IMAGE_GAP + (f + v) * FILTER_GAP] = e
                # A loop of its own: with both in one, compilers find it too long to unroll, and put `values` in memory.
                for v in range(4 if ACTIVATED else 0):
                    there = left if uint32(filter_ + uint32(f + v)) < uint32(K) else uint32(0)
                    for i in range(IMAGES):
                        if uint32(i) < there:
                            to = i * IMAGE_GAP + (f + v) * FILTER_GAP
                            values[to] = derivative(scale * values[to], y[start + uint32(i * K + f + v)])

    return fetch
