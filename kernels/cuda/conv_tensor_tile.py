"""The tiles of `conv_tensor`: which layers they serve, which one is chosen, and what of it is in shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from cnn.kernels.cuda.compiler import SIMULATED
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.tensor import NUMBERS, WORDS
from cnn.kernels.cuda.tile_table import Choice, choose, layer_of
from cnn.kernels.geometry import Phase

# Blocks for each of 132 multiprocessors; with fewer, half as wide tiles make more of them.
FULL_GRID = 132

# Of weights, a power of two: one that is read, and copies that have two steps to arrive.
STAGES = 4

WARP_ROWS, WARP_COLUMNS = 32, 64

# Bytes of shared memory that a kernel has without asking for more.
SHARED = 48 * 1024


@dataclass(frozen=True)
class Tile:
    """rows of a block; its columns: height x width pixels of each of some images. Heights are even, widths multiples
    of 8, and all are powers of two.
    """

    rows: int
    images: int
    height: int
    width: int

    @property
    def columns(self) -> int:
        return self.images * self.height * self.width

    @property
    def threads(self) -> int:
        return self.rows // WARP_ROWS * (self.columns // WARP_COLUMNS) * 32


def serves(phase: ConvPhase, precision: str) -> bool:
    """Whether the precision is one of tensor cores, and there are rows and channels enough to fill a tile and a step,
    any taps, a margin that fits, and sources that are read as they are.
    """
    if precision not in NUMBERS:
        return False
    wide = phase.targets >= WARP_ROWS and phase.sources >= WORDS * NUMBERS[precision] and phase.taps > 0
    near = phase.vertical.stride == phase.horizontal.stride == 1
    plain = not phase.source_pooled and phase.derivative is None
    return wide and near and plain and any(_fits(phase, tile, precision) for tile in _tiles(phase, 64))


def choose_tile(phase: ConvPhase, images: int, precision: str) -> Tile:
    return choose(tiles(phase, images, precision))


def tiles(phase: ConvPhase, images: int, precision: str) -> Choice[Tile]:
    """The rule: as wide as fits, while the grid fills a large GPU twice; of the rectangles that with the least beyond
    the plane, and then the least margin.
    """
    widths: list[Tile] = []
    for columns in (256, 128, 64) if phase.targets <= WARP_ROWS else (128, 64):
        fitting = [tile for tile in _tiles(phase, columns) if _fits(phase, tile, precision)]
        if fitting:
            widths.append(min(fitting, key=lambda tile: (blocks(phase, images, tile), lines(phase, tile))))
    if SIMULATED:
        widths = [Tile(32, 1, 8, 8)]
    rule = next((tile for tile in widths if blocks(phase, images, tile) >= FULL_GRID), widths[-1])
    return Choice(f"conv_tensor {precision}", layer_of(phase, images), tuple(dict.fromkeys((rule, *widths))))


def _tiles(phase: ConvPhase, columns: int) -> list[Tile]:
    rows = WARP_ROWS if phase.targets <= WARP_ROWS else 2 * WARP_ROWS
    sizes = [(images, width) for images in (1, 2, 4) for width in (16, 32, 8)]
    return [Tile(rows, n, columns // n // w, w) for n, w in sizes if columns // n // w >= 2]


def blocks(phase: ConvPhase, images: int, tile: Tile) -> int:
    rectangles = -(-phase.vertical.size // tile.height) * -(-phase.horizontal.size // tile.width)
    return -(-images // tile.images) * rectangles * phase.groups * -(-phase.targets // tile.rows)


def reach(phase: Phase, size: int) -> int:
    """Source positions that `size` targets in a row meet."""
    return size + (phase.taps - 1) * abs(phase.shift)


def lines(phase: ConvPhase, tile: Tile) -> int:
    return tile.images * reach(phase.vertical, tile.height) * reach(phase.horizontal, tile.width)


def chunks(phase: ConvPhase, precision: str) -> int:
    return -(-phase.sources // (WORDS * NUMBERS[precision]))


def _fits(phase: ConvPhase, tile: Tile, precision: str) -> bool:
    return 4 * (words(phase, tile, precision) + lines(phase, tile)) <= SHARED


def words(phase: ConvPhase, tile: Tile, precision: str) -> int:
    """Of weights and sources in shared memory."""
    return (STAGES * tile.rows + min(chunks(phase, precision), 2) * lines(phase, tile)) * WORDS
