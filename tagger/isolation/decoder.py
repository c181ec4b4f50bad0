"""Reads videos in a decoder process. Gives the spans of ``tagger.clips.read_spans``, even if the decoder crashes."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tagger.clips import Span, VideoEnd
from tagger.errors import ErrorKind, VideoError, VtagError, one_line
from tagger.isolation.channel import Message
from tagger.isolation.process import DecoderProcessError, Limits, Process
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts
from tagger.video.fetched_file import Blocks
from tagger.video.readers.reader import WantedReader
from tagger.windows import Part, Ranges, Sampling, WantedWindows, Window

REQUESTS_PER_PROCESS = 1000
"""Requests after which a process is replaced, which takes 0.2 s. Its memory grows by some kB with each video (4 kB for
a transport stream of one second), more for damaged ones, and archives have millions of videos."""


@dataclass
class _Progress:
    """The state of a video in the parent, over both tries.

    ``next_window`` is the number after that of the last window, and ``gaps`` the stretches between windows that were
    left out, though they are ``wanted``. ``failed_tries_s`` is the time of tries that failed.
    """

    wanted: WantedWindows
    facts: VideoFacts | None = None
    choice: Choice | None = None
    windows: int = 0
    next_window: int = 0
    end_s: float = 0.0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    failed_tries_s: float = 0.0

    def add(self, windows: Sequence[Window]) -> None:
        """Notes windows that are passed on."""
        for window in windows:
            if window.index > self.wanted.next(self.next_window):
                self.gaps.append((self.end_s, max(self.end_s, window.start_s)))
            self.windows, self.next_window, self.end_s = self.windows + 1, window.index + 1, window.end_s


class DecoderProcess:
    """Reads videos, one at a time, in a process that is started when first needed and used for many videos.

    The process has ``limits``. It is replaced after a crash, a timeout or an out-of-memory error, and after
    REQUESTS_PER_PROCESS requests. Not thread-safe.
    """

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self.started = 0
        """Number of processes started so far."""
        self._process: Process | None = None

    def __enter__(self) -> "DecoderProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id; None when no process is running."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """Ends the process. The next video starts another."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def probe(self, path: bytes | str | Path) -> VideoFacts:
        """Runs ``tagger.video.probe`` in the decoder process. Raises VideoError."""
        return VideoFacts(**self._ask("probe", path, {"container"}))

    def rate_varies(self, path: bytes | str | Path) -> bool | None:
        """Runs ``tagger.video.packets.table.rate_varies`` in the decoder process. Raises VideoError."""
        varies: bool | None = self._ask("rate_varies", path, {"varies"})["varies"]
        return varies

    def nvdec_reads(self, path: bytes | str | Path) -> bool:
        """Runs ``tagger.video.readers.nvdec_reader.nvdec_reads`` in the decoder process. Raises VideoError."""
        reads: bool = self._ask("nvdec_reads", path, {"reads"})["reads"]
        return reads

    def _ask(self, question: str, path: bytes | str | Path, fields: set[str]) -> Message:
        """Returns the answer to a question about a video. It has at least ``fields``. Raises VideoError."""
        path = _absolute(path)
        process = self._ready_process()
        process.busy = True
        try:
            process.send({question: str(path)})
            answer = process.receive()
            problem = VideoError(answer["kind"], answer["problem"]) if "problem" in answer else None
            answered: Message = {} if problem else answer["answer"]
            if not problem and not fields <= answered.keys():
                raise KeyError
            process.busy = False
        except DecoderProcessError as failure:
            problem = VideoError(failure.kind, one_line(f"{path}: the decoder {failure}"))
        except (AttributeError, KeyError, TypeError):
            problem = VideoError("crashed", one_line(f"{path}: the decoder sent an invalid message"))
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
        reader: WantedReader = "auto",
        only: Ranges | None = None,
        part: Part | None = None,
        blocks: Blocks | None = None,
        threads: int = 1,
    ) -> Iterator[Span]:
        """Yields the windows of a video like ``read_spans``. Never raises because of a video.

        ``choice`` overrides the automatic choice of a reader. ``nvdec`` and ``reader`` are passed on to
        ``choose_reader``. ``only`` and ``part`` are as in ``read_spans``, and ``threads`` is as in
        ``read_windows``, for the first try.

        The process decodes up to one span ahead. When it crashes, hangs or runs out of memory, the video is tried once
        more from the start, with PyAV in a new process. Windows that were yielded already are left out. The error of
        the first try is the ``reason`` in the choice of the second. When the second try fails, too, the end has the
        error kind ``crashed``, ``timeout`` or ``memory``. A part of a video is tried once. Raises VtagError when no
        process can be started.

        With ``blocks``, the file at ``path`` is an empty one of the right size, and the process asks for the blocks
        that it reads. When one cannot be fetched, the video ends with that error, and the process is replaced. Other
        errors of ``fetch`` are raised.

        Clips are in memory shared with the process. The memory is reused when the array and all of its views are gone.
        """
        path = _absolute(path)
        progress = _Progress(WantedWindows(sampling, only))
        request: Message = {
            "read": str(path),
            "sampling": sampling.to_json(),
            "preprocessing": asdict(preprocessing),
            "span_windows": span_windows,
            "choice": None if choice is None else asdict(choice),
            "nvdec": nvdec,
            "reader": reader,
            "only": only,
            "part": None if part is None else asdict(part),
            "threads": threads,
            "cache": None if blocks is None else asdict(blocks.cache),
        }
        shape = (sampling.num_frames, *preprocessing.shape)
        try:
            yield from self._try(request, shape, progress, blocks, is_last_try=part is not None)
            return
        except VideoError as failure:
            yield _failed_span(progress, shape, failure.kind, str(failure))
            return
        except DecoderProcessError as failure:
            first = failure
        if part is not None:
            yield _failed_span(progress, shape, first.kind, f"{path}: the decoder {first}")
            return
        choice = _retry_choice(progress.choice, first)
        # Windows are sent one by one, so that few are lost if the second try fails, too.
        request |= {"choice": asdict(choice), "span_windows": 1, "threads": 1}
        try:
            yield from self._try(request, shape, progress, blocks, is_last_try=True)
        except VideoError as failure:
            yield _failed_span(progress, shape, failure.kind, str(failure))
        except DecoderProcessError as failure:
            error = f"{path}: the decoder {first}; tried again with PyAV, it {failure}"
            yield _failed_span(progress, shape, failure.kind, error)

    def _try(
        self,
        request: Message,
        shape: tuple[int, int, int, int],
        progress: _Progress,
        blocks: Blocks | None,
        *,
        is_last_try: bool,
    ) -> Iterator[Span]:
        """Reads a video once, leaving out the windows that ``progress`` has.

        Raises DecoderProcessError, and VideoError when one of the ``blocks`` cannot be fetched.
        """
        process = self._ready_process()
        process.busy = True
        waited_s = process.waited_s
        expected = 0
        max_windows: int = request["span_windows"]
        try:
            process.send(request | {"buffer": process.next_buffer((max_windows, *shape))})
            while process.busy:
                message = process.receive()
                if "fetch" in message and blocks is not None:
                    _fetch(message, blocks)
                    process.send({"fetched": True})
                    continue
                if "windows" not in message:
                    _record(message, progress)
                    continue
                windows, end, cpu_s = _parse(message, expected, max_windows)
                if end is not None and end.error_kind == "memory" and not is_last_try:
                    raise DecoderProcessError("memory", "needed more memory than there is")
                expected = windows[-1].index + 1 if windows else expected
                clips = process.clips((len(windows), *shape))
                fresh = [window for window in windows if window.index >= progress.next_window]
                progress.add(fresh)
                if fresh:
                    clips = clips[-len(fresh) :]
                if end is not None:
                    process.busy = False
                    yield Span(tuple(fresh), clips, _merge_end(end, progress), cpu_s)
                    return
                # Sent before the span is yielded, so that the next span is decoded while this one is used.
                process.send({"buffer": process.next_buffer((max_windows, *shape))})
                if fresh:
                    yield Span(tuple(fresh), clips, cpu_s=cpu_s)
                    if process is not self._process:
                        raise RuntimeError("a decoder process reads one video at a time")
        finally:
            progress.failed_tries_s += process.waited_s - waited_s
            if process.busy:
                process.end()

    def _ready_process(self) -> Process:
        process = self._process
        # A busy process still has spans of the last video that were not read.
        if process is None or process.busy or process.requests >= REQUESTS_PER_PROCESS or not process.is_alive:
            self.close()
            process = self._process = _start(self.limits)
            self.started += 1
        process.requests += 1
        return process


