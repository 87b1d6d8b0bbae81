"""Checkpoints: whole or not there, checked to the last byte, the one before at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open

from cnn.runs import atomic
from cnn.runs.checkpoint import (
    DamagedCheckpoint,
    clear_leftovers,
    list_checkpoints,
    read_checkpoint,
    read_newest,
    write_checkpoint,
)

# PCG64's state is a number of 128 bits; 0.1 has no short binary form.
STATE = {"random": {"state": 2**127 + 1}, "lr": 0.1, "schedule": None, "names": ["ä", "b"]}


def arrays() -> dict[str, NDArray[Any]]:
    return {
        "model.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "model.turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "model.count": np.array(7, dtype=np.int64),
        "window.losses": np.zeros(0, dtype=np.float32),
    }


def steps(folder: Path) -> list[int]:
    return [read_checkpoint(path).step for path in list_checkpoints(folder)]


def test_comes_back_as_it_was_written(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, 12, arrays(), STATE))
    assert (checkpoint.step, checkpoint.state) == (12, STATE)
    assert checkpoint.arrays.keys() == arrays().keys()
    for name, array in arrays().items():
        assert (checkpoint.arrays[name].shape, checkpoint.arrays[name].dtype) == (array.shape, array.dtype)
        assert np.array_equal(checkpoint.arrays[name], array)


def test_is_a_safetensors_file_with_json_in_its_header(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 12, arrays(), STATE)
    with safe_open(path, framework="numpy") as file:
        assert np.array_equal(file.get_tensor("model.turned"), arrays()["model.turned"])
        assert json.loads(file.metadata()["state"]) == {"step": 12, **STATE}


def test_keeps_the_newest_two(tmp_path: Path) -> None:
    for step in (1, 9, 10, 200):
        write_checkpoint(tmp_path, step, arrays(), STATE)
    assert steps(tmp_path) == [200, 10]


@pytest.mark.parametrize(
    ("call", "count", "newest"),
    [
        ("fsync", 1, 2),  # of the file
        ("replace", 1, 2),
        ("open", 1, 3),  # the folder, to fsync it: the new name is there by then
        ("fsync", 2, 3),
    ],
)
def test_a_failing_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, count: int, newest: int
) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, arrays(), STATE)
    calls = []
    original = getattr(os, call)

    def fail_in_time(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == count:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(atomic.os, call, fail_in_time)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path, 3, arrays(), STATE)
    monkeypatch.undo()
    assert steps(tmp_path)[0] == newest
    assert not list(tmp_path.glob("*.tmp"))


@given(st.data())
def test_no_damage_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damage")
    path = write_checkpoint(folder, 5, arrays(), STATE)
    content = path.read_bytes()
    kind = data.draw(st.sampled_from(["change", "cut", "extend"]))
    if kind == "change":
        place = data.draw(st.integers(0, len(content) - 1))
        changed = bytes([content[place] ^ data.draw(st.integers(1, 255))])
        path.write_bytes(content[:place] + changed + content[place + 1 :])
    elif kind == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    else:
        path.write_bytes(content + data.draw(st.binary(min_size=1, max_size=20)))
    try:
        checkpoint = read_checkpoint(path)
    except DamagedCheckpoint:
        pass
    else:
        # JSON allows a few bytes of its header to differ, blanks say: then nothing that was stored may.
        assert kind == "change"
        assert (checkpoint.step, checkpoint.state) == (5, STATE)
        assert all(np.array_equal(checkpoint.arrays[name], array) for name, array in arrays().items())


def test_every_byte_of_an_array_counts(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 5, arrays(), STATE)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=f"{path}: .* SHA-256"):
        read_checkpoint(path)


def test_falls_back_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, arrays(), STATE)
    newest = list_checkpoints(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    said: list[str] = []
    checkpoint = read_newest(tmp_path, said.append)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert len(said) == 1
    assert str(newest) in said[0]
    assert "going back to step 1" in said[0]


def test_nothing_to_fall_back_to(tmp_path: Path) -> None:
    assert read_newest(tmp_path / "absent", print) is None
    assert read_newest(tmp_path, print) is None
    path = write_checkpoint(tmp_path, 1, arrays(), STATE)
    path.write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match=f"no checkpoint can be read: {path}"):
        read_newest(tmp_path, print)


def test_leftovers_go_before_a_run_goes_on(tmp_path: Path) -> None:
    for step in (3, 4):
        write_checkpoint(tmp_path, step, arrays(), STATE)
    (tmp_path / "step-00000005.safetensors.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    clear_leftovers(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "step-00000003.safetensors"]


def test_numbers_that_are_not_finite_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_checkpoint(tmp_path, 1, arrays(), {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
