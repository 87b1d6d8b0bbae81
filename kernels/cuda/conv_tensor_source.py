"""The sources of `conv_tensor`: from device memory to registers, and from there, rounded, to shared memory.

A table in shared memory says for each line where its first channel is in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cnn.kernels.cuda.compiler import device, float32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_tensor_tile import Tile, lines, reach
from cnn.kernels.cuda.rounding import word_of
from cnn.kernels.cuda.tensor import NUMBERS, WORDS, put4

NOTHING = 2**32 - 1  # in the table: there is no source


@dataclass(frozen=True)
class SourceReader:
    """A quad is four words of a line, its number line * 4 + which of them. A piece is a quad for each thread.

    place: the device function (image, group, line, top, left, images) -> where the line's first channel is, or NOTHING
    pieces(first, count) -> two device functions for `count` pieces, a thread's quads then being quad, quad + threads ..
        fetch(source, table, quad, channel, values): to `values`, from the place of piece `first` on; channel: the first
            of the quad
        put(shared, at, quad, values): to the address `at`, and so on
    values: of a piece
    """

    place: Any
    pieces: Callable[[int, int], tuple[Any, Any]]
    values: int


def source_reader(phase: ConvPhase, precision: str, tile: Tile) -> SourceReader:
    vertical, horizontal = phase.vertical, phase.horizontal
    THREADS, QUADS = tile.threads, lines(phase, tile) * 4
    VALUES = 4 * NUMBERS[precision]
    LINE_WIDTH = reach(horizontal, tile.width)
    IMAGE_LINES = reach(vertical, tile.height) * LINE_WIDTH
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    TOP = (vertical.start + min((vertical.taps - 1) * vertical.shift, 0)) % 2**32
    LEFT = (horizontal.start + min((horizontal.taps - 1) * horizontal.shift, 0)) % 2**32
    SOURCES, GROUPS, (H, W) = phase.sources, phase.groups, phase.source_size
    WHOLE_CHUNKS = phase.sources % (WORDS * NUMBERS[precision]) == 0
    PLANE = H * W
    word = word_of(precision)

    @device
    def place(image, group, line, top, left, images):
        n = image + line // uint32(IMAGE_LINES)
        h = uint32(top + line % uint32(IMAGE_LINES) // uint32(LINE_WIDTH) + uint32(TOP))
        w = uint32(left + line % uint32(LINE_WIDTH) + uint32(LEFT))
        at = uint32(((n * uint32(GROUPS) + group) * uint32(SOURCES)) * uint32(PLANE) + h * uint32(W) + w)
        return at if n < images and h < uint32(H) and w < uint32(W) else uint32(NOTHING)

    def pieces(first: int, count: int) -> tuple[Any, Any]:
        FIRST, COUNT = first, count

        @device
        def fetch(source, table, quad, channel, values):
            for p in range(COUNT):
                own = uint32(quad + uint32(p * THREADS))
                if own < uint32(QUADS):
                    at = table[own >> uint32(2)]
                    inside = at != uint32(NOTHING)
                    at = uint32(at + channel * uint32(PLANE))
                    for k in range(VALUES):
                        value = float32(0)
                        if inside and (WHOLE_CHUNKS or channel + uint32(k) < uint32(SOURCES)):
                            value = source[at + uint32(k * PLANE)]
                        values[(FIRST + p) * VALUES + k] = value

        @device
        def put(shared, at, quad, values):
            for p in range(COUNT):
                if uint32(quad + uint32(p * THREADS)) < uint32(QUADS):
                    k = (FIRST + p) * 4
                    a, b, c, d = word(values, k), word(values, k + 1), word(values, k + 2), word(values, k + 3)
                    put4(shared, uint32(at + uint32(p * THREADS * 16)), a, b, c, d)

        return fetch, put

    return SourceReader(place, pieces, VALUES)
