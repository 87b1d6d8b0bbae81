"""CIFAR-10 and CIFAR-100 folders from bytes that the tests lay out themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.data.cifar import load_cifar_folder

PLANES = bytes([10]) * 1024 + bytes([20]) * 1024 + bytes(range(256)) * 4


def cifar10(folder: Path, records: int = 2) -> Path:
    """Batch b has the labels b, b + 1, ...; red is 10, green 20, blue a ramp along the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for batch in range(1, 6):
        content = b"".join(bytes([(batch + record) % 10]) + PLANES for record in range(records))
        (folder / f"data_batch_{batch}.bin").write_bytes(content)
    (folder / "test_batch.bin").write_bytes(bytes([9]) + PLANES)
    return folder


def cifar100(folder: Path) -> Path:
    (folder / "train.bin").write_bytes(bytes([19, 99]) + PLANES + bytes([0, 3]) + PLANES)
    (folder / "test.bin").write_bytes(bytes([1, 42]) + PLANES)
    return folder


def test_cifar10(tmp_path):
    train, test = load_cifar_folder(cifar10(tmp_path), "train"), load_cifar_folder(str(tmp_path), "test")
    assert train.images.shape == (10, 3, 32, 32)
    assert train.images.dtype == np.uint8
    assert train.labels.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert (train.images[:, 0] == 10).all()
    assert (train.images[:, 1] == 20).all()
    assert train.images[7, 2, 0].tolist() == list(range(32))
    assert train.images[7, 2, 7].tolist() == list(range(224, 256))
    assert test.labels.tolist() == [9]
    assert train.classes == test.classes
    assert train.classes[:2] == ("airplane", "automobile")
    assert train.classes[9] == "truck"


def test_cifar100_has_the_fine_labels(tmp_path):
    train, test = load_cifar_folder(cifar100(tmp_path), "train"), load_cifar_folder(tmp_path, "test")
    assert train.labels.tolist() == [99, 3]
    assert test.labels.tolist() == [42]
    assert len(train.classes) == 100
    assert train.images[1, 2, 0].tolist() == list(range(32))


def test_class_names(tmp_path):
    # With the empty lines at the end that the real file has.
    (cifar10(tmp_path) / "batches.meta.txt").write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n\n")
    assert load_cifar_folder(tmp_path, "train").classes == tuple("abcdefghij")
    (tmp_path / "100").mkdir()
    cifar100(tmp_path / "100")
    (tmp_path / "100" / "fine_label_names.txt").write_text("".join(f"class {n}\n" for n in range(100)))
    assert load_cifar_folder(tmp_path / "100", "test").classes[42] == "class 42"


@pytest.mark.parametrize(
    ("content", "message"), [(b"a\nb\n", "2 class names, not 10"), (b"\xff\xfe", "not a text file")]
)
def test_wrong_class_names(tmp_path, content, message):
    path = cifar10(tmp_path) / "batches.meta.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": " + message):
        load_cifar_folder(tmp_path, "train")


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_wrong_length(tmp_path, size):
    path = cifar10(tmp_path) / "data_batch_3.bin"
    path.write_bytes(bytes(size))
    message = f": {size} bytes are not a whole number of records of 3073 bytes"
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        load_cifar_folder(tmp_path, "train")
    assert len(load_cifar_folder(tmp_path, "test")) == 1


def test_missing_batch(tmp_path):
    path = cifar10(tmp_path) / "data_batch_4.bin"
    path.unlink()
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": the file is missing"):
        load_cifar_folder(tmp_path, "train")


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="none of the files of CIFAR-10 or CIFAR-100"):
        load_cifar_folder(tmp_path, "train")


def test_label_out_of_range(tmp_path):
    path = cifar10(tmp_path) / "data_batch_2.bin"
    path.write_bytes(bytes([0]) + PLANES + bytes([10]) + PLANES)
    message = r": label 10 of record 1 is outside 0\.\.9 \(1 of 2 records\)"
    with pytest.raises(ValueError, match=re.escape(str(path)) + message):
        load_cifar_folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"), [((20, 0), r"label 20 .* 0\.\.19"), ((0, 100), r"label 100 .* 0\.\.99")]
)
def test_both_labels_of_cifar100_are_checked(tmp_path, labels, message):
    (cifar100(tmp_path) / "test.bin").write_bytes(bytes(labels) + PLANES)
    with pytest.raises(ValueError, match=message):
        load_cifar_folder(tmp_path, "test")


def check(folder: Path, content: bytes, record: int, file: str) -> None:
    (folder / file).write_bytes(content)
    refusal = None
    try:
        dataset = load_cifar_folder(folder, "test")
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(folder) in refusal
        return
    labels = record - 3072
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    assert len(rows) > 0
    np.testing.assert_array_equal(dataset.images.reshape(len(rows), 3072), rows[:, labels:])
    np.testing.assert_array_equal(dataset.labels, rows[:, labels - 1])


@settings(deadline=None, max_examples=100)
@given(data=st.data(), hundred=st.booleans())
def test_fuzz(scratch, damaged, data, hundred):
    folder = scratch / ("cifar100" if hundred else "cifar10")
    folder.mkdir(exist_ok=True)
    record, file = (3074, "test.bin") if hundred else (3073, "test_batch.bin")
    valid = (bytes([7] * (record - 3072)) + PLANES) * 2
    bare = st.binary(max_size=20)
    # Mutations of the label bytes by themselves: in 6 kB of pixels they would be rare.
    labels = st.binary(min_size=record - 3072, max_size=record - 3072).map(lambda drawn: drawn + PLANES)
    check(folder, data.draw(st.one_of(damaged(valid), labels, bare)), record, file)
