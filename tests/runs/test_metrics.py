"""metrics.jsonl: lines that last, and a resumed run that repeats none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnn.runs.metrics import MetricsFile, read_metrics


def test_lines_beyond_the_checkpoint_go(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write({"step": 100})
    position = metrics.sync()
    metrics.write({"step": 200})
    metrics.close()
    assert position == len('{"step": 100}\n')

    resumed = MetricsFile(path, position)
    assert resumed.sync() == position
    resumed.write({"step": 150})
    resumed.close()
    assert read_metrics(path) == [{"step": 100}, {"step": 150}]


def test_a_new_run_begins_empty(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsFile(path).close()
    assert read_metrics(path) == []


def test_a_file_that_was_cut_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: 3 bytes, but .* when there were 4"):
        MetricsFile(path, 4)
    assert path.read_text() == "{}\n"


def test_only_json(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    with pytest.raises(ValueError, match="JSON"):
        metrics.write({"loss": float("nan")})
    metrics.close()
    path.write_text('{"step": 1}\n{"step": \n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl: line 2: "):
        read_metrics(path)
