"""Where a weight is, by what a phase calls it."""

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
