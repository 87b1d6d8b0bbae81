"""Reading ahead, and writing past the caches: for arrays too large to be there still when somebody reads them.

A common store first reads the cache line that it changes, and takes the place of another; a streamed one does neither.

    stream(tile, y, i, down, right)      as `simd.store`; every vector must begin at a multiple of its own size
    streamed()                           what was streamed is written before anything that is stored after it
    streams(array, run)                  on the host: whether runs of so many elements of the array are to be streamed
    prefetch(x, i)                       begin to bring the cache line of x[i] into the second-level cache
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.simd import LANES
from cnn.kernels.cpu.vectors import declared, moved, pointer, put

# Bytes from which on it is faster: on 2 cores with second-level caches of 1 MiB, any bound of 2 to 8 MiB did.
LARGE = 2**22


def streams(array: np.ndarray[Any, Any], run: int) -> bool:
    """Runs lie one after the other, and each must be whole vectors that begin at multiples of their size."""
    return array.nbytes >= LARGE and run % LANES == 0 and array.ctypes.data % (LANES * array.itemsize) == 0


@intrinsic
def stream(_typing: Any, tile: Any, y: Any, i: Any, down: Any, right: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = pointer(context, builder, signature, args, 1)
        for k, r, c in tile.cells:
            target = moved(builder, moved(builder, start, r, args[3]), c, args[4])
            written = put(builder, builder.extract_value(args[0], k), target, align=4 * tile.lanes)
            written.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64), codegen


@intrinsic
def prefetch(_typing: Any, x: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.bitcast(pointer(context, builder, signature, args, 0), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        arguments = [where, number(0), number(2), number(1)]
        builder.call(declared(builder, "llvm.prefetch.p0", ir.VoidType(), arguments), arguments)
        return context.get_dummy_value()

    return types.none(x, types.int64), codegen


@intrinsic
def streamed(_typing: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), codegen
