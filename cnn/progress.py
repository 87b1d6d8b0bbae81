"""How far a training step's work has come, in device memory, where replayed work reads and writes it."""

from __future__ import annotations

import numpy as np

from cnn.array import Array, namespace
from cnn.kernels.record import Record
from cnn.random import NumberedCalls

HISTORY = 1024  # losses that stay


class Progress:
    """The last losses, the number of steps, and the place in the epoch; the host keeps the same counts."""

    def __init__(self, like: Array) -> None:
        xp = namespace(like)
        self._history = xp.zeros(HISTORY, like.dtype)
        self._counts = xp.zeros(2, np.int32)
        self._steps = self._images = 0

    @property
    def position(self) -> Array:
        """int32 (1,): images of the epoch so far."""
        return self._counts[1:]

    def seek(self, first: int | None) -> None:
        """Go to place `first` of an epoch, or stay where that is None."""
        if first is not None and first != self._images:
            self._counts[1:].fill(first)
            self._images = first

    def record(self, loss: Array, images: int, calls: NumberedCalls | None) -> Record:
        """What ends a step of so many images on the device; calls: those of dropout in it. The host has counted it."""
        self.replayed(images)
        if calls is None or calls.made == 0:
            return Record(loss, self._history, self._counts, images)
        return Record(loss, self._history, self._counts, images, calls.state, calls.made)

    def replayed(self, images: int) -> None:
        """The end of a step that the device has recorded by itself."""
        self._steps += 1
        self._images += images

    def last(self, count: int) -> Array:
        """A copy of the last `count` losses, in their order. Raises ValueError for more than there are."""
        if not 0 <= count <= min(self._steps, HISTORY):
            raise ValueError(f"losses: count must lie in 0..{min(self._steps, HISTORY)}, got {count}")
        end = self._steps % HISTORY
        if count <= end:
            return self._history[end - count : end].copy()
        return namespace(self._history).concatenate([self._history[end - count :], self._history[:end]])
