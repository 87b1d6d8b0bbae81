"""A run folder: where it is, and the settings in it.

RUN/config.json      the settings (`TrainConfig`)
RUN/metrics.jsonl    see `cnn.runs.metrics`
RUN/checkpoints/     see `cnn.runs.checkpoint`
RUN/report.png       see `cnn.runs.report`
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

from cnn.runs.atomic import sync_folder, write_atomically
from cnn.runs.config import ConfigError, TrainConfig

PARENT = Path("runs")


def create_run(out: str | Path | None, config: TrainConfig) -> Path:
    """Make a run folder with its config.json: `out`, or the first of runs/MODEL-1, runs/MODEL-2 ... that is free.

    Raises `ConfigError` if `out` is there and not empty, OSError where it cannot be made.
    """
    folder = _next_free(_short_name(config.model)) if out is None else _claim(Path(out))
    write_atomically(folder / "config.json", (json.dumps(config.to_dict(), indent=2) + "\n").encode())
    sync_folder(folder.parent)
    return folder


def open_run(folder: str | Path) -> TrainConfig:
    """The settings of a run. Raises `ConfigError` if `folder` is no run folder, OSError if it cannot be read."""
    path = Path(folder) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"holds a {type(values).__name__}, not an object")
        return TrainConfig.from_dict(values)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"{folder} is not a run folder: there is no config.json in it") from error
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def checkpoints_of(run: Path) -> Path:
    return run / "checkpoints"


def _claim(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"--out {folder} is not empty; a run that is there goes on with --resume {folder}")
    return folder


def _next_free(name: str) -> Path:
    for number in count(1):
        folder = PARENT / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() does not end")


def _short_name(model: str) -> str:
    """The model's name as a file name: "net" for "some/where.py:net"."""
    return model.rpartition(":")[2]
