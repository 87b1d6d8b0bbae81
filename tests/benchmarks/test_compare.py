"""Two runs row by row, on rows that nobody measured."""

from __future__ import annotations

import pytest
from made_up import broken, row

from benchmarks.compare import BROKEN, FASTER, SAME, SLOWER, changes, table, worse
from benchmarks.errors import BenchmarkError


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (row("ours", 1.0), row("ours", 1.2), SLOWER),
        (row("ours", 1.2), row("ours", 1.0), FASTER),
        (row("ours", 1.0), row("ours", 1.04), SAME),  # within 5 %
        (row("ours", 1.0), row("ours", 1.2, p20=1.0, p80=1.5), SAME),  # the ranges overlap
        (row("ours", 1.0), broken("ours"), BROKEN),
        (row("ours", 1.0), broken("ours", "failed"), BROKEN),
        (row("ours", 1e6, unit="B"), row("ours", 2e6, unit="B"), SLOWER),
    ],
)
def test_verdicts(before: object, now: object, verdict: str) -> None:
    (change,) = changes([before], [now])  # type: ignore[list-item]
    assert change.verdict == verdict
    assert worse([change]) == (verdict in (SLOWER, BROKEN))


def test_only_the_same_things_are_compared() -> None:
    old = [row("ours", 1.0), row("ours", 1.0, layer="a.1"), row("torch", 1.0), broken("scipy")]
    new = [row("ours", 2.0), row("ours", 2.0, layer="a.2"), row("ours", 2.0, shape="9x1x4x4:2x1x3x3"), row("scipy", 1)]
    found = changes(old, new)
    assert [(change.before.layer, change.verdict) for change in found] == [("a.0", SLOWER)]


def test_nothing_in_common_says_where_the_earlier_run_was_taken() -> None:
    with pytest.raises(BenchmarkError, match=r"nothing to compare: .* was taken on another machine"):
        changes([row("ours", 1.0, device="another machine")], [row("ours", 1.0)])


def test_the_table_begins_with_what_is_worse() -> None:
    old = [row("ours", 1.0, layer=f"a.{number}") for number in range(4)]
    new = [row("ours", 1.0, layer="a.0"), row("ours", 0.5, layer="a.1"), row("ours", 2.0, layer="a.2")]
    shown = table(changes(old, [*new, broken("ours", layer="a.3")]))
    assert [(line[0], line[-1]) for line in shown.lines] == [
        ("a.3", BROKEN),
        ("a.2", SLOWER),
        ("a.1", FASTER),
        ("a.0", SAME),
    ]
    assert shown.heading == "Against the earlier run: 1 no longer right, 1 slower, 1 faster, 1 same"
    assert shown.lines[1][3:6] == ["1.00 s", "2.00 s", "2.00"]
