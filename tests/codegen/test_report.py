"""The code-generation report: what it reads out of PTX and machine code, its arithmetic, its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels import BackendError
from cnn.kernels.cuda.codegen import launches, tables
from cnn.kernels.cuda.codegen.__main__ import main
from cnn.kernels.cuda.codegen.machine_code import nvdisasm, read_ptx, read_sass
from cnn.kernels.cuda.codegen.occupancy import occupancy
from cnn.kernels.cuda.codegen.rows import kernels_of
from cnn.kernels.suites import SUITES

PTX = """
.visible .entry k( .param .u64 k_param_0 ) // .f64 in a comment
	.reg .f64 %fd<3>;
	ld.param.u64 %rd1, [k_param_0];
	ld.global.f32 %f1, [%rd1];
	@%p1 ld.global.nc.v4.f32 {%f2,%f3,%f4,%f5}, [%rd1];
	ld.volatile.shared.v2.f64 {%fd1,%fd2}, [%r1];
	ld.shared.u8 %rs1, [%r1];
	st.local.f32 [%r2], %f1;
	ld.local.v2.b32 {%r5,%r6}, [%r2];
	st.shared.f32 [%r1], %f1;
	add.f64 %fd1, %fd1, %fd2;
"""

# An inner loop of six instructions in an outer one, a larger loop without FFMA, and padding behind the end.
SASS = """
.text.k:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E R2, desc[UR4][R2.64] ;
.L_x_1:
        /*0020*/              @!P0 LDS.128 R4, [R0] ;
        /*0030*/                   FFMA R8, R4.reuse, R5, R8 ;
        /*0040*/                   FFMA.FTZ R9, R4, R6, R9 ;
        /*0050*/                   FFMA R10, R4, R7, R10 ;
        /*0060*/                   NOP ;
        /*0070*/              @P0  BRA `(.L_x_1) ;
        /*0080*/              @P1  BRA `(.L_x_0) ;
.L_x_2:
        /*0090*/                   IADD3 R1, R1, 0x1, RZ ;
        /*00a0*/                   IADD3 R1, R1, 0x1, RZ ;
        /*00b0*/                   IADD3 R1, R1, 0x1, RZ ;
        /*00c0*/                   RED.E.ADD.F32.FTZ.RN.STRONG.GPU [R2.64], R8 ;
        /*00d0*/                   IADD3 R1, R1, 0x1, RZ ;
        /*00e0*/                   IADD3 R1, R1, 0x1, RZ ;
        /*00f0*/              @!UP0 UBRA `(.L_x_3) ;
        /*0100*/              @P2  BRA `(.L_x_2) ;
        /*0110*/                   EXIT ;
