"""The compiler and its cache on disk: what makes a new entry, and what is never loaded."""

from __future__ import annotations

import gc
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.kernels import BackendError

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from numba.cuda.core import ir

from cnn.kernels.cuda import compile_time, compiler
from cnn.kernels.cuda.activation import plan
from cnn.kernels.cuda.compiler import Binary, Kernel, compile_kernel, cuda, device, float32, pointer, uint32

PARAMETERS = (pointer(float32), uint32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache, which is made when something is written."""
    folder = tmp_path / "not" / "there" / "yet"
    monkeypatch.setenv("CNN_CUDA_CACHE", str(folder))
    monkeypatch.delenv("CNN_CUDA_KEEP_PTX")
    return folder


def add(constant: Any, **options: Any) -> Kernel:
    def py_func(x: Any, size: Any) -> None:
        i = uint32(cuda.threadIdx.x)
        if i < size:
            x[i] += float32(constant)

    return Kernel("add", py_func, PARAMETERS, **{"threads": 32, **options})


def add_by(function: Callable[..., Any], name: str = "add_by") -> Kernel:
    def py_func(x: Any, size: Any) -> None:
        i = uint32(cuda.threadIdx.x)
        if i < size:
            x[i] = function(x[i])

    return Kernel(name, py_func, PARAMETERS, 32)


def more(constant: Any) -> Any:
    @device
    def function(value: Any) -> Any:
        return value + float32(constant)

    return function


def path(kernel: Kernel, sm: int = 90) -> Path:
    return compile_kernel(kernel, sm).path


def test_a_binary(cache: Path) -> None:
    binary = compile_kernel(add(1), 90)
    assert binary.sm == 90
    assert binary.path.parent == cache
    assert binary.path.read_bytes()[:4] == b"\x7fELF"
    assert binary.entry.encode() in binary.path.read_bytes()
    assert 0 < binary.registers < 32
    assert binary.spill_bytes == binary.stack_bytes == binary.shared_bytes == 0
    assert sorted(file.suffix for file in cache.iterdir()) == [".cubin", ".json"]


def test_the_second_time_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_kernel(add(1), 90)
    monkeypatch.setattr(compiler.cuda, "compile", None)
    assert compile_kernel(add(1), 90) == first
    with pytest.raises(BackendError):
        compile_kernel(add(2), 90)


def test_what_decides_the_code_decides_the_entry() -> None:
    kernels = {
        "a kernel": add(1),
        "a constant": add(2),
        "its type": add(1.0),
        "a NumPy constant": add(np.float32(1)),
        "threads": add(1, threads=64),
        "room for blocks": add(1, min_blocks=2),
        "parameters": Kernel("add", add(1).py_func, (pointer(float32), float32), 32),
        "name": Kernel("other", add(1).py_func, PARAMETERS, 32),
        "another function": add_by(more(1)),
        "a constant in a device function": add_by(more(2)),
    }
    paths = {path(kernel) for kernel in kernels.values()} | {path(add(1), 80)}
    assert len(paths) == len(kernels) + 1
    assert path(add(1)) in paths


def test_what_a_launch_alone_decides_makes_no_new_entry() -> None:
    assert path(add(1)) == path(add(1, tile={"rows": 8}, shared_bytes=4096))


def test_new_sources_make_new_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = path(add(1))
    monkeypatch.setattr(compiler, "_sources", lambda: "another digest")
    assert path(add(1)) != before


def test_every_source_of_the_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = compiler._sources.__wrapped__
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    monkeypatch.setattr(compiler, "__file__", str(tmp_path / "a.py"))
    before = digest()
    (tmp_path / "b.py").write_text("3")
    assert digest() != before


def test_new_versions_make_new_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    before = path(add(1))
    monkeypatch.setattr(compiler, "_versions", lambda: ("another compiler",))
    assert path(add(1)) != before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def other_facts(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "sha256": "0" * 64}))


def fewer_facts(file: Path) -> None:
    facts = json.loads(file.read_text())
    del facts["registers"]
    file.write_text(json.dumps(facts))


def entry(binary: Binary) -> Path:
    """The file that the compiler looks for."""
    return binary.path.with_name(f"{binary.path.stem.rpartition('-')[0]}.json")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((lambda binary: binary.path, damage) for damage in (cut, flip, remove, empty)),
        *((entry, damage) for damage in (cut, remove, empty, other_facts, fewer_facts)),
    ],
)
def test_a_damaged_entry_is_built_anew(file: Callable[[Binary], Path], damage: Callable[[Path], None]) -> None:
    damage(file(compile_kernel(add(1), 90)))
    anew = compile_kernel(add(1), 90)
    facts = json.loads(entry(anew).read_text())
    assert hashlib.sha256(anew.path.read_bytes()).hexdigest() == facts["sha256"]
    assert anew.entry.encode() in anew.path.read_bytes()
    assert compile_kernel(add(1), 90) == anew


def test_no_cubin_replaces_another_that_was_given_out(cache: Path) -> None:
    # The name of the entry point differs each time Numba compiles: what was given out must keep its own.
    first = compile_kernel(add(1), 90)
    entry(first).unlink()
    second = compile_kernel(add(1), 90)
    for binary in (first, second):
        assert binary.entry.encode() in binary.path.read_bytes()


def test_ptx_is_kept_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    without = compile_kernel(add(1), 90)
    assert not without.path.with_suffix(".ptx").exists()
    monkeypatch.setenv("CNN_CUDA_KEEP_PTX", "1")
    kept = compile_kernel(add(1), 90)  # an entry without it is not enough now
    ptx = kept.path.with_suffix(".ptx").read_text()
    assert f".entry {kept.entry}(" in ptx
    assert ".target sm_90" in ptx
    assert not ptx.endswith("\0")
    monkeypatch.delenv("CNN_CUDA_KEEP_PTX")
    assert compile_kernel(add(1), 90) == kept


def test_two_processes_at_once(cache: Path) -> None:
    # In another order, so that the two give their entry points different names.
    script = """
import sys
from cnn.kernels.cuda.activation import plan
from cnn.kernels.cuda.compiler import compile_kernel
for operation in sys.argv[1:]:
    binary = compile_kernel(plan(operation, 100).kernel, 90)
    assert binary.entry.encode() in binary.path.read_bytes()
"""
    operations = ["relu_forward", "tanh_backward"]
    commands = [[sys.executable, "-c", script, *names] for names in (operations, operations[::-1])]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    # Two whole entries, and nothing that was written aside.
    assert {file.suffix for file in cache.iterdir()} == {".cubin", ".json"}
    assert len(list(cache.glob("*.json"))) == 2
    for operation in operations:
        binary = compile_kernel(plan(operation, 100).kernel, 90)
        assert hashlib.sha256(binary.path.read_bytes()).hexdigest() == json.loads(entry(binary).read_text())["sha256"]


@pytest.mark.parametrize("constant", [[1], {"a": 1}, np.ones(2), object()])
def test_a_constant_that_no_key_can_hold(constant: Any, cache: Path) -> None:
    for kernel in (add(constant), add_by(more(constant), "add")):
        with pytest.raises(BackendError, match="add: the constant constant has a type that no key can hold"):
            compile_kernel(kernel, 90)
    assert not cache.exists()


def test_a_kernel_that_does_not_compile(cache: Path) -> None:
    def py_func(x: Any, size: Any) -> None:
        x[0] = len(x)

    with pytest.raises(BackendError, match="wrong: Numba cannot compile the kernel for sm_90"):
        compile_kernel(Kernel("wrong", py_func, PARAMETERS, 32), 90)
    assert not cache.exists()


def test_a_target_that_there_is_not() -> None:
    with pytest.raises(BackendError, match=r"add: .* for sm_10"):
        compile_kernel(add(1), 10)


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNN_CUDA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiler.cache_folder() == tmp_path / "numba-cnn" / "cuda"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compiler.cache_folder() == tmp_path / "home" / ".cache" / "numba-cnn" / "cuda"


def test_what_shortens_compiling_changes_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    # A kernel with device functions in device functions, whose bodies are copied.
    kernel = add_by(nested(more(2)))
    assert not hasattr(ir.Scope, "__deepcopy__")
    short = ptx(kernel)
    assert not hasattr(ir.Scope, "__deepcopy__")
    assert gc.isenabled()
    monkeypatch.setattr(compile_time, "shortened", nullcontext)
    assert ptx(kernel) == short


def ptx(kernel: Kernel) -> str:
    """Without the kernel's name, in which Numba counts."""
    text = compiler._link(kernel.name, compiler._intermediate.__wrapped__(kernel, 75), 75, "-ptx")[0].decode()
    entry = re.search(r"\.entry (\w+)", text)
    assert entry is not None
    return text.replace(entry.group(1), "entry")


def nested(function: Callable[..., Any]) -> Any:
    @device
    def twice(value: Any) -> Any:
        if value > float32(0):
            return function(function(value))
        return value

    return twice
