"""Where a step gets its images and labels from, seen so that it can be replayed."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from cnn.array import Array, device_of


class Batch(Protocol):
    """A mini-batch. Those with the same key differ in nothing but what they hold, and the place `first`.

    device: where it is computed on. shape: of the images (N, ...). first: where the batch lies in its epoch, or None
    where `load` does not ask for it. labels: (N,), wherever they lie.
    """

    @property
    def device(self) -> str: ...

    @property
    def key(self) -> Hashable: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def first(self) -> int | None: ...

    @property
    def labels(self) -> Array: ...

    def load(self, position: Array) -> tuple[Array, Array]:
        """Images and labels where they are computed on. position: int32 (1,), holds `first` when the work runs."""
        ...


@dataclass(frozen=True, eq=False)
class Given:
    """A batch that is there already: images x (N, ...) and their labels (N,), or whatever the loss compares with."""

    x: Array
    labels: Array

    @property
    def device(self) -> str:
        return device_of(self.x)

    @property
    def key(self) -> Hashable:
        return self.device, self.x.shape, self.x.dtype, self.labels.shape, self.labels.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape)

    @property
    def first(self) -> None:
        return None

    def load(self, position: Array) -> tuple[Array, Array]:
        return self.x, self.labels
