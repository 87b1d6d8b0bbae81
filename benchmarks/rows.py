"""One measurement, one row; a file of rows has one JSON object a line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError

# Goes up when a field changes its name or meaning.
SCHEMA = 1

OK, WRONG, FAILED = "ok", "wrong", "failed"


@dataclass(frozen=True)
class Row:
    """command: that measured it. layer, shape, purpose: what was computed. provider, device, precision: by whom.

    status: "ok"; "wrong", where the result was not that of the reference; "failed", where there was none. Neither of
    the two has statistics, and note says why. unit: of median, p20, p80 (20th and 80th percentile) and first (the first
    call, with all compilation): "s", or "B" for memory. images, flops, bytes: of one run. condition: "", or the state
    of a GPU's L2 cache. machine, versions, commit: where and of what.
    """

    command: str
    layer: str
    shape: str
    purpose: str
    provider: str
    device: str
    precision: str = "float32"
    condition: str = ""
    status: str = OK
    note: str = ""
    unit: str = "s"
    median: float | None = None
    p20: float | None = None
    p80: float | None = None
    runs: int = 0
    first: float | None = None
    images: int = 0
    flops: int = 0
    bytes: int = 0
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    schema: int = SCHEMA

    @property
    def key(self) -> tuple[str, ...]:
        """What two rows share that measure the same."""
        return (
            self.command,
            self.layer,
            self.shape,
            self.purpose,
            self.provider,
            self.device,
            self.precision,
            self.condition,
            self.unit,
        )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def read(path: str) -> list[Row]:
    """The rows of a file that `--json` wrote. Raises `BenchmarkError` for anything else."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"cannot read {path}: {error}") from error
    found = [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise BenchmarkError(f"{path} has no rows: expected a file that --json wrote")
    return found


def _row(path: str, number: int, line: str) -> Row:
    try:
        values: Any = json.loads(line)
    except ValueError as error:
        raise BenchmarkError(
            f"{path}, line {number}, is not JSON, expected a file that --json wrote: {error}"
        ) from error
    if not isinstance(values, dict) or "schema" not in values:
        raise BenchmarkError(f"{path}, line {number}, is not a row: expected a file that --json wrote")
    if values["schema"] != SCHEMA:
        raise BenchmarkError(
            f"{path}, line {number}, is a row of version {values['schema']}, this is version {SCHEMA}: measure it "
            "anew, or compare with the release that wrote it"
        )
    names = {known.name for known in dataclasses.fields(Row)}
    if set(values) != names:
        odd = sorted(set(values) ^ names)
        raise BenchmarkError(
            f"{path}, line {number}, is no row of version {SCHEMA}: {', '.join(odd)} missing or unknown"
        )
    return Row(**values)
