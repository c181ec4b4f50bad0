"""Moments and marks in a CSV file: ``video``, ``start_s``, ``end_s``, and a ``label`` if there is one.

Ranges have the same columns, in a CSV or a Parquet file.
"""

import math
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from jobs.archive.video import VideoRanges
from jobs.browse.csv_rows import read_rows
from jobs.browse.moment import Moment
from jobs.errors import reason
from jobs.storage.address import is_address
from jobs.storage.location import locate
from tagger.errors import InputError, one_line
from tagger.windows import merged_ranges
from training.data.manifest import DENIAL, STREAM_START

COLUMNS = ("video", "start_s", "end_s")
"""Columns that a file of moments must have."""

DECIMALS = 6
"""Decimals of times in seconds."""

UNLABELLED = "unlabelled"
"""The label of moments without one."""

MAX_RANGES = 100_000
"""Largest number of ranges of a video. A message to the process that reads it holds them."""

Row = tuple[str, Mapping[str, str], float, float]
"""The place of a moment, its values by column, its start and its end."""


@dataclass(frozen=True)
class Mark:
    """A stretch of a video of which a person says that it shows ``label``, or that it does not, if ``is_denial``.

    ``where`` is the file and the line of the mark.
    """

    where: str
    video: str
    start_s: float
    end_s: float
    label: str
    is_denial: bool = False


def read_moments(path: Path) -> list[Moment]:
    """Returns the moments of a CSV file, such as ``vtag uncertain --csv`` or ``vtag events --csv`` prints.

    Moments without a label get UNLABELLED. Raises InputError, with the line of the file, for what is no moment.
    """
    found = []
    for _, row, start_s, end_s in _rows(path):
        confidence = _number(row.get("confidence", ""))
        confidence = confidence if math.isfinite(confidence) else 1.0
        found.append(Moment(row["video"], start_s, end_s, row.get("label") or UNLABELLED, confidence))
    return found


def read_marks(path: Path, known: Collection[str] = ()) -> list[Mark]:
    """Returns the marks of a CSV file: its moments with a label. Rows without a label are left out.

    ``not LABEL`` is a denial, unless it is one of the ``known`` labels. Raises InputError as ``read_moments``.
    """
    found = []
    for where, row, start_s, end_s in _rows(path):
        label, is_denial = parse_label(row.get("label", ""), known)
        if label or is_denial:
            found.append(Mark(where, row["video"], start_s, end_s, label, is_denial))
    return found


def read_ranges(file: str) -> VideoRanges:
    """Returns the ranges of each video in a CSV file of moments, or in a Parquet file with the same columns.

    Those that overlap or touch are merged. Only a Parquet file may be at an address. Raises InputError, with the line
    or the row, for what is no moment, and for a file without one.
    """
    if not file:
        raise InputError(f"the file of ranges is empty ({file!r}), as from a variable of the shell that is not set")
    if os.path.isdir(file):  # noqa: PTH112 - Path.is_dir raises an error for a name that is too long.
        raise InputError(f"{file} is a folder; give a file, such as `vtag events {file} --csv` prints for a result")
    is_parquet = file.endswith(".parquet")
    if is_address(file) and not is_parquet:
        raise InputError(f"{file}: only Parquet files are read from an address; copy it to this machine first")
    rows = _parquet_rows(file) if is_parquet else _rows(Path(file))
    found: dict[str, list[tuple[float, float]]] = {}
    for _, row, start_s, end_s in rows:
        ranges = found.setdefault(row["video"], [])
        # A result has a row for each window, so neighbours are merged at once.
        if ranges and ranges[-1][0] <= start_s <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(ranges[-1][1], end_s)
        else:
            ranges.append((start_s, end_s))
    if not found:
        raise InputError(f"{file} has no moments: it needs rows with video, start_s and end_s")
    merged = {video: merged_ranges(ranges) for video, ranges in found.items()}
    for video, several in merged.items():
        if len(several) > MAX_RANGES:
            raise InputError(
                f"{file} has {len(several):,} ranges of {one_line(video)}; at most {MAX_RANGES:,} are taken"
            )
    return merged


