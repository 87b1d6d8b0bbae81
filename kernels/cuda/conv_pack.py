"""Weights as the blocks of `conv_product` read them, tile by tile.

[group][tile of rows][tap][chunk of channels][channel][row], zeros where there is none.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase
from cnn.kernels.cuda.conv_weights import place_of_weight
from cnn.kernels.cuda.launch import Launch
from cnn.kernels.cuda.side_by_side import alone


def plan(phase: ConvPhase, rows: int, depth: int, threads: int) -> tuple[Launch, int]:
    """Arguments: weight, packed weights; and the number of these. rows, depth: of the product's tile."""
    row_tiles, chunks = -(-phase.targets // rows), -(-phase.sources // depth)
    packed = phase.groups * row_tiles * phase.taps * chunks * depth * rows
    bare = replace(phase.alone, bias=False)
    return Launch(_pack(bare, rows, depth, threads), (-(-packed // threads),), (threads,)), packed


@cache
def _pack(phase: ConvPhase, rows: int, depth: int, threads: int) -> Kernel:
    ROWS, DEPTH, CHUNKS, THREADS = rows, depth, -(-phase.sources // depth), threads
    ROW_TILES, TAPS = -(-phase.targets // ROWS), phase.taps
    PACKED = phase.groups * ROW_TILES * TAPS * CHUNKS * DEPTH * ROWS
    SOURCES, TARGETS = phase.sources, phase.targets
    place = place_of_weight(phase)

    @device
    def pack_weights(block, arguments, _shared):
        # A thread writes one packed weight.
        weight, packed = arguments
        i = uint32(block * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < uint32(PACKED):
            row = i % uint32(ROWS)
            channel = i // uint32(ROWS) % uint32(DEPTH)
            step = i // uint32(ROWS * DEPTH)
            channel = uint32(step % uint32(CHUNKS) * uint32(DEPTH) + channel)
            tap = step // uint32(CHUNKS) % uint32(TAPS)
            tile_number = step // uint32(CHUNKS * TAPS)
            row = uint32(tile_number % uint32(ROW_TILES) * uint32(ROWS) + row)
            value = float32(0)
            if row < uint32(TARGETS) and channel < uint32(SOURCES):
                value = weight[place(tile_number // uint32(ROW_TILES), row, channel, tap)]
            packed[i] = value

    real = pointer(float32)
    return alone("pack_weights", pack_weights, (real, real), THREADS, {})
