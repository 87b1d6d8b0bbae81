"""The elements of one channel of an array (N, C, *spatial), and the parts of them that blocks reduce.

Element e of a channel, counted over all images, stands at ((e // pixels) * C + channel) * pixels + e % pixels.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import SIMULATED, device, uint32
from cnn.kernels.cuda.reduce import WARP

THREADS = 32 if SIMULATED else 256  # of a block; the simulator runs a Python thread for each

# A part is large enough to be worth a block's reduction; there are no more parts than a warp, which adds them up, has
# lanes. That makes 128 blocks of 16 channels at 32 x 32 pixels and batch 16, and more of everything larger.
LEAST_PART = 8 * THREADS
MOST_PARTS = WARP


def parts(count: int) -> tuple[int, int]:
    """Into how many parts a channel of `count` elements is cut, and the length of each but the last."""
    number = min(max(-(-count // LEAST_PART), 1), MOST_PARTS)
    length = -(-count // (number * WARP)) * WARP  # so that parts begin where warps do
    return number, length


@cache
def place(channels: int, pixels: int) -> Any:
    """The device function (channel, e) -> index of element e."""
    size = max(pixels, 1)

    @device
    def at(channel, e):
        image = uint32(e // uint32(size))
        return uint32((image * uint32(channels) + channel) * uint32(size) + e - image * uint32(size))

    return at
