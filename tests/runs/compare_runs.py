"""Two runs: the same end, bit for bit?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cnn.runs.checkpoint import list_checkpoints, read_checkpoint
from cnn.runs.folder import checkpoints_of
from cnn.runs.metrics import read_metrics

WALL_CLOCK = ("seconds", "images_per_second")


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines but for what no two runs have in common."""
    lines = read_metrics(run / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in WALL_CLOCK} for line in lines]


def assert_same_end(one: Path, other: Path) -> None:
    """Same step, parameters, optimiser state, schedule, random generator and metrics."""
    first, second = (read_checkpoint(list_checkpoints(checkpoints_of(run))[0]) for run in (one, other))
    assert first.step == second.step
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert np.array_equal(array, second.arrays[name]), name
    for name in ("optimizer", "schedule", "random", "network"):
        assert first.state[name] == second.state[name]
    assert metrics_of(one) == metrics_of(other)
