"""Batches made on the host and copied to the GPU while it computes on the ones before.

There are two places, each with page-locked memory on the host, from which a copy needs no help of the processor, and
memory on the device. While the step of one batch runs, the next one is made in, and copied from, the other place.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from cnn.batch import Batch, Given
from cnn.data import Batches

PLACES = 2


class Streamed:
    """The batches of `batches` on the GPU, in their order."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._stream = import_module("cupy").cuda.Stream(non_blocking=True)
        size = min(batches.batch_size, len(batches.dataset))
        self._places = [_Place((size, *batches.dataset.image_shape)) for _ in range(PLACES)]

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for count, (x, labels) in enumerate(self._batches.epoch(number, start)):
            place = self._places[count % PLACES]
            yield place.filled(x, labels, self._stream)
            # Only now has the step that reads this place been launched.
            place.used()


class _Place:
    def __init__(self, shape: tuple[int, ...]) -> None:
        cupy, pinned = import_module("cupy"), import_module("cupyx").empty_pinned
        self._current = cupy.cuda.get_current_stream
        self._host = pinned(shape, np.float32), pinned(shape[0], np.int64)
        self._device = cupy.empty(shape, np.float32), cupy.empty(shape[0], np.int64)
        self._copied, self._used = (cupy.cuda.Event(disable_timing=True) for _ in range(2))
        self._copied.record()
        self._used.record()

    def filled(self, x: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], stream: Any) -> Given:
        """The batch on the device, behind whatever the current stream does next."""
        self._copied.synchronize()  # the last copy still reads what is to be written
        stream.wait_event(self._used)
        parts = []
        for values, host, device in zip((x, labels), self._host, self._device, strict=True):
            host[: len(values)] = values
            part = device[: len(values)]
            part.set(host[: len(values)], stream=stream)
            parts.append(part)
        self._copied.record(stream)
        self._current().wait_event(self._copied)
        return Given(*parts)

    def used(self) -> None:
        """The current stream has been given all that reads this place."""
        self._used.record(self._current())
