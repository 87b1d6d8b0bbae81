"""What a run shows while it trains: plain lines, or a bar where there is a terminal to draw it on."""

from __future__ import annotations

import sys
from typing import Any, Protocol


class Display(Protocol):
    """`begin`, then `step` after every step and `report` with every line of metrics.jsonl, then `end`, always."""

    def begin(self, total_steps: int, step: int, batch_size: int) -> None: ...

    def step(self, step: int, epoch: int) -> None: ...

    def report(self, line: dict[str, Any]) -> None: ...

    def end(self) -> None: ...


class Lines:
    """A line on stdout for each report: for logs, pipes and terminals that cannot draw."""

    def begin(self, total_steps: int, step: int, batch_size: int) -> None:
        self._total = total_steps

    def step(self, step: int, epoch: int) -> None:
        pass

    def report(self, line: dict[str, Any]) -> None:
        # At once: someone may be waiting at the other end of a pipe.
        print(format_epoch(line) if line["kind"] == "epoch" else format_step(line, self._total), flush=True)

    def end(self) -> None:
        pass


def choose_display() -> Display:
    """A bar if stderr is a terminal, plain lines if not."""
    if sys.stderr.isatty():
        from cnn.runs.bar import Bar

        return Bar()
    return Lines()


def format_step(line: dict[str, Any], total_steps: int) -> str:
    return (
        f"step {line['step']:>6} of {total_steps}  loss {line['loss']:.4f}  lr {line['lr']:.3g}  "
        f"{line['images_per_second']:,.0f} images/s"
    )


def format_epoch(line: dict[str, Any]) -> str:
    return (
        f"epoch {line['epoch']}  loss {line['loss']:.4f}  test loss {line['test_loss']:.4f}  "
        f"accuracy {line['accuracy']:.4f}  {line['images_per_second']:,.0f} images/s  {line['seconds']:.1f} s"
    )
