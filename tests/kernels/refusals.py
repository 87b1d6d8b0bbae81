"""What a refused call owes its caller: the error's class, its text, and untouched arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import WITH_OUT, Arguments, arguments

from cnn import kernels

Array = np.ndarray[Any, Any]


def f32(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def check_refused(name: str, changes: Arguments, error: type[Exception], *words: str) -> None:
    """The valid call of `name` with `changes` raises `error` with `words`, and writes into no array."""
    given = arguments(name)
    if name in WITH_OUT:
        with kernels.backend("cpu"):
            given["out"] = np.full_like(getattr(kernels, name)(**given), 7)
    given.update(changes)
    arrays = [value for value in given.values() if isinstance(value, np.ndarray)]
    before = [array.tobytes() for array in arrays]
    with pytest.raises(error) as caught:
        getattr(kernels, name)(**given)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    for word in words:
        assert word in text
    assert [array.tobytes() for array in arrays] == before


def float_arrays(name: str) -> list[str]:
    """The arguments of the valid call that are arrays of numbers to compute with."""
    given = arguments(name)
    return [key for key, value in given.items() if isinstance(value, np.ndarray) and value.dtype == np.float32]
