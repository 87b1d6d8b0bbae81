"""What the report of `gpu-check` says, from findings that nobody made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_up import broken, row

from benchmarks import gpu, gpu_check
from benchmarks.gpu_check import EMULATED, Report, verdict


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(gpu, "emulated", lambda: False)
    return Report(str(tmp_path / "report.md"), quick=True, tests="...\n200 passed in 60 s")


def test_right_and_faster(report: Report) -> None:
    report.rows = [
        row("ours-cuda", 1.0),
        row("torch-cuda", 2.0),
        row("ours-cuda", 1.0, layer="b"),
        broken("torch-cuda"),
    ]
    report.rows.append(row("torch-cuda", 0.5, layer="b"))
    first, speed = verdict(report)
    assert first == "RIGHT so far as it ran: tests: 200 passed in 60 s; 2 measurements of ours, every result verified."
    assert speed == "SPEED: in 1 of 2 convolution passes ours is faster than PyTorch in float32."


def test_a_wrong_result_of_ours_is_the_verdict(report: Report) -> None:
    report.rows = [broken("ours-cuda", note="off by 1"), row("torch-cuda", 2.0)]
    first, speed = verdict(report)
    assert first == "WRONG: 1 results of ours are wrong; a.0 forward (ours-cuda): off by 1."
    assert speed == "SPEED: PyTorch was not there to compare with."


def test_failed_tests_are_the_verdict(report: Report) -> None:
    report.failures.append("tests failed")
    assert verdict(report)[0] == "WRONG: tests failed; 0 results of ours are wrong."


def test_what_was_emulated_has_no_speed(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "emulated", lambda: True)
    report.rows = [row("ours-cuda", 1.0), row("torch-cuda", 2.0)]
    lines = verdict(report)
    assert lines[0] == EMULATED
    assert "NO TIME IN THIS REPORT IS A GPU'S" in lines[0]
    assert not any(line.startswith("SPEED") for line in lines)


def test_what_comes_too_late_is_left_out_and_told(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([report.start + seconds for seconds in (1, 9, 11)])
    monkeypatch.setattr(gpu_check, "monotonic", lambda: next(now))
    assert list(report.before(10, "abc", str.upper)) == ["a", "b"]
    assert verdict(report)[-1] == "LEFT OUT for want of time: C. A second run has more: its kernels are compiled."


def test_a_stage_that_breaks_off_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(report: Report) -> None:
        raise RuntimeError("illegal address")

    monkeypatch.setattr(gpu, "missing", lambda: None)
    monkeypatch.setattr(gpu, "emulated", lambda: False)
    monkeypatch.setattr(gpu, "state", lambda: "temperature.gpu 40")
    for stage in ("_tests", "_train", "_launch", "_accuracy"):
        monkeypatch.setattr(gpu_check, stage, lambda report: None)
    monkeypatch.setattr(gpu_check, "_conv", breaks)
    file = tmp_path / "report.md"
    assert gpu_check.run(str(file), quick=True) == 1
    assert "WRONG: convolutions broke off: RuntimeError: illegal address" in capsys.readouterr().out
    text = file.read_text()
    assert "WRONG: convolutions broke off" in text
    assert "before: temperature.gpu 40" in text
    assert "after: temperature.gpu 40" in text


SAID = b"""[gw0] [  1%] PASSED tests/gpu/test_gpu_conv.py::test_a
[gw1] [  2%] FAILED tests/gpu/test_gpu_conv.py::test_b
[gw0] [  3%] PASSED tests/gpu/test_gpu_conv.py::test_c
"""


def test_tests_that_take_too_long_are_told_of(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(command: list[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired(command, options["timeout"], output=SAID)

    monkeypatch.setattr(gpu_check.subprocess, "run", stopped)
    gpu_check._tests(report)
    *failed, last = report.tests.splitlines()
    assert failed == ["[gw1] [  2%] FAILED tests/gpu/test_gpu_conv.py::test_b"]
    assert last == f"2 passed, 1 failed; stopped after {gpu_check.TESTS} s"
    assert verdict(report)[0] == "WRONG: tests failed; 0 results of ours are wrong."
    assert verdict(report)[-1].startswith("LEFT OUT for want of time: tests that were still to come")
