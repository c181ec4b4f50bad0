"""Writes a span of a video by copying its packets: fast and exact in every pixel, but it begins at a key frame."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from av.error import FFmpegError

from jobs.browse.cutting.clip_file import errors_of, open_clip
from jobs.browse.cutting.seeking import key_before
from jobs.browse.cutting.source import Source
from jobs.browse.cutting.times import has_steady_clock
from tagger.errors import VideoError
from tagger.video.container import open_container
from tagger.windows import TIME_TOLERANCE_S

if TYPE_CHECKING:
    from av.stream import Stream

COPY_ENDINGS = {"mp4": ("mp4", "mov", "mkv", "avi"), "avi": ("avi", "mkv"), "": ("mkv", "mov", "avi")}
"""The formats of copies, by a format of the source; the first that takes the codecs is used. Empty: of all others.

AVI has no times of presentation, which other formats need.
"""


def copy_ending(path: Path) -> str:
    """Returns the ending of copies from a video, such as ``mp4``: that of a format which takes its video and audio.

    If none takes both, the format takes the video. Raises VideoError when the video cannot be opened, or none does.
    """
    container, stream, _ = open_container(path)
    with container:
        names = container.format.name.split(",")
        endings = next(COPY_ENDINGS[kind] for kind in COPY_ENDINGS if kind in names or not kind)
        possible = [ending for ending in endings if _takes(ending, stream)]
        if not possible:
            codec = stream.codec_context.codec.canonical_name
            raise VideoError(
                "unsupported", f"{path}: no format of clips takes a copy of its codec {codec}; use --exact"
            )
        audio = container.streams.audio[:1]
        return next((ending for ending in possible if _takes(ending, *audio)), possible[0])


def copy_span(path: Path, start_s: float, end_s: float, target: Path, duration_s: float | None = None) -> float:
    """Copies the packets from the key frame at or before ``start_s`` until ``end_s``, and audio if the format takes it.

    Times are in seconds from the first frame. The format is that of ``copy_ending``, whatever the name of ``target``.
    ``duration_s`` is the duration that was read when the video was tagged. Returns the time of the key frame. Raises
    VideoError, and OSError when the disk is full.
    """
    if not has_steady_clock(path, duration_s):
        raise VideoError(
            "unsupported", f"{path} has no clock, or one that jumps, so its packets cannot be copied; use --exact"
        )
    with errors_of(path, target), Source(path) as source, open_clip(target, copy_ending(path)) as output:
        key_s, back_s = key_before(source, start_s)
        video = output.add_stream_from_template(source.stream)
        audio = source.add_audio(output)
        has_begun = False
        for packet in source.packets(start_s, back_s, end_s):
            time_s = source.times.packet_s(packet)
            if packet.stream_index != source.stream.index:
                if audio is not None and key_s <= time_s < end_s:
                    source.copy(packet, output, audio, key_s)
                continue
            has_begun = has_begun or (packet.is_keyframe and abs(time_s - key_s) < TIME_TOLERANCE_S)
            # Frames that follow the key frame but are shown before it refer to frames before it.
            is_leading = time_s < key_s - TIME_TOLERANCE_S
            if has_begun and not is_leading:
                source.copy(packet, output, video, key_s)
    return max(0.0, key_s)


def _takes(ending: str, *streams: "Stream") -> bool:
    """Checks whether a format takes the codecs of ``streams``."""
    with open_clip(io.BytesIO(), ending) as output:
        try:
            for stream in streams:
                output.add_stream_from_template(stream)
        except (FFmpegError, ValueError):
            return False
    return True
