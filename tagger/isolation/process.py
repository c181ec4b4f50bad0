"""The process that decodes: how it is started, watched and ended."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from tagger.errors import ErrorKind, VtagError
from tagger.isolation.channel import Message, NoMessageError, receive, send
from tagger.isolation.shared_memory import COUNT_BYTES, PLACES, Place, anonymous_file, frames_decoded, growing_file

CHILD = "tagger.isolation.child"
"""The module that the process runs."""

START_S = 120.0
"""A process that has not loaded its decoders by then will not; a busy machine with a cold disk takes seconds."""

END_S = 5.0
"""How long to wait for a process that was ended. It may be stuck in the kernel, on a network disk that is gone."""

MEMORY_WORDS = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")


@dataclass(frozen=True)
class Limits:
    """What decoding a video may take before it is ended.

    ``frame_s``: seconds without a new frame. However slow, a decoder that goes on is left alone, and the time during
    which its frames are not asked for does not count. ``memory_bytes``: memory of its own (RLIMIT_DATA: heap, stacks,
    private mappings). The address space (RLIMIT_AS) is no measure: it counts the code of every library, and what an
    allocator reserves but never touches, hundreds of megabytes before the first frame. The resident size
    (RLIMIT_RSS) is not enforced by Linux. The frames of one video that decord is drained of are part of it.
    """

    frame_s: float = 60.0
    memory_bytes: int = 2 * 2**30


class TroubleError(Exception):
    """What a decoder process did instead of its work: ``str`` completes the sentence "the decoder …"."""

    def __init__(self, kind: ErrorKind, words: str):
        super().__init__(words)
        self.kind: ErrorKind = kind


class Process:
    """A running decoder process. It ends with this object, with this process, or when told to, whichever is first.

    It is killed without ceremony, for it has nothing to save. ``busy`` is whether it is in the middle of a video,
    ``videos`` how many it was given.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.busy = False
        self.videos = 0
        self.waited_s = 0.0
        self._count = growing_file(COUNT_BYTES)
        memories = [growing_file() for _ in range(PLACES)]
        self._places = [Place(memory.fileno()) for memory in memories]
        self._place = 0
        self._words = anonymous_file()
        self._channel, channel = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        fds = [channel.fileno(), lifeline.fileno(), *(memory.fileno() for memory in (self._count, *memories))]
        with channel, lifeline:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", CHILD, str(limits.memory_bytes), *map(str, fds)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._words,
                    env=_environment(),
                    # Ctrl-C on the terminal is for the parent alone.
                    process_group=0,
                )
            except OSError as error:
                raise VtagError(f"a decoder process cannot be started: {error.strerror or error}") from error
        self._end = weakref.finalize(
            self, _end, self._process, (self._channel, self._lifeline, self._count, self._words, *memories), os.getpid()
        )
        self._await_start()

    def end(self) -> None:
        """Ends the process. May be called again."""
        self._end()

    @property
    def is_alive(self) -> bool:
        """Whether it runs and is a child of this very process, not of one that this process was forked from."""
        return self._end.alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number with the system."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Asks it for something. Raises TroubleError."""
        try:
            send(self._channel, message)
        except OSError:
            raise self._death() from None

    def receive(self) -> Message:
        """Waits for its answer, as long as frames keep coming. Raises TroubleError."""
        return self._receive(self.limits.frame_s)

    def place_for(self, shape: tuple[int, ...]) -> int:
        """The number of the place where it shall put its next clips, ``shape`` at most."""
        self._places[self._place].make_room(math.prod(shape))
        return self._place

    def clips(self, shape: tuple[int, ...]) -> np.ndarray:
        """The clips that it has just put there, no more than there was room for."""
        others = (number for number, place in enumerate(self._places) if number != self._place and place.is_free)
        other = next(others, None)
        if other is None:
            return self._places[self._place].clips(shape).copy()
        clips = self._places[self._place].lend(shape)
        self._place = other
        return clips

    def _receive(self, patience_s: float) -> Message:
        frames = frames_decoded(self._count.fileno())
        started = since = time.monotonic()

        def check() -> None:
            nonlocal frames, since
            now = frames_decoded(self._count.fileno())
            if now != frames:
                frames, since = now, time.monotonic()
            elif time.monotonic() - since >= patience_s:
                raise TroubleError("timeout", f"gave no frame for {patience_s:g} s")

        self._channel.settimeout(min(1.0, patience_s / 4))
        try:
            message = receive(self._channel, check)
        except NoMessageError:
            raise TroubleError("crashed", "sent what is no message") from None
        except OSError:
            message = None
        finally:
            self.waited_s += time.monotonic() - started
        if message is None:
            raise self._death()
        return message

    def _await_start(self) -> None:
        try:
            self._receive(START_S)
        except TroubleError as trouble:
            self.end()
            raise VtagError(f"a decoder process cannot be started: it {trouble}") from None
        except BaseException:
            self.end()
            raise

    def _death(self) -> TroubleError:
        """What its end means; it has closed the connection."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return TroubleError("crashed", "stopped talking")
        words = self._last_words()
        if any(word in words for word in MEMORY_WORDS):
            return TroubleError("memory", f"needed more than {self.limits.memory_bytes / 2**30:.3g} GiB of memory")
        if status >= 0:
            how = f"exit status {status}"
        elif -status == signal.SIGKILL:
            how = "SIGKILL, which the system sends when memory runs out"
        else:
            how = _signal_name(-status)
        return TroubleError("crashed", f"crashed ({how}{': ' + words if words else ''})")

    def _last_words(self) -> str:
        """The last line it wrote to standard error."""
        fd = self._words.fileno()
        size = os.fstat(fd).st_size
        lines = os.pread(fd, 2000, max(0, size - 2000)).decode(errors="replace").replace("\0", "").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def _end(process: subprocess.Popen[bytes], files: Sequence[socket.socket | IO[bytes]], owner: int) -> None:
    for file in files:
        file.close()
    # A copy of this process made by fork has the files, but the process is not its own.
    if os.getpid() == owner:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        # The modules that this process sees, whatever its current folder holds.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),  # noqa: PTH109
        # NumPy would make a thread for each core, each with memory that counts.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # Frames come and go by the hundred. Given back to the system each time, they cost 8 % more (glibc's own rule
        # adapts to the largest block freed, and in the child that is a frame).
        "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
        # The C library would write of a damaged heap to the terminal itself.
        "LIBC_FATAL_STDERR_": "1",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
