"""The command line: every command at --quick, what it writes, and what it says of bad input.

Nothing here looks at how long anything took.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from made_up import row

from benchmarks import gpu
from benchmarks.cli import SLOWER, main
from benchmarks.providers.ours_cpu import OursCPU
from benchmarks.rows import OK, SCHEMA, read
from benchmarks.shapes import PASSES, Case
from benchmarks.verify import Data

TINY = "3x2x6x5:4x2x3x3:padding=1"
CONV = ["conv", "--shape", TINY, "--quick", "--device", "cpu"]
OURS = [*CONV, "--providers", "ours,ours-fresh"]

needs_torch = pytest.mark.skipif(
    find_spec("torch") is None, reason="compares with PyTorch, which the extra `torch` has"
)
needs_matplotlib = pytest.mark.skipif(
    find_spec("matplotlib") is None, reason="draws with matplotlib, of the extra `bench`"
)
needs_numba_cuda = pytest.mark.skipif(find_spec("numba_cuda") is None, reason="compiles CUDA kernels: extra `cu13`")

Capture = pytest.CaptureFixture[str]


def errors(arguments: list[str], capsys: Capture) -> str:
    """What a command that cannot run says, on stderr alone."""
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_conv_with_everybody(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main([*CONV, "--json", str(file)]) == 0
    said = capsys.readouterr()
    rows = [each for each in read(str(file)) if each.layer == TINY]
    assert {each.status for each in rows} == {OK}
    measured = {(each.provider, each.purpose) for each in rows}
    expected = {"ours", "ours-fresh", "numpy", "reference"}
    assert {(name, purpose) for name in expected for purpose in PASSES} <= measured
    for name, package in (("scipy", "scipy"), ("torch", "torch"), ("onnxruntime", "onnxruntime")):
        if find_spec(package) is None:
            assert f"{name} skipped: {package} " in said.err
        else:
            assert (name, "forward") in measured
    for each in rows:
        assert 0 < each.p20 <= each.median <= each.p80  # type: ignore[operator]
        assert each.first > 0  # type: ignore[operator]
        # 3 images, 4 filters, 6x5 outputs, 2*3*3 products.
        assert (each.images, each.flops, each.schema) == (3, 2 * 3 * 4 * 30 * 18, SCHEMA)
        assert each.versions["numpy"]
        assert "threads" in each.machine
    assert "verified on all images" in said.err
    assert "Medians of all providers" in said.out


def test_markdown_json_and_compare(capsys: Capture, tmp_path: Path) -> None:
    old, new, text = (str(tmp_path / name) for name in ("old.json", "new.json", "table.md"))
    assert main([*OURS, "--json", old]) == 0
    # As if everything had taken a millionth, and then a million times as long: no noise comes near that.
    for factor, status in ((1e-6, SLOWER), (1e6, 0)):
        rows = [json.loads(line) for line in Path(old).read_text().splitlines()]
        for values in rows:
            values |= {name: values[name] * factor for name in ("median", "p20", "p80")}
        changed = tmp_path / "changed.json"
        changed.write_text("\n".join(map(json.dumps, rows)))
        assert main([*OURS, "--json", new, "--markdown", text, "--compare", str(changed)]) == status
        verdict = "slower" if status else "faster"
        assert f"{len(rows)} {verdict}" in capsys.readouterr().out
    assert "| layer | pass |" in Path(text).read_text()
    assert len(read(new)) == len(read(old))


@needs_matplotlib
def test_plot(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    assert main([*OURS, "--plot", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_keeps_the_rows(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    prepare = OursCPU.prepare

    def until_the_second_pass(self: OursCPU, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        if purpose == PASSES[1]:
            raise KeyboardInterrupt
        return prepare(self, case, purpose, data)

    monkeypatch.setattr(OursCPU, "prepare", until_the_second_pass)
    file = tmp_path / "rows.json"
    assert main([*CONV, "--providers", "ours", "--json", str(file)]) == 130
    said = capsys.readouterr()
    assert "interrupted: what follows are the" in said.err
    assert [each.purpose for each in read(str(file)) if each.layer == TINY] == [PASSES[0]]
    assert "With nobody to compare to: 1" in said.out


def test_a_wrong_result_is_an_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    prepare = OursCPU.prepare

    def off(self: OursCPU, case: Case, purpose: str, data: Data) -> Callable[[], Any]:
        call = prepare(self, case, purpose, data)
        return lambda: call() + 1

    monkeypatch.setattr(OursCPU, "prepare", off)
    assert main([*CONV, "--providers", "ours"]) == 1
    assert "WRONG OR FAILED, and not timed: 3" in capsys.readouterr().out


@needs_torch
def test_train(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    providers = ["--providers", "ours,torch-channels-last", "--device", "cpu"]
    assert main(["train", "lenet5", "--quick", "--no-memory", "--json", str(file), *providers]) == 0
    rows = read(str(file))
    assert {each.status for each in rows} == {OK}
    purposes = ["step", "inference of one image", "time to 0.2 on MNIST"]
    assert list(dict.fromkeys(each.purpose for each in rows)) == purposes
    assert {each.provider for each in rows} == {"ours", "torch-channels-last"}
    assert "geometric means" in capsys.readouterr().out


def test_train_measures_memory(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    arguments = ["train", "lenet5", "--quick", "--no-accuracy", "--providers", "ours", "--json", str(file)]
    assert main(arguments) == 0
    (peak,) = (each for each in read(str(file)) if each.unit == "B")
    # 16 images through LeNet-5 leave at least the 6 planes of its first layer, and not a gigabyte.
    assert 16 * 6 * 28 * 28 * 4 < peak.median < 2**30  # type: ignore[operator]


def test_launch_on_a_cpu_says_why_there_is_no_launch(capsys: Capture) -> None:
    assert main(["launch", "--quick", "--device", "cpu", "--providers", "ours"]) == 0
    said = capsys.readouterr()
    assert "the cost of a launch and of a step's launches is a GPU's" in said.err
    assert "conv_forward, 1 image of 1x4x4" in said.out


def test_compile(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main(["compile", "lenet5", "--quick", "--json", str(file)]) == 0
    found = {each.purpose: each for each in read(str(file)) if each.provider == "ours"}
    assert {purpose.partition(",")[0] for purpose in found} == {"imports", "first step", "second step"}
    cold, warm = found["first step, cold cache"].median, found["first step, warm cache"].median
    assert cold > warm  # type: ignore[operator]


@needs_numba_cuda
def test_estimate_cannot_be_mistaken_for_a_measurement(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "estimate.md"
    assert main(["estimate", "--shape", "2x8x8x8:8x8x3x3:padding=1", "--markdown", str(file)]) == 0
    text = file.read_text()
    assert text.startswith("### ESTIMATES, NOT MEASUREMENTS")
    columns = text.splitlines()[2]
    assert all(f"{name} ESTIMATE" in columns for name in ("H100", "A100", "RTX4090", "T4"))
    assert "NOT MEASUREMENTS" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("numba_cuda") is not None, reason="numba-cuda is installed")
def test_estimate_without_numba_cuda(capsys: Capture) -> None:
    for command, what in ((["estimate"], "estimates"), (["tune", "--model"], "tiles")):
        assert f"{what} are of compiled CUDA kernels: pip install" in errors([*command, "lenet5"], capsys)


@pytest.mark.skipif(gpu.missing() is None, reason="there is a GPU")
@pytest.mark.parametrize("arguments", [["gpu-check"], [*CONV[:-1], "cuda"], ["conv", "--providers", "ours-cuda"]])
def test_without_a_gpu(arguments: list[str], capsys: Capture) -> None:
    said = errors(arguments, capsys)
    assert gpu.missing() is not None
    assert str(gpu.missing()) in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["conv", "lenet"], "no suite 'lenet': the suites are lenet5, mnist-cnn"),
        ([*CONV, "--providers", "ours,pytorch"], "no provider 'pytorch' here: the providers are ours, torch,"),
        ([*CONV, "--providers", "ours,ours-cuda"], "providers of a CPU and of a GPU are not measured side by side"),
        (["conv", "--shape", "1x1x4x4:1x1x5x5"], "does not fit together"),
        (["train", "vgg"], "no network 'vgg': the networks are lenet5, mnist-cnn, cifar-cnn, resnet8"),
        (["compile", "vgg"], "no network 'vgg'"),
        ([*OURS, "--json", "/nowhere/rows.json"], "cannot write /nowhere/rows.json: No such file or directory; name a"),
        ([*OURS, "--markdown", "/"], "cannot write /: Is a directory"),
        ([*OURS, "--compare", "/nowhere/old.json"], "cannot read /nowhere/old.json"),
    ],
)
def test_bad_input_says_what_is_possible(arguments: list[str], says: str, capsys: Capture) -> None:
    assert says in errors(arguments, capsys)


@needs_matplotlib
def test_a_plot_in_no_format(capsys: Capture) -> None:
    assert "must end in .png, .svg, .pdf" in errors([*OURS, "--plot", "plot.bmp"], capsys)


def test_rows_of_another_version_are_not_compared_with(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text(row("ours", 1.0, schema=SCHEMA + 1).to_json())
    assert f"a row of version {SCHEMA + 1}, this is version {SCHEMA}" in errors([*OURS, "--compare", str(file)], capsys)


@pytest.mark.parametrize(
    "arguments", [["conv", "--seconds", "0"], ["conv", "--seconds", "x"], ["compile", "--repeats", "0"]]
)
def test_options_that_are_no_numbers(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_an_output_that_cannot_be_written_leaves_no_other(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    errors([*OURS, "--json", str(file), "--markdown", "/nowhere/table.md"], capsys)
    assert not file.exists()
