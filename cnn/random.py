"""The one random generator that parameter initialisation and dropout draw from.

It is NumPy's PCG64, on the CPU whatever the device, so one small state is all that a checkpoint must hold. A fresh
process starts it from seed 0: two runs of one program draw the same numbers unless the program says otherwise.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

_generator = np.random.Generator(np.random.PCG64(0))


def manual_seed(seed: int) -> None:
    """Start the generator again from `seed`, an int of at least 0.

    Raises `TypeError` for anything but an int, `ValueError` for a negative one.
    """
    number = operator.index(seed)
    if number < 0:
        raise ValueError(f"manual_seed: seed must be at least 0, got {number}")
    _generator.bit_generator.state = np.random.PCG64(number).state


def generator() -> np.random.Generator:
    """The generator itself: `manual_seed` and `set_state` change its state, never which object it is."""
    return _generator


def get_state() -> dict[str, Any]:
    """The state as a dictionary of strings and Python ints (some of 128 bits), which JSON can hold."""
    return dict(_generator.bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned. Raises `ValueError` for anything else, and changes nothing."""
    candidate: Any = np.random.PCG64(0)
    try:
        candidate.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"set_state: not a state of NumPy's PCG64 generator: {error!r}") from error
    _generator.bit_generator.state = candidate.state
