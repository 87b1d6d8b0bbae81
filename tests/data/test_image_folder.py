"""load_image_folder against images that Pillow wrote, pixel by pixel where the format keeps them."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnn.data.folder import load_image_folder


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path)
    return pixels


def grey(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width), value, dtype=np.uint8)


def two_splits(root: Path) -> Path:
    for number in range(3):
        save(root / "train" / "cat" / f"{number}.png", grey(number))
        save(root / "train" / "dog" / f"{number}.png", grey(100 + number))
    save(root / "test" / "dog" / "x.png", grey(200))
    return root


def test_two_splits(tmp_path):
    train = load_image_folder(two_splits(tmp_path), "train")
    test = load_image_folder(str(tmp_path), "test")
    assert train.images.shape == (6, 1, 4, 6)
    assert train.images.dtype == np.uint8
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.classes == test.classes == ("cat", "dog")
    # The test set has no cats, and dogs are number 1 all the same.
    assert test.labels.tolist() == [1]
    assert test.images[0, 0, 0, 0] == 200


def test_colour_pixel_by_pixel(tmp_path):
    rng = np.random.default_rng(0)
    written = [
        save(tmp_path / "train" / "only" / f"{number}.{kind}", rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        for number, kind in enumerate(["png", "bmp", "TIFF", "ppm"])
    ]
    dataset = load_image_folder(tmp_path, "train")
    np.testing.assert_array_equal(dataset.images, np.stack(written).transpose(0, 3, 1, 2))
    assert dataset.images.flags.c_contiguous


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK", "YCbCr", "LA"])
def test_other_modes_become_three_channels(tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    save(tmp_path / "train" / "only" / f"a.{suffix}", np.full((4, 6, 3), 255, dtype=np.uint8), mode)
    images = load_image_folder(tmp_path, "train").images
    assert images.shape == (1, 3, 4, 6)
    assert images.min() >= 250


def test_palette_with_transparency(tmp_path):
    (tmp_path / "train" / "only").mkdir(parents=True)
    image = Image.new("P", (6, 4))
    image.putpalette([10, 20, 30] * 256)
    image.save(tmp_path / "train" / "only" / "a.png", transparency=bytes([0] * 256))
    assert load_image_folder(tmp_path, "train").images[0, :, 0, 0].tolist() == [10, 20, 30]


def test_black_and_white_is_grey(tmp_path):
    save(tmp_path / "train" / "only" / "a.png", grey(255), "1")
    assert load_image_folder(tmp_path, "train").images.tolist() == np.full((1, 1, 4, 6), 255).tolist()


def test_without_splits_every_tenth_of_each_class_is_for_testing(tmp_path):
    for name, count in (("b", 21), ("A", 10), ("c", 3)):
        for number in range(count):
            save(tmp_path / name / f"{number:02}.png", grey({"A": 0, "b": 100, "c": 200}[name] + number))
    train, test = load_image_folder(tmp_path, "train"), load_image_folder(tmp_path, "test")
    assert test.classes == train.classes == ("A", "b", "c")
    assert test.images[:, 0, 0, 0].tolist() == [9, 109, 119]
    assert test.labels.tolist() == [0, 1, 1]
    assert len(train) == 34 - 3
    assert not set(train.images[:, 0, 0, 0].tolist()) & {9, 109, 119}


def test_what_is_no_image_is_skipped(tmp_path):
    two_splits(tmp_path)
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("of a cat")
    (tmp_path / "train" / ".git").mkdir()
    (tmp_path / "train" / "README.md").write_text("cats and dogs")
    assert len(load_image_folder(tmp_path, "train")) == 6


@pytest.mark.parametrize("split", ["train", "test"])
def test_another_size(tmp_path, split):
    path = two_splits(tmp_path) / split / "dog" / "z.png"
    save(path, grey(0, height=5, width=9))
    message = r": 9 x 5 pixels \(width x height\), 1 channels \(mode L\); the first image has 6 x 4 and 1"
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        load_image_folder(tmp_path, split)


def test_another_number_of_channels(tmp_path):
    path = two_splits(tmp_path) / "train" / "dog" / "z.png"
    save(path, np.zeros((4, 6, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=re.escape(str(path)) + r": 6 x 4 .* 3 channels \(mode RGB\)"):
        load_image_folder(tmp_path, "train")


def test_sixteen_bits_are_not_clipped_in_silence(tmp_path):
    path = two_splits(tmp_path) / "train" / "dog" / "z.png"
    save(path, np.full((4, 6), 40000, dtype=np.uint16))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": mode I.* has more than 8 bits"):
        load_image_folder(tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_unreadable(tmp_path, content):
    path = two_splits(tmp_path) / "train" / "dog" / "z.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": not a readable image"):
        load_image_folder(tmp_path, "train")


def test_truncated(tmp_path):
    path = two_splits(tmp_path) / "train" / "dog" / "z.png"
    save(path, np.random.default_rng(0).integers(0, 256, (4, 6), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": not a readable image"):
        load_image_folder(tmp_path, "train")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_000, 2**31 - 1])
def test_decompression_bomb(tmp_path, peak_memory, side):
    """A PNG of a hundred bytes that says it has 10,000 x 10,000 pixels: Pillow only warns of that."""
    path = tmp_path / "train" / "only" / "bomb.png"
    path.parent.mkdir(parents=True)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b""))
    assert_refused = pytest.raises(ValueError, match=re.escape(str(path)) + ": not a readable image")

    def read() -> None:
        with assert_refused:
            load_image_folder(tmp_path, "train")

    assert peak_memory(read) < 4 << 20


def test_empty_class(tmp_path):
    (two_splits(tmp_path) / "train" / "eel").mkdir()
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "train" / "eel")) + ": no images"):
        load_image_folder(tmp_path, "train")


def test_test_class_that_is_not_in_training(tmp_path):
    save(two_splits(tmp_path) / "test" / "eel" / "a.png", grey(0))
    with pytest.raises(ValueError, match=r"classes \['eel'\] are not among the 2 classes"):
        load_image_folder(tmp_path, "test")


def test_missing_splits(tmp_path):
    save(tmp_path / "train" / "cat" / "a.png", grey(0))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "test")) + ": no folders of images"):
        load_image_folder(tmp_path, "test")
    with pytest.raises(ValueError, match="no folders of images"):
        load_image_folder(tmp_path / "nothing", "train")


def test_too_few_for_testing(tmp_path):
    for number in range(9):
        save(tmp_path / "cat" / f"{number}.png", grey(number))
    assert len(load_image_folder(tmp_path, "train")) == 9
    with pytest.raises(ValueError, match="no class has 10 images"):
        load_image_folder(tmp_path, "test")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("encoded")
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "ppm", "webp"):
        save(folder / f"a.{suffix}", pixels)
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_fuzz(scratch, encoded, damaged, data):
    suffix = data.draw(st.sampled_from(sorted(encoded)))
    folder = scratch / "images" / suffix / "train" / "only"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"a{suffix}").write_bytes(data.draw(damaged(encoded[suffix])))
    refusal = None
    try:
        dataset = load_image_folder(folder.parent.parent, "train")
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert f"a{suffix}" in refusal
        return
    assert dataset.images.dtype == np.uint8
    assert dataset.images.shape[:1] == dataset.labels.shape == (1,)
