"""Checkpoints: all that a run needs to go on, in one safetensors file for each.

    RUN/checkpoints/step-00000400.safetensors
        header, `__metadata__`:  format   which layout this is
                                 state    JSON: everything that is not an array
                                 sha256   of `state` and of every array's name, dtype, shape and bytes
        data:                    the arrays

The JSON lies in the header, because two files need two renames, and between those a crash can leave the arrays of one
step beside the JSON of another. One file has one rename (see `cnn.runs.atomic`). The digest finds what a rename
cannot prevent: a disk that lost or changed bytes. Any program that reads safetensors reads the arrays.

The two newest are kept: while one is written, and should it turn out damaged, there is the one before.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnn.runs.atomic import remove_temporaries, sync_folder, write_atomically

FORMAT = "numba-cnn checkpoint 1"
KEPT = 2
_NAME = re.compile(r"step-\d{8}\.safetensors")


class DamagedCheckpoint(ValueError):
    """A file that is not what `write_checkpoint` wrote."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The arrays (read-only) and the JSON-able rest of the state after `step` steps."""

    step: int
    arrays: dict[str, NDArray[Any]]
    state: dict[str, Any]


def write_checkpoint(folder: Path, step: int, arrays: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> Path:
    """Write the state after `step` steps into `folder`, which is there, drop all but the newest two, return the path.

    state: JSON-able, all numbers finite (ValueError). Raises OSError where the disk fails or is full; the checkpoints
    that were there before are then still there.
    """
    from safetensors.numpy import save

    text = json.dumps({"step": step, **state}, allow_nan=False)
    # safetensors takes the memory as it lies; ascontiguousarray would turn shape () into (1,).
    plain = {name: np.array(array, order="C") for name, array in arrays.items()}
    metadata = {"format": FORMAT, "state": text, "sha256": _digest(text, plain)}
    path = folder / _name(step)
    write_atomically(path, save(plain, metadata))
    for old in list_checkpoints(folder)[KEPT:]:
        old.unlink()
    return path


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one file. Raises `DamagedCheckpoint` (a ValueError) with the path, or OSError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = path.read_bytes()
    try:
        arrays = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedCheckpoint(f"{path}: not a readable checkpoint: {error}") from error
    metadata = header.get("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise DamagedCheckpoint(f"{path}: its format is {metadata.get('format')!r}, wanted is {FORMAT!r}")
    text, digest = metadata.get("state", ""), metadata.get("sha256")
    if _digest(text, arrays) != digest:
        raise DamagedCheckpoint(f"{path}: its content does not have the SHA-256 {digest} that stands in it")
    state = json.loads(text)
    return Checkpoint(state.pop("step"), arrays, state)


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def read_newest(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None where there is none at all.

    `warn` is told of each damaged one that is passed over. Raises `DamagedCheckpoint` if all are damaged.
    """
    paths = list_checkpoints(folder)
    problems = []
    for path in paths:
        try:
            checkpoint = read_checkpoint(path)
        except DamagedCheckpoint as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warn(f"{problem}; going back to step {checkpoint.step}")
        return checkpoint
    if problems:
        raise DamagedCheckpoint(f"no checkpoint can be read: {'; '.join(problems)}")
    return None


def clear_leftovers(folder: Path, step: int) -> None:
    """Before a run goes on from `step`: delete temporary files, and checkpoints beyond it, which are damaged ones."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    for path in list_checkpoints(folder):
        if path.name > _name(step):
            path.unlink()
    sync_folder(folder)


def _name(step: int) -> str:
    # Eight digits, so that names sort as steps do: no run here has a hundred million of them.
    return f"step-{step:08d}.safetensors"


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
