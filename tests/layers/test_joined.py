"""Layers joined with the activation behind them: which are, and that the numbers stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import uniform

import cnn
from cnn.layers.joined import Joined, join


def joined_types(layer: cnn.Layer) -> list[Any]:
    """The classes of the layers in a container, those that were joined as a pair."""
    return [
        (type(inner.layer), type(inner.activation)) if isinstance(inner, Joined) else type(inner)
        for _, inner in layer.named_children()
    ]


def test_convolutions_and_dense_layers_are_joined_with_what_follows() -> None:
    model = cnn.Sequential(
        cnn.Conv2d(1, 2, 3), cnn.ReLU(), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Conv2d(2, 2, 1), cnn.Tanh(),
        cnn.Flatten(), cnn.Linear(8, 4), cnn.Sigmoid(), cnn.Linear(4, 3),
    )  # fmt: skip
    together = join(model)
    assert joined_types(together) == [
        (cnn.Conv2d, cnn.ReLU), cnn.ReLU, cnn.MaxPool2d, (cnn.Conv2d, cnn.Tanh),
        cnn.Flatten, (cnn.Linear, cnn.Sigmoid), cnn.Linear,
    ]  # fmt: skip
    assert [id(p) for p in together.parameters()] == [id(p) for p in model.parameters()]
    assert together.output_shape((5, 1, 6, 6)) == model.output_shape((5, 1, 6, 6)) == (5, 3)


def test_containers_inside_are_joined_too() -> None:
    body = (cnn.Conv2d(2, 2, 3, padding=1), cnn.ReLU(), cnn.Conv2d(2, 2, 3, padding=1))
    model = cnn.Residual(*body, shortcut=cnn.Sequential(cnn.Conv2d(2, 2, 1), cnn.Sigmoid()))
    together = join(model)
    assert isinstance(together, cnn.Residual)
    assert together.shortcut is not None
    assert joined_types(together.body) == [(cnn.Conv2d, cnn.ReLU), cnn.Conv2d]
    assert joined_types(together.shortcut) == [(cnn.Conv2d, cnn.Sigmoid)]


class Doubled(cnn.Linear):
    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


class Shifted(cnn.ReLU):
    def forward(self, x: Any) -> Any:
        return super().forward(x) + 1


class Twice(cnn.Sequential):
    def forward(self, x: Any) -> Any:
        return super().forward(super().forward(x))


@pytest.mark.parametrize(
    "model",
    [
        cnn.Sequential(Doubled(2, 2), cnn.ReLU()),
        cnn.Sequential(cnn.Linear(2, 2), Shifted()),
        cnn.Sequential(cnn.Linear(2, 2), cnn.LeakyReLU()),
        cnn.Sequential(cnn.Linear(2, 2, bias=False), cnn.ReLU()),
        cnn.Sequential(cnn.BatchNorm1d(2), cnn.ReLU()),
        Twice(cnn.Linear(2, 2), cnn.ReLU()),
    ],
    ids=lambda model: " ".join(type(layer).__name__ for layer in model.modules()),
)
def test_what_may_compute_something_else_is_left_as_it_is(model: cnn.Layer) -> None:
    together = join(model)
    assert type(together) is type(model)
    assert joined_types(together) == [type(layer) for _, layer in model.named_children()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [cnn.ReLU, cnn.Sigmoid, cnn.Tanh])
def test_the_numbers_are_those_of_one_after_the_other(activation: type[cnn.Layer], dtype: type) -> None:
    model = cnn.Sequential(
        cnn.Conv1d(2, 3, 3), activation(), cnn.Flatten(), cnn.Linear(12, 5), activation(), cnn.Linear(5, 2)
    )
    model = model.double() if dtype is np.float64 else model
    x, g = uniform(0, 17, 2, 6, dtype=dtype), uniform(1, 17, 2, dtype=dtype)
    together = join(model)
    found = []
    for computed in (model, together):
        for p in model.parameters():
            p.grad[...] = np.nan
        found.append([computed(x), computed.backward(g), *(p.grad.copy() for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_modes_are_those_of_the_layers_themselves() -> None:
    model = cnn.Sequential(cnn.Linear(2, 2), cnn.ReLU())
    together = join(model)
    model.eval()
    y = together(uniform(0, 3, 2))
    with pytest.raises(RuntimeError, match=r"ReLU\(\): backward needs a forward pass in training mode"):
        together.backward(y)
