"""Which device a run computes on."""

from __future__ import annotations

from cnn.info import gpu_status
from cnn.runs.config import ConfigError


def choose_device(wanted: str) -> str:
    """ "cpu" or "cuda" for a setting of "auto", "cpu" or "cuda".

    "auto" takes the GPU if it can be used. Raises `ConfigError` that says why not for "cuda" where it cannot.
    """
    if wanted == "cpu":
        return "cpu"
    usable, text = gpu_status()
    if usable:
        return "cuda"
    if wanted == "cuda":
        raise ConfigError(f"--device cuda: {text}")
    return "cpu"
