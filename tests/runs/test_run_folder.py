"""Run folders: where they are made, and what is one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnn.runs.config import ConfigError, TrainConfig
from cnn.runs.folder import create_run, open_run

CONFIG = TrainConfig(model="some/where.py:net", augment=("flip",), limit=3)


def test_the_first_free_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [str(create_run(None, CONFIG)) for _ in range(2)] == ["runs/net-1", "runs/net-2"]
    assert str(create_run(None, TrainConfig())) == "runs/lenet5-1"


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_by_name(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "a" / "b"
    if there:
        out.mkdir(parents=True)
    assert create_run(out, CONFIG) == out
    assert open_run(out) == CONFIG


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"--out .* is not empty; .* --resume"):
        create_run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(ConfigError, match=f"{path} is not a run folder: there is no config.json in it"):
            open_run(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json: Expecting"),
        ("[]", "config.json: holds a list, not an object"),
        (json.dumps({"epochs": 0}), "config.json: --epochs must be"),
        ('{"model": "\xff', "config.json: "),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        open_run(tmp_path)
