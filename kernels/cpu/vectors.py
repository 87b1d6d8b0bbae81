"""Tiles of vectors as a Numba type, and the few steps of LLVM's language that the intrinsics on them are made of."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default

INDEX = ir.IntType(64)
_FLOAT = ir.FloatType()


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
        super().__init__(manager, tile, ir.ArrayType(vector_of(tile.lanes), tile.rows * tile.columns))


def tile_of(rows: Any, columns: Any, lanes: Any) -> TileType:
    return TileType(rows.literal_value, columns.literal_value, lanes.literal_value)


def vector_of(lanes: int) -> Any:
    return ir.VectorType(_FLOAT, lanes)


def index(value: int) -> Any:
    return ir.Constant(INDEX, value)


def pointer(context: Any, builder: Any, signature: Any, args: Any, position: int) -> Any:
    """Address of element args[position + 1] of the array args[position]."""
    array = cgutils.create_struct_proxy(signature.args[position])(context, builder, args[position])
    return builder.gep(array.data, [args[position + 1]])


def moved(builder: Any, start: Any, number: int, step: Any = None) -> Any:
    """start + number * step (1 where there is no step)."""
    offset = index(number) if step is None else builder.mul(step, index(number))
    return builder.gep(start, [offset])


def load(builder: Any, source: Any, lanes: int) -> Any:
    return builder.load(builder.bitcast(source, vector_of(lanes).as_pointer()), align=4)


def targets(context: Any, builder: Any, signature: Any, args: Any) -> list[tuple[Any, Any]]:
    """Of args = tile, y, i, down, right, ...: each vector of the tile, and its address, y[i + r down + c right]."""
    start = pointer(context, builder, signature, args, 1)
    return [
        (builder.extract_value(args[0], k), moved(builder, moved(builder, start, r, args[3]), c, args[4]))
        for k, r, c in signature.args[0].cells
    ]


def put(builder: Any, vector: Any, target: Any, align: int = 4) -> Any:
    return builder.store(vector, builder.bitcast(target, vector.type.as_pointer()), align=align)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    return shuffle(builder, builder.insert_element(undefined, scalar, index(0)), undefined, [0] * lanes)


def shuffle(builder: Any, a: Any, b: Any, lanes: Any) -> Any:
    positions = list(lanes)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(positions)), positions)
    return builder.shuffle_vector(a, b, mask)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd and not fma: a CPU without the instruction multiplies and adds instead of calling a library.
    return builder.call(declared(builder, f"llvm.fmuladd.v{a.type.count}f32", a.type, [a, b, c]), [a, b, c])


def keep_rolled(builder: Any) -> None:
    """The loop around is not unrolled: with the loads of two rounds side by side its sums would leave the registers."""
    nothing = ir.FunctionType(ir.VoidType(), [])
    builder.call(ir.InlineAsm(nothing, "", "", side_effect=True), [], attrs=["convergent", "readnone"])


def declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return cgutils.get_or_insert_function(builder.module, function, name)


def pack(context: Any, builder: Any, tile: TileType, vectors: list[Any]) -> Any:
    value = ir.Constant(context.get_value_type(tile), ir.Undefined)
    for position, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, position)
    return value
