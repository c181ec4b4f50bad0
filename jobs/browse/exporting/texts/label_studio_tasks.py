"""Spans as tasks of Label Studio with predictions (https://labelstud.io/guide/predictions), on the timeline of videos.

The labelling interface of the project has the tags ``TimelineLabels`` (https://labelstud.io/tags/timelinelabels) and
``Video`` (https://labelstud.io/tags/video).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.xml_text import known_to_xml
from jobs.storage.address import is_address

FROM_NAME, TO_NAME = "videoLabels", "video"
"""The names of the tags in the labelling interface."""


def task_parts(videos: Iterable[ExportedVideo], model: str, frame_rate: float) -> Iterator[str]:
    """Yields a task for each video, with a prediction by ``model``. Frames count from 1, by ``frame_rate``."""
    yield "["
    for number, video in enumerate(videos):
        yield f"{',' if number else ''}\n{json.dumps(_task(video, model, frame_rate), ensure_ascii=False)}"
    yield "\n]\n"


def interface_parts(videos: Iterable[ExportedVideo], frame_rate: float) -> Iterator[str]:
    """Yields the labelling interface of a project that takes the tasks: it has the labels of ``videos``, sorted."""
    yield f'<View>\n  <TimelineLabels name="{FROM_NAME}" toName="{TO_NAME}">\n'
    for label in sorted({label for video in videos for label in video.labels}):
        yield f"    <Label value={quoteattr(known_to_xml(label))}/>\n"
    yield f'  </TimelineLabels>\n  <Video name="{TO_NAME}" value="$video" frameRate="{frame_rate:g}"/>\n</View>\n'


def _task(video: ExportedVideo, model: str, frame_rate: float) -> dict[str, Any]:
    regions = []
    for number, span in enumerate(video.spans):
        first = round(span.start_s * frame_rate) + 1
        last = max(first, round(span.end_s * frame_rate))
        regions.append(
            {
                "id": f"vtag-{number}",
                "type": "timelinelabels",
                "from_name": FROM_NAME,
                "to_name": TO_NAME,
                "score": span.confidence,
                "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [span.label]},
            }
        )
    score = sum(span.confidence for span in video.spans) / len(video.spans)
    prediction = {"model_version": model, "score": round(score, 6), "result": regions}
    return {"data": {"video": served_address(video.video)}, "predictions": [prediction]}


def served_address(video: str) -> str:
    """Returns the address of a video for a browser: a local file is served by Label Studio.

    It does so with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/.
    """
    return video if is_address(video) else f"/data/local-files/?d={quote(video.lstrip('/'))}"
