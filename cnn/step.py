"""One training step: forward, loss, backward, update."""

from __future__ import annotations

from cnn.array import Array
from cnn.layers.layer import Layer
from cnn.loss import Loss
from cnn.optim import Optimizer


class TrainStep:
    """`loss = step(x, target)` does what these three calls by hand do, with the same bits:

        loss = criterion(model(x), target); model.backward(criterion.backward()); optimizer.step()

    except that it leaves out the gradient of x, which nothing needs. The model must be in training mode, or the step
    raises `RuntimeError` before any parameter is written.
    """

    def __init__(self, model: Layer, criterion: Loss, optimizer: Optimizer) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer

    def __call__(self, x: Array, target: Array) -> Array:
        """The loss, of shape (), of a batch x (N, ...) and its labels (N,), before the update."""
        loss = self.criterion(self.model.forward(x), target)
        self.model.backward(self.criterion.backward(), needs_input_gradient=False)
        self.optimizer.step()
        return loss
