"""Rows as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up import broken, row

from benchmarks.errors import BenchmarkError
from benchmarks.rows import SCHEMA, read


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rows = [row("ours", 0.001, condition="cold L2"), broken("torch", note="wrong by far")]
    file = tmp_path / "rows.json"
    file.write_text("\n".join(each.to_json() for each in rows) + "\n")
    assert read(str(file)) == rows


def changed(**values: object) -> str:
    return json.dumps({**json.loads(row("ours", 1.0).to_json()), **values})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows: expected a file that --json wrote"),
        ("{", "line 1, is not JSON"),
        ("[1]", "line 1, is not a row"),
        ("{}", "line 1, is not a row"),
        (changed(schema=SCHEMA + 1), f"is a row of version {SCHEMA + 1}, this is version {SCHEMA}: measure it anew"),
        (changed(colour="red"), f"is no row of version {SCHEMA}: colour missing or unknown"),
    ],
)
def test_other_files_are_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(BenchmarkError) as raised:
        read(str(file))
    assert says in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"cannot read .*none\.json"):
        read(str(tmp_path / "none.json"))
