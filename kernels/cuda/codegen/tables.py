"""The report as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cnn.kernels.cuda.codegen.launches import Work
from cnn.kernels.cuda.codegen.rows import Row

if TYPE_CHECKING:
    from cnn.kernels.cuda.codegen.estimate import Estimate

KERNEL_COLUMNS = (
    "layer",
    "purpose",
    "kernel",
    "tile",
    "grid",
    "threads",
    "registers",
    "spill bytes",
    "shared bytes",
    "f64",
    "local",
    "shared loads",
    "global loads",
    "occupancy",
    "products",
    "atomics",
)
LEGEND = """\
shared loads, global loads: number x bits of an access, in the PTX. occupancy: share of a multiprocessor's warps, in
theory, and its limit. products: share of FFMA in the instructions of the hottest loop in the machine code, or of HMMA
in its arithmetic. local: accesses of local memory."""
ESTIMATE_HEADING = """\
ESTIMATE for an H100, not a measurement: the least that its units allow for what ptxsim counted, without latency,
occupancy or cache misses. Over the lower bound max(2 N K P Q C R S / 59.3 TFLOP/s, compulsory bytes / 3.35 TB/s).
wavefronts: of shared memory, over the ideal. sectors: of global loads, over the ideal."""


def kernels(rows: Iterable[Row]) -> str:
    parts = [LEGEND]
    for sm, of_target in groupby(rows, key=lambda row: row.sm):
        parts.append(f"\nsm_{sm}\n{_table(KERNEL_COLUMNS, list(map(_cells, of_target)))}")
    return "\n".join(parts)


def step(suite: str, batch: int, works: Sequence[Work]) -> str:
    kinds = Counter("kernels" if work.launch else work.library for work in works)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = [f"\nA training step of {suite}, batch {batch}: {len(works)} launches ({counted})"]
    cells = [[str(number), work.layer, work.purpose, work.name] for number, work in enumerate(works, 1)]
    return "\n".join([*lines, _table(("", "layer", "purpose", "launch"), cells)])


def estimates(found: Iterable[Estimate]) -> str:
    columns = ("layer", "pass", "estimate", "lower bound", "ratio", "bound by", "wavefronts", "sectors")
    cells = [
        [
            e.layer,
            e.purpose,
            f"{e.seconds * 1e6:.1f} us",
            f"{e.lower_bound * 1e6:.1f} us",
            f"{e.ratio:.2f}",
            e.bound_by,
            f"{e.wavefronts:.3f}",
            f"{e.sectors:.2f}",
        ]
        for e in found
    ]
    return f"\n{ESTIMATE_HEADING}\n{_table(columns, cells)}"


def _cells(row: Row) -> list[str]:
    return [
        row.layer,
        row.purpose,
        row.kernel,
        " ".join(map(str, row.tile.values())),
        " ".join(map(str, row.grid)),
        str(row.threads),
        str(row.registers),
        str(row.spill_bytes),
        str(row.shared_bytes),
        str(row.f64_instructions),
        str(row.local_accesses),
        _counted(row.shared_loads),
        _counted(row.global_loads),
        f"{row.occupancy:.0%} {row.occupancy_limit}",
        _products(row),
        _counted(row.atomics or {}),
    ]


def _products(row: Row) -> str:
    if row.hmma_share:
        return f"{row.hmma_share:.0%} HMMA"
    return "" if row.ffma_share is None else f"{row.ffma_share:.0%} FFMA"


def _counted(counts: Mapping[int, int] | Mapping[str, int]) -> str:
    return " ".join(f"{count}x{what}" for what, count in counts.items())


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, ["-" * width for width in widths], *cells]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
