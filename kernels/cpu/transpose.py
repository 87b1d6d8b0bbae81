"""Tiles of `lanes` rows and one column: the transposition between one image after the other and lanes of images.

load_rows(x, i, step, rows, count, lanes)        row r = count elements at x[i + r step], zeros beyond; r < rows
store_rows(tile, y, i, step, rows, count)        the way back: nothing is written beyond rows and count
transpose(tile)                                  lane j of row i becomes lane i of row j
gather_rows(x, i, at, k, lanes)                  row r = vector at x[i + at[k + r]]
scatter_rows(tile, y, i, at, k)                  the way back
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.vectors import (
    INDEX,
    declared,
    index,
    load,
    moved,
    pack,
    pointer,
    put,
    shuffle,
    splat,
    tile_of,
    vector_of,
)

_BIT = ir.IntType(1)


@intrinsic(prefer_literal=True)
def load_rows(_typing: Any, x: Any, i: Any, step: Any, rows: Any, count: Any, lanes: Any) -> Any:
    tile = tile_of(lanes, types.literal(1), lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 0)
        vector = vector_of(tile.lanes)
        zero = ir.Constant(vector, None)
        masks = _masks(builder, args[3], args[4], tile.lanes)
        name = f"llvm.masked.load.v{tile.lanes}f32.p0"
        result = []
        for r in range(tile.lanes):
            source = builder.bitcast(moved(builder, start, r, args[2]), vector.as_pointer())
            arguments = [source, ir.Constant(ir.IntType(32), 4), masks[r], zero]
            function = declared(builder, name, vector, arguments)
            result.append(builder.call(function, arguments))
        return pack(context, builder, tile, result)

    return tile(x, types.int64, types.int64, types.int64, types.int64, lanes), codegen


@intrinsic
def store_rows(_typing: Any, tile: Any, y: Any, i: Any, step: Any, rows: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        masks = _masks(builder, args[4], args[5], tile.lanes)
        name = f"llvm.masked.store.v{tile.lanes}f32.p0"
        for k, r, _ in tile.cells:
            target = builder.bitcast(moved(builder, start, r, args[3]), vector_of(tile.lanes).as_pointer())
            arguments = [builder.extract_value(args[0], k), target, ir.Constant(ir.IntType(32), 4), masks[r]]
            builder.call(declared(builder, name, ir.VoidType(), arguments), arguments)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def transpose(_typing: Any, tile: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        rows = [builder.extract_value(args[0], k) for k in range(tile.lanes)]
        fours = [_transpose_fours(builder, rows[r : r + 4]) for r in range(0, tile.lanes, 4)]
        columns = [_transpose_blocks(builder, [four[j] for four in fours]) for j in range(4)]
        rows = [columns[r % 4][r // 4] for r in range(tile.lanes)]
        return pack(context, builder, tile, rows)

    return tile(tile), codegen


@intrinsic(prefer_literal=True)
def gather_rows(_typing: Any, x: Any, i: Any, at: Any, k: Any, lanes: Any) -> Any:
    tile = tile_of(lanes, types.literal(1), lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 0)
        offsets = pointer(context, builder, signature, args, 2)
        rows = [
            load(builder, builder.gep(start, [builder.load(moved(builder, offsets, r))]), tile.lanes)
            for r in range(tile.lanes)
        ]
        return pack(context, builder, tile, rows)

    return tile(x, types.int64, at, types.int64, lanes), codegen


@intrinsic
def scatter_rows(_typing: Any, tile: Any, y: Any, i: Any, at: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        offsets = pointer(context, builder, signature, args, 3)
        for cell, r, _ in tile.cells:
            target = builder.gep(start, [builder.load(moved(builder, offsets, r))])
            put(builder, builder.extract_value(args[0], cell), target)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, at, types.int64), codegen


def _transpose_fours(builder: Any, rows: list[Any]) -> list[Any]:
    """4 x 4 transpositions side by side, in shuffles that stay within 4 lanes: those are fast on every CPU."""
    lanes = range(0, rows[0].type.count, 4)
    low, high = ([lane + i for lane in lanes for i in four] for four in ((0, 0, 1, 1), (2, 2, 3, 3)))
    count = rows[0].type.count
    odd = [i % 2 * count for i in range(count)]
    a, b, c, d = (
        shuffle(builder, x, y, [i + j for i, j in zip(half, odd, strict=True)])
        for half in (low, high)
        for x, y in ((rows[0], rows[1]), (rows[2], rows[3]))
    )
    front, back = (
        [lane + i for lane in lanes for i in four] for four in ((0, 1, count, count + 1), (2, 3, count + 2, count + 3))
    )
    return [shuffle(builder, x, y, pair) for x, y in ((a, b), (c, d)) for pair in (front, back)]


def _transpose_blocks(builder: Any, rows: list[Any]) -> list[Any]:
    """Block j of 4 lanes of row i becomes block i of row j. The even blocks of all rows are a smaller such matrix."""
    if len(rows) == 1:
        return rows
    count = rows[0].type.count
    result = [None] * len(rows)
    for parity in (0, 1):
        lanes = [lane for lane in range(2 * count) if lane // 4 % 2 == parity]
        pairs = [shuffle(builder, rows[r], rows[r + 1], lanes) for r in range(0, len(rows), 2)]
        result[parity::2] = _transpose_blocks(builder, pairs)
    return result


def _masks(builder: Any, rows: Any, count: Any, lanes: int) -> list[Any]:
    """For each of `lanes` rows: lane j takes part where j < count and the row is one of the first `rows`."""
    numbers = ir.Constant(ir.VectorType(INDEX, lanes), list(range(lanes)))
    inside = builder.icmp_signed("<", numbers, splat(builder, count, lanes))
    none = ir.Constant(ir.VectorType(_BIT, lanes), None)
    return [builder.select(builder.icmp_signed(">", rows, index(r)), inside, none) for r in range(lanes)]
