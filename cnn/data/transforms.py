"""Changes to a batch of images (B, C, H, W): random crop, shift and flip, and y = (x - mean) / std.

The random ones are called as transform(images, rng) and return a new array of the same shape and dtype; they
draw one decision for each image, all at once, from `rng` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.data.dataset import Dataset

# Pixels looked at in one go by Normalize.of: about 8 MiB in the widest temporary array.
CHUNK_PIXELS = 1 << 20


@dataclass(frozen=True)
class RandomCrop:
    """Pads with zeros by `padding` on every side and cuts the original size out at a random place.

    As torchvision's RandomCrop(size, padding=padding) with the size of the image. Usual for CIFAR is 4.
    """

    padding: int

    def __post_init__(self) -> None:
        _check_pixels("RandomCrop: padding", self.padding)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        return _random_windows(images, rng, self.padding, self.padding)


@dataclass(frozen=True)
class RandomShift:
    """Moves each image by up to `pixels` in both directions and fills with zeros.

    pixels: an int, or (vertical, horizontal). With one int it draws what RandomCrop(pixels) draws.
    """

    pixels: int | tuple[int, int]

    def __post_init__(self) -> None:
        for pixels in self._pair():
            _check_pixels("RandomShift: pixels", pixels)

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        return _random_windows(images, rng, *self._pair())

    def _pair(self) -> tuple[int, int]:
        return self.pixels if isinstance(self.pixels, tuple) else (self.pixels, self.pixels)


@dataclass(frozen=True)
class RandomFlip:
    """Mirrors each image, left to right, with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"RandomFlip: p is a probability, 0 to 1, not {self.p}")

    def __call__(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        flipped = rng.random(len(images)) < self.p
        return np.where(flipped[:, np.newaxis, np.newaxis, np.newaxis], images[..., ::-1], images)


@dataclass(frozen=True)
class Normalize:
    """(x - mean) / std for each channel, where the values 0..255 of uint8 images are first divided by 255.

    So mean and std of uint8 images are those of images / 255: 0.1307 and 0.3081 for MNIST. float32 images are
    taken as they are. `Normalize.of` measures both on a data set. Raises ValueError unless mean and std are
    finite, equally many (one for each channel), and std above zero.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"Normalize: {len(self.mean)} means and {len(self.std)} standard deviations")
        if not all(math.isfinite(mean) for mean in self.mean):
            raise ValueError(f"Normalize: mean {self.mean} is not finite")
        if not all(math.isfinite(std) and std > 0 for std in self.std):
            raise ValueError(f"Normalize: std {self.std} is not finite and above zero")

    @classmethod
    def of(cls, dataset: Dataset) -> Normalize:
        """Mean and standard deviation (that of all N * H * W pixels) of each channel of `dataset`.

        Exact to rounding: uint8 images are summed in integers, float32 ones in float64. A channel that is the
        same everywhere gets std 1. Raises ValueError for a data set without images, or with values that are
        not finite.
        """
        if len(dataset) == 0:
            raise ValueError("Normalize.of: the data set has no images")
        mean, variance = _moments(dataset)
        return cls(tuple(mean), tuple(math.sqrt(value) if value > 0 else 1.0 for value in variance))

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """float32 (B, C, H, W), new and C-contiguous, from uint8 or float32 images of that shape."""
        if images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(f"Normalize: {len(self.mean)} channels, but images have shape {images.shape}")
        mean, std = np.array(self.mean), np.array(self.std)
        unit = pixel_unit(images)
        centre = (mean / unit).astype(np.float32)[:, np.newaxis, np.newaxis]
        scale = (unit / std).astype(np.float32)[:, np.newaxis, np.newaxis]
        result: NDArray[np.float32] = np.subtract(images, centre, dtype=np.float32, order="C")
        result *= scale
        return result

    def to_dict(self) -> dict[str, list[float]]:
        """For JSON, which keeps every bit of a Python float."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Normalize:
        """The inverse of `to_dict`. Raises ValueError for anything that it does not write."""
        try:
            return cls(tuple(float(mean) for mean in data["mean"]), tuple(float(std) for std in data["std"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"Normalize: wanted is {{'mean': [...], 'std': [...]}}, not {data!r:.80}") from error


def pixel_unit(images: NDArray[Any]) -> float:
    """What a value of 1 in `images` stands for: 1/255 for uint8, 1 for float32; else a ValueError."""
    if images.dtype == np.uint8:
        return 1 / 255
    if images.dtype == np.float32:
        return 1.0
    raise ValueError(f"images are uint8 or float32, not {images.dtype}")


def to_float(images: NDArray[Any]) -> NDArray[np.float32]:
    """float32 of the same shape, new and C-contiguous: uint8 divided by 255, float32 copied."""
    unit = np.float32(pixel_unit(images))
    result: NDArray[np.float32] = np.multiply(images, unit, dtype=np.float32, order="C")
    return result


def _check_pixels(what: str, pixels: int) -> None:
    if not isinstance(pixels, int) or pixels < 0:
        raise ValueError(f"{what} is a whole number of pixels, 0 or more, not {pixels!r}")


def _random_windows(images: NDArray[Any], rng: np.random.Generator, vertical: int, horizontal: int) -> NDArray[Any]:
    """Each image through a window of its own size, anywhere on it with zeros around."""
    count, channels, height, width = images.shape
    top = rng.integers(0, 2 * vertical, size=count, endpoint=True)
    left = rng.integers(0, 2 * horizontal, size=count, endpoint=True)
    padded = np.zeros((count, channels, height + 2 * vertical, width + 2 * horizontal), dtype=images.dtype)
    padded[:, :, vertical : vertical + height, horizontal : horizontal + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(windows[np.arange(count), :, top, left])


def _moments(dataset: Dataset) -> tuple[list[float], list[float]]:
    """Mean and variance of each channel, in the unit of `Normalize`."""
    channels, height, width = dataset.image_shape
    pixels = len(dataset) * height * width
    if dataset.images.dtype == np.uint8:
        totals, squares = np.zeros(channels, dtype=np.uint64), np.zeros(channels, dtype=np.uint64)
        for chunk in _chunks(dataset):
            totals += chunk.sum(axis=(0, 2, 3), dtype=np.uint64)
            # 255 squared still fits in 16 bits.
            squares += np.square(chunk, dtype=np.uint16).sum(axis=(0, 2, 3), dtype=np.uint64)
        # In Python's integers, since pixels * squares and totals * totals can pass 2^64; only the division
        # rounds.
        pairs = [(int(total), int(square)) for total, square in zip(totals, squares, strict=True)]
        mean = [total / (255 * pixels) for total, _ in pairs]
        return mean, [(pixels * square - total * total) / (255 * pixels) ** 2 for total, square in pairs]
    sums = np.zeros(channels)
    for chunk in _chunks(dataset):
        sums += chunk.sum(axis=(0, 2, 3), dtype=np.float64)
    means = sums / pixels
    if not np.isfinite(means).all():
        raise ValueError("Normalize.of: images have values that are not finite")
    # A second pass: the difference of two large sums would lose the variance of images far from zero.
    deviations = np.zeros(channels)
    for chunk in _chunks(dataset):
        deviations += np.square(chunk - means[:, np.newaxis, np.newaxis]).sum(axis=(0, 2, 3))
    return [float(value) for value in means], [float(value) for value in deviations / pixels]


def _chunks(dataset: Dataset) -> Iterator[NDArray[Any]]:
    step = max(1, CHUNK_PIXELS // math.prod(dataset.image_shape))
    for begin in range(0, len(dataset), step):
        yield dataset.images[begin : begin + step]
