"""Theoretical occupancy: the share of a multiprocessor's warps that blocks of a kernel can fill at once."""

from __future__ import annotations

from dataclasses import dataclass

from cnn.kernels.cuda.compiler import TARGETS

REGISTERS = 65_536  # of a multiprocessor, given out to warps in 256s, on each of its four schedulers
SCHEDULERS = 4
REGISTER_UNIT = 256
SHARED_UNIT = 128


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor; system_shared: bytes of shared memory that the driver takes for each block."""

    warps: int
    blocks: int
    shared_bytes: int
    system_shared: int = 1024


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
LIMITS = {
    75: Limits(warps=32, blocks=16, shared_bytes=64 * 1024, system_shared=0),
    80: Limits(warps=64, blocks=32, shared_bytes=164 * 1024),
    86: Limits(warps=48, blocks=16, shared_bytes=100 * 1024),
    89: Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
    90: Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    100: Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
    120: Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
}
assert tuple(LIMITS) == TARGETS


def occupancy(sm: int, registers: int, shared_bytes: int, threads: int) -> tuple[float, str]:
    """The share of warps, and what limits it: "warps", "blocks", "registers" or "shared memory"."""
    limits = LIMITS[sm]
    warps = -(-threads // 32)
    of_warp = -(-max(registers, 1) * 32 // REGISTER_UNIT) * REGISTER_UNIT
    of_block = -(-(shared_bytes + limits.system_shared) // SHARED_UNIT) * SHARED_UNIT
    blocks = {
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
        "registers": REGISTERS // SCHEDULERS // of_warp * SCHEDULERS // warps,
        "shared memory": limits.shared_bytes // of_block if of_block else limits.blocks,
    }
    limit = min(blocks, key=lambda name: blocks[name])
    return blocks[limit] * warps / limits.warps, limit
