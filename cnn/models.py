"""Networks by name: functions of the size of the images and the number of classes, returning a `Sequential`.

input_shape is (C, H, W), and the sizes of dense layers follow from it. All raise `ValueError` with the numbers for a
shape that is none, for images too small for the network, and for fewer than one class.
"""

from __future__ import annotations

import importlib.util
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cnn.layers import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)

Shape = tuple[int, int, int]


def lenet5(input_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> Sequential:
    """LeNet-5 with ReLU and max pooling (LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf).

    61,706 parameters for MNIST.
    """
    channels, _, _ = _checked("lenet5", input_shape, classes)
    features = (
        Conv2d(channels, 6, 5, padding=2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 16, 5),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
    )
    return Sequential(
        *features,
        Linear(_features("lenet5", features, input_shape), 120),
        ReLU(),
        Linear(120, 84),
        ReLU(),
        Linear(84, classes),
    )


def mnist_cnn(input_shape: Sequence[int] = (1, 28, 28), classes: int = 10) -> Sequential:
    """Two 3x3 convolutions, 32 and 64 filters, and a dense layer of 128: the network of PyTorch's MNIST example."""
    channels, _, _ = _checked("mnist-cnn", input_shape, classes)
    features = (
        Conv2d(channels, 32, 3),
        ReLU(),
        Conv2d(32, 64, 3),
        ReLU(),
        MaxPool2d(2),
        Dropout(0.25),
        Flatten(),
    )
    return Sequential(
        *features,
        Linear(_features("mnist-cnn", features, input_shape), 128),
        ReLU(),
        Dropout(0.5),
        Linear(128, classes),
    )


def cifar_cnn(input_shape: Sequence[int] = (3, 32, 32), classes: int = 10) -> Sequential:
    """Twice two padded 3x3 convolutions and a pooling, 32 and then 64 filters, and a dense layer of 128."""
    channels, _, _ = _checked("cifar-cnn", input_shape, classes)
    features = (
        Conv2d(channels, 32, 3, padding=1),
        ReLU(),
        Conv2d(32, 32, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(32, 64, 3, padding=1),
        ReLU(),
        Conv2d(64, 64, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
    )
    return Sequential(
        *features,
        Linear(_features("cifar-cnn", features, input_shape), 128),
        ReLU(),
        Dropout(0.5),
        Linear(128, classes),
    )


def resnet8(input_shape: Sequence[int] = (3, 32, 32), classes: int = 10) -> Sequential:
    """A residual network of 16, 32 and 64 filters with batch normalisation, one block each (He et al. 2015)."""
    channels, _, _ = _checked("resnet8", input_shape, classes)
    return Sequential(
        Conv2d(channels, 16, 3, padding=1, bias=False),
        BatchNorm2d(16),
        ReLU(),
        _block(16, 16, 1),
        ReLU(),
        _block(16, 32, 2),
        ReLU(),
        _block(32, 64, 2),
        ReLU(),
        AdaptiveAvgPool2d(1),
        Flatten(),
        Linear(64, classes),
    )


MODELS: dict[str, Callable[..., Sequential]] = {
    "lenet5": lenet5,
    "mnist-cnn": mnist_cnn,
    "cifar-cnn": cifar_cnn,
    "resnet8": resnet8,
}


def build(name: str, input_shape: Sequence[int], classes: int) -> Layer:
    """The network of that name in `MODELS`, or what a function of one's own makes: "path/to/file.py:function".

    The function is called as function(input_shape, classes) with a tuple (C, H, W) and an int, and returns a `Layer`.
    Raises `ValueError` for a name, file or function that is not there and for a result that is no layer; what the
    file itself raises comes through.
    """
    shape = _checked(name, input_shape, classes)
    if name in MODELS:
        return MODELS[name](shape, classes)
    file, colon, function_name = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise ValueError(f"model {name!r}: neither one of {', '.join(MODELS)} nor path/to/file.py:function")
    if not Path(file).is_file():
        raise ValueError(f"model {name!r}: there is no file {file}")
    function = getattr(_load(Path(file)), function_name, None)
    if not callable(function):
        raise ValueError(f"model {name!r}: {file} has no function {function_name!r}")
    model = function(shape, classes)
    if not isinstance(model, Layer):
        raise ValueError(f"model {name!r}: the function must return a cnn layer, got {type(model).__name__}")
    return model


def _block(channels: int, filters: int, stride: int) -> Residual:
    shortcut = None
    if stride != 1 or channels != filters:
        shortcut = Sequential(Conv2d(channels, filters, 1, stride, bias=False), BatchNorm2d(filters))
    return Residual(
        Conv2d(channels, filters, 3, stride, padding=1, bias=False),
        BatchNorm2d(filters),
        ReLU(),
        Conv2d(filters, filters, 3, padding=1, bias=False),
        BatchNorm2d(filters),
        shortcut=shortcut,
    )


def _features(name: str, layers: Sequence[Layer], input_shape: Sequence[int]) -> int:
    """How many numbers `layers`, the last one a Flatten, make of one image."""
    try:
        return Sequential(*layers).output_shape((1, *input_shape))[1]
    except ValueError as error:
        raise ValueError(f"{name}: images of {tuple(input_shape)} are too small: {error}") from error


def _checked(name: str, input_shape: Sequence[int], classes: int) -> Shape:
    try:
        shape = tuple(operator.index(size) for size in input_shape)
        classes = operator.index(classes)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or classes < 1:
        raise ValueError(
            f"{name}: needs an input shape (C, H, W) and at least one class, got {input_shape!r} and {classes!r}"
        )
    return shape[0], shape[1], shape[2]


def _load(path: Path) -> object:
    name = f"cnn_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
