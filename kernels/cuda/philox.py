"""Philox4x32-10, a random number generator that is a function: what number stands at a place, any thread can say.

Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405; how dropout counts stands in `cnn.kernels.dropout`.
"""

from __future__ import annotations

from cnn.kernels.cuda.compiler import device, types, uint32

ROUNDS = 10


@device
def product(a, b):
    """High and low half of a * b."""
    whole = types.uint64(types.uint64(a) * types.uint64(b))
    return uint32(whole >> types.uint64(32)), uint32(whole)


@device
def philox(a, b, c, d, left, right):
    """Four words, uint32, from four of a counter and two of a key."""
    for _ in range(ROUNDS):
        high, low = product(uint32(0xD2511F53), a)
        other_high, other_low = product(uint32(0xCD9E8D57), c)
        a, b = uint32(other_high ^ b ^ left), other_low
        c, d = uint32(high ^ d ^ right), low
        left, right = uint32(left + uint32(0x9E3779B9)), uint32(right + uint32(0xBB67AE85))
    return a, b, c, d


@device
def words_of_call(block, state, low, high):
    """The words for elements 4 * block and following.

    state: seed and number of the first call, two words each, low ones first; low, high: what is added to the number.
    """
    first = uint32(state[2] + low)
    second = uint32(state[3] + high)
    if first < low:
        second = uint32(second + uint32(1))
    return philox(block, uint32(0), first, second, state[0], state[1])
