"""One run of a command: bad input is found first, rows are kept as they come, and then shown, written and compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks import compare, gpu, output, plot
from benchmarks.clock import DISTURBED_NOTE
from benchmarks.errors import BenchmarkError
from benchmarks.recorder import Recorder
from benchmarks.rows import OK, Row, read
from benchmarks.selection import C, select
from benchmarks.tables import Table, show
from benchmarks.telling import tell

WRONG, SLOWER, INTERRUPTED = 1, 3, 130

Measure = Callable[[Recorder], None]
TablesOf = Callable[[Sequence[Row]], list[Table]]


def device_of(parsed: argparse.Namespace) -> str:
    """ "cpu" or "cuda". Raises `BenchmarkError` where a GPU is asked for and cannot be used."""
    if parsed.device == "cuda" and (reason := gpu.missing()) is not None:
        raise BenchmarkError(f"--device cuda: {reason}")
    if parsed.device == "auto":
        return "cpu" if gpu.missing() is not None else "cuda"
    return str(parsed.device)


def selected(parsed: argparse.Namespace, candidates: Sequence[C]) -> list[C]:
    """Those that `--providers`, `--device` and `--compile` ask for. Raises `BenchmarkError`."""
    names = [name.strip() for name in parsed.providers.split(",") if name.strip()]
    found, lines = select(candidates, names, device_of(parsed), parsed.compile)
    for line in lines:
        tell(line)
    return found


def session(parsed: argparse.Namespace, measure: Measure, tables_of: TablesOf) -> int:
    """Measure, and do with the rows what the options say; the exit status. Raises `BenchmarkError` before measuring."""
    old = None if parsed.compare is None else read(parsed.compare)
    picture = getattr(parsed, "plot", None)
    if picture is not None:
        plot.check(picture)
    output.check(parsed.json, parsed.markdown, picture)
    with ExitStack() as stack:
        recorder = Recorder(parsed.command, output.opened(parsed.json, stack))
        interrupted = False
        try:
            measure(recorder)
        except KeyboardInterrupt:
            interrupted = True
            tell(f"interrupted: what follows are the {len(recorder.rows)} rows measured so far")
    rows = recorder.rows
    found = [environment(rows), *tables_of(rows)] if rows else []
    status = WRONG if any(row.status != OK for row in rows) else 0
    if old is not None and rows:
        differences = compare.changes(old, rows)
        found.append(compare.table(differences))
        status = SLOWER if compare.worse(differences) else status
    show(found)
    output.write_markdown(found, parsed.markdown)
    if picture is not None:
        plot.draw(rows, picture)
    return INTERRUPTED if interrupted else status


def environment(rows: Sequence[Row]) -> Table:
    """Where the rows were measured, and of what."""
    last = rows[-1]
    lines = [["device", ", ".join(dict.fromkeys(row.device for row in rows))]]
    lines += [[name, value] for name, value in last.machine.items() if value != last.device]
    lines.append(["versions", ", ".join(f"{name} {version}" for name, version in last.versions.items())])
    lines += [["commit", last.commit]] if last.commit else []
    disturbed = sum(DISTURBED_NOTE in row.note for row in rows)
    if disturbed:
        lines.append(["DISTURBED", f"{disturbed} of {len(rows)} rows: other processes were busy while they were timed"])
    if any(row.device.startswith(gpu.EMULATED) for row in rows):
        lines.insert(0, [gpu.EMULATED, "no time here is a GPU's: CuPy is a stand-in that runs kernels on the CPU"])
    return Table(f"python -m benchmarks {last.command}", ("", ""), lines)
