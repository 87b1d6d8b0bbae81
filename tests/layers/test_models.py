"""The built-in networks, and networks from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from peers import uniform

import cnn
from cnn.models import MODELS, build

FILE = """
from __future__ import annotations
import dataclasses
import cnn

@dataclasses.dataclass
class Width:
    value: int = 3

def mine(input_shape, classes):
    channels, height, width = input_shape
    return cnn.Sequential(
        cnn.Conv2d(channels, Width().value, 1), cnn.Flatten(), cnn.Linear(3 * height * width, classes)
    )

def nothing(input_shape, classes):
    return None

number = 3
"""


@pytest.mark.parametrize(
    ("name", "input_shape", "parameters"),
    [
        # Sums of K * C/groups * R * S + K (+ 2 C for batch norm), by hand.
        ("lenet5", (1, 28, 28), 156 + 2416 + 48120 + 10164 + 850),
        ("mnist-cnn", (1, 28, 28), 320 + 18496 + 1179776 + 1290),
        ("cifar-cnn", (3, 32, 32), 896 + 9248 + 18496 + 36928 + 524416 + 1290),
        ("resnet8", (3, 32, 32), 432 + 32 + 4672 + 14528 + 57728 + 650),
    ],
)
def test_built_in(name: str, input_shape: tuple[int, int, int], parameters: int) -> None:
    model = build(name, input_shape, 10)
    assert isinstance(model, cnn.Sequential)
    assert sum(p.data.size for p in model.parameters()) == parameters
    assert model(uniform(0, 2, *input_shape)).shape == (2, 10)


@pytest.mark.parametrize("name", MODELS)
def test_sizes_follow_from_the_images(name: str) -> None:
    model = MODELS[name]((2, 17, 23), 3)
    assert model(uniform(0, 2, 2, 17, 23)).shape == model.output_shape((2, 2, 17, 23)) == (2, 3)


@pytest.mark.parametrize(
    ("name", "input_shape", "message"),
    [
        ("lenet5", (1, 8, 8), r"lenet5: images of \(1, 8, 8\) are too small: Conv2d\(6, 16, 5\): .* got size 4"),
        ("mnist-cnn", (1, 5, 5), r"mnist-cnn: images of \(1, 5, 5\) are too small: MaxPool2d\(2\): .* got size 1"),
        ("cifar-cnn", (3, 3, 3), r"cifar-cnn: images of \(3, 3, 3\) are too small: MaxPool2d\(2\): .* got size 1"),
        ("resnet8", (3, 0, 3), r"resnet8: needs an input shape \(C, H, W\) .* got \(3, 0, 3\) and 10"),
        ("lenet5", (28, 28), r"lenet5: needs an input shape \(C, H, W\) .* got \(28, 28\) and 10"),
    ],
)
def test_images_that_do_not_fit(name: str, input_shape: tuple[int, ...], message: str) -> None:
    for make in (lambda: build(name, input_shape, 10), lambda: MODELS[name](input_shape, 10)):
        with pytest.raises(ValueError, match=message):
            make()


def test_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "net: 2.py"
    file.write_text(FILE)
    model = build(f"{file}:mine", (2, 4, 5), 7)
    assert model(np.zeros((3, 2, 4, 5), np.float32)).shape == (3, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lenet", "neither one of lenet5, mnist-cnn, cifar-cnn, resnet8 nor path/to/file.py:function"),
        ("net.py", "nor path/to/file.py:function"),
        ("{folder}/missing.py:mine", "there is no file .*missing.py"),
        ("{folder}/net.py:yours", "net.py has no function 'yours'"),
        ("{folder}/net.py:number", "net.py has no function 'number'"),
        ("{folder}/net.py:nothing", "the function must return a cnn layer, got NoneType"),
    ],
)
def test_what_is_not_there(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(FILE)
    with pytest.raises(ValueError, match=message):
        build(name.format(folder=tmp_path), (1, 28, 28), 10)
