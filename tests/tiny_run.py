"""A data set and a network small enough to be trained in a blink, and the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("circle", "square", "triangle")

# Everything that has state of its own: dropout's random numbers, running statistics, biases.
MODEL = """
import cnn

def net(input_shape, classes):
    channels, height, width = input_shape
    return cnn.Sequential(
        cnn.Conv2d(channels, 4, 3, padding=1), cnn.BatchNorm2d(4), cnn.ReLU(), cnn.Dropout(0.25),
        cnn.Flatten(), cnn.Linear(4 * height * width, classes),
    )
"""


@dataclass(frozen=True)
class TinyRun:
    """folder: the working folder, with shapes.npz and model.py. run: the run in it. output: what training printed."""

    folder: Path
    run: Path
    output: str


def write_data(path: Path, count: int = 300, channels: int = 1, seed: int = 0) -> Path:
    """An .npz of `count` noisy 6x6 images; class k has its rows 2k and 2k + 1 lit. A tenth is for testing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), count)
    images = rng.integers(0, 160, (count, channels, 6, 6), dtype=np.uint8)
    for lit in range(2):
        images[np.arange(count), :, 2 * labels + lit] += 90
    np.savez(path, images=images, labels=labels, classes=np.array(CLASSES))
    return path


def write_model(path: Path) -> str:
    """The model file `path`, and how --model names the network in it."""
    path.write_text(MODEL, encoding="utf-8")
    return f"{path}:net"


def command(*arguments: Any) -> list[str]:
    """`cnn` with these arguments, warnings being errors."""
    return [sys.executable, "-W", "error", "-m", "cnn", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    # Plain text, whatever terminal the tests run in.
    return {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1", **more}


def run_cnn(*arguments: Any, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `cnn` to its end; `more` goes into its environment."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
