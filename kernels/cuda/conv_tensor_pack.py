"""Weights as the blocks of `conv_tensor` read them, step by step, rounded.

[group][tile of rows][chunk of channels][tap][row][word], zeros where there is none. A word holds one number in tf32 and
two, of neighbouring channels, in bf16.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_weights import place_of_weight
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.rounding import bf16x2, tf32
from cnn.kernels.cuda.side_by_side import alone
from cnn.kernels.cuda.tensor import NUMBERS, WORDS, row_and_word


def plan(phase: ConvPhase, precision: str, rows: int, threads: int) -> tuple[Launch, int]:
    """Arguments: weight, packed weights; and the number of words in these. rows: of the product's tile."""
    chunks = -(-phase.sources // (WORDS * NUMBERS[precision]))
    packed = phase.groups * -(-phase.targets // rows) * chunks * phase.taps * rows * WORDS
    bare = replace(phase.alone, bias=False)
    return Launch(_pack(bare, precision, rows, threads), (-(-packed // threads),), (threads,)), packed


@cache
def _pack(phase: ConvPhase, precision: str, rows: int, threads: int) -> Kernel:
    CHANNELS = NUMBERS[precision]  # of a word
    ROWS, CHUNKS, THREADS = rows, -(-phase.sources // (WORDS * CHANNELS)), threads
    ROW_TILES, TAPS = -(-phase.targets // ROWS), phase.taps
    PACKED = phase.groups * ROW_TILES * CHUNKS * TAPS * ROWS * WORDS
    SOURCES, TARGETS = phase.sources, phase.targets
    SOURCE_STRIDE, PAIRED = phase.source_stride, CHANNELS == 2
    place = place_of_weight(phase)

    @device
    def pack_rounded(block, arguments, _shared):
        # A thread writes one word.
        weight, packed = arguments
        i = uint32(block * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < uint32(PACKED):
            row, word = row_and_word(uint32(i % uint32(ROWS * WORDS)))
            step = i // uint32(ROWS * WORDS)
            tap, chunk = step % uint32(TAPS), step // uint32(TAPS) % uint32(CHUNKS)
            tile_number = step // uint32(TAPS * CHUNKS)
            row = uint32(tile_number % uint32(ROW_TILES) * uint32(ROWS) + row)
            channel = uint32((chunk * uint32(WORDS) + word) * uint32(CHANNELS))
            at = place(tile_number // uint32(ROW_TILES), row, channel, tap)
            low = high = float32(0)
            if row < uint32(TARGETS) and channel < uint32(SOURCES):
                low = weight[at]
                if PAIRED and channel + uint32(1) < uint32(SOURCES):
                    high = weight[uint32(at + uint32(SOURCE_STRIDE))]
            packed[i] = bf16x2(low, high) if PAIRED else tf32(low)

    real = pointer(float32)
    return alone(f"pack_weights_{precision}", pack_rounded, (real, real), THREADS, {})