.L_x_3:
        /*0120*/                   BRA `(.L_x_3);
        /*0130*/                   NOP;
"""


def test_ptx() -> None:
    assert read_ptx(PTX) == {
        "f64_instructions": 2,
        "local_accesses": 2,
        "shared_loads": {8: 1, 128: 1},
        "global_loads": {32: 1, 128: 1},
    }


def test_machine_code() -> None:
    # Three of five: the branch is one, the padding is not.
    assert read_sass(SASS) == {"ffma_share": 0.6, "hmma_share": 0.0, "atomics": {"RED": 1}}


def test_machine_code_without_a_loop_around_its_multiply_adds() -> None:
    unrolled = SASS.replace("@P0  BRA `(.L_x_1)", "@P0  EXIT").replace("@P1  BRA `(.L_x_0)", "@P1  EXIT")
    assert read_sass(unrolled)["ffma_share"] == 3 / 18
    assert read_sass(SASS.replace("RED.E", "ATOMG.E").replace("LDS.128", "ATOMS.ADD"))["atomics"] == {
        "ATOM": 1,
        "ATOMS": 1,
    }
    assert read_sass(SASS.replace("RED.E", "REDG.E"))["atomics"] == {"RED": 1}
    assert read_sass("") == {"ffma_share": 0.0, "hmma_share": 0.0, "atomics": {}}


def test_products_of_tensor_cores() -> None:
    # Three HMMA in a loop with a load, which is no arithmetic, and one FFMA; one with more FFMA is not the hottest.
    code = SASS.replace("FFMA R8, R4.reuse, R5, R8", "HMMA.1688.F32.TF32 R8, R4, R2, R8")
    code = code.replace("FFMA.FTZ R9, R4, R6, R9", "HMMA.16816.F32.BF16 R8, R4, R2, R8").replace(
        "NOP", "HMMA.1688 R8", 1
    )
    code = code.replace("IADD3 R1, R1, 0x1, RZ", "FFMA R1, R1, R2, R3")
    assert read_sass(code)["hmma_share"] == 3 / 4
    assert read_sass(code.replace("LDS.128", "IMAD.MOV.U32"))["hmma_share"] == 3 / 4
    assert read_sass(code.replace("LDS.128", "IMAD.WIDE"))["hmma_share"] == 3 / 5


@pytest.mark.parametrize(
    ("sm", "registers", "shared_bytes", "threads", "share", "limit"),
    [
        (90, 32, 0, 256, 1, "warps"),
        (90, 32, 0, 32, 0.5, "blocks"),  # 32 blocks of one warp
        (90, 168, 0, 128, 12 / 64, "registers"),  # 5376 a warp, three on each scheduler
        (90, 169, 0, 128, 8 / 64, "registers"),  # 5632 a warp, two on each
        (90, 255, 0, 1024, 0, "registers"),
        (90, 32, 48 * 1024, 128, 16 / 64, "shared memory"),  # 49 of 228 KiB
        (75, 32, 32 * 1024, 128, 8 / 32, "shared memory"),  # the driver takes none of 64 KiB
        (86, 40, 0, 1024, 32 / 48, "warps"),
        (120, 64, 20 * 1024, 256, 32 / 48, "registers"),
    ],
)
def test_occupancy(sm: int, registers: int, shared_bytes: int, threads: int, share: float, limit: str) -> None:
    assert occupancy(sm, registers, shared_bytes, threads) == (share, limit)


def test_launches_of_a_lenet5_step() -> None:
    step = launches.training_step(SUITES["lenet5"])
    on_the_side = [work for work in step if work.name in ("memset", "CuPy copy")]
    assert [work.layer for work in on_the_side] == ["optimizer"]
    assert len(step) <= 14
    text = tables.step("lenet5", 64, step)
    assert text.splitlines()[1].startswith(f"A training step of lenet5, batch 64: {len(step)} launches (13 kernels, ")
    assert len(text.splitlines()) == 4 + len(step)


@pytest.mark.parametrize("name", SUITES)
def test_every_layer_is_there(name: str) -> None:
    layers = {layer.name for layer in SUITES[name].layers if layer.operation != "dropout"}
    # Dropout behind a convolution has a kernel of its own, behind a dense layer it is part of that one's.
    layers |= {"5"} if name == "mnist-cnn" else set()
    assert {work.layer for work in kernels_of(name)} == layers | {"batch", "loss", "accuracy", "optimizer"}


def report(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cnn.kernels.cuda.codegen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_json() -> None:
    done = report("--suite", "lenet5", "--sm", "90", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    rows, steps = printed["rows"], printed["steps"]
    assert [row["kernel"] for row in rows] == [work.name for work in kernels_of("lenet5")]
    figures = {"layer", "sm", "registers", "spill_bytes", "shared_bytes", "f64_instructions", "ffma_share"}
    assert all(figures <= set(row) for row in rows)
    assert {row["sm"] for row in rows} == {90}
    assert all(0 < row["registers"] <= 255 for row in rows)
    if nvdisasm():
        assert all(0.3 < row["ffma_share"] < 1 for row in rows if row["tile"])
    assert [launch["name"] for launch in steps["lenet5"]] == [
        work.name for work in launches.training_step(SUITES["lenet5"])
    ]
    assert printed["estimates"] == []


def test_precision() -> None:
    done = report("--suite", "mnist-cnn", "--precision", "tf32", "--sm", "80", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    found = {(row["layer"], row["purpose"]): row for row in printed["rows"] if "tf32" in row["kernel"]}
    assert {layer for layer, _ in found} == {"mnist-cnn.2"}
    if nvdisasm():
        assert all(row["hmma_share"] > 0.4 for row in found.values() if row["tile"])
        assert not any(row["hmma_share"] for row in printed["rows"] if "tf32" not in row["kernel"])
    assert len(printed["steps"]["mnist-cnn"]) <= 16
    text = report("--suite", "mnist-cnn", "--precision", "tf32", "--sm", "80").stdout
    lines = [line for line in text.splitlines() if line.startswith("mnist-cnn.") and "conv_tf32" in line]
    assert all(" HMMA" in line for line in lines if nvdisasm())
    assert lines


def test_text() -> None:
    done = report("--suite", "lenet5", "--sm", "90", "75")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("sm_")] == ["sm_90", "sm_75"]
    assert sum(line.startswith("lenet5.") for line in lines) == 2 * len(kernels_of("lenet5"))
    assert "ESTIMATE" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "lenet"], "argument --suite: invalid choice: 'lenet'"),
        (["--sm", "91"], "argument --sm: invalid choice: 91 (choose from 75, 80, 86, 89, 90, 100, 120)"),
        (["--sm", "9.0"], "argument --sm: invalid int value: '9.0'"),
        (["--sm"], "argument --sm: expected at least one argument"),
        (["--precision", "half"], "argument --precision: invalid choice: 'half'"),
        (
            ["--precision", "bf16", "--sm", "90", "75"],
            "--precision bf16 is for tensor cores of --sm 80 and later, got 75",
        ),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_in_the_simulator() -> None:
    done = report(NUMBA_ENABLE_CUDASIM="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "codegen: the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM\n"


def test_estimates_without_the_emulator(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ptxsim", None)
    assert main(["--suite", "lenet5", "--sm", "90", "--estimate"]) == 1
    assert capsys.readouterr().err == "codegen: estimates need the emulator ptxsim: put its folder on PYTHONPATH\n"


def test_a_kernel_that_does_not_compile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise BackendError("conv_product: Numba cannot compile the kernel")

    monkeypatch.setattr("cnn.kernels.cuda.codegen.rows.rows", refuse)
    assert main(["--suite", "lenet5", "--sm", "90"]) == 1
    assert capsys.readouterr().err == "codegen: conv_product: Numba cannot compile the kernel\n"
