"""Register tiles: rows x columns sums that one thread keeps in registers, fed from shared memory.

    zeros(rows, columns)                                    a tile of zeros
    add_outer(tile, a, i, row_gap, a_step, b, j, column_gap, b_step, depth)
                    tile[r, c] += sum over k < depth of a[i + k a_step + r'] * b[j + k b_step + c']
    unpack(tile, sums)                                      sums[r * columns + c] = tile[r, c], sums a local array

A tile is a value (tile = add_outer(tile, ...)), so that it stays in registers. Rows and columns come in runs of four,
which one 128-bit load brings: row r is element r' = r % 4 + r // 4 * row_gap, and columns likewise. A warp whose
threads hold neighbouring runs then reads neighbouring 16 bytes, without bank conflicts. All but i and j are constants,
so that the whole product, `depth` steps of it, is straight-line code. i, j, gaps and steps are multiples of four.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import SIMULATED, types

RUN = 4

if SIMULATED:

    def zeros(rows, columns):
        return np.zeros((rows, columns), np.float32)

    def add_outer(tile, a, i, row_gap, a_step, b, j, column_gap, b_step, depth):
        rows, columns = tile.shape
        for k in range(depth):
            left = [a[int(i) + k * a_step + r % RUN + r // RUN * row_gap] for r in range(rows)]
            right = [b[int(j) + k * b_step + c % RUN + c // RUN * column_gap] for c in range(columns)]
            tile += np.outer(np.array(left, np.float32), np.array(right, np.float32))
        return tile

    def unpack(tile, sums):
        for k, value in enumerate(tile.ravel()):
            sums[k] = value

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic, models, register_model

    _FLOAT = ir.FloatType()
    _FOUR = ir.VectorType(_FLOAT, RUN)

    class TileType(types.Type):
        def __init__(self, rows: int, columns: int) -> None:
            self.rows, self.columns = rows, columns
            super().__init__(f"Tile({rows}x{columns})")

    @register_model(TileType)
    class _TileModel(models.PrimitiveModel):
        def __init__(self, manager: Any, tile: TileType) -> None:
            super().__init__(manager, tile, ir.ArrayType(_FLOAT, tile.rows * tile.columns))

    @intrinsic
    def zeros(_typing: Any, rows: Any, columns: Any) -> Any:
        if not _literal(rows, columns):
            return None
        tile = TileType(rows.literal_value, columns.literal_value)

        def codegen(context: Any, _builder: Any, _signature: Any, _args: Any) -> Any:
            return ir.Constant(context.get_value_type(tile), None)

        return tile(rows, columns), codegen

    @intrinsic
    def add_outer(
        _typing: Any,
        tile: Any,
        a: Any,
        i: Any,
        row_gap: Any,
        a_step: Any,
        b: Any,
        j: Any,
        column_gap: Any,
        b_step: Any,
        depth: Any,
    ) -> Any:
        constants = (row_gap, a_step, column_gap, b_step, depth)
        if not _literal(*constants):
            return None
        rows_apart, a_stride, columns_apart, b_stride, steps = (constant.literal_value for constant in constants)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            left = _address(context, builder, signature.args[1], args[1], args[2])
            right = _address(context, builder, signature.args[5], args[5], args[6])
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOAT, [_FLOAT] * 3), "llvm.fma.f32")
            sums = [builder.extract_value(args[0], k) for k in range(tile.rows * tile.columns)]
            for step in range(steps):
                row = _runs(builder, left, step * a_stride, rows_apart, tile.rows)
                column = _runs(builder, right, step * b_stride, columns_apart, tile.columns)
                for r in range(tile.rows):
                    for c in range(tile.columns):
                        k = r * tile.columns + c
                        sums[k] = builder.call(fma, [row[r], column[c], sums[k]])
            value = ir.Constant(context.get_value_type(tile), ir.Undefined)
            for k, total in enumerate(sums):
                value = builder.insert_value(value, total, k)
            return value

        return tile(tile, a, i, row_gap, a_step, b, j, column_gap, b_step, depth), codegen

    @intrinsic
    def unpack(_typing: Any, tile: Any, sums: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            start = cgutils.create_struct_proxy(signature.args[1])(context, builder, args[1]).data
            for k in range(tile.rows * tile.columns):
                builder.store(builder.extract_value(args[0], k), builder.gep(start, [_index(k)]))
            return context.get_dummy_value()

        return types.none(tile, sums), codegen

    def _literal(*values: Any) -> bool:
        """Numba asks again with literal types where a first answer was None."""
        return all(isinstance(value, types.Literal) for value in values)

    def _index(k: int) -> Any:
        return ir.Constant(ir.IntType(32), k)

    def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
        return builder.gep(cgutils.create_struct_proxy(kind)(context, builder, array).data, [index])

    def _runs(builder: Any, start: Any, offset: int, gap: int, count: int) -> list[Any]:
        """`count` floats from start + offset on, in runs of four that lie `gap` apart."""
        values = []
        for run in range(count // RUN):
            address = builder.gep(start, [_index(offset + run * gap)])
            vector = builder.load(builder.bitcast(address, _FOUR.as_pointer()), align=16)
            values += [builder.extract_element(vector, _index(lane)) for lane in range(RUN)]
        return values
