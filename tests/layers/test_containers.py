"""Sequential, Residual and what holds for every layer: modes, what is remembered, errors in the layer's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import uniform

import cnn
from cnn.kernels import DTypeError, ShapeError


class Recorder(cnn.Layer):
    """Passes everything on, and notes whether it was asked for an input gradient."""

    def __init__(self, parameters: int = 0) -> None:
        self.asked: list[bool] = []
        if parameters:
            self.weight = cnn.Parameter(np.zeros(parameters, np.float32))

    def forward(self, x: Any) -> Any:
        self._remember(x)
        return x

    def backward(self, grad_output: Any, *, needs_input_gradient: bool = True) -> Any:
        self._recall()
        self.asked.append(needs_input_gradient)
        return grad_output


def test_sequential_is_its_layers_in_turn() -> None:
    first, second = cnn.Linear(3, 4), cnn.Linear(4, 2)
    model = cnn.Sequential(first, cnn.ReLU(), second)
    x = uniform(0, 5, 3)
    hidden = np.maximum(x @ first.weight.data.T + first.bias.data, 0)
    np.testing.assert_allclose(model(x), hidden @ second.weight.data.T + second.bias.data, rtol=1e-6, atol=1e-6)
    assert (len(model), model[0], model[-1], list(model)[2]) == (3, first, second, second)
    assert cnn.Sequential()(x) is x


def test_without_input_gradient_nothing_is_done_before_the_first_parameters() -> None:
    layers = [Recorder(), Recorder(2), Recorder(), Recorder(3)]
    model = cnn.Sequential(*layers)
    x = uniform(0, 2, 3)
    assert model.backward(model(x), needs_input_gradient=False) is None
    assert [layer.asked for layer in layers] == [[], [False], [True], [True]]
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layers[0].backward(x)  # it was not reached, but has let go of x
    assert model.backward(model(x)) is x
    assert [layer.asked for layer in layers] == [[True], [False, True], [True, True], [True, True]]


def test_no_input_gradient_passes_through_containers_and_changes_no_parameter_gradient() -> None:
    model = cnn.Sequential(
        cnn.Residual(cnn.Conv2d(2, 2, 3, padding=1), cnn.ReLU(), shortcut=cnn.Sequential(cnn.Conv2d(2, 2, 1))),
        cnn.Flatten(),
        cnn.Linear(32, 3),
    )
    x, g = uniform(0, 3, 2, 4, 4), uniform(1, 3, 3)
    model(x)
    assert model.backward(g).shape == x.shape
    expected = [p.grad.copy() for p in model.parameters()]
    for p in model.parameters():
        p.grad[...] = np.nan
    model(x)
    assert model.backward(g, needs_input_gradient=False) is None
    for p, gradient in zip(model.parameters(), expected, strict=True):
        np.testing.assert_array_equal(p.grad, gradient)


def test_backward_overwrites_gradients() -> None:
    model = cnn.Sequential(cnn.Conv1d(1, 2, 2), cnn.BatchNorm1d(2), cnn.Flatten(), cnn.Linear(6, 2))
    x, g = uniform(0, 3, 1, 4), uniform(1, 3, 2)
    model(x)
    model.backward(g)
    once = [p.grad.copy() for p in model.parameters()]
    model(x)
    model.backward(g)
    for p, gradient in zip(model.parameters(), once, strict=True):
        np.testing.assert_array_equal(p.grad, gradient)
        assert gradient.any()


LAYERS: list[tuple[Callable[[], cnn.Layer], tuple[int, ...]]] = [
    (lambda: cnn.Conv1d(1, 2, 2), (2, 1, 4)),
    (lambda: cnn.Conv2d(1, 2, 2), (2, 1, 4, 4)),
    (lambda: cnn.Linear(3, 2), (2, 3)),
    (lambda: cnn.BatchNorm1d(3), (2, 3)),
    (lambda: cnn.BatchNorm2d(1), (2, 1, 4, 4)),
    (lambda: cnn.MaxPool1d(2), (2, 1, 4)),
    (lambda: cnn.MaxPool2d(2), (2, 1, 4, 4)),
    (lambda: cnn.AvgPool1d(2), (2, 1, 4)),
    (lambda: cnn.AvgPool2d(2), (2, 1, 4, 4)),
    (lambda: cnn.AdaptiveAvgPool2d(1), (2, 1, 4, 4)),
    (lambda: cnn.Flatten(), (2, 1, 4, 4)),
    (lambda: cnn.ReLU(), (2, 3)),
    (lambda: cnn.LeakyReLU(), (2, 3)),
    (lambda: cnn.Sigmoid(), (2, 3)),
    (lambda: cnn.Tanh(), (2, 3)),
    (lambda: cnn.Dropout(), (2, 3)),
    (lambda: cnn.Residual(cnn.Linear(3, 3)), (2, 3)),
    (lambda: cnn.Sequential(cnn.ReLU(), cnn.Tanh()), (2, 3)),
]
IDS = [repr(make()).replace("\n", "") for make, _ in LAYERS]


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_backward_needs_its_own_forward_in_training(make: Callable[[], cnn.Layer], shape: tuple[int, ...]) -> None:
    layer = make()
    x = uniform(0, *shape)
    y = layer(x)
    layer.backward(y)
    for prepare in (lambda: None, lambda: layer.eval()(x), lambda: (layer.train()(x), layer.eval())):
        prepare()
        with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode"):
            layer.backward(y)
    assert layer.train()(x).shape == y.shape
    layer.backward(y)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=IDS)
def test_an_empty_batch_passes(make: Callable[[], cnn.Layer], shape: tuple[int, ...]) -> None:
    layer = make()
    y = layer(np.zeros((0, *shape[1:]), np.float32))
    assert y.shape == (0, *layer.output_shape(shape)[1:])
    assert layer.backward(y).shape == (0, *shape[1:])


def test_modes_reach_every_layer() -> None:
    model = cnn.Sequential(cnn.Residual(cnn.ReLU(), shortcut=cnn.Sequential(cnn.Dropout())))
    assert all(layer.training for layer in model.modules())
    assert model.eval() is model
    assert not any(layer.training for layer in model.modules())
    assert len(list(model.modules())) == 6
    assert all(layer.training for layer in model.train().modules())


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (cnn.Conv2d(1, 6, 5), (2, 3, 28, 28), r"Conv2d\(1, 6, 5\): x must be \(N, 1, H, W\), got \(2, 3, 28, 28\)"),
        (cnn.Conv2d(1, 6, 5, padding=2), (1, 28, 28), r"Conv2d\(1, 6, 5, padding=2\): .*got \(1, 28, 28\)"),
        (cnn.Conv1d(2, 3, 4, 2), (5, 2, 3, 3), r"Conv1d\(2, 3, 4, stride=2\): x must be \(N, 2, L\)"),
        (cnn.Linear(3, 4, bias=False), (2, 4), r"Linear\(3, 4, bias=False\): x must be \(N, 3\), got \(2, 4\)"),
        (cnn.BatchNorm1d(3), (2, 4), r"BatchNorm1d\(3\): x must be \(N, 3\), got \(2, 4\)"),
        (cnn.BatchNorm1d(3), (2, 4, 5), r"BatchNorm1d\(3\): x must be \(N, 3, L\), got \(2, 4, 5\)"),
        (cnn.BatchNorm2d(3), (2, 4, 5, 5), r"BatchNorm2d\(3\): x must be \(N, 3, H, W\), got \(2, 4, 5, 5\)"),
        (cnn.MaxPool2d(2), (2, 4, 5), r"MaxPool2d\(2\): x must be \(N, C, H, W\), got \(2, 4, 5\)"),
        (cnn.AvgPool1d(3, 1), (2, 4), r"AvgPool1d\(3, stride=1\): x must be \(N, C, L\), got \(2, 4\)"),
        (cnn.AdaptiveAvgPool2d(1), (2, 4), r"AdaptiveAvgPool2d\(1\): x must be \(N, C, H, W\), got \(2, 4\)"),
    ],
)
def test_a_wrong_input_names_the_layer(layer: cnn.Layer, shape: tuple[int, ...], message: str) -> None:
    for call in (lambda: layer(np.zeros(shape, np.float32)), lambda: layer.output_shape(shape)):
        with pytest.raises(ShapeError, match=message):
            call()


def test_inputs_that_are_no_arrays_or_of_another_dtype() -> None:
    for layer in (cnn.Conv2d(1, 2, 3), cnn.Linear(3, 4), cnn.BatchNorm1d(3), cnn.MaxPool2d(2)):
        with pytest.raises(DTypeError, match=rf"{type(layer).__name__}\(.*got a list"):
            layer([[1.0, 2.0, 3.0]])
    linear = cnn.Linear(3, 4)
    with pytest.raises(DTypeError, match=r"Linear\(3, 4\): x must be float32 like the weights, got float64"):
        linear(np.zeros((2, 3)))
    linear(np.zeros((2, 3), np.float32))
    with pytest.raises(ShapeError, match=r"grad_output must be \(2, 4\), got \(3, 4\)"):
        linear.backward(np.zeros((3, 4), np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn.Conv2d(3, 4, 3, groups=2), r"Conv2d: channels \(=3\) and filters \(=4\) .* groups \(=2\)"),
        (lambda: cnn.Conv2d(3, 4, (3, 3, 3)), r"Conv2d: kernel_size must be an int or 2 of them, got \(3, 3, 3\)"),
        (lambda: cnn.Conv2d(0, 4, 3), "Conv2d: in_channels must be an int of at least 1, got 0"),
        (lambda: cnn.Conv2d(1, 4, 2.5), "Conv2d: kernel_size must be an int of at least 1, got 2.5"),
        (lambda: cnn.Conv2d(1, 4, 3, padding="smae"), "Conv2d: padding must be .*, got 'smae'"),
        (lambda: cnn.Conv1d(1, 4, 3, mode="correlation"), "Conv1d: mode must be one of .*, got 'correlation'"),
        (lambda: cnn.MaxPool2d(2, padding=2), r"MaxPool2d: padding must be smaller than the window, got \(2, 2\)"),
        (lambda: cnn.Linear(3, -1), "Linear: out_features must be an int of at least 1, got -1"),
        (lambda: cnn.BatchNorm2d(0), "BatchNorm2d: num_features must be an int of at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_found_at_once(make: Callable[[], cnn.Layer], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        make()


def test_a_layer_has_one_place() -> None:
    relu = cnn.ReLU()
    with pytest.raises(ValueError, match=r"Sequential: ReLU\(\) is used twice"):
        cnn.Sequential(cnn.Linear(2, 2), relu, cnn.Linear(2, 2), cnn.Sequential(relu))
    with pytest.raises(ValueError, match=r"Residual: ReLU\(\) is used twice"):
        cnn.Residual(relu, shortcut=relu)
    with pytest.raises(TypeError, match=r"Sequential: expected layers, got .* at position 1"):
        cnn.Sequential(relu, np.tanh)  # type: ignore[arg-type]


def test_residual_shapes_must_agree() -> None:
    layer = cnn.Residual(cnn.Linear(3, 4))
    for call in (lambda: layer(uniform(0, 2, 3)), lambda: layer.output_shape((2, 3))):
        with pytest.raises(ShapeError, match=r"Residual: .*got \(2, 4\) and \(2, 3\)"):
            call()


def test_true_convolution_is_a_mode_of_the_layer() -> None:
    layer = cnn.Conv1d(1, 1, 2, bias=False, mode="convolution")
    layer.weight.data = np.array([[[0.5, 0.3]]], np.float32)
    # The worked example of weight sharing, its filter [0.3, 0.5] given rotated.
    np.testing.assert_allclose(layer(np.array([[[1, 2, 3]]], np.float32)), [[[1.3, 2.1]]], rtol=1e-6)
    grad_x = layer.backward(np.array([[[-0.1, 0.2]]], np.float32))
    np.testing.assert_allclose(layer.weight.grad, [[[0.4, 0.3]]], rtol=1e-6)
    np.testing.assert_allclose(grad_x, [[[-0.03, 0.01, 0.1]]], rtol=1e-6, atol=1e-8)


def test_repr_shows_what_a_constructor_was_given() -> None:
    model = cnn.Sequential(
        cnn.Conv2d(3, 6, (3, 5), padding="same", bias=False, mode="convolution"), cnn.Residual(cnn.LeakyReLU(0.2))
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Conv2d(3, 6, (3, 5), padding='same', bias=False, mode='convolution')\n"
        "  (1): Residual(\n"
        "    (body): Sequential(\n"
        "      (0): LeakyReLU(negative_slope=0.2)\n"
        "    )\n"
        "  )\n"
        ")"
    )
