"""The code of all kernels but the convolutions' on every target: registers, no doubles, no spills to memory."""

from __future__ import annotations

import re
from functools import cache

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels import PoolGeometry
from cnn.kernels.cuda import (
    accuracy,
    activation,
    conv_bias_gradient,
    dropout,
    gather,
    loss,
    norm,
    optimizer,
    pool,
    record,
    row_sums,
)
from cnn.kernels.cuda.compiler import TARGETS, Binary, compile_kernel
from cnn.kernels.cuda.launch import Launch

LENET = PoolGeometry.of("test", (64, 6, 28, 28), 2)
OVERLAPPING = PoolGeometry.of("test", (8, 3, 32, 33), 3, stride=2, padding=1, ceil_mode=True)
GLOBAL = PoolGeometry.of("test", (64, 64, 8, 8), 8)
RESNET = (64, 16, 1024)

POOLS = {
    f"{operation} {name}": plan
    for name, geometry in (("side by side", LENET), ("overlapping", OVERLAPPING), ("global", GLOBAL))
    for operation, plan in (
        ("max_pool_forward", pool.plan_max_pool_forward(geometry)),
        ("max_pool_backward", pool.plan_max_pool_backward(geometry)),
        ("avg_pool_forward", pool.plan_avg_pool_forward(geometry, False)),
        ("avg_pool_backward", pool.plan_avg_pool_backward(geometry, False)),
    )
}
ELEMENTWISE = {
    f"{name}_{direction}": activation.plan(f"{name}_{direction}", 1000, 0.01)
    for name in ("relu", "leaky_relu", "sigmoid", "tanh")
    for direction in ("forward", "backward")
}
LAUNCHES: dict[str, Launch] = {
    **ELEMENTWISE,
    **POOLS,
    "softmax_cross_entropy": loss.plan_softmax_cross_entropy(64, 10, "int64", False),
    "softmax_cross_entropy of each": loss.plan_softmax_cross_entropy(64, 10, "int32", True),
    "softmax_cross_entropy in blocks": loss.plan_softmax_cross_entropy(1000, 10, "int64", False),
    "hinge": loss.plan_hinge(64, 10, 1.0, "int64", False),
    "mean_squared_error": loss.plan_mean_squared_error(640, False),
    "row_sums": row_sums.plan_row_sums(1),
    "conv_bias_gradient": conv_bias_gradient.plan_conv_bias_gradient(64, 6, 784),
    "batch_norm_moments": norm.plan_batch_norm_moments(*RESNET),
    "batch_norm_training": norm.plan_batch_norm_training(*RESNET, None),
    "batch_norm_evaluation": norm.plan_batch_norm_evaluation(*RESNET, None),
    "batch_norm_sums": norm.plan_batch_norm_sums(*RESNET, None),
    "batch_norm_gradient": norm.plan_batch_norm_gradient(*RESNET, None),
    "batch_norm_training, relu": norm.plan_batch_norm_training(*RESNET, "relu"),
    "batch_norm_sums, relu": norm.plan_batch_norm_sums(*RESNET, "relu"),
    "batch_norm_gradient, relu": norm.plan_batch_norm_gradient(*RESNET, "relu"),
    "dropout": dropout.plan_dropout(64 * 9216),
    "sgd_update": optimizer.plan_sgd(61_706, True),
    "adam_update": optimizer.plan_adam(61_706, False),
    "adamw_update": optimizer.plan_adam(61_706, True),
    "record": record.plan_record(1, True),
    "gather_next": gather.plan_gather_next((64, 3, 32, 32), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)),
    "gather_batch": gather.plan_gather_batch((64, 3, 32, 32), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "int64"),
    "count_correct": accuracy.plan_count_correct(10, "int64"),
}


@cache
def code(name: str, sm: int) -> tuple[Binary, str]:
    binary = compile_kernel(LAUNCHES[name].kernel, sm)
    return binary, binary.path.with_suffix(".ptx").read_text()


@pytest.mark.parametrize("sm", TARGETS)
def test_no_spill_no_double_no_local_memory(sm: int) -> None:
    for name in LAUNCHES:
        binary, ptx = code(name, sm)
        assert binary.spill_bytes == binary.stack_bytes == 0, name
        assert ".f64" not in ptx, name
        assert ".local" not in ptx, name


@pytest.mark.parametrize("sm", TARGETS)
def test_registers_leave_room_for_other_blocks(sm: int) -> None:
    # 65,536 registers of a multiprocessor over 40 make three quarters of the 2048 threads that the largest hold.
    for name in LAUNCHES:
        binary, _ = code(name, sm)
        # A loss runs as one block of 1024 threads, whose registers are plenty.
        assert binary.registers <= (64 if "softmax" in name else 40), name


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations_access_128_bits(name: str) -> None:
    _, ptx = code(name, 90)
    arrays = 2 if name.endswith("forward") else 3
    assert len(re.findall(r"ld\.global\.v4\.f32", ptx)) == arrays - 1
    assert len(re.findall(r"st\.global\.v4\.f32", ptx)) == 1


def test_nothing_is_added_atomically() -> None:
    for name in LAUNCHES:
        assert not re.search(r"^\s*(@%p\d+ )?(atom|red)\.", code(name, 90)[1], re.MULTILINE), name


def test_plans_are_cached() -> None:
    assert pool.plan_max_pool_forward(LENET) is pool.plan_max_pool_forward(LENET)
    # Another number of images makes another grid of the same kernel.
    more = PoolGeometry.of("test", (128, 6, 28, 28), 2)
    assert pool.plan_max_pool_forward(more).kernel is pool.plan_max_pool_forward(LENET).kernel
    assert pool.plan_max_pool_forward(more).grid[0] == 2 * pool.plan_max_pool_forward(LENET).grid[0]
