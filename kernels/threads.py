"""How many threads the CPU backend uses. It decides who computes what, and never a bit of a result."""

from __future__ import annotations

import operator
import os

_VARIABLE = "CNN_NUM_THREADS"

_number: int | None = None


def get_num_threads() -> int:
    """Threads that a call may use: what `set_num_threads` said last, else what the process started with.

    That is `CNN_NUM_THREADS` where it is set, else the number of cores the process may run on; it is looked up once.
    Raises `ValueError` for a `CNN_NUM_THREADS` that is no whole number of at least 1.
    """
    global _number
    if _number is None:
        _number = _from_environment()
    return _number


def set_num_threads(number: int | None) -> None:
    """Use at most `number` threads from the next call on, in the whole process; None: as the environment says now.

    Raises `ValueError` for less than 1, `TypeError` for what is no whole number.
    """
    global _number
    if number is None:
        _number = _from_environment()
        return
    try:
        wanted = operator.index(number)
    except TypeError:
        raise TypeError(f"set_num_threads: expected a whole number or None, got {number!r}") from None
    if wanted < 1:
        raise ValueError(f"set_num_threads: the number must be at least 1, got {wanted}")
    _number = wanted


def _from_environment() -> int:
    setting = os.environ.get(_VARIABLE, "")
    if setting:
        if not setting.isdecimal() or int(setting) < 1:
            raise ValueError(f"{_VARIABLE} must be a whole number of at least 1, got {setting!r}")
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
