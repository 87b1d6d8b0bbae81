"""Losses: `loss = criterion(output, target)`, then `criterion.backward()` for the gradient of the output.

loss is an array of shape (), or one value per image (per element for MSELoss) with reduction="none", whose gradient is
that of the sum. The kernels compute loss and gradient in one pass, so nothing is left to do on the way back.
"""

from __future__ import annotations

from cnn import kernels
from cnn.array import Array


class Loss:
    """The base of all losses. reduction: "mean", "sum" or "none", as in PyTorch."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction
        self._gradient: Array | None = None

    def __call__(self, output: Array, target: Array) -> Array:
        """The loss of `output` against `target`."""
        raise NotImplementedError(f"{type(self).__name__}: __call__ is not written")

    def backward(self) -> Array:
        """The gradient of the last loss with respect to the output, given out once.

        Raises `RuntimeError` where no loss was computed since the last one was given out.
        """
        if self._gradient is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a loss computed before it, and there is none")
        gradient, self._gradient = self._gradient, None
        return gradient


class CrossEntropyLoss(Loss):
    """Cross-entropy of softmax(output (N, M)) with integer labels (N,) in 0..M-1, as `torch.nn.CrossEntropyLoss`.

    Raises `ShapeError` (labels out of range and unknown reductions, too), `DTypeError`.
    """

    def __call__(self, output: Array, target: Array) -> Array:
        loss, self._gradient = kernels.softmax_cross_entropy(output, target, reduction=self.reduction)
        return loss


class MSELoss(Loss):
    """(output - target)^2 for arrays of one shape; "mean" divides by the number of elements, as `torch.nn.MSELoss`.

    Raises `ShapeError`, `DTypeError`.
    """

    def __call__(self, output: Array, target: Array) -> Array:
        loss, self._gradient = kernels.mean_squared_error(output, target, reduction=self.reduction)
        return loss


class HingeLoss(Loss):
    """Multi-class support-vector loss of scores (N, M): the sum over j != label of max(0, margin + s_j - s_label).

    It is not divided by M as `torch.nn.MultiMarginLoss` is. Raises as `CrossEntropyLoss`. Source: Weston and Watkins
    1999, "Support vector machines for multi-class pattern recognition".
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = float(margin)

    def __call__(self, output: Array, target: Array) -> Array:
        loss, self._gradient = kernels.hinge(output, target, margin=self.margin, reduction=self.reduction)
        return loss
