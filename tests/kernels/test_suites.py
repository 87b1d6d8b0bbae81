"""The built-in networks as plain data, held against the networks themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import cnn
from cnn.kernels.suites import SUITES, Layer
from cnn.models import MODELS


def layers_of(model: cnn.layers.Layer, x: tuple[int, ...], prefix: str = "") -> Iterator[Layer]:
    """The layers of a network for images of shape x, one after the other."""
    for name, layer in model.named_children():
        place = f"{prefix}{name}"
        y = layer.output_shape((1, *x))[1:]
        if isinstance(layer, cnn.Residual):
            yield from layers_of(layer.body, x, f"{place}.body.")
            if layer.shortcut is not None:
                yield from layers_of(layer.shortcut, x, f"{place}.shortcut.")
            yield Layer(place, "add", y)
        elif not isinstance(layer, cnn.Flatten):
            yield as_data(place, layer, x)
        x = y


def as_data(place: str, layer: cnn.layers.Layer, x: tuple[int, ...]) -> Layer:
    if isinstance(layer, cnn.Conv2d):
        assert (layer.dilation, layer.mode) == ((1, 1), "cross-correlation")
        assert layer.stride[0] == layer.stride[1]
        options = {"stride": layer.stride[0], "padding": layer.padding, "bias": layer.bias is not None}
        data = Layer(place, "conv", x, layer.weight.shape, **options)
        assert data.conv(3).y_shape == layer.output_shape((3, *x))
        return data
    if isinstance(layer, cnn.Linear):
        return Layer(place, "linear", x, layer.weight.shape, bias=layer.bias is not None)
    if isinstance(layer, cnn.MaxPool2d):
        assert (layer.stride, layer.padding, layer.ceil_mode) == (layer.kernel_size, 0, False)
        return Layer(place, "max_pool", x, window=layer.kernel_size)
    if isinstance(layer, cnn.AdaptiveAvgPool2d):
        return Layer(place, "avg_pool", x, window=x[1:])
    names = {cnn.BatchNorm2d: "batch_norm", cnn.ReLU: "relu", cnn.Dropout: "dropout"}
    return Layer(place, names[type(layer)], x)


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_of(name: str) -> None:
    suite = SUITES[name]
    model = MODELS[name](suite.image, suite.classes)
    assert list(layers_of(model, suite.image)) == list(suite.layers)
    assert suite.parameters == sum(parameter.data.size for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_geometries(name: str) -> None:
    for layer in SUITES[name].layers:
        if layer.operation == "conv":
            geometry = layer.conv(5)
            assert (geometry.batch, geometry.channels, *geometry.input) == (5, *layer.x)
            assert geometry.weight_shape == layer.weight
            assert geometry.groups == 1
        elif layer.window:
            assert np.prod(layer.pool(5).output) * np.prod(layer.window) == np.prod(layer.x[1:])


def test_every_network_has_its_data() -> None:
    assert list(SUITES) == list(MODELS)
