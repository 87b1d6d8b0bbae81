"""Mini-batches whose order and augmentation are functions of (seed, epoch, batch) and of nothing else.

    order of epoch e      = permutation(generator(seed, ORDER, e))
    augmentation of batch b in epoch e draws from     generator(seed, AUGMENT, e, b)

so there is no state to save: epoch(e, start=b) goes on, bit for bit, where a run stopped before batch b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cnn.data.dataset import Dataset
from cnn.data.transforms import Normalize, to_float

Transform: TypeAlias = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]
Batch: TypeAlias = tuple[NDArray[np.float32], NDArray[np.int64]]

# First element of the spawn key: keeps the streams of the two purposes apart.
ORDER, AUGMENT = 0, 1


class Batches:
    """Cuts a data set into mini-batches, epoch by epoch.

    batch_size: images of a batch, at least 1. The last batch of an epoch has what is left, or is dropped with
    `drop_last`. seed: 0 or more. shuffle: a new order in each epoch; without it the order of the data set.
    augment: called one after the other as transform(images, rng) on the images as they are stored, before
    normalisation. normalize: applied last; without it uint8 images are divided by 255 and float32 ones are as
    they are.

    Images are gathered, augmented and converted for one batch at a time: there is never a float copy of the
    data set.

    Raises ValueError for arguments outside of these ranges and where an epoch would have no batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        augment: Sequence[Transform] = (),
        normalize: Normalize | None = None,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {batch_size}")
        if seed < 0:
            raise ValueError(f"seed is 0 or more, not {seed}")
        if normalize is not None and len(normalize.mean) != dataset.image_shape[0]:
            raise ValueError(
                f"normalize has {len(normalize.mean)} channels, but images have shape {dataset.image_shape}"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.augment = tuple(augment)
        self.normalize = normalize
        self.drop_last = drop_last
        if len(self) == 0:
            raise ValueError(
                f"no batch in an epoch: {len(dataset)} images, batch_size {batch_size}, drop_last={drop_last}"
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` (0 or more) from batch `start` on: what comes before is not computed.

        Each is (images, labels): float32 (B, C, H, W), C-contiguous, and int64 (B,), both new arrays.

        Raises ValueError at once, not at the first batch, for `number` below 0 and `start` outside of
        0..len(self).
        """
        if number < 0:
            raise ValueError(f"the number of an epoch is 0 or more, not {number}")
        if not 0 <= start <= len(self):
            raise ValueError(f"start is 0 to {len(self)}, the number of batches, not {start}")
        return self._batches(number, start)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The order (N,) in which epoch `epoch` goes through the images."""
        count = len(self.dataset)
        return self._generator(ORDER, epoch).permutation(count) if self.shuffle else np.arange(count)

    def part(self, batch: int) -> slice:
        """Which part of that order batch `batch` is."""
        return slice(batch * self.batch_size, (batch + 1) * self.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.order(epoch)
        for batch in range(start, len(self)):
            picked = order[self.part(batch)]
            yield self._images(picked, epoch, batch), self.dataset.labels[picked]

    def _images(self, picked: NDArray[np.int64], epoch: int, batch: int) -> NDArray[np.float32]:
        images: NDArray[Any] = self.dataset.images[picked]
        if self.augment:
            rng = self._generator(AUGMENT, epoch, batch)
            for transform in self.augment:
                images = transform(images, rng)
            if len(images) != len(picked):
                raise ValueError(f"{self.augment} made {len(images)} images of {len(picked)}")
        return to_float(images) if self.normalize is None else self.normalize(images)

    def _generator(self, *key: int) -> np.random.Generator:
        # PCG64 by name: default_rng may stand for another one in a later NumPy.
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=key)))
