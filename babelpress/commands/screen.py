"""An outcome on a terminal of any width: tables, and what is said below them.

A number is never broken and no cell is cut off. Words wrap, down to the longest of them; where that
is not enough, whole columns go, and a line says which.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from babelpress.commands.outcome import Column, Outcome
from babelpress.system.escaping import writable

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 40  # of a table on a terminal
LONGEST = 16  # characters of a word that is never broken: tags of languages, fingerprints
GAP = 2  # blanks between columns


def show(outcome: Outcome, console: "Console") -> None:
    """Print the tables of an outcome, its warnings and what it says."""

    def say(line: str) -> None:
        text = writable(line, console.encoding)
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for table in outcome.tables:
        if table.title:
            say(table.title)
        rows = table.rows[:ROWS]
        cells = {
            column: [writable(column.write(row), console.encoding) for row in rows]
            for column in table.columns
        }
        kept = fitting(cells, console.width)
        _print({column: cells[column] for column in kept}, console)
        if gone := [column.title or "state" for column in table.columns if column not in kept]:
            say(f"no room for {', '.join(gone)}: a wider terminal shows all, and so does --json")
        if len(table.rows) > ROWS:
            say(f"and {len(table.rows) - ROWS} more rows; --json gives all")
        say("")
    for line in (*(f"warning: {line}" for line in outcome.warnings), *outcome.says):
        say(line)


def fitting(cells: dict[Column, list[str]], width: int) -> list[Column]:
    """The columns that there is room for, in their order; at least one."""
    kept = list(cells)
    while len(kept) > 1 and sum(least(each, cells[each]) + GAP for each in kept) - GAP > width:
        lowest = min(each.needed for each in kept)
        kept.remove([each for each in kept if each.needed == lowest][-1])
    return kept


def least(column: Column, cells: Sequence[str]) -> int:
    """The least width of a column: of a number the whole of it, of words the longest."""
    from rich.cells import cell_len

    texts = (column.title, *cells)
    if column.number:
        return max(cell_len(line) for text in texts for line in text.split("\n"))
    return min(LONGEST, max((cell_len(word) for text in texts for word in text.split()), default=0))


def _print(cells: dict[Column, list[str]], console: "Console") -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    rows = list(zip(*cells.values(), strict=True))
    # A blank line between rows of more than one line.
    airy = any("\n" in cell for row in rows for cell in row)
    grid = Grid(box=None, pad_edge=False)
    for column, own in cells.items():
        grid.add_column(
            Text(writable(column.title, console.encoding)),
            justify="right" if column.number else "left",
            overflow="fold",
            min_width=min(least(column, own), console.width),
        )
    for row in rows:
        if airy and grid.row_count:
            grid.add_row()
        grid.add_row(*map(Text, row))
    console.print(grid)
