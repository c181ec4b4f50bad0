"""What runs in a decoder process: it reads one video after the other, as its parent asks."""

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tagger.clips import Reading, read_loose_spans, video_error
from tagger.end_with_parent import end_with_parent
from tagger.isolation.channel import Message, receive, send
from tagger.isolation.shared_memory import FrameCounter, Place
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.facts import VideoFacts, probe
from tagger.video.packets import rate_varies
from tagger.video.readers.nvdec_reader import nvdec_reads
from tagger.windows import Sampling

STANDARD_ERROR = 2

NICENESS = 5
"""Whoever takes its clips goes first on the cores that they share: while it has clips to take, this process would only
get further ahead. It yields to other programs, too: beside a busy one a quarter of a core is left to it."""


class _ToldReading(Reading):
    """Tells the parent at once what is known, in case the decoder does not live to send an end."""

    def __init__(self, channel: socket.socket, counter: FrameCounter):
        super().__init__()
        self._channel, self._counter = channel, counter

    def found(self, facts: VideoFacts) -> None:
        super().found(facts)
        send(self._channel, {"facts": asdict(facts)})

    def chose(self, choice: Choice) -> None:
        super().chose(choice)
        send(self._channel, {"choice": asdict(choice)})

    def decoded(self) -> None:
        self._counter.advance()


def main() -> None:
    """Serves the parent until it hangs up. Its arguments: the limit of memory in bytes, and descriptors."""
    memory_bytes, channel, lifeline, count, *memories = map(int, sys.argv[1:])
    end_with_parent(lifeline)
    set_limits(memory_bytes)
    os.nice(NICENESS)
    serve(socket.socket(fileno=channel), FrameCounter(count), [Place(memory) for memory in memories])


def set_limits(memory_bytes: int) -> None:
    """Bounds this process's own memory, and keeps a crash from leaving a core file behind."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def serve(channel: socket.socket, counter: FrameCounter, places: Sequence[Place]) -> None:
    """Answers requests until there are no more."""
    send(channel, {"ready": True})
    while (request := receive(channel)) is not None:
        # What a decoder writes belongs to one video, and must not pile up.
        os.ftruncate(STANDARD_ERROR, 0)
        os.lseek(STANDARD_ERROR, 0, os.SEEK_SET)
        if "probe" in request:
            send(channel, _answer(Path(request["probe"]), lambda path: asdict(probe(path))))
        elif "rate" in request:
            send(channel, _answer(Path(request["rate"]), lambda path: {"varies": rate_varies(path)}))
        elif "nvdec_reads" in request:
            send(channel, _answer(Path(request["nvdec_reads"]), lambda path: {"reads": nvdec_reads(path, probe(path))}))
        else:
            _read(channel, counter, places, request)


def _answer(path: Path, ask: Callable[[Path], Message]) -> Message:
    try:
        return {"answer": ask(path)}
    except Exception as error:
        problem = video_error(path, error)
        return {"kind": problem.kind, "problem": str(problem)}


def _read(channel: socket.socket, counter: FrameCounter, places: Sequence[Place], request: Message) -> None:
    choice = request["choice"]
    sampling = Sampling(**request["sampling"])
    preprocessing = Preprocessing.from_json(request["preprocessing"])
    spans = read_loose_spans(
        Path(request["read"]),
        sampling,
        preprocessing,
        span_windows=request["span_windows"],
        choice=None if choice is None else Choice(**choice),
        nvdec=request["nvdec"],
        reading=_ToldReading(channel, counter),
    )
    place = places[request["place"]]
    begun_s = time.process_time()
    for span in spans:
        if span.windows:
            clips = place.clips((len(span.windows), sampling.num_frames, preprocessing.size, preprocessing.size, 3))
            for clip, frames in zip(clips, span.frames, strict=True):
                np.stack(frames, out=clip)
        windows = [[window.index, window.start_s, window.end_s] for window in span.windows]
        cpu_s, begun_s = time.process_time() - begun_s, time.process_time()
        send(channel, {"windows": windows, "end": None if span.end is None else asdict(span.end), "cpu_s": cpu_s})
        if span.end is None:
            # What lies there is the parent's until it names the place again.
            answer = receive(channel)
            if answer is None:
                return
            place = places[answer["place"]]


if __name__ == "__main__":
    main()
