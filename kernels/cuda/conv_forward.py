"""The forward convolution: a direct kernel for few channels, else the implicit matrix product, on tensor cores where
the precision lets them. The phases of an input gradient are computed here, too, as far as possible in one launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda import conv_direct, conv_pack, conv_product, conv_tensor, conv_tensor_pack, conv_tensor_tile
from cnn.kernels.cuda.conv_phase import ConvPhase, check_sizes, forward_phase
from cnn.kernels.cuda.launch import Call, Launch, aligned, aligned_result, run
from cnn.kernels.cuda.side_by_side import all_side_by_side, side_by_side
from cnn.kernels.cuda.tensor import served
from cnn.kernels.cuda.tile_table import Choice, kept
from cnn.kernels.geometry import ConvGeometry
from cnn.kernels.precision import FLOAT32

PACK_THREADS = 128


@dataclass(frozen=True)
class PhasePlan:
    """How one phase is computed. pack: before the other, where it reads packed weights; its arguments: weight, packed
    weights, of which there are `packed`.
    """

    main: Launch
    pack: Launch | None
    packed: int


@dataclass(frozen=True)
class Plan:
    """How the phases of a target are computed: what packs weights for any of them is one launch, and then those that
    can run side by side are one.
    """

    groups: tuple[tuple[PhasePlan, ...], ...]

    @property
    def pack(self) -> Launch | None:
        packs = [each.pack for group in self.groups for each in group if each.pack is not None]
        return reduce(side_by_side, packs) if packs else None

    @property
    def mains(self) -> list[Launch]:
        return [reduce(side_by_side, (each.main for each in group)) for group in self.groups]

    @property
    def launches(self) -> list[Launch]:
        """In their order."""
        return [launch for launch in (self.pack, *self.mains) if launch is not None]


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
    return plan([forward_phase(geometry, bias, activation)], geometry.batch, precision)


def plan(
    phases: Sequence[ConvPhase],
    images: int,
    precision: str = FLOAT32,
    threads: int | None = None,
    pack_threads: int = PACK_THREADS,
) -> Plan:
    """Of the phases of one target, which share all but their taps and places, the longest first.

    precision: one that the GPU serves. threads: of a block that is to run beside others of so many; the direct kernel
    takes that only where it is small enough to (see `conv_direct.is_small`). pack_threads: of blocks that pack weights.
    """
    plans = [_of_phase(phase, phases, images, precision, threads, pack_threads) for phase in phases]
    return Plan(tuple(tuple(group) for _, group in groupby(plans, _joins)))


def _of_phase(
    phase: ConvPhase,
    phases: Sequence[ConvPhase],
    images: int,
    precision: str,
    threads: int | None,
    pack_threads: int,
) -> PhasePlan:
    if conv_direct.serves(phase):
        return PhasePlan(conv_direct.plan(phase, images, threads), None, 0)
    if conv_tensor_tile.serves(phase, precision):
        wide = conv_tensor_tile.choose_tile(phase, images, precision)
        pack, packed = conv_tensor_pack.plan(phase, precision, wide.rows, pack_threads)
        return PhasePlan(conv_tensor.plan(phase, images, precision, wide), pack, packed)
    tile = conv_product.choose_tile(_products(phases, precision), images)
    pack, packed = conv_pack.plan(phase, tile.rows, tile.depth, pack_threads)
    return PhasePlan(conv_product.plan(phase, images, tile), pack if packed else None, packed)


def _products(phases: Sequence[ConvPhase], precision: str) -> list[ConvPhase]:
    """Those that `conv_product` computes."""
    others = (conv_direct.serves, lambda phase: conv_tensor_tile.serves(phase, precision))
    return [phase for phase in phases if not any(serves(phase) for serves in others)]


def _joins(plan_: PhasePlan) -> Any:
    """What is the same for neighbours that run side by side. On tensor cores none do: each has its own table in shared
    memory, and all of them would be too much.
    """
    name = plan_.main.kernel.name
    return (name, plan_.main.block) if name in ("conv_direct", "conv_product") else id(plan_)


def tiles(
    phases: Sequence[ConvPhase], images: int, precision: str = FLOAT32
) -> list[Choice[conv_product.Tile] | Choice[conv_tensor_tile.Tile]]:
    """What there is to choose for the phases of a target; nothing for the direct kernel, which has one tile."""
    wide = [phase for phase in phases if conv_tensor_tile.serves(phase, precision) and not conv_direct.serves(phase)]
    found: list[Any] = [conv_tensor_tile.tiles(phase, images, precision) for phase in wide]
    products = _products(phases, precision)
    return [*found, conv_product.tiles(products, images)] if products else found


def calls(plan_: Plan, images: int, source: Any, weight: Any, target: Any, **others: Any) -> list[Call]:
    """What computes the phases of `target` from `source`; first what packs weights, if anything does. Arrays are
    aligned; others: see `arguments`.
    """
    packs, mains = [], []
    for group in plan_.groups:
        of_group = []
        for each in group:
            weights = weight
            if each.pack is not None:
                weights = buffers.empty(each.packed, np.float32, like=source)
                packs.append((each.pack, (weight, weights)))
            of_group.append((each.main, arguments(images, source, weights, target, **others)))
        mains.append(all_side_by_side(of_group))
    return [all_side_by_side(packs), *mains] if packs else mains


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
