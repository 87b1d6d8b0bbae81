"""Whatever the arguments are: a result, or one of the three errors. Nothing else, and no crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from calls import OPERATIONS, arguments, results
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn import kernels
from cnn.kernels import BackendError, DTypeError, ShapeError

# Numbers at the edges of integer types; none between 8 and 2**31, which could be a valid size of gigabytes.
INTEGERS = st.sampled_from([*range(-3, 9), 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**70, -(2**31), -(2**70)])
SCALARS = st.one_of(
    INTEGERS,
    st.booleans(),
    st.none(),
    st.floats(),
    st.sampled_from(
        ["", "same", "valid", "mean", "none", "relu", "convolution", "x", b"same", 1j, object, ..., {1: 2}]
    ),
    st.sampled_from([np.int64(2), np.uint8(255), np.float32(1.5), np.bool_(True), np.datetime64("2026-01-01")]),
)
SEQUENCES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple), max_leaves=8
)
SHAPES = st.lists(st.integers(0, 4), max_size=6).map(tuple)
DTYPES = st.sampled_from(["f4", "f8", "f2", ">f4", "i4", "i8", "u8", "?", "c8", "O", "S3", "M8[s]", "f4,i4"])
ARRAYS = st.builds(lambda shape, dtype: np.zeros(shape, dtype), SHAPES, DTYPES)
NONSENSE = st.one_of(SEQUENCES, ARRAYS)

# Options that the valid calls leave at their defaults.
MORE = {
    "conv_forward": ["activation", "dilation", "out"],
    "conv_kernel_gradient": ["dilation", "out"],
    "conv_input_gradient": ["dilation", "out"],
    "max_pool_forward": ["ceil_mode"],
    "avg_pool_forward": ["ceil_mode"],
    "avg_pool_backward": ["ceil_mode"],
    "leaky_relu_forward": ["negative_slope"],
    "leaky_relu_backward": ["negative_slope"],
    "softmax_cross_entropy": ["reduction"],
    "mean_squared_error": ["reduction"],
    "hinge": ["reduction", "margin"],
    "batch_norm_forward": ["momentum", "eps"],
    "adam_update": ["betas", "eps"],
}


@pytest.mark.usefixtures("backend")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers may overflow, or be no numbers
@pytest.mark.parametrize("name", OPERATIONS)
@given(data=st.data())
@settings(max_examples=60)
def test_nonsense_is_refused_or_computed(name: str, data: st.DataObject) -> None:
    given = arguments(name, images=3)
    keys = st.lists(st.sampled_from([*given, *MORE.get(name, [])]), min_size=1, max_size=2, unique=True)
    for key in data.draw(keys, label="wrong"):
        given[key] = data.draw(NONSENSE, label=key)
    try:
        arrays = results(name, given)
    except (ShapeError, DTypeError, BackendError) as error:
        refusal = str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in arrays)
        return
    assert refusal.startswith(f"{name}: ")


@given(name=NONSENSE)
@settings(max_examples=60)
def test_backend_of_any_name(name: Any) -> None:
    entered = False
    try:
        with kernels.backend(name):
            entered = True
    except BackendError:
        pass
    assert entered == (isinstance(name, str) and name in ("reference", "cpu", "cuda"))
