"""Dropout: the generator's published numbers, and which elements a call drops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn import kernels
from cnn.kernels import DTypeError, ShapeError
from cnn.kernels.cpu import dropout as cpu
from cnn.kernels.reference import dropout as reference

# Counter, key and words from the known-answer tests of Random123 (kat_vectors, philox4x32 with 10 rounds).
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def state(seed: int, first: int = 0) -> np.ndarray[Any, Any]:
    return np.array([seed, first], np.uint64)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_numbers(counter: str, key: str, expected: str) -> None:
    a, b, c, d = (np.array([word], np.uint64) for word in words(counter))
    left, right = words(key)
    assert [int(word[0]) for word in reference.philox((a, b, c, d), (left, right))] == words(expected)
    lanes = np.repeat(np.array(words(counter), np.uint32)[:, np.newaxis], cpu.RUN, axis=1)
    cpu.philox(*lanes, np.uint32(left), np.uint32(right))
    assert lanes.T.tolist() == [words(expected)] * cpu.RUN


def test_a_known_call(backend: str) -> None:
    # Of the words of the first known answer the largest, e169c58d, is 0.8805 of 2^32, and the smallest 0.4.
    x = np.ones(4, np.float32)
    assert kernels.dropout(x, 0.5, state(0)).tolist() == [0, 2, 2, 2]
    assert kernels.dropout(x, 0.88, state(0)).nonzero()[0].tolist() == [1]
    # u is the word's first 24 bits: what is equal to p is kept.
    exactly = 0x6627E8 / 2**24
    assert kernels.dropout(x, exactly, state(0))[0] == np.float32(1 / (1 - exactly))
    assert kernels.dropout(x, np.nextafter(exactly, 1), state(0))[0] == 0


def test_elements_are_numbered_in_their_order_in_the_array(backend: str) -> None:
    x = np.ones((7, 11), np.float32)
    expected = kernels.dropout(x.reshape(-1), 0.5, state(3)).reshape(7, 11)
    np.testing.assert_array_equal(kernels.dropout(x, 0.5, state(3)), expected)
    np.testing.assert_array_equal(kernels.dropout(np.asfortranarray(x), 0.5, state(3)), expected)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 255, 256, 257, 40_000])
def test_the_compiled_loop_draws_what_the_reference_draws(size: int) -> None:
    x = np.random.default_rng(size).uniform(-1, 1, size).astype(np.float32)
    given = {"p": 0.3, "state": state(2**64 - 3, 2**32 - 2)}
    for call in (0, 2, 2**63):  # the number of a call has 64 bits: the second carries
        with kernels.backend("reference"):
            expected = kernels.dropout(x, **given, call=call)
        assert kernels.dropout(x, **given, call=call).tobytes() == expected.tobytes()


def test_a_call_is_its_number_and_its_seed(backend: str) -> None:
    x = np.ones(1000, np.float32)
    first = kernels.dropout(x, 0.5, state(7, 3), 4)
    np.testing.assert_array_equal(kernels.dropout(x, 0.5, state(7), 7), first)
    np.testing.assert_array_equal(kernels.dropout(x, 0.5, state(7, 2**64 - 1), 8), first)  # counted modulo 2^64
    others = [state(7, 4), state(7, 3 + 2**32), state(8, 3), state(7 + 2**32, 3)]
    for other in others:
        # Two independent masks differ in half of a thousand elements, give or take 16.
        assert abs((kernels.dropout(x, 0.5, other, 4) != first).sum() - 500) < 5 * 16


def test_shares_are_those_of_p(backend: str) -> None:
    x = np.ones(2**18, np.float32)
    for p in (0.1, 0.5, 0.9):
        dropped = (kernels.dropout(x, p, state(11)) == 0).mean()
        assert dropped == pytest.approx(p, abs=5 * (p * (1 - p)) ** 0.5 / 2**9)  # five standard deviations
    assert not kernels.dropout(x, 1.0, state(11)).any()
    np.testing.assert_array_equal(kernels.dropout(x, 0.0, state(11)), x)


def test_both_precisions_drop_the_same(backend: str) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1, 100)
    single, double = (kernels.dropout(x.astype(dtype), 0.25, state(1)) for dtype in (np.float32, np.float64))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(single != 0, double != 0)
    np.testing.assert_array_equal(double[double != 0], x[double != 0] * (1 / 0.75))


def test_wrong_calls() -> None:
    x = np.ones(3, np.float32)
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ShapeError, match=r"dropout: p must (lie in|be at least) 0.*, got"):
            kernels.dropout(x, p, state(0))
    with pytest.raises(ShapeError, match=r"dropout: state must have shape \(2,\), got \(3,\)"):
        kernels.dropout(x, 0.5, np.zeros(3, np.uint64))
    with pytest.raises(DTypeError, match="dropout: state must be uint64, got int64"):
        kernels.dropout(x, 0.5, np.zeros(2, np.int64))
    for call in (-1, 2**64, 0.5, None):
        with pytest.raises(ShapeError, match="dropout: call must be a whole number from 0 to 2"):
            kernels.dropout(x, 0.5, state(0), call)  # type: ignore[arg-type]
