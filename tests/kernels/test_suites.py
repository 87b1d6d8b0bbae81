"""The built-in networks as plain data, held against the networks themselves."""

from __future__ import annotations

import numpy as np
import pytest

from cnn.kernels.suites import SUITES
from cnn.models import MODELS
from cnn.runs.plan import described


@pytest.mark.parametrize("name", MODELS)
def test_the_layers_of(name: str) -> None:
    suite = SUITES[name]
    model = MODELS[name](suite.image, suite.classes)
    assert described(model, suite.image, suite.classes, suite.batch) == suite
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
