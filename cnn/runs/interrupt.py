"""Ctrl-C and SIGTERM, noted when they come and acted on where a run can stop: between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")


class Interrupted(Exception):
    """A signal asked the run to end. `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.signal = number


class Interrupt:
    """Inside `with`, the first SIGINT or SIGTERM is noted for `check`; a second one is a KeyboardInterrupt at once.

    Outside of the main thread, which alone may set handlers, it notes nothing.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def between(self, items: Iterable[Item]) -> Iterator[Item]:
        """`items`, with a `check` before each."""
        for item in items:
            self.check()
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number
