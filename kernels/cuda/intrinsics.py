"""What CUDA has and Numba's language has not, each with a plain-Python twin for the simulator.

    load4(x, i)                    four consecutive float32 from x[i] on, one 128-bit load; aligned to 16 bytes
    load2(x, i)                    two of them, one 64-bit load; aligned to 8 bytes
    store4(y, i, a, b, c, d)       the way back
    store2(y, i, a, b)             two of them, one 64-bit store; aligned to 8 bytes
    atomic_add(y, i, value)        y[i] += value, atomically, without a result (RED)
    shuffle(value, lane)           the `value` of that lane of the warp; all 32 lanes call it together
    held(i)                        i, an uint32 that the compiler keeps in a register: without this it computes anew, in
                                   every round of a loop, what it could keep

x and y are pointers (`compiler.pointer`) or, but for atomic_add, shared arrays; i is an index in elements. Nothing is
checked.
"""

from __future__ import annotations

from threading import Barrier, Lock, current_thread
from typing import Any

from cnn.kernels.cuda.compiler import SIMULATED, cuda, device, uint32

if SIMULATED:

    def load4(x, i):
        return x[i], x[i + 1], x[i + 2], x[i + 3]

    def load2(x, i):
        return x[i], x[i + 1]

    def store4(y, i, a, b, c, d):
        y[i], y[i + 1], y[i + 2], y[i + 3] = a, b, c, d

    def store2(y, i, a, b):
        y[i], y[i + 1] = a, b

    def held(value):
        return value

    def atomic_add(y, i, value):
        with _adding:
            y[i] += value

    _adding = Lock()

    class _Warp:
        def __init__(self) -> None:
            self.values: list[Any] = [None] * 32
            self.barrier = Barrier(32, timeout=60)  # seconds: lanes that part ways shall not hang a test

    def shuffle(value, lane):
        return lanes(value)[lane]

    def lanes(value):
        """The `value` of every lane of the warp: what an instruction of a whole warp begins with."""
        # Each simulated thread is a Python thread, and its block an object that all of the block's threads share.
        thread = current_thread()
        warp = vars(thread._manager).setdefault(f"warp {thread.thread_id // 32}", _Warp())
        warp.values[thread.thread_id % 32] = value
        warp.barrier.wait()
        result = list(warp.values)
        warp.barrier.wait()
        return result

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    from cnn.kernels.cuda.compiler import types

    _FLOAT = ir.FloatType()

    @intrinsic
    def load4(_typing: Any, x: Any, i: Any) -> Any:
        return types.UniTuple(types.float32, 4)(x, i), _load

    @intrinsic
    def load2(_typing: Any, x: Any, i: Any) -> Any:
        return types.UniTuple(types.float32, 2)(x, i), _load

    @intrinsic
    def store4(_typing: Any, y: Any, i: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return types.none(y, i, *(types.float32,) * 4), _store

    @intrinsic
    def store2(_typing: Any, y: Any, i: Any, a: Any, b: Any) -> Any:
        return types.none(y, i, *(types.float32,) * 2), _store

    @intrinsic
    def held(_typing: Any, value: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            word = ir.IntType(32)
            return builder.asm(ir.FunctionType(word, [word]), "mov.b32 $0, $1;", "=r,r", args, side_effect=False)

        return types.uint32(types.uint32), codegen

    @intrinsic
    def atomic_add(_typing: Any, y: Any, i: Any, value: Any) -> Any:
        # cuda.atomic.add takes arrays, not pointers; LLVM's atomicrmw is refused by NVVM for float32.
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            address = builder.gep(args[0], [args[1]])
            kind = ir.FunctionType(_FLOAT, [address.type, _FLOAT])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.atomic.load.add.f32.p0")
            builder.call(function, [address, args[2]])
            return context.get_dummy_value()

        return types.none(y, i, types.float32), codegen

    @device
    def shuffle(value, lane):
        return cuda.shfl_sync(uint32(0xFFFFFFFF), value, lane)

    def _load(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        address = builder.bitcast(
            _element(context, builder, signature, args), ir.VectorType(_FLOAT, kind.count).as_pointer()
        )
        vector = builder.load(address, align=4 * kind.count)
        return context.make_tuple(builder, kind, [builder.extract_element(vector, _lane(k)) for k in range(kind.count)])

    def _store(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = len(args) - 2
        kind = ir.VectorType(_FLOAT, count)
        vector = ir.Constant(kind, ir.Undefined)
        for k in range(count):
            vector = builder.insert_element(vector, args[2 + k], _lane(k))
        address = builder.bitcast(_element(context, builder, signature, args), kind.as_pointer())
        builder.store(vector, address, align=4 * count)
        return context.get_dummy_value()

    def _element(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, kind = args[0], signature.args[0]
        if isinstance(kind, types.Array):
            start = cgutils.create_struct_proxy(kind)(context, builder, start).data
        return builder.gep(start, [args[1]])

    def _lane(k: int) -> Any:
        return ir.Constant(ir.IntType(32), k)
