"""Answers to questions about a result: as a table for people, as one JSON object, as CSV, or in a Parquet file."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_SHOWN = 40
"""Rows of a table on the terminal."""

FOLDER_SHOWN = 8
"""Characters from which on a folder that all videos share is named above the table, and not in each row."""

VIDEO_COLUMNS = ("video", "other")
"""Columns with names of videos."""

TEXT_COLUMNS = (*VIDEO_COLUMNS, "label", "path", "guess", "second_guess")
"""Columns that are aligned to the left and may be broken."""

DECIMALS = 6
"""Decimals of numbers in JSON and CSV: microseconds, and all that a float32 between 0 and 1 has."""


@dataclass(frozen=True)
class Column:
    """A column of a table on the terminal: the name of a column of the answer, its heading, and its unit."""

    name: str
    heading: str
    unit: str = ""


def print_json(facts: Mapping[str, Any], name: str, tables: Iterable["pa.Table"]) -> None:
    """Prints one JSON object: ``facts``, and under ``name`` the rows of ``tables``. Rows are printed as they come."""
    stream = sys.stdout
    stream.write(f"{json.dumps(facts, ensure_ascii=False)[:-1]}, {json.dumps(name)}: [")
    for number, row in enumerate(_rows(tables)):
        stream.write(f"{',' if number else ''}\n{json.dumps(row, ensure_ascii=False)}")
    stream.write("]}\n")


def print_csv(columns: Sequence[str], tables: Iterable["pa.Table"]) -> None:
    """Prints the rows of ``tables`` as CSV with a header."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(row.values() for row in _rows(tables))


def print_table(columns: Sequence[Column], tables: Iterable["pa.Table"], noun: str) -> None:
    """Prints the first ROWS_SHOWN rows, and the number of all. Reads all tables.

    A video that repeats is named once, and so is a folder that all of them share.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from jobs.cli.terminal.wording import count, printable

    shown: list[dict[str, Any]] = []
    rows = 0
    for found in tables:
        shown += found.slice(0, max(0, ROWS_SHOWN - rows)).to_pylist()
        rows += len(found)
    folder = _common_folder([row[name] for row in shown for name in VIDEO_COLUMNS if name in row])
    table = Table(box=None, pad_edge=False)
    for column in columns:
        is_text = column.name in TEXT_COLUMNS
        table.add_column(column.heading, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    before = None
    for row in shown:
        shorter = {name: row[name].removeprefix(folder) for name in VIDEO_COLUMNS if name in row}
        cells = [_cell((row | shorter)[column.name], column) for column in columns]
        if columns[0].name == "video":
            cells[0] = "" if row["video"] == before else cells[0]
            before = row["video"]
        table.add_row(*map(Text, cells))
    console = Console()
    if folder:
        console.print(Text(f"videos in {printable(folder)}", "dim"), soft_wrap=True)
    if table.row_count:
        console.print(table)
    if rows > ROWS_SHOWN:
        more = f"and {count(rows - ROWS_SHOWN, f'more {noun}')}: --csv, --json and --out give all"
        console.print(more, style="dim", highlight=False)
    console.print(count(rows, noun), highlight=False)


def _common_folder(videos: Sequence[str]) -> str:
    """Returns the folder that all videos are in, with a slash; empty when it is short or there is none."""
    levels = zip(*(video.split("/")[:-1] for video in videos), strict=False)
    shared = itertools.takewhile(lambda names: len(set(names)) == 1, levels)
    folder = "".join(f"{names[0]}/" for names in shared)
    return folder if len(folder) >= FOLDER_SHOWN else ""


def _cell(value: Any, column: Column) -> str:
    from jobs.cli.terminal.wording import printable

    if isinstance(value, float):
        return f"{value:.1f} {column.unit}" if column.unit else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else printable(value or "")


def _rows(tables: Iterable["pa.Table"]) -> Iterator[dict[str, Any]]:
    for table in tables:
        for row in table.to_pylist():
            yield {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()}
