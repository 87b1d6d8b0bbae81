"""The one generator: seeds, and a state that a checkpoint can hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import cnn
from cnn import random


def test_a_seed_decides_the_initial_values() -> None:
    cnn.manual_seed(5)
    first = cnn.models.lenet5().state_dict()
    cnn.manual_seed(5)
    again = cnn.models.lenet5().state_dict()
    cnn.manual_seed(6)
    other = cnn.models.lenet5().state_dict()
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert (array != other[name]).any()


def test_numbers_are_those_of_numpys_pcg64() -> None:
    cnn.manual_seed(11)
    np.testing.assert_array_equal(random.generator().random(5), np.random.Generator(np.random.PCG64(11)).random(5))


def test_state_survives_json() -> None:
    cnn.manual_seed(7)
    random.generator().random(3, np.float32)  # an odd number of 32-bit draws leaves half a draw in the state
    state = json.loads(json.dumps(random.get_state()))
    expected = random.generator().random(9, np.float32)
    held = random.generator()
    cnn.manual_seed(8)
    random.set_state(state)
    assert random.generator() is held
    np.testing.assert_array_equal(held.random(9, np.float32), expected)


def test_calls_of_dropout_go_on_from_a_state() -> None:
    x, layer = np.ones(1000, np.float32), cnn.Dropout(0.5)
    cnn.manual_seed(7)
    first = layer(x)
    state = json.loads(json.dumps(random.get_state()))
    assert state["dropout"]["calls"] == 1
    second = layer(x)
    cnn.manual_seed(8)
    other = layer(x)
    assert state["dropout"]["seed"] != random.get_state()["dropout"]["seed"]
    random.set_state(state)
    np.testing.assert_array_equal(layer(x), second)
    for one in (first, other):
        assert (one != second).any()


def wrong_dropout(**changes: Any) -> dict[str, Any]:
    state = random.get_state()
    return {**state, "dropout": {**state["dropout"], **changes}}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"bit_generator": "MT19937"},
        {"bit_generator": "PCG64", "state": {}},
        None,
        {name: value for name, value in random.get_state().items() if name != "dropout"},
        wrong_dropout(calls=-1),
        wrong_dropout(seed=2**64),
        wrong_dropout(calls=0.5),
    ],
    ids=str,
)
def test_a_wrong_state_changes_nothing(state: Any) -> None:
    before = random.get_state()
    with pytest.raises(ValueError, match="set_state"):
        random.set_state(state)
    assert random.get_state() == before


def test_wrong_seeds() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        cnn.manual_seed(-1)
    with pytest.raises(TypeError):
        cnn.manual_seed(0.5)  # type: ignore[arg-type]
