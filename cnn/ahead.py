"""A network's first step on a CPU, compiled by two processes.

Nearly all of that step is compilation, and a process compiles one function at a time. So while this one goes forward, a
second one compiles the way back. It gets the layers, with zeros in all arrays; it goes forward without computing, and
back with calls that have to be compiled and compute nothing either. On its way back this process then finds in Numba's
disk cache what the other one has compiled by then, and compiles the rest.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.array import Array
from cnn.kernels.buffers import zeroed
from cnn.kernels.threads import get_num_threads
from cnn.layers.layer import Layer
from cnn.loss import Loss

if TYPE_CHECKING:
    from subprocess import Popen

PROGRAM = "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); import cnn.ahead; cnn.ahead.rehearse()"


@contextmanager
def compiled_ahead(model: Layer, criterion: Loss, x: Array, target: Array) -> Iterator[None]:
    """Meanwhile a step of `model`, its neighbours joined, is compiled by another process, too, if there is anything to.

    There is no other process where the backend may use one thread only, for layers and losses of one's own, which need
    not mean to run anywhere else, and where the cache cannot be shared.
    """
    if x.dtype != np.float32 or get_num_threads() == 1 or not _is_plain(model, criterion):
        yield
        return
    from cnn.kernels.cpu.cache import LOCKS
    from cnn.kernels.cpu.compile import before_first

    with ExitStack() as ends:

        def start(folder: str) -> None:
            process = _start((model, criterion, x, target)) if LOCKS else None
            if process is not None:
                ends.callback(_end, process, folder)

        with before_first(start):
            yield


def rehearse() -> None:
    """What the other process does."""
    from cnn.kernels.cpu.threads import rehearsed

    model, criterion, x, target = pickle.load(sys.stdin.buffer)
    with zeroed(), np.errstate(all="ignore"):  # the working memory of a thread holds anything
        with rehearsed(compiled=False):
            criterion(model.forward(x), target)
        with rehearsed(compiled=True):
            model.backward(criterion.backward(), needs_input_gradient=False)


def _is_plain(model: Layer, criterion: Loss) -> bool:
    return all(type(part).__module__.startswith("cnn.") for part in (*model.modules(), criterion))


def _start(work: Any) -> Popen[bytes] | None:
    import subprocess  # late: it would be a seventh of what `import cnn` takes after NumPy

    # A program with Python in it is no interpreter that could run another.
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    message = io.BytesIO()
    try:
        pickle.dump(sys.path, message)
        _Emptied(message).dump(work)
    except Exception:  # whatever is kept as an attribute of a layer, and cannot be sent
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:  # no more processes, or no memory for one: this one compiles alone
        return None
    assert process.stdin is not None
    try:
        with process.stdin:
            process.stdin.write(message.getvalue())
    except OSError:  # it is gone already
        pass
    return process


def _end(process: Popen[bytes], folder: str) -> None:
    from cnn.kernels.cpu.cache import locked

    with locked(folder):  # it is not writing to the cache
        process.kill()
    process.wait()


class _Emptied(pickle.Pickler):
    """Of arrays only shape and dtype."""

    def reducer_override(self, value: Any) -> Any:
        return (np.zeros, (value.shape, value.dtype)) if isinstance(value, np.ndarray) else NotImplemented
