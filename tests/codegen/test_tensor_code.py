"""The code of the kernels on tensor cores: no doubles, no spills, and mostly products in their hottest loops."""

from __future__ import annotations

import subprocess
from collections import Counter
from functools import cache

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import conv_tensor, conv_tensor_gradient, conv_tensor_pack, conv_tensor_tile
from cnn.kernels.cuda.codegen import machine_code
from cnn.kernels.cuda.compiler import TARGETS, Kernel, compile_kernel
from cnn.kernels.cuda.conv_phase import ConvPhase, forward_phase, input_gradient_phases
from cnn.kernels.suites import SUITES

IMAGES = SUITES["cifar-cnn"].batch
PRECISIONS = ("tf32", "bf16")
WITH_TENSOR_CORES = [sm for sm in TARGETS if sm >= 80]

# What is issued and is no arithmetic: memory, moves, control.
OTHERS = {"LDS", "LDG", "STS", "STG", "LDGSTS", "LDC", "ULDC", "LDCU", "LDGDEPBAR", "DEPBAR", "BAR", "WARPSYNC", "CALL"}
OTHERS |= {"MOV", "UMOV", "CS2R", "S2R", "S2UR", "R2UR", "BRA", "BSSY", "BSYNC", "NOP", "EXIT", "YIELD"}


LAYERS = {layer.name: layer for layer in SUITES["cifar-cnn"].convolutions}


def convolution(phase: ConvPhase, precision: str) -> Kernel:
    return conv_tensor.plan(phase, IMAGES, precision, conv_tensor_tile.choose_tile(phase, IMAGES, precision)).kernel


@cache
def bare(precision: str) -> dict[str, Kernel]:
    """Convolutions and nothing else: what their hottest loops are."""
    found = {}
    for name in ("2", "5", "7"):
        geometry = LAYERS[name].conv(IMAGES)
        phase = forward_phase(geometry, True, None)
        found[f"{name} forward"] = convolution(phase, precision)
        found[f"{name} input gradient"] = convolution(input_gradient_phases(geometry)[0], precision)
        gradient = conv_tensor_gradient.plan(phase, IMAGES, precision, False).gradient
        found[f"{name} kernel gradient"] = gradient.kernel
    return found


@cache
def with_neighbours(precision: str) -> dict[str, Kernel]:
    """With all that is computed along, where registers are scarce."""
    geometry = LAYERS["7"].conv(IMAGES)
    forward = forward_phase(geometry, True, "relu", pooled=True)
    (back,) = input_gradient_phases(geometry, source_pooled=True, derivative="relu", target_derivative="relu")
    gradient = forward_phase(geometry, True, None, pooled=True, derivative="relu")
    return {
        "forward": convolution(forward, precision),
        "input gradient": convolution(back, precision),
        "kernel gradient": conv_tensor_gradient.plan(gradient, IMAGES, precision, True).gradient.kernel,
        "weights": conv_tensor_pack.plan(forward, precision, 64, 128)[0].kernel,
    }


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sm", WITH_TENSOR_CORES)
def test_no_spill_no_double_no_local_memory(sm: int, precision: str) -> None:
    for name, kernel in with_neighbours(precision).items():
        binary = compile_kernel(kernel, sm)
        ptx = binary.path.with_suffix(".ptx").read_text()
        assert binary.spill_bytes == binary.stack_bytes == 0, name
        assert binary.shared_bytes <= conv_tensor_tile.SHARED, name
        assert ".f64" not in ptx, name
        assert ".local" not in ptx, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_instructions(precision: str) -> None:
    shape = {"tf32": "m16n8k8", "bf16": "m16n8k16"}[precision]
    kernel = bare(precision)["7 forward"]
    ptx = compile_kernel(kernel, 80).path.with_suffix(".ptx").read_text()
    products = ptx.count(f"mma.sync.aligned.{shape}.row.col.f32.{precision}.{precision}.f32")
    assert products in (32, 64)  # a step, or one of each of two chunks
    assert "cp.async.cg.shared.global" in ptx
    # In a step 4 for the rows, 8 for the columns.
    assert 32 * ptx.count("ld.shared.v4") == 12 * products


# Least share of products in the arithmetic of the hottest loop. In tf32 the sources of 32 targets are rounded for half
# as many products as those of 64: there it is less.
def least(name: str, precision: str) -> float:
    narrow = precision == "tf32" and name in ("5 input gradient", "2 kernel gradient")
    return 0.4 if narrow else 0.5


@pytest.mark.skipif(machine_code.nvdisasm() is None, reason="needs nvdisasm: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sm", [80, 90])
def test_most_arithmetic_is_products(sm: int, precision: str) -> None:
    for name, kernel in bare(precision).items():
        assert share(kernel, sm) >= least(name, precision), name


def share(kernel: Kernel, sm: int) -> float:
    """Of HMMA, in the innermost loop that has most of it."""
    tool = machine_code.nvdisasm()
    assert tool is not None
    path = compile_kernel(kernel, sm).path
    text = subprocess.run([tool, "--print-code", path], capture_output=True, text=True, check=True).stdout
    code = list(machine_code._instructions(text))
    loops = [(target, address) for address, _, target in code if target is not None and target < address]
    counts = [
        Counter(_base(opcode) for address, opcode, _ in code if first <= address <= last)
        for first, last in loops
        if not any((first, last) != (a, b) and first <= a and b <= last for a, b in loops)
    ]
    hottest = max(counts, key=lambda count: count["HMMA"])
    return hottest["HMMA"] / sum(number for opcode, number in hottest.items() if opcode not in OTHERS)


def _base(opcode: str) -> str:
    return "MOV" if opcode.startswith("IMAD.MOV") else opcode.split(".")[0]
