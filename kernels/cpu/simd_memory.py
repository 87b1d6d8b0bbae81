"""Reading ahead, and writing past the caches: for arrays too large to be there still when somebody reads them.

A common store first reads the cache line that it changes, and takes the place of another; a streamed one does neither.

    streams(array, run)                    on the host: whether runs of so many elements of the array are to be streamed
    write(tile, y, i, down, right, past)   as `simd.store`; past: streamed, from a multiple of a vector's size on
    written(past)                          what was streamed is in memory before anything that is stored from now on
    prefetch(x, i)                         begin to bring the cache line of x[i] into the second-level cache
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cnn.kernels.cpu.simd import LANES
from cnn.kernels.cpu.vectors import declared, pointer, put, targets

# Bytes from which on it is faster: on 2 cores with second-level caches of 1 MiB, any bound of 2 to 8 MiB did.
LARGE = 2**22


def streams(array: np.ndarray[Any, Any], run: int) -> bool:
    """Runs lie one after the other, and each must be whole vectors that begin at multiples of their size."""
    return array.nbytes >= LARGE and run % LANES == 0 and array.ctypes.data % (LANES * array.itemsize) == 0


@intrinsic
def write(_typing: Any, tile: Any, y: Any, i: Any, down: Any, right: Any, past: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pairs = targets(context, builder, signature, args)
        with builder.if_else(args[5]) as (streamed, stored):
            with streamed:
                for vector, target in pairs:
                    instruction = put(builder, vector, target, align=4 * tile.lanes)
                    instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            with stored:
                for vector, target in pairs:
                    put(builder, vector, target)
        return context.get_dummy_value()

    return types.none(tile, y, types.int64, types.int64, types.int64, types.boolean), codegen


@intrinsic
def written(_typing: Any, past: Any) -> Any:
    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        with builder.if_then(args[0]):
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(types.boolean), codegen


@intrinsic
def prefetch(_typing: Any, x: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = builder.bitcast(pointer(context, builder, signature, args, 0), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        arguments = [where, number(0), number(2), number(1)]
        builder.call(declared(builder, "llvm.prefetch.p0", ir.VoidType(), arguments), arguments)
        return context.get_dummy_value()

    return types.none(x, types.int64), codegen
