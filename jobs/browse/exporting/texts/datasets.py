"""Spans as data sets: ActivityNet's JSON, and the temporal detections of FiftyOne.

ActivityNet: https://github.com/activitynet/ActivityNet/tree/master/Evaluation. FiftyOne:
https://docs.voxel51.com/user_guide/import_datasets.html#fiftyonetemporaldetectiondataset. Both have one entry for each
video, under its path or address.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from jobs.browse.exporting.exported import ExportedVideo


def activitynet_parts(videos: Iterable[ExportedVideo]) -> Iterator[str]:
    """Yields the parts of one file that ActivityNet's tools read as annotations and as detections.

    The annotations come after all detections, so they wait in a temporary file: an archive need not fit into memory.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as database:
        yield '{"version": "VERSION 1.3", "results": {'
        for number, video in enumerate(videos):
            results = [
                {"segment": [span.start_s, span.end_s], "label": span.label, "score": span.confidence}
                for span in video.spans
            ]
            database.write(_entry(number, video.video, _annotated(video)))
            yield _entry(number, video.video, results)
        yield '\n},\n"external_data": {}, "taxonomy": [], "database": {'
        database.seek(0)
        yield from database
        yield "\n}}\n"


def fiftyone_parts(videos: Iterable[ExportedVideo]) -> Iterator[str]:
    """Yields the parts of the labels of a FiftyOneTemporalDetectionDataset.

    The name of a video is its path, so FiftyOne needs no folder of data.
    """
    yield '{"labels": {'
    for number, video in enumerate(videos):
        found = [
            {"label": span.label, "timestamps": [span.start_s, span.end_s], "confidence": span.confidence}
            for span in video.spans
        ]
        yield _entry(number, video.video, found)
    yield "\n}}\n"


def _annotated(video: ExportedVideo) -> dict[str, Any]:
    about = video.recorded
    size = f"{about.width}x{about.height}" if about.width and about.height else ""
    annotations = [{"segment": [span.start_s, span.end_s], "label": span.label} for span in video.spans]
    duration_s = round((about.duration_s or 0.0) + (about.stream_start_s or 0.0), 6)
    return {"duration": duration_s, "subset": "validation", "resolution": size, "url": "", "annotations": annotations}


def _entry(number: int, name: str, value: Any) -> str:
    """Returns the entry of an object, with a comma before it unless it is the first."""
    return f"{',' if number else ''}\n{json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
