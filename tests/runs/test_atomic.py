"""Writing files: the old content or the new one, at every moment between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cnn.runs import atomic
from cnn.runs.atomic import remove_temporaries, write_atomically


def test_the_name_stands_for_whole_content_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def watched(name: str) -> Any:
        original = getattr(os, name)

        def call(*arguments: Any) -> Any:
            seen.append((f"before {name}", path.read_bytes()))
            return original(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(atomic.os, name, watched(name))
    write_atomically(path, b"new")
    # The bytes reach the disk before the name does, and the name before the function returns.
    assert seen == [("before fsync", b"old"), ("before replace", b"old"), ("before fsync", b"new")]
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_what_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"old")]


def test_only_orphans_are_removed(tmp_path: Path) -> None:
    for name in ("step-1.safetensors", "step-2.safetensors.tmp", "tmp"):
        (tmp_path / name).write_bytes(b"")
    remove_temporaries(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step-1.safetensors", "tmp"]
