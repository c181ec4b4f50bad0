"""Writes a copy of a video with its spans as chapters. Packets are copied, and nothing is decoded."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.error import FFmpegError
from av.stream import Disposition

from jobs.archive.video import video_path
from jobs.browse.cutting.clip_file import errors_of, open_clip
from jobs.browse.exporting.exported import ExportedVideo
from jobs.browse.exporting.texts.chapters import chapters_of
from jobs.storage.staging import staged
from tagger.errors import VideoError
from tagger.video.container import open_container

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream

CHAPTER_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "mkv", ".webm": "webm"}
"""Formats that hold chapters, by the ending of a file."""

COPIED = ("video", "audio", "subtitle")
"""The kinds of streams that are copied. Data, such as a track of timecode, and attached files are left out."""


def copy_with_chapters(video: ExportedVideo, target: Path, ending: str) -> None:
    """Copies a video to ``target``, in the format of ``ending``. Its chapters replace those that it has.

    The copy begins at time 0, where players count from. Raises VideoError, JobError as ``staged``, and OSError when the
    disk is full.
    """
    if ending.lower() not in CHAPTER_FORMATS:
        known = ", ".join(CHAPTER_FORMATS)
        raise VideoError("unsupported", f"{video.video} is in a format without chapters; with chapters: {known}")
    with staged(video_path(video.video)) as copy:
        source = Path(copy.path)
        size = video.recorded.size
        if size is not None and source.is_file() and source.stat().st_size != size:
            raise VideoError("changed", f"{video.video} has changed since it was tagged; give vtag run again")
        try:
            _copy_file(video, source, target, CHAPTER_FORMATS[ending.lower()])
        except VideoError as error:
            raise VideoError(error.kind, copy.with_original_name(str(error))) from error


def _copy_file(video: ExportedVideo, source: Path, target: Path, form: str) -> None:
    container, _, _ = open_container(source)
    with container, errors_of(source, target, "copied"), open_clip(target, form) as output:
        output.metadata.update(container.metadata)
        output.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start_ms,
                    "end": chapter.end_ms,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": chapter.title},
                }
                for number, chapter in enumerate(chapters_of(video), 1)
            ]
        )
        _copy_packets(source, container, output)


def _copy_packets(path: Path, container: "InputContainer", output: "OutputContainer") -> None:
    copies: dict[int, Stream] = {}
    for stream in container.streams:
        if stream.type not in COPIED or stream.disposition & Disposition.attached_pic:
            continue
        try:
            copies[stream.index] = output.add_stream_from_template(stream)
        except (FFmpegError, ValueError) as error:
            kind = f"{stream.type} stream {stream.index}"
            raise VideoError("unsupported", f"{path}: its {kind} cannot be copied to this format") from error
        copies[stream.index].metadata.update(stream.metadata)
    start_s = Fraction(container.start_time or 0, av.time_base)
    for packet in container.demux([container.streams[index] for index in copies]):
        if not packet.size:
            continue
        shift = round(start_s / packet.time_base)
        # Matroska stores no times of decoding, and the first of them are not known.
        if packet.dts is not None:
            packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        packet.stream = copies[packet.stream_index]
        output.mux(packet)
