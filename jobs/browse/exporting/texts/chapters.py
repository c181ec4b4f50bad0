"""Spans as chapters: a text in FFmpeg's format (https://ffmpeg.org/ffmpeg-formats.html#Metadata-1).

``ffmpeg -i clip.mp4 -i clip.ffmetadata -map_metadata 1 -map_chapters 1 -codec copy out.mp4`` puts them into a video.
"""

import re
from dataclasses import dataclass

from jobs.browse.exporting.exported import ExportedVideo


@dataclass(frozen=True)
class Chapter:
    """A chapter of a video, in milliseconds from the start of the file."""

    start_ms: int
    end_ms: int
    title: str


NOTHING = "–"
"""The title of chapters between spans. In MP4, the first chapter begins at 0, and each other where one ends."""


def chapters_of(video: ExportedVideo) -> list[Chapter]:
    """Returns a chapter for each span, and for each gap before one.

    A chapter ends where the next span begins, because players show one chapter at a time.
    """
    chapters: list[Chapter] = []
    starts = [round(span.start_s * 1000) for span in video.spans]
    for span, start, following in zip(video.spans, starts, [*starts[1:], None], strict=True):
        end = round(span.end_s * 1000)
        end = end if following is None else min(end, following)
        before = chapters[-1].end_ms if chapters else 0
        if end > start >= before:
            if start > before:
                chapters.append(Chapter(before, start, NOTHING))
            chapters.append(Chapter(start, end, span.label))
    return chapters


def ffmetadata(video: ExportedVideo) -> str:
    """Returns the chapters of a video as text."""
    parts = [
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={chapter.start_ms}\nEND={chapter.end_ms}\ntitle={_escaped(chapter.title)}\n"
        for chapter in chapters_of(video)
    ]
    return "".join((";FFMETADATA1\n", *parts))


def _escaped(text: str) -> str:
    """Returns ``text`` with a backslash before the characters that mean something in the format, also line breaks."""
    return re.sub(r"([=;#\\\n])", r"\\\1", text.replace("\r", ""))
