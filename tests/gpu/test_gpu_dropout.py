"""Dropout on a GPU: the reference's bits, in any layout, and numbers that are read when the kernel runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import on_device, to_device, to_host, uniform

import cnn
from cnn import kernels, random
from cnn.graph import Replay
from cnn.kernels.buffers import Arena

pytestmark = pytest.mark.gpu

STATE = np.array([2**64 - 3, 2**32 - 2], np.uint64)


def expected(x: Any, p: float, state: Any, call: int) -> Any:
    with kernels.backend("reference"):
        return kernels.dropout(x, p, state, call)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 511, 512, 513, 64 * 9216])
def test_the_same_bits(size: int) -> None:
    x = uniform(size)
    for call in (0, 2, 2**63):
        (actual,) = on_device("dropout", {"x": x, "p": 0.25, "state": STATE, "call": call})
        assert actual.tobytes() == expected(x, 0.25, STATE, call).tobytes()


@pytest.mark.parametrize("view", [np.s_[1:], np.s_[:, ::-2], np.s_[:, 1:]], ids=str)
def test_any_layout(view: Any) -> None:
    x = uniform(9, 35)
    states = np.stack([STATE, STATE], axis=1)
    with kernels.backend("cuda"):
        y = kernels.dropout(to_device(x)[view], 0.5, to_device(states)[:, 1], 3)
    assert_array_equal(to_host(y), expected(x[view], 0.5, STATE, 3))


def test_a_layer_drops_the_same_on_both_devices(cupy: Any) -> None:
    x, g = uniform(5, 30), uniform(5, 30, seed=1)
    found = []
    for place, back in ((np.asarray, np.asarray), (cupy.asarray, to_host)):
        cnn.manual_seed(3)
        layers = [cnn.Dropout(0.3), cnn.Dropout(0.6)]
        outputs = [layer(place(x)) for layer in layers]
        cnn.manual_seed(4)  # too late for the way back
        gradients = [layer.backward(place(g)) for layer in layers]
        found.append([back(array).tobytes() for array in (*outputs, *gradients)])
    assert found[0] == found[1]


def test_replayed_calls_are_those_by_hand(cupy: Any) -> None:
    x = uniform(200)
    given, layers, arena = cupy.asarray(x), [cnn.Dropout(0.5), cnn.Dropout(0.5)], Arena()
    cnn.manual_seed(1)
    wanted = [[layer(x) for layer in layers] for _ in range(7)]
    cnn.manual_seed(1)
    numbered = random.NumberedCalls(given)
    outputs: list[Any] = []
    loss, history, counts = cupy.zeros((), np.float32), cupy.zeros(5, np.float32), cupy.zeros(2, np.int32)

    def work() -> None:
        with arena.reused(), numbered.counted():
            outputs[:] = [layer(given) for layer in layers]
            kernels.record(loss, history, counts, calls=numbered.state, made=numbered.made)

    replay = Replay(work)
    for number in range(7):
        if number == 4:  # somebody else's calls
            assert_array_equal([layer(x) for layer in layers], wanted[number])
            continue
        numbered.prepare()
        replayed = replay.recorded
        replay()
        if replayed:
            for layer in layers:
                layer.replayed()
        numbered.counted_on_device()
        assert_array_equal([to_host(y) for y in outputs], wanted[number])
    assert replay.recorded
    assert random.get_state()["dropout"]["calls"] == 14
    assert to_host(numbered.state).tolist()[1] == 14
