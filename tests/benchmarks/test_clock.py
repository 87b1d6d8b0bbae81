"""Statistics and turns."""

from __future__ import annotations

import time

import pytest

from benchmarks import clock
from benchmarks.clock import ROUNDS, Statistics, alternate


def test_statistics() -> None:
    # Of 1..11 the 20th, 50th and 80th percentiles are 3, 6 and 9.
    found = Statistics.of([float(n) for n in (5, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11)], 12.0)
    assert (found.p20, found.median, found.p80, found.runs, found.first) == (3, 6, 9, 11, 12)
    assert found.per(2) == Statistics(3, 1.5, 4.5, 11, 12)


def test_calls_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "settle", lambda: None)
    order: list[str] = []
    found = alternate({name: (lambda name=name: order.append(name), 0.1) for name in "ab"}, seconds=0.0)  # type: ignore[misc]
    # One uncounted call and one that is timed; every round begins with another one.
    assert "".join(order) == "aabb" + "bbaaaabb" * 2
    assert ROUNDS == 5
    assert {each.runs for each in found.values()} == {ROUNDS}


def test_a_slow_call_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "settle", lambda: None)
    monkeypatch.setattr(clock, "SLOW", 0.01)
    found = alternate({"slow": (lambda: time.sleep(0.02), 0.02)}, seconds=0.001)
    assert found["slow"].runs == 1
    assert found["slow"].median >= 0.02


def test_what_others_do_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = iter([10.0, 13.0, 13.0])
    monkeypatch.setattr(clock, "_busy", lambda: next(busy))
    others = clock.Others()
    assert others.share > 0
    assert others.note().startswith(clock.DISTURBED_NOTE)
