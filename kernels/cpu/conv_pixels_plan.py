"""Which convolutions `conv_pixels` serves, and their tables. Offsets, steps and sizes count float32."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod
from typing import Any

import numpy as np

from cnn.kernels.cpu.conv_plan import room, row_offsets, up, weight_index
from cnn.kernels.cpu.rows import Rows
from cnn.kernels.cpu.simd import LANES, REGISTERS
from cnn.kernels.geometry import ConvGeometry, Phase

Array = np.ndarray[Any, Any]

# (channels, vectors of pixels) of a register tile, and of the kernel gradient's (filters, rows).
TILES: tuple[tuple[int, int], ...]
GRADIENT_TILES: tuple[tuple[int, int], ...]
if REGISTERS >= 32:
    TILES = ((8, 3), (8, 2), (6, 4), (6, 3), (6, 2), (4, 4), (4, 2), (8, 1), (6, 1))
    GRADIENT_TILES = ((8, 3), (6, 4), (4, 4))
else:
    TILES = ((6, 2), (4, 3), (4, 2), (8, 1), (6, 1))
    GRADIENT_TILES = ((6, 1), (4, 2))

# Most float32 that the sums of a kernel gradient may take: they are read and written for every run of images. A run is
# one image that is copied, or some that are read where they lie: with their gradients no more than these float32.
SUMS = 2**16
RUN = 2**16


@dataclass(frozen=True, eq=False)
class Correlation:
    tile: tuple[int, int]
    source: Rows
    target: Rows
    copied: bool  # whether the source needs room around it; else it is read where it lies
    down: int  # target rows of a tile, where a row is one vector
    offsets: Array  # of every row e: one channel of the source under one tap
    weights: Array  # flat index in the weight array of [tile of channels][row e][channel of the tile]


@dataclass(frozen=True, eq=False)
class Overlays:
    tile: tuple[int, int]
    rows: int
    source: Rows
    grad: Rows
    images: int  # of a run
    copied: bool
    starts: Array  # of each vector of pixels, in its plane of gradients
    firsts: Array  # the lanes before are the previous vector's
    places: Array  # in the source
    offsets: Array  # filled up to whole tiles by repeating the last


def waste(geometry: ConvGeometry, channels: int, sizes: tuple[int, ...]) -> float:
    """How many pixels are computed for each of a target of that many channels and these sizes; infinity where none can.

    Rows need not be whole tiles: the last one overlaps the one before it.
    """
    height, width = _extent(geometry, sizes)
    tile = _tile(channels, height, width) if {*geometry.stride, geometry.groups} == {1} else None
    return inf if tile is None else _computed(tile, width) / width


def gradient_waste(geometry: ConvGeometry) -> float:
    """Likewise for the kernel gradient, whose sums have to fit into a cache."""
    width = _extent(geometry, geometry.output)[1]
    serves = (
        {*geometry.stride, geometry.groups} == {1}
        and width >= LANES
        and prod(geometry.weight_shape) * LANES <= SUMS
        and _gradient_tile(geometry.filters) is not None
    )
    return up(width, LANES) / width if serves else inf


@lru_cache(maxsize=256)
def forward_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [g.forward_phase(axis) for axis in (0, 1)]
    return _correlation(g, weight_index(g)[0], g.input, g.output, phases)


@lru_cache(maxsize=256)
def input_gradient_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [g.input_gradient_phases(axis)[0] for axis in (0, 1)]
    return _correlation(g, weight_index(g)[0].swapaxes(0, 1), g.output, g.input, phases)


@lru_cache(maxsize=256)
def kernel_gradient_plan(geometry: ConvGeometry) -> Overlays:
    g = geometry.two_dimensional()
    source, offsets = _source(g, g.channels, g.input, [g.forward_phase(axis) for axis in (0, 1)])
    tile = _gradient_tile(g.filters)
    assert tile is not None
    filled = np.concatenate([offsets, np.full(-len(offsets) % tile[1], offsets[-1])])
    grad = _whole(g, g.filters, g.output)
    images = RUN // (source.channels * source.size + grad.channels * grad.size) if _pointwise(g) else 1
    columns = np.minimum(np.arange(0, grad.width, LANES), grad.width - LANES)
    rows, firsts = np.arange(grad.height)[:, None], np.arange(0, grad.width, LANES) - columns
    return Overlays(
        tile=tile,
        rows=len(offsets),
        source=source,
        grad=grad,
        images=max(images, 1),
        copied=not _pointwise(g),
        starts=(rows * grad.width + columns).reshape(-1),
        firsts=np.tile(firsts, grad.height),
        places=(rows * source.row + columns).reshape(-1),
        offsets=filled,
    )


def _correlation(
    g: ConvGeometry, index: Array, source_sizes: Any, target_sizes: Any, phases: list[Phase]
) -> Correlation:
    targets, sources = index.shape[:2]
    source, offsets = _source(g, sources, source_sizes, phases)
    target = _whole(g, targets, target_sizes)
    tile = _tile(targets, target.height, target.width)
    assert tile is not None
    weights = index.reshape(targets // tile[0], tile[0], -1).swapaxes(1, 2)
    down = 1 if target.width > LANES else tile[1]
    return Correlation(
        tile, source, target, not _pointwise(g), down, offsets, np.ascontiguousarray(weights).reshape(-1)
    )


def _source(g: ConvGeometry, channels: int, sizes: Any, phases: list[Phase]) -> tuple[Rows, Array]:
    """Planes with room for every source position that a tap meets, and the offsets of the rows e in them."""
    if _pointwise(g):
        return _whole(g, channels, sizes), np.arange(channels, dtype=np.int64) * prod(sizes)
    (vertical,), (horizontal,) = each = [[phase] for phase in phases]
    source = Rows.of(channels, sizes, *room(sizes, each, 1))
    c, r, s = np.indices((channels, *g.kernel)).reshape(3, -1)
    return source, row_offsets(source, c, vertical, horizontal, r, s)


def _whole(g: ConvGeometry, channels: int, sizes: Any) -> Rows:
    """Planes as they lie in memory."""
    height, width = _extent(g, sizes)
    return Rows(channels, height, width, (0, 0), width, prod(sizes))


def _extent(g: ConvGeometry, sizes: Any) -> tuple[int, int]:
    """Rows of a plane and their length: one long row where every pixel is computed from the same pixel alone."""
    return (1, prod(sizes)) if _pointwise(g) or len(sizes) == 1 else tuple(sizes)


def _pointwise(g: ConvGeometry) -> bool:
    return prod(g.kernel) == 1 and not any(pad for pair in g.padding for pad in pair)


def _tile(channels: int, height: int, width: int) -> tuple[int, int] | None:
    """The tile that costs least, of those that divide the channels and fit into a row, or a column of vectors.

    A vector of pixels serves as many products as the tile has channels, and mostly comes from the second-level cache;
    a weight serves one for each vector, and comes from the first.
    """
    fitting = [
        tile
        for tile in TILES
        if channels % tile[0] == 0 and (width >= tile[1] * LANES or (width == LANES and height % tile[1] == 0))
    ]
    return min(fitting, default=None, key=lambda t: _computed(t, width) * (1 + 1 / t[0] + 1 / (4 * t[1])))


def _computed(tile: tuple[int, int], width: int) -> int:
    """Pixels that are computed of a row."""
    return LANES if width == LANES else up(width, tile[1] * LANES)


def _gradient_tile(filters: int) -> tuple[int, int] | None:
    return next((tile for tile in GRADIENT_TILES if filters % tile[0] == 0), None)
