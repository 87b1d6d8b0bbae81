"""Work on a GPU that is the same each time, replayed as one CUDA graph.

A graph holds the addresses that kernels were launched with: the work has to use the same memory each time, read what
changes from device memory, allocate nothing and read nothing back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from cnn.array import Array
from cnn.batch import Batch, Given
from cnn.kernels.buffers import Arena, allocate


class Replay:
    """`work()` on a stream of its own: as it is in the first call, recorded in the second, replayed from then on.

    The current stream waits for it, and it for what the current stream did before: to the caller it is as if it ran
    there. Raises `RuntimeError` where the work cannot be recorded, and what `work` raises.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        cuda = _cuda()
        self._work = work
        # Non-blocking, or else work of others on the null stream would spoil the recording.
        self._stream = cuda.Stream(non_blocking=True)
        self._before, self._after = cuda.Event(disable_timing=True), cuda.Event(disable_timing=True)
        self._graph: Any = None
        self._ran = False

    @property
    def recorded(self) -> bool:
        """Whether calls replay from now on, and run no line of `work` on the host."""
        return self._graph is not None

    def __call__(self) -> None:
        with self._ordered():
            if self._ran and self._graph is None:
                self._graph = self._record()
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                with self._stream:
                    self._work()
                self._ran = True

    @contextmanager
    def _ordered(self) -> Iterator[None]:
        current = _cuda().get_current_stream()
        self._before.record(current)
        self._stream.wait_event(self._before)
        try:
            yield
        finally:
            self._after.record(self._stream)
            current.wait_event(self._after)

    def _record(self) -> Any:
        with self._stream:
            self._stream.begin_capture()
            try:
                # CuPy would take memory from its pool, and give it to others after the recording.
                with _cuda().using_allocator(_refuse):
                    self._work()
            except BaseException as error:
                self._abandon()
                if isinstance(error, Exception):
                    raise RuntimeError(f"a step that allocates or reads back cannot be recorded: {error}") from error
                raise
            return self._stream.end_capture()

    def _abandon(self) -> None:
        """End a recording that failed, so that the stream can be used again."""
        try:
            self._stream.end_capture()
        except Exception:  # the caller is told what spoiled it
            return


class Routine:
    """`compute(x, labels, images)` for batches of one key, in memory that is used again in every run.

    graph: replay it on a GPU. `result` is what `compute` returned, and is overwritten by the next run.
    """

    def __init__(
        self, compute: Callable[[Array, Array, int], Array], batch: Batch, position: Array, graph: bool
    ) -> None:
        self._compute = compute
        self._batch = batch
        self._position = position
        self._arena = Arena()
        self._replay = Replay(self._work) if graph else None
        if graph and isinstance(batch, Given):
            # A graph knows one address only: what is given is brought there.
            static = (allocate(array.shape, array.dtype, like=array) for array in (batch.x, batch.labels))
            self._batch = Given(*static)
        self.result: Array = None

    def run(self, batch: Batch) -> bool:
        """Whether it was replayed, so that the host has seen nothing of it."""
        if self._replay is None:
            self._batch = batch
            self._work()
            return False
        if isinstance(batch, Given) and isinstance(self._batch, Given):
            self._batch.x[...], self._batch.labels[...] = batch.x, batch.labels
        replayed = self._replay.recorded
        self._replay()
        return replayed

    def _work(self) -> None:
        with self._arena.reused():
            self.result = self._compute(*self._batch.load(self._position), self._batch.shape[0])


def _refuse(size: int) -> NoReturn:
    raise RuntimeError(f"{size} bytes of device memory were asked for")


def _cuda() -> Any:
    return sys.modules["cupy"].cuda
