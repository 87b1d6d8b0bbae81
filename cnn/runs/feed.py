"""Mini-batches where they are computed on.

A data set of bytes goes to a GPU once and whole, and each batch is gathered and normalised there: nothing crosses over
from step to step. One that does not fit, or is augmented, is streamed. The order is that of `cnn.data.Batches`, and so
are the numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnn import kernels
from cnn.array import Array, free_memory, move
from cnn.batch import Batch, Given
from cnn.data import Batches
from cnn.runs.streamed import Streamed


class Feed(Protocol):
    """What `feed` gives: `epoch(number, start)` as `Batches.epoch`, of batches on the device."""

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]: ...


def feed(batches: Batches, device: str) -> Feed:
    """`batches` on `device`. Those that are augmented, or not of bytes, are made on the host."""
    if device == "cpu":
        return Hosted(batches)
    images = batches.dataset.images
    # The other half is for the network, which needs more than its weights.
    resident = images.dtype == np.uint8 and not batches.augment and images.nbytes <= free_memory() // 2
    return Resident(batches, device) if resident else Streamed(batches)


class Hosted:
    """Batches on the host."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        return (Given(x, labels) for x, labels in self._batches.epoch(number, start))


class Resident:
    """Batches gathered on the device from all images, which are uint8 and not augmented."""

    def __init__(self, batches: Batches, device: str) -> None:
        dataset, normalize = batches.dataset, batches.normalize
        channels = dataset.image_shape[0]
        self.device = device
        self.images = move(np.ascontiguousarray(dataset.images), device)
        self.labels = move(np.ascontiguousarray(dataset.labels), device)
        self.order = move(np.zeros(len(dataset), np.int64), device)
        self.mean = (0.0,) * channels if normalize is None else normalize.mean
        self.std = (1.0,) * channels if normalize is None else normalize.std
        self._batches = batches

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch at a time: the device knows one order."""
        batches = self._batches
        order = batches.order(number)
        self.order[...] = move(order, self.device)
        for batch in range(start, len(batches)):
            part = batches.part(batch)
            picked = order[part]
            yield Place(self, part.start, len(picked), batches.dataset.labels[picked])


@dataclass(frozen=True, eq=False)
class Place:
    """A batch of `size` from place `first` of a resident epoch on. labels: on the host."""

    feed: Resident
    first: int
    size: int
    labels: Array

    @property
    def device(self) -> str:
        return self.feed.device

    @property
    def key(self) -> Hashable:
        return id(self.feed), self.size

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size, *self.feed.images.shape[1:])

    def load(self, position: Array) -> tuple[Array, Array]:
        feed = self.feed
        return kernels.gather_next(feed.images, feed.labels, feed.order, position, self.size, feed.mean, feed.std)
