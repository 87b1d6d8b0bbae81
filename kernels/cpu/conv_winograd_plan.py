"""Which convolutions Winograd's filtering serves, and how their images lie in memory for it.

Tiles of targets stand side by side and cover the plane; sources have as much room around them as the tiles read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.conv_plan import up
from cnn.kernels.cpu.conv_winograd_tiles import HEIGHT, WIDTH
from cnn.kernels.cpu.layout import padded_positions
from cnn.kernels.cpu.simd import LANES, REGISTERS
from cnn.kernels.geometry import ConvGeometry

Array = np.ndarray[Any, Any]

# How weights lie in memory: from one source's to the next one's, from one target's, and whether the last tap is first.
Order = tuple[int, int, bool]

POINTS = HEIGHT * WIDTH
TAPS = 3
STEPS = (HEIGHT + 1 - TAPS, WIDTH + 1 - TAPS)  # pixels of a target tile

# float32 of transformed sources and targets that one thread works on at a time: half of a cache of 1 MiB.
TOGETHER = 2**17

# Tiles, or filters, in the rows of a register tile of sums.
ROWS = 8 if REGISTERS >= 32 else 4

# Filters, in tiles of one vector, which need more of them: no sum may wait for the one before it.
ROWS_OF_ONE = min(2 * ROWS, LANES)

# Partial sums of a kernel gradient. Their number depends on nothing but the sizes, and so do the bits of the result.
PARTS = 8


@dataclass(frozen=True, eq=False)
class Blocked:
    """Planes of an image, [block of channels][row][column][lane]. All sizes count float32."""

    channels: int
    pixels: int
    blocks: int
    plane: int
    row: int
    positions: Array  # of each pixel
    tiles: Array  # of each tile's first pixel, over all images of a unit

    @staticmethod
    def of(channels: int, sizes: Any, before: Any, extent: Any, corners: Any, images: int) -> Blocked:
        """before: room above and on the left. corners: number of tiles in each dimension."""
        blocks, row, spare = -(-channels // LANES), extent[1] * LANES, extent[0] * extent[1] * LANES
        h, w = np.indices(sizes).reshape(2, -1)
        positions = (h + before[0]) * row + (w + before[1]) * LANES
        i, j = np.indices(corners).reshape(2, -1)
        plane = spare + LANES
        tiles = np.arange(images)[:, None] * (blocks * plane) + i * STEPS[0] * row + j * STEPS[1] * LANES
        positions = padded_positions(positions, spare)
        return Blocked(channels, len(h), blocks, plane, row, positions, tiles.reshape(-1).astype(np.int64))

    @property
    def width(self) -> int:
        """Channels filled up to whole vectors."""
        return self.blocks * LANES

    @property
    def size(self) -> int:
        """Of a plane, as in `conv_plan.Plane`."""
        return self.plane

    @property
    def vectors(self) -> Array:
        """As in `conv_plan.Plane`, too."""
        return np.arange(0, self.plane, LANES)

    @property
    def image(self) -> int:
        return self.blocks * self.plane

    @property
    def layout(self) -> tuple[int, int, int, int, int]:
        return self.channels, self.pixels, self.blocks, self.plane, self.row


@dataclass(frozen=True, eq=False)
class Winograd:
    """A unit of work is `images` images; it is transformed `chunk` tiles at a time."""

    images: int
    tiles: int  # of one image
    chunk: int
    source: Blocked
    target: Blocked
    order: Order

    @property
    def padded(self) -> int:
        return up(self.chunk, ROWS)


def serves(geometry: ConvGeometry) -> bool:
    """3x3 at stride 1 with enough channels on both sides that the transforms, of each of them, are worth it."""
    return (
        geometry.kernel == (TAPS, TAPS)
        and {*geometry.stride, *geometry.dilation, geometry.groups} == {1}
        and all(pad < TAPS for pair in geometry.padding for pad in pair)
        and min(geometry.channels, geometry.filters) >= LANES
        and min(geometry.output) >= STEPS[0]
    )


@lru_cache(maxsize=256)
def forward_plan(geometry: ConvGeometry) -> Winograd:
    channels = geometry.channels, geometry.filters
    order = TAPS * TAPS, geometry.channels * TAPS * TAPS, geometry.flipped
    return _plan(geometry, channels, geometry.input, geometry.output, geometry.padding, order)


@lru_cache(maxsize=256)
def input_gradient_plan(geometry: ConvGeometry) -> Winograd:
    """The full correlation of the output's gradient with the rotated filter."""
    channels = geometry.filters, geometry.channels
    padding = tuple((TAPS - 1 - before, TAPS - 1 - after) for before, after in geometry.padding)
    order = geometry.channels * TAPS * TAPS, TAPS * TAPS, not geometry.flipped
    return _plan(geometry, channels, geometry.output, geometry.input, padding, order)


def _plan(
    geometry: ConvGeometry, channels: tuple[int, int], source: Any, target: Any, padding: Any, order: Order
) -> Winograd:
    sources, targets = channels
    corners = [-(-size // step) for size, step in zip(target, STEPS, strict=True)]
    tiles = corners[0] * corners[1]
    most = max(TOGETHER // (POINTS * (sources + targets)), 2 * ROWS)
    images = max(min(most // tiles, -(-geometry.batch // PARTS)), 1)
    chunks = -(-images * tiles // most)
    whole = [corner * step for corner, step in zip(corners, STEPS, strict=True)]
    extent = [size + TAPS - 1 for size in whole]
    return Winograd(
        images=images,
        tiles=tiles,
        chunk=min(up(-(-images * tiles // chunks), ROWS), images * tiles),
        source=Blocked.of(sources, source, [before for before, _ in padding], extent, corners, images),
        target=Blocked.of(targets, target, (0, 0), whole, corners, images),
        order=order,
    )
