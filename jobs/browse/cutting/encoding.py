"""Writes a span of a video by encoding its frames again: it begins with the frame that is shown at its start."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av

from jobs.browse.cutting.clip_file import errors_of, open_clip
from jobs.browse.cutting.frame_writer import FrameWriter
from jobs.browse.cutting.seeking import shown_from
from jobs.browse.cutting.source import Source
from jobs.browse.cutting.times import has_steady_clock
from tagger.errors import VideoError
from tagger.video.facts import orientation, probe
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import Gap
from tagger.windows import TIME_TOLERANCE_S

EARLY_S = 0.1
"""Seconds by which a clip may begin too early, so that its first frame is as long as the others."""


def encode_span(
    path: Path,
    start_s: float,
    end_s: float,
    target: Path,
    duration_s: float | None = None,
    *,
    for_browsers: bool = False,
) -> float:
    """Encodes the frames that are shown from ``start_s`` to ``end_s``, upright, as H.264 in MP4, and copies the audio.

    Times are in seconds from the first frame. The first frame of the clip is the last one that begins at or before
    ``start_s``. A video without a steady clock, or with damage, is read from its beginning, as it was tagged, and its
    audio is left out. ``duration_s`` is the duration that was read then, and ``for_browsers`` is that of FrameWriter.
    Returns the time at which the clip begins: that of its first frame, or ``start_s`` if this frame begins more than
    EARLY_S before it. Raises VideoError, and OSError when the disk is full.
    """
    if has_steady_clock(path, duration_s):
        with contextlib.suppress(VideoError), errors_of(path, target):
            return _encode_found(path, start_s, end_s, target, for_browsers=for_browsers)
    with errors_of(path, target):
        return _encode_read(path, start_s, end_s, target, for_browsers=for_browsers)


def _encode_found(path: Path, start_s: float, end_s: float, target: Path, *, for_browsers: bool) -> float:
    """Encodes a span that is found by the times in the file."""
    with Source(path) as source, open_clip(target, "mp4") as output:
        (first, first_s), later = shown_from(source, start_s, end_s)
        begin_s = _begin_s(first_s, start_s)
        turn, is_mirrored = orientation(first)
        aspect = source.stream.sample_aspect_ratio or Fraction(1)
        rate = source.times.rate
        writer = FrameWriter(output, first, rate, aspect, turn, is_mirrored=is_mirrored, for_browsers=for_browsers)
        audio = source.add_audio(output)
        writer.write(first, 0.0)
        for item, time_s in later:
            if isinstance(item, av.VideoFrame):
                if time_s < end_s - TIME_TOLERANCE_S:
                    writer.write(item, time_s - begin_s)
            elif audio is not None and begin_s <= time_s < end_s:
                source.copy(item, output, audio, begin_s)
        writer.close()
    return max(0.0, begin_s)


def _encode_read(path: Path, start_s: float, end_s: float, target: Path, *, for_browsers: bool) -> float:
    """Encodes a span of a video that is read from its beginning, as it was tagged."""
    facts = probe(path)
    reader = PyAVReader(path, facts, facts.width, facts.height)
    with contextlib.closing(reader), open_clip(target, "mp4") as output:
        writer, begin_s = None, start_s
        for found in reader.frames(lambda shown_until_s: shown_until_s > start_s + TIME_TOLERANCE_S):
            if isinstance(found, Gap) or found.end_s <= start_s + TIME_TOLERANCE_S:
                continue
            if found.start_s >= end_s - TIME_TOLERANCE_S:
                break
            frame = av.VideoFrame.from_ndarray(found.pixels, format="rgb24")
            if writer is None:
                begin_s = _begin_s(found.start_s, start_s)
                aspect = Fraction(facts.pixel_aspect).limit_denominator(1000)
                rate = Fraction(facts.fps or 25).limit_denominator(1001)
                writer = FrameWriter(output, frame, rate, aspect, for_browsers=for_browsers)
            writer.write(frame, max(0.0, found.start_s - begin_s))
        if writer is None:
            raise VideoError("damaged", f"{path} has no frame at {start_s:.1f} s")
        writer.close()
    return begin_s


def _begin_s(first_s: float, start_s: float) -> float:
    """Returns the time at which a clip begins whose first frame begins at ``first_s``."""
    return first_s if start_s - first_s <= EARLY_S else start_s
