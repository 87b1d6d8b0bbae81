"""Dropout; formulas and sources stand in `cnn.kernels.dropout`. A thread takes a run of blocks of four elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import inner, jit
from cnn.kernels.cpu.threads import share

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many blocks.
LEAST = 2**13

# Blocks whose numbers are drawn together, in vectors: round by round, so that a compiler sees loops without branches.
RUN = 64


def dropout(x: Array, threshold: int, scale: float, state: Array, call: int, out: Array) -> None:
    seed, first = map(int, state)
    number = (first + call) % 2**64
    words = tuple(np.uint32(word & 0xFFFFFFFF) for word in (number, number >> 32, seed, seed >> 32))
    flat = np.ascontiguousarray(x).reshape(-1), out.reshape(-1)
    numbers = np.uint32(threshold), np.float32(scale)
    share(lambda *part: _dropout(*flat, *words, *numbers, *part), -(-x.size // 4), LEAST)


@jit()
def _dropout(x, y, low, high, left, right, threshold, scale, first, last):
    words = np.empty((4, RUN), np.uint32)
    for start in range(first, last, RUN):
        count = min(RUN, last - start)
        for i in range(RUN):
            words[0, i], words[1, i] = np.uint32(start + i), np.uint32(0)
            words[2, i], words[3, i] = low, high
        philox(words[0], words[1], words[2], words[3], left, right)
        whole = min(count, len(x) // 4 - start)
        _apply(x[4 * start :], words, threshold, scale, y[4 * start :], whole)
        for at in range(4 * (start + whole), min(4 * (start + count), len(x))):
            y[at] = x[at] * (scale if words[at % 4, whole] >> np.uint32(8) >= threshold else np.float32(0))


@inner()
def _apply(x, words, threshold, scale, y, count):
    zero, shift = np.float32(0), np.uint32(8)
    for i in range(np.uint64(count)):
        # One line for each word, so that a compiler sees four stores side by side.
        y[4 * i] = x[4 * i] * (scale if words[0, i] >> shift >= threshold else zero)
        y[4 * i + 1] = x[4 * i + 1] * (scale if words[1, i] >> shift >= threshold else zero)
        y[4 * i + 2] = x[4 * i + 2] * (scale if words[2, i] >> shift >= threshold else zero)
        y[4 * i + 3] = x[4 * i + 3] * (scale if words[3, i] >> shift >= threshold else zero)


@jit()
def philox(a, b, c, d, left, right):
    """Philox4x32-10 in place: counters to words, an array for each of the four, under the key (left, right)."""
    for _ in range(10):
        for i in range(RUN):
            one, other = np.uint64(0xD2511F53) * np.uint64(a[i]), np.uint64(0xCD9E8D57) * np.uint64(c[i])
            a[i] = np.uint32(np.uint32(other >> np.uint64(32)) ^ b[i] ^ left)
            b[i] = np.uint32(other)
            c[i] = np.uint32(np.uint32(one >> np.uint64(32)) ^ d[i] ^ right)
            d[i] = np.uint32(one)
        left, right = np.uint32(left + np.uint32(0x9E3779B9)), np.uint32(right + np.uint32(0xBB67AE85))
