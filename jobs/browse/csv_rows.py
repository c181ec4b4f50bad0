"""Reads the CSV files that questions take, such as marks and thresholds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tagger.errors import DataSetError, InputError, one_line
from training.data.csv_table import open_csv


def read_rows(path: Path, needed: Sequence[str], numbers: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the place (file and line) and the values by column, in lower case, of each row of a CSV file.

    The columns ``numbers`` have a decimal point, also where spreadsheets write a comma. Raises InputError when the file
    cannot be read, when it is no CSV, and when it lacks one of the columns ``needed``.
    """
    try:
        table = open_csv(path, needed)
        columns = [name.strip().lower() for name in table.columns]
        for name in needed:
            if name not in columns:
                raise InputError(
                    f"{path} has no column {name!r}; its columns are {one_line(', '.join(table.columns)) or 'none'}"
                )
        for where, values in table.rows:
            row = dict(zip(columns, map(str.strip, values), strict=False))
            # Where the decimal point is a comma, spreadsheets separate columns by semicolons.
            if table.delimiter == ";":
                row |= {name: row[name].replace(",", ".") for name in numbers if name in row}
            yield where, row
    except DataSetError as error:
        raise InputError(str(error)) from error
