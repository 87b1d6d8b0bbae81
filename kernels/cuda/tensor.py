"""Tensor cores: products of rounded numbers, and what feeds them; for compute capability 8.0 and later.

    address(y, i)               where element i of a shared array is, in bytes: what the others here take
    put(y, at, k, a)            a word to k words from there; k is constant
    put4(y, at, a, b, c, d)     four words to there on, aligned to 16 bytes
    copies(count, apart)        the device function (y, at, x, j): x[j .. j + 3] to there past the registers, and so on,
                                `count` times `apart` words on; aligned to 16 bytes; there after `arrived`
    sent()                      closes a group of copies
    arrived(pending)            waits until at most `pending` groups of this thread's copies are under way
    product(rows, columns, precision, words)
                                the device function (tile, y, rows_at, columns_at) -> tile of one step, see below

A step is 16 words of the reduction: 16 numbers in tf32, 16 pairs in bf16; sums are float32. The rows' words lie in
lines of 16 in shared memory, line after line. Lane 4 g + t of a warp reads words 4 t .. 4 t + 3 of lines g + 8 h with
one 128-bit load each, i being where the first of them is: they serve two m16n8 products, whose sums over words do not
ask for an order. Banks do not conflict: the eight lanes that are served together read two lines, all 32 banks.
`ldmatrix` would bring no more words with an instruction, and only half words of a line at a time.

Columns come in eights; `columns` holds the offset of each. What a lane reads of an eight are four words of its column
g, at columns_at + offset + one of `words` each; where these lie side by side, they too are one load.

The tile's sums, as `tile.unpack` gives them: ((rows' sixteen * 2 + h) * eights + eight) * 2 + c is row g + 8 h of the
sixteen, column 2 t + c of the eight.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import SIMULATED, device, types, uint32
from cnn.kernels.cuda.launch import compute_capability
from cnn.kernels.precision import FLOAT32

WORDS = 16  # of a step

SIDE_BY_SIDE = (0, 1, 2, 3)  # words that are one load

# Words of sixteen rows.
SIXTEEN = 16 * WORDS

# Numbers in a word.
NUMBERS = {"tf32": 1, "bf16": 2}

# The first compute capability whose tensor cores take them.
FIRST = 80


def served(precision: str) -> str:
    """`precision` where the current GPU has tensor cores for it, else "float32"."""
    if precision == FLOAT32 or SIMULATED or compute_capability() >= FIRST:
        return precision
    return FLOAT32


if SIMULATED:
    from threading import current_thread

    from cnn.kernels.cuda.intrinsics import lanes

    def address(_y, i):
        return np.uint32(4 * i)

    def put(y, at, k, a):
        y[int(at) // 4 + k] = a

    def put4(y, at, a, b, c, d):
        i = int(at) // 4
        y[i], y[i + 1], y[i + 2], y[i + 3] = a, b, c, d

    @cache
    def copies(count, apart):
        def copy(y, at, x, j):
            for k in range(count):
                for number in range(k * apart, k * apart + 4):
                    y[int(at) // 4 + number] = x[int(j) + number]

        return copy

    def sent():
        """Simulated copies arrive at once."""

    def arrived(pending):
        """See `sent`."""

    @cache
    def product(rows, columns, precision, words):
        def multiply(tile, y, rows_at, columns_at):
            i, j = int(rows_at) // 4, int(columns_at) // 4
            quads = [[y[i + quad * SIXTEEN // 2 + w] for w in range(4)] for quad in range(2 * rows)]
            right = [[y[j + offset + word] for word in words] for offset in columns]
            left = [[quads[line // 2 * 2 + w // 2][w % 2 * 2 + line % 2] for w in range(4)] for line in range(2 * rows)]
            # [lane's g, its t, line or eight, word, number of the word]
            of_lanes = [np.array(words, np.float32) for words in zip(*lanes((left, right)), strict=True)]
            lefts, rights = (_numbers(words.reshape(8, 4, *words.shape[1:]), precision) for words in of_lanes)
            g, t = divmod(current_thread().thread_id % 32, 4)
            sums = np.einsum("tlwn,ctewn->lec", lefts[g], rights[2 * t : 2 * t + 2])
            return tile + sums.astype(np.float32).reshape(tile.shape)

        return multiply

    def _numbers(words, precision):
        """In float64, which holds their products."""
        if precision == "tf32":
            return words[..., None].astype(np.float64)
        bits = words.view(np.uint32)
        low, high = bits << np.uint32(16), bits & np.uint32(0xFFFF0000)
        return np.stack([low.view(np.float32), high.view(np.float32)], axis=-1).astype(np.float64)

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    _FLOAT, _WORD = ir.FloatType(), ir.IntType(32)
    _FOUR = ir.VectorType(_WORD, 4)
    _SUMS = ir.LiteralStructType([_FLOAT] * 4)
    _MMA = {
        "tf32": "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
        "bf16": "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
    }

    @intrinsic
    def address(_typing: Any, y: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            start = cgutils.create_struct_proxy(signature.args[0])(context, builder, args[0]).data
            place = builder.addrspacecast(builder.gep(start, [args[1]]), _FLOAT.as_pointer(3))
            return builder.ptrtoint(place, _WORD)

        return types.uint32(y, i), codegen

    @intrinsic
    def put(_typing: Any, y: Any, at: Any, k: Any, a: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            start = builder.inttoptr(args[1], _FLOAT.as_pointer(3))
            builder.store(args[3], builder.gep(start, [args[2]]), align=4)
            return context.get_dummy_value()

        return types.none(y, types.uint32, types.uint32, types.float32), codegen

    @intrinsic
    def put4(_typing: Any, y: Any, at: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            vector = ir.Constant(_FOUR, ir.Undefined)
            for k in range(4):
                vector = builder.insert_element(vector, builder.bitcast(args[2 + k], _WORD), _word(k))
            builder.store(vector, _pointer(builder, args[1], 0, _FOUR), align=16)
            return context.get_dummy_value()

        return types.none(y, types.uint32, *(types.float32,) * 4), codegen

    @cache
    def copies(count: int, apart: int) -> Any:
        @intrinsic
        def copy(_typing: Any, y: Any, at: Any, x: Any, j: Any) -> Any:
            def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                source = builder.gep(args[2], [args[3]])
                kind = ir.FunctionType(ir.VoidType(), [_WORD, source.type])
                for k in range(count):
                    offset = 4 * k * apart
                    instruction = f"cp.async.cg.shared.global [$0+{offset}], [$1+{offset}], 16;"
                    builder.asm(kind, instruction, "r,l,~{memory}", [args[1], source], True)
                return context.get_dummy_value()

            return types.none(y, types.uint32, x, j), codegen

        return copy

    @intrinsic
    def sent(_typing: Any) -> Any:
        return types.none(), _ordered(lambda _pending: "cp.async.commit_group;", None)

    @intrinsic
    def arrived(_typing: Any, pending: Any) -> Any:
        if not isinstance(pending, types.Literal):
            return None
        return types.none(pending), _ordered(lambda n: f"cp.async.wait_group {n};", pending.literal_value)

    @cache
    def product(rows: int, columns: tuple[int, ...], precision: str, words: tuple[int, ...]) -> Any:
        instruction = _MMA[precision]

        @intrinsic
        def multiply(_typing: Any, tile: Any, y: Any, rows_at: Any, columns_at: Any) -> Any:
            def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
                left, right = args[2:]
                sums = [builder.extract_value(args[0], k) for k in range(rows * len(columns) * 4)]
                quads = [_four(builder, left, quad * SIXTEEN // 2) for quad in range(2 * rows)]
                for eight, offset in enumerate(columns):
                    read = (
                        _four(builder, right, offset)
                        if words == SIDE_BY_SIDE
                        else [_one(builder, right, offset + word) for word in words]
                    )
                    for half in range(2):  # of the four words
                        for row in range(rows):
                            at = [((row * 2 + h) * len(columns) + eight) * 2 + c for h in range(2) for c in range(2)]
                            pair = read[2 * half : 2 * half + 2]
                            operands = [*quads[row * 2 + half], *pair, *(sums[k] for k in at)]
                            result = _mma(builder, instruction, operands)
                            for number, k in enumerate(at):
                                sums[k] = builder.extract_value(result, number)
                value = ir.Constant(context.get_value_type(tile), ir.Undefined)
                for k, total in enumerate(sums):
                    value = builder.insert_value(value, total, k)
                return value

            return tile(tile, y, types.uint32, types.uint32), codegen

        return multiply

    def _mma(builder: Any, instruction: str, operands: list[Any]) -> Any:
        places = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$0,$1,$2,$3};"
        kind = ir.FunctionType(_SUMS, [operand.type for operand in operands])
        # With a side effect: else it may be moved to where the sums are used, and part of the warp only comes there.
        return builder.asm(kind, f"{instruction} {places}", "=f,=f,=f,=f,r,r,r,r,r,r,0,1,2,3", operands, True)

    def _ordered(instruction: Any, pending: int | None) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.asm(kind, instruction(pending), "~{memory}", [], True)
            return context.get_dummy_value()

        return codegen

    def _pointer(builder: Any, start: Any, offset: int, kind: Any) -> Any:
        """To what is `offset` words behind an address in shared memory."""
        place = builder.gep(builder.inttoptr(start, _WORD.as_pointer(3)), [_word(offset)])
        return builder.bitcast(place, kind.as_pointer(3))

    def _four(builder: Any, start: Any, offset: int) -> list[Any]:
        vector = builder.load(_pointer(builder, start, offset, _FOUR), align=16)
        return [builder.extract_element(vector, _word(k)) for k in range(4)]

    def _one(builder: Any, start: Any, offset: int) -> Any:
        return builder.load(_pointer(builder, start, offset, _WORD), align=4)

    def _word(k: int) -> Any:
        return ir.Constant(_WORD, k)


@device
def row_and_word(place):
    """Which word of a step stands at a place of its rows: (row, word), see above."""
    lane = place >> uint32(2) & uint32(31)
    row = uint32((place // uint32(SIXTEEN) << uint32(4)) + (place & uint32(1)) * uint32(8) + (lane >> uint32(2)))
    pair = uint32((place >> uint32(7) & uint32(1)) * uint32(2) + (place >> uint32(1) & uint32(1)))
    return row, uint32((lane & uint32(3)) * uint32(4) + pair)
