"""Files that are there whole or not at all, whatever moment the process or the machine dies at.

The bytes go to a temporary file beside the target and are fsynced before it is renamed: so the new name never
stands for bytes that are still on their way to the disk. The folder is fsynced after it, so that the rename itself
lasts. What a killed process leaves behind is a temporary file, which `remove_temporaries` knows by its name.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` into `path`; a file of that name is replaced. One process at a time.

    Raises OSError, and leaves what was there before.
    """
    temporary = path.with_name(path.name + SUFFIX)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Delete what writes that were cut short have left in `folder`."""
    for orphan in folder.glob("*" + SUFFIX):
        orphan.unlink(missing_ok=True)
