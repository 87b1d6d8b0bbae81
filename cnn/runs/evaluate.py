"""How good a model is on labelled images: predictions, probabilities and losses of each, accuracy, confusion matrix.

p = softmax(model(x));  predicted = argmax p;  loss = -log p[label]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.array import Array, move, namespace
from cnn.batch import Batch
from cnn.data import Batches, Dataset, Normalize
from cnn.runs.forward import Forward

# Wide enough for every vector lane; the activations of resnet8 on CIFAR images still fit in some 70 MB.
BATCH_SIZE = 128


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model said of N images, in their order.

    labels, predicted: (N,) int64. probability: (N,) of the predicted class. losses: (N,) cross-entropy, natural
    logarithm. Both float64. classes: how many there are.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    losses: NDArray[np.float64]
    classes: int

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> int:
        return int(np.count_nonzero(self.predicted == self.labels))

    @property
    def accuracy(self) -> float:
        """In 0..1."""
        return self.correct / self.images

    @property
    def loss(self) -> float:
        """The mean over the images."""
        return float(self.losses.mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """(classes, classes): how many images of the row's class were taken for the column's."""
        pairs = self.labels * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes).astype(np.int64)

    @property
    def mistakes(self) -> NDArray[np.int64]:
        """Positions of the images that were taken for another class, the one with the greatest loss first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")].astype(np.int64)


def evaluation_batches(dataset: Dataset, normalize: Normalize) -> Batches:
    """`dataset` as it is to be evaluated: in order, whole, as the network wants it."""
    return Batches(dataset, BATCH_SIZE, shuffle=False, normalize=normalize)


def evaluate(forward: Forward, batches: Iterable[Batch], classes: int) -> Evaluation:
    """Run a model in eval mode over `batches`, which lie where it does; its mode is put back, also after an error.

    Raises ValueError for no images at all or outputs that are not (N, classes), and what the model raises.
    """
    model = forward.model
    was_training = model.training
    model.eval()
    try:
        judged = [(_outputs(forward, batch, classes), batch.labels.copy()) for batch in batches]
    finally:
        if was_training:
            model.train()
    if not judged:
        raise ValueError("evaluate: there are no images")
    # Only now: reading back after each batch would make a GPU wait for the host, and the host for the GPU.
    outputs, labels = (_read(parts) for parts in zip(*judged, strict=True))
    logs = log_softmax(outputs)
    rows = np.arange(len(labels))
    predicted = logs.argmax(axis=1)
    return Evaluation(labels, predicted, np.exp(logs[rows, predicted]), -logs[rows, labels], classes)


def log_softmax(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """log p (N, classes) in float64 of outputs (N, classes). Infinite outputs give NaN."""
    with np.errstate(invalid="ignore"):
        shifted = outputs - outputs.max(axis=1, keepdims=True).astype(np.float64)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _outputs(forward: Forward, batch: Batch, classes: int) -> Array:
    images, outputs = batch.shape[0], forward(batch)
    if outputs.shape != (images, classes):
        raise ValueError(f"the model must return shape {(images, classes)} for {images} images, got {outputs.shape}")
    return outputs


def _read(parts: Sequence[Array]) -> NDArray[Any]:
    """One array of all, on the host."""
    together: NDArray[Any] = move(namespace(parts[0]).concatenate(parts), "cpu")
    return together
