"""One training step: forward, loss, backward, update."""

from __future__ import annotations

from typing import Any

from cnn.array import Array, device_of
from cnn.kernels.buffers import Arena, allocate
from cnn.layers.joined import join
from cnn.layers.layer import Layer
from cnn.loss import Loss
from cnn.optim import Optimizer

# Shapes of x whose memory is kept: a full batch, the last one of an epoch, and two more.
MOST_SHAPES = 4

# Losses that are allocated at a time: 4 KiB of them.
LOSSES = 1024


class TrainStep:
    """`loss = step(x, target)` does what these three calls by hand do, with the same bits:

        loss = criterion(model(x), target); model.backward(criterion.backward()); optimizer.step()

    except that it leaves out the gradient of x, which nothing needs. The model must be in training mode, or the step
    raises `RuntimeError` before any parameter is written.

    Memory is allocated in the first step with an x of some shape and used again in every later one (but for new room
    every 1024 losses): an array that a layer gave out holds other numbers after the next step. The loss is the
    caller's to keep. On a GPU nothing is read back and nothing waited for.

    deterministic: the same bits in every run on a GPU, too; it is set in every layer of the model.
    Raises `MemoryError` that says what needs less where there is not enough.
    """

    def __init__(self, model: Layer, criterion: Loss, optimizer: Optimizer, *, deterministic: bool = False) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        for layer in model.modules():
            layer.deterministic = deterministic
        self._joined = join(model)
        self._arenas: dict[Any, Arena] = {}
        self._losses: Array | None = None
        self._number = 0

    def __call__(self, x: Array, target: Array) -> Array:
        """The loss, of shape (), of a batch x (N, ...) and its labels (N,), before the update."""
        try:
            with self._arena(x).reused():
                loss = self.criterion(self._joined.forward(x), target)
                self._joined.backward(self.criterion.backward(), needs_input_gradient=False)
                self.optimizer.step()
            return self._kept(loss)
        except MemoryError as error:
            self._arenas.clear()
            raise MemoryError(
                f"TrainStep: {device_of(x)!r} has too little memory for a batch of shape {x.shape}, take a smaller "
                f"one: {error}"
            ) from error

    def _arena(self, x: Array) -> Arena:
        key = device_of(x), x.shape, x.dtype
        if key not in self._arenas:
            if len(self._arenas) == MOST_SHAPES:
                del self._arenas[next(iter(self._arenas))]
            self._arenas[key] = Arena()
        return self._arenas[key]

    def _kept(self, loss: Array) -> Array:
        """A copy of the loss that no later step writes to."""
        if loss.shape != ():
            return loss.copy()
        losses = self._losses
        if losses is None or self._number == LOSSES or losses.dtype != loss.dtype or type(losses) is not type(loss):
            losses = self._losses = allocate(LOSSES, loss.dtype, like=loss)
            self._number = 0
        kept = losses[self._number : self._number + 1].reshape(())
        kept[...] = loss
        self._number += 1
        return kept
