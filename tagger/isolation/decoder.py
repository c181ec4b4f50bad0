"""Reading videos through a decoder process: the same spans as ``tagger.clips.read_spans``, whatever the video does."""

import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tagger.clips import Span, VideoEnd
from tagger.errors import VideoError, VtagError, one_line
from tagger.isolation.channel import Message
from tagger.isolation.process import Limits, Process, TroubleError
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tagger.windows import Sampling, Window

VIDEOS_PER_PROCESS = 1000
"""After so many a process is replaced, which costs 0.2 s: its memory grows by some kB with each video (4 kB with a
transport stream of a second), more with damaged ones, and archives have millions."""


@dataclass
class _Progress:
    """What the parent knows of a video, over both of its tries."""

    facts: VideoFacts | None = None
    choice: Choice | None = None
    windows: int = 0
    end_s: float = 0.0
    lost_s: float = 0.0


class DecoderProcess:
    """Reads videos, one at a time, in a process that is started when first needed and used for many videos.

    It is bounded by ``limits`` and replaced when it crashed, hung or ate memory, and after VIDEOS_PER_PROCESS. For use
    by one thread.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.started = 0
        """How many processes were started so far."""
        self._process: Process | None = None

    def __enter__(self) -> "DecoderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The number of the process; None when there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Ends the process. The next video starts another."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def probe(self, path: bytes | str | Path) -> VideoFacts:
        """``tagger.video.probe`` within bounds: the facts of a video. Raises VideoError."""
        return VideoFacts(**self._ask("probe", path, {"container"}))

    def rate_varies(self, path: bytes | str | Path) -> bool | None:
        """``tagger.video.packets.rate_varies`` within bounds. Raises VideoError."""
        varies: bool | None = self._ask("rate", path, {"varies"})["varies"]
        return varies

    def nvdec_reads(self, path: bytes | str | Path) -> bool:
        """``tagger.video.readers.nvdec_reader.nvdec_reads`` within bounds. Raises VideoError."""
        reads: bool = self._ask("nvdec_reads", path, {"reads"})["reads"]
        return reads

    def _ask(self, question: str, path: bytes | str | Path, fields: set[str]) -> Message:
        """The answer to a question about a video, which has at least ``fields``. Raises VideoError."""
        path = _absolute(path)
        process = self._ready()
        process.busy = True
        try:
            process.send({question: str(path)})
            answer = process.receive()
            problem = VideoError(answer["kind"], answer["problem"]) if "problem" in answer else None
            answered: Message = {} if problem else answer["answer"]
            if not problem and not fields <= answered.keys():
                raise KeyError
            process.busy = False
        except TroubleError as trouble:
            problem = VideoError(trouble.kind, one_line(f"{path}: the decoder {trouble}"))
        except (AttributeError, KeyError, TypeError):
            problem = VideoError("crashed", one_line(f"{path}: the decoder sent what is no message"))
        finally:
            if process.busy:
                self.close()
        if problem is not None:
            raise problem
        return answered

    def spans(
        self,
        path: bytes | str | Path,
        sampling: Sampling,
        preprocessing: Preprocessing,
        *,
        span_windows: int = 8,
        choice: Choice | None = None,
        nvdec: bool = False,
    ) -> Iterator[Span]:
        """Yields the windows of a video like ``read_spans``. Never raises because of a video.

        ``choice`` is a reader to be used instead of the one that the rule chooses; ``nvdec`` is that of
        ``choose_reader``.

        The process decodes up to one span ahead. When it crashes, hangs or runs out of memory, the video is tried once
        more from the start, with PyAV in a new process, and windows that were passed on already are left out. What the
        first try met is the ``reason`` of the reader then used. When the second try meets it, too, the end says so:
        error kind ``crashed``, ``timeout`` or ``memory``. Raises VtagError when no process can be started.

        Clips lie in memory shared with the process, which uses it again when nobody has the array or a view of it.
        """
        path = _absolute(path)
        progress = _Progress()
        request: Message = {
            "read": str(path),
            "sampling": sampling.to_json(),
            "preprocessing": asdict(preprocessing),
            "span_windows": span_windows,
            "choice": None if choice is None else asdict(choice),
            "nvdec": nvdec,
        }
        shape = (sampling.num_frames, preprocessing.size, preprocessing.size, 3)
        try:
            yield from self._try(request, shape, progress, is_last_try=False)
            return
        except TroubleError as trouble:
            first = trouble
        choice = _second_choice(progress.choice, first)
        # Windows are passed on one by one, so that few are lost if it comes to the same end.
        request |= {"choice": asdict(choice), "span_windows": 1}
        try:
            yield from self._try(request, shape, progress, is_last_try=True)
        except TroubleError as trouble:
            error = f"{path}: the decoder {first}; tried again with PyAV, it {trouble}"
            yield Span((), np.empty((0, *shape), np.uint8), _lost(progress, trouble, error))

    def _try(
        self, request: Message, shape: tuple[int, int, int, int], progress: _Progress, *, is_last_try: bool
    ) -> Iterator[Span]:
        """Reads a video once, leaving out the windows that ``progress`` has. Raises TroubleError."""
        process = self._ready()
        process.busy = True
        waited_s = process.waited_s
        expected = 0
        most: int = request["span_windows"]
        try:
            process.send(request | {"place": process.place_for((most, *shape))})
            while process.busy:
                message = process.receive()
                if "windows" not in message:
                    _note(message, progress)
                    continue
                windows, end, cpu_s = _parse(message, expected, most)
                if end is not None and end.error_kind == "memory" and not is_last_try:
                    raise TroubleError("memory", "needed more memory than there is")
                expected += len(windows)
                clips = process.clips((len(windows), *shape))
                fresh = [window for window in windows if window.index >= progress.windows]
                if fresh:
                    progress.windows, progress.end_s = fresh[-1].index + 1, fresh[-1].end_s
                    clips = clips[-len(fresh) :]
                if end is not None:
                    process.busy = False
                    yield Span(tuple(fresh), clips, _complete(end, progress), cpu_s)
                    return
                # Before the span is used, so that the next one is decoded at the same time.
                process.send({"place": process.place_for((most, *shape))})
                if fresh:
                    yield Span(tuple(fresh), clips, cpu_s=cpu_s)
                    if process is not self._process:
                        raise RuntimeError("a decoder process reads one video at a time")
        finally:
            progress.lost_s += process.waited_s - waited_s
            if process.busy:
                process.end()

    def _ready(self) -> Process:
        process = self._process
        # Busy: the spans of the last video were not all taken.
        if process is None or process.busy or process.videos >= VIDEOS_PER_PROCESS or not process.is_alive:
            self.close()
            process = self._process = _start(self.limits)
            self.started += 1
        process.videos += 1
        return process


def _start(limits: Limits) -> Process:
    try:
        return Process(limits)
    except VtagError:
        # What ends a process at any moment may end it before its first word.
        return Process(limits)


class _ThreadsDecoder(threading.local):
    def __init__(self) -> None:
        self.decoder = DecoderProcess()


_of_this_thread = _ThreadsDecoder()


def decoder_of_this_thread() -> DecoderProcess:
    """The decoder process of this thread, with the limits that are the default. It ends with the thread."""
    return _of_this_thread.decoder


def _absolute(path: bytes | str | Path) -> Path:
    # The process has a current folder of its own.
    return Path(os.fsdecode(path)).absolute()


def _note(message: Message, progress: _Progress) -> None:
    """Keeps what the child tells about the video before its end."""
    try:
        if "facts" in message:
            progress.facts = VideoFacts(**message["facts"])
        else:
            progress.choice = Choice(**message["choice"])
    except (KeyError, TypeError):
        raise TroubleError("crashed", "sent what is no message") from None


def _parse(message: Message, expected: int, most: int) -> tuple[list[Window], VideoEnd | None, float]:
    """The windows, up to ``most``, the end and the CPU time of a span whose first window is number ``expected``."""
    try:
        windows = [Window(*values) for values in message["windows"]]
        end = None if message["end"] is None else VideoEnd.from_json(message["end"])
        cpu_s = float(message["cpu_s"])
    except (KeyError, TypeError, ValueError):
        raise TroubleError("crashed", "sent what is no message") from None
    if len(windows) > most:
        raise TroubleError("crashed", "sent more windows than it was asked for")
    if [window.index for window in windows] != list(range(expected, expected + len(windows))):
        raise TroubleError("crashed", "sent windows out of order")
    return windows, end, cpu_s


def _second_choice(first: Choice | None, trouble: TroubleError) -> Choice:
    """PyAV, also after PyAV: decord is the more likely to crash, and PyAV reads more."""
    if first is not None and first.decoder == "pyav":
        earlier = f"{first.reason}; " if first.reason else ""
        return Choice("pyav", one_line(f"{earlier}at first the decoder {trouble}"))
    return Choice("pyav", one_line(f"{'the decoder' if first is None else first.decoder} {trouble}"))


def _complete(end: VideoEnd, progress: _Progress) -> VideoEnd:
    """The end that the child sent, with what an earlier try passed on and took."""
    facts = end.facts
    if progress.windows > end.windows and facts is not None:
        facts = replace(facts, duration_s=progress.end_s)
    return replace(
        end,
        status="partial" if end.status == "failed" and progress.windows else end.status,
        windows=progress.windows,
        facts=facts,
        decode_s=end.decode_s + progress.lost_s,
    )


def _lost(progress: _Progress, trouble: TroubleError, error: str) -> VideoEnd:
    """The end of a video that no process lived to send."""
    facts = progress.facts
    if progress.windows and facts is not None:
        facts = replace(facts, duration_s=progress.end_s)
    return VideoEnd(
        status="partial" if progress.windows else "failed",
        windows=progress.windows,
        facts=facts,
        choice=progress.choice,
        error_kind=trouble.kind,
        error=one_line(error),
        decode_s=progress.lost_s,
    )
