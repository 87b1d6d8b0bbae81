"""One tiny run for all tests of the command line, trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_run import TinyRun, run_cnn, write_data, write_model


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """`cnn train` in a fresh folder, with relative paths and the default run folder."""
    folder = tmp_path_factory.mktemp("cli")
    write_data(folder / "shapes.npz")
    write_model(folder / "model.py")
    options = ("--epochs", 4, "--batch-size", 8, "--lr", 0.05, "--device", "cpu", "--deterministic")
    done = run_cnn("train", "--model", "model.py:net", "--data", "shapes.npz", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return TinyRun(folder, folder / "runs" / "net-1", done.stdout)


@pytest.fixture
def copied(trained: TinyRun, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(trained.run, tmp_path / "copied"))
