"""The code of the kernels on tensor cores: no doubles, no spills, and mostly products in their hottest loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import conv_forward, conv_kernel_gradient, conv_tensor_tile
from cnn.kernels.cuda.codegen.machine_code import nvdisasm, read_code
from cnn.kernels.cuda.codegen.rows import kernels_of
from cnn.kernels.cuda.compiler import TARGETS, Kernel, compile_kernel
from cnn.kernels.cuda.conv_phase import forward_phase, input_gradient_phases
from cnn.kernels.cuda.tensor import FIRST
from cnn.kernels.suites import SUITES

IMAGES = SUITES["cifar-cnn"].batch
LAYERS = {layer.name: layer for layer in SUITES["cifar-cnn"].convolutions}
PRECISIONS = ("tf32", "bf16")
WITH_TENSOR_CORES = [sm for sm in TARGETS if sm >= FIRST]


def as_trained(precision: str) -> dict[str, Kernel]:
    """Every kernel on tensor cores of a training step, with all that it computes along, and the deterministic ones."""
    works = kernels_of("cifar-cnn", precision)
    return {f"{work.layer} {work.purpose}": work.kernel for work in works if work.kernel and precision in work.name}


def bare(precision: str) -> dict[str, Kernel]:
    """Convolutions and nothing else."""
    found = {}
    for name in ("2", "5", "7"):
        geometry = LAYERS[name].conv(IMAGES)
        phase = forward_phase(geometry, False, None)
        gradient = conv_kernel_gradient.plan(phase, IMAGES, False, precision=precision).gradient
        found[f"{name} kernel gradient"] = gradient.kernel
        for purpose, each in (("forward", phase), ("input gradient", input_gradient_phases(geometry)[0])):
            found[f"{name} {purpose}"] = conv_forward.plan([each], IMAGES, precision).mains[0].kernel
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sm", WITH_TENSOR_CORES)
def test_no_spill_no_double_no_local_memory(sm: int, precision: str) -> None:
    # The widest of each kind on all targets; what it shares a launch with, too.
    kernels = {name: kernel for name, kernel in as_trained(precision).items() if name.startswith("7 ")}
    assert len(kernels) >= 4
    for name, kernel in kernels.items():
        binary = compile_kernel(kernel, sm)
        ptx = binary.path.with_suffix(".ptx").read_text()
        assert binary.spill_bytes == binary.stack_bytes == 0, name
        assert binary.shared_bytes <= conv_tensor_tile.SHARED, name
        assert ".f64" not in ptx, name
        assert ".local" not in ptx, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_instructions(precision: str) -> None:
    shape = {"tf32": "m16n8k8", "bf16": "m16n8k16"}[precision]
    ptx = compile_kernel(bare(precision)["7 forward"], FIRST).path.with_suffix(".ptx").read_text()
    products = ptx.count(f"mma.sync.aligned.{shape}.row.col.f32.{precision}.{precision}.f32")
    assert products in (32, 64)  # a step, or one of each of two chunks
    assert "cp.async.cg.shared.global" in ptx
    # In a step 4 for the rows, 8 for the columns.
    assert 32 * ptx.count("ld.shared.v4") == 12 * products


@pytest.mark.skipif(nvdisasm() is None, reason="needs nvdisasm: pip install nvidia-cuda-nvdisasm")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sm", [80, 90])
@pytest.mark.parametrize("kernels", [bare, as_trained])
def test_most_arithmetic_is_products(kernels: Callable[[str], dict[str, Kernel]], sm: int, precision: str) -> None:
    found = {name: kernel for name, kernel in kernels(precision).items() if not kernel.name.startswith("pack")}
    assert {name.split()[0] for name in found} == {"2", "5", "7"}
    for name, kernel in found.items():
        binary = compile_kernel(kernel, sm)
        code = read_code(binary)
        assert binary.spill_bytes == 0, name
        assert code.hmma_share is not None
        assert code.hmma_share >= 0.5, (name, code.hmma_share)
