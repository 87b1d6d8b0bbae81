"""Batches on the device: the same ones, in the same order, whatever way they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn.data import Batches, Dataset, Normalize, RandomShift
from cnn.runs import feed as feeds
from cnn.runs.feed import Feed, Moved, Resident, feed

RNG = np.random.default_rng(0)
DATASET = Dataset(RNG.integers(0, 256, (23, 3, 5, 4), dtype=np.uint8), RNG.integers(0, 7, 23), tuple("abcdefg"))
NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


@pytest.mark.parametrize("kind", [Moved, Resident])
@pytest.mark.parametrize("options", [{}, {"normalize": NORMALIZE, "drop_last": True}, {"shuffle": False}])
def test_the_batches_are_those_of_the_host(kind: Any, options: dict[str, Any]) -> None:
    batches = Batches(DATASET, 5, seed=3, **options)
    fed: Feed = kind(batches, "cpu")
    for epoch, start in ((0, 0), (1, 0), (1, 3)):
        expected = list(batches.epoch(epoch, start))
        found = list(fed.epoch(epoch, start))
        assert len(found) == len(expected) == len(batches) - start
        for (x, labels), (wanted_x, wanted_labels) in zip(found, expected, strict=True):
            assert (x.dtype, labels.dtype) == (np.float32, np.int64)
            np.testing.assert_array_equal(x, wanted_x)
            np.testing.assert_array_equal(labels, wanted_labels)


def test_images_that_do_not_lie_in_one_piece() -> None:
    every_other = Dataset(DATASET.images[::2, :, :, ::-1], DATASET.labels[::2], DATASET.classes)
    batches = Batches(every_other, 5)
    for (x, _), (wanted, _) in zip(Resident(batches, "cpu").epoch(0), batches.epoch(0), strict=True):
        np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("free", [2 * DATASET.images.nbytes, 2 * DATASET.images.nbytes - 1])
def test_bytes_stay_on_the_device_if_half_of_its_memory_holds_them(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    moved: list[Any] = []
    monkeypatch.setattr(feeds, "free_memory", lambda: free)
    monkeypatch.setattr(feeds, "move", lambda array, device: moved.append(device) or array)
    fits = free >= 2 * DATASET.images.nbytes
    assert type(feed(Batches(DATASET, 5), "cuda")) is (Resident if fits else Moved)
    assert moved == ["cuda"] * fits
    augmented = Batches(DATASET, 5, augment=[RandomShift(1)])
    floats = Dataset(DATASET.images.astype(np.float32), DATASET.labels, DATASET.classes)
    for batches, device in ((augmented, "cuda"), (Batches(floats, 5), "cuda"), (Batches(DATASET, 5), "cpu")):
        assert type(feed(batches, device)) is Moved
