"""What the CPU backend asks of Numba while it compiles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
from numba.core import event

from cnn.kernels.cpu.conv_plan import pick
from cnn.kernels.cpu.conv_winograd import block_images


class Seen(event.Listener):
    """Whether garbage was collected as each compilation began."""

    def __init__(self) -> None:
        self.collecting: list[bool] = []

    def on_start(self, event: event.Event) -> None:
        self.collecting.append(gc.isenabled())

    def on_end(self, event: event.Event) -> None:
        pass


@pytest.fixture
def seen() -> Iterator[Seen]:
    listener = Seen()
    with event.install_listener("numba:compile", listener):
        yield listener
    gc.enable()


def arguments() -> tuple[np.ndarray, ...]:
    return np.arange(3, dtype=np.float32), np.array([2, -1, 0]), np.full(3, 7, np.float32)


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_meanwhile(seen: Seen, enabled: bool) -> None:
    values, index, out = arguments()
    if not enabled:
        gc.disable()
    numba.njit(pick.py_func)(values, index, out)
    assert seen.collecting == [False]
    assert gc.isenabled() is enabled
    assert out.tolist() == [2, 0, 0]


def test_functions_of_others_are_not_touched(seen: Seen) -> None:
    made: dict[str, Any] = {}
    exec("def without_a_module(x): return x + 1", made)
    assert numba.njit(made["without_a_module"])(1) == 2
    assert numba.njit(lambda x: x + 1)(1) == 2
    assert seen.collecting == [True, True]
    assert gc.isenabled()


def test_a_loop_that_is_no_function(seen: Seen) -> None:
    @numba.jit(forceobj=True, looplift=True)
    def total(n: int) -> int:
        result, _ = 0, object()
        for i in range(n):
            result += i
        return result

    assert total(5) == 10
    assert len(seen.collecting) > 1
    assert all(seen.collecting)


def test_it_goes_on_after_an_error(seen: Seen) -> None:
    with pytest.raises(numba.TypingError):
        numba.njit(block_images.py_func)("no", "such", "types", 0, 0)
    assert False in seen.collecting
    assert gc.isenabled()
