"""Marks from Label Studio (https://labelstud.io): the CSV export of a project with timeline labels of videos.

A row is an annotation of a task. Besides the columns of the task, such as ``video``, it has ``annotation_id``, and a
column with the regions as JSON: ``[{"ranges": [{"start": 1, "end": 48}], "timelinelabels": ["Swing"]}]``. Frames are
counted from 1, by the frame rate that the tag ``Video`` of the project gives, whatever that of the video is.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jobs.browse.csv_rows import read_rows
from jobs.browse.marks import Mark, parse_label
from jobs.browse.recorded import video_names
from jobs.browse.segments import FinishedResult
from tagger.errors import DataSetError, InputError, one_line
from training.data.csv_table import open_csv

FRAME_RATE = 24.0
"""Frames per second of the tag ``Video`` if a project gives none."""

COLUMN = "annotation_id"
"""A column that every CSV export has."""

REGIONS = "timelinelabels"

# Label Studio puts a random number before the name of a file that was uploaded.
_UPLOADED = re.compile(r"[0-9a-f]{8}-")


def is_export(path: Path) -> bool:
    """Checks whether a CSV file is an export of Label Studio. Raises InputError when it cannot be read."""
    try:
        return COLUMN in {name.strip().lower() for name in open_csv(path, (COLUMN,)).columns}
    except DataSetError as error:
        raise InputError(str(error)) from error


def read_export(
    path: Path, finished: FinishedResult, frame_rate: float = FRAME_RATE, known: Sequence[str] = ()
) -> list[Mark]:
    """Returns the marks of an export. The video of a row is the one of the result that a column of the row names.

    Names are compared as they are, then without the folders of Label Studio. Raises InputError, with the line, for a
    video that is not in the result or that may be one of several, and for regions that are none.
    """
    tasks = []
    for where, row in read_rows(path, (COLUMN,), ()):
        regions = [region for cell in row.values() for region in _regions(where, cell)]
        if regions:
            tasks.append((where, row, regions))
    # An archive may have more videos than fit into memory.
    wanted = {name for _, row, _ in tasks for cell in row.values() for name in _names(cell)}
    by_name: dict[str, list[str]] = defaultdict(list)
    for video in video_names(finished):
        if (name := PurePosixPath(video).name) in wanted:
            by_name[name].append(video)
    found = []
    for where, row, regions in tasks:
        video = _video_of(where, row, by_name, finished.path)
        for region in regions:
            for start_s, end_s, text in _spans(where, region, frame_rate):
                label, is_denial = parse_label(text, known)
                found.append(Mark(where, video, start_s, end_s, label, is_denial))
    return found


def _regions(where: str, cell: str) -> list[Any]:
    if REGIONS not in cell:
        return []
    try:
        regions = json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} has regions that are no JSON; export the project from Label Studio again") from error
    return regions if isinstance(regions, list) else []


def _spans(where: str, region: Any, frame_rate: float) -> Iterator[tuple[float, float, str]]:
    """Yields start and end in seconds and the label of each range of a region."""
    try:
        for span in region["ranges"]:
            start_s, end_s = (span["start"] - 1) / frame_rate, span["end"] / frame_rate
            if not 0 <= start_s < end_s < math.inf:
                raise ValueError
            for label in region[REGIONS]:
                yield start_s, end_s, str(label)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{where} has a region without a first frame, a last frame and labels; correct it in Label Studio"
        ) from error


def _video_of(where: str, row: Mapping[str, str], by_name: Mapping[str, Sequence[str]], place: str) -> str:
    """Returns the video of the result that a column of ``row`` names, the column ``video`` first."""
    for cell in (row.get("video", ""), *row.values()):
        if cell in by_name.get(PurePosixPath(cell).name, ()):
            return cell
        path = _path_of(cell)
        name, uploaded = PurePosixPath(path).name, _uploaded_name(path)
        found = [*by_name.get(name, ()), *by_name.get(uploaded, ())]
        exact = [video for video in found if f"/{video}".endswith(f"/{path.lstrip('/')}")]
        if len(exact or found) > 1:
            raise InputError(f"{where}: {place} has several videos with the name {one_line(name)}")
        if found:
            return (exact or found)[0]
    shown = one_line(row.get("video", "")) or "of this row"
    raise InputError(f"{where}: {place} has no video {shown}; videos are found by the names of their files")


def _names(cell: str) -> set[str]:
    """Returns the names that the video of a cell may have in a result."""
    path = _path_of(cell)
    return {PurePosixPath(cell).name, PurePosixPath(path).name, _uploaded_name(path)}


def _uploaded_name(path: str) -> str:
    """Returns the name of an uploaded file as it was before the upload; empty if it was not uploaded."""
    name = PurePosixPath(path).name
    return _UPLOADED.sub("", name, count=1) if _UPLOADED.match(name) else ""


def _path_of(cell: str) -> str:
    """Returns the path in an address of Label Studio: ``/data/local-files/?d=PATH``, ``/data/upload/1/NAME``, a URL."""
    try:
        parts = urlsplit(cell)
    except ValueError:
        return cell
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)
