"""A decoder process that fails on purpose. The name of the video describes the fault: ``FAULT-WHERE-FRAME.mp4``.

WHERE is the reader that fails, ``any`` for all readers, ``probe``, or ``once`` for the first read of the video only.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tagger.isolation import child
from tagger.video import choose, cutting
from tagger.video.choose import Choice, open_video
from tagger.video.facts import VideoFacts, probe
from tagger.video.readers.reader import Frame, Needs, Reader


def hang() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # Blocks in C while it holds the interpreter lock.
    while True:
        ctypes.PyDLL(None).pause()


def eat() -> None:
    eaten = []
    while True:
        # The memory is never touched, because reserved memory counts. So the limit is reached fast on a busy machine,
        # too.
        eaten.append(np.empty(2**23))


def eat_in_cpp() -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    os.abort()


def cut_memory() -> None:
    for memory in sys.argv[4:]:
        os.ftruncate(int(memory), 0)


def send(data: bytes) -> None:
    os.write(int(sys.argv[2]), data)
    time.sleep(60)


FAULTS: dict[str, Callable[[], None]] = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0) and None,
    "hang": hang,
    "eat": eat,
    "eatcpp": eat_in_cpp,
    "exit": lambda: os._exit(0),
    "noise": lambda: send(np.random.default_rng(1).bytes(100_000)),
    "nonsense": lambda: send(b"\0\0\0\x0f" + b'{"windows": 12}'),
    "many": lambda: send(b"\0\0\0\x6f" + b'{"windows": [' + b"[0,0,1]," * 8 + b'[0,0,1]], "end": null, "cpu_s": 0}'),
    "cut": cut_memory,
    "slow": lambda: time.sleep(0.2),
}


def is_triggered(path: Path, decoder: str) -> bool:
    where = path.stem.split("-")[1]
    if where == "once":
        mark = path.with_suffix(".triggered")
        if mark.exists():
            return False
        mark.touch()
    return where in (decoder, "any", "once")


class FaultyReader:
    def __init__(self, reader: Reader, path: Path):
        self._reader = reader
        fault, _, at = path.stem.split("-")
        self._fault, self._at = FAULTS[fault], int(at)
        self.name, self.end_s, self.close = reader.name, reader.end_s, reader.close

    def frames(self, needs: Needs) -> Iterator[Frame]:
        for number, frame in enumerate(self._reader.frames(needs)):
            if number == self._at or self._fault is FAULTS["slow"]:
                self._fault()
            yield frame


def open_faulty(path: Path, facts: VideoFacts, choice: Choice, *rest: Any, **options: Any) -> tuple[Reader, Choice]:
    reader, choice = open_video(path, facts, choice, *rest, **options)
    is_faulty = "-" in path.stem and is_triggered(path, choice.decoder)
    return (FaultyReader(reader, path) if is_faulty else reader), choice


def probe_faulty(path: Path) -> VideoFacts:
    if "-probe-" in path.stem:
        FAULTS[path.stem.split("-")[0]]()
    return probe(path)


if __name__ == "__main__":
    # The same as the fixture ``decord_is_cheap`` in the process of the tests.
    choose.CHEAP_DECORD_CODECS = choose.DECORD_CODECS
    cutting.open_video = open_faulty  # type: ignore[assignment]
    cutting.probe = child.probe = probe_faulty  # type: ignore[assignment]
    child.main()
