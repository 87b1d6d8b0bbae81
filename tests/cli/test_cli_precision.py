"""--precision: kept in the run, and taken over by what goes on with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_run import write_data, write_model

from cnn.cli import main
from cnn.runs.config import TrainConfig
from cnn.runs.session import Session
from cnn.runs.trained import load_trained


def precisions(config: TrainConfig) -> set[str]:
    return {layer.precision_in_effect for layer in Session(config, "cpu").model.modules()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "shapes.npz", 60)
    write_model(tmp_path / "model.py")
    return tmp_path


TRAIN = ["train", "--data", "shapes.npz", "--model", "model.py:net", "--device", "cpu", "--epochs", "1", "--out", "run"]


def test_it_is_a_setting_of_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--precision", "tf32"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.endswith("3 classes; cpu in float32; run")  # whatever was asked for
    assert json.loads((folder / "run" / "config.json").read_text())["precision"] == "tf32"
    trained = load_trained("run", "cpu", print)
    assert {layer.precision for layer in trained.model.modules()} == {"tf32"}
    assert precisions(trained.config) == {"tf32"}
    assert main(["train", "--resume", "run"]) == 0
    assert "cpu in float32" in capsys.readouterr().out
    assert main(["evaluate", "run", "--device", "cpu"]) == 0
    assert main(["train", "--resume", "run", "--precision", "bf16"]) == 2
    assert "leave out --precision" in capsys.readouterr().err


def test_without_it_layers_keep_their_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = (folder / "model.py").read_text().replace("padding=1", "padding=1, precision='bf16'")
    (folder / "model.py").write_text(source)
    assert main(TRAIN) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("; cpu; run")
    trained = load_trained("run", "cpu", print)
    assert [layer.precision for layer in trained.model.modules() if layer.precision] == ["bf16"]
    assert precisions(trained.config) == {"float32", "bf16"}


@pytest.mark.parametrize("command", [TRAIN, ["info", "--plan", "lenet5"]])
def test_other_names_are_refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--precision", "half"])
    assert "argument --precision: invalid choice: 'half'" in capsys.readouterr().err
