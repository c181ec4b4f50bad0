"""Manifests: a CSV or Parquet file with a row for each labelled clip.

The columns ``path`` and ``label`` are required. A relative ``path`` is relative to the folder of the manifest. Clips
with the same ``group`` belong together, also when their labels differ; without a group, the clips of one file belong
together. ``split`` is ``train``, ``val`` or ``test``. ``start_s`` and ``end_s`` are seconds from the first frame of the
video and make the clip a part of it. Other columns are ignored.
"""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tagger.errors import DataSetError
from training.data.data_set import PARTS, DataSet, GroupedBy, LabelledClip, Part, data_set_of

MANIFEST_EXTENSIONS = (".csv", ".parquet")

COLUMNS = ("path", "label", "group", "split", "start_s", "end_s")
REQUIRED_COLUMNS = COLUMNS[:2]

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
                        f"{where} is for {clip.part}, but the {what} {name} for {before} in an earlier row; "
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
    part = next((part for part in PARTS if part == row.get("split")), None)
    if part is None and "split" in row:
        raise DataSetError(f"{where}: the split {row['split']!r} is none of train, val and test")
    start_s, end_s = _seconds(where, row, "start_s"), _seconds(where, row, "end_s")
    if end_s is not None and end_s <= (start_s or 0):
        raise DataSetError(f"{where} ends at {end_s:g} s, which is not after its start at {start_s or 0:g} s")
    grouped_by: GroupedBy = "manifest" if "group" in row else "file"
    group = row.get("group", row["path"])
    return LabelledClip(folder / row["path"], row["label"], group, grouped_by, start_s or 0.0, end_s, part)


def _seconds(where: str, row: Row, column: str) -> float | None:
    if column not in row:
        return None
    try:
        seconds = float(row[column])
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataSetError(f"{where}: {column} is {row[column]!r}; it is a number of seconds from the first frame")
    return seconds


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields each row with its place: the file and the line number that an editor shows."""
    try:
        # Excel begins UTF-8 files with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            columns = _columns(path, next(lines, []))
            for values in lines:
                where = f"{path}, line {lines.line_num}"
                if len(values) > len(columns):
                    raise DataSetError(f"{where} has {len(values)} values for {len(columns)} columns")
                if any(values):
                    yield where, _row(dict(zip(columns, values, strict=False)))
    except csv.Error as error:
        raise DataSetError(f"{path}, line {lines.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise DataSetError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Yields each row with its place: the file and the row number, counted from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = dict(zip(_columns(path, file.schema_arrow.names), file.schema_arrow.names, strict=True))
            table = file.read([columns[name] for name in COLUMNS if name in columns])
    except (pa.ArrowException, OSError) as error:
        raise DataSetError(f"{path} cannot be read as Parquet: {error}") from error
    table = table.rename_columns([name for name in COLUMNS if name in columns])
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}, row {number}", _row(row)


def _columns(path: Path, names: list[str]) -> list[str]:
    columns = [name.strip().lower() for name in names]
    for needed in REQUIRED_COLUMNS:
        if needed not in columns:
            raise DataSetError(f"{path} has no column {needed!r}; its columns are {', '.join(names) or 'none'}")
    repeated = next((name for name in COLUMNS if columns.count(name) > 1), None)
    if repeated:
        raise DataSetError(f"{path} has the column {repeated!r} twice")
    return columns


def _row(values: Mapping[str, Any]) -> Row:
    texts = {name: _text(values[name]) for name in COLUMNS if name in values}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    """Returns a value as CSV text.

    Pandas writes missing values as NaN, and the whole numbers of such a column as floats.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
