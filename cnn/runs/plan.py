"""What a training step of a network launches on a GPU: kernels, tiles, bytes, operations. Known without one.

Bytes are compulsory: each number that a launch has part in is read or written once. Operations are those of matrix
products, two for a multiply-add.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cnn
from cnn.kernels.suites import Layer as Shape
from cnn.kernels.suites import Suite
from cnn.layers import Layer

NUMBER = 4  # bytes

NAMES: dict[type[Layer], str] = {
    cnn.BatchNorm2d: "batch_norm",
    cnn.ReLU: "relu",
    cnn.Dropout: "dropout",
}


@dataclass(frozen=True)
class Line:
    """One launch. tile: its constants, by name. bytes, flops: 0 where nothing is known to be needed."""

    layer: str
    purpose: str
    kernel: str
    tile: dict[str, int]
    grid: tuple[int, ...]
    block: tuple[int, ...]
    bytes: int
    flops: int


def plan(model: Layer, image: tuple[int, int, int], classes: int, batch: int) -> list[Line]:
    """The launches of a step from a resident data set, in their order, with SGD.

    Raises ValueError for a layer that this cannot tell of, `BackendError` without numba-cuda.
    """
    from cnn.kernels.cuda.codegen.launches import training_step

    suite = described(model, image, classes, batch)
    shapes = {layer.name: layer for layer in suite.layers}
    pooled = {
        before.name: layer
        for before, layer in _neighbours(suite.layers)
        if before.operation == "conv" and layer.operation == "max_pool"
    }
    works = training_step(suite)
    # On tensor cores an input gradient with a stride is a launch for each phase of its pixels, and each does a part.
    parts = Counter((work.layer, work.purpose, work.name) for work in works)
    lines = []
    for work in works:
        launch, shape = work.launch, shapes.get(work.layer)
        numbers, flops = _of_step(work, suite) if shape is None else _of_layer(work, shape, pooled, batch)
        share = parts[work.layer, work.purpose, work.name]
        where = ({}, (), ()) if launch is None else (dict(launch.kernel.tile), launch.grid, launch.block)
        costs = NUMBER * numbers // share, flops // share
        lines.append(Line(work.layer, work.purpose, work.name, *where, *costs))
    return lines


def table(lines: list[Line]) -> str:
    """The launches as text, with their sums."""
    head = ("", "layer", "purpose", "kernel", "tile", "grid", "block", "kB", "MFLOP")
    rows = [
        (
            str(number),
            line.layer,
            line.purpose,
            line.kernel,
            " ".join(f"{name}={value}" for name, value in line.tile.items()),
            "x".join(map(str, line.grid)),
            "x".join(map(str, line.block)),
            f"{line.bytes / 1000:.1f}",
            f"{line.flops / 1e6:.1f}" if line.flops else "",
        )
        for number, line in enumerate(lines, 1)
    ]
    bytes_, flops = sum(line.bytes for line in lines), sum(line.flops for line in lines)
    rows.append(("", "", "", f"{len(lines)} launches", "", "", "", f"{bytes_ / 1000:.1f}", f"{flops / 1e6:.1f}"))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))


def described(model: Layer, image: tuple[int, int, int], classes: int, batch: int) -> Suite:
    """A network as plain data. Raises ValueError for a layer of another kind than the built-in networks have."""
    return Suite(batch, image, classes, tuple(_layers(model, image)))


def _layers(model: Layer, x: tuple[int, ...], prefix: str = "") -> Iterator[Shape]:
    for name, layer in model.named_children():
        place = f"{prefix}{name}"
        y = layer.output_shape((1, *x))[1:]
        if isinstance(layer, cnn.Residual):
            yield from _layers(layer.body, x, f"{place}.body.")
            if layer.shortcut is not None:
                yield from _layers(layer.shortcut, x, f"{place}.shortcut.")
            yield Shape(place, "add", y)
        elif isinstance(layer, cnn.Sequential):
            yield from _layers(layer, x, f"{place}.")
        elif not isinstance(layer, cnn.Flatten):
            yield _layer(place, layer, x)
        x = y


def _layer(place: str, layer: Layer, x: tuple[int, ...]) -> Shape:
    if isinstance(layer, cnn.Conv2d):
        stride = layer.stride[0]
        simple = layer.dilation == (1, 1) and layer.mode == "cross-correlation" and layer.stride == (stride, stride)
        if simple and isinstance(layer.padding, int):
            options: dict[str, Any] = {"stride": stride, "padding": layer.padding, "bias": layer.bias is not None}
            return Shape(place, "conv", x, layer.weight.shape, **options, precision=layer.precision_in_effect)
    elif isinstance(layer, cnn.Linear):
        return Shape(place, "linear", x, layer.weight.shape, bias=layer.bias is not None)
    elif isinstance(layer, cnn.MaxPool2d) and layer.is_side_by_side:
        return Shape(place, "max_pool", x, window=layer.kernel_size)
    elif isinstance(layer, cnn.AdaptiveAvgPool2d):
        return Shape(place, "avg_pool", x, window=x[1:])
    elif type(layer) in NAMES:
        return Shape(place, NAMES[type(layer)], x)
    raise ValueError(f"plan: layer {place}, {layer}, is of a kind that the plan does not tell of")


def _neighbours(layers: tuple[Shape, ...]) -> Iterator[tuple[Shape, Shape]]:
    """Each layer with what stands behind it, activations left out."""
    return pairwise(layer for layer in layers if layer.operation != "relu")


def _of_layer(work: Any, layer: Shape, pooled: dict[str, Shape], images: int) -> tuple[int, int]:
    """Numbers moved, and operations."""
    x, weight = images * math.prod(layer.x), math.prod(layer.weight)
    # Read as they are, written as they are multiplied: bf16 in half as many bytes.
    packed = (weight + weight // (2 if layer.precision == "bf16" else 1)) * ("pack_weights" in work.name)
    if layer.operation in ("conv", "linear"):
        y = math.prod(layer.conv(images).y_shape) if layer.operation == "conv" else images * layer.weight[0]
        flops = 2 * y * math.prod(layer.weight[1:])
        # With pooling only maxima and where they stood are in memory.
        window = pooled[layer.name].window if layer.name in pooled else (1, 1)
        kept = y // math.prod(window) * (1 if window == (1, 1) else 2)
        if work.name.startswith("pack_weights"):
            return packed, 0
        if work.purpose == "unpooling":  # the gradient, where maxima stood, and outputs, for the derivative
            return y + kept + y // math.prod(window), 0
        passes = 2 if work.purpose in ("both gradients", "backward") else 1
        return passes * (x + weight + kept) + packed, passes * flops
    if layer.operation in ("max_pool", "avg_pool"):
        return x + 2 * x // math.prod(layer.window), 0
    return {"batch_norm": 2, "relu": 2 if work.purpose == "forward" else 3}.get(layer.operation, 3) * x, 0


def _of_step(work: Any, suite: Suite) -> tuple[int, int]:
    scores, pixels = suite.batch * suite.classes, suite.batch * math.prod(suite.image)
    # Pixels are read as bytes. The update reads values, gradients and velocity, and writes the first and the last.
    numbers = {"gather": pixels + pixels // NUMBER, "clear gradients": suite.parameters, "update": 5 * suite.parameters}
    return numbers.get(work.purpose, 2 * scores), 0
