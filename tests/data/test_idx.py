"""read_idx against bytes packed by struct, against broken files, and against what hypothesis thinks of."""

from __future__ import annotations

import gzip
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn.data.idx import read_idx

KINDS = {
    0x08: ("B", "uint8", [0, 1, 127, 128, 254, 255]),
    0x09: ("b", "int8", [-128, -1, 0, 1, 126, 127]),
    0x0B: ("h", "int16", [-32768, -2, 0, 1, 258, 32767]),
    0x0C: ("i", "int32", [-(2**31), -2, 0, 1, 16909060, 2**31 - 1]),
    0x0D: ("f", "float32", [-1.5, 0.0, 0.25, 1.0, 2.0**127, 2.0**-126]),
    0x0E: ("d", "float64", [-1.5, 0.0, 0.1, 1.0, 1e308, 2.0**-1022]),
}


def header(kind: int, *shape: int) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 3, 2, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_type(tmp_path, idx_bytes, kind, shape, gzipped):
    code, dtype, values = KINDS[kind]
    content = idx_bytes(values, shape, kind, code)
    # Names that say the opposite: only the content counts.
    path = tmp_path / ("plain" if gzipped else "plain.gz")
    path.write_bytes(gzip.compress(content) if gzipped else content)
    array = read_idx(path)
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert array.shape == shape
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.ravel().tolist() == values


def test_more_than_one_chunk(tmp_path):
    values = np.arange(700_000, dtype=">i4")
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(header(0x0C, 700_000) + values.tobytes(), compresslevel=1))
    np.testing.assert_array_equal(read_idx(path), np.arange(700_000))


def test_gzip_of_several_members(tmp_path, idx_bytes):
    content = idx_bytes([1, 2, 3], (3,))
    path = tmp_path / "members"
    path.write_bytes(gzip.compress(content[:5]) + gzip.compress(content[5:]))
    assert read_idx(str(path)).tolist() == [1, 2, 3]


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "nothing")


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 00 00 08"),
        (b"P5 2 2 255", "begins with 50 35 20 32"),
        (b"\0\x01\x08\x01\0\0\0\x01\0", "begins with 00 01 08 01"),
        (header(0x0A, 1) + b"\0", "unknown IDX type 0x0a"),
        (header(0x00, 1) + b"\0", "unknown IDX type 0x00"),
        (header(0x08), "0 dimensions"),
        (header(0x08, *[1] * 33) + b"\0", "33 dimensions"),
        (header(0x08, 2, 2)[:-1], "the header ends after 11 of 12 bytes"),
        (header(0x08, 3, 0), r"shape \(3, 0\) has a dimension of size 0"),
    ],
)
def test_wrong_header(tmp_path, content, message, gzipped):
    path = tmp_path / "wrong"
    path.write_bytes(gzip.compress(content) if gzipped else content)
    with pytest.raises(ValueError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("extra", "has"), [(-1, 13), (1, 15)])
def test_wrong_length(tmp_path, idx_bytes, extra, has):
    content = idx_bytes([1, 2, 3, 4, 5, 6], (6,))
    path = tmp_path / "wrong"
    path.write_bytes((content + b"\0")[: len(content) + extra])
    with pytest.raises(ValueError, match=rf"shape \(6,\), 8 \+ 6 bytes, but the file has {has}"):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(0x08, 6) + bytes(5), "the data ends after 5 of 6 bytes"),
        (header(0x08, 6) + bytes(7), "the data goes on after the 6 bytes"),
    ],
)
def test_wrong_length_inside_gzip(tmp_path, content, message):
    path = tmp_path / "wrong.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def flip_last_checksum_byte(whole: bytes) -> bytes:
    return whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:2],
        lambda whole: whole[:9],
        lambda whole: whole[:-9],
        lambda whole: whole[:-1],
        flip_last_checksum_byte,
        lambda whole: whole[:-1] + b"\x07",  # the length
        lambda whole: whole + b"garbage",
        lambda whole: whole[:2] + b"\x07" + whole[3:],  # a compression method that does not exist
    ],
)
def test_broken_gzip(tmp_path, idx_bytes, damage):
    path = tmp_path / "broken.gz"
    path.write_bytes(damage(gzip.compress(idx_bytes(list(range(200)), (200,)))))
    with pytest.raises(ValueError, match=re.escape(str(path)) + ": broken gzip file"):
        read_idx(path)


@pytest.mark.parametrize(
    "shape", [(2**32 - 1,), (2**32 - 1, 2**32 - 1), (2**31, 2**31, 4), (2**16,) * 4, (2**32 - 1,) * 32]
)
@pytest.mark.parametrize("gzipped", [False, True])
def test_absurd_dimensions_allocate_nothing(tmp_path, peak_memory, shape, gzipped):
    path = tmp_path / "absurd"
    content = header(0x0E, *shape) + bytes(64)
    path.write_bytes(gzip.compress(content) if gzipped else content)

    def read() -> None:
        with pytest.raises(ValueError, match="the header promises float64"):
            read_idx(path)

    assert peak_memory(read) < 1 << 20


def test_gzip_bomb_does_no_harm(tmp_path, peak_memory):
    path = tmp_path / "bomb.gz"
    packer = zlib.compressobj(9, wbits=31)
    with open(path, "wb") as file:
        file.write(packer.compress(header(0x08, 16)))
        for _ in range(64):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())

    def read() -> None:
        with pytest.raises(ValueError, match="goes on after the 16 bytes"):
            read_idx(path)

    assert peak_memory(read) < 4 << 20


def test_best_compression_is_still_read(tmp_path):
    # The bound on what a gzip file can promise must not refuse the best that deflate can do.
    path = tmp_path / "zeros.gz"
    path.write_bytes(gzip.compress(header(0x08, 1 << 22) + bytes(1 << 22)))
    assert (1 << 22) / path.stat().st_size > 1000
    assert not read_idx(path).any()


def check(path, small_arrays_only) -> None:
    """Reading gives exactly what the bytes say, or a ValueError."""
    refusal = None
    try:
        with small_arrays_only():
            array = read_idx(path)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(path) in refusal
        return
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    dimensions = content[3]
    assert array.shape == struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    assert array.astype(array.dtype.newbyteorder(">")).tobytes() == content[4 + 4 * dimensions :]
    assert array.dtype == np.dtype(KINDS[content[2]][1])


HEADERS = st.tuples(
    st.sampled_from([*KINDS, 0, 7, 10, 255]),
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1)), max_size=5),
).map(lambda drawn: header(drawn[0], *drawn[1]))


@settings(deadline=None, max_examples=200)
@given(
    head=st.one_of(st.just(b""), st.just(b"\x1f\x8b\x08"), HEADERS),
    tail=st.binary(max_size=80),
    pack=st.booleans(),
)
def test_fuzz_arbitrary_bytes(scratch, small_arrays_only, head, tail, pack):
    path = scratch / "arbitrary.idx"
    path.write_bytes(gzip.compress(head + tail) if pack else head + tail)
    check(path, small_arrays_only)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)), pack=st.booleans())
def test_fuzz_damage(scratch, idx_bytes, damaged, small_arrays_only, data, kind, pack):
    code, _, values = KINDS[kind]
    valid = idx_bytes(values * 4, (4, 2, 3), kind, code)
    path = scratch / "damaged.idx"
    path.write_bytes(data.draw(damaged(gzip.compress(valid, mtime=0) if pack else valid)))
    check(path, small_arrays_only)
