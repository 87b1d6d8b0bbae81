"""What spares a third of the time that Numba takes for a kernel, and leaves its code as it is.

Numba puts the body of a device function in place of a call by copying it twice, block by block, and with each block all
variables of the function: their `Scope`. Nothing is done to these copies that the function itself should not see, so
that they may share it. And compiling makes millions of objects, among which Python looks for cycles again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from numba.cuda.core import ir
from numba.cuda.core.compiler_lock import global_compiler_lock


@contextmanager
def shortened() -> Iterator[None]:
    """Compiling inside takes less time; meanwhile no other thread compiles."""
    with global_compiler_lock:
        collecting = gc.isenabled()
        gc.disable()
        try:
            with patch.object(ir.Scope, "__deepcopy__", _itself, create=True):
                yield
        finally:
            if collecting:
                gc.enable()


def _itself(scope: ir.Scope, _memo: object) -> ir.Scope:
    return scope
