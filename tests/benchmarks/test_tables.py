"""Tables from rows that nobody measured: what others do better comes first."""

from __future__ import annotations

import pytest
from made_up import broken, limits, row

from benchmarks import conv_table, side_by_side
from benchmarks.numbers import digits, geometric_mean, time
from benchmarks.rows import Row
from benchmarks.tables import Table, show

ABOUT = [("ours", "ours, made up"), ("torch", "PyTorch, made up"), ("torch-channels-last", "more of it")]


def rows() -> list[Row]:
    """Ours twice as fast in a.0, and in a.1 four times slower than one of PyTorch's layouts."""
    return [
        *limits(flops=2e9, moved=1e9),
        row("ours", 1.0),
        row("ours-fresh", 0.5),  # one of ours is no peer
        row("torch", 2.0),
        broken("torch-channels-last", note="its result is off"),
        row("ours", 1.0, layer="a.1"),
        row("torch", 0.5, layer="a.1"),
        row("torch-channels-last", 0.25, layer="a.1"),
    ]


def test_who_is_faster_comes_first() -> None:
    wrong, behind, ahead, times, providers = conv_table.tables(rows(), ABOUT)
    assert wrong.heading == "WRONG OR FAILED, and not timed: 1"
    assert wrong.lines == [["a.0", "forward", "torch-channels-last", "wrong", "its result is off"]]
    assert behind.heading == "ANOTHER ONE IS FASTER: 1 of 2"
    assert ahead.heading == "Ours is as fast as all others, or faster: 1 of 2"
    (line,) = behind.lines
    shown = dict(zip(behind.columns, line, strict=True))
    assert shown["layer"] == "a.1"
    assert shown["ours"] == "1.00 s"
    assert shown["20-80 %"] == "990 ms - 1.01 s"
    # 1e9 operations and 1e6 bytes of 8 images in 1 s; the machine needs half a second for them.
    assert (shown["GFLOP/s"], shown["GB/s"], shown["images/s"]) == ("1.00", "0.00100", "8.00")
    assert shown["of limit"] == "50%"
    assert (shown["PyTorch"], shown["PyTorch / ours"]) == ("250 ms", "0.25")
    assert (shown["fastest other"], shown["other / ours"]) == ("torch-channels-last 250 ms", "0.25")
    assert dict(zip(ahead.columns, ahead.lines[0], strict=True))["other / ours"] == "2.00"
    assert times.lines == [
        ["a.0", "forward", "1.00 s", "2.00 s", "wrong"],
        ["a.1", "forward", "1.00 s", "500 ms", "250 ms"],
    ]
    # The geometric mean of 2 / 1 and 0.5 / 1 is 1.
    torch = next(line for line in providers.lines if line[0] == "torch")
    assert torch[-1] == "1.00 (2)"
    assert torch[2:4] == ["20.0 s", "20.0 s"]


def test_overlapping_ranges_are_marked() -> None:
    table = conv_table.tables([row("ours", 1.0), row("torch", 1.01)], ABOUT)[0]
    assert dict(zip(table.columns, table.lines[0], strict=True))["other / ours"] == "1.01~"


def test_what_was_disturbed_is_marked() -> None:
    noted = row("torch", 2.0, note="others meanwhile kept 40% of the processors busy")
    table = conv_table.tables([row("ours", 1.0), noted], ABOUT)[0]
    assert dict(zip(table.columns, table.lines[0], strict=True))["other / ours"] == "2.00!"


def test_a_gpus_two_states_of_the_cache_are_two_lines() -> None:
    states = [
        row(name, 1.0, condition=state) for state in ("cold L2", "warm L2") for name in ("ours-cuda", "torch-cuda")
    ]
    (table, *_) = conv_table.tables(states, [("ours-cuda", ""), ("torch-cuda", "")])
    assert [line[1] for line in table.lines] == ["forward, cold L2", "forward, warm L2"]


def test_tf32_is_no_peer_in_float32_and_says_so() -> None:
    found = conv_table.tables([row("ours-cuda", 1.0), row("torch-cuda-tf32", 0.5, precision="tf32")], [])
    shown = dict(zip(found[0].columns, found[0].lines[0], strict=True))
    assert (shown["PyTorch"], shown["fastest other"]) == ("", "torch-cuda-tf32 (tf32) 500 ms")
    assert found[0].heading.startswith("ANOTHER ONE IS FASTER")


def test_side_by_side() -> None:
    of_step = {"command": "train", "purpose": "step"}
    found = side_by_side.tables(
        [
            row("ours", 1.0, **of_step),
            row("torch", 3.0, note="after 4 epochs", **of_step),
            row("ours", 4e6, layer="b", purpose="memory", unit="B"),
            row("torch", 1e6, layer="b", purpose="memory", unit="B"),
        ],
        ABOUT,
    )
    assert found[0].heading == "ANOTHER ONE IS BETTER: 1 of 2"
    assert found[0].lines[0][3:] == ["3.8 MiB", "1.0 MiB", "", "0.25 torch"]
    assert found[2].lines == [["a.0", "step", "torch", "3.00 s", "after 4 epochs"]]
    assert found[1].lines[0][3:] == ["1.00 s", "3.00 s", "8.00", "3.00 torch"]


def test_markdown_and_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("A heading", ("a", "b"), [["1|2", "[red]3"]], ("A note.",))
    assert table.markdown() == "### A heading\n\n| a | b |\n| --- | --- |\n| 1\\|2 | [red]3 |\n\nA note.\n"
    show([table])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("A heading", "1|2", "[red]3", "A note."))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234e-6, "1.23 us"), (12.34e-6, "12.3 us"), (0.9994e-3, "999 us"), (0.9996e-3, "1.00 ms"), (61.2, "61.2 s")],
)
def test_times(seconds: float, text: str) -> None:
    assert time(seconds) == text


def test_numbers() -> None:
    assert [digits(value) for value in (0, 0.01234, 1.234, 123.4, 12345.6)] == ["0", "0.0123", "1.23", "123", "12,346"]
    assert geometric_mean([1, 100]) == pytest.approx(10)
