"""Starts, watches and ends a decoder process."""

import contextlib
import fcntl
import math
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from tagger.errors import ErrorKind, VtagError
from tagger.isolation.channel import InvalidMessageError, Message, receive, send
from tagger.isolation.shared_memory import (
    CLIP_BUFFERS,
    COUNT_BYTES,
    ClipBuffer,
    anonymous_file,
    grow_only_file,
    progress_count,
)
from tagger.system.limits import usable_memory_bytes

CHILD_MODULE = "tagger.isolation.child"
"""The module that a process runs which reads files."""

START_TIMEOUT_S = 120.0
"""Seconds to wait for a new process to load its decoders. On a busy machine with a cold disk this takes some
seconds."""

EXIT_TIMEOUT_S = 5.0
"""Seconds to wait for a killed process to exit. It may be stuck in the kernel, on a network disk that is gone."""

MEMORY_BYTES = 2 * 2**30
"""Default memory limit of a decoder process, and at most half of the memory of the machine or container."""

OUT_OF_MEMORY_TEXTS = ("bad_alloc", "MemoryError", "Cannot allocate memory", "out of memory")


@dataclass(frozen=True)
class Limits:
    """Limits for decoding a video. The process is killed when it exceeds one.

    ``frame_s``: seconds without progress, which is a packet that is read or a frame that is examined. So a slow decoder
    is not killed. The time during which no frames are requested does not count. ``memory_bytes``: private memory
    (RLIMIT_DATA: heap, stacks, private mappings). The frames of a video that decord holds count, too. The address space
    (RLIMIT_AS) is not limited, because it includes the code of every library and memory that is reserved but never
    used, hundreds of megabytes before the first frame. Linux does not enforce a limit of the resident size
    (RLIMIT_RSS).
    """

    frame_s: float = 60.0
    memory_bytes: int = field(default_factory=lambda: min(MEMORY_BYTES, usable_memory_bytes() // 2))


class DecoderProcessError(Exception):
    """A decoder process failed. ``str(error)`` completes the sentence "the decoder …"."""

    def __init__(self, kind: ErrorKind, message: str):
        super().__init__(message)
        self.kind: ErrorKind = kind


class Process:
    """A running decoder process. It ends with ``end()``, with this object or with this process, whichever is first.

    It runs ``module``, or else CHILD_MODULE, with the descriptor ``stdin`` as its standard input. It is killed, because
    it has no state to save. ``busy`` is true while it answers a request. ``requests`` counts its requests. ``waited_s``
    is the time in seconds that this process has waited for its answers.
    """

    def __init__(self, limits: Limits, module: str | None = None, stdin: int = subprocess.DEVNULL):
        self.limits = limits
        self.busy = False
        self.requests = 0
        self.waited_s = 0.0
        self._count = grow_only_file(COUNT_BYTES)
        memories = [grow_only_file() for _ in range(CLIP_BUFFERS)]
        self._buffers = [ClipBuffer(memory.fileno()) for memory in memories]
        self._current = 0
        self._stderr = anonymous_file()
        self._channel, channel = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        inherited: list[socket.socket | IO[bytes]] = [channel, lifeline, self._count, *memories]
        with channel, lifeline, contextlib.ExitStack() as copies:
            # Descriptors from 3 on: if this program's standard streams are closed, files have lower ones, which the
            # child needs for its own streams.
            fds = [fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, 3) for file in inherited]
            for fd in fds:
                copies.callback(os.close, fd)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module or CHILD_MODULE, str(limits.memory_bytes), *map(str, fds)],
                    pass_fds=fds,
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    env=_environment(),
                    # Ctrl-C in the terminal must reach only the parent.
                    process_group=0,
                )
            except OSError as error:
                raise VtagError(f"a decoder process cannot be started: {error.strerror or error}") from error
        self._end = weakref.finalize(
            self,
            _end,
            self._process,
            (self._channel, self._lifeline, self._count, self._stderr, *memories),
            os.getpid(),
        )
        self._wait_until_ready()

    def kill(self) -> None:
        """Kills the process. A thread that waits for its answers gets DecoderProcessError."""
        self._process.kill()

    def end(self) -> None:
        """Ends the process. May be called more than once."""
        self._end()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs and was started by this process, not by one that this process was forked from."""
        return self._end.alive and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Sends a request. Raises DecoderProcessError."""
        try:
            send(self._channel, message)
        except OSError:
            raise self._exit_failure() from None

    def receive(self) -> Message:
        """Waits for an answer. Raises DecoderProcessError when there was no progress for ``frame_s`` seconds."""
        return self._receive(self.limits.frame_s, f"gave no frame for {self.limits.frame_s:g} s")

    def next_buffer(self, shape: tuple[int, ...]) -> int:
        """Returns the number of the buffer for the next clips. The buffer has room for ``shape``."""
        self._buffers[self._current].make_room(math.prod(shape))
        return self._current

    def clips(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the clips that the process has just written; a copy if no other buffer is free for the next ones."""
        others = (number for number, buffer in enumerate(self._buffers) if number != self._current and buffer.is_free)
        other = next(others, None)
        if other is None:
            return self._buffers[self._current].clips(shape).copy()
        clips = self._buffers[self._current].lend(shape)
        self._current = other
        return clips

    def _receive(self, timeout_s: float, timeout_text: str) -> Message:
        count = progress_count(self._count.fileno())
        started = since = time.monotonic()

        def check() -> None:
            nonlocal count, since
            now = progress_count(self._count.fileno())
            if now != count:
                count, since = now, time.monotonic()
            elif time.monotonic() - since >= timeout_s:
                raise DecoderProcessError("timeout", timeout_text)

        self._channel.settimeout(min(1.0, timeout_s / 4))
        try:
            message = receive(self._channel, check)
        except InvalidMessageError:
            raise DecoderProcessError("crashed", "sent an invalid message") from None
        except OSError:
            message = None
        finally:
            self.waited_s += time.monotonic() - started
        if message is None:
            raise self._exit_failure()
        return message

    def _wait_until_ready(self) -> None:
        try:
            self._receive(START_TIMEOUT_S, f"did not start within {START_TIMEOUT_S:g} s")
        except DecoderProcessError as failure:
            self.end()
            raise VtagError(f"a decoder process cannot be started: it {failure}") from None
        except BaseException:
            self.end()
            raise

    def _exit_failure(self) -> DecoderProcessError:
        """Returns the reason why the process has closed the connection."""
        try:
            status = self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return DecoderProcessError("crashed", "stopped talking")
        last_line = self._last_stderr_line()
        if any(text in last_line for text in OUT_OF_MEMORY_TEXTS):
            return DecoderProcessError(
                "memory", f"needed more than {self.limits.memory_bytes / 2**30:.3g} GiB of memory"
            )
        if status >= 0:
            how = f"exit status {status}"
        elif -status == signal.SIGKILL:
            how = "SIGKILL, which the system sends when memory runs out"
        else:
            how = _signal_name(-status)
        return DecoderProcessError("crashed", f"crashed ({how}{': ' + last_line if last_line else ''})")

    def _last_stderr_line(self) -> str:
        """Returns the last line that the process has written to standard error."""
        fd = self._stderr.fileno()
        size = os.fstat(fd).st_size
        lines = os.pread(fd, 2000, max(0, size - 2000)).decode(errors="replace").replace("\0", "").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


def _end(process: subprocess.Popen[bytes], files: Sequence[socket.socket | IO[bytes]], owner: int) -> None:
    for file in files:
        file.close()
    # A fork of this process inherits the files, but must not kill the decoder process.
    if os.getpid() == owner:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(EXIT_TIMEOUT_S)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        # The child imports the same modules as this process, independent of the current folder.
        "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path),  # noqa: PTH109
        # NumPy would start a thread for each core, and the memory of each thread would count towards the limit.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        # Hundreds of frames are allocated and freed. Without these thresholds glibc returns each freed frame to the
        # system, which takes 8 % more time: by default the threshold follows the largest freed block, here a frame.
        "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
        # Without this the C library writes heap errors to the terminal instead of standard error.
        "LIBC_FATAL_STDERR_": "1",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
