"""Register tiles: explicit vectors in Numba, for loops that LLVM would not keep in registers by itself.

A tile is a value of rows x columns vectors of float32. It lives in registers as long as its shape is a compile-time
constant and it is passed by value, as every function here does: `tile = add_outer(tile, ...)`. Arrays are flat and
C-contiguous and come with the index of an element; no index is checked. `LANES` is the number of float32 in a vector.

    zeros(rows, columns, lanes)                      a tile of zeros
    splat_rows(a, i, rows, columns, lanes)           row r holds a[i + r] everywhere
    add_outer(tile, a, i, b, j, step)                tile[r, c] += a[i + r] * vector at b[j + c step]
    add_products(tile, a, i, step, b, j, at, k)      tile[r, c] += vector at a[i + r step] * vector at b[j + at[k + c]]
    store(tile, y, i, row_step, column_step)         vector at y[i + r row_step + c column_step] = tile[r, c]
    store_sums(tile, y, i, row_step)                 y[i + r row_step + c] = sum of the lanes of tile[r, c]

and for tiles of `lanes` rows and one column, the transposition between one image after the other and lanes of images:

    load_rows(x, i, step, rows, count, lanes)        row r = count elements at x[i + r step], zeros beyond; r < rows
    store_rows(tile, y, i, step, rows, count)        the way back: nothing is written beyond rows and count
    transpose(tile)                                  lane j of row i becomes lane i of row j
    gather_rows(x, i, at, k, lanes)                  row r = vector at x[i + at[k + r]]
    scatter_rows(tile, y, i, at, k)                  the way back
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

_FLOAT, _INDEX, _BIT = ir.FloatType(), ir.IntType(64), ir.IntType(1)


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


class TileType(types.Type):
    """rows x columns vectors of `lanes` float32."""

    def __init__(self, rows: int, columns: int, lanes: int) -> None:
        self.rows, self.columns, self.lanes = rows, columns, lanes
        super().__init__(f"Tile({rows}x{columns}x{lanes})")

    @property
    def cells(self) -> list[tuple[int, int, int]]:
        """(position in the value, row, column) of every vector."""
        return [(r * self.columns + c, r, c) for r in range(self.rows) for c in range(self.columns)]


@register_default(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: TileType) -> None:
        super().__init__(manager, tile, ir.ArrayType(_vector(tile.lanes), tile.rows * tile.columns))


@intrinsic(prefer_literal=True)
def zeros(_typing: Any, rows: Any, columns: Any, lanes: Any) -> Any:
    tile = _tile_of(rows, columns, lanes)

    def codegen(context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, columns, lanes), codegen


@intrinsic(prefer_literal=True)
def splat_rows(_typing: Any, a: Any, i: Any, rows: Any, columns: Any, lanes: Any) -> Any:
    tile = _tile_of(rows, columns, lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 0)
        values = [_splat(builder, builder.load(_at(builder, start, r)), tile.lanes) for r in range(tile.rows)]
        return _pack(context, builder, tile, [values[r] for _, r, _ in tile.cells])

    return tile(a, types.int64, rows, columns, lanes), codegen


@intrinsic
def add_outer(_typing: Any, tile: Any, a: Any, i: Any, b: Any, j: Any, step: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _pointer(context, builder, signature, args, 1)
        right = _pointer(context, builder, signature, args, 3)
        rights = [_load(builder, _at(builder, right, c, args[5]), tile.lanes) for c in range(tile.columns)]
        lefts = [_splat(builder, builder.load(_at(builder, left, r)), tile.lanes) for r in range(tile.rows)]
        sums = [
            _multiply_add(builder, lefts[r], rights[c], builder.extract_value(args[0], k)) for k, r, c in tile.cells
        ]
        return _pack(context, builder, tile, sums)

    return tile(tile, a, types.int64, b, types.int64, types.int64), codegen


@intrinsic
def add_products(_typing: Any, tile: Any, a: Any, i: Any, step: Any, b: Any, j: Any, at: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        left = _pointer(context, builder, signature, args, 1)
        right = _pointer(context, builder, signature, args, 4)
        offsets = _pointer(context, builder, signature, args, 6)
        lefts = [_load(builder, _at(builder, left, r, args[3]), tile.lanes) for r in range(tile.rows)]
        rights = [
            _load(builder, builder.gep(right, [builder.load(_at(builder, offsets, c))]), tile.lanes)
            for c in range(tile.columns)
        ]
        sums = [
            _multiply_add(builder, lefts[r], rights[c], builder.extract_value(args[0], k)) for k, r, c in tile.cells
        ]
        return _pack(context, builder, tile, sums)

    return tile(tile, a, types.int64, types.int64, b, types.int64, at, types.int64), codegen


@intrinsic
def store(_typing: Any, tile: Any, y: Any, i: Any, row_step: Any, column_step: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 1)
        for k, r, c in tile.cells:
            target = _at(builder, _at(builder, start, r, args[3]), c, args[4])
            _store(builder, builder.extract_value(args[0], k), target)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64), codegen


@intrinsic
def store_sums(_typing: Any, tile: Any, y: Any, i: Any, row_step: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 1)
        for k, r, c in tile.cells:
            vector, lanes = builder.extract_value(args[0], k), tile.lanes
            while lanes > 1:  # halves are added until one lane is left: a fixed order on every machine
                lanes //= 2
                halves = [_shuffle(builder, vector, vector, range(f, f + lanes)) for f in (0, lanes)]
                vector = builder.fadd(*halves)
            total = builder.extract_element(vector, _constant(0))
            builder.store(total, _at(builder, _at(builder, start, r, args[3]), c))
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def load_rows(_typing: Any, x: Any, i: Any, step: Any, rows: Any, count: Any, lanes: Any) -> Any:
    tile = _tile_of(lanes, types.literal(1), lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 0)
        vector = _vector(tile.lanes)
        zero = ir.Constant(vector, None)
        masks = _masks(builder, args[3], args[4], tile.lanes)
        name = f"llvm.masked.load.v{tile.lanes}f32.p0"
        result = []
        for r in range(tile.lanes):
            source = builder.bitcast(_at(builder, start, r, args[2]), vector.as_pointer())
            arguments = [source, ir.Constant(ir.IntType(32), 4), masks[r], zero]
            function = _declare(builder, name, vector, arguments)
            result.append(builder.call(function, arguments))
        return _pack(context, builder, tile, result)

    return tile(x, types.int64, types.int64, types.int64, types.int64, lanes), codegen


@intrinsic
def store_rows(_typing: Any, tile: Any, y: Any, i: Any, step: Any, rows: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 1)
        masks = _masks(builder, args[4], args[5], tile.lanes)
        name = f"llvm.masked.store.v{tile.lanes}f32.p0"
        for k, r, _ in tile.cells:
            target = builder.bitcast(_at(builder, start, r, args[3]), _vector(tile.lanes).as_pointer())
            arguments = [builder.extract_value(args[0], k), target, ir.Constant(ir.IntType(32), 4), masks[r]]
            builder.call(_declare(builder, name, ir.VoidType(), arguments), arguments)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def transpose(_typing: Any, tile: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        lanes = tile.lanes
        rows = [builder.extract_value(args[0], k) for k in range(lanes)]
        distance = 1
        while distance < lanes:  # blocks of `distance` lanes change places between rows that lie `distance` apart
            keep = [j if not j & distance else lanes + j - distance for j in range(lanes)]
            take = [j + distance if not j & distance else lanes + j for j in range(lanes)]
            for r in (r for r in range(lanes) if not r & distance):
                a, b = rows[r], rows[r + distance]
                rows[r], rows[r + distance] = _shuffle(builder, a, b, keep), _shuffle(builder, a, b, take)
            distance *= 2
        return _pack(context, builder, tile, rows)

    return tile(tile), codegen


@intrinsic(prefer_literal=True)
def gather_rows(_typing: Any, x: Any, i: Any, at: Any, k: Any, lanes: Any) -> Any:
    tile = _tile_of(lanes, types.literal(1), lanes)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 0)
        offsets = _pointer(context, builder, signature, args, 2)
        rows = [
            _load(builder, builder.gep(start, [builder.load(_at(builder, offsets, r))]), tile.lanes)
            for r in range(tile.lanes)
        ]
        return _pack(context, builder, tile, rows)

    return tile(x, types.int64, at, types.int64, lanes), codegen


@intrinsic
def scatter_rows(_typing: Any, tile: Any, y: Any, i: Any, at: Any, k: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, signature, args, 1)
        offsets = _pointer(context, builder, signature, args, 3)
        for cell, r, _ in tile.cells:
            target = builder.gep(start, [builder.load(_at(builder, offsets, r))])
            _store(builder, builder.extract_value(args[0], cell), target)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, at, types.int64), codegen


def _tile_of(rows: Any, columns: Any, lanes: Any) -> TileType:
    return TileType(rows.literal_value, columns.literal_value, lanes.literal_value)


def _vector(lanes: int) -> Any:
    return ir.VectorType(_FLOAT, lanes)


def _constant(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _pointer(context: Any, builder: Any, signature: Any, args: Any, position: int) -> Any:
    """Address of element args[position + 1] of the array args[position]."""
    array = cgutils.create_struct_proxy(signature.args[position])(context, builder, args[position])
    return builder.gep(array.data, [args[position + 1]])


def _at(builder: Any, pointer: Any, number: int, step: Any = None) -> Any:
    """pointer + number * step (1 where there is no step)."""
    offset = _constant(number) if step is None else builder.mul(step, _constant(number))
    return builder.gep(pointer, [offset])


def _load(builder: Any, pointer: Any, lanes: int) -> Any:
    return builder.load(builder.bitcast(pointer, _vector(lanes).as_pointer()), align=4)


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=4)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    return _shuffle(builder, builder.insert_element(undefined, scalar, _constant(0)), undefined, [0] * lanes)


def _shuffle(builder: Any, a: Any, b: Any, lanes: Any) -> Any:
    positions = list(lanes)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(positions)), positions)
    return builder.shuffle_vector(a, b, mask)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd and not fma: a CPU without the instruction multiplies and adds instead of calling a library.
    return builder.call(_declare(builder, f"llvm.fmuladd.v{a.type.count}f32", a.type, [a, b, c]), [a, b, c])


def _declare(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return cgutils.get_or_insert_function(builder.module, function, name)


def _masks(builder: Any, rows: Any, count: Any, lanes: int) -> list[Any]:
    """For each of `lanes` rows: lane j takes part where j < count and the row is one of the first `rows`."""
    numbers = ir.Constant(ir.VectorType(_INDEX, lanes), list(range(lanes)))
    inside = builder.icmp_signed("<", numbers, _splat(builder, count, lanes))
    none = ir.Constant(ir.VectorType(_BIT, lanes), None)
    return [builder.select(builder.icmp_signed(">", rows, _constant(r)), inside, none) for r in range(lanes)]


def _pack(context: Any, builder: Any, tile: TileType, vectors: list[Any]) -> Any:
    value = ir.Constant(context.get_value_type(tile), ir.Undefined)
    for position, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, position)
    return value
