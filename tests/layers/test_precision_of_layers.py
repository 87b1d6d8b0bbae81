"""Who decides on the precision of a convolution: the layer, or else the process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import cnn
from cnn import kernels


@pytest.fixture(autouse=True)
def _default_afterwards() -> Iterator[None]:
    yield
    cnn.set_precision("float32")


def network() -> cnn.Sequential:
    cnn.manual_seed(1)
    return cnn.Sequential(
        cnn.Conv2d(1, 4, 3, precision="bf16"), cnn.ReLU(), cnn.Residual(cnn.Conv2d(4, 4, 3, padding=1)), cnn.Flatten()
    )


def in_effect(model: cnn.Layer) -> list[str]:
    return [layer.precision_in_effect for layer in model.modules() if isinstance(layer, cnn.Conv2d)]


def test_layers_without_their_own_follow_the_process() -> None:
    model = network()
    assert cnn.get_precision() == "float32"
    assert in_effect(model) == ["bf16", "float32"]
    cnn.set_precision("tf32")
    assert cnn.get_precision() == "tf32"
    assert in_effect(model) == ["bf16", "tf32"]


def test_a_model_sets_all_of_its_layers() -> None:
    model = network()
    assert model.set_precision("tf32") is model
    assert in_effect(model) == ["tf32", "tf32"]
    cnn.set_precision("bf16")
    assert in_effect(model) == ["tf32", "tf32"]
    model.set_precision(None)
    assert in_effect(model) == ["bf16", "bf16"]


def test_it_is_shown() -> None:
    assert repr(cnn.Conv2d(1, 4, 3, precision="tf32")) == "Conv2d(1, 4, 3, precision='tf32')"
    assert repr(cnn.Conv1d(1, 4, 3)) == "Conv1d(1, 4, 3)"


def test_other_names_are_refused() -> None:
    words = r"precision must be one of \('float32', 'tf32', 'bf16'\), got 'half'"
    with pytest.raises(cnn.kernels.ShapeError, match=rf"Conv2d: {words}"):
        cnn.Conv2d(1, 4, 3, precision="half")
    model = network()
    with pytest.raises(ValueError, match=rf"Sequential: {words}"):
        model.set_precision("half")
    assert in_effect(model) == ["bf16", "float32"]
    with pytest.raises(ValueError, match=rf"set_precision: {words}"):
        cnn.set_precision("half")
    assert cnn.get_precision() == "float32"


def test_both_ways_compute_in_it() -> None:
    # The reference rounds, so that it shows.
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 1, 6, 6)).astype(np.float32)
    found = {}
    with kernels.backend("reference"):
        for precision in ("float32", "tf32", "bf16"):
            model = network().set_precision(precision)
            y = model(x)
            grad_x = model.backward(np.ones_like(y))
            found[precision] = [y, grad_x, *(parameter.grad for parameter in model.parameters())]
            for evaluated in (model.eval()(x),):  # neighbours together
                np.testing.assert_array_equal(evaluated, y)
        weights = [parameter.grad.ndim == 4 for parameter in model.parameters()]
    of = [True, True, *weights]  # gradients of biases depend on what comes after, and of the last one on nothing
    for precision in ("tf32", "bf16"):
        pairs = zip(found[precision], found["float32"], of, strict=True)
        assert not any(np.array_equal(ours, plain) for ours, plain, multiplied in pairs if multiplied)


def test_training_in_less_than_float32_learns() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (8, 1, 6, 6)).astype(np.float32), np.arange(8) % 2
    losses = {}
    with kernels.backend("reference"):
        for precision in ("float32", "bf16"):
            model = cnn.Sequential(*network(), cnn.Linear(64, 2))
            model.set_precision(precision)
            optimizer = cnn.SGD(model.parameters(), lr=0.1)
            step = cnn.TrainStep(model, cnn.CrossEntropyLoss(), optimizer)
            losses[precision] = [float(step(x, labels)) for _ in range(40)]
    assert losses["bf16"][-1] < losses["bf16"][0] / 2
    assert losses["bf16"] != losses["float32"]
    np.testing.assert_allclose(losses["bf16"], losses["float32"], rtol=0.05)
