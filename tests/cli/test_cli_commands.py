"""Every command through its entry point, in a process of its own: what it prints, writes and returns."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASSES, TinyRun, command, environment, run_cnn

from cnn.data import load
from cnn.runs.checkpoint import list_checkpoints, read_checkpoint
from cnn.runs.config import TrainConfig
from cnn.runs.folder import checkpoints_of, open_run
from cnn.runs.metrics import read_metrics

HEAVY = ("numba", "llvmlite", "PIL", "matplotlib", "pooch", "rich", "safetensors", "torch")


def test_help_of_every_command(tmp_path: Path) -> None:
    done = run_cnn("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("train", "evaluate", "predict", "info"):
        assert re.search(rf"^    {name} ", done.stdout, re.MULTILINE)
        told = run_cnn(name, "--help", cwd=tmp_path)
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith(f"usage: cnn {name}")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cnn.cli import build_parser\nbuild_parser().format_help()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_installed_command_is_the_module(tmp_path: Path) -> None:
    script = shutil.which("cnn", path=str(Path(sys.executable).parent))
    assert script is not None, "the package is installed without its script"
    by_script = subprocess.run([script, "train", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert by_script.stdout == subprocess.run(
        [sys.executable, "-m", "cnn", "train", "--help"], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout  # fmt: skip


def test_train_prints_lines_and_ends_with_the_accuracy(trained: TinyRun) -> None:
    head, *epochs_and_steps, last = trained.output.splitlines()
    assert re.fullmatch(
        r"\S+model\.py:net, 483 parameters, on \S+shapes\.npz: 270 training and 30 test images of 1x6x6, "
        r"3 classes; cpu; runs/net-1",
        head,
    )
    number = r"[\d,.]+"
    step = rf"step +100 of 136  loss {number}  lr [\d.e-]+  {number} images/s"
    epoch = rf"epoch \d  loss {number}  test loss {number}  accuracy [01]\.\d{{4}}  {number} images/s  {number} s"
    assert [bool(re.fullmatch(step, line)) for line in epochs_and_steps] == [False, False, True, False, False]
    assert [bool(re.fullmatch(epoch, line)) for line in epochs_and_steps] == [True, True, False, True, True]
    told = re.fullmatch(rf"test accuracy (\d\.\d{{4}}) \((\d+) of 30\), 4 epochs, {number} s, runs/net-1", last)
    assert told is not None
    assert float(told[1]) == pytest.approx(int(told[2]) / 30, abs=5e-5)
    assert read_metrics(trained.run / "metrics.jsonl")[-1]["accuracy"] == int(told[2]) / 30


def test_train_leaves_a_run_folder(trained: TinyRun) -> None:
    names = ["checkpoints", "config.json", "metrics.jsonl", "report.png"]
    assert sorted(path.name for path in trained.run.iterdir()) == names
    config = open_run(trained.run)
    assert config == TrainConfig(
        model=f"{trained.folder / 'model.py'}:net",
        data=str(trained.folder / "shapes.npz"),
        epochs=4,
        batch_size=8,
        lr=0.05,
        device="cpu",
        deterministic=True,
    )
    # 136 steps: one checkpoint after each epoch of 34, the last two kept.
    checkpoints = [read_checkpoint(path) for path in list_checkpoints(checkpoints_of(trained.run))]
    assert [checkpoint.step for checkpoint in checkpoints] == [136, 102]
    assert checkpoints[0].state["network"]["classes"] == list(CLASSES)
    with Image.open(trained.run / "report.png") as image:
        assert image.format == "PNG"


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(trained: TinyRun, copied: Path, tmp_path: Path) -> None:
    done = run_cnn("train", "--resume", copied, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on after step 136" in done.stdout
    before = trained.output.splitlines()[-1].partition(" epochs")[0]
    assert done.stdout.splitlines()[-1].startswith(before)
    assert (copied / "metrics.jsonl").read_bytes() == (trained.run / "metrics.jsonl").read_bytes()


def test_evaluate_says_what_training_said(trained: TinyRun, tmp_path: Path) -> None:
    done = run_cnn("evaluate", trained.run, cwd=tmp_path)  # another folder: the paths in config.json hold
    assert (done.returncode, done.stderr) == (0, "")
    *table, loss, last = done.stdout.splitlines()
    epoch = read_metrics(trained.run / "metrics.jsonl")[-1]
    assert loss == f"test loss {epoch['test_loss']:.4f}"
    accuracy = trained.output.splitlines()[-1].partition(", ")[0]
    assert last == f"{accuracy}, step 136, {trained.run}"
    counts = np.array([[int(count) for count in row.split()[1:]] for row in table[1:]])
    labels = load(trained.folder / "shapes.npz", "test").labels
    assert counts.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert np.trace(counts) == round(epoch["accuracy"] * 30)


def test_evaluate_on_other_data(trained: TinyRun, tmp_path: Path) -> None:
    images = np.zeros((20, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "dark.npz", images=images, labels=np.arange(20) % 3, classes=np.array(CLASSES))
    done = run_cnn("evaluate", trained.run, "--data", "dark.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Images 9 and 19, of classes 0 and 1, look the same: one at most is right.
    assert re.search(r"^test accuracy 0\.[05]000 \([01] of 2\)", done.stdout, re.MULTILINE)


def test_evaluate_passes_over_a_damaged_checkpoint(copied: Path, tmp_path: Path) -> None:
    newest = list_checkpoints(checkpoints_of(copied))[0]
    newest.write_bytes(newest.read_bytes()[:-4])
    done = run_cnn("evaluate", copied, cwd=tmp_path)
    assert done.returncode == 0
    assert f"{newest}: not a readable checkpoint" in done.stderr
    assert "going back to step 102" in done.stderr
    assert "step 102" in done.stdout.splitlines()[-1]


def test_predict(trained: TinyRun, tmp_path: Path) -> None:
    test = load(trained.folder / "shapes.npz", "test")
    for number in range(3):
        Image.fromarray(test.images[number, 0]).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    done = run_cnn("predict", trained.run, "0.png", "broken.png", "1.png", "absent.png", "2.png", cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"cnn predict: error: broken\.png: not a readable picture: .*\n"
        r"cnn predict: error: absent\.png: not a readable picture: .*\n",
        done.stderr,
    )
    lines = done.stdout.splitlines()
    for number, line in enumerate(lines):
        told = re.fullmatch(rf"{number}\.png: (\w+) \(([\d.]+) %\), (\w+) \(([\d.]+) %\), (\w+) \(([\d.]+) %\)", line)
        assert told is not None
        assert {told[1], told[3], told[5]} == set(CLASSES)
        percents = [float(told[group]) for group in (2, 4, 6)]
        assert percents == sorted(percents, reverse=True)
        assert sum(percents) == pytest.approx(100, abs=0.2)
    # The network is right on these, as its accuracy says of nearly all.
    assert [line.split()[1] for line in lines] == [CLASSES[label] for label in test.labels[:3]]


def test_info(tmp_path: Path) -> None:
    done = run_cnn("info", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for heading in ("numba-cnn", "Python", "numba", "processor", "vector features", "threads", "compiled code", "GPU"):
        assert re.search(rf"^{heading}  +\S", done.stdout, re.MULTILINE), heading


def test_no_matplotlib_no_report(trained: TinyRun, tmp_path: Path) -> None:
    package = tmp_path / "absent" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('none', name='matplotlib')")
    model = f"{trained.folder / 'model.py'}:net"
    options = ("--model", model, "--data", trained.folder / "shapes.npz", "--epochs", 1, "--out", "run")
    done = run_cnn("train", *options, cwd=tmp_path, PYTHONPATH=str(package.parent))
    assert done.returncode == 0
    assert done.stderr == 'cnn: report.png is not drawn without matplotlib: pip install "numba-cnn[plots]"\n'
    assert done.stdout.splitlines()[-1].startswith("test accuracy ")
    assert not (tmp_path / "run" / "report.png").exists()


def test_a_reader_that_leaves_gets_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("info"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert errors == b""
    assert process.returncode == 1
