"""From a Python function to a cubin: Numba to LTO-IR, nvJitLink to machine code, for any target, without a GPU.

The only module that imports Numba's CUDA target. A compiled kernel is kept on disk under a key of everything that
decides its code: the sources of this package, the constants in the kernel's closure, signature, options, target and
versions. An entry is `KEY.json`, what the assembler said of the cubin, and `KEY-DIGEST.cubin`, named after the SHA-256
of what is in it: an entry that does not match is built anew, never loaded. Numba counts the functions that a process
compiles into a kernel's name, so that two processes make two cubins of one kernel; neither replaces the other's, and
files are written aside and renamed. With `CNN_CUDA_KEEP_PTX=1` the linked PTX is kept beside the cubin.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cnn.kernels.errors import BackendError

try:
    import numba_cuda  # noqa: F401 - without it `numba.cuda` may be the older one that comes with Numba
    from numba import cuda, float32, int32, types, uint32
except ImportError as error:  # pragma: no cover - the message is what there is to it
    raise BackendError(
        "the cuda backend needs numba-cuda and CuPy: pip install 'numba-cnn[cu13]' (or [cu12] for CUDA 12)"
    ) from error

__all__ = [
    "ALIGNMENT",
    "SIMULATED",
    "TARGETS",
    "Binary",
    "Kernel",
    "compile_kernel",
    "cuda",
    "device",
    "float32",
    "int32",
    "pointer",
    "types",
    "uint32",
]

# Set by NUMBA_ENABLE_CUDASIM=1 before Numba is imported: kernels then run as Python, on NumPy arrays.
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"

# Compute capabilities that the code-generation report and its tests compile for.
TARGETS = (75, 80, 86, 89, 90, 100, 120)

# LTO-IR is written in two dialects. That of the first target with a dialect serves all with it: what nvJitLink makes of
# it is the same, instruction for instruction, and Numba's part is three quarters of the time that compiling takes.
DIALECTS = (75, 100)

# Bytes, of shared arrays that 128-bit loads read. The simulator's arrays are aligned and take no such argument.
ALIGNMENT = None if SIMULATED else 16

# Of a function that kernels call: its body is put in their place, so that no call and no GPU is needed to compile it.
device: Callable[[Callable[..., Any]], Any] = cuda.jit(device=True, inline="always")


def pointer(dtype: Any) -> Any:
    """The type of a kernel parameter that is an array's address: one register, where an array type takes thirteen."""
    return types.CPointer(dtype)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel, specialised: what there is to compile and how it is launched.

    name: of the operation, for reports. py_func: the kernel as Python, its constants in its closure. parameters: Numba
    types, in order (see `pointer`). threads: the most a block may have. tile: the constants that tune, by name.
    shared_bytes: of dynamic shared memory. min_blocks: blocks that a multiprocessor must have room for, which bounds
    the registers. body: what `side_by_side` made it of, and `words`, of 4 bytes, of shared memory that it works in.
    """

    name: str
    py_func: Callable[..., None]
    parameters: tuple[Any, ...]
    threads: int
    tile: Mapping[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    min_blocks: int = 1
    body: Any = None
    words: int = 0

    @cached_property
    def takes(self) -> tuple[tuple[bool, np.dtype[Any]], ...]:
        """Of each parameter: whether it is an address, and the dtype of what lies there, or of the number."""
        return tuple(
            (True, np.dtype(each.dtype.name)) if isinstance(each, types.CPointer) else (False, np.dtype(each.name))
            for each in self.parameters
        )

    @property
    def signature(self) -> Any:
        code = self.py_func.__code__
        if not code.co_flags & inspect.CO_VARARGS:
            return types.void(*self.parameters)
        # Numba's type for what *arguments take; in the machine code each is a parameter of its own.
        named, rest = self.parameters[: code.co_argcount], self.parameters[code.co_argcount :]
        return types.void(*named, types.StarArgTuple(rest))


@dataclass(frozen=True)
class Binary:
    """A compiled kernel: its cubin's path, the entry's name, and what the assembler reported."""

    path: Path
    entry: str
    sm: int
    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int  # static


def compile_kernel(kernel: Kernel, sm: int) -> Binary:
    """The binary of `kernel` for compute capability `sm` (90 is 9.0), from the cache or made now.

    Raises `BackendError` where Numba or nvJitLink refuses the kernel, with what they said.
    """
    keep_ptx = os.environ.get("CNN_CUDA_KEEP_PTX", "0") == "1"
    entry = cache_folder() / f"{_key(kernel, sm)}.json"
    binary = _read(entry, keep_ptx)
    return binary if binary is not None else _build(kernel, sm, entry, keep_ptx)


def cache_folder() -> Path:
    """`CNN_CUDA_CACHE`, else numba-cnn/cuda in the user's cache folder."""
    chosen = os.environ.get("CNN_CUDA_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "numba-cnn" / "cuda"


def _build(kernel: Kernel, sm: int, entry: Path, keep_ptx: bool) -> Binary:
    try:
        ir = _intermediate(kernel, max(dialect for dialect in DIALECTS if dialect <= sm))
    except Exception as error:
        raise BackendError(f"{kernel.name}: Numba cannot compile the kernel for sm_{sm}: {error}") from error
    cubin, log = _link(kernel.name, ir, sm)
    facts = {**_facts(kernel.name, log), "sm": sm, "sha256": hashlib.sha256(cubin).hexdigest()}
    binary = _binary(entry, facts)
    entry.parent.mkdir(parents=True, exist_ok=True)
    if keep_ptx:
        _write(binary.path.with_suffix(".ptx"), _link(kernel.name, ir, sm, "-ptx")[0])
    _write(binary.path, cubin)
    _write(entry, json.dumps(facts).encode())
    return binary


@lru_cache(maxsize=64)  # for the next targets of a report, or of a test
def _intermediate(kernel: Kernel, dialect: int) -> bytes:
    """LTO-IR of `kernel`."""
    from cnn.kernels.cuda.compile_time import shortened  # of no use to the simulator, which lacks what it changes

    with shortened():
        ir, _ = cuda.compile(
            kernel.py_func,
            kernel.signature,
            device=False,
            abi="numba",
            cc=divmod(dialect, 10),
            output="ltoir",
            launch_bounds=(kernel.threads, kernel.min_blocks),
        )
    return bytes(ir)


def _link(name: str, ir: bytes, sm: int, *options: str) -> tuple[bytes, str]:
    """Machine code (PTX with the option -ptx) of LTO-IR, and the assembler's report."""
    from cuda.bindings import nvjitlink

    # Beside a driver nvJitLink keeps results of its own, and what it takes from there comes without a report.
    arguments = [f"-arch=sm_{sm}", "-lto", "-O3", "-verbose", "-no-cache", *options]
    handle = nvjitlink.create(len(arguments), arguments)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, ir, len(ir), name)
        nvjitlink.complete(handle)
        form = "ptx" if "-ptx" in options else "cubin"
        code = bytearray(getattr(nvjitlink, f"get_linked_{form}_size")(handle))
        getattr(nvjitlink, f"get_linked_{form}")(handle, code)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    except nvjitlink.nvJitLinkError as error:
        raise BackendError(f"{name}: nvJitLink cannot make code for sm_{sm}: {error}") from error
    finally:
        nvjitlink.destroy(handle)
    return bytes(code).rstrip(b"\0") if form == "ptx" else bytes(code), log.decode(errors="replace")


