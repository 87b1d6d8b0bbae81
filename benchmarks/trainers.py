"""Who trains: ours, and PyTorch in its layouts. The same weights, batches, losses and updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

import numpy as np

import cnn
from benchmarks import gpu
from benchmarks.networks import to_torch
from benchmarks.providers.pytorch import PyTorch
from cnn.array import move

Array = np.ndarray[Any, Any]

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # with Nesterov's step


class Training(ABC):
    """A network under way. Arrays on the device come from `move`."""

    @abstractmethod
    def move(self, array: Array) -> Any: ...

    @abstractmethod
    def step(self, x: Any, labels: Any) -> Any:
        """One update by SGD; the loss before it, which nobody has waited for."""

    @abstractmethod
    def set_rate(self, lr: float) -> None: ...

    @abstractmethod
    def evaluate(self) -> None:
        """From now on `predict` is called."""

    @abstractmethod
    def train(self) -> None:
        """From now on `step` is called."""

    @abstractmethod
    def predict(self, x: Any) -> Any:
        """Scores (N, classes)."""

    @abstractmethod
    def to_numpy(self, array: Any) -> Array: ...


class Trainer(ABC):
    """name, about, device, precision, ours: as of a `Provider`."""

    name: str
    about: str
    device: str
    precision: str = "float32"
    ours: bool = False

    @abstractmethod
    def missing(self) -> str | None: ...

    @abstractmethod
    def start(self, model: cnn.Sequential, lr: float) -> Training:
        """Training mode; the model may be changed."""


class Ours(Trainer):
    """graph: on a GPU, replay a step as a CUDA graph, as a TrainStep does unless told otherwise."""

    def __init__(self, device: str, graph: bool = True, precision: str = "float32") -> None:
        self.device, self.precision, self._graph = device, precision, graph
        self.ours = precision == "float32"
        self.name = "ours" if device == "cpu" else "ours-cuda"
        self.about = f"cnn.TrainStep on the {'CPU' if device == 'cpu' else 'GPU'}"
        if not self.ours:
            self.name, self.about = f"{self.name}-{precision}", f"{self.about}, convolutions in {precision}"

    def missing(self) -> str | None:
        return gpu.missing() if self.device == "cuda" else None

    def start(self, model: cnn.Sequential, lr: float) -> Training:
        model = model.to(self.device)
        model.set_precision(self.precision)
        return _OursTraining(model, self.device, lr, self._graph)


class _OursTraining(Training):
    def __init__(self, model: cnn.Sequential, device: str, lr: float, graph: bool) -> None:
        self._device = device
        self._model = model
        self._optimizer = cnn.SGD(model.parameters(), lr, MOMENTUM, True, WEIGHT_DECAY)
        self._step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), self._optimizer, graph=graph)

    def move(self, array: Array) -> Any:
        return move(array, self._device)

    def step(self, x: Any, labels: Any) -> Any:
        return self._step(x, labels)

    def set_rate(self, lr: float) -> None:
        self._optimizer.lr = lr

    def evaluate(self) -> None:
        self._model.eval()

    def train(self) -> None:
        self._model.train()

    def predict(self, x: Any) -> Any:
        return self._model(x)

    def to_numpy(self, array: Any) -> Array:
        return np.asarray(move(array, "cpu"))


class Torch(Trainer):
    """On top of the provider of the same name, which knows layouts and precision."""

    def __init__(self, provider: PyTorch) -> None:
        self._provider = provider
        self.name, self.device, self.precision = provider.name, provider.device, provider.precision
        layout = "channels_last" if provider.channels_last else "contiguous"
        self.about = f"torch.nn and fused torch.optim.SGD, {layout}{', compiled' if provider.compiled else ''}"

    def missing(self) -> str | None:
        return self._provider.missing()

    def start(self, model: cnn.Sequential, lr: float) -> Training:
        return _TorchTraining(model, self._provider, lr)


class _TorchTraining(Training):
    def __init__(self, model: cnn.Sequential, provider: PyTorch, lr: float) -> None:
        torch = import_module("torch")
        self._torch, self._provider = torch, provider
        layout = torch.channels_last if provider.channels_last else torch.contiguous_format
        self._module = to_torch(model).to(provider.device).to(memory_format=layout)
        self._optimizer = torch.optim.SGD(
            self._module.parameters(), lr, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True, fused=True
        )
        self._called = torch.compile(self._module) if provider.compiled else self._module
        self._loss = torch.nn.CrossEntropyLoss()

    def move(self, array: Array) -> Any:
        if array.ndim == 4:
            return self._provider.tensor(array)
        return self._torch.from_numpy(array).to(self._provider.device)

    def step(self, x: Any, labels: Any) -> Any:
        self._provider.set_precision()
        loss = self._loss(self._called(x), labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return loss

    def set_rate(self, lr: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def evaluate(self) -> None:
        self._module.eval()

    def train(self) -> None:
        self._module.train()

    def predict(self, x: Any) -> Any:
        self._provider.set_precision()
        with self._torch.inference_mode():
            return self._called(x)

    def to_numpy(self, array: Any) -> Array:
        return np.asarray(array.detach().cpu().numpy())


class TorchGraph(Torch):
    """PyTorch without its cost of launching: a step is recorded once and replayed, which its users do by hand."""

    def __init__(self, provider: PyTorch) -> None:
        super().__init__(provider)
        self.name, self.about = f"{self.name}-graph", f"{self.about}, the step as one CUDA graph"

    def start(self, model: cnn.Sequential, lr: float) -> Training:
        return _TorchGraphTraining(model, self._provider, lr)


class _TorchGraphTraining(_TorchTraining):
    """After "Whole-network capture" in PyTorch's notes on CUDA semantics. Batches are copied to where the graph reads;
    so is the rate.
    """

    def __init__(self, model: cnn.Sequential, provider: PyTorch, lr: float) -> None:
        super().__init__(model, provider, lr)
        self._rate = self._torch.tensor(lr, device=provider.device)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate
        self._batch: tuple[Any, Any] | None = None

    def step(self, x: Any, labels: Any) -> Any:
        if self._batch is None or self._batch[0].shape != x.shape:
            self._batch = self._record(x, labels)
        for kept, given in zip(self._batch, (x, labels), strict=True):
            kept.copy_(given)
        self._graph.replay()
        return self._recorded

    def set_rate(self, lr: float) -> None:
        self._rate.fill_(lr)

    def _record(self, x: Any, labels: Any) -> tuple[Any, Any]:
        """The batch that is read from now on. The steps that lead up to a recording are undone."""
        torch, module = self._torch, self._module
        batch = x.clone(), labels.clone()
        before = {name: value.clone() for name, value in module.state_dict().items()}
        velocities = [self._velocity(parameter).clone() for parameter in module.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                super().step(*batch)
        torch.cuda.current_stream().wait_stream(stream)
        self._optimizer.zero_grad(set_to_none=True)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._recorded = self._loss(self._called(batch[0]), batch[1])
            self._recorded.backward()
            self._optimizer.step()
        module.load_state_dict(before)
        for parameter, velocity in zip(module.parameters(), velocities, strict=True):
            self._velocity(parameter).copy_(velocity)
        return batch

    def _velocity(self, parameter: Any) -> Any:
        """Of the momentum: zero before the first step, which is the same as none."""
        state = self._optimizer.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = self._torch.zeros_like(parameter)
        return state["momentum_buffer"]


TRAINERS: tuple[Trainer, ...] = (
    Ours("cpu"),
    Torch(PyTorch("cpu")),
    Torch(PyTorch("cpu", channels_last=True)),
    Torch(PyTorch("cpu", compiled=True)),
    Ours("cuda"),
    Ours("cuda", precision="tf32"),
    Ours("cuda", precision="bf16"),
    Torch(PyTorch("cuda")),
    Torch(PyTorch("cuda", channels_last=True)),
    Torch(PyTorch("cuda", tf32=True)),
    Torch(PyTorch("cuda", channels_last=True, tf32=True)),
    TorchGraph(PyTorch("cuda")),
    TorchGraph(PyTorch("cuda", channels_last=True)),
    TorchGraph(PyTorch("cuda", channels_last=True, tf32=True)),
    Torch(PyTorch("cuda", compiled=True)),
)
