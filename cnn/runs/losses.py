"""The losses of the steps since the last report, left where they were computed until they are looked at.

Reading one number back from a GPU waits for everything before it: once for many steps is what a run can afford. Each
loss keeps its place, so that the step that went wrong is known by its number all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.array import move


class NonFiniteError(RuntimeError):
    """NaN or infinity where training cannot go on from."""


class LossWindow:
    """The losses of the steps since `clear`, and how many images each is the mean of.

    recent(n): the losses of the last n steps, an array (n,) on any device.
    """

    def __init__(self, recent: Callable[[int], Any]) -> None:
        self._recent = recent
        self._restored = np.zeros(0, dtype=np.float32)  # from before these steps
        self._images: list[int] = []

    def append(self, images: int) -> None:
        """Note a step of `images` images."""
        self._images.append(images)

    def clear(self) -> None:
        self._restored = self._restored[:0]
        self._images.clear()

    def check(self, step: int) -> None:
        """Raises `NonFiniteError` naming the step of the first loss that is not finite; `step` is the last one's."""
        losses, _ = self.read()
        wrong = np.flatnonzero(~np.isfinite(losses))
        if len(wrong):
            raise NonFiniteError(f"the loss is {losses[wrong[0]]} at step {step - len(losses) + 1 + wrong[0]}")

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Losses and numbers of images, as NumPy copies."""
        recent = move(self._recent(len(self._images) - len(self._restored)), "cpu")
        return np.concatenate([self._restored, recent]), np.array(self._images, dtype=np.int64)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """For a checkpoint."""
        losses, images = self.read()
        return {"losses": losses, "images": images}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` returned."""
        self._restored = np.array(state["losses"])
        self._images = state["images"].tolist()
