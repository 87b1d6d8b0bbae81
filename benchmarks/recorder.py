"""Rows as they come: kept, and written at once where `--json` asked for a file, so that Ctrl-C loses none of them."""

from __future__ import annotations

import dataclasses
from typing import Any, TextIO

from benchmarks import gpu, machine
from benchmarks.clock import Statistics
from benchmarks.rows import Row


class Recorder:
    """command: of all rows. stream: where each goes as a line of JSON."""

    def __init__(self, command: str, stream: TextIO | None = None) -> None:
        self.command = command
        self.rows: list[Row] = []
        self._stream = stream

    def measured(
        self,
        layer: str,
        shape: str,
        purpose: str,
        provider: str,
        device: str,
        *,
        statistics: Statistics | None = None,
        **more: Any,
    ) -> Row:
        """Add one row of "cpu" or "cuda", with where and what it was measured on; more: further fields of `Row`."""
        row = Row(
            command=self.command,
            layer=layer,
            shape=shape,
            purpose=purpose,
            provider=provider,
            device=gpu.name() if device == "cuda" else machine.processor(),
            machine=machine.describe(),
            versions=machine.versions(),
            commit=machine.commit(),
            **(dataclasses.asdict(statistics) if statistics else {}),
            **more,
        )
        self.rows.append(row)
        if self._stream is not None:
            print(row.to_json(), file=self._stream, flush=True)
        return row
