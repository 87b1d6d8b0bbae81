"""Where a measurement was taken: processor, threads and pinning, versions, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import cnn

PACKAGES = ("numpy", "numba", "scipy", "torch", "onnxruntime", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x")

# Vector instructions in the order of their width; the widest that is there is named.
VECTORS = ("avx512f", "avx2", "avx", "sse4.2", "sve2", "sve", "neon")

# What the thread pools of BLAS and OpenMP go by.
THREAD_VARIABLES = ("CNN_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@cache
def processor() -> str:
    """In general words: "2 cores with AVX512F (znver5)"."""
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    features = get_host_cpu_features()
    vectors = next((name.upper() for name in VECTORS if features.get(name)), "no known vectors")
    return f"{len(_processors())} cores with {vectors} ({get_host_cpu_name()})"


def has_avx512() -> bool:
    from llvmlite.binding import get_host_cpu_features

    return bool(get_host_cpu_features().get("avx512f"))


def describe() -> dict[str, str]:
    return {"processor": processor(), "system": platform.system(), "threads": threads()}


def threads() -> str:
    """How many threads each provider may use, and the processors that this process is pinned to."""
    from cnn.kernels.threads import get_num_threads

    found = [f"ours {get_num_threads()}"]
    if "torch" in sys.modules:
        found.append(f"PyTorch {sys.modules['torch'].get_num_threads()}")
    found += [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    numbers = sorted(_processors())
    pinned = len(numbers) < (os.cpu_count() or 1)
    return f"{', '.join(found)}; {'pinned to' if pinned else 'free to run on all'} processors {_ranges(numbers)}"


@cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "numba-cnn": cnn.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """Of the checkout that runs, with "+" where files have changed since; "" for an installed copy."""
    folder = Path(cnn.__file__).parent.parent
    if not (folder / ".git").exists():
        return ""
    try:
        number = _git(folder, "rev-parse", "--short=12", "HEAD")
        return number + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()


def _processors() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _ranges(numbers: list[int]) -> str:
    """ "0-3, 8" for [0, 1, 2, 3, 8]."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
