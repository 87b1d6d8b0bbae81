"""This run against an earlier one, row by row: faster, slower, or the same within the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.conv_table import median, overlap
from benchmarks.errors import BenchmarkError
from benchmarks.numbers import amount, time
from benchmarks.rows import OK, Row
from benchmarks.tables import Table

FASTER, SLOWER, SAME, BROKEN = "faster", "slower", "same", "no longer right"

# Two runs of one program on a machine that is not its own differ by this much with no reason.
NOISE = 0.05


@dataclass(frozen=True)
class Change:
    """verdict: of now against before."""

    before: Row
    now: Row
    verdict: str


def changes(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """Of every row that both runs have. Raises `BenchmarkError` where there is none."""
    before = {row.key: row for row in old if row.status == OK}
    found = [Change(before[row.key], row, _verdict(before[row.key], row)) for row in new if row.key in before]
    if not found:
        machines = sorted({row.device for row in old})
        raise BenchmarkError(
            "nothing to compare: the earlier run has none of these layers, passes and providers on this machine; it "
            f"was taken on {', '.join(machines)}"
        )
    return found


def table(found: Sequence[Change]) -> Table:
    order = (BROKEN, SLOWER, FASTER, SAME)
    counted = ", ".join(f"{sum(change.verdict == verdict for change in found)} {verdict}" for verdict in order)
    lines = [
        [change.now.layer, change.now.purpose, change.now.provider, *_figures(change), change.verdict]
        for change in sorted(found, key=lambda change: order.index(change.verdict))
    ]
    note = f"same: less than {NOISE:.0%} apart, or the ranges from the 20th to the 80th percentile overlap"
    columns = ("layer", "what", "provider", "before", "now", "now / before", "")
    return Table(f"Against the earlier run: {counted}", columns, lines, (note,))


def worse(found: Sequence[Change]) -> bool:
    return any(change.verdict in (SLOWER, BROKEN) for change in found)


def _verdict(before: Row, now: Row) -> str:
    if now.status != OK:
        return BROKEN
    ratio = median(now) / median(before)
    if overlap(before, now) or 1 / (1 + NOISE) <= ratio <= 1 + NOISE:
        return SAME
    return SLOWER if ratio > 1 else FASTER


def _figures(change: Change) -> list[str]:
    if change.verdict == BROKEN:
        return [_figure(change.before), change.now.status, "-"]
    return [_figure(change.before), _figure(change.now), f"{median(change.now) / median(change.before):.2f}"]


def _figure(row: Row) -> str:
    return time(median(row)) if row.unit == "s" else amount(median(row))
