"""Spans as subtitles: WebVTT (https://www.w3.org/TR/webvtt1/) and SubRip. Each label is shown during its span."""

from html import escape

from jobs.browse.exporting.exported import ExportedVideo, Span
from tagger.errors import one_line

ARROW = "-->"
"""What separates two times; a text must not contain it."""


def webvtt(video: ExportedVideo) -> str:
    """Returns the WebVTT of a video."""
    cues = (
        f"{_clock(start, '.')} {ARROW} {_clock(end, '.')}\n{escape(one_line(span.label), quote=False)}\n"
        for span, (start, end) in ((span, _milliseconds(span)) for span in video.spans)
    )
    return "\n".join(("WEBVTT\n", *cues))


def subrip(video: ExportedVideo) -> str:
    """Returns the SubRip of a video. The format has no escapes, so an arrow in a label becomes a shorter one."""
    cues = []
    for number, span in enumerate(video.spans, 1):
        start, end = _milliseconds(span)
        text = one_line(span.label).replace(ARROW, "->")
        cues.append(f"{number}\n{_clock(start, ',')} {ARROW} {_clock(end, ',')}\n{text}\n")
    return "\n".join(cues)


def _milliseconds(span: Span) -> tuple[int, int]:
    start = round(span.start_s * 1000)
    return start, max(round(span.end_s * 1000), start + 1)


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{rest:03}"
