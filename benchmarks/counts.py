"""What a pass has to do at the least: floating-point operations, and bytes that cross to and from memory.

Every pass of a convolution is the same N K P Q C/groups R S multiply-adds, two operations each, whichever of the three
arrays it computes; overlays that hang over into the padding are counted whole. The bytes are compulsory: each of the
numbers that take part is read or written once, in float32. Input positions that no overlay meets are not read, though
an input gradient writes its zeros there.
"""

from __future__ import annotations

import math

from benchmarks.shapes import FORWARD, INPUT_GRADIENT, Case

BYTES = 4  # of a float32


def flops(case: Case) -> int:
    """Of any one pass, without the bias."""
    geometry = case.geometry
    return 2 * math.prod(geometry.y_shape) * math.prod(geometry.weight_shape[1:])


def compulsory_bytes(case: Case, purpose: str) -> int:
    geometry = case.geometry
    x = math.prod(geometry.x_shape) if purpose == INPUT_GRADIENT else _inputs_met(case)
    bias = geometry.filters if case.bias and purpose == FORWARD else 0
    return BYTES * (x + math.prod(geometry.weight_shape) + math.prod(geometry.y_shape) + bias)


def _inputs_met(case: Case) -> int:
    """Input positions that some overlay meets: a stride may step over the rest."""
    geometry = case.geometry
    met = geometry.batch * geometry.channels
    for axis, size in enumerate(geometry.input):
        phase = geometry.forward_phase(axis)
        positions = {start + p * phase.stride for _, start in phase.met for p in range(phase.size)}
        met *= len(positions & set(range(size)))
    return met