def _start(limits: Limits) -> Process:
    try:
        return Process(limits)
    except VtagError:
        # A process can be killed at any time, also before its first message, so the start is tried twice.
        return Process(limits)


class _ThreadDecoder(threading.local):
    def __init__(self) -> None:
        self.decoder = DecoderProcess()


_thread_decoder = _ThreadDecoder()


def decoder_of_this_thread() -> DecoderProcess:
    """Returns the decoder process of this thread, with the default limits. It ends with the thread."""
    return _thread_decoder.decoder


def _absolute(path: bytes | str | Path) -> Path:
    # The decoder process may have another current folder.
    return Path(os.fsdecode(path)).absolute()


def _record(message: Message, progress: _Progress) -> None:
    """Stores the facts or the choice that the child sends before the end of a video."""
    try:
        if "facts" in message:
            progress.facts = VideoFacts(**message["facts"])
        else:
            progress.choice = Choice(**message["choice"])
    except (KeyError, TypeError):
        raise DecoderProcessError("crashed", "sent an invalid message") from None


def _fetch(message: Message, blocks: Blocks) -> None:
    """Fetches the block that the child asks for. Raises VideoError."""
    match message["fetch"]:
        case [int(block), int(slot)] if block >= 0 and 0 <= slot < blocks.cache.slots:
            blocks.fetch(block, slot)
        case _:
            raise DecoderProcessError("crashed", "sent an invalid message")


