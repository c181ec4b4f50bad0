"""How a decoder process and its parent talk: messages over a socket, clips through memory that both have open.

A message is JSON behind its length, never a pickle: what comes from a decoder that a video has upset is not trusted.
Clips are written to the shared memory by the child and read from it by the parent before it asks for the next span.
Neither maps the clips, so a child that cuts the memory short gives a short read and no bus error. One memory for all
spans costs less than a new one for each: its pages are there already (see tests/benchmarks/isolation.py).
"""

import json
import mmap
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np

LENGTH = struct.Struct("!I")
LONGEST_MESSAGE = 4 * 2**20
CLIPS_AT = mmap.PAGESIZE
"""Where clips begin in the shared memory; before it stands the number of frames decoded so far."""

Message = dict[str, Any]


class NoMessageError(Exception):
    """What came over the socket is no message."""


def send(channel: socket.socket, message: Message) -> None:
    """Sends one message. Raises OSError when there is nobody to take it."""
    data = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket, on_wait: Callable[[], None] = lambda: None) -> Message | None:
    """The next message; None at the end. Calls ``on_wait`` whenever the socket's timeout has passed.

    Raises NoMessageError for anything else, OSError when the connection broke.
    """
    head = _take(channel, LENGTH.size, on_wait)
    if not head:
        return None
    (length,) = LENGTH.unpack(head)
    if length > LONGEST_MESSAGE:
        raise NoMessageError
    try:
        message = json.loads(_take(channel, length, on_wait))
    except ValueError:
        raise NoMessageError from None
    if not isinstance(message, dict):
        raise NoMessageError
    return message


def _take(channel: socket.socket, size: int, on_wait: Callable[[], None]) -> bytes:
    """``size`` bytes; none when the connection ends first."""
    data = bytearray()
    while len(data) < size:
        try:
            part = channel.recv(size - len(data))
        except TimeoutError:
            on_wait()
            continue
        if not part:
            return b""
        data += part
    return bytes(data)


def anonymous_file() -> IO[bytes]:
    """An empty file without a name, in memory where the system can do that. It goes when nobody has it open."""
    if sys.platform == "linux":
        return open(os.memfd_create("vtag"), "r+b", buffering=0)  # noqa: PTH123
    return tempfile.TemporaryFile(buffering=0)


class FrameCounter:
    """The child's end of the frame count: advancing it costs no system call."""

    def __init__(self, memory: int):
        self._count = memoryview(mmap.mmap(memory, CLIPS_AT)).cast("Q")

    def advance(self) -> None:
        """Counts another frame."""
        self._count[0] += 1


def frames_decoded(memory: int) -> bytes:
    """The parent's end of the frame count: differs from the last time when frames have been decoded since."""
    return os.pread(memory, 8, 0)


def write_clips(memory: int, clips: Sequence[Sequence[np.ndarray]]) -> None:
    """Stacks the frames of each clip, one behind the other."""
    at = CLIPS_AT
    for frame in (frame for frames in clips for frame in frames):
        rest = frame.reshape(-1).data
        while rest:
            size = os.pwrite(memory, rest, at)
            at += size
            rest = rest[size:]


def read_clips(memory: int, shape: tuple[int, ...]) -> np.ndarray:
    """The clips that the child wrote, ``shape`` uint8. Raises NoMessageError when there are fewer."""
    clips = np.empty(shape, np.uint8)
    rest = clips.reshape(-1).data
    at = CLIPS_AT
    while rest:
        size = os.preadv(memory, [rest], at)
        if not size:
            raise NoMessageError
        at += size
        rest = rest[size:]
    return clips
