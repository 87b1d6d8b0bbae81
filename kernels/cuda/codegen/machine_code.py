"""What a compiled kernel consists of, read from its PTX and, where nvdisasm is installed, from its machine code (SASS).

PTX tells the widths of memory accesses and the use of doubles: ptxas neither merges loads nor changes types. Machine
code tells what is issued.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from cnn.kernels.cuda.compiler import Binary

_LOAD = re.compile(r"\bld\.(?:\w+\.)*?(shared|global)\.(?:\w+\.)*?(?:v(\d)\.)?[a-z](\d+)\s")
_LOCAL = re.compile(r"\b(?:ld|st)\.(?:\w+\.)*?local\.")
_ATOMIC = re.compile(r"(RED|ATOMS|ATOM)G?\b")  # the G of newer targets names the memory that all mean
_LABEL = re.compile(r"\s*(\.L_[\w.]+):")
_INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"`\((\.L_[\w.]+)\)")


# What is issued and is no arithmetic: memory, moves, control.
_OTHERS = {"LDS", "LDG", "STS", "STG", "LDGSTS", "LDC", "ULDC", "LDCU", "LDGDEPBAR", "DEPBAR", "BAR", "WARPSYNC"}
_OTHERS |= {"MOV", "UMOV", "CS2R", "S2R", "S2UR", "R2UR", "BRA", "BSSY", "BSYNC", "CALL", "NOP", "EXIT", "YIELD"}


@dataclass(frozen=True)
class Code:
    """shared_loads, global_loads: bits of an access -> how many the program has. The rest is None where nothing was
    disassembled: ffma_share: of the hottest loop's instructions. hmma_share: of tensor cores' products, in the
    arithmetic of that loop. atomics: opcode -> how many the program has.
    """

    f64_instructions: int
    local_accesses: int
    shared_loads: Mapping[int, int]
    global_loads: Mapping[int, int]
    ffma_share: float | None = None
    hmma_share: float | None = None
    atomics: Mapping[str, int] | None = None


def read_code(binary: Binary, disassemble: bool = True) -> Code:
    """What `binary`, compiled with its PTX kept, consists of. Disassembled once, and only where there is something to
    see: a product or an atomic. The rest of the time is most of what the disassembler takes to start.
    """
    ptx = binary.path.with_suffix(".ptx").read_text()
    worth = disassemble and nvdisasm() is not None and re.search(r"\b(fma|mma|atom|red)\.", ptx)
    return Code(**read_ptx(ptx), **(_disassembled(binary.path) if worth else {}))


def read_ptx(text: str) -> dict[str, Any]:
    lines = [line.strip() for line in text.splitlines()]
    instructions = [line for line in lines if not line.startswith((".", "//"))]
    loads: dict[str, Counter[int]] = {"shared": Counter(), "global": Counter()}
    for line in instructions:
        for space, vector, bits in _LOAD.findall(line):
            loads[space][int(vector or 1) * int(bits)] += 1
    return {
        "f64_instructions": sum(".f64" in line for line in instructions),
        "local_accesses": sum(bool(_LOCAL.search(line)) for line in instructions),
        "shared_loads": dict(sorted(loads["shared"].items())),
        "global_loads": dict(sorted(loads["global"].items())),
    }


def read_sass(text: str) -> dict[str, Any]:
    code = [row for row in _instructions(text) if row[1] != "NOP"]  # padding
    hottest = _hottest(code)
    atomics = Counter(match.group(1) for _, opcode, _ in code if (match := _ATOMIC.match(opcode)))
    arithmetic = sum(_base(opcode) not in _OTHERS for _, opcode, _ in hottest)
    return {
        "ffma_share": _count(hottest, "FFMA") / max(len(hottest), 1),
        "hmma_share": _count(hottest, "HMMA") / max(arithmetic, 1),
        "atomics": dict(sorted(atomics.items())),
    }


@cache
def nvdisasm() -> Path | None:
    """NVIDIA's disassembler: on the path, or in the wheel `nvidia-cuda-nvdisasm`, which puts it on no path."""
    found = shutil.which("nvdisasm")
    if found:
        return Path(found)
    for folder in sys.path:
        for candidate in sorted(Path(folder).glob("nvidia/*/bin/nvdisasm")) if folder else ():
            if not os.access(candidate, os.X_OK):  # pip leaves that bit out of some wheels' programs
                candidate.chmod(candidate.stat().st_mode | stat.S_IXUSR)
            return candidate
    return None


def _disassembled(cubin: Path) -> dict[str, Any]:
    """What `read_sass` finds, kept in a file beside the cubin."""
    file = cubin.with_suffix(f".{_reader()}.json")
    if file.exists():
        return dict(json.loads(file.read_text()))
    tool = nvdisasm()
    assert tool is not None
    done = subprocess.run([tool, "--print-code", cubin], capture_output=True, text=True, check=True)
    found = read_sass(done.stdout)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(found))
    temporary.replace(file)
    return found


@cache
def _reader() -> str:
    """Of the version of this file that read the machine code."""
    return sha256(Path(__file__).read_bytes()).hexdigest()[:16]


Rows = list[tuple[int, str, int | None]]  # (address, opcode, address that a branch goes to)


def _hottest(code: Rows) -> Rows:
    """The innermost loop with the most products, or the largest; all of a program that has most of them unrolled."""
    loops = [(target, address) for address, _, target in code if target is not None and target < address]
    innermost = [
        [row for row in code if first <= row[0] <= last]
        for first, last in loops
        if not any((first, last) != (a, b) and first <= a and b <= last for a, b in loops)
    ]
    kind = "HMMA" if _count(code, "HMMA") else "FFMA"
    loop = max(innermost, key=lambda rows: (_count(rows, kind), len(rows)), default=[])
    return loop if 2 * _count(loop, kind) >= _count(code, kind) else code


def _count(code: Rows, base: str) -> int:
    return sum(_base(opcode) == base for _, opcode, _ in code)


def _base(opcode: str) -> str:
    return "MOV" if opcode.startswith("IMAD.MOV") else opcode.split(".")[0]


def _instructions(text: str) -> Iterator[tuple[int, str, int | None]]:
    rows, labels, waiting = [], {}, []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            waiting.append(label.group(1))
        elif instruction := _INSTRUCTION.match(line):
            address, opcode = int(instruction.group(1), 16), instruction.group(2)
            labels.update(dict.fromkeys(waiting, address))
            waiting.clear()
            branch = _TARGET.search(instruction.group(3)) if opcode.startswith("BRA") else None
            rows.append((address, opcode, branch.group(1) if branch else None))
    for address, opcode, target in rows:
        yield address, opcode, labels.get(target) if target else None
