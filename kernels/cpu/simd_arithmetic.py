"""Sums and products of register tiles (see `simd`) of one shape, lane by lane.

plus(tile, other)             tile + other
minus(tile, number)           tile - number
times(tile, number)           tile * number
plus_product(tile, a, b)      tile + a * b
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.vectors import multiply_add, pack, splat


@intrinsic
def plus(_typing: Any, tile: Any, other: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pairs = ([builder.extract_value(arg, k) for arg in args] for k, _, _ in tile.cells)
        return pack(context, builder, tile, [builder.fadd(*pair) for pair in pairs])

    return tile(tile, other), codegen


@intrinsic
def minus(_typing: Any, tile: Any, number: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _with_number(context, builder, tile, args, builder.fsub)

    return tile(tile, types.float32), codegen


@intrinsic
def times(_typing: Any, tile: Any, number: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _with_number(context, builder, tile, args, builder.fmul)

    return tile(tile, types.float32), codegen


@intrinsic
def plus_product(_typing: Any, tile: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        cells = ([builder.extract_value(arg, k) for arg in args] for k, _, _ in tile.cells)
        return pack(context, builder, tile, [multiply_add(builder, left, right, total) for total, left, right in cells])

    return tile(tile, a, b), codegen


def _with_number(context: Any, builder: Any, tile: Any, args: Any, operation: Callable[[Any, Any], Any]) -> Any:
    numbers = splat(builder, args[1], tile.lanes)
    return pack(
        context, builder, tile, [operation(builder.extract_value(args[0], k), numbers) for k, _, _ in tile.cells]
    )
