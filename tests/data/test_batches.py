"""Mini-batches: every image once an epoch, resumed epochs bit for bit, and no float copy of the data set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.data.batches import Batches
from cnn.data.dataset import Dataset
from cnn.data.transforms import Normalize, RandomCrop, RandomFlip, RandomShift

AUGMENT = (RandomCrop(1), RandomFlip(), RandomShift((0, 2)))


def numbered(count: int, dtype: str = "uint8") -> Dataset:
    """Image i is i everywhere (255 at most), and its label is i."""
    images = np.broadcast_to(np.arange(count).astype(dtype).reshape(-1, 1, 1, 1), (count, 2, 4, 5)).copy()
    return Dataset(images, np.arange(count), tuple(str(number) for number in range(count)))


def patterned(count: int) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (count, 2, 6, 5), dtype=np.uint8)
    return Dataset(images, np.arange(count) % 3, ("a", "b", "c"))


def labels_of(batches: Batches, epoch: int) -> list[int]:
    return [int(label) for _, labels in batches.epoch(epoch) for label in labels]


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    epoch=st.integers(0, 2**33),
    seed=st.integers(0, 2**64),
    shuffle=st.booleans(),
)
def test_every_image_exactly_once_an_epoch(count, batch_size, epoch, seed, shuffle):
    batches = Batches(numbered(count), batch_size, seed=seed, shuffle=shuffle)
    sizes = []
    seen = []
    for images, labels in batches.epoch(epoch):
        assert images.shape == (len(labels), 2, 4, 5)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        # Image and label still belong together.
        np.testing.assert_allclose(images[:, 1, 3, 4] * 255, labels, atol=1e-4)
        sizes.append(len(labels))
        seen += labels.tolist()
    assert sorted(seen) == list(range(count))
    assert len(sizes) == len(batches)
    assert all(size == batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size
    assert shuffle or seen == list(range(count))


def test_drop_last():
    batches = Batches(numbered(23), 5, drop_last=True)
    assert [len(labels) for _, labels in batches.epoch(0)] == [5, 5, 5, 5]
    assert len(batches) == 4
    assert len(set(labels_of(batches, 0))) == 20
    assert len(Batches(numbered(20), 5, drop_last=True)) == len(Batches(numbered(20), 5)) == 4


def test_epochs_and_seeds_differ():
    batches = Batches(numbered(50), 8, seed=1)
    orders = [labels_of(batches, epoch) for epoch in range(5)]
    orders += [labels_of(Batches(numbered(50), 8, seed=seed), 0) for seed in (0, 2, 3)]
    assert len({tuple(order) for order in orders}) == len(orders)
    assert labels_of(Batches(numbered(50), 8, seed=1), 3) == orders[3]
    # The order does not depend on how it is cut.
    assert labels_of(Batches(numbered(50), 7, seed=1), 3) == orders[3]


def test_the_order_is_the_one_that_numpy_gives_for_the_seed():
    """Runs can be resumed by later versions of the library, too: what (seed, epoch) stands for is fixed."""
    sequence = np.random.SeedSequence(5, spawn_key=(0, 2))
    expected = np.random.Generator(np.random.PCG64(sequence)).permutation(40)
    assert labels_of(Batches(numbered(40), 8, seed=5), 2) == expected.tolist()


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_resumed_epoch_is_the_tail_of_the_straight_one(start, drop_last):
    dataset = patterned(61)

    def fresh() -> Batches:
        return Batches(
            dataset,
            8,
            seed=3,
            augment=AUGMENT,
            normalize=Normalize((0.4, 0.5), (0.3, 0.2)),
            drop_last=drop_last,
        )

    if start > len(fresh()):
        return
    straight = list(fresh().epoch(2))[start:]
    resumed = list(fresh().epoch(2, start))
    assert len(straight) == len(resumed) == len(fresh()) - start
    for (images, labels), (images_again, labels_again) in zip(straight, resumed, strict=True):
        assert images.tobytes() == images_again.tobytes()
        assert labels.tobytes() == labels_again.tobytes()


def test_what_is_skipped_is_not_computed():
    calls = []

    def count(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        calls.append(len(images))
        return images

    batches = Batches(patterned(40), 8, augment=[count])
    assert len(list(batches.epoch(0, start=4))) == 1
    assert calls == [8]


def test_augmentation_has_its_own_stream_for_each_batch():
    draws = []

    def draw(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        draws.append(rng.integers(0, 2**63))
        return images

    for seed in (0, 1):
        batches = Batches(patterned(40), 8, seed=seed, augment=[draw, draw], shuffle=False)
        for epoch in (0, 1):
            list(batches.epoch(epoch))
    assert len(set(draws)) == len(draws) == 2 * 2 * 5 * 2


def test_augmentation_sees_stored_images_before_normalisation():
    seen = []

    def look(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append((images.dtype, images.shape))
        return images

    list(Batches(patterned(8), 8, augment=[look], normalize=Normalize((0.4, 0.5), (0.3, 0.2))).epoch(0))
    assert seen == [(np.dtype(np.uint8), (8, 2, 6, 5))]


def test_values():
    dataset = patterned(10)
    (images, _), *_ = Batches(dataset, 10, shuffle=False).epoch(0)
    np.testing.assert_allclose(images, dataset.images / 255, rtol=1e-6)
    normalize = Normalize.of(dataset)
    (images, _), *_ = Batches(dataset, 10, shuffle=False, normalize=normalize).epoch(0)
    mean, std = np.array(normalize.mean).reshape(2, 1, 1), np.array(normalize.std).reshape(2, 1, 1)
    np.testing.assert_allclose(images, (dataset.images / 255 - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", [None, Normalize((0.0, 0.0), (1.0, 1.0))])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_can_be_written_to(normalize, shuffle):
    dataset = numbered(12, "float32")
    original = dataset.images.copy()
    for images, labels in Batches(dataset, 4, shuffle=shuffle, normalize=normalize).epoch(0):
        images[:] = np.nan
        labels[:] = -1
    np.testing.assert_array_equal(dataset.images, original)
    np.testing.assert_array_equal(dataset.labels, np.arange(12))


def test_images_in_another_memory_order():
    dataset = patterned(12)
    channels_last = dataset.images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    other = Dataset(channels_last, dataset.labels, dataset.classes)
    for augment in ((), AUGMENT):
        pairs = zip(
            Batches(dataset, 5, augment=augment).epoch(0),
            Batches(other, 5, augment=augment).epoch(0),
            strict=True,
        )
        for (images, _), (images_again, _) in pairs:
            assert images_again.flags.c_contiguous
            np.testing.assert_array_equal(images, images_again)


def test_there_is_never_a_float_copy_of_the_data_set(peak_memory):
    dataset = Dataset(np.zeros((4000, 1, 64, 64), dtype=np.uint8), np.zeros(4000, dtype=np.int64), ("only",))
    batches = Batches(dataset, 32, augment=[RandomCrop(2)], normalize=Normalize((0.5,), (0.5,)))

    def first_batches() -> None:
        epoch = batches.epoch(0)
        for _ in range(5):
            next(epoch)

    assert peak_memory(first_batches) < 4 << 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is at least 1, not 0"),
        ({"batch_size": 4, "seed": -1}, "seed is 0 or more, not -1"),
        (
            {"batch_size": 11, "drop_last": True},
            "no batch in an epoch: 10 images, batch_size 11, drop_last=True",
        ),
        (
            {"batch_size": 4, "normalize": Normalize((0.5,), (0.5,))},
            r"1 channels, but images have shape \(2, 4, 5\)",
        ),
    ],
)
def test_unsuitable_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(numbered(10), **arguments)


def test_an_empty_data_set():
    with pytest.raises(ValueError, match="no batch in an epoch: 0 images"):
        Batches(numbered(10).subset([]), 4)


def test_unsuitable_epochs_are_told_at_once():
    batches = Batches(numbered(10), 4)
    with pytest.raises(ValueError, match="the number of an epoch is 0 or more, not -1"):
        batches.epoch(-1)
    for start in (-1, 4):
        with pytest.raises(ValueError, match=f"start is 0 to 3, the number of batches, not {start}"):
            batches.epoch(0, start)
    assert list(batches.epoch(0, 3)) == []


def test_an_augmentation_that_loses_images():
    batches = Batches(numbered(10), 4, augment=[lambda images, rng: images[:-1]])
    with pytest.raises(ValueError, match="made 3 images of 4"):
        next(batches.epoch(0))
