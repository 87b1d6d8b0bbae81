"""The random numbers of parameter initialisation and dropout, all decided by one seed.

Parameters are drawn from NumPy's PCG64, on the CPU whatever the device. Dropout counts its calls: what call number n
drops is a function of the seed and n (see `cnn.kernels.dropout`), the same on every device. So one small state is all
that a checkpoint must hold. A fresh process starts from seed 0: two runs of one program draw the same numbers unless
the program says otherwise.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from cnn.array import Array, device_of, fill, namespace

WORD = 2**64

_generator = np.random.Generator(np.random.PCG64(0))


class _Calls:
    """Of dropout: the seed that they draw under, and how many there were."""

    def __init__(self, seed: int, made: int) -> None:
        self.seed = seed
        self.made = made
        self.states: dict[str, Array] = {}  # by device: seed and 0, what the numbers of calls are added to


def _dropout_seed(seed: int) -> int:
    """Of 64 bits, and another one than the other generator starts from."""
    return int(np.random.SeedSequence(seed, spawn_key=(1,)).generate_state(1, np.uint64)[0])


_calls = _Calls(_dropout_seed(0), 0)


def manual_seed(seed: int) -> None:
    """Start again from `seed`, an int of at least 0.

    Raises `TypeError` for anything but an int, `ValueError` for a negative one.
    """
    global _calls
    number = operator.index(seed)
    if number < 0:
        raise ValueError(f"manual_seed: seed must be at least 0, got {number}")
    _generator.bit_generator.state = np.random.PCG64(number).state
    _calls = _Calls(_dropout_seed(number), 0)


def generator() -> np.random.Generator:
    """The generator itself: `manual_seed` and `set_state` change its state, never which object it is."""
    return _generator


def get_state() -> dict[str, Any]:
    """The state as a dictionary of strings and Python ints (some of 128 bits), which JSON can hold."""
    return {**_generator.bit_generator.state, "dropout": {"seed": _calls.seed, "calls": _calls.made}}


def set_state(state: dict[str, Any]) -> None:
    """Continue from a state that `get_state` returned. Raises `ValueError` for anything else, and changes nothing."""
    global _calls
    candidate: Any = np.random.PCG64(0)
    try:
        candidate.state = {name: value for name, value in state.items() if name != "dropout"}
        seed, made = (operator.index(state["dropout"][name]) for name in ("seed", "calls"))
        if not (0 <= seed < WORD and 0 <= made < WORD):
            raise ValueError(f"seed and calls of dropout must lie in 0..2^64 - 1, got {seed} and {made}")
    except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"set_state: not a state of this library's generators: {error!r}") from error
    _generator.bit_generator.state = candidate.state
    _calls = _Calls(seed, made)


def next_call(like: Array) -> tuple[Array, int]:
    """`state` and `call` for `kernels.dropout` on an array that lives where `like` does, for one call and its way back.

    What state holds stays as it is until the way back, whatever becomes of the seed in between.
    """
    number = _calls.made
    _calls.made += 1
    numbered = _numbered.get()
    if numbered is not None:
        return numbered.state, number - numbered.first
    device = device_of(like)
    if device not in _calls.states:
        _calls.states[device] = state = namespace(like).zeros(2, np.uint64)
        fill(state, np.array([_calls.seed, 0], np.uint64))
    return _calls.states[device], number


def replayed_call() -> None:
    """Count a call of `NumberedCalls` that only the device saw."""
    _calls.made += 1


class NumberedCalls:
    """Calls of dropout inside work that is replayed: seed and number of the first are in memory where `like` lives.

    Before the work, recorded or not, comes `prepare`; the work itself goes on inside `with numbered.counted():`, and
    has the device add `made` to state[1] at its end (see `kernels.record`); a replay is followed by `replayed_call` for
    each call. After the work comes `counted_on_device`, whether the host saw it or not.
    """

    def __init__(self, like: Array) -> None:
        self.state: Array = namespace(like).zeros(2, np.uint64)
        self.first = 0
        self._held: tuple[int, int] | None = None  # what is in `state`

    def prepare(self) -> None:
        """Bring there what comes next, where others made calls or changed the seed."""
        if self._held != (_calls.seed, _calls.made):
            fill(self.state, np.array([_calls.seed, _calls.made], np.uint64))
            self.counted_on_device()

    @property
    def made(self) -> int:
        """Calls inside `counted` so far."""
        return _calls.made - self.first

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.first = _calls.made
        token = _numbered.set(self)
        try:
            yield
        finally:
            _numbered.reset(token)

    def count(self) -> None:
        """Have the device add `made`, for work that does not end with a record."""
        self.state[1:] += np.uint64(self.made)

    def counted_on_device(self) -> None:
        """Note that the device holds the number that comes next."""
        self._held = _calls.seed, _calls.made


_numbered: ContextVar[NumberedCalls | None] = ContextVar("cnn.random.numbered", default=None)
