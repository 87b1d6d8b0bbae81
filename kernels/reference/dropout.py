"""Dropout; formulas and sources stand in `cnn.kernels.dropout`."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LOW = 0xFFFFFFFF


def dropout(x: Array, threshold: int, scale: float, state: Array, call: int, out: Array) -> None:
    seed, first = map(int, state)
    number = (first + call) % 2**64
    blocks = np.arange(-(-x.size // 4), dtype=np.uint64)
    counter = blocks, np.zeros_like(blocks), np.uint64(number & LOW), np.uint64(number >> 32)
    words = np.stack(philox(counter, (seed & LOW, seed >> 32)), axis=-1).reshape(-1)[: x.size]
    kept = (words >> np.uint64(8)) >= threshold
    out[...] = x * (kept.reshape(x.shape) * x.dtype.type(scale))


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10: four words of 32 bits, as uint64, from four of a counter and two of a key."""
    a, b, c, d = counter
    for number in range(10):
        left, right = (np.uint64(word + number * step & LOW) for word, step in zip(key, WEYL, strict=True))
        one, other = np.uint64(MULTIPLIERS[0]) * a, np.uint64(MULTIPLIERS[1]) * c
        half, low = np.uint64(32), np.uint64(LOW)
        a, b, c, d = other >> half ^ b ^ left, other & low, one >> half ^ d ^ right, one & low
    return a, b, c, d


MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # what the key grows by from round to round
