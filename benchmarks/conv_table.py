"""The tables of `conv`, from its rows alone: what others do faster comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clock import DISTURBED_NOTE
from benchmarks.limits import LAYER, Limits
from benchmarks.numbers import digits, geometric_mean, time
from benchmarks.rows import OK, Row
from benchmarks.tables import Table

# What each device's table is about; further ways of ours are no peers.
SUBJECTS = ("ours", "ours-cuda")
NOT_PEERS = ("ours", "reference")

COLUMNS = (
    "layer",
    "pass",
    "ours",
    "20-80 %",
    "runs",
    "GFLOP/s",
    "images/s",
    "GB/s",
    "of limit",
    "PyTorch",
    "PyTorch / ours",
    "fastest other",
    "other / ours",
)

LEGEND = (
    "PyTorch: the faster of its layouts in float32. other / ours: below 1, the other one is faster; ~: the ranges from "
    "the 20th to the 80th percentile overlap; !: other processes kept the machine busy meanwhile, so it says little.",
    "of limit: of what the fastest matrix product and copy of this machine, measured in the same run, allow for the "
    "operations and compulsory bytes. GFLOP/s: of 2 N K P Q C R S operations.",
)


@dataclass(frozen=True)
class Duel:
    """All that is known of one layer, pass and state of the cache. others: peers that are right, fastest first."""

    layer: str
    purpose: str
    condition: str
    ours: Row | None
    others: Sequence[Row]

    @property
    def torch(self) -> Row | None:
        """Layouts of the same precision compete; what is compiled is a case of its own."""
        plain = (row for row in self.others if row.provider.startswith("torch") and "compile" not in row.provider)
        return next((row for row in plain if row.precision == "float32"), None)

    def ratio(self, other: Row) -> float:
        """Above 1: ours is faster."""
        assert self.ours is not None
        return median(other) / median(self.ours)


def duels(rows: Sequence[Row]) -> list[Duel]:
    """In the order of the rows."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.layer != LAYER:
            groups.setdefault((row.layer, row.purpose, row.condition), []).append(row)
    found = []
    for (layer, purpose, condition), group in groups.items():
        right = sorted((row for row in group if row.status == OK), key=median)
        if right:
            ours = next((row for row in right if row.provider in SUBJECTS), None)
            others = [row for row in right if not row.provider.startswith(NOT_PEERS)]
            found.append(Duel(layer, purpose, condition, ours, others))
    return found


def tables(rows: Sequence[Row], about: Sequence[tuple[str, str]]) -> list[Table]:
    """about: name and description of each provider, in the order of the columns."""
    wrong = [row for row in rows if row.status != OK]
    all_duels = duels(rows)
    met = [duel for duel in all_duels if duel.ours is not None and duel.others]
    behind = sorted(
        (duel for duel in met if duel.ratio(duel.others[0]) < 1), key=lambda duel: duel.ratio(duel.others[0])
    )
    ahead = [duel for duel in met if duel.ratio(duel.others[0]) >= 1]
    alone = [duel for duel in all_duels if duel.ours is not None and not duel.others]
    found = []
    if wrong:
        lines = [[row.layer, row.purpose, row.provider, row.status, row.note] for row in wrong]
        found.append(
            Table(f"WRONG OR FAILED, and not timed: {len(wrong)}", (*COLUMNS[:2], "provider", "", "why"), lines)
        )
    for heading, group in (
        (f"ANOTHER ONE IS FASTER: {len(behind)} of {len(met)}", behind),
        (f"Ours is as fast as all others, or faster: {len(ahead)} of {len(met)}", ahead),
        (f"With nobody to compare to: {len(alone)}", alone),
    ):
        if group:
            found.append(Table(heading, COLUMNS, [_line(duel, rows) for duel in group]))
    found.append(_all_times(rows, all_duels, [name for name, _ in about]))
    found.append(_providers(rows, all_duels, about))
    noted = [row for row in rows if row.status == OK and row.note]
    if noted:
        lines = [
            [row.layer, f"{row.purpose} {row.condition}", row.provider, time(median(row)), row.note] for row in noted
        ]
        found.append(Table("Cross-checks and disturbances", (*COLUMNS[:2], "provider", "median", "note"), lines))
    return found