def _facts(name: str, log: str) -> dict[str, Any]:
    """What ptxas says of the one entry in `log`."""
    entry = re.search(r"Compiling entry function '(\S+)'", log)
    registers = re.search(r"Used (\d+) registers", log)
    frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    if not (entry and registers and frame):
        raise BackendError(f"{name}: nvJitLink's report has an unknown form: {log!r}")
    shared = re.search(r"(\d+) bytes smem", log)
    return {
        "entry": entry.group(1),
        "registers": int(registers.group(1)),
        "stack_bytes": int(frame.group(1)),
        "spill_bytes": int(frame.group(2)) + int(frame.group(3)),
        "shared_bytes": int(shared.group(1)) if shared else 0,
    }


def _read(entry: Path, keep_ptx: bool) -> Binary | None:
    """The cached binary, or None where there is none that can be trusted."""
    try:
        facts = json.loads(entry.read_text())
        binary = _binary(entry, facts)
        whole = hashlib.sha256(binary.path.read_bytes()).hexdigest() == facts["sha256"]
        return binary if whole and (binary.path.with_suffix(".ptx").exists() or not keep_ptx) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _binary(entry: Path, facts: Mapping[str, Any]) -> Binary:
    path = entry.with_name(f"{entry.stem}-{facts['sha256'][:16]}.cubin")
    return Binary(path, **{name: facts[name] for name in Binary.__dataclass_fields__ if name != "path"})


def _write(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _key(kernel: Kernel, sm: int) -> str:
    parts = [
        _sources(),
        *_versions(),
        kernel.py_func.__module__,
        kernel.py_func.__qualname__,
        *_constants(kernel.name, kernel.py_func),
        str(kernel.signature),
        str((kernel.threads, kernel.min_blocks, sm)),
    ]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return f"{kernel.name}-sm{sm}-{digest[:32]}"


@cache
def _sources() -> str:
    """One digest of all sources of this package: a kernel may call any function in it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _versions() -> tuple[str, ...]:
    from cuda.bindings import nvjitlink

    return (*map(version, ("numba", "numba-cuda", "llvmlite")), str(nvjitlink.version()))


def _constants(name: str, function: Callable[..., Any]) -> list[str]:
    """The values in a function's closure, those of functions in it included."""
    parts = []
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        value = cell.cell_contents
        inner = getattr(value, "py_func", getattr(value, "_defn", value))  # of a device function, of an intrinsic
        if callable(inner) and hasattr(inner, "__code__"):
            parts += [variable, inner.__module__, inner.__qualname__, *_constants(name, inner)]
        elif isinstance(value, bool | int | float | str | tuple | np.generic | None):
            parts.append(f"{variable}={value!r}")
        else:
            raise BackendError(f"{name}: the constant {variable} has a type that no key can hold: {type(value)}")
    return parts
