"""The forward convolution: a direct kernel for few channels, else the implicit matrix product, on tensor cores where
the precision lets them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda import conv_direct, conv_pack, conv_product, conv_tensor, conv_tensor_pack, conv_tensor_tile
from cnn.kernels.cuda.conv_phase import ConvPhase, check_sizes, forward_phase
from cnn.kernels.cuda.launch import Call, Launch, aligned, aligned_result, run
from cnn.kernels.cuda.tensor import served
from cnn.kernels.cuda.tile_table import Choice, kept
from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.precision import FLOAT32

PACK_THREADS = 128


@dataclass(frozen=True)
class Plan:
    """How one phase is computed. pack: before the other, where it reads packed weights; its arguments: weight, packed
    weights, of which there are `packed`.
    """

    main: Launch
    pack: Launch | None
    packed: int

    @property
    def launches(self) -> list[Launch]:
        """In their order."""
        return [self.main] if self.pack is None else [self.pack, self.main]


def conv_forward(
    x: Any,
    weight: Any,
    bias: Any | None,
    geometry: ConvGeometry,
    activation: str | None,
    precision: str,
    out: Any,
) -> None:
    plan_ = _plan(geometry, bias is not None, activation, served(precision))
    bias = None if bias is None else aligned(bias)
    with aligned_result(out) as y:
        run(calls(plan_, geometry.batch, aligned(x), aligned(weight), y, bias=bias))


@kept
def _plan(geometry: ConvGeometry, bias: bool, activation: str | None, precision: str) -> Plan:
    check_sizes("conv_forward", geometry.x_shape, geometry.y_shape, geometry.weight_shape)
    return plan(forward_phase(geometry, bias, activation), geometry.batch, precision=precision)


def plan(phase: ConvPhase, images: int, threads: int | None = None, precision: str = FLOAT32) -> Plan:
    """threads: of a block that is to run beside others of so many; the direct kernel takes that only where it is small
    enough to (see `conv_direct.is_small`). precision: one that the GPU serves.
    """
    if conv_direct.serves(phase):
        return Plan(conv_direct.plan(phase, images, threads), None, 0)
    if conv_tensor_tile.serves(phase, precision):
        wide = conv_tensor_tile.choose_tile(phase, images, precision)
        pack, packed = conv_tensor_pack.plan(phase, precision, wide.rows, threads or PACK_THREADS)
        return Plan(conv_tensor.plan(phase, images, precision, wide), pack, packed)
    tile = conv_product.choose_tile(phase, images)
    pack, packed = conv_pack.plan(phase, tile.rows, tile.depth, threads or PACK_THREADS)
    return Plan(conv_product.plan(phase, images, tile), pack if packed else None, packed)


def tiles(
    phase: ConvPhase, images: int, precision: str = FLOAT32
) -> Choice[conv_product.Tile] | Choice[conv_tensor_tile.Tile] | None:
    """Which there are for a phase; None for the direct kernel, which has one."""
    if conv_direct.serves(phase):
        return None
    if conv_tensor_tile.serves(phase, precision):
        return conv_tensor_tile.tiles(phase, images, precision)
    return conv_product.tiles(phase, images)


def calls(plan_: Plan, images: int, source: Any, weight: Any, target: Any, **others: Any) -> list[Call]:
    """What computes one phase of `target` from `source`. Arrays are aligned; others: see `arguments`."""
    if plan_.pack is None:
        return [(plan_.main, arguments(images, source, weight, target, **others))]
    packed = buffers.empty(plan_.packed, np.float32, like=source)
    return [(plan_.pack, (weight, packed)), (plan_.main, arguments(images, source, packed, target, **others))]


def arguments(
    images: int,
    source: Any,
    weight: Any,
    target: Any,
    *,
    bias: Any | None = None,
    places: Any | None = None,
    winners: Any | None = None,
    outputs: Any | None = None,
    inputs: Any | None = None,
) -> tuple[Any, ...]:
    """Of a plan's main launch, in their order.

    Where the phase is pooled: places, to be filled with the flat index of each maximum. Where its sources are gradients
    of maxima: winners, such places. With a derivative: outputs, what the activation gave. With one of the targets:
    inputs, what the targets are the gradients of. What is left out stands for nothing, at an address that is not used.
    """
    given = (source, winners, outputs, weight, bias, inputs, target, places)
    return (*(source if array is None else array for array in given), np.uint32(images))
