"""How a decoder process and its parent talk: messages over a socket.

A message is JSON behind its length, never a pickle: what comes from a decoder that a video has upset is not trusted.
"""

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

LENGTH = struct.Struct("!I")
LONGEST_MESSAGE = 4 * 2**20

Message = dict[str, Any]


class NoMessageError(Exception):
    """What came over the socket is no message."""


def send(channel: socket.socket, message: Message) -> None:
    """Sends one message. Raises OSError when the other end is closed."""
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
