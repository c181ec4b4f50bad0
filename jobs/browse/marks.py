"""Moments and marks in a CSV file: ``video``, ``start_s``, ``end_s``, and a ``label`` if there is one."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from jobs.browse.csv_rows import read_rows
from jobs.browse.moment import Moment
from tagger.errors import InputError, one_line
from training.data.manifest import DENIAL, STREAM_START

COLUMNS = ("video", "start_s", "end_s")
"""Columns that a file of moments must have."""

DECIMALS = 6
"""Decimals of times in seconds."""

UNLABELLED = "unlabelled"
"""The label of moments without one."""


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


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str], float, float]]:
    """Yields the place, the values, the start and the end of each moment of a CSV file.

    Files of ``vtag export`` have the times of players, and the part of them that is before the first frame.
    """
    for where, row in read_rows(path, COLUMNS, (*COLUMNS[1:], STREAM_START)):
        before_s = _number(row.get(STREAM_START) or "0")
        start_s, end_s = (round(_number(row.get(name, "")) - before_s, DECIMALS) for name in COLUMNS[1:])
        if not row.get("video") or not 0 <= start_s < end_s < math.inf:
            raise InputError(f"{where} is no moment: give a video, start_s, and an end_s after it, in seconds")
        yield where, row, start_s, end_s


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
