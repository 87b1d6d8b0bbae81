"""A convolution as tables of offsets for `conv_channels`: as in `conv_plan`, with a source that lies in rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from cnn.kernels.cpu.conv_plan import Plane, met_rows, room, row_offsets, up, used_rows, weight_index
from cnn.kernels.cpu.rows import Rows
from cnn.kernels.cpu.simd import LANES, REGISTERS
from cnn.kernels.geometry import ConvGeometry, Phase

Array = np.ndarray[Any, Any]

# Pixels of a register tile, for one, two and three vectors of channels: the sums, those and a pixel fit in registers.
PIXELS = {1: (14, 10, 8), 2: (12, 10, 8, 7), 3: (8, 6, 4)} if REGISTERS >= 32 else {1: (10, 8), 2: (6, 5, 4), 3: (4, 3)}

# Rows of the kernel gradient's tile.
ROWS = 8 if REGISTERS >= 32 else 4


@dataclass(frozen=True, eq=False)
class Correlation:
    """Offsets, steps and sizes count float32."""

    tile: tuple[int, int]  # pixels, vectors of channels
    source: Rows
    source_steps: tuple[int, int]  # from a grid pixel to the one below, and to the one on the right
    target: Plane
    target_steps: tuple[int, int]
    grids: Array  # for each: first row, target of its first pixel, height, width, first line
    lines: Array  # for each line of pixels of every grid: which of the rows meet the source, from and to
    offsets: Array  # of every row of every grid
    weights: Array  # flat index in the weight array of [vectors of a tile][row of every grid][channel], -1 for none


@dataclass(frozen=True, eq=False)
class Overlays:
    columns: int
    rows: int  # (tap, channel) pairs
    source: Rows
    source_steps: tuple[int, int]
    grad: Plane
    offsets: Array  # of every row, filled up to whole tiles by repeating the last


@lru_cache(maxsize=256)
def forward_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [[g.forward_phase(axis)] for axis in (0, 1)]
    return _correlation(weight_index(g)[0], g.channels, g.input, g.stride, g.filters, g.output, (1, 1), phases)


@lru_cache(maxsize=256)
def input_gradient_plan(geometry: ConvGeometry) -> Correlation:
    g = geometry.two_dimensional()
    phases = [g.input_gradient_phases(axis) for axis in (0, 1)]
    index = weight_index(g)[0].swapaxes(0, 1)
    return _correlation(index, g.filters, g.output, (1, 1), g.channels, g.input, g.stride, phases)


@lru_cache(maxsize=256)
def kernel_gradient_plan(geometry: ConvGeometry) -> Overlays:
    g = geometry.two_dimensional()
    (vertical,), (horizontal,) = phases = [[g.forward_phase(axis)] for axis in (0, 1)]
    source = Rows.of(g.channels, g.input, *room(g.input, phases, 1), used_rows(g.input[0], phases[0]))
    r, s, c = np.indices((*g.kernel, g.channels)).reshape(3, -1)
    offsets = row_offsets(source, c, vertical, horizontal, r, s)
    height, width = g.output
    return Overlays(
        columns=_columns(g.filters),
        rows=len(c),
        source=source,
        source_steps=(g.stride[0] * source.row, g.stride[1] * source.step),
        grad=Plane.of(g.filters, (height, width), (0, 0), (height, width)),
        offsets=np.concatenate([offsets, np.full(-len(c) % ROWS, offsets[-1])]).astype(np.int64),
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
    """The tables, from `index` [target channel][source channel][tap][tap] and the phases of both dimensions."""
    columns = _columns(target_channels)
    widest = max((phase.size for phase in phases[1]), default=1)
    pixels = min(PIXELS[columns], key=lambda p: up(widest, p) * (1 + 1 / p))
    padding = ((0, up(target_channels, LANES) - target_channels), (0, 0), (0, 0), (0, 0))
    index = np.pad(index, padding, constant_values=-1)
    source = Rows.of(
        source_channels, source_sizes, *room(source_sizes, phases, pixels), used_rows(source_sizes[0], phases[0])
    )
    width = max((side.first + (up(side.size, pixels) - 1) * side.step + 1 for side in phases[1]), default=1)
    target = Plane.of(target_channels, target_sizes, (0, 0), (target_sizes[0], width))
    grids, lines, offsets = [], [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    weights = [np.zeros((0, len(index)), np.int64)]
    rows, first_line, wide = 0, 0, columns * LANES
    for vertical, horizontal in product(*phases):
        down, right = (np.array([tap for tap, _ in phase.met], np.int64) for phase in (vertical, horizontal))
        r, c, s = np.indices((len(down), source_channels, len(right))).reshape(3, -1)
        r, s = down[r], right[s]
        start = (vertical.first * width + horizontal.first) * LANES
        grids.append([rows, start, vertical.size, up(horizontal.size, pixels), first_line])
        lines.append(met_rows(vertical, source_sizes[0], source_channels * len(right)))
        first_line += vertical.size
        offsets.append(row_offsets(source, c, vertical, horizontal, r, s))
        weights.append(index[:, c, r, s].T)
        rows += len(c)
    return Correlation(
        tile=(pixels, columns),
        source=source,
        source_steps=(source_steps[0] * source.row, source_steps[1] * source.step),
        target=target,
        target_steps=(target_steps[0] * width * LANES, target_steps[1] * LANES),
        grids=np.array(grids, np.int64).reshape(-1, 5),
        lines=np.concatenate(lines),
        offsets=np.concatenate(offsets),
        weights=np.concatenate(weights).reshape(rows, len(index) // wide, wide).swapaxes(0, 1).reshape(-1),
    )


def _columns(channels: int) -> int:
    return next(columns for columns in (2, 3, 1) if -(-channels // LANES) % columns == 0)
