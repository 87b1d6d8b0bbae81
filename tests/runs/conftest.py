"""What the tests of runs share: settings of a tiny run, a display that shows nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import write_data, write_model

from cnn.runs.config import TrainConfig


class Silent:
    """A display that remembers the lines, and calls `on_step(step)` after every step."""

    def __init__(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.on_step = on_step

    def begin(self, total_steps: int, step: int, batch_size: int) -> None:
        self.first = step

    def step(self, step: int, epoch: int) -> None:
        if step > self.first:
            self.on_step(step)

    def report(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def end(self) -> None:
        pass


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """tiny_config(**changes): two epochs of 34 steps, 270 training and 30 test images, one file each for both."""
    data = write_data(tmp_path / "shapes.npz")
    model = write_model(tmp_path / "model.py")

    def make(**changes: Any) -> TrainConfig:
        settings = {"model": model, "data": str(data), "epochs": 2, "batch_size": 8, "lr": 0.05, "checkpoint_every": 7}
        return TrainConfig(**{**settings, **changes})

    return make


@pytest.fixture
def silent() -> type[Silent]:
    return Silent
