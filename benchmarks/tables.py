"""Tables in the terminal and as Markdown, from the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A heading, columns, and lines of cells. notes: what one must know to read it."""

    heading: str
    columns: tuple[str, ...]
    lines: Sequence[Sequence[str]]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        rows = [self.columns, ["---"] * len(self.columns), *self.lines]
        parts = [f"### {self.heading}", "\n".join(f"| {' | '.join(_escaped(row))} |" for row in rows)]
        return "\n\n".join([*parts, *self.notes]) + "\n"


def show(tables: Sequence[Table]) -> None:
    """In the terminal, as wide as it is; where there is none, as wide as the table needs."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 240))
    for table in tables:
        drawn = RichTable()
        for number, column in enumerate(table.columns):
            drawn.add_column(Text(column), justify="left" if number < 2 else "right", overflow="fold")
        for line in table.lines:
            drawn.add_row(*map(Text, line))
        console.print(Text(table.heading, style="bold"))
        console.print(drawn)
        for note in table.notes:
            console.print(Text(note))
        console.print()


def _escaped(cells: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in cells]
