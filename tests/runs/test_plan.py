"""The plan of a training step: counts and costs worked out by hand."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

import cnn
from cnn.cli import main
from cnn.kernels.suites import SUITES
from cnn.models import MODELS
from cnn.runs.plan import Line, described, plan, table

needs_numba_cuda = pytest.mark.skipif(
    find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'numba-cnn[cu13]'"
)


@pytest.mark.parametrize(
    "layer",
    [cnn.Conv2d(1, 2, 3, dilation=2), cnn.Conv2d(1, 2, 3, padding="same"), cnn.MaxPool2d(3, stride=2), cnn.Tanh()],
    ids=repr,
)
def test_what_it_cannot_tell_of_is_named(layer: cnn.layers.Layer) -> None:
    with pytest.raises(ValueError, match=r"plan: layer 0, .* is of a kind that the plan does not tell of"):
        described(cnn.Sequential(layer), (1, 8, 8), 10, 4)


@needs_numba_cuda
@pytest.mark.parametrize(("name", "most"), [("lenet5", 14), ("mnist-cnn", 16), ("cifar-cnn", 24)])
def test_launches_of_a_step(name: str, most: int) -> None:
    suite = SUITES[name]
    lines = plan(MODELS[name](suite.image, suite.classes), suite.image, suite.classes, suite.batch)
    assert len(lines) <= most


@needs_numba_cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", ["lenet5", "mnist-cnn", "cifar-cnn"])
def test_tensor_cores_need_no_more_launches(name: str, precision: str) -> None:
    suite = SUITES[name]
    model = MODELS[name](suite.image, suite.classes)
    plain, ours = (
        plan(model.set_precision(each), suite.image, suite.classes, suite.batch) for each in ("float32", precision)
    )
    assert [(line.layer, line.purpose, line.flops) for line in ours] == [
        (line.layer, line.purpose, line.flops) for line in plain
    ]
    # Layers of 32 channels and more: the first of each network are too thin.
    wide = {line.layer for line in ours if precision in line.kernel}
    assert wide == {"lenet5": set(), "mnist-cnn": {"2"}, "cifar-cnn": {"2", "5", "7"}}[name]
    passes = {line.purpose for line in ours if line.kernel == f"conv_{precision}"} - {"forward, relu"}
    assert passes == (set() if name == "lenet5" else {"forward, relu, max_pool", "input gradient"})
    # Weights packed for bf16 are half as large.
    packing = [(line.bytes, other.bytes) for line, other in zip(ours, plain, strict=True) if "pack" in other.kernel]
    assert all(mine < theirs if precision == "bf16" else mine == theirs for mine, theirs in packing)


@needs_numba_cuda
def test_costs_by_hand() -> None:
    model = cnn.Sequential(
        cnn.Conv2d(2, 3, 3, padding=1), cnn.ReLU(), cnn.MaxPool2d(2), cnn.Flatten(), cnn.Linear(12, 10)
    )
    lines = {(line.layer, line.purpose): line for line in plan(model, (2, 4, 4), 10, 5)}
    # 5 images of 2 x 4 x 4; 3 filters of 2 x 3 x 3; maxima of 3 x 2 x 2 and where they stood.
    forward = lines["0", "forward, relu, max_pool"]
    assert forward.flops == 2 * 5 * 3 * 16 * 18
    assert forward.bytes == 4 * (160 + 54 + 2 * 60)
    assert lines["0", "kernel gradient"].flops == forward.flops
    assert lines["4", "forward"].flops == 2 * 5 * 12 * 10
    assert lines["4", "backward"].flops == 2 * lines["4", "forward"].flops
    assert lines["batch", "gather"].bytes == 160 + 4 * 160
    parameters = 54 + 3 + 120 + 10
    assert lines["optimizer", "update"].bytes == 4 * 5 * parameters
    # The phases of an input gradient with a stride are one launch.
    strided = cnn.Sequential(
        cnn.Conv2d(2, 3, 3), cnn.ReLU(), cnn.Conv2d(3, 4, 3, stride=2), cnn.Flatten(), cnn.Linear(16, 10)
    )
    given = plan(strided, (2, 8, 8), 10, 5)
    (line,) = [line for line in given if (line.layer, line.purpose) == ("2", "input gradient")]
    assert line.flops == 2 * 5 * 4 * 4 * 27


def test_the_table_ends_with_sums() -> None:
    line = Line("0", "forward", "conv_direct", {"filters": 6}, (3, 2), (128,), 1500, 2_000_000)
    head, first, second, total = table([line, line]).splitlines()
    assert head.split() == ["layer", "purpose", "kernel", "tile", "grid", "block", "kB", "MFLOP"]
    assert first.split() == ["1", "0", "forward", "conv_direct", "filters=6", "3x2", "128", "1.5", "2.0"]
    assert second.split()[0] == "2"
    assert total.split() == ["2", "launches", "3.0", "4.0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "neither one of lenet5"),
        (["lenet5", "--image", "3x32"], "--image must be CxHxW, such as 3x32x32, got '3x32'"),
        (["lenet5", "--image", "3x0x3"], "--image must be CxHxW"),
        (["lenet5", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        *([] if find_spec("numba_cuda") else [(["lenet5"], "needs numba-cuda and CuPy: pip install")]),
    ],
)
def test_what_has_no_plan(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--plan", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"cnn info: error: {message}" in captured.err or message in captured.err


@needs_numba_cuda
def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--plan", "lenet5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("A training step of lenet5: 64 images of 1x28x28, SGD, on a GPU\n")
    assert " 14 launches " in out
