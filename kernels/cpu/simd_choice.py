"""Choices between the vectors of register tiles (see `simd`), lane by lane and without a branch.

    clip_below(tile, floor)               floor where tile < floor: for 0 that is relu, for -infinity nothing; NaN stays
    where_positive(tile, gate)            tile where gate > 0, else 0
    where_wins(tile, best, a, b)          a where tile > best, or where tile alone is NaN, else b
    from_lane(tile, first)                tile, 0 in the lanes before `first`
    take_equal(tile, numbers, table, i)   row r: tile where numbers == table[i + r], else 0

`numbers` and `table` hold int32 in the bits of float32: these are moved and compared, never computed with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.vectors import INDEX, pack, pointer, splat

_INTEGER = ir.IntType(32)

NO_FLOOR, RELU_FLOOR = np.float32(-np.inf), np.float32(0)


@intrinsic
def clip_below(_typing: Any, tile: Any, floor: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        floors = splat(builder, args[1], tile.lanes)
        rows = [builder.extract_value(args[0], k) for k, _, _ in tile.cells]
        rows = [builder.select(builder.fcmp_ordered("<", row, floors), floors, row) for row in rows]
        return pack(context, builder, tile, rows)

    return tile(tile, types.float32), codegen


@intrinsic
def where_positive(_typing: Any, tile: Any, gate: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        result = []
        for k, _, _ in tile.cells:
            row, open_ = (builder.extract_value(arg, k) for arg in args)
            none = ir.Constant(row.type, None)
            result.append(builder.select(builder.fcmp_ordered(">", open_, none), row, none))
        return pack(context, builder, tile, result)

    return tile(tile, tile), codegen


@intrinsic
def from_lane(_typing: Any, tile: Any, first: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        numbers = ir.Constant(ir.VectorType(INDEX, tile.lanes), list(range(tile.lanes)))
        inside = builder.icmp_signed(">=", numbers, splat(builder, args[1], tile.lanes))
        rows = [builder.extract_value(args[0], k) for k, _, _ in tile.cells]
        rows = [builder.select(inside, row, ir.Constant(row.type, None)) for row in rows]
        return pack(context, builder, tile, rows)

    return tile(tile, types.int64), codegen


@intrinsic
def where_wins(_typing: Any, tile: Any, best: Any, a: Any, b: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        result = []
        for k, _, _ in tile.cells:
            row, old, yes, no = (builder.extract_value(arg, k) for arg in args)
            number = builder.fcmp_ordered("ord", old, old)
            wins = builder.and_(builder.fcmp_unordered(">", row, old), number)
            result.append(builder.select(wins, yes, no))
        return pack(context, builder, tile, result)

    return tile(tile, tile, tile, tile), codegen


@intrinsic
def take_equal(_typing: Any, tile: Any, numbers: Any, table: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = builder.bitcast(pointer(context, builder, signature, args, 2), _INTEGER.as_pointer())
        integers = ir.VectorType(_INTEGER, tile.lanes)
        result = []
        for k, r, _ in tile.cells:
            row, bits = (builder.extract_value(arg, k) for arg in args[:2])
            wanted = splat(builder, builder.load(builder.gep(start, [_INTEGER(r)])), tile.lanes)
            equal = builder.icmp_signed("==", builder.bitcast(bits, integers), wanted)
            result.append(builder.select(equal, row, ir.Constant(row.type, None)))
        return pack(context, builder, tile, result)

    return tile(tile, tile, table, types.int64), codegen
