"""The program of a decoder process. It reads one video after the other, on request of its parent."""

import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from tagger.clips import read_unstacked_spans, video_error
from tagger.isolation.channel import Message, receive, send
from tagger.isolation.shared_memory import ClipBuffer, ProgressCounter
from tagger.preprocessing import Preprocessing
from tagger.system.end_with_parent import end_with_parent
from tagger.video.choose import Choice
from tagger.video.cutting import ReadProgress
from tagger.video.facts import VideoFacts, probe
from tagger.video.fetched_file import BlockCache, FetchedFile, fetching
from tagger.video.packets.table import rate_varies
from tagger.video.readers.nvdec_reader import nvdec_reads
from tagger.windows import Part, Sampling

STDERR = 2

NICENESS = 5
"""Increment of the process's nice value. The process that consumes the clips gets priority on shared cores, because
decoding further ahead would not help it. Other programs get priority, too: beside a busy program the decoder still gets
a quarter of a core."""


class _ReportedProgress(ReadProgress):
    """Sends facts and choice to the parent immediately, in case the decoder crashes before it can send the end."""

    def __init__(self, channel: socket.socket, counter: ProgressCounter):
        super().__init__()
        self._channel, self._counter = channel, counter

    def on_facts(self, facts: VideoFacts) -> None:
        super().on_facts(facts)
        send(self._channel, {"facts": asdict(facts)})

    def on_choice(self, choice: Choice) -> None:
        super().on_choice(choice)
        send(self._channel, {"choice": asdict(choice)})

    def on_advance(self) -> None:
        self._counter.advance()


def main() -> None:
    """Serves the parent until it closes the socket. Command line: the memory limit in bytes, then file descriptors."""
    memory_bytes, channel, lifeline, count, *memories = map(int, sys.argv[1:])
    end_with_parent(lifeline)
    set_limits(memory_bytes)
    os.nice(NICENESS)
    serve(socket.socket(fileno=channel), ProgressCounter(count), [ClipBuffer(memory) for memory in memories])


def set_limits(memory_bytes: int) -> None:
    """Limits the private memory of this process (RLIMIT_DATA) and disables core files."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def serve(channel: socket.socket, counter: ProgressCounter, buffers: Sequence[ClipBuffer]) -> None:
    """Answers requests until the parent closes the socket."""
    send(channel, {"ready": True})
    while (request := receive(channel)) is not None:
        # Empties the file for standard error, so that it holds only the output for one video and does not grow.
        os.ftruncate(STDERR, 0)
        os.lseek(STDERR, 0, os.SEEK_SET)
        if "probe" in request:
            send(channel, _answer(Path(request["probe"]), lambda path: asdict(probe(path))))
        elif "rate_varies" in request:
            send(channel, _answer(Path(request["rate_varies"]), lambda path: {"varies": rate_varies(path)}))
        elif "nvdec_reads" in request:
            send(channel, _answer(Path(request["nvdec_reads"]), lambda path: {"reads": nvdec_reads(path, probe(path))}))
        else:
            _read(channel, counter, buffers, request)


def _answer(path: Path, ask: Callable[[Path], Message]) -> Message:
    try:
        return {"answer": ask(path)}
    except Exception as error:
        problem = video_error(path, error)
        return {"kind": problem.kind, "problem": str(problem)}


def _read(channel: socket.socket, counter: ProgressCounter, buffers: Sequence[ClipBuffer], request: Message) -> None:
    path, cache = Path(request["read"]), request["cache"]
    with contextlib.ExitStack() as stack:
        if cache is not None:
            file = FetchedFile(BlockCache(**cache), path.stat().st_size, partial(_fetch, channel))
            stack.enter_context(fetching(path, file))
        _read_spans(channel, counter, buffers, request, path)


def _fetch(channel: socket.socket, block: int, slot: int) -> None:
    """Asks the parent for a block of the video. If it cannot get the block, it ends this process."""
    send(channel, {"fetch": [block, slot]})
    if receive(channel) is None:
        raise SystemExit


def _read_spans(
    channel: socket.socket, counter: ProgressCounter, buffers: Sequence[ClipBuffer], request: Message, path: Path
) -> None:
    choice = request["choice"]
    sampling = Sampling(**request["sampling"])
    preprocessing = Preprocessing.from_json(request["preprocessing"])
    spans = read_unstacked_spans(
        path,
        sampling,
        preprocessing,
        span_windows=request["span_windows"],
        choice=None if choice is None else Choice(**choice),
        nvdec=request["nvdec"],
        reader=request["reader"],
        progress=_ReportedProgress(channel, counter),
        only=request["only"],
        part=None if request["part"] is None else Part(**request["part"]),
        threads=request["threads"],
    )
    buffer = buffers[request["buffer"]]
    begun_s = time.process_time()
    for span in spans:
        if span.windows:
            clips = buffer.clips((len(span.windows), sampling.num_frames, *preprocessing.shape))
            for clip, frames in zip(clips, span.frames, strict=True):
                np.stack(frames, out=clip)
        windows = [[window.index, window.start_s, window.end_s] for window in span.windows]
        cpu_s, begun_s = time.process_time() - begun_s, time.process_time()
        send(channel, {"windows": windows, "end": None if span.end is None else asdict(span.end), "cpu_s": cpu_s})
        if span.end is None:
            # The parent owns the clips in this buffer until it names the buffer again.
            answer = receive(channel)
            if answer is None:
                return
            buffer = buffers[answer["buffer"]]


if __name__ == "__main__":
    main()