def median(row: Row) -> float:
    assert row.median is not None, "a row that is ok has statistics"
    return row.median


def _line(duel: Duel, rows: Sequence[Row]) -> list[str]:
    ours = duel.ours
    assert ours is not None
    seconds = median(ours)
    limit = Limits.of(rows, ours.device)
    cells = [duel.layer, _purpose(duel), time(seconds), _range(ours), str(ours.runs)]
    cells += [digits(ours.flops / seconds / 1e9), digits(ours.images / seconds), digits(ours.bytes / seconds / 1e9)]
    cells.append("" if limit is None else f"{limit.seconds(ours.flops, ours.bytes) / seconds:.0%}")
    torch = duel.torch
    cells += ["", ""] if torch is None else [time(median(torch)), _ratio(duel, torch)]
    if not duel.others:
        return [*cells, "", ""]
    fastest = duel.others[0]
    precision = "" if fastest.precision == "float32" else f" ({fastest.precision})"
    return [*cells, f"{fastest.provider}{precision} {time(median(fastest))}", _ratio(duel, fastest)]


def _all_times(rows: Sequence[Row], found: Sequence[Duel], names: Sequence[str]) -> Table:
    times = {(row.layer, row.purpose, row.condition, row.provider): row for row in rows if row.status == OK}
    failed = {(row.layer, row.purpose, row.provider): row.status for row in rows if row.status != OK}

    def cell(duel: Duel, name: str) -> str:
        row = times.get((duel.layer, duel.purpose, duel.condition, name))
        return failed.get((duel.layer, duel.purpose, name), "-") if row is None else time(median(row))

    lines = [[duel.layer, _purpose(duel), *(cell(duel, name) for name in names)] for duel in found]
    return Table("Medians of all providers; -: it does not compute this", ("layer", "pass", *names), lines)


def _providers(rows: Sequence[Row], found: Sequence[Duel], about: Sequence[tuple[str, str]]) -> Table:
    purposes = list(dict.fromkeys(duel.purpose for duel in found))
    lines = []
    for name, text in about:
        right = [row for row in rows if row.provider == name and row.status == OK]
        firsts = sorted(row.first for row in right if row.first is not None)
        cells = [name, text, *((time(firsts[len(firsts) // 2]), time(firsts[-1])) if firsts else ("-", "-"))]
        for wanted in (*([purpose] for purpose in purposes), purposes):
            ratios = [
                duel.ratio(row)
                for duel in found
                if duel.ours is not None and duel.purpose in wanted
                for row in right
                if (row.layer, row.purpose, row.condition) == (duel.layer, duel.purpose, duel.condition)
            ]
            cells.append(f"{geometric_mean(ratios):.2f} ({len(ratios)})" if ratios else "-")
        lines.append(cells)
    means = (*(f"{purpose}: time / ours" for purpose in purposes), "all passes")
    columns = ("provider", "what is called", "first call", "longest", *means)
    heading = "Providers. First calls, with compilation; geometric means of time over ours (of how many)"
    return Table(heading, columns, lines, LEGEND)


def _ratio(duel: Duel, other: Row) -> str:
    assert duel.ours is not None
    disturbed = DISTURBED_NOTE in duel.ours.note + other.note
    return f"{duel.ratio(other):.2f}{'~' if overlap(duel.ours, other) else ''}{'!' if disturbed else ''}"


def overlap(a: Row, b: Row) -> bool:
    """Whether the ranges from the 20th to the 80th percentile meet."""
    assert a.p20 is not None
    assert a.p80 is not None
    assert b.p20 is not None
    assert b.p80 is not None
    return a.p20 <= b.p80 and b.p20 <= a.p80


def _range(row: Row) -> str:
    assert row.p20 is not None
    assert row.p80 is not None
    return f"{time(row.p20)} - {time(row.p80)}"


def _purpose(duel: Duel) -> str:
    return f"{duel.purpose}, {duel.condition}" if duel.condition else duel.purpose
