"""How every function of the CPU backend is compiled.

Without the GIL, since `threads` runs them side by side; cached on disk, beside the source or in Numba's cache folder;
with NumPy's rules for division. Factories pass constants (lanes, tile sizes) through closures: Numba keys its cache
with them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import event
from numba.core.dispatcher import Dispatcher

from cnn.kernels.cpu.cache import SharedCache


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def decorator(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
        if isinstance(compiled, Dispatcher):  # it is the function itself where Numba is told to compile nothing
            compiled._cache = SharedCache(function)  # type: ignore[attr-defined]
        return compiled

    return decorator


def inner(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """For functions that only compiled ones call: without the wrapper that Python, which would crash, calls through."""
    return jit(no_cpython_wrapper=True, **options)


# Sums may be reordered (in one fixed way, when compiled), so that they use vectors; NaN and infinity keep their rules.
REORDERED = {"reassoc", "contract"}


class _Uncollected(event.Listener):
    """Garbage is not collected while a function of this backend is compiled, nor are those that it calls.

    A compiler makes very many objects, and most of them stay until it is done: looking through them again and again
    took a tenth of the first step. Numba sends these events one at a time, whatever thread compiles.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._was_enabled = False

    def on_start(self, event: event.Event) -> None:
        if _is_ours(event):
            if self._depth == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._depth += 1

    def on_end(self, event: event.Event) -> None:
        if _is_ours(event):
            self._depth -= 1
            if self._depth == 0 and self._was_enabled:
                gc.enable()


@contextmanager
def before_first(begin: Callable[[str], None]) -> Iterator[None]:
    """Call begin(folder) when the first function of this backend has to be compiled: the cache has its code not yet.

    folder: where it will be kept.
    """
    with event.install_listener("numba:compile", _First(begin)):
        yield


class _First(event.Listener):
    def __init__(self, begin: Callable[[str], None]) -> None:
        self._begin: Callable[[str], None] | None = begin

    def on_start(self, event: event.Event) -> None:
        if self._begin is not None and _is_ours(event):
            begin, self._begin = self._begin, None
            begin(event.data["dispatcher"].stats.cache_path)

    def on_end(self, event: event.Event) -> None:
        pass


def _is_ours(compiling: event.Event) -> bool:
    # Not everything that is compiled is a function, and not every function has a module.
    function = getattr(compiling.data["dispatcher"], "py_func", None)
    return str(getattr(function, "__module__", None)).startswith(f"{__package__}.")


event.register("numba:compile", _Uncollected())
