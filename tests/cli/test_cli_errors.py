"""What goes wrong outside of the program is told in one line, with the status that says whose fault it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tiny_run import write_data, write_model

from cnn.cli import main
from cnn.runs.checkpoint import list_checkpoints
from cnn.runs.folder import checkpoints_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with shapes.npz (1x6x6), colour.npz (3x6x6) and model.py."""
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "shapes.npz", 60)
    write_data(tmp_path / "colour.npz", 60, channels=3)
    write_model(tmp_path / "model.py")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("train --epochs 0", 2, "--epochs must be a whole number of at least 1, got 0"),
        ("train --lr nan", 2, "--lr must be a number above 0, got nan"),
        ("train --optimizer adam --momentum 0.5", 2, "--momentum belongs to --optimizer sgd"),
        ("train --resume runs/x --lr 1 --seed 2", 2, "--resume .* leave out --lr, --seed"),
        ("train --resume runs/x --out y", 2, "leave out --out"),
        ("train --resume runs/x", 2, "runs/x is not a run folder"),
        ("train --data mnst", 1, "'mnst' is neither the name of a data set nor a path"),
        ("train --data model.py", 1, "model.py: not an .npz file"),
        ("train --data shapes.npz --model lenet6", 1, "model 'lenet6': neither one of lenet5, .* nor"),
        ("train --data shapes.npz --model model.py:nut", 1, "has no function 'nut'"),
        ("train --data shapes.npz --model absent.py:net", 1, "there is no file"),
        ("train --data shapes.npz --model model.py:net --out .", 2, "--out . is not empty"),
        ("evaluate nowhere", 2, "nowhere is not a run folder"),
        ("predict nowhere x.png", 2, "nowhere is not a run folder"),
    ],
)
def test_one_line_and_a_status(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, status: int, message: str
) -> None:
    before = sorted(folder.rglob("*"))
    assert main(arguments.split()) == status
    seen = capsys.readouterr()
    assert seen.out == ""
    assert re.fullmatch(rf"cnn {arguments.split()[0]}: error: .*{message}.*\n", seen.err)
    # No run folder is left by a run that could not begin; Python may have cached the model file.
    assert [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts] == before


def test_cuda_without_a_gpu(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn.runs.device.gpu_status", lambda: (False, "not used: no driver"))
    assert main(["train", "--data", "shapes.npz", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "cnn train: error: --device cuda: not used: no driver\n"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("train --data shapes.npz", "a smaller --batch-size needs less"),
        ("evaluate runs/x", "--device cpu uses the host's"),
    ],
)
def test_too_little_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, hint: str
) -> None:
    def fails(*arguments: object, **options: object) -> int:
        raise MemoryError("Out of memory allocating 3,584 bytes")

    monkeypatch.setattr(f"cnn.runs.commands.{command.split()[0]}_command", fails)
    assert main(command.split()) == 1
    error = f"error: not enough memory ({hint}): Out of memory allocating 3,584 bytes\n"
    assert capsys.readouterr().err == f"cnn {command.split()[0]}: {error}"


@pytest.mark.parametrize("arguments", ["", "trane", "train --epochs x", "train --schedule linear", "predict runs/x"])
def test_what_argparse_refuses(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments.split())
    assert exited.value.code == 2
    assert "usage: cnn" in capsys.readouterr().err


def train_tiny(*more: str) -> int:
    return main(["train", "--data", "shapes.npz", "--model", "model.py:net", "--epochs", "1", *more])


def test_a_run_that_diverges(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.errstate(all="ignore"):
        status = train_tiny("--lr", "1e30", "--schedule", "constant", "--batch-size", "4")
    assert status == 1
    assert re.fullmatch(r"cnn train: error: .* step \d+ \(epoch 1\); .*\n", capsys.readouterr().err)


def test_evaluate_with_other_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_tiny("--out", "run") == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "colour.npz"]) == 1
    assert "test images have shape (3, 6, 6), the network takes (1, 6, 6)" in capsys.readouterr().err
    assert main(["evaluate", "run", "--data", "mnist"]) == 1
    assert "test images have shape (1, 28, 28)" in capsys.readouterr().err


def test_a_model_file_that_has_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_tiny("--out", "run") == 0
    model = folder / "model.py"
    model.write_text(model.read_text().replace("channels, 4, 3", "channels, 5, 3"))
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 1
    assert "0.weight must be float32 (5, 1, 3, 3), got float32 (4, 1, 3, 3)" in capsys.readouterr().err


def test_a_run_without_checkpoints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_tiny("--out", "run") == 0
    for path in list_checkpoints(checkpoints_of(Path("run"))):
        path.write_bytes(b"")
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 1
    assert "no checkpoint can be read: run/checkpoints/step-" in capsys.readouterr().err
    for path in list_checkpoints(checkpoints_of(Path("run"))):
        path.unlink()
    assert main(["evaluate", "run"]) == 1
    assert capsys.readouterr().err == "cnn evaluate: error: run has no checkpoint yet\n"
    # Such a run was stopped before its first checkpoint: it begins anew.
    assert main(["train", "--resume", "run"]) == 0
    assert "going on after step 0" in capsys.readouterr().out


def test_bugs_keep_their_traceback(folder: Path) -> None:
    (folder / "model.py").write_text("def net(shape, classes):\n    raise NotImplementedError('soon')\n")
    with pytest.raises(NotImplementedError, match="soon"):
        train_tiny()
