"""The transforms of Winograd's minimal filtering, on tiles of vectors.

In one dimension m targets of a filter with r taps come of m + r - 1 multiplications instead of m r:

    y = A ((G w) * (B d)) / scale        d: sources, w: taps, *: element by element

Vertically over the 6 points 0, 1, -1, 2, -2 and infinity, horizontally over the 4 points 0, 1, -1 and infinity. Six
points in both dimensions would save a quarter more multiplications, but err 5 times as much: beyond what is due to
rounding in a sum of so many terms. The fractions that G usually holds are brought to their common denominator, 24 and
2, and divided out last: so on small integers every number on the way is an integer, and the result is exact.

    source_transform(tile)                  B tile B^T            of 6 x 4 vectors: 6 x 4
    weight_transform(tile)                  G tile G^T            of any taps: 6 x 4
    target_transform(tile, rows, columns)   A tile A^T / SCALE    of 6 x 4 vectors: rows x columns

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, 2016, whose matrices these are but for the denominators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from cnn.kernels.cpu.vectors import TileType, multiply_add, pack

HEIGHT, WIDTH = 6, 4
SCALE = 24.0 * 2.0

_Vectors = list[Any]


@intrinsic
def source_transform(_typing: Any, tile: Any) -> Any:
    result = TileType(HEIGHT, WIDTH, tile.lanes)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _both_ways(context, builder, tile, result, args[0], _source_6, _source_4)

    return result(tile), codegen


@intrinsic
def weight_transform(_typing: Any, tile: Any) -> Any:
    result = TileType(HEIGHT, WIDTH, tile.lanes)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _both_ways(context, builder, tile, result, args[0], _weight_6, _weight_4)

    return result(tile), codegen


@intrinsic(prefer_literal=True)
def target_transform(_typing: Any, tile: Any, rows: Any, columns: Any) -> Any:
    result = TileType(rows.literal_value, columns.literal_value, tile.lanes)

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def vertical(b: Any, s: _Vectors) -> _Vectors:
            return _target_6(b, s, result.rows)

        def horizontal(b: Any, s: _Vectors) -> _Vectors:
            return [_divide(b, vector, SCALE) for vector in _target_4(b, s, result.columns)]

        return _both_ways(context, builder, tile, result, args[0], vertical, horizontal)

    return result(tile, rows, columns), codegen


def _source_6(b: Any, d: _Vectors) -> _Vectors:
    even, odd = _add(b, d[4], d[2], -4), _add(b, d[3], d[1], -4)
    far_even, far_odd = b.fsub(d[4], d[2]), b.fsub(d[3], d[1])
    return [
        _add(b, _add(b, d[4], d[2], -5), d[0], 4),
        b.fadd(even, odd),
        b.fsub(even, odd),
        _add(b, far_even, far_odd, 2),
        _add(b, far_even, far_odd, -2),
        _add(b, _add(b, d[5], d[3], -5), d[1], 4),
    ]


def _source_4(b: Any, d: _Vectors) -> _Vectors:
    return [b.fsub(d[0], d[2]), b.fadd(d[2], d[1]), b.fsub(d[2], d[1]), b.fsub(d[3], d[1])]


def _weight_6(b: Any, w: _Vectors) -> _Vectors:
    even, odd = _power_sums(b, w, 1)
    far_even, far_odd = _power_sums(b, w, 2)
    return [
        _times(b, w[0], 6),
        _times(b, b.fadd(even, odd), -4),
        _times(b, b.fsub(even, odd), -4),
        b.fadd(far_even, far_odd),
        b.fsub(far_even, far_odd),
        _times(b, w[-1], 24),
    ]


def _weight_4(b: Any, w: _Vectors) -> _Vectors:
    even, odd = _power_sums(b, w, 1)
    return [_times(b, w[0], 2), b.fadd(even, odd), b.fsub(even, odd), _times(b, w[-1], 2)]


def _power_sums(b: Any, w: _Vectors, point: int) -> tuple[Any, Any]:
    """The even and the odd part of the polynomial with the coefficients w."""
    even, odd = w[0], _times(b, w[1], point)
    for power in range(2, len(w)):
        if power % 2:
            odd = _add(b, odd, w[power], point**power)
        else:
            even = _add(b, even, w[power], point**power)
    return even, odd


def _target_6(b: Any, s: _Vectors, size: int) -> _Vectors:
    even, odd = b.fadd(s[1], s[2]), b.fsub(s[1], s[2])
    far_even, far_odd = b.fadd(s[3], s[4]), b.fsub(s[3], s[4])
    y = [_add(b, odd, far_odd, 2**i) if i % 2 else _add(b, even, far_even, 2**i) for i in range(size)]
    return [b.fadd(y[0], s[0]), *y[1:-1], b.fadd(y[-1], s[5])]


def _target_4(b: Any, s: _Vectors, size: int) -> _Vectors:
    even, odd = b.fadd(s[1], s[2]), b.fsub(s[1], s[2])
    y = [odd if i % 2 else even for i in range(size)]
    return [b.fadd(y[0], s[0]), *y[1:-1], b.fadd(y[-1], s[3])]


def _both_ways(
    context: Any,
    b: Any,
    tile: Any,
    result: Any,
    value: Any,
    vertical: Callable[[Any, _Vectors], _Vectors],
    horizontal: Callable[[Any, _Vectors], _Vectors],
) -> Any:
    """`vertical` on every column of the tile, then `horizontal` on every row of what came of it."""
    cells = {(r, c): b.extract_value(value, k) for k, r, c in tile.cells}
    columns = [vertical(b, [cells[r, c] for r in range(tile.rows)]) for c in range(tile.columns)]
    rows = [horizontal(b, [column[r] for column in columns]) for r in range(result.rows)]
    return pack(context, b, result, [vector for row in rows for vector in row])


def _add(b: Any, base: Any, vector: Any, factor: float) -> Any:
    return multiply_add(b, vector, _constant(vector.type, factor), base)


def _times(b: Any, vector: Any, factor: float) -> Any:
    return b.fmul(vector, _constant(vector.type, factor))


def _divide(b: Any, vector: Any, divisor: float) -> Any:
    """vector / divisor, exact where the quotient is a whole number, without a slow division.

    The product with the rounded reciprocal is corrected once by its remainder.
    """
    inverse = _constant(vector.type, 1 / divisor)
    quotient = b.fmul(vector, inverse)
    remainder = multiply_add(b, quotient, _constant(vector.type, -divisor), vector)
    return multiply_add(b, remainder, inverse, quotient)


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [float(value)] * vector.count)
