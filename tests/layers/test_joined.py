"""Layers joined with what stands behind them: which are, and that the numbers stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import uniform

import cnn
from cnn.layers.joined import Joined, join


def joined_types(layer: cnn.Layer) -> list[Any]:
    """The classes of the layers in a container, those that were joined as a list."""
    return [
        [type(part) for part in (inner.layer, inner.activation, inner.pool, inner.dropout) if part]
        if isinstance(inner, Joined)
        else type(inner)
        for _, inner in layer.named_children()
    ]


def test_convolutions_and_dense_layers_are_joined_with_what_follows() -> None:
    model = cnn.Sequential(
        cnn.Conv2d(1, 2, 3), cnn.ReLU(), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Conv2d(2, 2, 1), cnn.Tanh(),
        cnn.MaxPool2d(1), cnn.Flatten(), cnn.Linear(8, 4), cnn.Sigmoid(), cnn.Linear(4, 3),
    )  # fmt: skip
    together = join(model)
    assert joined_types(together) == [
        [cnn.Conv2d, cnn.ReLU], cnn.ReLU, cnn.MaxPool2d, [cnn.Conv2d, cnn.Tanh, cnn.MaxPool2d],
        cnn.Flatten, [cnn.Linear, cnn.Sigmoid], [cnn.Linear],
    ]  # fmt: skip
    assert [id(p) for p in together.parameters()] == [id(p) for p in model.parameters()]
    assert together.output_shape((5, 1, 6, 6)) == model.output_shape((5, 1, 6, 6)) == (5, 3)
    groups = [layer for _, layer in together.named_children() if isinstance(layer, Joined)]
    # The derivative of an activation passes to the group right behind, over a Flatten; other layers stop it.
    assert [group.input_activation for group in groups] == [None, None, "tanh", "sigmoid"]
    assert [group.hands_over for group in groups] == [False, True, True, False]


@pytest.mark.parametrize(
    "pool",
    [cnn.MaxPool2d(3, stride=2), cnn.MaxPool2d(2, padding=1), cnn.MaxPool2d(2, ceil_mode=True), cnn.AvgPool2d(2)],
    ids=repr,
)
def test_other_pooling_is_left_as_it_is(pool: cnn.Layer) -> None:
    assert joined_types(join(cnn.Sequential(cnn.Conv2d(1, 2, 3), pool))) == [[cnn.Conv2d], type(pool)]


def test_pooling_joins_without_an_activation_and_nothing_joins_behind_it() -> None:
    model = cnn.Sequential(cnn.Conv1d(1, 2, 3), cnn.MaxPool1d(2), cnn.ReLU())
    assert joined_types(join(model)) == [[cnn.Conv1d, cnn.MaxPool1d], cnn.ReLU]


def test_batch_normalisation_is_joined_with_an_activation_alone_and_takes_no_derivative_over() -> None:
    model = cnn.Sequential(
        cnn.Conv2d(1, 2, 3), cnn.ReLU(), cnn.BatchNorm2d(2), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Conv2d(2, 2, 1),
        cnn.BatchNorm2d(2), cnn.Tanh(), cnn.Conv2d(2, 2, 1), cnn.BatchNorm2d(2),
    )  # fmt: skip
    together = join(model)
    assert joined_types(together) == [
        [cnn.Conv2d, cnn.ReLU], [cnn.BatchNorm2d, cnn.ReLU], cnn.MaxPool2d, [cnn.Conv2d],
        [cnn.BatchNorm2d, cnn.Tanh], [cnn.Conv2d], [cnn.BatchNorm2d],
    ]  # fmt: skip
    groups = [layer for _, layer in together.named_children() if isinstance(layer, Joined)]
    assert [group.input_activation for group in groups] == [None, None, None, None, "tanh", None]
    assert [group.hands_over for group in groups] == [False, False, False, True, False, False]


def test_containers_inside_are_joined_too() -> None:
    body = (cnn.Conv2d(2, 2, 3, padding=1), cnn.ReLU(), cnn.Conv2d(2, 2, 3, padding=1))
    model = cnn.Residual(*body, shortcut=cnn.Sequential(cnn.Conv2d(2, 2, 1), cnn.Sigmoid()))
    together = join(model)
    assert isinstance(together, cnn.Residual)
    assert together.shortcut is not None
    assert joined_types(together.body) == [[cnn.Conv2d, cnn.ReLU], [cnn.Conv2d]]
    assert joined_types(together.shortcut) == [[cnn.Conv2d, cnn.Sigmoid]]


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
    ("model", "expected"),
    [
        (cnn.Sequential(Doubled(2, 2), cnn.ReLU()), [Doubled, cnn.ReLU]),
        (cnn.Sequential(cnn.Linear(2, 2), Shifted()), [[cnn.Linear], Shifted]),
        (cnn.Sequential(cnn.Linear(2, 2), cnn.LeakyReLU()), [[cnn.Linear], cnn.LeakyReLU]),
        (cnn.Sequential(cnn.BatchNorm1d(2), cnn.LeakyReLU()), [[cnn.BatchNorm1d], cnn.LeakyReLU]),
        (Twice(cnn.Linear(2, 2), cnn.ReLU()), [cnn.Linear, cnn.ReLU]),
    ],
    ids=str,
)
def test_what_may_compute_something_else_is_left_as_it_is(model: cnn.Layer, expected: list[Any]) -> None:
    together = join(model)
    assert type(together) is type(model)
    assert joined_types(together) == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [cnn.ReLU, cnn.Sigmoid, cnn.Tanh])
def test_the_numbers_are_those_of_one_after_the_other(activation: type[cnn.Layer], dtype: type) -> None:
    model = cnn.Sequential(
        cnn.Conv1d(2, 3, 3), activation(), cnn.MaxPool1d(2),
        cnn.Conv1d(3, 4, 2, bias=False), activation(), cnn.Flatten(), cnn.Dropout(0.0),
        cnn.Linear(12, 5), activation(), cnn.Linear(5, 4, bias=False), activation(), cnn.Linear(4, 2),
    )  # fmt: skip
    model = model.double() if dtype is np.float64 else model
    x, g = uniform(0, 17, 2, 10, dtype=dtype), uniform(1, 17, 2, dtype=dtype)
    check_same_numbers(model, x, g)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [cnn.ReLU, cnn.Sigmoid])
def test_the_numbers_of_batch_normalisation_stay(activation: type[cnn.Layer], dtype: type) -> None:
    # Planes of 9 x 9 pixels, and of 7 x 7: whole vectors of every width, and what is left.
    model = cnn.Sequential(
        cnn.Conv2d(2, 3, 3, padding=1), cnn.BatchNorm2d(3), activation(), cnn.Conv2d(3, 4, 3), cnn.BatchNorm2d(4),
        cnn.Residual(cnn.BatchNorm2d(4), activation()), activation(), cnn.BatchNorm2d(4), activation(), cnn.Flatten(),
        cnn.Linear(196, 5), cnn.BatchNorm1d(5), activation(), cnn.Linear(5, 2),
    )  # fmt: skip
    model = model.double() if dtype is np.float64 else model
    check_same_numbers(model, uniform(0, 17, 2, 9, 9, dtype=dtype), uniform(1, 17, 2, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [cnn.ReLU, cnn.Tanh])
def test_the_numbers_of_sums_with_what_goes_around_stay(activation: type[cnn.Layer], dtype: type) -> None:
    shortcut = cnn.Sequential(cnn.Conv2d(3, 4, 1, 2, bias=False), cnn.Dropout(0.25), cnn.BatchNorm2d(4))
    model = cnn.Sequential(
        cnn.Conv2d(2, 3, 3, padding=1),
        cnn.Residual(cnn.Dropout(0.25), cnn.Conv2d(3, 3, 3, padding=1), cnn.BatchNorm2d(3)), activation(),
        cnn.Residual(cnn.Conv2d(3, 4, 3, 2, 1), cnn.BatchNorm2d(4), shortcut=shortcut), activation(),
        cnn.Residual(cnn.BatchNorm2d(4)), cnn.Flatten(), cnn.Linear(100, 2),
    )  # fmt: skip
    model = model.double() if dtype is np.float64 else model
    check_same_numbers(model, uniform(0, 17, 2, 9, 9, dtype=dtype), uniform(1, 17, 2, dtype=dtype))
    model.eval()
    x = uniform(2, 17, 2, 9, 9, dtype=dtype)
    by_hand = x
    for layer in model:
        by_hand = layer(by_hand)
    np.testing.assert_array_equal(model(x), by_hand)


def check_same_numbers(model: cnn.Sequential, x: Any, g: Any) -> None:
    """Of the layers one after the other, and joined."""
    found = []
    for computed in (model, join(model)):
        cnn.manual_seed(3)
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
    with pytest.raises(RuntimeError, match=r"Linear\(2, 2\): backward needs a forward pass in training mode"):
        together.backward(y)


def with_dropout() -> cnn.Sequential:
    cnn.manual_seed(4)
    return cnn.Sequential(
        cnn.Conv2d(1, 4, 3), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Dropout(0.25), cnn.Flatten(),
        cnn.Linear(36, 20), cnn.ReLU(), cnn.Dropout(0.5),
        cnn.Linear(20, 12), cnn.Tanh(), cnn.Dropout(0.5),
        cnn.Linear(12, 9), cnn.ReLU(), cnn.Dropout(0.5),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_joins_behind_a_relu(dtype: type) -> None:
    together = join(with_dropout())
    assert joined_types(together) == [
        [cnn.Conv2d, cnn.ReLU, cnn.MaxPool2d, cnn.Dropout], cnn.Flatten, [cnn.Linear, cnn.ReLU, cnn.Dropout],
        [cnn.Linear, cnn.Tanh], cnn.Dropout, [cnn.Linear, cnn.ReLU, cnn.Dropout],
    ]  # fmt: skip
    groups = [layer for _, layer in together.named_children() if isinstance(layer, Joined)]
    assert [group.hands_over for group in groups] == [True, True, False, False]
    model = with_dropout()
    x, g = uniform(0, 17, 1, 8, 8, dtype=dtype), uniform(1, 17, 9, dtype=dtype)
    found = []
    for computed in (model, join(model)):
        if dtype is np.float64 and computed is model:
            model.double()
        cnn.manual_seed(9)
        outputs = [computed(x), computed.backward(g)]
        gradients = [p.grad.copy() for p in model.parameters()]
        found.append([*outputs, *gradients, cnn.random.get_state()["dropout"]["calls"]])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_convolution_takes_over_no_dropout() -> None:
    model = cnn.Sequential(cnn.Conv1d(1, 2, 3), cnn.ReLU(), cnn.Dropout(0.5), cnn.Conv1d(2, 2, 3))
    first, second = (layer for _, layer in join(model).named_children())
    assert isinstance(first, Joined)
    assert isinstance(second, Joined)
    assert not first.hands_over
    assert second.input_activation is None
    x, g = uniform(0, 3, 1, 9), uniform(1, 3, 2, 5)
    gradients = []
    for computed in (model, join(model)):
        cnn.manual_seed(2)
        computed(x)
        gradients.append(computed.backward(g))
    np.testing.assert_array_equal(*gradients)


def test_a_dropout_in_evaluation_mode_is_passed_by() -> None:
    model = with_dropout()
    model[7].eval()
    x = uniform(0, 5, 1, 8, 8)
    cnn.manual_seed(1)
    expected = model(x)
    cnn.manual_seed(1)
    np.testing.assert_array_equal(join(model)(x), expected)


def test_evaluation_computes_neighbours_together_and_the_numbers_stay() -> None:
    cnn.manual_seed(3)
    model = cnn.Sequential(
        cnn.Conv2d(1, 4, 3), cnn.BatchNorm2d(4), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Conv2d(4, 5, 2), cnn.ReLU(),
        cnn.MaxPool2d(2), cnn.Residual(cnn.Conv2d(5, 5, 1), cnn.Tanh()), cnn.Flatten(), cnn.Dropout(0.5),
        cnn.Linear(45, 7), cnn.Sigmoid(), cnn.Linear(7, 3),
    ).eval()  # fmt: skip
    x = uniform(0, 6, 1, 18, 18)
    y = x
    for layer in model:
        y = layer(y)
    np.testing.assert_array_equal(model(x), y)
    # Parameters are the layers' own, whatever they are changed to.
    model.load_state_dict({name: 2 * array for name, array in model.state_dict().items()})
    y = x
    for layer in model:
        y = layer(y)
    np.testing.assert_array_equal(model(x), y)
