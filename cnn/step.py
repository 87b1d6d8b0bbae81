"""One training step: forward, loss, backward, update."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cnn.ahead import compiled_ahead
from cnn.array import Array, device_of
from cnn.batch import Batch, Given
from cnn.graph import Routine
from cnn.kernels.buffers import allocate
from cnn.layers.joined import Joined, join
from cnn.layers.layer import Layer
from cnn.loss import Loss
from cnn.optim import Optimizer
from cnn.progress import Progress
from cnn.random import NumberedCalls

# Kinds of batches whose memory is kept: a full batch, the last one of an epoch, and two more.
MOST_KINDS = 4

# Losses that are allocated at a time: 4 KiB of them.
LOSSES = 1024


class TrainStep:
    """`loss = step(x, target)` does what these three calls by hand do, with the same bits:

        loss = criterion(model(x), target); model.backward(criterion.backward()); optimizer.step()

    except that it leaves out the gradient of x, which nothing needs. The model must be in training mode, or the step
    raises `RuntimeError` before any parameter is written.

    Memory is allocated in the first step with an x of some shape and used again in every later one (but for new room
    every 1024 losses): an array that a layer gave out holds other numbers after the next step. The loss is the
    caller's to keep. On a GPU nothing is read back and nothing waited for, and the second step with an x of some shape
    is recorded as a CUDA graph, which every later one replays. On a CPU with more than one thread, a second process
    of some 250 MB helps to compile the first step with an x of some shape, and ends with it.

    deterministic: the same bits in every run on a GPU, too; it is set in every layer of the model. graph=False: launch
    every kernel of every step, for layers of one's own that allocate or read back, and to look for a fault.
    Raises `MemoryError` that says what needs less where there is not enough, `RuntimeError` for a step that cannot be
    recorded.
    """

    def __init__(
        self,
        model: Layer,
        criterion: Loss,
        optimizer: Optimizer,
        *,
        deterministic: bool = False,
        graph: bool = True,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        for layer in model.modules():
            layer.deterministic = deterministic
        self._joined = join(model)
        self._layers = list(model.modules())
        self._device = device_of(optimizer.parameters[0].data)
        self._graph = graph and self._device == "cuda"
        # What atomics add to must be zero: one pass clears the gradients of all layers.
        self._clears = self._device == "cuda" and not deterministic
        if self._clears:
            for layer in self._joined.modules():
                if isinstance(layer, Joined):
                    layer.zeroed = all(map(optimizer.owns, layer.parameters()))
        self._routines: dict[Any, Routine] = {}
        self._shapes: set[tuple[int, ...]] = set()  # of images that there was a step with
        self._progress = Progress(optimizer.parameters[0].data)
        self._calls = NumberedCalls(optimizer.parameters[0].data) if self._graph else None
        self._losses: Array | None = None
        self._number = 0

    def __call__(self, x: Array, target: Array) -> Array:
        """The loss, of shape (), of a batch x (N, ...) and its labels (N,), before the update."""
        return self._kept(self._run(Given(x, target)))

    def run(self, batch: Batch) -> None:
        """A step whose loss stays where it is until `losses` asks for it: on a GPU, from the third on, one launch.

        The criterion must give one loss for a batch.
        """
        self._run(batch)

    def losses(self, count: int) -> Array:
        """A copy of the losses of the last `count` steps, at most 1024, in their order: (count,)."""
        return self._progress.last(count)

    def _run(self, batch: Batch) -> Array:
        self.optimizer.prepare()
        self._progress.seek(batch.first)
        if self._calls is not None:
            self._calls.prepare()
        try:
            routine = self._routine(batch)
            replayed = routine.run(batch)
        except MemoryError as error:
            self._routines.clear()
            raise MemoryError(
                f"TrainStep: {self._device!r} has too little memory for a batch of shape {batch.shape}, take a smaller "
                f"one: {error}"
            ) from error
        if replayed:
            for layer in self._layers:
                layer.replayed()
            self.optimizer.replayed()
            self._progress.replayed(batch.shape[0])
        if self._calls is not None:
            self._calls.counted_on_device()
        return routine.result

    def _routine(self, batch: Batch) -> Routine:
        # What the host decides by while a step is recorded must be the same in every replay.
        modes = tuple((layer.training, layer.precision_in_effect) for layer in self._layers)
        key = batch.key, modes, self.optimizer.fixed_options()
        if key not in self._routines:
            if len(self._routines) == MOST_KINDS:
                del self._routines[next(iter(self._routines))]
            self._routines[key] = Routine(self._compute, batch, self._progress.position, self._graph)
        return self._routines[key]

    def _compute(self, x: Array, target: Array, images: int) -> Array:
        if self._clears:
            self.optimizer.clear_gradients()
        with nullcontext() if self._calls is None else self._calls.counted(), self._compiled_ahead(x, target):
            loss = self.criterion(self._joined.forward(x), target)
            self._joined.backward(self.criterion.backward(), needs_input_gradient=False)
            if loss.shape == ():
                self.optimizer.step(self._progress.record(loss, images, self._calls))
            else:
                self.optimizer.step()
                if self._calls is not None:
                    self._calls.count()
        return loss

    def _compiled_ahead(self, x: Array, target: Array) -> AbstractContextManager[None]:
        if self._device != "cpu" or x.shape in self._shapes:
            return nullcontext()
        self._shapes.add(x.shape)
        return compiled_ahead(self._joined, self.criterion, x, target)

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
