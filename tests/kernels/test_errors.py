"""Arrays that no call takes: the right class, a text with operation, rule and numbers, and nothing written."""

from __future__ import annotations

import numpy as np
import pytest
from calls import OPERATIONS, UPDATED_IN_PLACE, WITH_OUT, arguments
from refusals import Array, check_refused, f32, float_arrays

from cnn import kernels
from cnn.kernels import BackendError, DTypeError, ShapeError

ARRAYS = [(name, key) for name in OPERATIONS for key in float_arrays(name)]
# Those that another array stands beside, if only `out`.
BESIDE_OTHERS = [(name, key) for name, key in ARRAYS if name in WITH_OUT or len(float_arrays(name)) > 1]
OPTIONAL = {
    ("conv_forward", "bias"),
    ("conv_kernel_gradient", "grad_bias"),
    ("conv_block_forward", "bias"),
    ("conv_block_backward", "grad_bias"),
    ("conv_block_backward", "y"),
    ("conv_block_backward", "grad_around"),
    ("linear_forward", "bias"),
    ("linear_backward", "grad_bias"),
    ("linear_backward", "y"),
    ("batch_norm_forward", "around"),
    ("batch_norm_backward", "y"),
    ("residual_backward", "x"),
}
INDICES = [
    ("softmax_cross_entropy", "labels"),
    ("hinge", "labels"),
    ("count_correct", "labels"),
    ("max_pool_backward", "argmax"),
    ("conv_block_backward", "argmax"),
    ("gather_batch", "indices"),
    ("dropout", "state"),
]


@pytest.mark.parametrize(("name", "key"), ARRAYS)
def test_what_is_no_array(name: str, key: str) -> None:
    rule = f"{key} must be a NumPy or CuPy array, got a "
    for wrong, kind in (([[1.0]], "list"), (3.0, "float"), (np.float32(3), "float32"), ("x", "str"), ({}, "dict")):
        check_refused(name, {key: wrong}, DTypeError, rule + kind)
    if (name, key) not in OPTIONAL:
        check_refused(name, {key: None}, DTypeError, rule + "NoneType")


@pytest.mark.parametrize(("name", "key"), ARRAYS)
@pytest.mark.parametrize("dtype", ["float16", "int32", "bool", "complex64", "object", ">f4", "S4", "longdouble"])
def test_dtypes_that_nothing_computes(name: str, key: str, dtype: str) -> None:
    array = arguments(name)[key].astype(dtype)
    check_refused(name, {key: array}, DTypeError, f"{key} must be float32 or float64, got {array.dtype}")


@pytest.mark.parametrize(("name", "key"), BESIDE_OTHERS)
def test_mixed_dtypes(name: str, key: str) -> None:
    double = arguments(name)[key].astype(np.float64)
    check_refused(name, {key: double}, DTypeError, "dtypes must not be mixed", "float32", "float64", f"{key} ")


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_another_dtype(name: str) -> None:
    out = getattr(kernels, name)(**arguments(name))
    wrong = np.full(out.shape, 7.0)
    check_refused(name, {"out": wrong}, DTypeError, "dtypes must not be mixed", "out float64")
    check_refused(name, {"out": out.astype(np.int32)}, DTypeError, "out must be float32 or float64, got int32")
    check_refused(name, {"out": out.tolist()}, DTypeError, "out must be a NumPy or CuPy array, got a list")


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_another_shape(name: str) -> None:
    shape = getattr(kernels, name)(**arguments(name)).shape
    for wrong in ((*shape, 1), shape[1:], (shape[0] + 1, *shape[1:]), shape[::-1], ()):
        check_refused(name, {"out": f32(*wrong)}, ShapeError, f"out must have shape {shape}, got {wrong}")


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_that_cannot_be_written(name: str) -> None:
    out = getattr(kernels, name)(**arguments(name))
    out.flags.writeable = False
    check_refused(name, {"out": out}, ShapeError, "out must be writeable")


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_that_shares_memory_with_an_input(name: str) -> None:
    out = getattr(kernels, name)(**arguments(name))
    for key in float_arrays(name):
        shape = arguments(name)[key].shape
        memory = f32(max(int(np.prod(shape)) + 1, out.size + 1))
        input_ = memory[: int(np.prod(shape))].reshape(shape)
        # Whole, shifted by one element, and in reverse order.
        for view in (memory[: out.size], memory[1 : out.size + 1], memory[: out.size][::-1]):
            changes = {key: input_, "out": view.reshape(out.shape)}
            if not np.shares_memory(changes["out"], input_):
                continue  # reshaping the reversed one copied it
            check_refused(name, changes, ShapeError, "must not share memory")


