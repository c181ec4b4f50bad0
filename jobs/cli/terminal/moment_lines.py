"""Moments on the terminal: what each of them is, and the command that plays it."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SCORES = ("similarity", "margin", "confidence")
"""Columns of scores; the first of them that there is comes first in the line of a moment."""


def print_moments(tables: "Iterable[pa.Table]") -> None:
    """Prints two lines for each moment, and the number of moments. The second line is ready to copy."""
    from rich.console import Console

    from jobs.cli.terminal.wording import count

    rows = [row for table in tables for row in table.to_pylist()]
    for row in rows:
        print_moment(row)
    Console().print(count(len(rows), "moment"), highlight=False)


def print_moment(row: Mapping[str, Any]) -> None:
    """Prints the two lines of one moment."""
    from rich.console import Console
    from rich.text import Text

    from jobs.cli.terminal.wording import printable

    console = Console()
    label = row.get("guess", row["label"])
    score = next(row[name] for name in SCORES if name in row)
    times = f"{row['start_s']:.1f} s to {row['end_s']:.1f} s"
    console.print(
        Text.assemble((f"{score:.2f}", "bold"), f"  {printable(label)}  {times}  {printable(row['video'])}"),
        soft_wrap=True,
    )
    if row["play"] is not None:
        console.print(Text(f"      {row['play']}", "dim"), soft_wrap=True)
