"""Which backend serves a call, in which thread; two runs, many threads, and the name of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from calls import MANY, OPERATIONS, arguments, results
from numpy.testing import assert_array_equal

from cnn import kernels
from cnn.kernels import BackendError, dispatch
from cnn.kernels.threads import set_num_threads

X = np.zeros((2, 3, 4, 5), np.float32)


def served_by(x: Any, dimensions: int = 2) -> str:
    return dispatch.backend_module("test", "conv", x, dimensions).__name__.split(".")[-2]


def test_a_numpy_array_goes_to_the_cpu() -> None:
    assert served_by(X) == "cpu"
    assert served_by(X, 1) == "cpu"


def test_the_reference_serves_what_the_cpu_is_not_compiled_for() -> None:
    assert served_by(X.astype(np.float64)) == "reference"
    assert served_by(X, 3) == "reference"
    with kernels.backend("cpu"):
        assert served_by(X.astype(np.float64)) == "reference"
        assert served_by(X, 3) == "reference"


def test_backends_nest() -> None:
    with kernels.backend("reference"):
        assert served_by(X) == "reference"
        with kernels.backend("cpu"):
            assert served_by(X) == "cpu"
        assert served_by(X) == "reference"
    assert served_by(X) == "cpu"


def test_an_exception_leaves_the_block() -> None:
    with pytest.raises(ZeroDivisionError), kernels.backend("reference"):
        raise ZeroDivisionError
    assert served_by(X) == "cpu"


@pytest.mark.parametrize("name", ["numpy", "", "CPU", None, 3, ["cpu"]])
def test_unknown_backends(name: Any) -> None:
    with (
        pytest.raises(BackendError, match=r"backend must be one of \('reference', 'cpu', 'cuda'\), got"),
        kernels.backend(name),
    ):
        pytest.fail("entered the block")
    assert served_by(X) == "cpu"


def test_a_backend_is_forced_in_its_own_thread_only() -> None:
    inside, outside = Barrier(2, timeout=30), Barrier(2, timeout=30)

    def force() -> str:
        with kernels.backend("reference"):
            inside.wait()
            outside.wait()
            return served_by(X)

    with ThreadPoolExecutor(1) as pool, kernels.backend("cpu"):
        forced = pool.submit(force)
        inside.wait()  # the other thread is in its block now
        mine = served_by(X)
        outside.wait()
        assert (mine, forced.result()) == ("cpu", "reference")


@pytest.mark.parametrize("name", OPERATIONS)
def test_float64_equals_the_reference_without_being_asked(name: str) -> None:
    with kernels.backend("reference"):
        expected = results(name, arguments(name, np.float64))
    for actual, wanted in zip(results(name, arguments(name, np.float64)), expected, strict=True):
        assert_array_equal(actual, wanted, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_dimensions_equal_the_reference_without_being_asked(dtype: type) -> None:
    rng = np.random.default_rng(0)
    x, weight = (rng.uniform(-1, 1, shape).astype(dtype) for shape in ((2, 2, 5, 4, 3), (3, 2, 2, 2, 2)))
    g = rng.uniform(-1, 1, (2, 3, 4, 3, 2)).astype(dtype)

    def everything() -> list[Any]:
        y, argmax = kernels.max_pool_forward(x, 2, stride=1)
        return [
            kernels.conv_forward(x, weight),
            kernels.conv_kernel_gradient(x, g, weight.shape),
            kernels.conv_input_gradient(g, weight, x.shape),
            kernels.conv_bias_gradient(g),
            y,
            argmax,
            kernels.max_pool_backward(y, argmax, x.shape),
            kernels.avg_pool_forward(x, 2),
            kernels.avg_pool_backward(y, x.shape, 2, stride=1),
        ]

    with kernels.backend("reference"):
        expected = everything()
    for actual, wanted in zip(everything(), expected, strict=True):
        assert_array_equal(actual, wanted, strict=True)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", OPERATIONS)
def test_threads_may_call_at_once(name: str) -> None:
    # Each has its own numbers; working memory shared by mistake would mix them.
    seeds = range(4)
    expected = [results(name, arguments(name, seed=seed)) for seed in seeds]
    forced = dispatch._forced.get()
    start = Barrier(len(seeds), timeout=60)

    def work(seed: int) -> list[tuple[Any, ...]]:
        with kernels.backend(forced or "cpu"):
            start.wait()
            return [results(name, arguments(name, seed=seed)) for _ in range(5)]

    with ThreadPoolExecutor(len(seeds)) as pool:
        for runs, wanted in zip(pool.map(work, seeds), expected, strict=True):
            for run in runs:
                for a, b in zip(run, wanted, strict=True):
                    assert_array_equal(a, b, strict=True)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", OPERATIONS)
def test_two_runs_give_the_same_bits(name: str) -> None:
    first, second = (results(name, arguments(name, images=MANY)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.usefixtures("threads_as_before")
def test_the_number_of_threads_does_not_change_a_bit(name: str) -> None:
    runs = []
    for threads in (1, 2, 3, 7):
        set_num_threads(threads)
        runs.append([array.tobytes() for array in results(name, arguments(name, images=MANY))])
    assert all(run == runs[0] for run in runs)


def test_the_kernel_gradient_is_deterministic_where_that_is_asked_for() -> None:
    given = arguments("conv_kernel_gradient", images=MANY)
    first = kernels.conv_kernel_gradient(**given, deterministic=True)
    assert first.tobytes() == kernels.conv_kernel_gradient(**given, deterministic=True).tobytes()
    # On a CPU it is in any case, and the same one.
    assert first.tobytes() == kernels.conv_kernel_gradient(**given).tobytes()


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


FORK = """
import os
import numpy as np
from cnn import kernels
x, weight = np.ones((64, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32)
assert (kernels.conv_forward(x, weight) == 9).all()
child = os.fork()
if child == 0:
    os._exit(0 if (kernels.conv_forward(x, weight) == 9).all() else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    # Its parent's threads do not exist there: waiting for them would last for ever.
    result = run(FORK, CNN_NUM_THREADS="3")
    assert (result.returncode, result.stdout) == (0, "0\n"), result.stderr


def test_the_folder_is_no_package_of_its_own() -> None:
    result = run("import kernels")
    assert result.returncode == 1
    expected = 'this package is imported as "cnn.kernels", not as "kernels": write "from cnn import kernels"'
    assert result.stderr.strip().endswith(f"ImportError: {expected}")


def test_importing_it_from_the_repository_compiles_nothing() -> None:
    result = run("import sys; from cnn import kernels; print(kernels.__name__, 'numba' in sys.modules)")
    assert (result.returncode, result.stdout) == (0, "cnn.kernels False\n"), result.stderr
