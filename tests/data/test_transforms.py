"""Crops, shifts, flips and normalisation against plain loops, and MNIST's published mean and deviation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cnn.data.bundled import load_bundled_mnist
from cnn.data.dataset import Dataset
from cnn.data.transforms import Normalize, RandomCrop, RandomFlip, RandomShift, to_float


def images_of(dtype: str, count: int = 200) -> np.ndarray:
    # No zeros, so that what was filled in shows.
    return np.random.default_rng(3).integers(1, 256, (count, 2, 5, 7)).astype(dtype)


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """One image moved, by the definition."""
    result = np.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("transform", "down", "right"),
    [(RandomCrop(2), 2, 2), (RandomShift(1), 1, 1), (RandomShift((0, 3)), 0, 3), (RandomShift((3, 4)), 3, 4)],
)
def test_every_result_is_a_shift_and_every_shift_occurs(transform, down, right, dtype):
    # So many that any one of the shifts is left out with a probability of e^-20.
    images = images_of(dtype, 20 * (2 * down + 1) * (2 * right + 1))
    original = images.copy()
    results = transform(images, rng())
    assert results.shape == images.shape
    assert results.dtype == images.dtype
    np.testing.assert_array_equal(images, original)
    seen = set()
    for image, result in zip(images, results, strict=True):
        fits = [
            (vertical, horizontal)
            for vertical in range(-down, down + 1)
            for horizontal in range(-right, right + 1)
            if np.array_equal(result, shifted(image, vertical, horizontal))
        ]
        assert fits
        seen.update(fits)
    assert len(seen) == (2 * down + 1) * (2 * right + 1)


def test_no_shift_is_the_same_image():
    images = images_of("uint8")
    np.testing.assert_array_equal(RandomCrop(0)(images, rng()), images)
    np.testing.assert_array_equal(RandomShift(0)(images, rng()), images)


def test_flip():
    images = images_of("uint8", 1000)
    results = RandomFlip()(images, rng())
    mirrored = np.array(
        [np.array_equal(result, image[:, :, ::-1]) for image, result in zip(images, results, strict=True)]
    )
    same = np.array([np.array_equal(result, image) for image, result in zip(images, results, strict=True)])
    assert (mirrored ^ same).all()
    assert 400 < mirrored.sum() < 600
    np.testing.assert_array_equal(RandomFlip(0)(images, rng()), images)
    np.testing.assert_array_equal(RandomFlip(1)(images, rng()), images[:, :, :, ::-1])
    assert results.dtype == np.uint8


@pytest.mark.parametrize("transform", [RandomCrop(2), RandomFlip(), RandomShift((1, 2))])
def test_the_generator_decides(transform):
    images = images_of("uint8")
    first = transform(images, np.random.default_rng(1))
    np.testing.assert_array_equal(first, transform(images, np.random.default_rng(1)))
    assert not np.array_equal(first, transform(images, np.random.default_rng(2)))


@pytest.mark.parametrize("transform", [RandomCrop(2), RandomFlip(), RandomShift(2)])
def test_an_empty_batch(transform):
    assert transform(images_of("float32", 0), rng()).shape == (0, 2, 5, 7)


@pytest.mark.parametrize("make", [lambda: RandomCrop(-1), lambda: RandomShift((0, -1)), lambda: RandomCrop(1.5)])
def test_unsuitable_pixels(make):
    with pytest.raises(ValueError, match="a whole number of pixels, 0 or more"):
        make()


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_unsuitable_probability(p):
    with pytest.raises(ValueError, match="a probability, 0 to 1"):
        RandomFlip(p)


def test_mnist_has_the_published_mean_and_deviation():
    normalize = Normalize.of(load_bundled_mnist("train"))
    assert [round(mean, 4) for mean in normalize.mean] == [0.1307]
    assert [round(std, 4) for std in normalize.std] == [0.3081]


def dataset_of(images: np.ndarray) -> Dataset:
    return Dataset(images, np.zeros(len(images), dtype=np.int64), ("only",))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_moments_of_each_channel(monkeypatch, dtype):
    monkeypatch.setattr("cnn.data.transforms.CHUNK_PIXELS", 1000)
    images = images_of(dtype)
    images[:, 1] //= 3
    normalize = Normalize.of(dataset_of(images))
    unit = 255 if dtype == "uint8" else 1
    np.testing.assert_allclose(normalize.mean, images.astype(float).mean(axis=(0, 2, 3)) / unit, rtol=1e-14)
    np.testing.assert_allclose(normalize.std, images.astype(float).std(axis=(0, 2, 3)) / unit, rtol=1e-13)


def test_moments_far_from_zero():
    images = (10_000 + np.arange(64) % 2).astype(np.float32).reshape(4, 1, 4, 4)
    assert Normalize.of(dataset_of(images)) == Normalize((10_000.5,), (0.5,))


def test_a_constant_channel_stays_finite():
    images = images_of("uint8")
    images[:, 0] = 51
    normalize = Normalize.of(dataset_of(images))
    assert normalize.mean[0] == 0.2
    assert normalize.std[0] == 1.0
    np.testing.assert_allclose(normalize(images)[:, 0], 0, atol=1e-7)


def test_moments_that_do_not_exist():
    with pytest.raises(ValueError, match="has no images"):
        Normalize.of(dataset_of(images_of("uint8", 0)))
    images = images_of("float32")
    images[3, 1, 2, 2] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        Normalize.of(dataset_of(images))


def test_moments_make_no_float_copy(peak_memory):
    dataset = dataset_of(np.zeros((2000, 3, 64, 64), dtype=np.uint8))
    assert peak_memory(lambda: Normalize.of(dataset)) < 12 << 20


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_normalisation(dtype):
    images = images_of(dtype)
    normalize = Normalize((0.4, 0.6), (0.25, 0.5))
    result = normalize(images)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    scaled = images.astype(float) / (255 if dtype == "uint8" else 1)
    for channel, (mean, std) in enumerate([(0.4, 0.25), (0.6, 0.5)]):
        np.testing.assert_allclose(result[:, channel], (scaled[:, channel] - mean) / std, rtol=1e-6, atol=1e-6)


def test_normalised_images_are_normal():
    dataset = dataset_of(images_of("uint8"))
    result = Normalize.of(dataset)(dataset.images).astype(float)
    np.testing.assert_allclose(result.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=(0, 2, 3)), 1, atol=1e-6)


def test_to_float():
    images = np.array([0, 51, 255], dtype=np.uint8).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(to_float(images).ravel(), [0, 0.2, 1], rtol=1e-7)
    floats = images_of("float32")
    assert not np.shares_memory(to_float(floats), floats)
    np.testing.assert_array_equal(to_float(floats), floats)
    with pytest.raises(ValueError, match="uint8 or float32, not int16"):
        to_float(images.astype(np.int16))


def test_normalisation_from_fortran_order():
    images = np.asfortranarray(images_of("uint8"))
    normalize = Normalize((0.5, 0.5), (1.0, 1.0))
    assert normalize(images).flags.c_contiguous
    assert to_float(images).flags.c_contiguous
    np.testing.assert_array_equal(normalize(images), normalize(np.ascontiguousarray(images)))


def test_normalisation_of_other_channels():
    with pytest.raises(ValueError, match=r"1 channels, but images have shape \(200, 2, 5, 7\)"):
        Normalize((0.5,), (1.0,))(images_of("uint8"))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((), (), "0 means"),
        ((0.1,), (0.1, 0.2), "1 means and 2 standard deviations"),
        ((0.1,), (0.0,), "std .* above zero"),
        ((0.1,), (-1.0,), "std .* above zero"),
        ((0.1,), (float("inf"),), "std .* not finite"),
        ((float("nan"),), (1.0,), "mean .* not finite"),
    ],
)
def test_unsuitable_moments(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)


def test_json_keeps_every_bit():
    normalize = Normalize((0.1, 1 / 3), (0.2, 2 / 3))
    assert Normalize.from_dict(json.loads(json.dumps(normalize.to_dict()))) == normalize


@pytest.mark.parametrize("data", [{}, {"mean": [0.1]}, {"mean": 0.1, "std": 1.0}, {"mean": [None], "std": [1.0]}, []])
def test_unsuitable_dict(data):
    with pytest.raises(ValueError, match="wanted is"):
        Normalize.from_dict(data)
