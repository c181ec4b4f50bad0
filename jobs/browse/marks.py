"""Moments in a CSV file: ``video``, ``start_s``, ``end_s``, and a ``label`` if there is one."""

import math
from collections.abc import Collection
from pathlib import Path

from jobs.browse.clips import Moment
from tagger.errors import DataSetError, InputError, one_line
from training.data.csv_table import open_csv

COLUMNS = ("video", "start_s", "end_s")
"""Columns that a file of moments must have."""

UNLABELLED = "unlabelled"
"""The label of moments without one."""


def read_moments(path: Path) -> list[Moment]:
    """Returns the moments of a CSV file, such as ``vtag uncertain --csv`` or ``vtag events --csv`` prints.

    Moments without a label get UNLABELLED. Raises InputError, with the line of the file, for what is no moment.
    """
    try:
        table = open_csv(path, COLUMNS)
        columns = [name.strip().lower() for name in table.columns]
        for needed in COLUMNS:
            if needed not in columns:
                raise InputError(
                    f"{path} has no column {needed!r}; its columns are {one_line(', '.join(table.columns)) or 'none'}"
                )
        found = []
        for where, values in table.rows:
            row = dict(zip(columns, map(str.strip, values), strict=False))
            # Where the decimal point is a comma, spreadsheets separate columns by semicolons.
            times = [row.get(name, "").replace(",", "." if table.delimiter == ";" else ",") for name in COLUMNS[1:]]
            start_s, end_s = map(_number, times)
            if not row.get("video") or not 0 <= start_s < end_s < math.inf:
                raise InputError(f"{where} is no moment: give a video, start_s, and an end_s after it, in seconds")
            confidence = _number(row.get("confidence", ""))
            confidence = confidence if math.isfinite(confidence) else 1.0
            found.append(Moment(row["video"], start_s, end_s, row.get("label") or UNLABELLED, confidence))
    except DataSetError as error:
        raise InputError(str(error)) from error
    return found


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
