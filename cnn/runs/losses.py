"""The losses of the steps since the last report, left where they were computed until they are looked at.

Reading one number back from a GPU waits for everything before it: once for many steps is what a run can afford. Each
loss keeps its place, so that the step that went wrong is known by its number all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.array import device_of, move


class NonFiniteError(RuntimeError):
    """NaN or infinity where training cannot go on from."""


class LossWindow:
    """The losses of up to `capacity` steps, and how many images each is the mean of."""

    def __init__(self, capacity: int) -> None:
        self._losses: Any = np.zeros(capacity, dtype=np.float32)
        self._images = np.zeros(capacity, dtype=np.int64)
        self._count = 0

    def append(self, loss: Any, images: int) -> None:
        """Note the loss, an array of shape () on any device, of a step of `images` images."""
        self._losses = move(self._losses, device_of(loss))
        self._losses[self._count] = loss
        self._images[self._count] = images
        self._count += 1

    def clear(self) -> None:
        self._count = 0

    def check(self, step: int) -> None:
        """Raises `NonFiniteError` naming the step of the first loss that is not finite; `step` is the last one's."""
        losses, _ = self.read()
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            raise NonFiniteError(f"the loss is {losses[wrong[0]]} at step {step - self._count + 1 + wrong[0]}")

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Losses and numbers of images, as NumPy copies."""
        return np.array(move(self._losses[: self._count], "cpu")), self._images[: self._count].copy()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        losses, images = self.read()
        return {"losses": losses, "images": images}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` returned."""
        self.clear()
        for loss, images in zip(state["losses"], state["images"], strict=True):
            self.append(np.asarray(loss), int(images))
