"""What is measured: convolutions as named cases, in suites or from the command line.

A shape is written NxCxHxW:KxCxRxS:options, images before filters, e.g. `64x1x28x28:6x1x5x5:padding=2`; of the options
stride, padding, dilation and groups those may be left out that have PyTorch's defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.errors import BenchmarkError
from cnn.kernels import ConvGeometry, ShapeError
from cnn.kernels.suites import SUITES as NETWORKS

FORWARD, KERNEL_GRADIENT, INPUT_GRADIENT = "forward", "kernel gradient", "input gradient"
PASSES = (FORWARD, KERNEL_GRADIENT, INPUT_GRADIENT)

OPTIONS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}

# Images of a batch with --quick: enough for a whole vector of the CPU's lanes, and then one image more.
QUICK_IMAGES = 17


@dataclass(frozen=True)
class Case:
    """One convolution, with the same stride, padding and dilation in both dimensions.

    passes: those that a training step needs; the first layer of a network has no input gradient.
    """

    name: str
    x: tuple[int, ...]
    weight: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    passes: tuple[str, ...] = PASSES

    @property
    def geometry(self) -> ConvGeometry:
        return ConvGeometry.of(self.name, self.x, self.weight, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of `cnn.kernels.conv_forward`, and of PyTorch's `conv2d`."""
        return {name: getattr(self, name) for name in OPTIONS}

    @property
    def images(self) -> int:
        return self.x[0]

    @property
    def shape(self) -> str:
        """As the command line takes it."""
        given = ",".join(f"{name}={value}" for name, value in self.options.items() if value != OPTIONS[name])
        return ":".join(filter(None, ("x".join(map(str, self.x)), "x".join(map(str, self.weight)), given)))

    def with_images(self, images: int) -> Case:
        return replace(self, x=(images, *self.x[1:]))


def _network(name: str) -> tuple[Case, ...]:
    suite = NETWORKS[name]
    return tuple(
        Case(
            f"{name}.{layer.name}",
            (suite.batch, *layer.x),
            layer.weight,
            layer.stride,
            layer.padding,
            groups=layer.x[0] // layer.weight[1],
            bias=layer.bias,
            passes=PASSES if number else PASSES[:2],
        )
        for number, layer in enumerate(suite.convolutions)
    )


# Layers on which kernels for small networks differ most: thin and wide ones, 1x1 and strides, odd and tiny batches.
_SMALL = (
    *(case for name in ("lenet5", "mnist-cnn", "cifar-cnn") for case in _network(name)),
    Case("128 channels", (64, 128, 8, 8), (128, 128, 3, 3), padding=1),
    Case("stride 2", (64, 32, 16, 16), (64, 32, 3, 3), stride=2, padding=1),
    Case("1x1", (64, 64, 16, 16), (64, 64, 1, 1)),
    Case("5x5", (64, 20, 12, 12), (50, 20, 5, 5)),
    Case("batch 7", (7, 32, 16, 16), (32, 32, 3, 3), padding=1),
    Case("batch 100", (100, 32, 16, 16), (32, 32, 3, 3), padding=1),
    Case("one image", (1, 32, 16, 16), (32, 32, 3, 3), padding=1),
)

# W, H, C, N, K, kernel size, padding, stride: the 3x3 and 5x5 layers for images of DeepBench's training set, each at
# its largest batch (github.com/baidu-research/DeepBench, code/kernels/conv_problems.h).
_DEEPBENCH = (
    (480, 48, 1, 16, 16, 3, 1, 1),
    (240, 24, 16, 16, 32, 3, 1, 1),
    (120, 12, 32, 16, 64, 3, 1, 1),
    (60, 6, 64, 16, 128, 3, 1, 1),
    (108, 108, 3, 8, 64, 3, 1, 2),
    (54, 54, 64, 8, 64, 3, 1, 1),
    (27, 27, 128, 8, 128, 3, 1, 1),
    (14, 14, 128, 8, 256, 3, 1, 1),
    (7, 7, 256, 8, 512, 3, 1, 1),
    (224, 224, 3, 16, 64, 3, 1, 1),
    (112, 112, 64, 16, 128, 3, 1, 1),
    (56, 56, 128, 16, 256, 3, 1, 1),
    (28, 28, 256, 16, 512, 3, 1, 1),
    (14, 14, 512, 16, 512, 3, 1, 1),
    (7, 7, 512, 16, 512, 3, 1, 1),
    (28, 28, 192, 16, 32, 5, 2, 1),
    (14, 14, 512, 16, 48, 5, 2, 1),
    (7, 7, 832, 16, 128, 5, 2, 1),
    (56, 56, 64, 16, 64, 3, 1, 1),
    (28, 28, 128, 16, 128, 3, 1, 1),
    (14, 14, 256, 16, 256, 3, 1, 1),
)

SUITES: dict[str, tuple[Case, ...]] = {
    **{name: _network(name) for name in NETWORKS},
    "small": _SMALL,
    "deepbench": tuple(
        Case(
            f"{w}x{h}x{c} {k}@{r}x{r}",
            (n, c, h, w),
            (k, c, r, r),
            stride,
            padding,
            bias=False,
            passes=PASSES if c > 3 else PASSES[:2],  # images have up to three channels
        )
        for w, h, c, n, k, r, padding, stride in _DEEPBENCH
    ),
}

# What `conv` measures unless told otherwise.
DEFAULT = ("lenet5", "mnist-cnn", "cifar-cnn")


def cases(suites: list[str], shapes: list[str], quick: bool) -> list[Case]:
    """Of all named suites and then of the shapes, each case once. Raises `BenchmarkError`."""
    found = [case for name in suites for case in suite(name)]
    found += [parse(text) for text in shapes]
    if quick:
        found = [case.with_images(min(case.images, QUICK_IMAGES)) for case in found]
    return list(dict.fromkeys(found))


def suite(name: str) -> tuple[Case, ...]:
    if name not in SUITES:
        raise BenchmarkError(f"there is no suite {name!r}: the suites are {', '.join(SUITES)}")
    return SUITES[name]


def parse(text: str) -> Case:
    """A case from the command line; with a bias and all passes. Raises `BenchmarkError`."""
    parts = text.split(":")
    matched = [re.fullmatch(r"(\d{1,9})x(\d{1,9})x(\d{1,9})x(\d{1,9})", part) for part in parts[:2]]
    if len(matched) < 2 or len(parts) > 3 or not all(matched):
        raise BenchmarkError(
            f"shape {text!r} is not written NxCxHxW:KxCxRxS:options, such as 64x1x28x28:6x1x5x5:padding=2"
        )
    x, weight = (tuple(map(int, match.groups())) for match in matched if match)
    given: dict[str, Any] = dict(_option(text, part) for part in (parts[2].split(",") if len(parts) == 3 else ()))
    case = Case(text, x, weight, **given)
    try:
        geometry = case.geometry
    except ShapeError as error:
        raise BenchmarkError(f"shape {text!r} does not fit together: {error}") from error
    if 0 in geometry.y_shape:
        raise BenchmarkError(f"shape {text!r} leaves nothing to compute: its output is {geometry.y_shape}")
    return case


def _option(text: str, part: str) -> tuple[str, int]:
    name, _, value = part.partition("=")
    if name not in OPTIONS or not re.fullmatch(r"\d{1,9}", value):
        raise BenchmarkError(f"shape {text!r}: option {part!r} is none of {', '.join(f'{n}=NUMBER' for n in OPTIONS)}")
    return name, int(value)
