"""The layers of the built-in networks as plain data, for benchmarks and reports: they need shapes, and no network.

This package knows nothing of `cnn.models`; a test holds the two against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cnn.kernels.geometry import ConvGeometry, PoolGeometry
from cnn.kernels.precision import FLOAT32


@dataclass(frozen=True)
class Layer:
    """One layer in its place. name: as in the network's state. operation: "conv", "batch_norm", "relu", "max_pool",
    "avg_pool", "linear", "dropout", or "add" for the sum of a residual layer. x: shape of an image's input.

    weight (K, C/groups, R, S) or (out, in); window: of pooling, side by side; precision: of convolutions.
    """

    name: str
    operation: str
    x: tuple[int, ...]
    weight: tuple[int, ...] = ()
    stride: int = 1
    padding: int = 0
    bias: bool = True
    window: tuple[int, ...] = ()
    precision: str = FLOAT32

    @property
    def parameters(self) -> int:
        if self.operation == "batch_norm":
            return 2 * self.x[0]
        return math.prod(self.weight) + self.weight[0] * self.bias if self.weight else 0

    def conv(self, images: int) -> ConvGeometry:
        groups = self.x[0] // self.weight[1]
        x = (images, *self.x)
        return ConvGeometry.of(self.name, x, self.weight, stride=self.stride, padding=self.padding, groups=groups)

    def pool(self, images: int) -> PoolGeometry:
        return PoolGeometry.of(self.name, (images, *self.x), self.window)


@dataclass(frozen=True)
class Suite:
    """A network and the batch it is measured at. Its first layer needs no input gradient."""

    batch: int
    image: tuple[int, int, int]
    classes: int
    layers: tuple[Layer, ...]

    @property
    def parameters(self) -> int:
        """How many numbers the optimiser updates."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def convolutions(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.operation == "conv")

    def computed_in(self, precision: str) -> Suite:
        """With that precision in all convolutions."""
        layers = (replace(one, precision=precision) if one.operation == "conv" else one for one in self.layers)
        return replace(self, layers=tuple(layers))


def _block(name: str, channels: int, filters: int, size: int, stride: int) -> tuple[Layer, ...]:
    """A residual block of `resnet8`; size: of its input's sides."""
    before, after, small = (channels, size, size), (filters, size // stride, size // stride), (filters, channels, 1, 1)
    shortcut = (
        Layer(f"{name}.shortcut.0", "conv", before, small, stride=stride, bias=False),
        Layer(f"{name}.shortcut.1", "batch_norm", after),
    )
    return (
        Layer(f"{name}.body.0", "conv", before, (filters, channels, 3, 3), stride=stride, padding=1, bias=False),
        Layer(f"{name}.body.1", "batch_norm", after),
        Layer(f"{name}.body.2", "relu", after),
        Layer(f"{name}.body.3", "conv", after, (filters, filters, 3, 3), padding=1, bias=False),
        Layer(f"{name}.body.4", "batch_norm", after),
        *(shortcut if before != after else ()),
        Layer(name, "add", after),
    )


SUITES = {
    "lenet5": Suite(
        batch=64,
        image=(1, 28, 28),
        classes=10,
        layers=(
            Layer("0", "conv", (1, 28, 28), (6, 1, 5, 5), padding=2),
            Layer("1", "relu", (6, 28, 28)),
            Layer("2", "max_pool", (6, 28, 28), window=(2, 2)),
            Layer("3", "conv", (6, 14, 14), (16, 6, 5, 5)),
            Layer("4", "relu", (16, 10, 10)),
            Layer("5", "max_pool", (16, 10, 10), window=(2, 2)),
            Layer("7", "linear", (400,), (120, 400)),
            Layer("8", "relu", (120,)),
            Layer("9", "linear", (120,), (84, 120)),
            Layer("10", "relu", (84,)),
            Layer("11", "linear", (84,), (10, 84)),
        ),
    ),
    "mnist-cnn": Suite(
        batch=64,
        image=(1, 28, 28),
        classes=10,
        layers=(
            Layer("0", "conv", (1, 28, 28), (32, 1, 3, 3)),
            Layer("1", "relu", (32, 26, 26)),
            Layer("2", "conv", (32, 26, 26), (64, 32, 3, 3)),
            Layer("3", "relu", (64, 24, 24)),
            Layer("4", "max_pool", (64, 24, 24), window=(2, 2)),
            Layer("5", "dropout", (64, 12, 12)),
            Layer("7", "linear", (9216,), (128, 9216)),
            Layer("8", "relu", (128,)),
            Layer("9", "dropout", (128,)),
            Layer("10", "linear", (128,), (10, 128)),
        ),
    ),
    "cifar-cnn": Suite(
        batch=128,
        image=(3, 32, 32),
        classes=10,
        layers=(
            Layer("0", "conv", (3, 32, 32), (32, 3, 3, 3), padding=1),
            Layer("1", "relu", (32, 32, 32)),
            Layer("2", "conv", (32, 32, 32), (32, 32, 3, 3), padding=1),
            Layer("3", "relu", (32, 32, 32)),
            Layer("4", "max_pool", (32, 32, 32), window=(2, 2)),
            Layer("5", "conv", (32, 16, 16), (64, 32, 3, 3), padding=1),
            Layer("6", "relu", (64, 16, 16)),
            Layer("7", "conv", (64, 16, 16), (64, 64, 3, 3), padding=1),
            Layer("8", "relu", (64, 16, 16)),
            Layer("9", "max_pool", (64, 16, 16), window=(2, 2)),
            Layer("11", "linear", (4096,), (128, 4096)),
            Layer("12", "relu", (128,)),
            Layer("13", "dropout", (128,)),
            Layer("14", "linear", (128,), (10, 128)),
        ),
    ),
    "resnet8": Suite(
        batch=128,
        image=(3, 32, 32),
        classes=10,
        layers=(
            Layer("0", "conv", (3, 32, 32), (16, 3, 3, 3), padding=1, bias=False),
            Layer("1", "batch_norm", (16, 32, 32)),
            Layer("2", "relu", (16, 32, 32)),
            *_block("3", 16, 16, 32, 1),
            Layer("4", "relu", (16, 32, 32)),
            *_block("5", 16, 32, 32, 2),
            Layer("6", "relu", (32, 16, 16)),
            *_block("7", 32, 64, 16, 2),
            Layer("8", "relu", (64, 8, 8)),
            Layer("9", "avg_pool", (64, 8, 8), window=(8, 8)),
            Layer("11", "linear", (64,), (10, 64)),
        ),
    ),
}
