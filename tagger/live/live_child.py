"""The program of a process that watches one source and gives its windows to its parent, as they complete."""

import base64
import contextlib
import math
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from tagger.errors import VideoError, one_line
from tagger.isolation.channel import Message, receive, send
from tagger.isolation.child import set_limits
from tagger.isolation.shared_memory import ClipBuffer, ProgressCounter
from tagger.live.ffmpeg_log import NetworkLog
from tagger.live.jpeg import jpeg_of_frame
from tagger.live.opening import check_end, is_recording, lost_reason, open_source
from tagger.live.sliding import Cut, FittedPixels, slide, slide_exactly
from tagger.live.source import LiveSource
from tagger.live.stream_frames import StreamFrames
from tagger.preprocessing import Preprocessing
from tagger.system.end_with_parent import end_with_parent
from tagger.video.facts import probe
from tagger.video.readers.pyav_reader import PyAVReader, TimedFrame
from tagger.video.readers.reader import Gap
from tagger.video.readers.upright_pixels import UprightPixels
from tagger.window_cutter import WindowCutter
from tagger.windows import Sampling

NAP_S = 0.5
"""Longest sleep in seconds while a file is shown at its own pace."""

PICTURE_WIDTH = 640
"""Greatest width of the pictures of the page."""

PICTURE_QUALITY = 6

Frames = Iterable[TimedFrame | Gap]


def main() -> None:
    """Serves the parent. The command line is that of ``tagger.isolation.child``.

    Unlike a process that reads files, this one keeps its priority: a frame that is not decoded in time is lost.
    """
    memory_bytes, channel, lifeline, count, *memories = map(int, sys.argv[1:])
    end_with_parent(lifeline)
    set_limits(memory_bytes)
    parent = socket.socket(fileno=channel)
    send(parent, {"ready": True})
    request = receive(parent)
    if request is not None:
        _Watching(parent, ProgressCounter(count), [ClipBuffer(memory) for memory in memories], request).run()


