"""Rounding to what tensor cores multiply, with the bits of `reference.rounding`.

    tf32(x)             x to the nearest number with 10 bits of mantissa, ties away from zero, as the instruction
                        cvt.rna.tf32.f32 has it but for the 13 bits behind, which no tensor core looks at and which are
                        left as they come: two instructions in place of three. NaN stays NaN
    bf16x2(low, high)   two numbers rounded to bfloat16 in one 32-bit word, which is passed on as a float32

PTX says of tf32 that its layout is up to the GPU. Machine code says that it is the upper 19 bits of a float32: ptxas makes
of that instruction, for every target, an addition and a mask. CUTLASS rests on the same: its conversion adds half of the
last place and leaves the rest to the tensor core (`tfloat32_t::round_half_ulp_truncate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import SIMULATED, types

# Half of tf32's last place in the bits of a float32.
HALF = 1 << 12

if SIMULATED:

    def tf32(x):
        bits = np.float32(x).view(np.uint32)
        if abs(x) < np.float32(np.inf):
            bits = bits + np.uint32(HALF)
        return (bits & np.uint32(2**32 - 2 * HALF)).view(np.float32)

    def bf16x2(low, high):
        return (_upper(low) >> np.uint32(16) | _upper(high)).view(np.float32)

    def _upper(x):
        """Ties to even."""
        bits = np.float32(x).view(np.uint32)
        if x != x:
            return np.uint32(0x7FFF0000)
        return bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)) & np.uint32(0xFFFF0000)

else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    _FLOAT, _WORD = ir.FloatType(), ir.IntType(32)

    # Neither infinity nor NaN, whose bits an addition could make those of another number.
    _ROUND = (
        "{ .reg .pred finite; .reg .f32 size; abs.f32 size, $1; setp.lt.f32 finite, size, 0f7F800000; mov.b32 $0, $1; "
        f"@finite add.u32 $0, $0, {HALF}; }}"
    )

    @intrinsic
    def tf32(_typing: Any, x: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.bitcast(builder.asm(ir.FunctionType(_WORD, [_FLOAT]), _ROUND, "=r,f", args, False), _FLOAT)

        return types.float32(types.float32), codegen

    @intrinsic
    def bf16x2(_typing: Any, low: Any, high: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_WORD, [_FLOAT, _FLOAT])
            return builder.bitcast(builder.asm(kind, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", args, False), _FLOAT)

        return types.float32(types.float32, types.float32), codegen
