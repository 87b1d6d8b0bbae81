"""Rounding to what tensor cores multiply, with the bits of `reference.rounding`.

    tf32(x)             x to the nearest number with 10 bits of mantissa, ties away from zero, as the instruction
                        cvt.rna.tf32.f32 has it, but for the 13 bits behind, which no tensor core looks at and which
                        are left as they come. Two instructions in place of three. NaN stays NaN, infinity stays
                        itself; what is below the smallest normal number, 2^-126, is cut off and not rounded
    bf16x2(low, high)   two numbers rounded to bfloat16 in one 32-bit word, which is passed on as a float32
    word_of(precision)  the device function (values, k) -> word k that tensor cores make of `values`, a local array

Half of tf32's last place is 2^-11 of the power of two below |x|, which is x without the bits of its mantissa: added to
x, it carries into the bits that stay where cvt.rna.tf32.f32 rounds up.

PTX says of tf32 that its layout is up to the GPU. Machine code says that it is the upper 19 bits of a float32: ptxas
makes of that instruction, for every target, an addition and a mask. CUTLASS rests on the same: its conversion adds half
of the last place and leaves the rest to the tensor core (`tfloat32_t::round_half_ulp_truncate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import SIMULATED, device, types

POWER = 0xFF800000  # sign and exponent
UPPER = 0xFFFFE000  # what tensor cores look at
HALF = 2.0**-11

if SIMULATED:

    def tf32(x):
        power = (np.float32(x).view(np.uint32) & np.uint32(POWER)).view(np.float32)
        near = np.float32(x) + np.float32(HALF) * power
        return (near.view(np.uint32) & np.uint32(UPPER)).view(np.float32)

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
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    _FLOAT, _WORD = ir.FloatType(), ir.IntType(32)

    @intrinsic
    def tf32(_typing: Any, x: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            bits = builder.and_(builder.bitcast(args[0], _WORD), ir.Constant(_WORD, POWER))
            kind = ir.FunctionType(_FLOAT, [_FLOAT] * 3)
            fma = cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32")
            return builder.call(fma, [builder.bitcast(bits, _FLOAT), ir.Constant(_FLOAT, HALF), args[0]])

        return types.float32(types.float32), codegen

    @intrinsic
    def bf16x2(_typing: Any, low: Any, high: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(_WORD, [_FLOAT, _FLOAT])
            return builder.bitcast(builder.asm(kind, "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", args, False), _FLOAT)

        return types.float32(types.float32, types.float32), codegen


def word_of(precision: str) -> Any:
    @device
    def number(values, k):
        return tf32(values[k])

    @device
    def pair(values, k):
        return bf16x2(values[2 * k], values[2 * k + 1])

    return number if precision == "tf32" else pair
