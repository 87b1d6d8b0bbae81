"""load_npz against archives and .npy headers built by hand, and against damage that hypothesis thinks of."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.data.npz import load_npz


def npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1") if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def plain_header(shape: object, descr: str = "|u1") -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n"


def write(path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path, method):
    path = tmp_path / "data.npz"
    write(path, method, images=b"", labels=npy(plain_header("(20,)"), bytes(20)))
    with pytest.raises(ValueError, match=f"zip compression method {method}"):
        load_npz(path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an .npy array"),
        (b"\x93NUMPY", "not an .npy array"),
        (npy(plain_header("(20,)"), bytes(20), version=3), "version"),
        (npy("{'shape': (20,)}", bytes(20)), "correct keys"),
        (npy("[" * 9000), "not an .npy array"),
        (npy("20if"), "not an .npy array"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (20L,), }", bytes(19)), "but there are"),
        (npy(plain_header("(20,)"), bytes(19)), "promises uint8 of shape"),
        (npy(plain_header("(20,)"), bytes(21)), "promises uint8 of shape"),
        (npy(plain_header("(-20,)"), bytes(20)), "a dimension below 1"),
        (npy(plain_header("(-1, -20)"), bytes(20)), "a dimension below 1"),
        (npy(plain_header("(20, True)"), bytes(20)), r"3 or 4 dimensions, not shape \(20, 1\)"),
        (npy(plain_header("(1,) * 70"), bytes(1)), "not an .npy array"),
        (npy(plain_header(str((1,) * 70)), bytes(1)), "labels.npy: "),
        (npy(plain_header("(20,)", "|V1"), bytes(20)), "an array of"),
        (npy(plain_header("(20,)", "<U0")), "an array of"),
        (npy(plain_header("(20,)", "nonsense"), bytes(20)), "not an .npy array"),
        (npy(plain_header("(20,)"), version=2)[:8] + b"\xff\xff\xff\xff", "not an .npy array"),
    ],
)
def test_wrong_npy(tmp_path, content, message):
    path = tmp_path / "data.npz"
    write(path, images=content, labels=content)
    with pytest.raises(ValueError, match=message) as caught:
        load_npz(path, "train")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("shape", ["(2**62,)", "(99999999999999999999,)", "(2000000000, 2000000000)", "(1000000000,)"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_absurd_header_allocates_nothing(tmp_path, peak_memory, shape, method):
    path = tmp_path / "data.npz"
    write(path, method, images=b"", labels=npy(plain_header(shape, "<i8"), bytes(64)))

    def read() -> None:
        with pytest.raises(ValueError, match=r"labels\.npy: "):
            load_npz(path, "train")

    assert peak_memory(read) < 1 << 20


def test_absurd_directory_allocates_nothing(tmp_path, peak_memory):
    """The header and the directory agree on 2 GB, but the archive has 100 bytes."""
    path = tmp_path / "data.npz"
    size = 2 * 10**9
    content = npy(plain_header(f"({size},)"), b"")
    write(path, zipfile.ZIP_DEFLATED, images=b"", labels=content)
    raw, claimed = path.read_bytes(), struct.pack("<I", len(content) + size)
    path.write_bytes(raw.replace(struct.pack("<I", len(content)), claimed))

    def read() -> None:
        with pytest.raises(ValueError, match=r"2000000\d\d\d bytes cannot be in \d+ compressed ones"):
            load_npz(path, "train")

    assert peak_memory(read) < 1 << 20


def test_endless_header_is_not_read(tmp_path, peak_memory):
    """A version 2.0 header of 64 MiB of blanks, 64 KiB compressed."""
    path = tmp_path / "data.npz"
    write(path, images=b"", labels=npy(b" " * (64 << 20), version=2))

    def read() -> None:
        with pytest.raises(ValueError, match=r"not an \.npy array"):
            load_npz(path, "train")

    assert peak_memory(read) < 2 << 20


def archive_bytes(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer, images=np.arange(80, dtype=np.float32).reshape(20, 2, 2), labels=np.arange(20) % 3)
    return buffer.getvalue()


VALID = [archive_bytes(np.savez), archive_bytes(np.savez_compressed)]


def check(path, small_arrays_only) -> None:
    refusal = None
    try:
        with small_arrays_only():
            dataset = load_npz(path, "train")
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(path) in refusal
        return
    assert len(dataset) == len(dataset.labels) > 0
    assert dataset.images.ndim == 4
    assert dataset.images.flags.c_contiguous
    assert np.isfinite(dataset.images).all()
    assert 0 <= dataset.labels.min() <= dataset.labels.max() < len(dataset.classes)


@settings(deadline=None, max_examples=400)
@given(data=st.data(), valid=st.sampled_from(VALID))
def test_fuzz_archive(scratch, damaged, small_arrays_only, data, valid):
    path = scratch / "damaged.npz"
    path.write_bytes(data.draw(damaged(valid)))
    check(path, small_arrays_only)


@settings(deadline=None, max_examples=200)
@given(content=st.binary(max_size=200), begin=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"]))
def test_fuzz_arbitrary_bytes(scratch, small_arrays_only, content, begin):
    path = scratch / "arbitrary.npz"
    path.write_bytes(begin + content)
    check(path, small_arrays_only)


# fmt: off
WORDS = st.sampled_from([
    "{", "}", "(", ")", "[", "]", ",", ":", "'descr'", "'shape'", "'fortran_order'", "True", "False", "None",
    "'|u1'", "'|O'", "'<f8'", "'<U3'", "'V'", "20", "1e9", "-1", "9" * 30, "1if", "0x", "1_0", "L", " ", "\n",
    "\\", '"',
])
# fmt: on
HEADERS = st.one_of(
    st.lists(WORDS, max_size=30).map("".join).map(str.encode),
    st.tuples(
        st.lists(st.integers(-3, 2**70), max_size=5),
        st.sampled_from(["|u1", "<f8", "|O", "<U9", ">i4", "|S2"]),
    )
    .map(lambda drawn: plain_header(tuple(drawn[0]), drawn[1]))
    .map(str.encode),
    st.binary(max_size=60),
)


@settings(deadline=None, max_examples=300)
@given(header=HEADERS, size=st.integers(0, 80), version=st.sampled_from([1, 2, 3]))
def test_fuzz_header(scratch, small_arrays_only, header, size, version):
    path = scratch / "header.npz"
    write(
        path,
        zipfile.ZIP_STORED,
        images=npy(header, bytes(size), version),
        labels=npy(plain_header("(20,)"), bytes(20)),
    )
    check(path, small_arrays_only)
