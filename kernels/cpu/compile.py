"""How every function of the CPU backend is compiled.

Without the GIL, since `threads` runs them side by side; cached on disk, beside the source or in Numba's cache folder;
with NumPy's rules for division. Factories pass constants (lanes, tile sizes) through closures: Numba keys its cache
with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    decorator: Callable[[Callable[..., Any]], Any] = numba.njit(
        cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options
    )
    return decorator


def inner(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """For functions that only compiled ones call: without the wrapper that Python, which would crash, calls through."""
    return jit(no_cpython_wrapper=True, **options)


# Sums may be reordered (in one fixed way, when compiled), so that they use vectors; NaN and infinity keep their rules.
REORDERED = {"reassoc", "contract"}