def _parse(message: Message, expected: int, max_windows: int) -> tuple[list[Window], VideoEnd | None, float]:
    """Reads the windows of a span, at most ``max_windows``, from number ``expected`` on, its end and its CPU time."""
    try:
        windows = [Window(*values) for values in message["windows"]]
        end = None if message["end"] is None else VideoEnd.from_json(message["end"])
        cpu_s = float(message["cpu_s"])
    except (KeyError, TypeError, ValueError):
        raise DecoderProcessError("crashed", "sent an invalid message") from None
    if len(windows) > max_windows:
        raise DecoderProcessError("crashed", "sent more windows than it was asked for")
    # Windows that touch damage are left out.
    if any(after <= before for before, after in pairwise([expected - 1, *(window.index for window in windows)])):
        raise DecoderProcessError("crashed", "sent windows out of order")
    return windows, end, cpu_s


def _retry_choice(first: Choice | None, failure: DecoderProcessError) -> Choice:
    """Chooses PyAV for the second try: it crashes less than decord and reads more formats.

    After PyAV it is tried again, because the cause may be temporary.
    """
    if first is not None and first.decoder == "pyav":
        earlier = f"{first.reason}; " if first.reason else ""
        return Choice("pyav", one_line(f"{earlier}at first the decoder {failure}"))
    return Choice("pyav", one_line(f"{'the decoder' if first is None else first.decoder} {failure}"))


def _merge_end(end: VideoEnd, progress: _Progress) -> VideoEnd:
    """Adds the windows and the time of an earlier try to the end that the child sent."""
    facts = end.facts
    if progress.windows > end.windows and facts is not None:
        facts = replace(facts, duration_s=progress.end_s)
    return replace(
        end,
        status="partial" if end.status == "failed" and progress.windows else end.status,
        windows=progress.windows,
        facts=facts,
        decode_s=end.decode_s + progress.failed_tries_s,
    )


def _failed_span(progress: _Progress, shape: tuple[int, ...], kind: ErrorKind, error: str) -> Span:
    """Makes the last span of a video that could not be read to its end."""
    facts = progress.facts
    if progress.windows and facts is not None:
        facts = replace(facts, duration_s=progress.end_s)
    end = VideoEnd(
        status="partial" if progress.windows else "failed",
        windows=progress.windows,
        facts=facts,
        choice=progress.choice,
        error_kind=kind,
        error=one_line(error),
        decode_s=progress.failed_tries_s,
        gaps=tuple(progress.gaps),
    )
    return Span((), np.empty((0, *shape), np.uint8), end)
