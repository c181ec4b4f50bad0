"""Manifests: a CSV or Parquet file with a row for each labelled clip.

The columns ``path`` and ``label`` are required. A relative ``path`` is relative to the folder of the manifest, and may
be written as on Windows. Clips with the same ``group`` belong together, also when their labels differ; without a group,
the clips of one file belong together. ``split`` is ``train``, ``val`` or ``test``, or another name of one of these (see
``part_named``). ``start_s`` and ``end_s`` are seconds from the first frame of the video and make the clip a part of it.
Other columns are ignored.

A CSV file with the column ``video`` instead of ``path`` is a list of marks, as ``vtag report`` saves it for ``vtag
teach``. Its rows without a label, and those that say what a stretch does not show, are left out.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from tagger.errors import DataSetError, one_line
from training.data.csv_table import open_csv
from training.data.data_set import DataSet, GroupedBy, LabelledClip, Part, data_set_of
from training.data.part_folders import part_named

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".parquet")

COLUMNS = ("path", "label", "group", "split", "start_s", "end_s")
REQUIRED_COLUMNS, TIME_COLUMNS = COLUMNS[:2], COLUMNS[-2:]

DENIAL = "not "
"""How the label of a mark begins that says what a stretch does not show."""

STREAM_START = "stream_start_s"
"""A column of marks whose times count from the start of the file: the time of the first frame."""

SHOWN = 100
"""Characters of a value that a message shows."""

# C:\\videos and C:/videos, but not a file name with a colon.
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")

Row = Mapping[str, str]
"""The values of a row by column, without its empty cells."""


def read_manifest(path: Path) -> DataSet:
    """Reads the clips of a manifest, in its order.

    Does not check that the video files exist: reading them later reports it. Raises DataSetError, with the row, when
    a row is invalid.
    """
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    clips: dict[LabelledClip, str] = {}
    parts: dict[tuple[str, str], Part | None] = {}
    for where, row in rows:
        clip = _clip(path.parent, where, row)
        if clip in clips:
            raise DataSetError(f"{where} repeats {clips[clip].removeprefix(f'{path}, ')}")
        clips[clip] = where
        for what, name in (("file", str(clip.path)), ("group", clip.group)):
            if what == "file" or clip.grouped_by == "manifest":
                before = parts.setdefault((what, name), clip.part)
                if before and clip.part and before != clip.part:
                    raise DataSetError(
                        f"{where} is for {clip.part}, but the {what} {_shown(name)} for {before} in an earlier row; "
                        f"give all rows of one {what} the same split"
                    )
    if not clips:
        raise DataSetError(f"{path} has no rows")
    unsplit = [where for clip, where in clips.items() if clip.part is None]
    if unsplit and len(unsplit) < len(clips):
        raise DataSetError(f"{unsplit[0]} has no split, but others have; name train, val or test in all rows or none")
    return data_set_of(path, list(clips))


def _clip(folder: Path, where: str, row: Row) -> LabelledClip:
    for column in REQUIRED_COLUMNS:
        if column not in row:
            raise DataSetError(f"{where} has no {column}")
    part = part_named(row.get("split", ""))
    if part is None and "split" in row:
        raise DataSetError(f"{where}: the split {_shown(row['split'])!r} is none of train, val and test")
    start_s, end_s = _seconds(where, row, "start_s"), _seconds(where, row, "end_s")
    if end_s is not None and end_s <= (start_s or 0):
        raise DataSetError(f"{where} ends at {end_s:g} s, which is not after its start at {start_s or 0:g} s")
    path = _path(folder, where, row["path"])
    grouped_by: GroupedBy = "manifest" if "group" in row else "file"
    return LabelledClip(folder / path, row["label"], row.get("group", path), grouped_by, start_s or 0.0, end_s, part)


def _path(folder: Path, where: str, path: str) -> str:
    """Returns the path in a row, with slashes if it is a relative path of Windows.

    On this machine a file name may have backslashes: a path that exists is taken as it is.
    """
    if "\0" in path:
        raise DataSetError(f"{where}: the path has a NUL character")
    is_windows = bool(_DRIVE.match(path)) or ("\\" in path and not path.startswith("/"))
    if not is_windows or os.path.lexists(folder / path):
        return path
    windows = PureWindowsPath(path)
    if windows.anchor:
        raise DataSetError(
            f"{where}: {_shown(path)} is a path of a Windows machine; write the path that the file has here, or one "
            f"relative to {folder}"
        )
    return windows.as_posix()


def _seconds(where: str, row: Row, column: str) -> float | None:
    if column not in row:
        return None
    try:
        seconds = float(row[column])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataSetError(
            f"{where}: {column} is {_shown(row[column])!r}; it is a number of seconds from the first frame"
        )
    return seconds


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields each row with its place: the file and the line number."""
    table = open_csv(path, REQUIRED_COLUMNS)
    names = [name.strip().lower() for name in table.columns]
    is_marks = "video" in names and "path" not in names
    named = ["path" if is_marks and name == "video" else table.columns[at] for at, name in enumerate(names)]
    columns = _columns(path, named)
    for where, values in table.rows:
        given = dict(zip(names, values, strict=False))
        row = _row(dict(zip(columns, values, strict=False)))
        # Where the decimal point is a comma, spreadsheets separate columns by semicolons.
        if table.delimiter == ";":
            row = {**row, **{name: row[name].replace(",", ".") for name in TIME_COLUMNS if name in row}}
            given = {**given, STREAM_START: given.get(STREAM_START, "").replace(",", ".")}
        if is_marks:
            if "label" not in row or row["label"].casefold().startswith(DENIAL):
                continue
            row = _from_first_frame(where, row, given.get(STREAM_START, "").strip())
        yield where, row


def _from_first_frame(where: str, row: Row, stream_start: str) -> Row:
    """Returns a row whose times count from the first frame, not from the start of the file, as those of players do."""
    before_s = _seconds(where, {STREAM_START: stream_start or "0"}, STREAM_START) or 0.0
    times = {name: _seconds(where, row, name) for name in TIME_COLUMNS}
    return {**row, **{name: str(round(time_s - before_s, 6)) for name, time_s in times.items() if time_s is not None}}


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields each row with its place: the file and the row number, counted from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = dict(zip(_columns(path, file.schema_arrow.names), file.schema_arrow.names, strict=True))
            table = file.read([columns[name] for name in COLUMNS if name in columns])
        rows = table.rename_columns([name for name in COLUMNS if name in columns]).to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        # A text that is not UTF-8 and a time outside of what Python has are found only when they are converted.
        raise DataSetError(f"{path} cannot be read as Parquet: {one_line(str(error))}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", _row(row)


def _columns(path: Path, names: list[str]) -> list[str]:
    columns = [name.strip().lower() for name in names]
    for needed in REQUIRED_COLUMNS:
        if needed not in columns:
            raise DataSetError(f"{path} has no column {needed!r}; its columns are {_shown(', '.join(names)) or 'none'}")
    repeated = next((name for name in COLUMNS if columns.count(name) > 1), None)
    if repeated:
        raise DataSetError(f"{path} has the column {repeated!r} twice")
    return columns


def _row(values: Mapping[str, Any]) -> Row:
    texts = {name: _text(values[name]) for name in COLUMNS if name in values}
    return {name: text for name, text in texts.items() if text}


def _shown(text: str) -> str:
    """Returns ``text`` for a message: in one line, and cut to ``SHOWN`` characters."""
    text = one_line(text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _text(value: Any) -> str:
    """Returns a value as CSV text.

    Pandas writes missing values as NaN, and the whole numbers of such a column as floats.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
