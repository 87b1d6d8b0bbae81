"""The number of threads: said by the environment, or by a call."""

from __future__ import annotations

import os

import pytest

import cnn
from cnn.kernels.cpu.threads import share

pytestmark = pytest.mark.usefixtures("threads_as_before")


def parts_of(total: int) -> list[tuple[int, int]]:
    parts: list[tuple[int, int]] = []
    share(lambda first, last: parts.append((first, last)), total)
    return sorted(parts)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_call_sets_it(number: int) -> None:
    cnn.set_num_threads(number)
    assert cnn.get_num_threads() == number
    assert parts_of(6) == {1: [(0, 6)], 2: [(0, 3), (3, 6)], 3: [(0, 2), (2, 4), (4, 6)]}[number]


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN_NUM_THREADS", "5")
    cnn.set_num_threads(None)
    assert cnn.get_num_threads() == 5
    monkeypatch.delenv("CNN_NUM_THREADS")
    assert cnn.get_num_threads() == 5  # looked up once
    cnn.set_num_threads(None)
    assert 1 <= cnn.get_num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5"])
def test_a_setting_that_is_no_number_of_threads(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cnn.set_num_threads(2)
    monkeypatch.setenv("CNN_NUM_THREADS", setting)
    with pytest.raises(ValueError, match=f"CNN_NUM_THREADS must be a whole number of at least 1, got '{setting}'"):
        cnn.set_num_threads(None)
    assert cnn.get_num_threads() == 2


def test_a_number_that_is_none() -> None:
    cnn.set_num_threads(2)
    with pytest.raises(ValueError, match="set_num_threads: the number must be at least 1, got 0"):
        cnn.set_num_threads(0)
    with pytest.raises(TypeError, match=r"set_num_threads: expected a whole number or None, got 1\.5"):
        cnn.set_num_threads(1.5)  # type: ignore[arg-type]
    assert cnn.get_num_threads() == 2
