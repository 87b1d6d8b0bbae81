"""From a picture of any size and mode to a network's input, and to class probabilities.

In this order:

1. turned upright as its EXIF says; of several frames the first;
2. 16-bit grey (and 32-bit integers, which hold such) divided by 257; floats times 255 if none is above 1; clipped;
3. transparency composited on white;
4. grey (ITU-R 601 luma) for one-channel networks, RGB for three-channel ones;
5. inverted, if asked to: `--invert auto` does so for one-channel networks only, and only if their training images had
   a clearly dark (light) border, its mean below a quarter (above three), and this picture's border is on the other
   side of middle grey: a digit in ink on paper, for a network trained on MNIST's white on black;
6. scaled (bilinear, antialiased) to fit the input with its aspect kept, centred, and padded with the mean of its own
   border; a picture of the input's size is left as it is;
7. divided by 255 and normalised as the training images were.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cnn.array import move
from cnn.layers import Layer
from cnn.runs.evaluate import log_softmax
from cnn.runs.network import Network

INVERSIONS = ("auto", "yes", "no")
DARK, LIGHT = 0.25, 0.75

# What Pillow is known to raise for files that are damaged, absurd or no pictures.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class UnreadablePicture(ValueError):
    """A file that no picture can be read from."""


def read_picture(path: str | Path, network: Network, invert: str = "auto") -> NDArray[np.uint8]:
    """The picture at `path` as the input (C, H, W) of `network`, before normalisation.

    Raises `UnreadablePicture` with the path, ValueError for a network that takes no pictures.
    """
    channels, height, width = network.input_shape
    check_takes_pictures(network)
    try:
        with Image.open(path) as file:
            picture = _flatten(ImageOps.exif_transpose(file))
    except UNREADABLE as error:
        raise UnreadablePicture(f"{path}: not a readable picture: {error}") from error
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    if invert == "yes" or (invert == "auto" and _other_side(_border(pixels).mean() / 255, network)):
        pixels = 255 - pixels
    return _fit(pixels, height, width).reshape(height, width, channels).transpose(2, 0, 1)


def predict(model: Layer, network: Network, pictures: NDArray[np.uint8], device: str = "cpu") -> NDArray[np.float64]:
    """Class probabilities (N, classes) of pictures (N, C, H, W), from `read_picture`; `model` is in eval mode."""
    x = move(network.normalize(pictures), device)
    return np.exp(log_softmax(move(model(x), "cpu")))


def check_takes_pictures(network: Network) -> None:
    """Raises ValueError unless the network's images were like pictures: one or three channels, values in 0..1."""
    if network.input_shape[0] not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, the network's input has {network.input_shape[0]}")
    if network.low < 0 or network.high > 1:
        raise ValueError(
            f"a picture's values lie in 0..1, the network's training images had {network.low:.4g}..{network.high:.4g}"
        )


def _flatten(picture: Image.Image) -> Image.Image:
    """8 bits a channel, no transparency."""
    if picture.mode.startswith("I"):
        return Image.fromarray(np.clip(np.asarray(picture) / 257 + 0.5, 0, 255).astype(np.uint8))
    if picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture))
        return Image.fromarray(np.clip(values * (255 if values.max() <= 1 else 1) + 0.5, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    return picture.convert("RGB")


def _other_side(border: float, network: Network) -> bool:
    if network.input_shape[0] != 1:
        return False
    return (network.border < DARK and border > 0.5) or (network.border > LIGHT and border < 0.5)


def _border(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The outermost pixels (n,) or (n, 3) of (H, W) or (H, W, 3)."""
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    inside[1:-1, 1:-1] = True
    return pixels[~inside]


def _fit(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(height / pixels.shape[0], width / pixels.shape[1])
    rows, columns = (max(1, round(size * scale)) for size in pixels.shape[:2])
    scaled = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
    fitted = np.empty((height, width, *pixels.shape[2:]), dtype=np.uint8)
    fitted[:] = np.round(_border(pixels).mean(axis=0)).astype(np.uint8)
    top, left = (height - rows) // 2, (width - columns) // 2
    fitted[top : top + rows, left : left + columns] = scaled
    return fitted
