"""The second reader: PyAV, for what decord does not read right. It uses no CPU while it waits."""

import math
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.facts import VideoFacts, open_container
from tagger.video.reader import DecoderName, Frame, Needs


class PyAVReader:
    """Reads frames with PyAV, scaled to ``width × height`` (of the upright picture).

    Frames are converted only when they are asked for. One frame is held back so that each is known with the time of
    the next.
    """

    name: DecoderName = "pyav"

    def __init__(self, path: Path, facts: VideoFacts, width: int, height: int):
        self._path = path
        self._container = open_container(path)
        self._stream = self._container.streams.video[0]
        # The job runs one decoder per core; more threads only add switching.
        self._stream.codec_context.thread_count = 1
        self._turns = facts.rotation // 90
        self._width, self._height = (height, width) if self._turns % 2 else (width, height)

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        first_s: float | None = None
        held: av.VideoFrame | None = None
        held_s = 0.0
        step_s = 1.0 / float(self._stream.average_rate or 25)
        error: VideoError | None = None
        decoded = self._container.decode(self._stream)
        while True:
            try:
                frame = next(decoded, None)
            except (av.error.FFmpegError, ValueError) as cause:
                error = VideoError("damaged", f"{self._path}: decoding failed after {held_s:.2f} s ({cause})")
                error.__cause__ = cause
                break
            if frame is None:
                break
            time_s = frame.time
            if time_s is None:
                # Raw streams carry no times; frames then follow each other at the nominal rate.
                time_s = 0.0 if first_s is None else first_s + held_s + step_s
            if first_s is None:
                first_s = time_s
            start_s = time_s - first_s
            if held is not None:
                if start_s <= held_s:
                    continue  # A time that does not advance shows nothing.
                if needs(start_s):
                    yield Frame(held_s, start_s, self._pixels(held), is_last=False)
                step_s = start_s - held_s
            held, held_s = frame, start_s
        if held is not None:
            duration = held.duration
            last_s = float(duration * held.time_base) if duration and held.time_base else step_s
            if needs(math.inf):
                yield Frame(held_s, held_s + last_s, self._pixels(held), is_last=True)
        if error is not None:
            raise error

    def close(self) -> None:
        """See Reader.close."""
        self._container.close()

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        scaled = frame.reformat(width=self._width, height=self._height, format="rgb24", interpolation="BICUBIC")
        pixels = scaled.to_ndarray()
        # np.rot90 turns counter-clockwise.
        return np.ascontiguousarray(np.rot90(pixels, -self._turns)) if self._turns else pixels
