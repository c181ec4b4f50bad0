"""Reads CSV files as spreadsheets and editors write them: in UTF-8 or UTF-16, with commas, semicolons or tabs."""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tagger.errors import DataSetError
from tagger.file_content import check_regular, decode_text, looks_like_utf_16

DELIMITERS = (",", ";", "\t")

# The first line of a file for Excel may name the delimiter.
_SEP_LINE = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)


@dataclass(frozen=True)
class CsvTable:
    """The delimiter, the names of the columns, and an iterator over the rows.

    A row has its place (the file and the line number that an editor shows) and at most one value for each column. Rows
    without a value are left out. Reading a row that is invalid raises DataSetError.
    """

    delimiter: str
    columns: list[str]
    rows: Iterator[tuple[str, list[str]]]


def open_csv(path: Path, required: Collection[str]) -> CsvTable:
    """Reads the header of a CSV file; the delimiter is the one that gives the ``required`` columns, in lower case.

    The header is the first line with a value. Raises DataSetError when the file cannot be read, or is not CSV.
    """
    file = io.StringIO(_text(path), newline="")
    named = _SEP_LINE.fullmatch(file.readline())
    if named is None:
        file.seek(0)
        delimiter = _delimiter(next(filter(str.strip, file), ""), required)
        file.seek(0)
    else:
        delimiter = named.group(1)
    rows = _rows(path, file, delimiter, skipped=1 if named else 0)
    _, columns = next(rows, ("", []))
    return CsvTable(delimiter, columns, _fitting(rows, len(columns)))


def _text(path: Path) -> str:
    try:
        check_regular(path)
        content = path.read_bytes()
    except OSError as error:
        raise DataSetError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        # The delimiters in the wrong byte order of UTF-16 are rare characters.
        return decode_text(content, likely=",;\t\n")
    except UnicodeDecodeError as error:
        if looks_like_utf_16(content):
            raise DataSetError(f"{path} is neither UTF-8 nor UTF-16 ({error.reason}); save it as UTF-8") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise DataSetError(
            f"{path}, line {line} is not UTF-8; save the file as UTF-8, in Excel as the type CSV UTF-8"
        ) from error


def _delimiter(header: str, required: Collection[str]) -> str:
    for delimiter in DELIMITERS:
        names = {name.strip().strip('"').strip().lower() for name in header.split(delimiter)}
        if names.issuperset(required):
            return delimiter
    return max(DELIMITERS, key=header.count)


def _rows(path: Path, file: io.StringIO, delimiter: str, skipped: int) -> Iterator[tuple[str, list[str]]]:
    """Yields the place and the values of each row that has a value; ``skipped`` lines were read before."""
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield f"{path}, line {reader.line_num + skipped}", values
    except csv.Error as error:
        raise DataSetError(f"{path}, line {reader.line_num + skipped} is no CSV: {error}") from error


def _fitting(rows: Iterator[tuple[str, list[str]]], columns: int) -> Iterator[tuple[str, list[str]]]:
    """Yields ``rows`` with at most as many values as there are ``columns``. Empty values at the end are dropped."""
    for where, values in rows:
        while len(values) > columns and not values[-1].strip():
            values.pop()
        if len(values) > columns:
            raise DataSetError(f"{where} has {len(values)} values for {columns} columns")
        yield where, values