@pytest.mark.parametrize(("name", "key"), INDICES)
def test_indices_that_are_no_integers(name: str, key: str) -> None:
    array = arguments(name)[key]
    rule = f"{key} must be integers, got "
    for dtype in ("float32", "float64", "bool", "complex64", "object", ">i4", "S4"):
        check_refused(name, {key: array.astype(dtype)}, DTypeError, rule + str(np.dtype(dtype)))
    for wrong, kind in ((None, "NoneType"), (array.tolist(), "list"), (3, "int")):
        check_refused(name, {key: wrong}, DTypeError, f"{key} must be an integer array", f"got a {kind}")


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("sgd_update", "value", "gradient"),
        ("sgd_update", "value", "velocity"),
        ("sgd_update", "velocity", "gradient"),
        ("adam_update", "value", "gradient"),
        ("adam_update", "value", "mean"),
        ("adam_update", "value", "square"),
        ("adam_update", "mean", "gradient"),
        ("adam_update", "square", "gradient"),
        ("adam_update", "mean", "square"),
        ("batch_norm_forward", "running_mean", "weight"),
        ("batch_norm_forward", "running_var", "bias"),
        ("batch_norm_forward", "running_mean", "running_var"),
    ],
)
def test_what_is_written_shares_no_memory(name: str, first: str, second: str) -> None:
    size = arguments(name)[first].size
    memory = np.linspace(0.5, 1, size + 1, dtype=np.float32)
    for view in (memory[:size], memory[1:]):  # the same array, and one that overlaps it
        check_refused(name, {first: memory[:size], second: view}, ShapeError, "must not share memory")


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in UPDATED_IN_PLACE.items() for key in keys])
def test_what_is_written_can_be_written(name: str, key: str) -> None:
    array = arguments(name)[key]
    array.flags.writeable = False
    check_refused(name, {key: array}, ShapeError, f"{key} must be writeable")


class Elsewhere:
    """An array that looks like CuPy's, on a machine without a GPU."""

    __module__ = "cupy"

    def __init__(self, like: Array) -> None:
        self.shape, self.dtype, self.ndim, self.size = like.shape, like.dtype, like.ndim, like.size


@pytest.mark.parametrize("name", OPERATIONS)
def test_numpy_arrays_do_not_go_to_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)  # Numba's simulator takes them
    with kernels.backend("cuda"):
        check_refused(name, {}, BackendError, "cuda", "NumPy")


@pytest.mark.parametrize(("name", "key"), BESIDE_OTHERS)
def test_arrays_in_two_places(name: str, key: str) -> None:
    other = Elsewhere(arguments(name)[key])
    check_refused(name, {key: other}, BackendError, "all arrays must live in one place", f"{key} a CuPy array")


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_array_that_the_backend_does_not_take(backend: str) -> None:
    x = Elsewhere(f32(2, 3, 4, 5))
    with kernels.backend(backend), pytest.raises(BackendError) as caught:
        kernels.relu_forward(x)
    assert str(caught.value) == f"relu_forward: backend '{backend}' takes NumPy arrays, got a CuPy array"


def test_errors_are_what_their_names_say() -> None:
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DTypeError, TypeError)
    assert issubclass(BackendError, RuntimeError)
