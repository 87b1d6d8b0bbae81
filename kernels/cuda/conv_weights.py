"""Where a weight is, by what a phase calls it; and the weights of a filter as columns of the kernel gradient."""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda.compiler import device, uint32
from cnn.kernels.cuda.conv_phase import ConvPhase


def place_of_weight(phase: ConvPhase) -> Any:
    """The device function (group, target, source, tap) -> index in the array of the weights.

    target, source: channels of the group. tap: of the phase's taps, counted row by row.
    """
    TAPS_RIGHT = phase.horizontal.taps
    SOURCE_STRIDE, TARGET_STRIDE, GROUP_STRIDE = phase.source_stride, phase.target_stride, phase.groups_stride
    KERNEL_H, KERNEL_W = phase.kernel
    R, R_STEP, S, S_STEP = phase.vertical.tap, phase.vertical.tap_step, phase.horizontal.tap, phase.horizontal.tap_step
    FLIPPED = phase.flipped

    @device
    def place(group, target, source, tap):
        r = uint32(R) + tap // uint32(TAPS_RIGHT) * uint32(R_STEP)
        s = uint32(S) + tap % uint32(TAPS_RIGHT) * uint32(S_STEP)
        if FLIPPED:
            r = uint32(KERNEL_H - 1) - r
            s = uint32(KERNEL_W - 1) - s
        at = group * uint32(GROUP_STRIDE) + target * uint32(TARGET_STRIDE) + source * uint32(SOURCE_STRIDE)
        # In brackets the compiler sees that it is the tap itself, where the taps are all of the filter's.
        return uint32(at + uint32(r * uint32(KERNEL_W) + s))

    return place


def weight_columns(phase: ConvPhase) -> tuple[Any, Any, Any]:
    """Device functions: (channel, tap) -> column, column -> channel, column -> tap.

    Columns go through four channels (all, where that does not divide them) for each tap, and then through the next
    four. So a quad of columns has one tap, and weights that lie near each other in the array are columns near each
    other: a warp's atomics on 32 of them meet few sectors, and what meets one sector is one operation. On an H100,
    where columns went through all channels first, atomics took half of the time of a layer with 32 channels.
    """
    CHANNELS = 4 if phase.sources % 4 == 0 else phase.sources
    BLOCK = CHANNELS * phase.taps

    @device
    def column_of(channel, tap):
        return uint32(channel // uint32(CHANNELS) * uint32(BLOCK) + tap * uint32(CHANNELS) + channel % uint32(CHANNELS))

    @device
    def channel_of(column):
        return uint32(column // uint32(BLOCK) * uint32(CHANNELS) + column % uint32(BLOCK) % uint32(CHANNELS))

    @device
    def tap_of(column):
        return uint32(column % uint32(BLOCK) // uint32(CHANNELS))

    return column_of, channel_of, tap_of
