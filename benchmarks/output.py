"""Where results go: the files that were asked for, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from benchmarks.errors import BenchmarkError
from benchmarks.tables import Table


def check(*paths: str | None) -> None:
    """Each can be written, without writing it. Raises `BenchmarkError`."""
    for path in filter(None, paths):
        existed = Path(path).exists()
        try:
            with open(path, "ab"):
                pass
        except OSError as error:
            raise BenchmarkError(
                f"cannot write {path}: {error.strerror}; name a file in a folder that exists and can be written to"
            ) from error
        if not existed:
            Path(path).unlink()


def write_markdown(tables: Sequence[Table], path: str | None) -> None:
    if path is not None:
        Path(path).write_text("\n".join(table.markdown() for table in tables), encoding="utf-8")


def opened(path: str | None, stack: ExitStack) -> TextIO | None:
    return None if path is None else stack.enter_context(open(path, "w", encoding="utf-8"))
