"""Owns how commands show things: tables and lines that fit the terminal, and plain ones where there is none.

It must not fetch anything. What comes from clients (names, reasons) is shown without what a terminal would obey.
On a terminal nothing wraps: columns that matter least are left out, and long values cut. In a pipe nothing is
coloured or cut.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import attrs
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from livechat.cli.remote import one_line

GAP: Final = 2
"""Characters between columns."""
CUT_TO: Final = 12
"""Columns are cut down to so much, if need be, before others are left out."""
PIPE_WIDTH: Final = 100_000
BYTE_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def make_console() -> Console:
    """Return what to print to: colours only on a terminal that wants them."""
    return Console(file=sys.stdout, highlight=False, emoji=False, markup=False)


Document = dict[str, Any]
"""A JSON object."""


@attrs.frozen
class Column:
    """One column of a table."""

    title: str
    weight: int
    """Those of the least weight are left out first where there is no room."""
    right: bool = False
    """Numbers stand to the right."""


def table(console: Console, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Table:
    """Build a table of what fits.

    Args:
        rows: cells in the order of the columns; None is shown as a dash.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([cell_len(column.title), *(cell_len(row[i]) for row in cells)]) for i, column in enumerate(columns)
    ]
    fitting = _fitting(columns, widths, console.width) if console.is_terminal else dict(enumerate(widths))
    shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for i, width in fitting.items():
        justify: Literal["left", "right"] = "right" if columns[i].right else "left"
        shown.add_column(columns[i].title, justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        shown.add_row(*(Text(row[i]) for i in fitting))
    return shown


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Return which columns fit, in order, and how wide each may be."""
    kept = {i: min(width, CUT_TO) for i, width in enumerate(widths)}
    while len(kept) > 1 and sum(kept.values()) + GAP * (len(kept) - 1) > room:
        del kept[min(kept, key=lambda i: (columns[i].weight, -i))]
    left = room - sum(kept.values()) - GAP * (len(kept) - 1)
    for i in sorted(kept, key=lambda i: -columns[i].weight):
        more = min(left, widths[i] - kept[i])
        kept[i] += more
        left -= more
    return kept


def print_table(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[object]], none: str) -> None:
    """Print a table, or a word on why there is none."""
    if not rows:
        console.print(Text(none, "dim"))
        return
    _print(console, table(console, columns, rows))


Fact = tuple[str, str | Text]
"""A name, and the value to show for it."""


def facts(pairs: Iterable[Fact]) -> Table:
    """Build lines of a name and a value each; long values go on below themselves."""
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(name, value if isinstance(value, Text) else Text(value))
    return grid


def print_facts(console: Console, pairs: Iterable[Fact]) -> None:
    """Print lines of a name and a value each."""
    _print(console, facts(pairs))


def _print(console: Console, shown: Table) -> None:
    if console.is_terminal:
        console.print(shown)
        return
    # As wide as it is, and not padded: whoever reads a pipe wants whole values.
    wide = Console(
        width=PIPE_WIDTH, highlight=False, emoji=False, markup=False, no_color=True, force_terminal=False
    )
    with wide.capture() as captured:
        wide.print(shown)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(value)


def joined(parts: Iterable[str]) -> str:
    """Put parts on one line."""
    return "  ".join(parts)


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things, as one says it."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def span(seconds: float) -> str:
    """Return a time span in its two greatest units."""
    whole = int(seconds)
    units = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        number, whole = divmod(whole, size)
        if number or parts or name == "s":
            parts.append(f"{number}{name}")
    return " ".join(parts[:2])


def size(number: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit = 0
    while number >= 1000 and unit < len(BYTE_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {BYTE_UNITS[unit]}" if unit == 0 or number >= 100 else f"{number:.1f} {BYTE_UNITS[unit]}"


def moment(milliseconds: int) -> str:
    """Return a point in time, in this machine's time zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock(milliseconds: int) -> str:
    """Return a time of day with milliseconds, in this machine's time zone."""
    local = datetime.fromtimestamp(milliseconds // 1000, UTC).astimezone()
    return f"{local:%H:%M:%S}.{milliseconds % 1000:03}"