class _Watching:
    def __init__(
        self, parent: socket.socket, counter: ProgressCounter, buffers: Sequence[ClipBuffer], request: Message
    ):
        self._parent, self._counter, self._buffers = parent, counter, buffers
        self._buffer = buffers[request["buffer"]]
        self._source = LiveSource.from_json(request["watch"])
        self._sampling = Sampling(**request["sampling"])
        self._preprocessing = Preprocessing.from_json(request["preprocessing"])
        self._pace: float | None = request["pace"]
        self._stall_s: float = request["stall_s"]
        self._origin_s: float | None = request["origin_s"]
        """The time of the first frame of all connections, on the monotonic clock of the machine."""
        self._after_s: float = request["after_s"]
        self._picture_every_s: float | None = request["picture_every_s"]
        self._picture_due_s = -math.inf
        self._begin_s = 0.0
        """The stream time of the first frame of this connection."""
        self._first_at_s = 0.0
        """The time of that frame, on the monotonic clock."""
        self._heard_s = time.monotonic()
        """The time of the last data, on that clock."""
        self._is_recording = False
        self._log = NetworkLog()

    def run(self) -> None:
        """Sends windows until the source ends, then the reason."""
        reason, is_finished = "it ended", False
        try:
            is_finished = self._watch_file() if self._source.kind == "file" else self._watch_stream()
        except (av.error.FFmpegError, OSError, ValueError, VideoError) as error:
            waited_s = time.monotonic() - self._heard_s
            reason = lost_reason(error, self._stall_s, waited_s, self._log.reason)
        end = {"end": one_line(reason), "is_finished": is_finished, "is_recording": self._is_recording}
        send(self._parent, end)

    def _watch_file(self) -> bool:
        path = Path(self._source.address)
        facts = probe(path)
        size = self._preprocessing.scaled(*facts.display_size)
        self._opened(facts.container, facts.codec, facts.width, facts.height)
        upright = UprightPixels(*size, facts.rotation, is_mirrored=facts.is_mirrored)
        reader = PyAVReader(path, facts, *size, self._advance)
        with contextlib.closing(reader):
            cutter: WindowCutter[np.ndarray] = WindowCutter(self._sampling)
            frames = self._shown(reader.timed_frames())
            self._give(
                slide_exactly(
                    frames, cutter, lambda frame: np.ascontiguousarray(self._preprocessing.crop(upright(frame)))
                )
            )
        return True

    def _watch_stream(self) -> bool:
        container, stream = open_source(self._source, self._stall_s, self._advance)
        self._log.forget()
        with container:
            context = stream.codec_context
            self._opened(
                container.format.name.split(",")[0], context.codec.canonical_name, context.width, context.height
            )
            is_pipe = self._source.kind == "pipe"
            self._is_recording = not is_pipe and is_recording(container)
            # A pipe may be silent: what fills it can do other things.
            stall_s = math.inf if is_pipe else self._stall_s
            timed = StreamFrames(container, stream, self._advance, stall_s, is_live=not is_pipe)
            cutter: WindowCutter[np.ndarray] = WindowCutter(self._sampling, math.inf)
            aspect = stream.sample_aspect_ratio
            pixels = FittedPixels(self._preprocessing, None if aspect is None else float(aspect))
            self._give(slide(self._shown(self._placed(timed, cutter)), cutter, pixels))
            # HLS takes the failure of its server for the end.
            if self._is_recording and self._log.has_trouble:
                check_end(timed.end_s, container)
            return is_pipe or self._is_recording

    def _placed(self, timed: StreamFrames, cutter: WindowCutter[np.ndarray]) -> Iterator[TimedFrame | Gap]:
        """Yields frames with times since the first frame of the first connection."""
        is_first = True
        for each in timed.timed_frames():
            if is_first:
                is_first = False
                if self._origin_s is not None:
                    self._begin_s = max(time.monotonic() - self._origin_s, self._after_s)
                    cutter.lose(0.0, self._begin_s)
            start_s, end_s = each.start_s + self._begin_s, each.end_s + self._begin_s
            if isinstance(each, Gap):
                send(self._parent, {"gap": one_line(timed.gap_reason or "")})
                yield Gap(start_s, end_s)
            else:
                yield TimedFrame(each.frame, start_s, end_s)

    def _shown(self, frames: Frames) -> Iterator[TimedFrame | Gap]:
        """Yields frames at their pace, and sends pictures of them."""
        is_first = True
        for each in frames:
            if is_first:
                is_first = False
                self._first_at_s = time.monotonic()
                send(self._parent, {"first": self._first_at_s - self._begin_s})
            if self._pace is not None:
                self._wait_until(self._first_at_s + (each.start_s - self._begin_s) / self._pace)
            if self._picture_every_s is not None and isinstance(each, TimedFrame):
                self._picture(each.frame)
            yield each

    def _advance(self) -> None:
        """Notes that the source gives data, here and for the parent, which kills a process that is silent."""
        self._heard_s = time.monotonic()
        self._counter.advance()

    def _wait_until(self, time_s: float) -> None:
        while (left_s := time_s - time.monotonic()) > 0:
            time.sleep(min(left_s, NAP_S))
            self._advance()

    def _picture(self, frame: av.VideoFrame) -> None:
        assert self._picture_every_s is not None
        now_s = time.monotonic()
        if now_s < self._picture_due_s:
            return
        self._picture_due_s = now_s + self._picture_every_s
        scale = min(1.0, PICTURE_WIDTH / frame.width)
        width, height = (max(2, round(size * scale / 2) * 2) for size in (frame.width, frame.height))
        with contextlib.suppress(av.error.FFmpegError):
            jpeg = jpeg_of_frame(frame.reformat(width, height, format="yuvj420p"), PICTURE_QUALITY)
            send(self._parent, {"picture": base64.b64encode(jpeg).decode()})

    def _opened(self, container: str, codec: str, width: int, height: int) -> None:
        send(self._parent, {"opened": [container, codec, width, height]})

    def _give(self, windows: Cut) -> None:
        """Sends each window, and waits until the parent has taken it."""
        for window, frames in windows:
            at_s = time.time()
            clip = self._buffer.clips((1, self._sampling.num_frames, *self._preprocessing.shape))
            np.stack(frames, out=clip[0])
            message: dict[str, Any] = {"window": [window.index, window.start_s, window.end_s], "at": at_s}
            send(self._parent, message)
            answer = receive(self._parent)
            if answer is None:
                raise SystemExit
            self._buffer = self._buffers[answer["buffer"]]


if __name__ == "__main__":
    main()
