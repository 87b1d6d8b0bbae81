"""Elements of flat arrays by address alone: `get(x, i)` is x[i], `put(x, i, value)` is x[i] = value.

Numba's own index counts from the end where it is negative. Unless i comes straight out of range(n), every element has a
choice of two addresses then, and no loop over them uses vectors: it takes five to ten times as long.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def get(_typing: Any, x: Any, i: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *args))

    return x.dtype(x, types.int64), codegen


@intrinsic
def put(_typing: Any, x: Any, i: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.none(x, types.int64, x.dtype), codegen


def _address(context: Any, builder: Any, array: Any, value: Any, i: Any) -> Any:
    """Of element i of the array `value`, whose type is `array`."""
    return builder.gep(cgutils.create_struct_proxy(array)(context, builder, value).data, [i])
