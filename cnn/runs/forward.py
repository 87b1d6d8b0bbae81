"""A model's outputs for batch after batch, in evaluation mode, with the same memory again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.array import Array, move
from cnn.batch import Batch
from cnn.graph import Routine
from cnn.layers import Layer
from cnn.layers.joined import join

MOST_KINDS = 2  # a full batch, and the last one


class Forward:
    """`forward(batch)` is a copy of model(x) for the images of `batch`. The model must be in evaluation mode.

    graph: on a GPU, replay it as a CUDA graph from the third batch of a shape on.
    """

    def __init__(self, model: Layer, *, graph: bool = True) -> None:
        self.model = model
        self._graph = graph
        self._joined = join(model)
        self._routines: dict[Any, Routine] = {}
        self._position: Array | None = None

    def __call__(self, batch: Batch) -> Array:
        # A graph knows the addresses of the parameters, too.
        parameters = tuple(id(parameter.data) for parameter in self.model.parameters())
        key = batch.key, parameters, tuple(layer.precision_in_effect for layer in self.model.modules())
        if key not in self._routines:
            if len(self._routines) == MOST_KINDS:
                del self._routines[next(iter(self._routines))]
            graph = self._graph and batch.device == "cuda"
            self._routines[key] = Routine(self._compute, batch, self._at(batch), graph)
        if batch.first is not None:
            self._at(batch).fill(batch.first)
        routine = self._routines[key]
        routine.run(batch)
        return routine.result.copy()

    def _compute(self, x: Array, _labels: Array, _images: int) -> Array:
        return self._joined.forward(x)

    def _at(self, batch: Batch) -> Array:
        if self._position is None:
            self._position = move(np.zeros(1, np.int32), batch.device)
        return self._position
