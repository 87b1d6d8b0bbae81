"""Numba's disk cache, which several processes write to."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.caching import FunctionCache

from cnn.kernels.cpu import cache
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.conv_plan import pick

fcntl = pytest.importorskip("fcntl", reason="Windows has no such locks")


def may_lock(folder: str, how: int) -> bool:
    """Whether another process could: a lock belongs to the file as it was opened, not to the process."""
    with open(os.path.join(folder, "cnn.lock"), "r+") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_one_writes(tmp_path: Path) -> None:
    folder = str(tmp_path / "not" / "there")
    with cache.locked(folder):
        assert not may_lock(folder, fcntl.LOCK_SH)
    assert may_lock(folder, fcntl.LOCK_EX)


def test_several_read(tmp_path: Path) -> None:
    with cache.locked(str(tmp_path), shared=True):
        assert may_lock(str(tmp_path), fcntl.LOCK_SH)
        assert not may_lock(str(tmp_path), fcntl.LOCK_EX)


def test_an_error_ends_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), cache.locked(str(tmp_path)):
        raise KeyError
    assert may_lock(str(tmp_path), fcntl.LOCK_EX)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with cache.locked(str(tmp_path / "file")):
        assert (tmp_path / "file").read_bytes() == b""


def test_where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    reached = False
    monkeypatch.setattr(fcntl, "flock", fails)
    with cache.locked(str(tmp_path)):
        reached = True
    assert reached


def test_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCKS", False)
    with cache.locked(str(tmp_path)):
        assert list(tmp_path.iterdir()) == []


def test_numba_reads_and_writes_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    free: list[tuple[str, bool, bool]] = []

    def watched(name: str) -> None:
        call = getattr(FunctionCache, name)

        def watch(self: Any, *arguments: Any) -> Any:
            free.append((name, may_lock(self.cache_path, fcntl.LOCK_SH), may_lock(self.cache_path, fcntl.LOCK_EX)))
            return call(self, *arguments)

        monkeypatch.setattr(FunctionCache, name, watch)

    watched("load_overload")
    watched("save_overload")
    out = np.zeros(2, np.float32)
    for _ in range(2):  # compiled, and from the cache
        fresh = jit()(pick.py_func)
        fresh(np.arange(3, dtype=np.float32), np.array([2, 1]), out)
        assert out.tolist() == [2, 1]
    loaded, saved = ("load_overload", True, False), ("save_overload", False, False)
    assert [call for call in free if call in (loaded, saved)] == free
    assert free.index(saved) > 0
    assert free[-1] == loaded
    assert sum(fresh.stats.cache_hits.values()) == 1
    assert Path(fresh.stats.cache_path).parent == tmp_path
