"""Pictures of every size and mode become what the network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnn
from cnn.data import Normalize
from cnn.runs.network import Network
from cnn.runs.predict import UnreadablePicture, predict, read_picture

RAMP = np.arange(0, 240, 15, dtype=np.uint8).reshape(4, 4)


def network(channels: int = 1, size: int = 4, **changes: Any) -> Network:
    facts = {
        "model": "lenet5",
        "input_shape": (channels, size, size),
        "classes": ("a", "b"),
        "normalize": Normalize((0.5,) * channels, (0.25,) * channels),
        "border": 0.5,
        "low": 0.0,
        "high": 1.0,
    }
    return Network(**{**facts, **changes})


def read(path: Path, picture: Image.Image, to: Network, invert: str = "no", **options: Any) -> np.ndarray[Any, Any]:
    picture.save(path, **options)
    return read_picture(path, to, invert)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(RAMP),
        Image.fromarray(RAMP.astype(np.uint16) * 257),
        Image.fromarray(RAMP).convert("RGB"),
        Image.fromarray(RAMP).convert("RGBA"),
        Image.fromarray(RAMP).convert("LA"),
        Image.fromarray(RAMP).convert("P"),
    ],
    ids=lambda picture: picture.mode,
)
def test_grey_pictures_of_the_right_size_stay_as_they_are(tmp_path: Path, picture: Image.Image) -> None:
    assert read(tmp_path / "x.png", picture, network()).tolist() == [RAMP.tolist()]


@pytest.mark.parametrize("scale", [1.0, 1 / 255], ids=["0..255", "0..1"])
def test_floats(tmp_path: Path, scale: float) -> None:
    picture = Image.fromarray(RAMP * np.float32(scale))
    assert read(tmp_path / "x.tiff", picture, network()).tolist() == [RAMP.tolist()]


def test_one_bit(tmp_path: Path) -> None:
    bits = RAMP > 100
    assert read(tmp_path / "x.png", Image.fromarray(bits), network()).tolist() == [(bits * 255).tolist()]


def test_colour(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    assert np.array_equal(read(tmp_path / "x.png", picture, network(3)), colours.transpose(2, 0, 1))
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B
    grey = read(tmp_path / "x.png", picture, network(1))[0]
    assert np.abs(grey - colours @ [0.299, 0.587, 0.114]).max() < 1
    # Grey for a network that takes colour: the same in all three.
    assert np.array_equal(read(tmp_path / "y.png", Image.fromarray(RAMP), network(3)), [RAMP] * 3)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[..., 3] = RAMP  # black, from invisible to nearly opaque
    seen = read(tmp_path / "x.png", Image.fromarray(pixels), network())
    assert np.abs(seen[0].astype(int) - (255 - RAMP.astype(int))).max() <= 1


def test_a_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([10, 10, 10, 20, 20, 20])
    picture.paste(0, (0, 0, 2, 4))
    assert read(tmp_path / "x.png", picture, network(), transparency=0)[0].tolist() == [[255, 255, 20, 20]] * 4


def test_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # by 180 degrees
    assert read(tmp_path / "x.png", Image.fromarray(RAMP), network(), exif=exif).tolist() == [RAMP[::-1, ::-1].tolist()]


@pytest.mark.parametrize("turned", [False, True])
def test_aspect_is_kept_and_the_rest_is_border(tmp_path: Path, turned: bool) -> None:
    # 16 wide and 8 high, a white rectangle on grey: scaled to 8x4, it sits in rows 2 to 5 of 8x8.
    pixels = np.full((8, 16), 60, dtype=np.uint8)
    pixels[2:6, 4:12] = 255
    picture = Image.fromarray(pixels.T if turned else pixels)
    seen = read(tmp_path / "x.png", picture, network(size=8))[0]
    seen = seen.T if turned else seen
    assert (seen[[0, 1, 6, 7]] == 60).all()
    assert (seen[3:5, 3:5] > 200).all()
    assert (seen[2:6, 0] == 60).all()
    assert seen[2:6].sum() == pytest.approx(pixels.sum() / 4, rel=0.02)


def test_a_small_picture_grows(tmp_path: Path) -> None:
    seen = read(tmp_path / "x.png", Image.new("L", (1, 1), 77), network(size=8))
    assert (seen == 77).all()


def test_a_line_keeps_a_pixel(tmp_path: Path) -> None:
    seen = read(tmp_path / "x.png", Image.new("L", (1000, 1), 77), network(size=8))
    assert seen.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("border", "channels", "picture", "invert", "inverted"),
    [
        (0.0, 1, "light", "auto", True),  # ink on paper for a network trained on MNIST
        (0.0, 1, "dark", "auto", False),
        (1.0, 1, "dark", "auto", True),
        (1.0, 1, "light", "auto", False),
        (0.4, 1, "light", "auto", False),  # photographs: no side to be on
        (0.0, 3, "light", "auto", False),  # colours are not swapped unasked
        (0.0, 1, "light", "no", False),
        (1.0, 3, "light", "yes", True),
    ],
)
def test_inversion(tmp_path: Path, border: float, channels: int, picture: str, invert: str, inverted: bool) -> None:
    pixels = np.full((4, 4), 250 if picture == "light" else 5, dtype=np.uint8)
    pixels[1, 2] = 128
    seen = read(tmp_path / "x.png", Image.fromarray(pixels), network(channels, border=border), invert)
    assert np.array_equal(seen, [255 - pixels if inverted else pixels] * channels)


@pytest.mark.parametrize("damage", ["absent", "cut", "text", "folder"])
def test_files_that_are_no_pictures(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.png"
    if damage == "cut":
        Image.effect_noise((64, 64), 50).save(path)
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "text":
        path.write_text("no picture")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(UnreadablePicture, match=f"{path}: not a readable picture: "):
        read_picture(path, network())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 4}, "a picture has 1 or 3 channels, the network's input has 4"),
        ({"low": -1.0}, r"values lie in 0\.\.1, the network's training images had -1\.\.1"),
        ({"high": 255.0}, r"training images had 0\.\.255"),
    ],
)
def test_networks_that_take_no_pictures(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_picture(tmp_path / "x.png", network(**changes))


def test_probabilities() -> None:
    """The layer passes on two of the normalised pixels: (x / 255 - 0.5) / 0.25."""
    model = cnn.Sequential(cnn.Flatten()).eval()
    pictures = np.array([[[[0, 255]]], [[[51, 51]]]], dtype=np.uint8)
    seen = predict(model, network(), pictures)
    assert seen[0] == pytest.approx([1 / (1 + np.exp(4)), 1 / (1 + np.exp(-4))], rel=1e-6)
    assert seen[1] == pytest.approx([0.5, 0.5])
