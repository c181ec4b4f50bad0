"""Marks from Label Studio (https://labelstud.io): the exports of a project with timeline labels of videos.

A row of the CSV export is an annotation of a task. Besides the columns of the task, such as ``video``, it has
``annotation_id``, and a column with the regions as JSON: ``[{"ranges": [{"start": 1, "end": 48}], "timelinelabels":
["Swing"]}]``. The JSON export is a list of tasks with annotations, whose regions have the same fields in ``value``; in
the export JSON_MIN the regions are in the task. Frames are counted from 1, by the frame rate that the tag ``Video`` of
the project gives, whatever that of the video is.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jobs.browse.csv_rows import read_rows
from jobs.browse.importing.found_marks import FoundMark, marks_in
from jobs.browse.marks import Mark
from jobs.browse.segments import FinishedResult
from tagger.errors import DataSetError, InputError
from training.data.csv_table import open_csv

FRAME_RATE = 24.0
"""Frames per second of the tag ``Video`` if a project gives none."""

COLUMN = "annotation_id"
"""A column that every CSV export has."""

REGIONS = "timelinelabels"


def is_export(path: Path) -> bool:
    """Checks whether a CSV file is an export of Label Studio. Raises InputError when it cannot be read."""
    try:
        return COLUMN in {name.strip().lower() for name in open_csv(path, (COLUMN,)).columns}
    except DataSetError as error:
        raise InputError(str(error)) from error


def read_export(
    path: Path, finished: FinishedResult, frame_rate: float = FRAME_RATE, known: Sequence[str] = ()
) -> list[Mark]:
    """Returns the marks of a CSV export. The video of a row is the one of the result that a column of the row names.

    Names are compared as they are, then without the folders of Label Studio. Raises InputError, with the line, for a
    video that is not in the result or that may be one of several, and for regions that are none.
    """
    return marks_in(finished, csv_marks(path, frame_rate), known)


def csv_marks(path: Path, frame_rate: float) -> list[FoundMark]:
    """Returns the marks of a CSV export. Raises InputError, with the line, for regions that are none."""
    found = []
    for where, row in read_rows(path, (COLUMN,), ()):
        names = (row.get("video", ""), *row.values())
        for region in (region for cell in row.values() for region in _regions(where, cell)):
            found += [FoundMark(where, names, *span) for span in _spans(where, region, frame_rate)]
    return found


def task_marks(tasks: Sequence[Any], path: Path, frame_rate: float) -> list[FoundMark]:
    """Returns the marks of a JSON export. Predictions are no marks, and cancelled annotations have none.

    Raises InputError, with the number of the task, for regions that are none, and when no task has an annotation.
    """
    found, has_annotations = [], False
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        if not isinstance(task, dict):
            raise InputError(f"{where} is no task of Label Studio; export the project as JSON")
        data = task.get("data", task)
        texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []
        names = tuple(dict.fromkeys([text for text in [str(data.get("video", ""))] if text] + texts)) if texts else ()
        has_annotations = has_annotations or "data" not in task or bool(_listed(task.get("annotations")))
        for region in _task_regions(task):
            found += [FoundMark(where, names, *span) for span in _spans(where, region, frame_rate)]
    if not has_annotations:
        raise InputError(f"{path} has no annotations; predictions are no marks: accept or correct them in Label Studio")
    return found


def _task_regions(task: dict[str, Any]) -> Iterator[Any]:
    """Yields the regions of a task with timeline labels."""
    if "data" not in task:
        lists = [value for value in task.values() if isinstance(value, list)]
        yield from (region for regions in lists for region in regions if isinstance(region, dict) and REGIONS in region)
        return
    for annotation in _listed(task.get("annotations")):
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            for region in _listed(annotation.get("result")):
                if isinstance(region, dict) and region.get("type") == REGIONS:
                    yield region.get("value")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _regions(where: str, cell: str) -> list[Any]:
    if REGIONS not in cell:
        return []
    try:
        regions = json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} has regions that are no JSON; export the project from Label Studio again") from error
    return _listed(regions)


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
