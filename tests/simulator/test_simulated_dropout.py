"""Dropout in the simulator: the generator's published numbers, and what the reference drops, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from parity import check_parity, on_device, uniform

from cnn import kernels

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda.philox import philox

STATE = np.array([2**64 - 3, 2**32 - 2], np.uint64)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 513])
def test_the_same_bits(size: int) -> None:
    for call in (0, 2):  # the second carries into the number's upper half
        given = {"x": uniform(size), "p": 0.4, "state": STATE, "call": call}
        (actual,) = on_device("dropout", given)
        with kernels.backend("reference"):
            assert actual.tobytes() == kernels.dropout(**given).tobytes()


def test_limits() -> None:
    for p in (0.0, 1.0):
        check_parity("dropout", {"x": uniform(9, 5), "p": p, "state": STATE})


def test_published_numbers() -> None:
    # Random123's third known answer for philox4x32 with 10 rounds.
    counter, key = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    with np.errstate(over="ignore"):  # words wrap around
        words = philox(*map(np.uint32, counter), *map(np.uint32, key))
    assert [int(word) for word in words] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
