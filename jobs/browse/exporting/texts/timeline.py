"""Spans as a timeline of OpenTimelineIO (https://opentimelineio.readthedocs.io), which editors and converters read."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.archive.video import video_path
from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.libraries import library
from jobs.storage.address import is_address


def timeline_parts(videos: Iterable[ExportedVideo], name: str) -> Iterator[str]:
    """Yields one timeline, called ``name``: a track with a clip for each span, one after the other.

    A clip is called after its label, is in frames of its video, and has label and confidence in its metadata.
    """
    otio = library("opentimelineio", "OpenTimelineIO", "otio")
    timeline = otio.schema.Timeline(name=name)
    track = otio.schema.Track(name="vtag", kind=otio.schema.TrackKind.Video)
    timeline.tracks.append(track)
    for video in videos:
        track.extend(_clips(otio, video))
    yield timeline.to_json_string()
    yield "\n"


def _clips(otio: Any, video: ExportedVideo) -> Iterator[Any]:
    fps = video.fps
    # Frames of a file whose video begins late count from the start of the file, as its timecode does.
    declared_s = (video.recorded.duration_s or 0.0) + (video.recorded.stream_start_s or 0.0)
    length = round(max([declared_s, *(span.end_s for span in video.spans)]) * fps)

    def span_of(start: int, frames: int) -> Any:
        return otio.opentime.TimeRange(otio.opentime.RationalTime(start, fps), otio.opentime.RationalTime(frames, fps))

    for span in video.spans:
        start = round(span.start_s * fps)
        media = otio.schema.ExternalReference(target_url=media_address(video.video), available_range=span_of(0, length))
        media.name = PurePosixPath(video.video).name
        used = span_of(start, max(1, round(span.end_s * fps) - start))
        clip = otio.schema.Clip(name=span.label, media_reference=media, source_range=used)
        # With metadata for the constructor, OpenTimelineIO 0.18 may abort when Python exits.
        clip.metadata["vtag"] = {"video": video.video, "label": span.label, "confidence": span.confidence}
        yield clip


def media_address(video: str) -> str:
    """Returns the address of a video: that of an object, or the ``file:`` address of a path."""
    path = video_path(video)
    return video if is_address(path) else Path(path).as_uri()
