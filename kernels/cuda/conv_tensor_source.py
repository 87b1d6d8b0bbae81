"""The sources of `conv_tensor`: from device memory to registers, and from there, rounded, to shared memory.

A table in shared memory says for each line where its first channel is in the source, and of a phase whose sources are
gradients of maxima, which element of the plane it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnn.kernels.cuda.compiler import device, float32, int32, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_result import derivative
from cnn.kernels.cuda.conv_tensor_tile import Tile, reach
from cnn.kernels.cuda.conv_windows import unpooled
from cnn.kernels.cuda.rounding import bf16x2, tf32
from cnn.kernels.cuda.tensor import NUMBERS, WORDS, put4

NOTHING = 2**32 - 1  # in the table: there is no source


@dataclass(frozen=True)
class SourceReader:
    """Device functions. A quad is four words of a line, its number line * 4 + which of them.

    place(image, group, line, top, left, images) -> (where the line's first channel is or NOTHING, its element)
    fetch(source, winners, outputs, table, quad, channel, values, winner, output, first): fills the last arrays but one
        from `first` on; channel: the first of the quad
    put(shared, at, elements, quad, values, winner, output, first): to the address `at`
    """

    place: Any
    fetch: Any
    put: Any


def source_reader(phase: ConvPhase, precision: str, tile: Tile) -> SourceReader:
    vertical, horizontal = phase.vertical, phase.horizontal
    CHANNELS = NUMBERS[precision]  # of a word
    VALUES = 4 * CHANNELS
    LINE_WIDTH = reach(horizontal, tile.width)
    IMAGE_LINES = reach(vertical, tile.height) * LINE_WIDTH
    # Positions before the source wrap around to huge ones: one comparison tests both ends.
    TOP = (vertical.start + min((vertical.taps - 1) * vertical.shift, 0)) % 2**32
    LEFT = (horizontal.start + min((horizontal.taps - 1) * horizontal.shift, 0)) % 2**32
    SOURCES, GROUPS, W = phase.sources, phase.groups, phase.source_size[1]
    WHOLE_CHUNKS = phase.sources % (WORDS * CHANNELS) == 0
    POOLED, DERIVED, PAIRED = phase.source_pooled, phase.derivative is not None, CHANNELS == 2
    # Of the plane that is read, and up to where its elements are covered.
    LINE, SHIFT = (W // 2, 1) if POOLED else (W, 0)
    COVERED_H, COVERED_W = ((size // 2 * 2 if POOLED else size) for size in phase.source_size)
    PLANE = phase.source_size[0] // 2 * LINE if POOLED else phase.source_size[0] * W
    derive = derivative(phase.derivative)

    @device
    def place(image, group, line, top, left, images):
        n = image + line // uint32(IMAGE_LINES)
        h = uint32(top + line % uint32(IMAGE_LINES) // uint32(LINE_WIDTH) + uint32(TOP))
        w = uint32(left + line % uint32(LINE_WIDTH) + uint32(LEFT))
        at = ((n * uint32(GROUPS) + group) * uint32(SOURCES)) * uint32(PLANE)
        at = uint32(at + (h >> uint32(SHIFT)) * uint32(LINE) + (w >> uint32(SHIFT)))
        inside = n < images and h < uint32(COVERED_H) and w < uint32(COVERED_W)
        return at if inside else uint32(NOTHING), int32(h * uint32(W) + w)

    @device
    def fetch(source, winners, outputs, table, quad, channel, values, winner, output, first):
        at = table[quad >> uint32(2)]
        inside = at != uint32(NOTHING)
        at = uint32(at + channel * uint32(PLANE))
        for k in range(VALUES):
            value = factor = float32(0)
            best = int32(0)
            if inside and (WHOLE_CHUNKS or channel + uint32(k) < uint32(SOURCES)):
                value = source[at + uint32(k * PLANE)]
                if POOLED:
                    best = winners[at + uint32(k * PLANE)]
                if DERIVED:
                    factor = outputs[at + uint32(k * PLANE)]
            values[first + k] = value
            if POOLED:
                winner[first + k] = best
            if DERIVED:
                output[first + k] = factor

    @device
    def number(k, element, values, winner, output):
        value = values[k]
        if DERIVED:
            value = derive(value, output[k])
        if POOLED:
            value = unpooled(value, winner[k], element)
        return value

    @device
    def word(k, element, values, winner, output):
        if PAIRED:
            low, high = (
                number(2 * k, element, values, winner, output),
                number(2 * k + 1, element, values, winner, output),
            )
            return bf16x2(low, high)
        return tf32(number(k, element, values, winner, output))

    @device
    def put(shared, at, elements, quad, values, winner, output, first):
        element = int32(0)
        if POOLED:
            element = elements[quad >> uint32(2)]
        a, b = word(first, element, values, winner, output), word(first + 1, element, values, winner, output)
        c, d = word(first + 2, element, values, winner, output), word(first + 3, element, values, winner, output)
        put4(shared, at, a, b, c, d)

    return SourceReader(place, fetch, put)
