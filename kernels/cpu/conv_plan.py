"""A convolution as tables of offsets, so that one loop serves every stride, padding, dilation, group and mode.

Forward and input gradient are the same sum in the layout of `layout`, for each target channel t and grid pixel:

    target[t, pixel] = bias[t] + sum over rows e of weights[e, t] * source[pixel's place + offsets[e]]

where a row e is one channel of the source under one tap of the filter. The forward pass is one grid of pixels. The
input gradient has one grid for each phase (the pixels with equal remainder by the stride): those meet the same taps,
and no multiplication with an inserted zero is made. The source is padded so that no offset leaves it.

Plans are made once for a geometry. One dimension is computed as two, with height 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.layout import padded_positions
from cnn.kernels.cpu.rows import Rows
from cnn.kernels.cpu.simd import LANES, REGISTERS
from cnn.kernels.geometry import ConvGeometry, Phase

Array = np.ndarray[Any, Any]

# (channels, pixels) of a register tile of sums. With a vector for each pixel and some for weights it must fit in the
# registers, and 16 sums are enough that none waits for another. Among tiles that cost the same, the first is taken.
TILES = (
    ((8, 3), (8, 2), (6, 4), (6, 3), (4, 4), (2, 8), (1, 14)) if REGISTERS >= 32 else ((6, 2), (4, 3), (2, 4), (1, 6))
)

# (filters, rows) of the kernel gradient's tile: as above, but with a vector for each filter and each row.
GRADIENT_TILES = ((8, 3), (6, 4), (8, 2), (4, 6), (1, 14)) if REGISTERS >= 32 else ((4, 2), (2, 4), (1, 6))

# float32 of the gradients under a row of tiles that may stay in the first-level cache from one tile to the next; worth
# it where the sums of all these tiles, which are put aside in between, are no more.
NEAR = 2**13


@dataclass(frozen=True, eq=False)
class Correlation:
    """Tables for `conv.correlate`. Offsets, steps and plane sizes count float32 elements."""

    tile: tuple[int, int]
    groups: int
    blocks: int  # tiles of channels in one group of the target
    source: Plane
    source_steps: tuple[int, int]  # from a grid pixel to the one below, and to the one on the right
    target: Plane
    target_steps: tuple[int, int]
    grids: Array  # for each: rows, first row, first weight, target of its first pixel, height, width, first line
    lines: Array  # for each line of pixels of every grid: which of the rows meet the source, from and to
    offsets: Array  # of every row of every grid
    weights: Array  # flat index in the weight array of [grid][group][block][row][channel of the tile], -1 for none


@dataclass(frozen=True, eq=False)
class Overlays:
    """Tables for `conv.correlate_overlays`, the kernel gradient."""

    tile: tuple[int, int]
    blocks: int  # tiles of filters in one group
    rows: int  # (channel, tap) pairs of one filter
    source: Plane
    source_steps: tuple[int, int]
    grad: Plane
    lines: int  # of overlays that all tiles pass over before the next lines
    offsets: Array  # of every row, filled up to whole tiles by repeating the last


class Plane(NamedTuple):
    """How the pixels of one channel lie in memory, vectors: a rectangle with room around them, and one spare."""

    channels: int
    pixels: int
    size: int
    row: int  # float32 from a pixel to the one below
    before: tuple[int, int]  # room above and on the left, in vectors
    positions: Array  # of each pixel; filled up to whole vectors with the spare one

    @staticmethod
    def of(channels: int, sizes: tuple[int, ...], before: tuple[int, int], extent: tuple[int, int]) -> Plane:
        h, w = np.indices(sizes).reshape(2, -1)
        spare = extent[0] * extent[1] * LANES
        positions = ((h + before[0]) * extent[1] + w + before[1]) * LANES
        return Plane(channels, len(h), spare + LANES, extent[1] * LANES, before, padded_positions(positions, spare))

    @property
    def vectors(self) -> Array:
        """Positions of all vectors of a plane, whether there is a pixel or not."""
        return np.arange(0, self.size, LANES)

    @property
    def step(self) -> int:
        """From a pixel to the one on the right."""
        return LANES


@lru_cache(maxsize=256)
def forward_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [[g.forward_phase(axis)] for axis in (0, 1)]
    index = weight_index(g)
    return _correlation(index, g.channels, g.input, g.stride, g.filters, g.output, (1, 1), phases)


@lru_cache(maxsize=256)
def input_gradient_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [g.input_gradient_phases(axis) for axis in (0, 1)]
    index = weight_index(g).swapaxes(1, 2)
    return _correlation(index, g.filters, g.output, (1, 1), g.channels, g.input, g.stride, phases)


@lru_cache(maxsize=256)
def kernel_gradient_plan(geometry: ConvGeometry) -> Overlays:
    g = geometry.two_dimensional()
    filters, channels = g.filters // g.groups, g.channels // g.groups
    rows = channels * g.kernel[0] * g.kernel[1]
    tile = _best(GRADIENT_TILES, filters, rows)
    phases = [[g.forward_phase(axis)] for axis in (0, 1)]
    (vertical,), (horizontal,) = phases
    source = Plane.of(g.channels, g.input, *room(g.input, phases, 1))
    c, r, s = np.indices((channels, *g.kernel)).reshape(3, -1)
    offsets = row_offsets(source, c, vertical, horizontal, r, s)
    height, width = g.output
    return Overlays(
        tile=tile,
        blocks=-(-filters // tile[0]),
        rows=rows,
        source=source,
        source_steps=(g.stride[0] * source.row, g.stride[1] * source.step),
        grad=Plane.of(g.filters, (height, width), (0, 0), (height, width)),
        lines=max(NEAR // max(width * tile[0] * LANES, 1), 1) if tile[0] * rows * LANES <= NEAR else height,
        offsets=np.concatenate([offsets, np.full(-rows % tile[1], offsets[-1])]).astype(np.int64),
    )


def _correlation(
    index: Array,
    source_channels: int,
    source_sizes: Any,
    source_steps: Any,
    target_channels: int,
    target_sizes: Any,
    target_steps: Any,
    phases: list[list[Phase]],
) -> Correlation:
    """The tables, from `index` [group][target channel][source channel][tap][tap] and the phases of both dimensions."""
    groups, targets, sources = index.shape[:3]
    tile = _best(TILES, targets, max((phase.size for phase in phases[1]), default=1))
    blocks = -(-targets // tile[0])
    # One more line of channels says -1: what fills the last tile up has no weight.
    padding = ((0, 0), (0, blocks * tile[0] - targets), (0, 0), (0, 0), (0, 0))
    index = np.pad(index, padding, constant_values=-1).reshape(groups, blocks, tile[0], *index.shape[2:])

    source = Plane.of(source_channels, source_sizes, *room(source_sizes, phases, tile[1]))
    width = max((side.first + (up(side.size, tile[1]) - 1) * side.step + 1 for side in phases[1]), default=1)
    target = Plane.of(target_channels, target_sizes, (0, 0), (target_sizes[0], width))
    grids, lines, offsets, weights = [], [], [], []
    rows = packed = first_line = 0
    for vertical, horizontal in product(*phases):
        down, right = (np.array([tap for tap, _ in phase.met], np.int64) for phase in (vertical, horizontal))
        r, c, s = np.indices((len(down), sources, len(right))).reshape(3, -1)
        r, s = down[r], right[s]
        start = (vertical.first * width + horizontal.first) * LANES
        grids.append([len(c), rows, packed, start, vertical.size, up(horizontal.size, tile[1]), first_line])
        lines.append(met_rows(vertical, source_sizes[0], sources * len(right)))
        first_line += vertical.size
        offsets.append(row_offsets(source, c, vertical, horizontal, r, s))
        weights.append(np.moveaxis(index[:, :, :, c, r, s], 2, 3).ravel())
        rows, packed = rows + len(c), packed + weights[-1].size
    return Correlation(
        tile=tile,
        groups=groups,
        blocks=blocks,
        source=source,
        source_steps=(source_steps[0] * source.row, source_steps[1] * source.step),
        target=target,
        target_steps=(target_steps[0] * width * LANES, target_steps[1] * LANES),
        grids=np.array(grids, np.int64).reshape(-1, 7),
        lines=np.concatenate([np.zeros((0, 2), np.int64), *lines]),
        offsets=np.concatenate([np.zeros(0, np.int64), *offsets]),
        weights=np.concatenate([np.zeros(0, np.int64), *weights]),
    )


def room(sizes: Any, phases: list[list[Phase]], multiple: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Before and extent of a plane with room for every source index that a tap meets, and whole tiles of `multiple`."""
    before, extent = [], []
    for axis in (0, 1):
        reached = [0, sizes[axis] - 1]
        for phase in phases[axis]:
            last = (up(phase.size, multiple if axis else 1) - 1) * phase.stride
            reached += [index for _, first in phase.met for index in (first, first + last)]
        before.append(-min(reached))
        extent.append(max(reached) - min(reached) + 1)
    return (before[0], before[1]), (extent[0], extent[1])


