"""Numba's disk cache for several processes at once.

Numba reads a function's index, adds a line, and writes the index and then the code, with no lock. Of two processes that
do so at a time one may leave an index that gives the other's code for its own, and one that is killed in between an
index of code that is not there, or is old. So here one process writes at a time, and none reads meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from numba.core.caching import FunctionCache

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

LOCKS = fcntl is not None

_FILE = "cnn.lock"


class SharedCache(FunctionCache):
    """One function's part of the cache: as Numba's own, one process at a time."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with locked(self.cache_path, shared=True):
            return super().load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        with locked(self.cache_path):
            super().save_overload(sig, data)


@contextmanager
def locked(folder: str, shared: bool = False) -> Iterator[None]:
    """No other process writes to the cache in `folder` meanwhile, nor, unless shared, does one read it.

    Where the folder cannot be written to, or files cannot be locked, nobody is kept out.
    """
    file = _open(folder) if LOCKS else None
    try:
        if file is not None:
            with suppress(OSError):  # some network file systems cannot
                fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        if file is not None:
            os.close(file)


def _open(folder: str) -> int | None:
    try:
        os.makedirs(folder, exist_ok=True)
        return os.open(os.path.join(folder, _FILE), os.O_RDWR | os.O_CREAT)
    except OSError:
        return None
