"""The networks whose training is measured, and the same networks in `torch.nn`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from importlib import import_module
from typing import Any

import cnn
from benchmarks.errors import BenchmarkError
from cnn.kernels.suites import SUITES
from cnn.models import MODELS

# LeNet-5 and two wider ones, and one with batch normalisation, residuals and average pooling.
NETWORKS = tuple(MODELS)

# Images of a batch with --quick.
QUICK_BATCH = 16


@dataclass(frozen=True)
class Network:
    """A built-in network at the batch it is measured at. image: (C, H, W)."""

    name: str
    batch: int
    image: tuple[int, int, int]
    classes: int

    @staticmethod
    def named(name: str, quick: bool = False) -> Network:
        """Raises `BenchmarkError` for a name that is none."""
        if name not in NETWORKS:
            raise BenchmarkError(f"there is no network {name!r}: the networks are {', '.join(NETWORKS)}")
        suite = SUITES[name]
        return Network(name, QUICK_BATCH if quick else suite.batch, suite.image, suite.classes)

    @staticmethod
    def all(quick: bool) -> list[Network]:
        """Every one, or the first with few images."""
        return [Network.named(name, quick) for name in (NETWORKS[:1] if quick else NETWORKS)]

    @property
    def shape(self) -> str:
        return "x".join(map(str, (self.batch, *self.image)))

    def build(self, dropout: bool = True) -> cnn.Sequential:
        """The same weights every time. dropout: without it a step has no random numbers, and can be verified."""
        cnn.manual_seed(0)
        model = MODELS[self.name](self.image, self.classes)
        for layer in model.modules():
            if isinstance(layer, cnn.Dropout) and not dropout:
                layer.p = 0.0
        return model


def to_torch(model: cnn.Sequential) -> Any:
    """The same layers as a `torch.nn` module, with the same weights and names. Raises `TypeError` for other layers."""
    torch = import_module("torch")
    module = _torch(model)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    return module


@singledispatch
def _torch(layer: cnn.Layer) -> Any:
    raise TypeError(f"{layer} has no counterpart here")


@_torch.register
def _(layer: cnn.Sequential) -> Any:
    return _nn().Sequential(*(_torch(child) for _, child in layer.named_children()))


@_torch.register
def _(layer: cnn.Residual) -> Any:
    class Residual(_nn().Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = _torch(layer.body)
            self.shortcut = None if layer.shortcut is None else _torch(layer.shortcut)

        def forward(self, x: Any) -> Any:
            return self.body(x) + (x if self.shortcut is None else self.shortcut(x))

    return Residual()


@_torch.register
def _(layer: cnn.Conv2d) -> Any:
    sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return _nn().Conv2d(*sizes, groups=layer.groups, bias=layer.bias is not None)


@_torch.register
def _(layer: cnn.Linear) -> Any:
    return _nn().Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)


@_torch.register
def _(layer: cnn.BatchNorm2d) -> Any:
    return _nn().BatchNorm2d(layer.num_features, layer.eps, layer.momentum)


@_torch.register
def _(layer: cnn.MaxPool2d) -> Any:
    return _nn().MaxPool2d(layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)


@_torch.register
def _(layer: cnn.AdaptiveAvgPool2d) -> Any:
    return _nn().AdaptiveAvgPool2d(1)


@_torch.register
def _(layer: cnn.ReLU) -> Any:
    return _nn().ReLU()


@_torch.register
def _(layer: cnn.Dropout) -> Any:
    return _nn().Dropout(layer.p)


@_torch.register
def _(layer: cnn.Flatten) -> Any:
    return _nn().Flatten()


def _nn() -> Any:
    return import_module("torch").nn
