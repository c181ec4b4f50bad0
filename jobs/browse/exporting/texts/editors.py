"""Spans as cut lists: the CSV of LosslessCut, and CMX3600, the edit decision list that most editors read.

LosslessCut: https://github.com/mifi/lossless-cut/blob/master/docs/index.md#csv-files. CMX3600:
https://www.edlmax.com/EdlMaxHelp/Edl/maxguide.html.
"""

import csv
import io
from pathlib import PurePosixPath

from jobs.browse.exporting.exported import ExportedVideo
from tagger.errors import one_line

DROP_FRAME_RATES = {2997: 30, 5994: 60}
"""Rates in hundredths of a frame per second whose timecode skips numbers to stay with the clock, and their bases."""

RECORD_START_S = 3600
"""Where the timeline of an edit decision list begins, as editors expect: at one hour."""


def lossless_cut(video: ExportedVideo) -> str:
    """Returns a row of start, end and label for each span, without a header."""
    text = io.StringIO()
    rows = ((f"{span.start_s:.3f}", f"{span.end_s:.3f}", span.label) for span in video.spans)
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def cmx3600(video: ExportedVideo) -> str:
    """Returns the spans as cuts, one after the other, in the timecode of the video, whose first number is 0.

    The reel is AX, and the name of the file and the label are in the comments of a cut.
    """
    fps = video.fps
    name = one_line(PurePosixPath(video.video).name)
    is_dropping = round(fps * 100) in DROP_FRAME_RATES
    lines = [f"TITLE: {name}", f"FCM: {'' if is_dropping else 'NON-'}DROP FRAME"]
    record = _hour(fps)
    for number, span in enumerate(video.spans, 1):
        start = round(span.start_s * fps)
        length = max(1, round(span.end_s * fps) - start)
        times = (start, start + length, record, record + length)
        lines += [
            "",
            f"{number:03}  AX       V     C        {' '.join(timecode(time, fps) for time in times)}",
            f"* FROM CLIP NAME: {name}",
            f"* COMMENT: {one_line(span.label)}",
        ]
        record += length
    return "\n".join((*lines, ""))


def timecode(frame: int, fps: float) -> str:
    """Returns the timecode of a frame as SMPTE ST 12-1 counts: ``HH:MM:SS:FF``, or ``HH:MM:SS;FF`` if it drops numbers.

    At 29.97 frames per second, the first two numbers of each minute are dropped, but not in every tenth minute.
    """
    dropping = DROP_FRAME_RATES.get(round(fps * 100))
    base = dropping or max(1, round(fps))
    if dropping:
        dropped = base // 15
        per_minute, per_ten = 60 * base - dropped, 600 * base - 9 * dropped
        tens, rest = divmod(frame, per_ten)
        frame += 9 * dropped * tens + dropped * max(0, (rest - dropped) // per_minute)
    seconds, frames = divmod(frame, base)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{';' if dropping else ':'}{frames:02}"


def _hour(fps: float) -> int:
    """Returns the number of the frame at ``01:00:00:00``."""
    dropping = DROP_FRAME_RATES.get(round(fps * 100))
    if dropping:
        return RECORD_START_S // 600 * (600 * dropping - 9 * (dropping // 15))
    return RECORD_START_S * max(1, round(fps))
