"""A progress bar on stderr; the lines of the epochs go to stdout, above it where that is the terminal too."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from cnn.runs.display import format_epoch


class _Speed(ProgressColumn):
    """Images per second over the last seconds."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self._batch_size = batch_size

    def render(self, task: Task) -> Text:
        return Text(f"{(task.speed or 0.0) * self._batch_size:,.0f} images/s")


class Bar:
    """See `cnn.runs.display.Display`."""

    def begin(self, total_steps: int, step: int, batch_size: int) -> None:
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            _Speed(batch_size),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            # Drawing takes the interpreter from the training for a millisecond or two.
            refresh_per_second=4,
            transient=True,
            # rich would carry what is printed to stdout over to stderr: right on a terminal, wrong in a pipe.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=total_steps, completed=step, epoch=1, loss="-")
        self._progress.start()

    def step(self, step: int, epoch: int) -> None:
        self._progress.update(self._task, completed=step, epoch=epoch)

    def report(self, line: dict[str, Any]) -> None:
        self._progress.update(self._task, loss=f"{line['loss']:.4f}")
        if line["kind"] == "epoch":
            print(format_epoch(line), flush=True)

    def end(self) -> None:
        self._progress.stop()
