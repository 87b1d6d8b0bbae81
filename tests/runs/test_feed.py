"""Batches on the device: the same ones, in the same order, whatever way they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn.batch import Batch
from cnn.data import Batches, Dataset, Normalize, RandomShift
from cnn.runs import feed as feeds
from cnn.runs.feed import Feed, Hosted, Resident, feed

RNG = np.random.default_rng(0)
DATASET = Dataset(RNG.integers(0, 256, (23, 3, 5, 4), dtype=np.uint8), RNG.integers(0, 7, 23), tuple("abcdefg"))
NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


def loaded(batch: Batch) -> tuple[Any, Any]:
    """Images and labels, with what `Batch.load` is promised."""
    return batch.load(np.array([batch.first or 0], np.int32))


@pytest.mark.parametrize("kind", [lambda batches, _device: Hosted(batches), Resident], ids=["hosted", "resident"])
@pytest.mark.parametrize("options", [{}, {"normalize": NORMALIZE, "drop_last": True}, {"shuffle": False}])
def test_the_batches_are_those_of_the_host(kind: Any, options: dict[str, Any]) -> None:
    batches = Batches(DATASET, 5, seed=3, **options)
    fed: Feed = kind(batches, "cpu")
    for epoch, start in ((0, 0), (1, 0), (1, 3)):
        expected = list(batches.epoch(epoch, start))
        found = list(fed.epoch(epoch, start))
        assert len(found) == len(expected) == len(batches) - start
        for batch, (wanted_x, wanted_labels) in zip(found, expected, strict=True):
            x, labels = loaded(batch)
            assert batch.shape == x.shape
            np.testing.assert_array_equal(batch.labels, wanted_labels)
            assert (x.dtype, labels.dtype) == (np.float32, np.int64)
            np.testing.assert_array_equal(x, wanted_x)
            np.testing.assert_array_equal(labels, wanted_labels)


def test_images_that_do_not_lie_in_one_piece() -> None:
    every_other = Dataset(DATASET.images[::2, :, :, ::-1], DATASET.labels[::2], DATASET.classes)
    batches = Batches(every_other, 5)
    for batch, (wanted, _) in zip(Resident(batches, "cpu").epoch(0), batches.epoch(0), strict=True):
        np.testing.assert_array_equal(loaded(batch)[0], wanted)


@pytest.mark.parametrize("free", [2 * DATASET.images.nbytes, 2 * DATASET.images.nbytes - 1])
def test_bytes_stay_on_the_device_if_half_of_its_memory_holds_them(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    moved: list[Any] = []
    streamed = object()
    monkeypatch.setattr(feeds, "Streamed", lambda _batches: streamed)
    monkeypatch.setattr(feeds, "free_memory", lambda: free)
    monkeypatch.setattr(feeds, "move", lambda array, device: moved.append(device) or array)
    fits = free >= 2 * DATASET.images.nbytes
    fed = feed(Batches(DATASET, 5), "cuda")
    assert isinstance(fed, Resident) if fits else fed is streamed
    assert moved == ["cuda"] * 3 * fits  # images, labels and order
    augmented = Batches(DATASET, 5, augment=[RandomShift(1)])
    floats = Dataset(DATASET.images.astype(np.float32), DATASET.labels, DATASET.classes)
    for batches in (augmented, Batches(floats, 5)):
        assert feed(batches, "cuda") is streamed
    assert isinstance(feed(Batches(DATASET, 5), "cpu"), Hosted)
