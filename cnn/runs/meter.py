"""Images per second."""

from __future__ import annotations

from time import perf_counter


class Meter:
    """Counts images from when it was made or last restarted."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._images = 0
        self._start = perf_counter()

    def add(self, images: int) -> None:
        self._images += images

    @property
    def images_per_second(self) -> float:
        return self._images / max(perf_counter() - self._start, 1e-9)