def to_be_marked(moments: pa.Table, label: str = "") -> pa.Table:
    """Returns ``moments`` with ``label`` in the column ``label``, for a person to correct or to fill in.

    The labels that the moments had are in the next column, ``guess``.
    """
    place = moments.schema.get_field_index("label")
    marks = pa.array([label] * len(moments), pa.string())
    guesses = moments.column(place)
    return moments.set_column(place, "label", marks).add_column(place + 1, "guess", guesses)


def parse_label(text: str, known: Collection[str] = ()) -> tuple[str, bool]:
    """Returns the label in ``text``, and whether ``text`` is ``not LABEL``, which is none of the ``known`` labels.

    Both labels may be empty.
    """
    label = one_line(text).strip()
    is_denial = f"{label} ".casefold().startswith(DENIAL) and label not in known
    return (label[len(DENIAL) :].strip() if is_denial else label), is_denial


def label_of(mark: Mark) -> str:
    """Returns what a person writes into the column ``label`` for a mark."""
    return f"{DENIAL}{mark.label}" if mark.is_denial else mark.label


def _rows(path: Path) -> Iterator[Row]:
    """Yields the moments of a CSV file."""
    for where, row in read_rows(path, COLUMNS, (*COLUMNS[1:], STREAM_START)):
        start_s, end_s = (_number(row.get(name, "")) for name in COLUMNS[1:])
        yield _moment(where, row, start_s, end_s, _number(row.get(STREAM_START) or "0"))


def _parquet_rows(file: str) -> Iterator[Row]:
    """Yields the moments of a Parquet file. The place of each is the number of its row, from 1."""
    number = 0
    try:
        with locate(file).parquet() as parquet:
            present = parquet.schema_arrow.names
            lacking = next((name for name in COLUMNS if name not in present), None)
            if lacking is not None:
                raise InputError(f"{file} has no column {lacking!r}; its columns are {one_line(', '.join(present))}")
            names = [*COLUMNS, *(name for name in (STREAM_START,) if name in present)]
            for batch in parquet.iter_batches(columns=names):
                videos = batch.column("video").cast(pa.string()).to_pylist()
                times = [batch.column(name).cast(pa.float64()).to_pylist() for name in names[1:]]
                for video, start_s, end_s, *before_s in zip(videos, *times, strict=True):
                    number += 1
                    before = before_s[0] if before_s and before_s[0] is not None else 0.0
                    yield _moment(f"{file}, row {number}", {"video": video or ""}, start_s, end_s, before)
    except (OSError, ValueError, pa.ArrowException) as error:
        why = reason(error) if isinstance(error, OSError) else "its name or its columns are of another kind"
        raise InputError(f"{file} cannot be read: {why}") from error


def _moment(where: str, row: Mapping[str, str], start_s: float | None, end_s: float | None, before_s: float) -> Row:
    """Returns a moment. Raises InputError for what is none.

    Files of ``vtag export`` have the times of players, and ``before_s``, the part of them before the first frame.
    """
    start_s, end_s = (math.nan if time_s is None else round(time_s - before_s, DECIMALS) for time_s in (start_s, end_s))
    if not row.get("video") or not 0 <= start_s < end_s < math.inf:
        raise InputError(f"{where} is no moment: give a video, start_s, and an end_s after it, in seconds")
    return where, row, start_s, end_s


def check_videos(moments: Collection[Moment], known: Collection[str], place: str) -> None:
    """Raises InputError when a moment is of none of the ``known`` videos. ``place`` is the result, for the message."""
    missing = next((moment.video for moment in moments if moment.video not in known), None)
    if missing is not None:
        raise InputError(f"{place} has no video {one_line(missing)!r}; give its path or address as in the result")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
