"""The table of commands whose rows are not convolutions: one line for each thing, everybody side by side."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.conv_table import SUBJECTS, median, overlap
from benchmarks.numbers import amount, digits, geometric_mean, time
from benchmarks.rows import OK, Row
from benchmarks.tables import Table


def tables(rows: Sequence[Row], about: Sequence[tuple[str, str]] = ()) -> list[Table]:
    """Where somebody else is better comes first. about: name and description of each provider."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.layer, row.shape, row.purpose), []).append(row)
    names = list(dict.fromkeys(row.provider for row in rows))
    first: dict[bool, list[tuple[float, list[str]]]] = {True: [], False: []}
    for key, group in groups.items():
        ratio, cells = _line(key, group, names)
        first[ratio < 1].append((ratio, cells))
    columns = ("network" if about else "what", "shape", "of", *names, "images/s", "best other / ours")
    met = len(groups)
    found = []
    if first[True]:
        lines = [cells for _, cells in sorted(first[True], key=lambda each: each[0])]
        found.append(Table(f"ANOTHER ONE IS BETTER: {len(lines)} of {met}", columns, lines))
    if first[False]:
        compared = any(_is_other(row) for row in rows)
        heading = "Ours is as good as all others, or better" if compared else "Measured, with nobody to compare to"
        found.append(Table(f"{heading}: {len(first[False])} of {met}", columns, [cells for _, cells in first[False]]))
    wrong = [[row.layer, row.purpose, row.provider, row.status, row.note] for row in rows if row.status != OK]
    if wrong:
        found.insert(0, Table("WRONG OR FAILED, and not timed", ("what", "of", "provider", "", "why"), wrong))
    noted = [
        [row.layer, row.purpose, row.provider, _cell(row), row.note] for row in rows if row.status == OK and row.note
    ]
    if noted:
        found.append(Table("Notes", ("what", "of", "provider", "", "note"), noted))
    if about:
        found.append(_providers(groups, about))
    return found


def _line(key: tuple[str, str, str], group: Sequence[Row], names: Sequence[str]) -> tuple[float, list[str]]:
    by_name = {row.provider: row for row in group}
    ours = _ours(group)
    others = sorted((row for row in group if _is_other(row)), key=median)
    speed, ratio, shown = "", float("inf"), ""
    if ours is not None:
        if ours.unit == "s" and ours.images:
            speed = digits(ours.images / median(ours))
        if others:
            ratio = median(others[0]) / median(ours)
            shown = f"{ratio:.2f}{'~' if overlap(ours, others[0]) and ours.runs > 1 else ''} {others[0].provider}"
    return ratio, [*key, *(_cell(by_name.get(name)) for name in names), speed, shown]


def _providers(groups: dict[tuple[str, str, str], list[Row]], about: Sequence[tuple[str, str]]) -> Table:
    lines = []
    for name, text in about:
        ratios: dict[str, list[float]] = {}
        for (_, _, purpose), group in groups.items():
            ours = _ours(group)
            row = next((row for row in group if row.provider == name and row.status == OK), None)
            if ours is not None and row is not None:
                ratios.setdefault(purpose, []).append(median(row) / median(ours))
        means = ", ".join(f"{purpose} {geometric_mean(each):.2f} ({len(each)})" for purpose, each in ratios.items())
        lines.append([name, text, means])
    return Table("Providers; geometric means of theirs over ours", ("provider", "what is called", "means"), lines)


def _ours(group: Sequence[Row]) -> Row | None:
    return next((row for row in group if row.provider in SUBJECTS and row.status == OK), None)


def _is_other(row: Row) -> bool:
    return row.status == OK and not row.provider.startswith("ours")


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.status != OK:
        return row.status
    return time(median(row)) if row.unit == "s" else amount(median(row))