def used_rows(size: int, phases: list[Phase]) -> tuple[int, int]:
    """Of a source of so many rows: the first one that a tap meets, and the distance that all others are apart."""
    reached = {start + i * phase.stride for phase in phases for _, start in phase.met for i in range(phase.size)}
    met = sorted(row for row in reached if 0 <= row < size)
    return (met[0], gcd(*np.diff(met)) or size) if met else (0, 1)


def row_offsets(source: Plane | Rows, c: Array, vertical: Phase, horizontal: Phase, r: Array, s: Array) -> Array:
    """From the source's place for grid pixel 0 to that of channel c under tap (r, s)."""
    down, right = dict(vertical.met), dict(horizontal.met)
    rows = np.array([down[tap] for tap in r.tolist()], np.int64) + source.before[0]
    columns = np.array([right[tap] for tap in s.tolist()], np.int64) + source.before[1]
    offsets: Array = c * source.size + rows * source.row + columns * source.step
    return offsets


def met_rows(vertical: Phase, height: int, rows: int) -> Array:
    """For each line of a grid, which rows e meet a source of that height, from and to; `rows` of them have one tap."""
    positions = np.arange(vertical.size)[:, None] * vertical.stride + [first for _, first in vertical.met]
    met = (positions >= 0) & (positions < height)
    first = np.where(met.any(axis=1), met.argmax(axis=1) if met.size else 0, 0)
    lines: Array = np.stack([first, first + met.sum(axis=1)], axis=1) * rows
    return lines.astype(np.int64)


def weight_index(g: ConvGeometry) -> Array:
    """Flat positions in weight (K, C/G, R, S) as [group][filter][channel][r][s], mirrored for mode="convolution"."""
    index = np.arange(int(np.prod(g.weight_shape))).reshape(g.groups, g.filters // g.groups, *g.weight_shape[1:])
    return mirrored(index, g)


def mirrored(weights: Array, geometry: ConvGeometry) -> Array:
    """For mode="convolution" turned around in the dimensions of the kernel, the last ones; else as they are."""
    return np.flip(weights, tuple(range(-geometry.dimensions, 0))) if geometry.flipped else weights


@jit()
def pick(values, index, out):
    for i in range(index.size):
        out[i] = values[index[i]] if index[i] >= 0 else np.float32(0)


def _best(tiles: tuple[tuple[int, int], ...], rows: int, columns: int) -> tuple[int, int]:
    """The tile that covers rows x columns at the least cost, a load taken for half a product."""
    return min(tiles, key=lambda t: up(rows, t[0]) * up(columns, t[1]) * (1 + (t[0] + t[1]) / (2 * t[0] * t[1])))


def up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
