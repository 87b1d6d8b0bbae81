"""What parameters are worth nothing without: the model they belong to, and what its inputs and outputs mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnn.data import Dataset, Normalize
from cnn.layers import Layer
from cnn.models import build


@dataclass(frozen=True)
class Network:
    """Everything but the parameters, as a checkpoint keeps it.

    model: as `TrainConfig.model`. input_shape: (C, H, W). classes: their names, in the order of the outputs.
    normalize: of the training images. border: the mean of the training images' outermost pixels, and low, high their
    least and greatest values: all three in the unit of `Normalize`, in which uint8 images lie in 0..1.
    """

    model: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    normalize: Normalize
    border: float
    low: float
    high: float

    @classmethod
    def of(cls, model: str, dataset: Dataset) -> Network:
        """For training `model` on `dataset`. Raises ValueError for a data set without images."""
        images = dataset.images
        normalize = Normalize.of(dataset)
        unit = 1 / 255 if images.dtype == np.uint8 else 1.0
        edges = (images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1])
        border = float(np.mean([edge.mean(dtype=np.float64) for edge in edges])) * unit
        low, high = float(images.min()) * unit, float(images.max()) * unit
        return cls(model, dataset.image_shape, dataset.classes, normalize, border, low, high)

    def build(self, precision: str | None) -> Layer:
        """The model with fresh parameters, and with that precision, if one is given, in all its layers.

        Raises ValueError, OSError as `cnn.models.build`.
        """
        model = build(self.model, self.input_shape, len(self.classes))
        return model if precision is None else model.set_precision(precision)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **vars(self),
            "input_shape": list(self.input_shape),
            "classes": list(self.classes),
            "normalize": self.normalize.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Network:
        """The inverse of `to_dict`."""
        channels, height, width = values["input_shape"]
        return cls(
            **{
                **values,
                "input_shape": (channels, height, width),
                "classes": tuple(values["classes"]),
                "normalize": Normalize.from_dict(values["normalize"]),
            }
        )
