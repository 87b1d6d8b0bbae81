"""Register tiles: explicit vectors in Numba, for loops that LLVM would not keep in registers by itself.

A tile is a value of rows x columns vectors of float32. It lives in registers as long as its shape is a compile-time
constant and it is passed by value, as every function here does: `tile = add_outer(tile, ...)`. Arrays are flat and
C-contiguous and come with the index of an element; no index is checked. `LANES` is the number of float32 in a vector.

    zeros(rows, columns, lanes)                      a tile of zeros
    splat_rows(a, i, rows, columns, lanes)           row r holds a[i + r] everywhere
    load_tile(x, i, down, right, rows, columns, lanes)
                                                     tile[r, c] = vector at x[i + r down + c right]
    add_outer(tile, a, i, step, b, j, right)         tile[r, c] += a[i + r step] * vector at b[j + c right]
    add_tile(tile, x, i, down, right)                tile[r, c] += vector at x[i + r down + c right]
    add_vector(tile, b, j)                           tile[r, c] += vector at b[j]
    add_gathered(tile, a, i, at, k, b, j, right)     tile[r, c] += a[i + at[k + r]] * vector at b[j + c right]
    add_products(tile, left, b, j, at, k)            tile[r, c] += left[r, 0] * vector at b[j + at[k + c]]
    add_column(tile, a, i, step, across, right)      tile[r, 0] += sum over e of a[i + r step + e across] * right[e, 0]
    store(tile, y, i, down, right)                   vector at y[i + r down + c right] = tile[r, c]
    store_sums(tile, y, i, down)                     y[i + r down + c] = sum of the lanes of tile[r, c]
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.vectors import (
    index,
    keep_rolled,
    load,
    moved,
    multiply_add,
    pack,
    pointer,
    put,
    shuffle,
    splat,
    targets,
    tile_of,
)


def host_lanes() -> int:
    """Lanes of the widest float32 vectors this CPU computes with: 16 (AVX-512), 8 (AVX) or 4 (SSE2, NEON)."""
    features = binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def host_registers() -> int:
    """Number of vector registers: 32 with AVX-512 and on 64-bit Arm, else 16."""
    arm = binding.get_process_triple().startswith(("aarch64", "arm64"))
    return 32 if arm or binding.get_host_cpu_features().get("avx512f") else 16


LANES = host_lanes()
REGISTERS = host_registers()


@intrinsic(prefer_literal=True)
def zeros(_typing: Any, rows: Any, columns: Any, lanes: Any) -> Any:
    tile = tile_of(rows, columns, lanes)

    def codegen(context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, columns, lanes), codegen


@intrinsic(prefer_literal=True)
def load_tile(_typing: Any, x: Any, i: Any, down: Any, right: Any, rows: Any, columns: Any, lanes: Any) -> Any:
    tile = tile_of(rows, columns, lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 0)
        vectors = [
            load(builder, moved(builder, moved(builder, start, r, args[2]), c, args[3]), tile.lanes)
            for _, r, c in tile.cells
        ]
        return pack(context, builder, tile, vectors)

    return tile(x, types.int64, types.int64, types.int64, rows, columns, lanes), codegen


@intrinsic(prefer_literal=True)
def splat_rows(_typing: Any, a: Any, i: Any, rows: Any, columns: Any, lanes: Any) -> Any:
    tile = tile_of(rows, columns, lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 0)
        values = [splat(builder, builder.load(moved(builder, start, r)), tile.lanes) for r in range(tile.rows)]
        return pack(context, builder, tile, [values[r] for _, r, _ in tile.cells])

    return tile(a, types.int64, rows, columns, lanes), codegen


@intrinsic
def add_outer(_typing: Any, tile: Any, a: Any, i: Any, step: Any, b: Any, j: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = pointer(context, builder, signature, args, 1)
        right = pointer(context, builder, signature, args, 4)
        rights = [load(builder, moved(builder, right, c, args[6]), tile.lanes) for c in range(tile.columns)]
        lefts = [splat(builder, builder.load(moved(builder, left, r, args[3])), tile.lanes) for r in range(tile.rows)]
        return _plus_products(context, builder, tile, args[0], lefts, rights)

    return tile(tile, a, types.int64, types.int64, b, types.int64, types.int64), codegen


@intrinsic
def add_gathered(_typing: Any, tile: Any, a: Any, i: Any, at: Any, k: Any, b: Any, j: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = pointer(context, builder, signature, args, 1)
        offsets = pointer(context, builder, signature, args, 3)
        start = pointer(context, builder, signature, args, 5)
        rights = [load(builder, moved(builder, start, c, args[7]), tile.lanes) for c in range(tile.columns)]
        lefts = [
            splat(builder, builder.load(builder.gep(left, [builder.load(moved(builder, offsets, r))])), tile.lanes)
            for r in range(tile.rows)
        ]
        return _plus_products(context, builder, tile, args[0], lefts, rights)

    return tile(tile, a, types.int64, at, types.int64, b, types.int64, types.int64), codegen


@intrinsic
def add_tile(_typing: Any, tile: Any, x: Any, i: Any, down: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        sums = [
            builder.fadd(
                builder.extract_value(args[0], k),
                load(builder, moved(builder, moved(builder, start, r, args[3]), c, args[4]), tile.lanes),
            )
            for k, r, c in tile.cells
        ]
        return pack(context, builder, tile, sums)

    return tile(tile, x, types.int64, types.int64, types.int64), codegen


@intrinsic
def add_vector(_typing: Any, tile: Any, b: Any, j: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = load(builder, pointer(context, builder, signature, args, 1), tile.lanes)
        sums = [builder.fadd(builder.extract_value(args[0], k), vector) for k, _, _ in tile.cells]
        return pack(context, builder, tile, sums)

    return tile(tile, b, types.int64), codegen


@intrinsic
def add_products(_typing: Any, tile: Any, left: Any, b: Any, j: Any, at: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        right = pointer(context, builder, signature, args, 2)
        offsets = pointer(context, builder, signature, args, 4)
        lefts = [builder.extract_value(args[1], r) for r in range(tile.rows)]
        rights = [
            load(builder, builder.gep(right, [builder.load(moved(builder, offsets, c))]), tile.lanes)
            for c in range(tile.columns)
        ]
        return _plus_products(context, builder, tile, args[0], lefts, rights)

    return tile(tile, left, b, types.int64, at, types.int64), codegen


@intrinsic
def add_column(_typing: Any, tile: Any, a: Any, i: Any, step: Any, across: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        sums = [builder.extract_value(args[0], r) for r in range(tile.rows)]
        for e in range(right.rows):
            factor, place = builder.extract_value(args[5], e), moved(builder, start, e, args[4])
            lefts = [
                splat(builder, builder.load(moved(builder, place, r, args[3])), tile.lanes) for r in range(tile.rows)
            ]
            sums = [multiply_add(builder, left, factor, total) for left, total in zip(lefts, sums, strict=True)]
        return pack(context, builder, tile, sums)

    return tile(tile, a, types.int64, types.int64, types.int64, right), codegen


@intrinsic
def store(_typing: Any, tile: Any, y: Any, i: Any, down: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for vector, target in targets(context, builder, signature, args):
            put(builder, vector, target)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64), codegen


@intrinsic
def store_sums(_typing: Any, tile: Any, y: Any, i: Any, down: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        for k, r, c in tile.cells:
            vector, lanes = builder.extract_value(args[0], k), tile.lanes
            while lanes > 1:  # halves are added until one lane is left: a fixed order on every machine
                lanes //= 2
                halves = [shuffle(builder, vector, vector, range(f, f + lanes)) for f in (0, lanes)]
                vector = builder.fadd(*halves)
            total = builder.extract_element(vector, index(0))
            builder.store(total, moved(builder, moved(builder, start, r, args[3]), c))
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64), codegen


def _plus_products(context: Any, builder: Any, tile: Any, total: Any, lefts: list[Any], rights: list[Any]) -> Any:
    """total[r, c] + lefts[r] * rights[c]: what the loops around register tiles do."""
    sums = [multiply_add(builder, lefts[r], rights[c], builder.extract_value(total, k)) for k, r, c in tile.cells]
    keep_rolled(builder)
    return pack(context, builder, tile, sums)
