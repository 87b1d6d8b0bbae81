"""What a checkpoint says of its network beside the parameters."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cnn.data import Dataset, Normalize
from cnn.runs.network import Network


def framed(dtype: str, inside: int, edge: int) -> Dataset:
    """One image, 4x5, of `inside` with an edge one pixel wide."""
    images = np.full((1, 1, 4, 5), edge, dtype=dtype)
    images[:, :, 1:-1, 1:-1] = inside
    return Dataset(images, np.zeros(1, dtype=np.int64), ("only",))


@pytest.mark.parametrize(("dtype", "unit"), [("uint8", 255), ("float32", 1)])
def test_border_and_range_in_the_unit_of_normalisation(dtype: str, unit: int) -> None:
    network = Network.of("lenet5", framed(dtype, 100, 20))
    assert network.border == pytest.approx(20 / unit)
    assert (network.low, network.high) == pytest.approx((20 / unit, 100 / unit))
    assert network.normalize == Normalize.of(framed(dtype, 100, 20))
    assert (network.input_shape, network.classes) == ((1, 4, 5), ("only",))


def test_json_keeps_every_bit() -> None:
    network = Network.of("lenet5", framed("uint8", 33, 7))
    assert Network.from_dict(json.loads(json.dumps(network.to_dict()))) == network
