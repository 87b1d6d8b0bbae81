"""Mini-batches where they are computed on.

A data set of bytes goes to a GPU once and whole, and each batch is gathered and normalised there: nothing crosses over
from step to step. The order is that of `cnn.data.Batches`, and so are the numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cnn import kernels
from cnn.array import Array, free_memory, move
from cnn.data import Batches


class Feed(Protocol):
    """What `feed` gives: `epoch(number, start)` as `Batches.epoch`, of arrays on the device."""

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Array, Array]]: ...


def feed(batches: Batches, device: str) -> Feed:
    """`batches` on `device`. Those that are augmented, or not of bytes, are made on the host."""
    images = batches.dataset.images
    # The other half is for the network, which needs more than its weights.
    resident = device == "cuda" and images.dtype == np.uint8 and not batches.augment
    return Resident(batches, device) if resident and images.nbytes <= free_memory() // 2 else Moved(batches, device)


class Moved:
    """Batches made on the host and moved one by one."""

    def __init__(self, batches: Batches, device: str) -> None:
        self._batches = batches
        self._device = device

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Array, Array]]:
        return ((move(x, self._device), move(labels, self._device)) for x, labels in self._batches.epoch(number, start))


class Resident:
    """Batches gathered on the device from all images, which are uint8 and not augmented."""

    def __init__(self, batches: Batches, device: str) -> None:
        self._batches = batches
        self._device = device
        self._images = move(np.ascontiguousarray(batches.dataset.images), device)
        channels = batches.dataset.image_shape[0]
        normalize = batches.normalize
        self._mean = (0.0,) * channels if normalize is None else normalize.mean
        self._std = (1.0,) * channels if normalize is None else normalize.std

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Array, Array]]:
        order = self._batches.order(number)
        labels = move(self._batches.dataset.labels[order], self._device)
        places = move(order, self._device)
        for batch in range(start, len(self._batches)):
            part = self._batches.part(batch)
            yield kernels.gather_batch(self._images, places[part], self._mean, self._std), labels[part]
