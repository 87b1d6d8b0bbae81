"""Images as they lie, with room around them: planes of rows, for tiles that take single pixels or runs of a row.

`lay` copies the channels of one image into such planes, and writes nothing between the pixels: the caller has filled
the planes with zeros, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import inner
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.simd import LANES, load_tile, store
from cnn.kernels.cpu.threads import odd_lines
from cnn.kernels.cpu.transpose import load_rows, store_rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """Steps and sizes count float32."""

    channels: int
    height: int
    width: int
    before: tuple[int, int]  # room above and on the left
    row: int
    size: int  # of a plane
    used: tuple[int, int] = (0, 1)  # the first row that is read, and from one such row to the next

    step = 1  # from a pixel to the one on the right

    @staticmethod
    def of(
        channels: int, sizes: Any, before: tuple[int, int], extent: tuple[int, int], used: tuple[int, int] = (0, 1)
    ) -> Rows:
        height, width = sizes
        return Rows(channels, height, width, before, extent[1], odd_lines(extent[0] * extent[1]), used)

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def positions(self) -> Array:
        """Of each pixel in its plane."""
        h, w = np.indices((self.height, self.width)).reshape(2, -1)
        positions: Array = self._first + h * self.row + w
        return positions

    @property
    def vectors(self) -> Array:
        """None: pixels lie side by side."""
        return np.zeros(0, np.int64)

    @property
    def layout(self) -> tuple[int, int, int, int, int, int, int, int]:
        """What `lay` asks for."""
        return self.channels, self.height, self.width, self._first, self.row, self.size, *self.used

    @property
    def _first(self) -> int:
        return self.before[0] * self.row + self.before[1]


@inner()
def lay(source, image, layout, planes):
    """planes[c * size + position of p] = source[image, c, p], what was pooled back at its place (see `conv_ends`).

    Rows that are not used are left out where nothing was pooled.
    """
    values, marks, (taps, pixels, positions, numbers, _) = source
    channels, height, width, first, row, size, skipped, every = layout
    if taps > 0:
        line = positions.size // taps
        for c in range(channels):
            start = (image * channels + c) * pixels
            for k in range(0, taps * line, line):
                for p in range(pixels):
                    chosen = np.float32(get(marks, start + p)).view(np.int32)
                    here = chosen == np.float32(get(numbers, k + p)).view(np.int32)
                    put(planes, c * size + get(positions, k + p), get(values, start + p) if here else np.float32(0))
        return
    for c in range(channels):
        here, there = (image * channels + c) * height * width, c * size + first
        if width < LANES:
            for h in range(skipped, height, LANES * every):
                rows = (height - h + every - 1) // every
                tile = load_rows(values, here + h * width, every * width, rows, width, LANES)
                store_rows(tile, planes, there + h * row, every * row, rows, width)
        else:
            for h in range(skipped, height, every):
                for w in range(0, width, LANES):
                    at = min(w, width - LANES)  # a row's last vector overlaps the one before it
                    tile = load_tile(values, here + h * width + at, 0, 0, 1, 1, LANES)
                    store(tile, planes, there + h * row + at, 0, 0)
