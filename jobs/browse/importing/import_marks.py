"""Reads marks from the file of another tool, whatever its kind, and writes them as a CSV file of marks."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from jobs.browse.importing.activitynet import database_marks
from jobs.browse.importing.elan_file import document_marks
from jobs.browse.importing.found_marks import FoundMark, LeftOut, place_marks
from jobs.browse.importing.label_studio import csv_marks, is_export, task_marks
from jobs.browse.importing.names import path_of
from jobs.browse.marks import COLUMNS, DECIMALS, Mark, label_of, read_marks
from jobs.browse.segments import FinishedResult
from jobs.errors import reason
from jobs.storage.address import is_address
from tagger.errors import InputError
from tagger.file_content import check_regular

HEAD_BYTES = 1024
"""Bytes at the start of a file by which its kind is recognised."""


def read_found(path: Path, frame_rate: float, tiers: Collection[str] = ()) -> list[FoundMark]:
    """Returns the marks of a file of ELAN, ActivityNet, Label Studio (CSV or JSON), or of a CSV file of marks.

    ``frame_rate`` is that of Label Studio's project, and ``tiers`` are those of ELAN that count. Raises InputError,
    with the place in the file, for what is not understood.
    """
    if is_document(path):
        return document_marks(path, tiers)
    begin = _begin(path)
    if begin in ("{", "["):
        data = _json(path)
        return task_marks(data, path, frame_rate) if isinstance(data, list) else database_marks(data, path)
    if is_export(path):
        return csv_marks(path, frame_rate)
    return [
        FoundMark(mark.where, (mark.video,), mark.start_s, mark.end_s, label_of(mark), counts_from_frame=True)
        for mark in read_marks(path)
    ]


def is_document(path: Path) -> bool:
    """Checks whether a file is XML, as documents of ELAN are. Raises InputError when it cannot be read."""
    return _begin(path) == "<"


def import_marks(found: Iterable[FoundMark], finished: FinishedResult | None) -> tuple[list[Mark], Sequence[LeftOut]]:
    """Returns marks for ``vtag teach``: with the names of videos and the times in a result, or as they were found.

    Marks that no segment of the result can have come apart. Raises InputError when there are only such marks, and as
    ``marks_in`` for a video that may be one of several.
    """
    if finished is not None:
        placed, left_out = place_marks(finished, list(found))
        if left_out and not placed:
            raise InputError(left_out[0].words)
        return placed, left_out
    marks = []
    for mark in found:
        name = next(iter(mark.names), "")
        # An address is a name as it is; one of a server, or of a local file, stands for a path.
        is_path = not is_address(name) or name.startswith("file://")
        marks.append(Mark(mark.where, path_of(name) if is_path else name, mark.start_s, mark.end_s, mark.label))
    return marks, ()


def marks_text(marks: Iterable[Mark]) -> str:
    """Returns marks as CSV, as ``read_marks`` reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, "label"))
    for mark in marks:
        times = (round(time_s, DECIMALS) for time_s in (mark.start_s, mark.end_s))
        writer.writerow((mark.video, *times, label_of(mark)))
    return text.getvalue()


def _begin(path: Path) -> str:
    """Returns the first character of a file that is no space; empty if it is no text in UTF-8."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from error
    return head.decode("utf-8-sig", "ignore").lstrip()[:1]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        if str(error).startswith("Extra data"):
            raise InputError(f"{path} has several values of JSON; JSON Lines are not read, give CSV") from error
        raise InputError(f"{path} is no JSON: {error}") from error
