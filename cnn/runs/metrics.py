"""metrics.jsonl: one JSON object a line, appended while a run goes on.

    {"kind": "step", "step", "epoch", "loss", "lr", "images_per_second", "seconds"}     every 100 steps
    {"kind": "epoch", ..., "test_loss", "accuracy", "best_accuracy"}                    after each epoch

step counts from the first of the run, epoch from 1. loss: the mean over the images since the line before (step), or
of the epoch (epoch). lr: of that step. seconds: of training, evaluation included, over all parts of a run that was
stopped and resumed. images_per_second: training alone, since the line before or since the epoch or this part began.
The last two are all that differs between a resumed run and a straight one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends lines, and knows how many bytes belong to a checkpoint."""

    def __init__(self, path: Path, position: int = 0) -> None:
        """Open `path`, making it if need be, and cut it after `position` bytes: what a resumed run does again.

        Raises OSError; ValueError if there are fewer bytes than `position`.
        """
        self._file = open(path, "ab")  # noqa: SIM115 (open as long as the run)
        length = os.fstat(self._file.fileno()).st_size
        if length < position:
            self._file.close()
            raise ValueError(f"{path}: {length} bytes, but the checkpoint was written when there were {position}")
        self._file.truncate(position)
        self._file.seek(position)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; `sync` makes it last. Raises ValueError for a number that is not finite."""
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Wait until every line is on the disk; returns the length in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run. Raises OSError, or ValueError with path and number of a line that is not JSON."""
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from error
    return lines
